"""Laws of a step that hold to the last bit, over shapes, dtypes, trees, layouts and hyperparameters."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import numpy as np
import optree
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from adamod_array import Adam, AdaMod, Method, Momentum, RAdam, State, init, step
from tests.backend import Backend
from tests.trees import assert_same, values

pytestmark = pytest.mark.slow("jax")  # which compiles each method anew

law = settings(
    max_examples=12,
    deadline=None,
    derandomize=True,  # the same examples in every run: a failure in CI is a failure here
    suppress_health_check=[HealthCheck.function_scoped_fixture],  # a backend is the same for all examples
)

seeds = st.integers(0, 2**16)
shapes = st.sampled_from([(), (1,), (5,), (33,), (0, 2), (4, 3), (2, 3, 4)])
"""A few, for JAX compiles for each; and for each method below, whose hyperparameters are static."""

fractions = st.sampled_from([0.0, 0.9])
methods: st.SearchStrategy[Method] = st.one_of(
    st.builds(Adam, beta1=fractions, amsgrad=st.booleans()),
    st.builds(AdaMod, beta3=fractions, variant=st.sampled_from(["paper", "reference"])),
    st.builds(RAdam, beta2=st.sampled_from([0.9, 0.999]), below=st.sampled_from(["momentum", "skip"])),
    st.builds(Momentum, beta=fractions, nesterov=st.booleans()),
)
trees = st.recursive(
    shapes,
    lambda below: st.one_of(
        st.lists(below, max_size=3),
        st.dictionaries(st.text("abc", min_size=1, max_size=2), below, max_size=3),
        st.tuples(below, below),
    ),
    max_leaves=3,
)


def is_shape(x: Any) -> bool:
    """Whether a node of :data:`trees` stands for an array."""
    return isinstance(x, tuple) and all(isinstance(n, int) for n in x)


def filled(backend: Backend, shapes: Any, dtype: str, seed: int) -> Any:
    """Arrays in place of shapes."""
    count = iter(range(seed, seed + 100))

    def fill(shape: Any) -> Any:
        return backend.array(values(*shape, seed=next(count)), dtype)

    return optree.tree_map(fill, shapes, is_leaf=is_shape)


def taken(method: Method, params: Any, grads: list[Any], **options: Any) -> State:
    """The state after a step with each of these gradients."""
    state = init(method, params, **options)
    for g in grads:
        state = step(state, g)
    return state


@pytest.mark.slow("jax")
@law
@given(method=methods, tree=trees, seed=seeds, data=st.data())
def test_a_tree_is_its_leaves(backend: Backend, method: Method, tree: Any, seed: int, data: st.DataObject) -> None:
    """What else is in the tree changes no bit of a leaf."""
    if is_shape(tree) and tree == ():
        tree = [tree]  # an empty tuple is a shape here, not a container
    dtype = data.draw(st.sampled_from(backend.table["dtypes"]))
    params = filled(backend, tree, dtype, seed)
    grads = [filled(backend, tree, dtype, seed + 100 * k) for k in (1, 2)]
    state = taken(method, params, grads, lr=0.25, weight_decay=0.5)
    leaves = [optree.tree_leaves(x) for x in (params, *grads, state.params)]
    for p, g, h, new in zip(*leaves, strict=True):
        assert_same(backend, new, taken(method, p, [g, h], lr=0.25, weight_decay=0.5).params)
    assert optree.tree_structure(state.params) == optree.tree_structure(params)


@law
@given(method=methods, seed=seeds, data=st.data())
def test_an_element_does_not_know_where_it_is(backend: Backend, method: Method, seed: int, data: st.DataObject) -> None:
    """Permuting the elements permutes the result."""
    n = 37
    order = np.asarray(data.draw(st.permutations(range(n))))
    p, g, h = (values(n, seed=seed + k) for k in range(3))
    plain = taken(method, backend.array(p), [backend.array(g), backend.array(h)])
    mixed = taken(method, backend.array(p[order]), [backend.array(g[order]), backend.array(h[order])])
    assert_same(backend, mixed.params, backend.array(backend.numpy(plain.params)[order]))


@law
@given(method=methods, seed=seeds)
def test_a_shape_is_no_matter(backend: Backend, method: Method, seed: int) -> None:
    """A matrix is stepped like the vector of its elements."""
    p, g = values(4, 6, seed=seed), values(4, 6, seed=seed + 1)
    matrix = taken(method, backend.array(p), [backend.array(g)] * 2)
    vector = taken(method, backend.array(p.ravel()), [backend.array(g.ravel())] * 2)
    assert_same(backend, vector.params, backend.array(backend.numpy(matrix.params).ravel()))


@pytest.mark.only("numpy", "torch", "cupy")
@law
@given(method=methods, seed=seeds, donate=st.booleans(), data=st.data())
def test_a_layout_is_no_matter(backend: Backend, method: Method, seed: int, donate: bool, data: st.DataObject) -> None:
    """Parameter and gradient, each a view with any strides, are stepped like contiguous copies."""
    backwards = backend.name != "torch"

    def view(seed: int) -> tuple[Any, Any]:
        """Three rows of four, cut out of something larger, and the same as an array of its own."""
        steps = [data.draw(st.sampled_from([1, 2, 3, -1, -2] if backwards else [1, 2, 3])) for _ in range(2)]
        swapped = data.draw(st.booleans())
        rows, columns = (4, 3) if swapped else (3, 4)
        cut = tuple(slice(None, None, s) for s in steps)
        whole = values(rows * abs(steps[0]), columns * abs(steps[1]), seed=seed)
        array, host = backend.array(whole)[cut], whole[cut]
        return (array.T, backend.array(host.T.copy())) if swapped else (array, backend.array(host.copy()))

    (p, p_copy), (g, g_copy) = view(seed), view(seed + 1)
    expected = step(init(method, p_copy, lr=0.25), g_copy)
    ulp = 2 if backend.name == "torch" else 0  # its own root of numbers with gaps: see backends/torch.toml
    assert_same(backend, step(init(method, p, lr=0.25), g, donate=donate).params, expected.params, ulp=ulp)


# scaling: powers of two commute with every rounding, so nothing may change

SCALE_FREE: st.SearchStrategy[Method] = st.one_of(
    st.builds(Adam, beta2=fractions, eps=st.just(0.0), amsgrad=st.booleans()),
    st.builds(AdaMod, beta3=fractions, eps=st.just(0.0), variant=st.sampled_from(["paper", "reference"])),
    st.builds(RAdam, beta2=st.sampled_from([0.9, 0.999]), eps=st.just(0.0), below=st.just("skip")),
)


@pytest.mark.slow("dask")
@law
@given(method=SCALE_FREE, k=st.integers(-20, 20), seed=seeds)
def test_the_scale_of_gradients_is_no_matter(backend: Backend, method: Method, k: int, seed: int) -> None:
    """Without eps, gradients times 2**k move the parameters by the same bits (Kingma & Ba 2015, section 2.1)."""
    p = backend.array(values(9, seed=seed))
    g, h = values(9, seed=seed + 1), values(9, seed=seed + 2)
    plain = taken(method, p, [backend.array(g), backend.array(h)] * 3, lr=0.25)
    scaled = taken(method, p, [backend.array(np.ldexp(x, k)) for x in (g, h)] * 3, lr=0.25)
    assert_same(backend, scaled.params, plain.params)


@law
@given(method=methods, k=st.integers(-10, 10), seed=seeds)
def test_the_rate_scales_the_step(backend: Backend, method: Method, k: int, seed: int) -> None:
    """From parameters at zero, 2**k times the rate is 2**k times the way."""
    zero = backend.array(np.zeros(9))
    grads = [backend.array(values(9, seed=seed + i)) for i in range(3)]
    plain = taken(method, zero, grads, lr=0.25)
    scaled = taken(method, zero, grads, lr=0.25 * 2.0**k)
    assert_same(backend, scaled.params, backend.array(np.ldexp(backend.numpy(plain.params), k)))


@law
@given(nesterov=st.booleans(), beta=fractions, k=st.integers(-20, 20), seed=seeds)
def test_momentum_trades_rate_for_gradient(backend: Backend, nesterov: bool, beta: float, k: int, seed: int) -> None:
    """Gradients times 2**k at a rate of 2**-k are the same steps."""
    method = Momentum(beta=beta, nesterov=nesterov)
    p, g = backend.array(values(9, seed=seed)), values(9, seed=seed + 1)
    plain = taken(method, p, [backend.array(g)] * 3, lr=0.25)
    traded = taken(method, p, [backend.array(np.ldexp(g, k))] * 3, lr=math.ldexp(0.25, -k))
    assert_same(backend, traded.params, plain.params)


@law
@given(method=methods, seed=seeds)
def test_signs_are_symmetric(backend: Backend, method: Method, seed: int) -> None:
    """Everything negated is negated."""
    p, g = values(9, seed=seed), values(9, seed=seed + 1)
    plain = taken(method, backend.array(p), [backend.array(g)] * 3, lr=0.25, weight_decay=0.125)
    negated = taken(method, backend.array(-p), [backend.array(-g)] * 3, lr=0.25, weight_decay=0.125)
    assert_same(backend, negated.params, backend.array(-backend.numpy(plain.params)))


@law
@given(method=methods, seed=seeds, at=st.integers(1, 3))
def test_a_run_may_be_cut_anywhere(backend: Backend, method: Method, seed: int, at: int) -> None:
    """A state holds all there is to know: the second half goes on from arrays and a count alone."""
    p, grads = backend.array(values(9, seed=seed)), [backend.array(values(9, seed=seed + i)) for i in range(4)]
    whole = taken(method, p, grads)
    half = taken(method, p, grads[:at])
    rest = dataclasses.replace(init(method, half.params), slots=half.slots, step=half.step)
    for g in grads[at:]:
        rest = step(rest, g)
    assert_same(backend, rest, whole)
