"""A run that moves from framework to framework, by files or in memory, has the bits of one that stays."""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from adamod_array import State, engine, init, schedules, step
from adamod_array.checkpoint import convert, load, save
from tests.backend import Backend, describe, is_here, numpy_dtype
from tests.oracle import METHODS

WAY = [("torch", "cpu", "numba"), ("jax", "cpu", "numba"), ("cupy", "cuda:0", "cupy"), ("numpy", "cpu", "numba")]
"""After five steps on NumPy's arrays."""
HOME = Backend("numpy", "cpu", "eager")
SHAPES = {"matrix": (3, 5), "number": (), "nothing": (0, 2), "vector": (9,)}
SCHEDULE = 0.1 * schedules.untuned_linear(0.9) * schedules.cosine_decay(30, final=0.5)
RATES = {
    "float": 0.05,
    "schedule": SCHEDULE,
    "tree": {"matrix": SCHEDULE, "number": 0.1, "nothing": 0.2, "vector": 0.3},
}
DTYPES = describe("numpy")["dtypes"]
CASES = [(name, dtype, "tree") for name in METHODS for dtype in DTYPES]
CASES += [(name, "float32", rate) for name in ("AdaMod", "RAdam") for rate in ("float", "schedule")]


@pytest.fixture(autouse=True)
def wide() -> Iterator[None]:
    """float64 in JAX."""
    jax = pytest.importorskip("jax")
    with jax.enable_x64(True):
        yield


def numbers(dtype: str, seed: int) -> dict[str, Any]:
    """Arrays of NumPy's, rounded once, none of them so small that its square is denormal."""
    rng = np.random.default_rng(seed)

    def draw(shape: tuple[int, ...]) -> Any:
        x = rng.normal(size=shape) * 10.0 ** rng.uniform(-2, 1, shape)
        return np.asarray(x + 1j * rng.normal(size=shape) if "complex" in dtype else x).astype(numpy_dtype(dtype))

    return {name: draw(shape) for name, shape in SHAPES.items()}


def on(backend: Backend, tree: dict[str, Any], dtype: str) -> dict[str, Any]:
    """The same numbers on another framework: through float64, which holds them all."""
    exact = "complex128" if "complex" in dtype else "float64"
    return {name: backend.array(x.astype(exact), dtype) for name, x in tree.items()}


def bits(state: State, backend: Backend) -> list[tuple[str, str, str, bytes]]:
    """All bits of a state of one dict of arrays."""
    trees = {"params": state.params, **{name: state.slots[name] for name in state.method.slots}}
    hosts = [(root, name, backend.numpy(x)) for root, tree in trees.items() for name, x in sorted(tree.items())]
    return [(root, name, x.dtype.name, x.tobytes()) for root, name, x in hosts]


def taken(state: State, backend: Backend, dtype: str) -> State:
    """The state five steps later."""
    importlib.import_module(describe(backend.name)["module"])
    with engine(backend.engine):
        for t in range(state.step, state.step + 5):
            state = step(state, on(backend, numbers(dtype, t), dtype))
    return state


@pytest.mark.parametrize(("name", "dtype", "rate"), CASES)
def test_twenty_steps_on_four_frameworks_have_the_bits_of_one(tmp_path: Path, name: str, dtype: str, rate: str) -> None:
    """In files; and in memory, in a run of its own."""
    way = [Backend(*each) for each in WAY if is_here(each[0])]
    assert len(way) >= 3
    stays = start = init(METHODS[name], numbers(dtype, 99), RATES[rate], weight_decay=0.01)
    moves = {"file": start, "memory": start}
    here = HOME
    for there in way:
        stays = taken(stays, HOME, dtype)
        like = on(there, numbers(dtype, 99), dtype)
        for how, state in moves.items():
            state = taken(state, here, dtype)
            assert bits(state, here) == bits(stays, HOME), f"step {state.step} on {here.name}, by {how}"
            if how == "file":
                save(state, tmp_path / "run")
                moves[how] = load(tmp_path / "run", like)
            else:
                moves[how] = convert(state, like)
            assert bits(moves[how], there) == bits(state, here)
        here = there
    for state in moves.values():
        assert here.name == "numpy" and state.step == stays.step == 5 * len(way)
        assert (state.method, state.lr, state.weight_decay) == (stays.method, stays.lr, stays.weight_decay)
