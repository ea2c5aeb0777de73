"""Slots in 16 bits of any rule, dtype and shape: scalars and comparisons as slots, mixed trees, steps not taken."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from adamod_array import AdaMod, Method, Momentum, init, step
from adamod_array._program import numba_source
from adamod_array._program.rounding import STEP
from adamod_array._program.trace import trace
from tests.backend import Backend
from tests.trees import bits, leaves, tree, values

pytestmark = pytest.mark.only("numpy", "torch", "jax", "cupy")

SIZES = (1, 7, 20_000)
"""Also more than the rule as written takes of NumPy's at once."""


@dataclasses.dataclass(frozen=True)
class Odd(Method):
    """Keeps a constant, the rate, a comparison, and a coefficient; all exact in 8 bits."""

    slots = ("one", "rate", "sign", "count")

    def coefficients(self, t: Any, math: Any) -> tuple[Any, ...]:
        return (1.0 * t,)

    def rule(self, xp: Any, lr: Any, c: Any, g: Any, p: Any, *kept: Any) -> tuple[Any, ...]:
        return p - lr * g, 1.5, lr, g > 0, c[0]


def test_slots_may_be_numbers_and_comparisons(backend: Backend) -> None:
    for size in SIZES:
        g = values(size)
        for donate in (False, True):
            state = init(Odd(), backend.array(values(size, seed=1)), lr=0.25, slot_dtype="bfloat16")
            for _ in range(2):
                state = step(state, backend.array(g), donate=donate)
            expected: dict[str, Any] = {"one": 1.5, "rate": 0.25, "sign": g > 0, "count": 2.0}
            for name, want in expected.items():
                found = backend.numpy(state.slots[name])
                assert found.dtype.name == "bfloat16"
                np.testing.assert_array_equal(found.astype(np.float64), np.broadcast_to(want, size))


@pytest.mark.only("torch")
def test_so_they_may_inside_a_users_compiled_function(backend: Backend) -> None:
    import torch

    state = init(Odd(), backend.array(values(7)), lr=0.25, slot_dtype="bfloat16")
    g = backend.array(values(7, seed=1))
    compiled = torch.compile(lambda s, g: step(s, g), backend="eager", fullgraph=True)
    assert bits(backend, compiled(state, g).slots) == bits(backend, step(state, g).slots)


@pytest.mark.only("jax")
def test_so_they_may_inside_a_users_jit(backend: Backend) -> None:
    import jax

    state = init(Odd(), backend.array(values(7)), lr=0.25, slot_dtype="bfloat16")
    g = backend.array(values(7, seed=1))
    assert bits(backend, jax.jit(step)(state, g).slots) == bits(backend, step(state, g).slots)


@pytest.mark.slow("jax")
@pytest.mark.only("jax")
def test_counts_of_few_bits_count(backend: Backend) -> None:
    """Else all steps would have the same random bits."""
    import jax

    params, grads = tree(backend), tree(backend, seed=7)
    state = init(AdaMod(), params, slot_dtype="bfloat16").replace(step=3)
    expected = bits(backend, step(state, grads).slots)
    for dtype in ("int8", "uint8", "int16", "uint16", "int32"):
        counted = jax.jit(lambda s, g, t: step(s.replace(step=t), g).slots)
        assert bits(backend, counted(state, grads, backend.xp.asarray(3, dtype))) == expected, dtype


@pytest.mark.slow("jax")
def test_a_step_that_is_not_taken_leaves_the_bits(backend: Backend) -> None:
    """As an array or on a device says it; parameters of float16, and of no dimension or element, too."""
    no = backend.xp.tensor(False) if backend.name == "torch" else backend.xp.asarray(np.asarray(False))
    answers = [False, no, lambda grads: False, lambda grads: no]
    for dtype in ("float32", "float16", "bfloat16"):
        shapes = {"n": (), "e": (0, 3), "w": (3, 5), "z": (20_000,)}
        params = {name: backend.array(values(*shape), dtype) for name, shape in shapes.items()}
        grads = {name: backend.array(values(*shape, seed=1), dtype) for name, shape in shapes.items()}
        how = "stochastic" if dtype == "bfloat16" else None
        start = step(init(AdaMod(), params, slot_dtype="bfloat16", param_rounding=how), grads)
        before = bits(backend, (start.params, start.slots))
        for answer in answers:
            after = step(start, grads, where=answer)
            assert bits(backend, (after.params, after.slots)) == before, dtype
            assert int(after.step) == 1
        assert bits(backend, step(start, grads, where=True).slots) != before[1]


