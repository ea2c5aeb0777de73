"""Kernels that users write: elementwise, reductions, raw CUDA C++."""

from __future__ import annotations

from contextlib import nullcontext
from typing import Any

import cupy as cp
import numpy as np
import pytest

from cupy_on_cpu import recording, sources


def test_elementwise_kernel() -> None:
    kernel = cp.ElementwiseKernel("T x, float64 a", "T y, bool large", "y = a * x; large = y > 5;", "scaled")
    x = np.arange(6, dtype=np.float32)
    y, large = kernel(cp.asarray(x), 2.0)
    assert y.dtype == np.float32
    assert (y.get() == 2 * x).all() and (large.get() == (2 * x > 5)).all()


def test_elementwise_kernel_of_raw_arguments_and_index() -> None:
    kernel = cp.ElementwiseKernel(
        "raw T x, int32 n", "T y", "y = x[n - 1 - i] + (i % 2 ? threadIdx.x - threadIdx.x : 0);"
    )
    x = np.arange(300.0)
    assert (kernel(cp.asarray(x), 300, size=300).get() == x[::-1]).all()


def test_elementwise_kernel_with_a_loop_and_preamble() -> None:
    kernel = cp.ElementwiseKernel(
        "int32 x", "int32 y", "y = twice(x)", "doubled", preamble="__device__ int twice(int x) { return 2 * x; }"
    )
    assert kernel(cp.arange(3, dtype="int32")).get().tolist() == [0, 2, 4]


def test_reduction_kernel() -> None:
    norm = cp.ReductionKernel("T x", "T y", "x * x", "a + b", "y = sqrt(a)", "0", "norm")
    assert norm(cp.asarray([3.0, 4.0])) == 5
    x = np.arange(5000.0).reshape(50, 100)
    assert np.allclose(norm(cp.asarray(x), axis=1).get(), np.sqrt((x * x).sum(axis=1)), rtol=1e-14)


GRID = r"""
extern "C" __global__ void where(int *x, int nx, int ny) {
    int i = blockIdx.x * blockDim.x + threadIdx.x, j = blockIdx.y * blockDim.y + threadIdx.y;
    if (i < nx && j < ny) x[j * nx + i] = 100 * j + i;
}
"""


def test_raw_kernel_knows_its_place() -> None:
    x = cp.zeros((5, 7), "int32")
    cp.RawKernel(GRID, "where")((3, 2), (3, 3), (x, 7, 5))
    assert (x.get() == 100 * np.arange(5)[:, None] + np.arange(7)).all()


REVERSED = r"""
extern "C" __global__ void reversed(const float *x, float *y) {
    extern __shared__ float kept[];
    kept[threadIdx.x] = x[blockIdx.x * blockDim.x + threadIdx.x];
    __syncthreads();
    y[blockIdx.x * blockDim.x + threadIdx.x] = kept[blockDim.x - 1 - threadIdx.x];
}
extern "C" __global__ void total(const int *x, int *y) {
    __shared__ int parts[32];
    int value = x[threadIdx.x];
    for (int offset = 16; offset; offset >>= 1) value += __shfl_down_sync(0xffffffff, value, offset);
    if (threadIdx.x % warpSize == 0) parts[threadIdx.x / warpSize] = value;
    __syncthreads();
    if (threadIdx.x == 0) for (int i = 0; i < blockDim.x / warpSize; i++) atomicAdd(y, parts[i]);
}
"""


def test_threads_of_a_block_wait_and_share() -> None:
    module = cp.RawModule(code=REVERSED)
    x = np.arange(200, dtype=np.float32)
    y = cp.empty_like(cp.asarray(x))
    module.get_function("reversed")((4,), (50,), (cp.asarray(x), y), shared_mem=200)
    assert (y.get() == x.reshape(4, 50)[:, ::-1].ravel()).all()
    n = cp.zeros(1, "int32")
    module.get_function("total")((1,), (96,), (cp.arange(96, dtype="int32"), n))
    assert n.get() == 96 * 95 // 2


def test_contraction_is_not_done() -> None:
    """a*b + c of which the product is rounded first, as with --fmad=false."""
    kernel = cp.ElementwiseKernel("float32 a, float32 b, float32 c", "float32 y", "y = a * b + c", "contracted")
    a, c = np.float32(1 + 2.0**-12), np.float32(-1 - 2.0**-11)
    assert kernel(a, a, c, cp.empty(3, "float32")).get().tolist() == [0.0] * 3
    fused = cp.ElementwiseKernel("float32 a, float32 b, float32 c", "float32 y", "y = fmaf(a, b, c)", "fused")
    assert fused(a, a, c, cp.empty(1, "float32")).get().tolist() == [2.0**-24]


