"""Steps of a part of a tree, again and again: leaves that are None, or have no gradient, as a frozen layer has none."""

from __future__ import annotations

import concurrent.futures
import gc
import itertools
import subprocess
import sys
from typing import Any

import numpy as np
import optree
import pytest

from adamod_array import AdaMod, State, _step, adam_init, adam_step, init, step
from adamod_array._engines import can_repeat
from tests.backend import Backend
from tests.trees import assert_same, bits, values

Tree = dict[str, Any]

WITHOUT = (("none",), ("none", "b"), ("none", "a", "c"), ("none", "a", "b"), ("none", "a", "b", "c"))
"""The leaves that have no gradient."""


def tree(backend: Backend, seed: int, without: tuple[str, ...] = ("none",)) -> Tree:
    shapes = {"none": (1,), "a": (2, 3), "b": (4,), "c": (5,)}
    return {
        k: None if k in without else backend.array(values(*n, seed=seed + i)) for i, (k, n) in enumerate(shapes.items())
    }


def before(backend: Backend, donate: bool, without: tuple[str, ...] = ("none", "b")) -> State:
    """A state after enough steps of one part for a plan to be kept."""
    state = adam_init(tree(backend, 0), {"none": 0.5, "a": 0.25, "b": 0.5, "c": 0.5}, weight_decay=0.5)
    for seed in range(1, 5):
        state = adam_step(state, tree(backend, seed, without), donate=donate)
    return state


def copied(state: State) -> State:
    """The state in other arrays, of which no engine knows anything."""
    new: State = optree.tree_map(lambda x: x if isinstance(x, int) else x + 0, state)
    return new


@pytest.mark.only("numpy", "torch", "jax", "cupy", "strict")  # Dask would take minutes, and keeps no plan
@pytest.mark.parametrize("donate", [False, True])
def test_parts_in_turn(backend: Backend, donate: bool) -> None:
    for first, second in itertools.product(WITHOUT, repeat=2):
        state = before(backend, donate, first)
        expected = state
        for seed, without in enumerate((first, second, second, second, first, second)):
            kept, expected = state, adam_step(copied(expected), tree(backend, seed, without))
            state = adam_step(state, tree(backend, seed, without), donate=donate)
            assert_same(backend, state, expected)
            for name in without:
                assert donate or state.params[name] is kept.params[name]


