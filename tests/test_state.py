"""The state: immutable, a pytree of three libraries, and something to save, copy and carry elsewhere."""

from __future__ import annotations

import copy
import dataclasses
import pickle
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import optree
import pytest

from adamod_array import AdaMod, State, adamod_init, adamod_step, engine, momentum_init, schedules, step
from tests.backend import Backend, stands_in
from tests.trees import assert_same, bits, leaves, tree


def some_steps(backend: Backend, **options: Any) -> State:
    """A state of AdaMod after two steps."""
    state = adamod_init(tree(backend), **options)
    for seed in (3, 4):
        state = adamod_step(state, tree(backend, seed=seed))
    return state


def test_fields(backend: Backend) -> None:
    state = some_steps(backend, lr=0.25, weight_decay=0.5)
    assert (state.step, state.method, state.lr, state.weight_decay) == (2, AdaMod(), 0.25, 0.5)
    assert list(state.slots) == ["m", "v", "s"]
    again = adamod_init(state.params)
    assert all(a is b for a, b in zip(optree.tree_leaves(again.params), optree.tree_leaves(state.params), strict=True))


# immutable


@pytest.mark.parametrize("name", ["params", "slots", "step", "method", "lr", "weight_decay", "anything"])
def test_no_attribute_can_be_set_or_deleted(backend: Backend, name: str) -> None:
    state = some_steps(backend)
    with pytest.raises(dataclasses.FrozenInstanceError):
        setattr(state, name, 1)
    with pytest.raises(dataclasses.FrozenInstanceError):
        delattr(state, name)


def test_replace_makes_a_changed_copy(backend: Backend) -> None:
    state, grads = some_steps(backend), tree(backend, seed=5)
    faster = dataclasses.replace(state, lr=0.1)
    assert (faster.lr, state.lr) == (0.1, 1e-3)
    assert all(a is b for a, b in zip(optree.tree_leaves(faster.params), optree.tree_leaves(state.params), strict=True))
    assert_same(backend, adamod_step(faster, grads).params, adamod_step(state, grads, lr=0.1).params)


# a pytree


def test_optree(backend: Backend) -> None:
    state = some_steps(backend)
    flat, spec = optree.tree_flatten(state)
    assert len(flat) == 3 + 3 * 3 + 1
    assert_same(backend, spec.unflatten(flat), state)
    typed = [accessor.codify("state") for accessor in optree.tree_accessors(state)]
    assert typed[0] == "state.params['b']"
    assert "state.params['layers'][1]['w']" in typed
    assert "state.slots['s']['layers'][0]['w']" in typed
    assert typed[-1] == "state.step"
    assert spec == optree.tree_structure(adamod_step(state, tree(backend)))  # so a step fits in a loop
    assert spec != optree.tree_structure(some_steps(backend, lr=0.5))  # the rate is static


def test_optree_map(backend: Backend) -> None:
    state = some_steps(backend)
    doubled = optree.tree_map(lambda x: x * 2, state)
    assert isinstance(doubled, State)
    assert (doubled.step, doubled.method, doubled.lr) == (4, state.method, state.lr)
    assert_same(backend, doubled.slots["v"]["b"], state.slots["v"]["b"] * 2)
    assert adamod_step(doubled, tree(backend)).step == 5


@pytest.mark.only("jax")
def test_jax_tree_util(backend: Backend) -> None:
    import jax

    state = some_steps(backend, lr=1e-3 * schedules.untuned_linear(0.999), weight_decay={"b": 0.0, "layers": 0.1})
    flat, spec = jax.tree.flatten(state)
    assert len(flat) == 13
    assert_same(backend, jax.tree.unflatten(spec, flat), state)
    keyed = [jax.tree_util.keystr(path) for path, _ in jax.tree_util.tree_flatten_with_path(state)[0]]
    assert keyed[0] == ".params['b']"
    assert keyed[-1] == ".step"
    new = adamod_step(state, tree(backend))
    assert spec == jax.tree.structure(new)
    assert hash(spec) == hash(jax.tree.structure(new))  # jax.jit looks compiled functions up by it
    assert isinstance(jax.tree.map(lambda x: x, state), State)


@pytest.mark.only("torch")
def test_torch_pytree(backend: Backend) -> None:
    from torch.utils import _pytree

    state = some_steps(backend)
    flat, spec = _pytree.tree_flatten(state)
    assert len(flat) == 13
    assert_same(backend, _pytree.tree_unflatten(flat, spec), state)
    doubled = _pytree.tree_map(lambda x: x * 2, state)
    assert isinstance(doubled, State)
    assert_same(backend, doubled.slots["v"]["b"], state.slots["v"]["b"] * 2)


# copies


