"""Memory: fresh blocks, the pool, copies, pinned memory, DLPack."""

from __future__ import annotations

import pickle

import cupy as cp
import numpy as np
import pytest

from cupy_on_cpu import recording

runtime = cp.cuda.runtime


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64", "complex64"])
def test_fresh_memory_is_nan(dtype: str) -> None:
    assert np.isnan(cp.empty(100, dtype).get()).all()


def test_memory_that_the_pool_gives_again_is_nan() -> None:
    cp.get_default_memory_pool().free_all_blocks()
    x = cp.zeros(1000)
    address = x.data.ptr
    del x
    y = cp.empty(1000)
    assert y.data.ptr == address
    assert np.isnan(y.get()).all()


def test_the_pool_counts() -> None:
    pool = cp.cuda.MemoryPool()
    with cp.cuda.using_allocator(pool.malloc):
        x = cp.zeros(1000, "uint8")
        assert (pool.used_bytes(), pool.n_free_blocks()) == (1024, 0)
        del x
    assert (pool.used_bytes(), pool.n_free_blocks()) == (0, 1)
    pool.free_all_blocks()
    assert pool.total_bytes() == 0


def test_hooks_are_called() -> None:
    class Hook(cp.cuda.MemoryHook):
        name = "sizes"

        def malloc_preprocess(self, **asked: int) -> None:
            sizes.append(asked["size"])

    sizes: list[int] = []
    with Hook():
        cp.empty(3)
    assert sizes == [24]


def test_memory_ends() -> None:
    free, total = runtime.memGetInfo()
    assert 0 < free <= total
    with pytest.raises(cp.cuda.memory.OutOfMemoryError):
        cp.empty(total + 1, "uint8")
    free = runtime.memGetInfo()[0]  # CuPy has emptied its pool
    address = runtime.malloc(1 << 20)
    assert runtime.memGetInfo()[0] == free - (1 << 20)
    runtime.free(address)
    assert runtime.memGetInfo()[0] == free


def test_blocks_are_recorded() -> None:
    with recording() as seen:
        runtime.free(runtime.malloc(5000))
        runtime.freeHost(runtime.hostAlloc(7))
    assert [each[:2] for each in seen.allocations] == [("device", 5000), ("host", 7)]


def test_copies_are_recorded() -> None:
    host = np.arange(5.0)
    with recording() as seen:
        x = cp.asarray(host)
        y = cp.empty_like(x)
        y[...] = x
        z = y.get()
    assert [(each.kind, each.nbytes) for each in seen.transfers] == [
        ("host to device", 40),
        ("device to device", 40),
        ("device to host", 40),
    ]
    assert "streamSynchronize" in seen.synchronizations
    assert (z == host).all()


def test_a_copy_that_leaves_its_block_is_refused() -> None:
    address = runtime.malloc(100)
    host = np.zeros(200, np.uint8)
    with pytest.raises(runtime.CUDARuntimeError, match="InvalidValue"):
        runtime.memcpy(host.ctypes.data, address + 50, 51, runtime.memcpyDeviceToHost)
    with pytest.raises(runtime.CUDARuntimeError, match="InvalidValue"):
        runtime.free(address + 8)
    runtime.free(address)
    with pytest.raises(runtime.CUDARuntimeError, match="InvalidValue"):
        runtime.free(address)


def test_pointers_know_their_memory() -> None:
    x = cp.zeros(10)
    attributes = runtime.pointerGetAttributes(x[3:].data.ptr)
    assert (attributes.device, attributes.type) == (0, runtime.memoryTypeDevice)
    pinned = cp.cuda.alloc_pinned_memory(16)
    assert runtime.pointerGetAttributes(pinned.ptr).type == runtime.memoryTypeHost
    elsewhere = np.zeros(3)
    assert runtime.pointerGetAttributes(elsewhere.ctypes.data).type == runtime.memoryTypeUnregistered


def test_pinned_memory() -> None:
    x = cp.arange(6.0)
    block = cp.cuda.alloc_pinned_memory(x.nbytes)
    host = np.frombuffer(block, np.float64, 6)
    stream = cp.cuda.Stream(non_blocking=True)
    x.get(stream=stream, out=host)
    stream.synchronize()
    assert host.tolist() == [0, 1, 2, 3, 4, 5]


def test_managed_memory() -> None:
    with cp.cuda.using_allocator(cp.cuda.malloc_managed):
        assert cp.ones(4).sum() == 4


def test_memset() -> None:
    x = cp.empty(4, "uint8")
    x.data.memset(0x1FE, 4)
    assert x.get().tolist() == [0xFE] * 4


def test_dlpack() -> None:
    """The array says that it is on a GPU: other CPU frameworks refuse it, as they would on a real one."""
    x = cp.arange(6.0).reshape(2, 3)
    assert x.__dlpack_device__() == (2, 0)
    y = cp.from_dlpack(x)
    y[0, 0] = 9
    assert x[0, 0] == 9
    with pytest.raises((BufferError, RuntimeError)):
        np.from_dlpack(x)
    host = np.from_dlpack(cp.asarray(x).get())
    assert host.shape == (2, 3)


def test_pickle() -> None:
    x = pickle.loads(pickle.dumps(cp.arange(5)))
    assert isinstance(x, cp.ndarray) and x.get().tolist() == [0, 1, 2, 3, 4]


def test_unowned_memory() -> None:
    host = np.arange(4.0)
    pointer = cp.cuda.MemoryPointer(cp.cuda.UnownedMemory(host.ctypes.data, host.nbytes, host, 0), 0)
    x = cp.ndarray(4, host.dtype, pointer)
    x += 1
    assert host.tolist() == [1, 2, 3, 4]