@pytest.mark.only("numpy", "torch", "jax")
@pytest.mark.parametrize("donate", [False, True])
def test_a_part_is_known_again(backend: Backend, donate: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Else each of its steps would look at every array in Python, which takes ten times as long."""
    for without in WITHOUT[:-1]:
        state = before(backend, donate, without)
        if not can_repeat(state.resolved()[0].plan):
            pytest.skip("no kernel here keeps a plan")
        grads = tree(backend, 9, without)
        with monkeypatch.context() as patch:
            patch.setattr(_step, "_stepped", None)
            assert adam_step(state, grads, donate=donate).step == 5


@pytest.mark.only("numpy", "torch", "cupy")
def test_states_that_share_the_other_leaves(backend: Backend) -> None:
    """Fresh steps keep their arrays: where a donated step writes them, all these states are spent; else none is."""
    for donate_a in (False, True):
        old = before(backend, False)
        new = adam_step(old, tree(backend, 7, ("none", "b")))
        assert new.params["b"] is old.params["b"]
        if donate_a:
            new = adam_step(new, tree(backend, 8, ("none", "b")), donate=True)
            assert adam_step(old, tree(backend, 8)).step == 5
        adam_step(new, tree(backend, 8), donate=True)
        with pytest.raises(ValueError, match="spent: it was donated to step"):
            adam_step(old, tree(backend, 8))


@pytest.mark.only("numpy", "torch", "cupy")
def test_another_state_of_an_array_whose_first_state_is_gone(backend: Backend) -> None:
    state = before(backend, False)
    b = state.params["b"]
    state = adam_step(state, tree(backend, 7, ("none", "b")))
    gc.collect()
    mine = init(AdaMod(), [b])
    state = adam_step(state, tree(backend, 8, ("none", "b")), donate=True)
    assert step(mine, [backend.array(values(4))]).step == 1
    adam_step(state, tree(backend, 8), donate=True)
    with pytest.raises(ValueError, match="spent: it was donated to step"):
        step(mine, [backend.array(values(4))])


@pytest.mark.only("torch")
def test_parameters_that_were_tied_meanwhile(backend: Backend) -> None:
    """Equal in all but their address: the donated step of one would change the other, which has no gradient."""
    for spread in (1, 2):  # between the elements of the other one
        for moved in (("a", "b"), ("b", "a")):
            memory, mine = backend.array(values(20)), backend.array(values(20))
            last = 3 + 3 * spread
            whole = {"a": memory[last : last + 6].reshape(2, 3), "b": memory[3:][: 4 * spread : spread]}
            params = tree(backend, 0) | {"b": mine[: 4 * spread : spread]}
            state = adam_init(params)
            for name in (None, *moved):
                if name is not None:
                    state.params[name].data = whole[name]  # the first of them still is alone there
                    if name == moved[1]:
                        break
                for seed in range(4):
                    state = adam_step(state, tree(backend, seed, ("none", "b")), donate=True)
            written = bits(backend, state)
            with pytest.raises(ValueError, match=r"params\['.'\] and params\['.'\] share memory"):
                adam_step(state, tree(backend, 7, ("none", "b")), donate=True)
            assert bits(backend, state) == written
            expected = adam_step(copied(state), tree(backend, 7, ("none", "b")))
            assert_same(backend, adam_step(state, tree(backend, 7, ("none", "b"))), expected)


@pytest.mark.only("numpy", "torch")
def test_elements_between_those_of_another_leaf(backend: Backend) -> None:
    """The memory of a view reaches around a parameter that is stepped, and shares nothing with it."""
    memory = backend.array(values(4, 8))
    params = {"stepped": memory[1, :4], "other": memory[:, 4:]}
    copies = {k: backend.array(backend.numpy(x)) for k, x in params.items()}
    state = adam_init(params)
    expected = adam_init(copies)
    for seed in range(5):
        grads = {"stepped": backend.array(values(4, seed=seed)), "other": None}
        state, expected = adam_step(state, grads, donate=True), adam_step(expected, grads)
        assert_same(backend, state, expected)


@pytest.mark.only("numpy", "torch")
@pytest.mark.parametrize("donate", [False, True])
def test_other_leaves_that_do_not_fit_any_more(backend: Backend, donate: bool) -> None:
    """They are named, though the step would not touch them."""
    for slot in (None, "v"):
        state = before(backend, donate)
        x = (state.params if slot is None else state.slots[slot])["b"]
        if backend.name == "numpy":
            x.resize(10, refcheck=False)
        else:
            x.data = backend.array(values(10))
        with pytest.raises((TypeError, ValueError), match=r"\['b'\] must"):
            adam_step(state, tree(backend, 7, ("none", "b")), donate=donate)


@pytest.mark.only("numpy")
def test_the_eager_engine_needs_no_compiler(backend: Backend) -> None:
    text = """if True:
        import sys, warnings
        warnings.simplefilter("error")
        import numpy as np
        from adamod_array import adam_init, adam_step, engine
        state = adam_init({"a": np.ones(3), "b": np.ones(3)})
        with engine("eager"):
            for _ in range(3):
                state = adam_step(state, {"a": np.ones(3), "b": None})
        assert "numba" not in sys.modules
    """
    subprocess.run([sys.executable, "-c", text], check=True)


@pytest.mark.only("numpy", "torch")
def test_threads_that_step_one_state(backend: Backend) -> None:
    """What one of them records, or stops to record, is not taken from under another."""
    state = before(backend, False, ("none",))
    same, other = tree(backend, 7), tree(backend, 7)
    other["a"] = backend.array(values(2, 3, seed=8), "float64")

    def run(_: int) -> list[bytes]:
        return [backend.numpy(adam_step(state, grads).params["b"]).tobytes() for grads in (same, other) * 100]

    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        with concurrent.futures.ThreadPoolExecutor(2) as pool:
            assert len({*itertools.chain(*pool.map(run, range(2)))}) == 1
    finally:
        sys.setswitchinterval(interval)


@pytest.mark.only("jax")
def test_other_leaves_that_were_deleted(backend: Backend) -> None:
    for donate in (False, True):
        state = before(backend, donate)
        state.params["b"].delete()
        with pytest.raises(ValueError, match=r"params\['b'\] has been deleted"):
            adam_step(state, tree(backend, 7, ("none", "b")), donate=donate)


def test_errors(backend: Backend) -> None:
    """The place of a leaf is its place in the tree, and not among those that are stepped."""
    for donate in (False, True):
        state = before(backend, donate)
        written = bits(backend, state)
        for name, wrong, message in (
            ("c", backend.array(values(6)), r"grads\['c'\] .*shape"),
            ("c", np.zeros(5, np.int32), r"grads\['c'\] must"),
            ("none", backend.array(values(1)), r"grads\['none'\] must be None like its parameter"),
        ):
            with pytest.raises((TypeError, ValueError), match=message):
                adam_step(state, tree(backend, 7, ("none", "b")) | {name: wrong}, donate=donate)
        assert bits(backend, state) == written
        assert adam_step(state, tree(backend, 7, ("none", "b")), donate=donate).step == 5
