"""A method as a transformation where optax's own are used: Flax, NNX, Equinox, Haiku and Optimistix."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import equinox
import flax
import haiku
import jax
import jax.numpy as jnp
import numpy as np
import optax
import optimistix
import pytest
from flax import linen, nnx
from flax.training.train_state import TrainState

from adamod_array import AdaMod, init, step
from adamod_array.optax import MethodState, as_optax, state_from_optax
from tests.compare import assert_close

X = jnp.asarray(np.random.default_rng(0).normal(size=(16, 3)), "float32")
Y = jnp.sum(jnp.sin(X), axis=1, keepdims=True)
METHOD, RATE, STEPS = AdaMod(beta3=0.9), 3e-2, 20


@pytest.fixture(autouse=True)
def default_precision() -> Iterator[None]:
    """JAX with 32 bits."""
    with jax.enable_x64(False):
        yield


def assert_trained(params: Any, loss: Any, start: Any, opt_state: Any) -> None:
    """The parameters, slots and count of the same steps taken by ``step``, and a loss that fell."""
    state, take = init(METHOD, start, RATE), jax.jit(lambda state: step(state, jax.grad(loss)(state.params)))
    for _ in range(STEPS):
        state = take(state)
    assert jax.tree.structure(params) == jax.tree.structure(start)
    scale = max(float(jnp.max(jnp.abs(p))) for p in jax.tree.leaves(start))
    for a, e in zip(jax.tree.leaves(params), jax.tree.leaves(state.params), strict=True):
        assert_close(a, e, atol=1e-5 * scale)  # the program around the step may sum in another order
    assert float(loss(params)) < 0.5 * float(loss(start))
    pure, opt_state = nnx.as_pure((params, opt_state))  # of NNX, arrays without its variables
    resumed = state_from_optax(METHOD, pure, opt_state, RATE)
    assert resumed.step == STEPS
    for a, e in zip(jax.tree.leaves(resumed.slots), jax.tree.leaves(state.slots), strict=True):
        assert_close(a, e, atol=1e-4 * max(1.0, float(jnp.max(jnp.abs(e)))))


def test_flax_train_state() -> None:
    model = linen.Sequential([linen.Dense(8), linen.tanh, linen.Dense(1)])
    start = model.init(jax.random.key(0), X)["params"]

    def loss(params: Any) -> Any:
        return jnp.mean((model.apply({"params": params}, X) - Y) ** 2)

    state = TrainState.create(apply_fn=model.apply, params=start, tx=as_optax(METHOD, RATE))
    take = jax.jit(lambda state: state.apply_gradients(grads=jax.grad(loss)(state.params)))
    for _ in range(STEPS):
        state = take(state)
    assert_trained(state.params, loss, start, state.opt_state)
    restored = flax.serialization.from_bytes(state, flax.serialization.to_bytes(state))
    assert isinstance(restored.opt_state, MethodState)
    for a, e in zip(jax.tree.leaves(restored), jax.tree.leaves(state), strict=True):
        assert_close(a, e)


def test_nnx_optimizer() -> None:
    rngs = nnx.Rngs(0)
    model = nnx.Sequential(nnx.Linear(3, 8, rngs=rngs), nnx.tanh, nnx.Linear(8, 1, rngs=rngs))
    graph, start = nnx.split(model, nnx.Param)
    start = jax.tree.map(jnp.copy, start)
    optimizer = nnx.Optimizer(model, as_optax(METHOD, RATE), wrt=nnx.Param)

    @nnx.jit
    def take(model: Any, optimizer: Any) -> None:
        grads = nnx.grad(lambda model: jnp.mean((model(X) - Y) ** 2))(model)
        optimizer.update(model, grads)

    for _ in range(STEPS):
        take(model, optimizer)

    def loss(params: Any) -> Any:
        return jnp.mean((nnx.merge(graph, params)(X) - Y) ** 2)

    assert_trained(nnx.state(model, nnx.Param), loss, start, optimizer.opt_state)


@pytest.mark.parametrize("decay", [0.0, 0.1])
def test_equinox(decay: float) -> None:
    model = equinox.nn.MLP(3, 1, 8, 1, key=jax.random.key(0))
    start, static = equinox.partition(model, equinox.is_inexact_array)
    optimizer = as_optax(METHOD, RATE, decay, lambda params: jax.tree.map(lambda p: p.ndim > 1, params))
    opt_state = optimizer.init(equinox.filter(model, equinox.is_inexact_array))

    @equinox.filter_jit
    def take(model: Any, opt_state: Any) -> Any:
        grads = equinox.filter_grad(lambda model: jnp.mean((jax.vmap(model)(X) - Y) ** 2))(model)
        updates, opt_state = optimizer.update(grads, opt_state, equinox.filter(model, equinox.is_inexact_array))
        return equinox.apply_updates(model, updates), opt_state

    for _ in range(STEPS):
        model, opt_state = take(model, opt_state)

    def loss(params: Any) -> Any:
        return jnp.mean((jax.vmap(equinox.combine(params, static))(X) - Y) ** 2)

    params = equinox.filter(model, equinox.is_inexact_array)
    if decay:
        assert float(loss(params)) < 0.5 * float(loss(start))
        assert int(opt_state.count) == STEPS
    else:
        assert_trained(params, loss, start, opt_state)


def test_a_frozen_layer_of_an_equinox_module() -> None:
    params = equinox.filter(equinox.nn.MLP(3, 1, 8, 1, key=jax.random.key(0)), equinox.is_inexact_array)
    grads = equinox.tree_at(lambda m: m.layers[0].weight, jax.tree.map(jnp.ones_like, params), None)
    optimizer = as_optax(METHOD, RATE)
    updates, _ = optimizer.update(grads, optimizer.init(params), params)
    new = equinox.apply_updates(params, updates)
    assert new.layers[0].weight is params.layers[0].weight
    assert not np.array_equal(new.layers[1].weight, params.layers[1].weight)


def test_haiku() -> None:
    model = haiku.without_apply_rng(haiku.transform(lambda x: haiku.nets.MLP([8, 1], activation=jnp.tanh)(x)))
    start = model.init(jax.random.key(0), X)
    optimizer = as_optax(METHOD, RATE)

    def loss(params: Any) -> Any:
        return jnp.mean((model.apply(params, X) - Y) ** 2)

    @jax.jit
    def take(params: Any, opt_state: Any) -> Any:
        updates, opt_state = optimizer.update(jax.grad(loss)(params), opt_state, params)
        return optax.apply_updates(params, updates), opt_state

    params, opt_state = start, optimizer.init(start)
    for _ in range(STEPS):
        params, opt_state = take(params, opt_state)
    assert_trained(params, loss, start, opt_state)


def test_optimistix() -> None:
    def loss(y: Any, args: Any) -> Any:
        return jnp.sum((y["x"] - args) ** 2)

    solver = optimistix.OptaxMinimiser(as_optax(METHOD, 0.1), rtol=1e-6, atol=1e-6)
    target = jnp.asarray([1.0, -2.0, 0.5])
    solution = optimistix.minimise(loss, solver, {"x": jnp.zeros(3)}, target, max_steps=2000)
    assert solution.result == optimistix.RESULTS.successful
    np.testing.assert_allclose(solution.value["x"], target, atol=1e-3)
