"""Parameters in the containers of Equinox and Flax: modules, dicts of variables, states."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from adamod_array import State, adamod_init, adamod_step
from tests.compare import assert_close

jax = pytest.importorskip("jax")
jnp = jax.numpy

X = jnp.asarray(np.random.default_rng(0).normal(size=(16, 3)), "float32")
Y = jnp.sum(jnp.sin(X), axis=1, keepdims=True)
WAYS = pytest.mark.parametrize("way", ["eager", "jit", "donate"])


def train(loss: Any, params: Any, way: str) -> State:
    """Forty steps, each of which moves the leaves as it moves them in a list, and keeps the containers."""
    gradient = jax.jit(jax.value_and_grad(loss))
    take = jax.jit(adamod_step) if way == "jit" else adamod_step
    state = adamod_init(params, lr=3e-2, beta3=0.9)
    plain = adamod_init([jnp.array(leaf) for leaf in jax.tree.leaves(params)], lr=3e-2, beta3=0.9)
    structure, losses = jax.tree.structure(params), []
    for _ in range(40):
        value, grads = gradient(state.params)
        losses.append(float(value))
        plain = adamod_step(plain, jax.tree.leaves(grads))
        state = take(state, grads, donate=True) if way == "donate" else take(state, grads)
    for tree in (state.params, *state.slots.values()):
        assert jax.tree.structure(tree) == structure
    for a, e in zip(jax.tree.leaves(state.params), plain.params, strict=True):
        # inside a user's jit the coefficients are XLA's, and an ulp of them a step adds up
        assert_close(a, e, atol=40 * 2.0**-23 * float(jnp.max(jnp.abs(e))))
    assert losses[-1] < 0.5 * losses[0]
    assert int(state.step) == 40
    return state


@WAYS
def test_an_equinox_module(way: str) -> None:
    """The arrays of a module, filtered: what is no array is None in parameters, gradients and slots alike."""
    equinox = pytest.importorskip("equinox")
    model = equinox.nn.MLP(3, 1, 8, 1, key=jax.random.key(0))
    params, static = equinox.partition(model, equinox.is_inexact_array)

    def loss(params: Any) -> Any:
        return jnp.mean((jax.vmap(equinox.combine(params, static))(X) - Y) ** 2)

    before = np.asarray(params.layers[0].weight)
    state = train(loss, params, way)
    assert type(state.params) is type(model)
    trained = equinox.combine(state.params, static)
    assert jax.vmap(trained)(X).shape == Y.shape
    assert not np.array_equal(state.params.layers[0].weight, before)
    assert state.slots["s"].layers[0].weight.shape == (8, 3)


def test_an_equinox_module_that_was_not_filtered() -> None:
    """The error says which leaf is no array, and how to leave it out."""
    equinox = pytest.importorskip("equinox")
    model = equinox.nn.MLP(3, 1, 8, 1, key=jax.random.key(0))
    with pytest.raises(TypeError, match=r"params\.activation.* must be an array.*equinox\.filter"):
        adamod_init(model)


def test_the_gradient_of_an_equinox_module_may_miss_leaves() -> None:
    """A frozen layer: None in the gradient, and the layer is the same array afterwards."""
    equinox = pytest.importorskip("equinox")
    params = equinox.filter(equinox.nn.MLP(3, 1, 8, 1, key=jax.random.key(0)), equinox.is_inexact_array)
    grads = equinox.tree_at(lambda m: m.layers[0].weight, jax.tree.map(jnp.ones_like, params), None)
    state = adamod_step(adamod_init(params), grads)
    assert state.params.layers[0].weight is params.layers[0].weight
    assert not np.array_equal(state.params.layers[1].weight, params.layers[1].weight)


def test_a_rate_a_layer_of_an_equinox_module() -> None:
    """A prefix of the module's tree, in the module's own containers."""
    equinox = pytest.importorskip("equinox")
    params = equinox.filter(equinox.nn.Linear(3, 2, key=jax.random.key(0)), equinox.is_inexact_array)
    rates = equinox.tree_at(lambda m: (m.weight, m.bias), params, (0.5, 0.0))
    state = adamod_step(adamod_init(params, lr=rates), jax.tree.map(jnp.ones_like, params))
    expected = adamod_step(adamod_init(params.weight, lr=0.5), jnp.ones_like(params.weight)).params
    assert_close(state.params.weight, expected, ulp=2)
    assert_close(state.params.bias, params.bias)


@WAYS
@pytest.mark.parametrize("frozen", [False, True])
def test_flax_linen_variables(way: str, frozen: bool) -> None:
    """Linen's parameters are nested dicts, or a FrozenDict of older days."""
    flax = pytest.importorskip("flax")
    linen = pytest.importorskip("flax.linen")
    model = linen.Sequential([linen.Dense(8), linen.tanh, linen.Dense(1)])
    params = model.init(jax.random.key(0), X)
    params = flax.core.freeze(params) if frozen else params

    def loss(params: Any) -> Any:
        return jnp.mean((model.apply(params, X) - Y) ** 2)

    state = train(loss, params, way)
    assert type(state.params) is type(params)
    assert state.slots["m"]["params"]["layers_0"]["kernel"].shape == (3, 8)


@WAYS
def test_flax_nnx_state(way: str) -> None:
    """NNX splits a module into a graph and a state of Params; the state is the tree."""
    nnx = pytest.importorskip("flax.nnx")
    rngs = nnx.Rngs(0)
    model = nnx.Sequential(nnx.Linear(3, 8, rngs=rngs), nnx.tanh, nnx.Linear(8, 1, rngs=rngs))
    graph, params = nnx.split(model, nnx.Param)

    def loss(params: Any) -> Any:
        return jnp.mean((nnx.merge(graph, params)(X) - Y) ** 2)

    state = train(loss, params, way)
    assert type(state.params) is type(params)
    nnx.update(model, state.params)
    assert_close(jnp.mean((model(X) - Y) ** 2), loss(state.params), ulp=16)  # sums in another order


def test_what_flax_users_give_by_mistake() -> None:
    nnx, linen = pytest.importorskip("flax.nnx"), pytest.importorskip("flax.linen")
    with pytest.raises(TypeError, match=r"write module\.init\(key, x\)\['params'\]"):
        adamod_init(linen.Dense(3))
    model = nnx.Sequential(nnx.Linear(3, 8, rngs=nnx.Rngs(0)), nnx.Dropout(0.5, rngs=nnx.Rngs(1)))
    for given in (model, nnx.state(model)):
        with pytest.raises(TypeError, match=r"rngs.*uint32.*write nnx\.state\(module, nnx\.Param\)"):
            adamod_init(given)
    state = adamod_init(nnx.state(model, nnx.Param), lr=0.1)
    grads = jax.tree.map(jnp.ones_like, state.params)
    with pytest.raises(ValueError, match=r"write grads\[1\] \(value_and_grad returns the value, too\)"):
        adamod_step(state, (jnp.zeros(()), grads))
    assert adamod_step(state, grads).learning_rate() == 0.1