def test_parameters_of_float16_zero_dimensions_and_no_elements(backend: Backend) -> None:
    """As in float32, where both hold the numbers: slots are of the same float32 numbers then, and so are their bits."""
    found = []
    for dtype in ("float16", "float32"):
        shapes = {"n": (), "e": (0, 3), "w": (3, 5)}
        params = {name: backend.array(values(*shape), dtype) for name, shape in shapes.items()}
        grads = {name: backend.array(values(*shape, seed=1), dtype) for name, shape in shapes.items()}
        for donate in (False, True):
            state = init(Momentum(), params, slot_dtype="bfloat16")
            for _ in range(3):
                state = step(state, grads, donate=donate and state.step > 0)
            assert [tuple(x.shape) for x in leaves(state.params)] == [(0, 3), (), (3, 5)]
            assert {str(x.dtype).rpartition(".")[2] for x in leaves(state.slots)} == {"bfloat16"}
            found.append(bits(backend, state.slots))
    assert all(x == found[0] for x in found)


def test_trees_may_mix_what_is_rounded(backend: Backend) -> None:
    """Leaves of other dtypes are stepped as ever, complex ones too."""
    kinds = ("bfloat16", "float32", "float16", "complex64", "float64")
    params = {dtype: backend.array(values(3, 4), dtype) for dtype in kinds}
    grads = {dtype: backend.array(values(3, 4, seed=1), dtype) for dtype in kinds}
    found = init(Momentum(), params, param_rounding="stochastic")
    plain = init(Momentum(), params)
    for _ in range(3):
        found, plain = step(found, grads), step(plain, grads)
    assert bits(backend, found.params["bfloat16"]) != bits(backend, plain.params["bfloat16"])
    for dtype in kinds[1:]:
        assert bits(backend, (found.params[dtype], found.slots["m"][dtype])) == bits(
            backend, (plain.params[dtype], plain.slots["m"][dtype])
        )


@pytest.mark.only("numpy")
def test_kernels_hash_in_the_widest_vectors(backend: Backend, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The function that holds the loop asks for them: of threads, that is another than the kernel."""
    if backend.engine != "numba":
        return
    llvm = pytest.importorskip("llvmlite.binding")
    from adamod_array._engines.numba_compile import compiled_kernel

    monkeypatch.setenv("ADAMOD_ARRAY_CACHE", str(tmp_path))  # of what was on disk, nothing can be seen
    program = trace(Momentum(compact=("m",)), common=STEP)
    for threads in (True, False):
        text = numba_source.source(program, "float32", "float32", donate=True, threads=threads)
        kernel = compiled_kernel.__wrapped__(text, "float32", threads)
        (code,), (assembly,) = kernel.inspect_llvm().values(), kernel.inspect_asm().values()
        (wide,) = re.findall(r'^attributes (#\d+) = \{.*"prefer-vector-width"="512"', code, re.MULTILINE)
        hashing = [x for x in re.split(r"^(?=define )", code, flags=re.MULTILINE) if str(0x604BAA5D) in x]
        assert hashing
        assert all(wide in x.partition("{\n")[0].split() for x in hashing)
        if llvm.get_host_cpu_features().get("avx512f", False):
            assert "zmm" in assembly


def test_counters_are_computed_once(backend: Backend) -> None:
    """Of a thousand leaves that costs more than the rest of the step's Python."""
    state = init(Momentum(), tree(backend), slot_dtype="bfloat16")
    leaves_of = state.resolved()[0]
    known = leaves_of.counters()
    assert leaves_of.counters() is known
    assert step(state, tree(backend, seed=7)).resolved()[0].counters() is known


@pytest.mark.only("torch")
def test_only_what_is_rounded_must_be_a_range_of_elements(backend: Backend) -> None:
    """Of two processes, of which the other one is only said to be."""
    if backend.device != "cpu":
        return
    import torch
    from torch.distributed.tensor import DTensor, Replicate, Shard, init_device_mesh
    from torch.testing._internal.distributed.fake_pg import FakeStore

    torch.distributed.init_process_group("fake", store=FakeStore(), rank=0, world_size=2)
    try:
        mesh = init_device_mesh("cpu", (2,))

        def spread(dtype: str, placement: Any) -> Any:
            return DTensor.from_local(backend.array(values(4, 3), dtype), mesh, [placement], run_check=False)

        params = {"b": spread("bfloat16", Shard(0)), "w": spread("float32", Shard(1))}
        state = step(init(Momentum(), params, param_rounding="stochastic"), params)
        assert state.step == 1
        for wrong, options in (
            (params, {"slot_dtype": "bfloat16"}),
            (
                {"w": spread("bfloat16", Shard(1)), "b": spread("bfloat16", Replicate())},
                {"param_rounding": "stochastic"},
            ),
        ):
            with pytest.raises(TypeError, match=r"params\['w'\] must be sharded along its first axis"):
                init(Momentum(), wrong, **options)
    finally:
        torch.distributed.destroy_process_group()