@pytest.mark.parametrize("protocol", range(2, pickle.HIGHEST_PROTOCOL + 1))
def test_pickle(backend: Backend, protocol: int) -> None:
    state = some_steps(backend, lr=1e-3 * schedules.untuned_linear(0.999), weight_decay={"b": 0.0, "layers": 0.1})
    loaded = pickle.loads(pickle.dumps(state, protocol))
    assert bits(backend, loaded) == bits(backend, state)
    assert (loaded.method, loaded.lr, loaded.weight_decay) == (state.method, state.lr, state.weight_decay)
    grads = tree(backend, seed=7)
    assert_same(backend, adamod_step(loaded, grads), adamod_step(state, grads))


FRESH = """
import pickle, sys
from adamod_array import step
state, grads = pickle.load(sys.stdin.buffer)
sys.stdout.buffer.write(pickle.dumps(step(state, grads)))
"""


def test_pickle_in_a_fresh_process(backend: Backend) -> None:
    """Whoever loads a state needs to have imported nothing but the package."""
    state, grads = some_steps(backend, lr=schedules.constant(0.5)), tree(backend, seed=7)
    device = f"import {backend.table['stand_in']}\n" if stands_in(backend.name) else ""
    run = subprocess.run(
        [sys.executable, "-c", device + FRESH],
        input=pickle.dumps((state, grads)),
        capture_output=True,
        cwd=Path(__file__).parent.parent,
        check=False,
    )
    assert run.returncode == 0, run.stderr.decode()
    new = pickle.loads(run.stdout)
    assert new.step == 3
    with engine("auto"):  # as over there
        assert_same(backend, new, step(state, grads))


def test_deepcopy_has_arrays_of_its_own(backend: Backend) -> None:
    state, grads = some_steps(backend), tree(backend, seed=7)
    twin = copy.deepcopy(state)
    before = bits(backend, twin)
    adamod_step(state, grads, donate=True)
    assert bits(backend, twin) == before
    assert adamod_step(twin, grads).step == 3


def test_copy_has_the_same_arrays(backend: Backend) -> None:
    state = some_steps(backend)
    twin = copy.copy(state)
    assert twin is not state
    assert all(a is b for a, b in zip(leaves(twin), leaves(state), strict=True))
    adamod_step(twin, tree(backend), donate=True)
    with pytest.raises(ValueError, match="spent"):
        adamod_step(state, tree(backend))


def test_states_are_compared_by_identity(backend: Backend) -> None:
    """Arrays have no truth value, so that equality of states would have none."""
    state = some_steps(backend)
    assert state == state
    assert state != copy.copy(state)
    assert len({state, copy.copy(state)}) == 2


def test_through_numpy_and_back(backend: Backend) -> None:
    """A state is its arrays: save them by any means, and put them into a state of another framework."""
    state, grads = some_steps(backend), tree(backend, seed=7)

    def there(x: Any) -> Any:
        return x if isinstance(x, int) else backend.numpy(x)

    def back(x: Any) -> Any:
        return backend.array(x, x.dtype.name)

    def mapped(f: Any, x: Any) -> Any:
        return optree.tree_map(f, x)

    host = mapped(there, state)
    assert all(isinstance(x, (np.ndarray, int)) for x in leaves(host))
    assert adamod_step(host, mapped(there, grads)).step == 3  # and NumPy steps it
    fresh = adamod_init(mapped(back, host.params))
    fresh = dataclasses.replace(fresh, slots=mapped(back, host.slots), step=host.step)
    assert_same(backend, adamod_step(fresh, grads), adamod_step(state, grads))


# repr


def test_repr_shows_what_and_no_numbers(backend: Backend) -> None:
    state = some_steps(backend, lr=0.25, weight_decay=0.5, beta3=0.75)
    text = repr(state)
    for part in ("AdaMod(", "beta3=0.75", "step=2", "lr=0.25", "weight_decay=0.5", "slots: m, v, s"):
        assert part in text
    assert "'layers': [{'w': float32[2, 3]}, {'w': float32[3]}]" in text
    assert max(map(len, text.splitlines())) < 160
    assert "spent" not in text
    assert "donated" not in text
    adamod_step(state, tree(backend), donate=True)
    assert "donated to step 3" in repr(state)


def test_repr_of_odd_states(backend: Backend) -> None:
    assert "params={}" in repr(momentum_init({}))
    assert "params={'frozen': None, 'w': float32[]}" in repr(momentum_init({"frozen": None, "w": backend.array(1.0)}))
    lr = 1e-3 * schedules.untuned_linear(0.999)
    assert "lr=0.001 * untuned_linear(beta2=0.999)" in repr(momentum_init(backend.array([1.0]), lr=lr))
