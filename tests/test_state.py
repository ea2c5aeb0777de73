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

from adamod_array import (
    Adam,
    AdaMod,
    Momentum,
    State,
    adam_init,
    adamod_init,
    adamod_step,
    engine,
    momentum_init,
    momentum_step,
    schedules,
    step,
)
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
    assert len(flat) == 3 + 3 * 3 + 2
    assert_same(backend, spec.unflatten(flat), state)
    typed = [accessor.codify("state") for accessor in optree.tree_accessors(state)]
    assert typed[0] == "state.params['b']"
    assert "state.params['layers'][1]['w']" in typed
    assert "state.slots['s']['layers'][0]['w']" in typed
    assert typed[-2:] == ["state.step", "state.skipped"]
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
    assert len(flat) == 14
    assert_same(backend, jax.tree.unflatten(spec, flat), state)
    keyed = [jax.tree_util.keystr(path) for path, _ in jax.tree_util.tree_flatten_with_path(state)[0]]
    assert keyed[0] == ".params['b']"
    assert keyed[-2:] == [".step", ".skipped"]
    new = adamod_step(state, tree(backend))
    assert spec == jax.tree.structure(new)
    assert hash(spec) == hash(jax.tree.structure(new))  # jax.jit looks compiled functions up by it
    assert isinstance(jax.tree.map(lambda x: x, state), State)


@pytest.mark.only("torch")
def test_torch_pytree(backend: Backend) -> None:
    from torch.utils import _pytree

    state = some_steps(backend)
    flat, spec = _pytree.tree_flatten(state)
    assert len(flat) == 14
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


# replaced, and checked as by init


@dataclasses.dataclass(frozen=True)
class Table:
    """A schedule of a user's: two of them cannot be compared."""

    rates: np.ndarray[Any, Any]

    def __call__(self, t: int) -> float:
        return float(self.rates[t])


def test_repr_and_rates_of_what_a_user_may_put_there(backend: Backend) -> None:
    """Schedules that hold arrays, methods that no step has looked at yet, a state that is spent."""
    params = {"a": [backend.array([1.0]), backend.array([1.0])], "b": backend.array([1.0])}
    state = adam_init(params, lr={"a": [Table(np.ones(5)), Table(np.ones(5))], "b": 0.5})
    assert "lr={'a': [" in repr(state) and state.learning_rate() == {"a": [1.0, 1.0], "b": 0.5}
    methods = {"a": Adam(), "b": Adam(beta1=0.5)}
    assert "Adam(beta1=0.5" in repr(dataclasses.replace(state, method=methods))
    twin = dataclasses.replace(state, lr={"a": 0.25, "b": 0.5})
    if backend.table["donates"]:
        step(state, params, donate=True)
    for each in (state, twin):
        assert each.learning_rate()["b"] == 0.5


def test_replace_keeps_what_is_known(backend: Backend) -> None:
    state = some_steps(backend)
    state = adamod_step(adamod_step(state, tree(backend)), tree(backend))
    known, _ = state.resolved()
    new = state.replace(lr=0.25, step=100)
    assert new.resolved()[0] is known
    assert dataclasses.replace(state, lr=0.25).resolved()[0] is known
    assert (new.step, new.lr, state.step) == (100, 0.25, 4)
    grads = tree(backend, seed=7)
    expected = adamod_step(dataclasses.replace(state, step=100), grads, lr=0.25)
    assert_same(backend, adamod_step(new, grads).params, expected.params)


def test_another_method_is_another_program(backend: Backend) -> None:
    """Nothing that was worked out for the old one is used, whatever the copy was made by."""
    state, grads = some_steps(backend), tree(backend, seed=5)
    for _ in range(3):
        state = adamod_step(state, grads)
    method = AdaMod(beta1=0.5, beta3=0.25)
    made = State(state.params, state.slots, state.step, method, state.lr)
    for other in (state.replace(method=method), dataclasses.replace(state, method=method)):
        assert_same(backend, step(other, grads), step(made, grads))
    with pytest.raises(TypeError, match=r"keeps \('m', 'v', 's'\) and is not one of Momentum"):
        state.replace(method=Momentum())
    with pytest.raises(TypeError, match="expected a method"):
        state.replace(method=AdaMod)


def test_rates_may_be_trees(backend: Backend) -> None:
    state, grads = some_steps(backend), tree(backend, seed=5)
    lr, decay = {"b": 0.5, "layers": 0.25}, {"b": 0.0, "layers": 0.125}
    expected = adamod_step(dataclasses.replace(state, weight_decay=0.0), grads, lr=lr)
    for new in (state.replace(lr=lr), dataclasses.replace(state, lr=lr)):
        assert_same(backend, adamod_step(new, grads).params, expected.params)
    decayed = [state.replace(lr=lr, weight_decay=decay), dataclasses.replace(state, lr=lr, weight_decay=decay)]
    expected = adamod_step(
        adamod_init(tree(backend), lr, weight_decay=decay).replace(
            params=state.params, slots=state.slots, step=state.step
        ),
        grads,
    )
    for new in decayed:
        assert optree.tree_structure(new) == optree.tree_structure(expected)  # hashable, and settled
        assert_same(backend, adamod_step(new, grads).params, expected.params)