def test_fusion() -> None:
    @cp.fuse()  # type: ignore[misc, unused-ignore]
    def length(x: Any, y: Any) -> Any:
        return cp.sqrt(x * x + y * y)

    assert length(cp.asarray([3.0]), cp.asarray([4.0])).get().tolist() == [5.0]


def test_compile_errors_are_cupys() -> None:
    with pytest.raises(cp.cuda.compiler.CompileException, match="nonsense"):
        cp.ElementwiseKernel("T x", "T y", "y = nonsense(x)", "wrong")(cp.ones(3))


def test_launches_are_recorded() -> None:
    x = cp.ones((2, 3), "float32")
    x + x
    with recording() as seen:
        x + x
        cp.RawKernel(GRID, "where")((1, 1), (8, 2), (cp.zeros(16, "int32"), 8, 2))
    assert [(each.kernel, each.grid, each.block) for each in seen.launches] == [
        ("cupy_add__float32_float32_float32", (1, 1, 1), (6, 1, 1)),
        ("where", (1, 1, 1), (8, 2, 1)),
    ]
    assert seen.transfers == [] and seen.synchronizations == []
    x + x
    assert len(seen.launches) == 2


def test_sources_are_recorded() -> None:
    cp.ElementwiseKernel("T x", "T y", "y = x + 4321", "found_again", options=("--fmad=false",))(cp.ones(3))
    (source,) = (each for each in sources if each.kernels == ("found_again",))
    assert "y = x + 4321" in source.code and "--fmad=false" in source.options


def test_impossible_launches_are_refused() -> None:
    kernel = cp.RawKernel(GRID, "where")
    for grid, block in [((1,), (1025,)), ((1, 70000), (1,)), ((1,), (1, 1, 65))]:
        with pytest.raises(cp.cuda.driver.CUDADriverError, match="INVALID_VALUE"):
            kernel(grid, block, (cp.zeros(1, "int32"), 0, 0))
    with pytest.raises(cp.cuda.driver.CUDADriverError, match="NOT_FOUND"):
        cp.RawKernel(GRID, "elsewhere")((1,), (1,), ())


VECTORS = r"""
struct Table { long long at[3]; float rate; };
extern "C" __global__ void __launch_bounds__(64, 1) scaled(const __grid_constant__ Table table, const int n) {
    for (int i = blockIdx.x * blockDim.x + threadIdx.x; i < n; i += gridDim.x * blockDim.x) {
        const float4 x = reinterpret_cast<const float4 *>(table.at[0])[i];
        reinterpret_cast<float4 *>(table.at[1])[i] = make_float4(table.rate * x.x, x.y, x.z, x.w);
        reinterpret_cast<double2 *>(table.at[2])[i] = make_double2(x.x, x.w);
    }
}
extern "C" __global__ void sizes(int *x) {
    const int found[] = {sizeof(float4), alignof(float4), alignof(float3), alignof(uchar4), alignof(double2),
                         alignof(longlong4), sizeof(ushort2), alignof(uint1)};
    for (int i = 0; i < 8; i++) x[i] = found[i];
}
"""


def test_vectors_and_structures_by_value() -> None:
    x, y, z = cp.arange(40, dtype="float32"), cp.zeros(40, "float32"), cp.zeros(20)
    content = (
        np.array([x.data.ptr, y.data.ptr, z.data.ptr], np.int64).tobytes() + np.asarray([2, 0], np.float32).tobytes()
    )
    module = cp.RawModule(code=VECTORS)
    table = np.frombuffer(content, np.dtype((np.void, len(content))))
    with recording() as seen:
        module.get_function("scaled")((2,), (3,), (table, np.int32(10)))
    expected = np.arange(40.0).reshape(10, 4)
    assert (z.get().reshape(10, 2) == expected[:, ::3]).all()
    assert (y.get().reshape(10, 4) == expected * [2, 1, 1, 1]).all()
    assert seen.launches[0].arguments == (content, np.int32(10).tobytes())
    found = cp.zeros(8, "int32")
    module.get_function("sizes")((1,), (1,), (found,))
    assert found.get().tolist() == [16, 16, 4, 4, 16, 16, 4, 4]


def test_arguments_have_4096_bytes() -> None:
    code = 'struct Large { char at[N]; }; extern "C" __global__ void take(Large large) {}'
    for n in (4096, 4097):
        kernel = cp.RawKernel(code, "take", options=(f"-DN={n}",))
        with pytest.raises(cp.cuda.driver.CUDADriverError, match="INVALID_VALUE") if n > 4096 else nullcontext():
            kernel((1,), (1,), (np.zeros(1, np.dtype((np.void, n))),))
