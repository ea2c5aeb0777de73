"""A run that moves from framework to framework, by files or in memory, has the bits of one that stays."""

from __future__ import annotations

import importlib
from collections.abc import Iterable, Iterator
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
LEAVES = {
    "half": ("float16", (9,)),
    "brain": ("bfloat16", (3, 5)),
    "number": ("float32", ()),
    "nothing": ("float32", (0, 2)),
    "single": ("float32", (17,)),
    "double": ("float64", (2, 3, 2)),
    "complex": ("complex64", (5,)),
    "wide": ("complex128", (2, 3)),
}
SCHEDULE = 0.1 * schedules.untuned_linear(0.9) * schedules.cosine_decay(30, final=0.5)
TREE = {name: SCHEDULE if k % 2 else 0.01 * (k + 1) for k, name in enumerate(LEAVES)}
RATES = {"float": 0.05, "schedule": SCHEDULE, "tree": TREE}
FEW = ("Adam amsgrad", "AdaMod hold_idle", "RAdam skip", "DiffMod")
"""Slots of every kind, and coefficients that begin late."""
CASES = [pytest.param(name, "tree", marks=[] if name in FEW else pytest.mark.slow) for name in METHODS]
CASES += [pytest.param("AdaMod", "float"), pytest.param("RAdam", "schedule")]


@pytest.fixture(autouse=True)
def wide() -> Iterator[None]:
    """float64 in JAX."""
    jax = pytest.importorskip("jax")
    with jax.enable_x64(True):
        yield


def numbers(seed: int) -> dict[str, Any]:
    """Arrays of NumPy's, rounded once, none of them so small that its square is denormal."""
    rng = np.random.default_rng(seed)

    def draw(dtype: str, shape: tuple[int, ...]) -> Any:
        x = rng.normal(size=shape) * 10.0 ** rng.uniform(-2, 1, shape)
        return np.asarray(x + 1j * rng.normal(size=shape) if "complex" in dtype else x).astype(numpy_dtype(dtype))

    return {name: draw(*leaf) for name, leaf in LEAVES.items()}


def on(backend: Backend, tree: dict[str, Any]) -> dict[str, Any]:
    """The same numbers on another framework: through float64, which holds them all."""
    wide = {name: x.astype("complex128" if x.dtype.kind == "c" else "float64") for name, x in tree.items()}
    return {name: backend.array(x, tree[name].dtype.name) for name, x in wide.items()}


def hosts(state: State, backend: Backend) -> dict[str, dict[str, Any]]:
    """All arrays of a state of one dict of arrays as NumPy's."""
    trees = {"params": state.params, **{name: state.slots[name] for name in state.method.slots}}
    return {root: {name: backend.numpy(x) for name, x in tree.items()} for root, tree in trees.items()}


def by_hand(state: State, here: Backend, there: Backend) -> State:
    """The state on another framework, without the code under test."""
    found = {root: on(there, tree) for root, tree in hosts(state, here).items()}
    params = found.pop("params")
    return State(params, found, state.step, state.method, RATES["float"], 0.01).replace(lr=state.lr)


def bits(state: State, backend: Backend, leaves: Iterable[str] = LEAVES) -> dict[tuple[str, str], tuple[str, bytes]]:
    """All bits of some leaves."""
    found = hosts(state, backend)
    return {
        (root, name): (x.dtype.name, x.tobytes()) for root, xs in found.items() for name in leaves for x in [xs[name]]
    }


def taken(state: State, backend: Backend) -> State:
    """The state five steps later."""
    importlib.import_module(describe(backend.name)["module"])
    with engine(backend.engine):
        for t in range(state.step, state.step + 5):
            state = step(state, on(backend, numbers(t)))
    return state


@pytest.mark.parametrize(("name", "rate"), CASES)
def test_twenty_steps_on_four_frameworks_have_the_bits_of_one(tmp_path: Path, name: str, rate: str) -> None:
    """In files, compared with a run that stays; exponentials, of which IEEE 754 says nothing, with one by hand."""
    method = METHODS[name]
    same = [] if "g_last" in method.slots else [*LEAVES]
    way = [Backend(*each) for each in WAY if is_here(each[0])]
    assert len(way) >= 3
    moves = carried = stays = init(method, numbers(99), RATES[rate], weight_decay=0.01)
    here = HOME
    for there in way:
        stays, moves, carried = taken(stays, HOME), taken(moves, here), taken(carried, here)
        assert bits(moves, here, same) == bits(stays, HOME, same), f"step {moves.step} on {here.name}"
        assert bits(moves, here) == bits(carried, here)
        save(moves, tmp_path / "run")
        like = on(there, numbers(98))
        copy, moves, carried = convert(moves, like), load(tmp_path / "run", like), by_hand(carried, here, there)
        assert bits(moves, there) == bits(copy, there) == bits(carried, there)
        assert (copy.step, copy.lr, copy.method) == (moves.step, moves.lr, moves.method)
        here = there
    assert here.name == "numpy" and moves.step == stays.step == 5 * len(way)
    assert (moves.method, moves.weight_decay) == (stays.method, stays.weight_decay)
    assert moves.lr == stays.lr
