"""States of optax's optimizers, with which a run goes on here where it stood there."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from adamod_array import Adam, AdaMod, Method, Momentum, RAdam, schedules, step
from adamod_array.optax import as_optax, as_schedule, state_from_optax
from tests.compare import assert_close

RATE, DECAY = 0.01, 0.1
PARAMS = {"w": np.random.default_rng(0).normal(size=(5, 3)), "b": [np.asarray([1.0, -2.0])]}


@pytest.fixture(autouse=True)
def double_precision() -> Iterator[None]:
    """In which the two agree to 1e-12."""
    with jax.enable_x64(True):
        yield


def params_of(dtype: str = "float64") -> Any:
    return jax.tree.map(lambda p: jnp.asarray(p, dtype), PARAMS)


def run(optimizer: Any, params: Any, opt_state: Any, steps: range) -> tuple[Any, Any]:
    """Steps along the gradients of these numbers."""
    update = jax.jit(optimizer.update)
    for t in steps:
        updates, opt_state = update(gradient(params, t), opt_state, params)
        params = optax.apply_updates(params, updates)
    return params, opt_state


def gradient(params: Any, t: int) -> Any:
    rng = np.random.default_rng(t)
    return jax.tree.map(lambda p: jnp.asarray(rng.normal(size=p.shape), p.dtype), params)


def goes_on(method: Method, optimizer: Any, lr: Any = RATE, weight_decay: float = 0.0, steps: int = 10) -> Any:
    """Ten steps there and ten here are twenty there."""
    params, opt_state = run(optimizer, params_of(), optimizer.init(params_of()), range(steps))
    state = state_from_optax(method, params, opt_state, lr, weight_decay=weight_decay)
    assert state.step == steps
    for t in range(steps, 2 * steps):
        state = step(state, gradient(params, t))
    expected, _ = run(optimizer, params, opt_state, range(steps, 2 * steps))
    for a, e in zip(jax.tree.leaves(state.params), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(a, e, rtol=1e-12, atol=1e-14)
    return opt_state


@pytest.mark.parametrize(
    ("method", "optimizer", "decay"),
    [
        (Adam(), optax.adam(RATE), 0.0),
        (Adam(0.8, 0.99, 1e-6), optax.adam(RATE, 0.8, 0.99, 1e-6), 0.0),
        (Adam(), optax.adamw(RATE, weight_decay=DECAY), DECAY),
        (RAdam(threshold=5), optax.radam(RATE), 0.0),
        (Adam(), optax.chain(optax.clip(1e9), optax.adam(RATE)), 0.0),
        (Adam(), optax.inject_hyperparams(optax.adamw)(RATE, weight_decay=DECAY), DECAY),
        (RAdam(threshold=5), optax.apply_if_finite(optax.radam(RATE), 3), 0.0),
        (Momentum(), optax.inject_hyperparams(optax.sgd)(RATE, momentum=0.9), 0.0),
        (Momentum(nesterov=True), optax.inject_hyperparams(optax.sgd)(RATE, momentum=0.9, nesterov=True), 0.0),
        (AdaMod(), as_optax(AdaMod(), RATE), 0.0),
        (AdaMod(), optax.chain(optax.clip(1e9), as_optax(AdaMod(), RATE, DECAY)), DECAY),
    ],
)
def test_a_run_goes_on(method: Method, optimizer: Any, decay: float) -> None:
    goes_on(method, optimizer, weight_decay=decay)


def test_a_run_goes_on_along_its_schedule() -> None:
    lr = RATE * schedules.cosine_decay(30)
    goes_on(Adam(), optax.adam(as_schedule(lr)), lr)
    goes_on(Momentum(), optax.sgd(as_schedule(lr), momentum=0.9), lr)  # whose count is the schedule's


def test_the_state_inside_of_multisteps() -> None:
    for method, inner in ((Adam(), optax.adam(RATE)), (Momentum(), optax.sgd(RATE, momentum=0.9))):
        optimizer = optax.MultiSteps(inner, every_k_schedule=2)
        params, opt_state = run(optimizer, params_of(), optimizer.init(params_of()), range(6))
        assert state_from_optax(method, params, opt_state).step == 3
        params, opt_state = run(optimizer, params, opt_state, range(6, 7))
        with pytest.raises(ValueError, match="accumulated the gradients of 1 steps, which would be lost"):
            state_from_optax(method, params, opt_state)


def test_sgd_counts_no_steps() -> None:
    optimizer = optax.sgd(RATE, momentum=0.9)
    params, opt_state = run(optimizer, params_of(), optimizer.init(params_of()), range(3))
    state = state_from_optax(Momentum(), params, opt_state)
    assert (state.step, state.replace(step=3).step) == (0, 3)
    assert_close(state.slots["m"]["w"], opt_state[0].trace["w"])


def test_slots_have_the_dtypes_that_init_gives_them() -> None:
    params = params_of("bfloat16")
    optimizer = optax.adam(RATE, mu_dtype="bfloat16")
    params, opt_state = run(optimizer, params, optimizer.init(params), range(2))
    state = state_from_optax(Adam(), params, opt_state)
    assert {x.dtype.name for x in jax.tree.leaves(state.slots)} == {"float32"}
    assert_close(state.slots["v"]["w"], opt_state[0].nu["w"].astype("float32"))
    # optax's v of complex parameters is complex, and has no imaginary part
    params = params_of("complex64")
    optimizer = optax.adam(RATE)
    params, opt_state = run(optimizer, params, optimizer.init(params), range(2))
    state = state_from_optax(Adam(), params, opt_state)
    assert (state.slots["m"]["w"].dtype, state.slots["v"]["w"].dtype) == ("complex64", "float32")
    assert_close(state.slots["v"]["w"], opt_state[0].nu["w"].real)
    assert step(state, gradient(params, 0)).step == 3


def test_a_state_inside_of_masked() -> None:
    params = params_of()
    optimizer = optax.masked(optax.adam(RATE), {"w": True, "b": [False]})
    _, opt_state = optimizer.update(gradient(params, 0), optimizer.init(params), params)
    state = state_from_optax(Adam(), params | {"b": [optax.MaskedNode()]}, opt_state)
    assert (state.step, state.slots["m"]["b"]) == (1, [optax.MaskedNode()])


def test_it_is_traced() -> None:
    params, optimizer = params_of(), optax.adam(RATE)
    opt_state = optimizer.init(params)
    found = jax.jit(lambda params, opt_state: state_from_optax(Adam(), params, opt_state))(params, opt_state)
    assert int(found.step) == 0


def test_errors_name_what_was_found() -> None:
    params = params_of()

    def error(method: Method, opt_state: Any, params: Any = params) -> str:
        with pytest.raises((ValueError, TypeError)) as caught:
            state_from_optax(method, params, opt_state)
        return str(caught.value)

    adam, sgd = optax.adam(RATE).init(params), optax.sgd(RATE, momentum=0.9).init(params)
    assert "there is ScaleByAdamState with m, v" in error(AdaMod(), adam)
    assert "slots of AdaMod" in error(AdaMod(), adam) and "m, v, s" in error(AdaMod(), adam)
    assert "there is TraceState with m" in error(Adam(), sgd)
    assert "there is none that is known" in error(Momentum(), optax.sgd(RATE).init(params))
    assert "there is none that is known" in error(Adam(amsgrad=True), optax.amsgrad(RATE).init(params))
    assert "ScaleByAdamState with m, v; ScaleByAdamState with m, v" in error(Adam(), (adam, adam))
    other = optax.adam(RATE).init({"w": params["w"]})
    assert "slots['m']['b'] is missing" in error(Adam(), other)
    other = optax.adam(RATE).init({"w": params["w"], "b": [jnp.ones(3)]})
    assert "slots['m']['b'][0] must have its parameter's shape (2,), got (3,)" in error(Adam(), other)
    other = optax.adam(RATE).init({"w": {"x": params["w"]}, "b": params["b"]})
    assert "slots['m']['w'] must be one value like its parameter, got a dict" in error(Adam(), other)
    assert "params['w'] must be an array" in error(Adam(), adam, params | {"w": "no"})
