"""Arrays of JAX's that a plan knows again, and those that it must not."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from adamod_array import Adam, State, engine, init, step
from tests.backend import Backend
from tests.trees import assert_same, values

pytestmark = pytest.mark.only("jax")
jax = pytest.importorskip("jax")

Tree = dict[str, Any]


def tree(backend: Backend, seed: int, dtype: str = "float32") -> Tree:
    return {"a": backend.array(values(4, seed=seed), dtype), "b": backend.array(values(4, seed=seed + 9), dtype)}


def before(backend: Backend, donate: bool) -> State:
    """A state after enough steps for a plan to be kept."""
    state = init(Adam(), tree(backend, 0), 0.1)
    for seed in range(1, 5):
        state = step(state, tree(backend, seed), donate=donate)
    return state


@pytest.mark.parametrize("donate", [False, True])
def test_a_plan_keeps_the_compiled_program(backend: Backend, donate: bool) -> None:
    """Which takes the step without JAX's look at every argument; nothing else would say it, were it refused."""
    plan = before(backend, donate).resolved()[0].plan
    if backend.engine == "numba":
        assert isinstance(plan.signatures.program, jax.stages.Compiled) and not plan.refused
    else:
        assert plan is None


def one_more_dtype(backend: Backend, state: State) -> Tree:
    return tree(backend, 7) | {"b": backend.array(values(4), "float16")}


def another_dtype(backend: Backend, state: State) -> Tree:
    return tree(backend, 7, "float16")


def without_one(backend: Backend, state: State) -> Tree:
    return tree(backend, 7) | {"b": None}


def twice_the_same(backend: Backend, state: State) -> Tree:
    x = backend.array(values(4))
    return {"a": x, "b": x}


def the_parameter(backend: Backend, state: State) -> Tree:
    return {"a": state.params["b"], "b": state.params["a"]}


def a_slot(backend: Backend, state: State) -> Tree:
    return {"a": state.slots["m"]["a"], "b": state.slots["m"]["a"]}


GRADIENTS = [one_more_dtype, another_dtype, without_one, twice_the_same, the_parameter, a_slot]


@pytest.mark.parametrize("gradients", GRADIENTS, ids=lambda each: each.__name__)
@pytest.mark.parametrize("donate", [False, True])
def test_other_gradients(backend: Backend, gradients: Callable[[Backend, State], Tree], donate: bool) -> None:
    with engine("eager"):
        expected = before(backend, False)
        expected = step(step(expected, gradients(backend, expected)), tree(backend, 8))
    state = before(backend, donate)
    state = step(state, gradients(backend, state), donate=donate)
    assert_same(backend, step(state, tree(backend, 8), donate=donate), expected)


@pytest.mark.parametrize("donate", [False, True])
def test_errors(backend: Backend, donate: bool) -> None:
    """They name the leaf, and the state stands."""
    state = before(backend, donate)
    for wrong, error, message in (
        (np.zeros(4, np.float32), TypeError, r"grads\['b'\] must be a jax array like its parameter"),
        (backend.array(values(5)), ValueError, r"grads\['b'\] .*shape"),
        (backend.array(values(4), "int32"), TypeError, r"grads\['b'\] .*floating"),
    ):
        with pytest.raises(error, match=message):
            step(state, tree(backend, 7) | {"b": wrong}, donate=donate)
    gone = tree(backend, 7)
    gone["a"].delete()
    with pytest.raises(ValueError, match=r"grads\['a'\] has been deleted"):
        step(state, gone, donate=donate)
    with engine("eager"):
        expected = step(before(backend, False), tree(backend, 7))
    assert_same(backend, step(state, tree(backend, 7), donate=donate), expected)
    state = before(backend, donate)
    state.slots["v"]["b"].delete()
    with pytest.raises(ValueError, match=r"slots\['v'\]\['b'\] has been deleted"):
        step(state, tree(backend, 7), donate=donate)


@pytest.mark.parametrize("donate", [False, True])
def test_a_state_that_was_given_away(backend: Backend, donate: bool) -> None:
    """As a user's jit may do: all of its arrays are gone, and no step has taken them."""
    state = before(backend, donate)
    for x in sys.modules["jax"].tree.leaves((state.params, state.slots)):
        x.delete()
    for _ in range(2):
        with pytest.raises(ValueError, match=r"params\['a'\] has been deleted"):
            step(state, tree(backend, 7), donate=donate)


def test_donated_and_fresh_steps_in_turn(backend: Backend) -> None:
    state, expected = before(backend, True), before(backend, False)
    for seed in range(6):
        kept = state
        state = step(state, tree(backend, seed), donate=seed % 2 == 1)
        expected = step(expected, tree(backend, seed))
        assert_same(backend, state, expected)
        if seed % 2 == 0:
            assert_same(backend, step(kept, tree(backend, seed)), state)
        else:
            with pytest.raises(ValueError, match="spent: it was donated to step"):
                step(kept, tree(backend, seed))


def test_other_rates_and_engines(backend: Backend) -> None:
    jnp = sys.modules["jax"].numpy
    state, expected = before(backend, True), before(backend, False)
    for lr in (0.5, jnp.float32(0.25), {"a": 0.5, "b": 0.25}, lambda t: 1.0 / t, 1e39):
        for name in ("auto", "jit", "eager"):
            with engine(name):
                state = step(state, tree(backend, 7), lr=lr, donate=True)
            with engine("eager"):
                expected = step(expected, tree(backend, 7), lr=lr)
            assert_same(backend, state, expected)