def test_a_rate_of_none_for_a_parameter_of_none(backend: Backend) -> None:
    params = {"w": backend.array([1.0]), "frozen": None}
    rates = {"w": 0.5, "frozen": None}
    state = momentum_init(params, rates, weight_decay=rates)
    grads = {"w": backend.array([1.0]), "frozen": None}
    expected = momentum_step(momentum_init(params, 0.5, weight_decay=0.5), grads)
    assert_same(backend, momentum_step(state, grads).params, expected.params)
    assert_same(backend, momentum_step(state, grads, lr=rates).params, expected.params)
    assert_same(backend, momentum_step(state.replace(lr=rates), grads).params, expected.params)
    with pytest.raises(TypeError, match=r"lr\['w'\] must be a number or a schedule, got None"):
        momentum_init(params, {"w": None, "frozen": 0.1})


BAD_STEPS: dict[str, Any] = {
    "negative": -1,
    "a string": "3",
    "a bool": True,
    "NaN": float("nan"),
    "a float": 3.0,
    "an array": np.array([3]),
    "an array of floats": np.array(3.0),
    "a negative array": np.array(-1),
    "an array of bools": np.array(True),
    "nothing": None,
}


@pytest.mark.parametrize("bad", BAD_STEPS.values(), ids=BAD_STEPS)
def test_counts_that_are_none(backend: Backend, bad: Any) -> None:
    state = some_steps(backend)
    makers: list[Any] = [
        lambda: state.replace(step=bad),
        lambda: dataclasses.replace(state, step=bad),
        lambda: State(state.params, state.slots, bad, state.method),
        lambda: step(optree.tree_unflatten(optree.tree_structure(state), [*leaves(state)[:-2], bad, 0]), tree(backend)),
    ]
    for make in makers if bad is not None else makers[:-1]:
        with pytest.raises((TypeError, ValueError), match="step must be a count of steps"):
            make()
    if bad is not None:
        with pytest.raises((TypeError, ValueError), match="skipped must be a count of steps"):
            state.replace(skipped=bad)


def test_counts_of_every_kind(backend: Backend) -> None:
    state, grads = some_steps(backend), tree(backend)
    expected = adamod_step(state.replace(step=7), grads)
    kinds: list[Any] = [7, np.int64(7), np.uint8(7), np.array(7), backend.array(7, "int32"), backend.array(7, "int64")]
    for kind in kinds:
        new = state.replace(step=kind)
        assert backend.name in ("jax", "cupy") or type(new.step) is int  # where reading would wait
        assert_same(backend, adamod_step(new, grads).params, expected.params)
        assert int(adamod_step(new, grads).step) == 8


@pytest.mark.parametrize("bad", [-1.0, float("nan"), float("inf"), "0.1", True, None], ids=repr)
def test_rates_are_checked_by_whatever_makes_a_state(backend: Backend, bad: Any) -> None:
    state = some_steps(backend)
    fields = {**state.__getstate__(), "weight_decay": bad}
    for make in (
        lambda: state.replace(weight_decay=bad),
        lambda: dataclasses.replace(state, weight_decay=bad),
        lambda: dataclasses.replace(state, lr=bad),
        lambda: object.__new__(State).__setstate__(fields),
    ):
        with pytest.raises((TypeError, ValueError), match=r"(weight_decay|lr) must"):
            make()
    for prefix in ({"b": bad, "layers": 0.1}, [0.1]):
        with pytest.raises((TypeError, ValueError), match="weight_decay"):
            state.replace(weight_decay=prefix)
        with pytest.raises((TypeError, ValueError), match="weight_decay"):
            step(dataclasses.replace(state, weight_decay=prefix), tree(backend))


def test_fields_that_nobody_knows(backend: Backend) -> None:
    with pytest.raises(TypeError, match="no field 'rate', only params, slots, step, skipped, method, lr, weight_decay"):
        some_steps(backend).replace(rate=0.1)


def test_tab_completion_and_dicts(backend: Backend) -> None:
    state = some_steps(backend)
    assert {"params", "slots", "step", "method", "lr", "weight_decay", "replace"} <= {*dir(state)}
    assert [field.name for field in dataclasses.fields(state)] == [
        "params",
        "slots",
        "step",
        "method",
        "lr",
        "weight_decay",
        "skipped",
    ]
    fields = dataclasses.asdict(state)
    assert_same(backend, fields["params"], state.params)
    assert fields["step"] == 2 and fields["method"]["beta3"] == 0.999
