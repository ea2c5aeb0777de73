"""One step: what it may touch, what its results are, and every way to say the rates."""

from __future__ import annotations

import dataclasses
import math
import sys
from typing import Any

import numpy as np
import pytest

from adamod_array import (
    Adam,
    AdaMod,
    Method,
    Momentum,
    RAdam,
    State,
    adam_init,
    adam_step,
    adamod_init,
    adamod_step,
    engine,
    init,
    momentum_init,
    momentum_step,
    schedules,
    step,
)
from tests.backend import Backend
from tests.compare import assert_close
from tests.trees import METHODS, assert_same, bits, leaves, tree, values

methods = pytest.mark.parametrize("method", METHODS.values(), ids=METHODS)

SLOT_DTYPE = {"float16": "float32", "bfloat16": "float32"}
REAL = {"complex64": "float32", "complex128": "float64"}


def arrays(*trees: Any) -> list[Any]:
    """All arrays of some trees."""
    return [x for x in leaves(list(trees)) if x is not None]


def named(x: Any) -> str:
    """``float32``, whichever framework's."""
    return str(getattr(x.dtype, "name", x.dtype)).rpartition(".")[2]


# inputs and outputs


@methods
def test_inputs_are_never_written(backend: Backend, method: Method) -> None:
    state = init(method, tree(backend), weight_decay=0.1)
    for seed in (3, 4):
        grads = tree(backend, seed=seed)
        if backend.name == "numpy":
            for x in arrays(state.params, state.slots, grads):
                x.setflags(write=False)
        before = bits(backend, (state, grads))
        new = step(state, grads)
        assert bits(backend, (state, grads)) == before
        assert bits(backend, new.params) != bits(backend, state.params)
        state = new
    assert state.step == 2
    assert type(state.step) is int


@methods
def test_results_are_like_what_they_replace(backend: Backend, method: Method) -> None:
    dtypes = backend.table["dtypes"]
    params = {d: backend.array(values(2, 3), d) for d in dtypes}
    state = init(method, params, weight_decay=0.1)
    new = step(state, params)
    for old, result in zip(arrays(state.params, state.slots), arrays(new.params, new.slots), strict=True):
        assert type(result) is type(old)
        assert result.dtype == old.dtype
        assert result.shape == old.shape
        assert getattr(result, "device", None) == getattr(old, "device", None)
    for dtype in dtypes:
        assert named(new.params[dtype]) == dtype
        for name, slot in new.slots.items():
            expected = dtype if name in ("m", "g_last") else REAL.get(dtype, dtype)
            assert named(slot[dtype]) == SLOT_DTYPE.get(expected, expected)


@methods
def test_no_dimensions_and_no_elements(backend: Backend, method: Method) -> None:
    """A number alone is stepped like a number in a row; nothing is stepped to nothing."""
    x, g = values(1), values(1, seed=1)
    empty = [backend.array(np.ones(shape)) for shape in [(0,), (3, 0), (0, 3)]]
    params = {"row": backend.array(x), "number": backend.array(x[0]), "empty": empty}
    new = step(init(method, params), {"row": backend.array(g), "number": backend.array(g[0]), "empty": empty}).params
    assert new["number"].shape == ()
    assert type(new["number"]) is type(params["number"])
    assert_close(backend.numpy(new["number"]), backend.numpy(new["row"])[0])
    assert [tuple(each.shape) for each in new["empty"]] == [(0,), (3, 0), (0, 3)]


@pytest.mark.parametrize("method", [AdaMod(), Adam(amsgrad=True), RAdam()], ids=["adamod", "adam", "radam"])
def test_leaves_of_different_dtypes(backend: Backend, method: Method) -> None:
    dtypes = backend.table["dtypes"]
    params = {d: backend.array(values(3, seed=i), d) for i, d in enumerate(dtypes)}
    grads = {d: backend.array(values(3, seed=i + 9), d) for i, d in enumerate(dtypes)}
    state = init(method, params, weight_decay=0.1)
    for _ in range(2):
        state = step(state, grads)
    for dtype in dtypes:
        alone = init(method, params[dtype], weight_decay=0.1)
        for _ in range(2):
            alone = step(alone, grads[dtype])
        assert_same(backend, state.params[dtype], alone.params)


# gradients


def test_no_gradient_no_change(backend: Backend) -> None:
    state = adamod_init(tree(backend), weight_decay=0.5)
    state = adamod_step(state, tree(backend))
    new = adamod_step(state, {"layers": [{"w": None}, {"w": tree(backend)["layers"][1]["w"]}], "b": None})
    trees = [[each.params, *each.slots.values()] for each in (state, new)]
    for old_tree, new_tree in zip(*trees, strict=True):
        assert new_tree["b"] is old_tree["b"]
        assert new_tree["layers"][0]["w"] is old_tree["layers"][0]["w"]
        assert new_tree["layers"][1]["w"] is not old_tree["layers"][1]["w"]
    full = adamod_step(state, tree(backend))
    assert_same(backend, new.params["layers"][1], full.params["layers"][1])
    nothing = adamod_step(new, {"layers": [{"w": None}, {"w": None}], "b": None})
    assert nothing.step == 3  # the step counts all the same
    assert all(a is b for a, b in zip(arrays(nothing.params), arrays(new.params), strict=True))


@pytest.mark.parametrize(
    ("param", "grad"),
    [
        ("float16", "float32"),
        ("bfloat16", "float32"),
        ("float32", "float16"),
        ("float32", "float64"),
        ("float64", "float32"),
    ],
)
def test_gradients_in_another_precision(backend: Backend, param: str, grad: str) -> None:
    """A gradient is rounded once, to the dtype that the parameter is computed in; a wider one is not cut to 16 bits."""
    if not {param, grad} <= set(backend.table["dtypes"]):
        pytest.skip("the backend lacks a dtype")
    g = np.asarray([1 / 3, -2 / 3, 1e-3, 700.1])
    g = backend.numpy(backend.array(g, grad))
    compute = SLOT_DTYPE.get(param, param)
    p = backend.array(values(4), param)
    state = adamod_step(adamod_init(p), backend.array(g, grad))
    same = adamod_step(adamod_init(p), backend.array(g, compute))
    assert_same(backend, state, same)
    wide = adamod_step(adamod_init(backend.array(values(4), compute)), backend.array(g, compute))
    assert_same(backend, state.slots, wide.slots)


@pytest.mark.parametrize("param", ["complex64", "complex128"])
def test_a_real_gradient_of_a_complex_parameter(backend: Backend, param: str) -> None:
    p, g = backend.array(values(4) + 1j * values(4, seed=1), param), values(4, seed=2)
    state = adamod_step(adamod_init(p), backend.array(g, REAL[param]))
    assert_same(backend, state, adamod_step(adamod_init(p), backend.array(g, param)))


@methods
def test_zero_gradients_move_nothing(backend: Backend, method: Method) -> None:
    """eps is 0 in float16 and beta2 is 1 in bfloat16: a rule computed there gives NaN, or stands still for good."""
    dtypes = [d for d in backend.table["dtypes"] if "complex" not in d]
    start = {d: backend.array(values(4), d) for d in dtypes}
    zero = {d: backend.array(np.zeros(4), d) for d in dtypes}
    one = {d: backend.array(np.ones(4), d) for d in dtypes}
    state = init(method, start)
    for _ in range(6):
        state = step(state, zero)
    assert_same(backend, state.params, start)
    moved = step(state, one, lr=1000.0).params
    for d in dtypes:
        for slot in state.slots.values():
            assert np.isfinite(backend.numpy(slot[d])).all()
        host = backend.numpy(moved[d]).astype(np.float64)
        assert np.isfinite(host).all()
        assert (host < values(4)).any()


# methods


@pytest.mark.parametrize("hold_idle", [True, False])
def test_a_coordinate_that_wakes(backend: Backend, hold_idle: bool) -> None:
    """After 50 zero gradients the paper's bound is off, whereas a held s starts from 0 like everybody's."""
    lr, g, beta1, beta2, beta3, t = 2.0**-4, 0.5, 0.9, 0.999, 0.999, 51
    zero, grads = backend.array([0.0]), backend.array([g])
    state = adamod_init(zero, lr=lr, hold_idle=hold_idle)
    for _ in range(t - 1):
        state = adamod_step(state, zero)
    state = adamod_step(state, grads)
    m_hat = (1 - beta1) * g / (1 - beta1**t)
    eta = lr / (np.sqrt((1 - beta2) * g**2 / (1 - beta2**t)) + 1e-8)
    eta_hat = (1 - beta3) * eta if hold_idle else eta
    # 10 operations, each within half a unit or (PyTorch's root and quotient) one
    assert_close(backend.numpy(state.params), [-eta_hat * m_hat], ulp=10)
    s = backend.numpy(state.slots["s"])
    if hold_idle:
        assert_close(s, [(1 - beta3) * eta], ulp=8)
    else:
        assert float(s[0]) > 1e4 * eta  # beyond any use


def test_idle_coordinates_hold_nobody_else(backend: Backend) -> None:
    """hold_idle is the paper's form wherever a gradient has been seen."""
    ulp = 2 if backend.engine == "jit" else 0  # XLA contracts multiply-adds, not the same ones in two programs
    paper, held = (adamod_init(backend.array(values(4)), hold_idle=hold) for hold in (False, True))
    for seed in range(3):
        g = backend.array(values(4, seed=seed) if seed != 1 else np.zeros(4))  # a later zero is no idleness
        paper, held = adamod_step(paper, g), adamod_step(held, g)
    assert_same(backend, held.params, paper.params, ulp=ulp)
    assert_same(backend, held.slots, paper.slots, ulp=ulp)


def test_without_memory_adamod_is_adam(backend: Backend, real_dtype: str) -> None:
    a = init(AdaMod(beta3=0.0), backend.array(values(40), real_dtype), lr=0.25, weight_decay=0.125)
    b = init(Adam(), backend.array(values(40), real_dtype), lr=0.25, weight_decay=0.125)
    for seed in range(4):
        g = backend.array(values(40, seed=seed), real_dtype)
        a, b = step(a, g), step(b, g)
        assert_same(backend, a.params, b.params)
    assert_same(backend, a.slots["v"], b.slots["v"])


@pytest.mark.parametrize(("len_memory", "beta3"), [(1, 0.0), (2, 0.5), (10_000, 0.9999), (1000.0, 0.999)])
def test_len_memory(backend: Backend, len_memory: float, beta3: float) -> None:
    assert adamod_init(backend.array([1.0]), len_memory=len_memory).method == AdaMod(beta3=beta3)


# rates

SHORT = float(np.float32(1e-3))
"""A learning rate that float32 holds exactly, so that every way to give it is the same number."""


def test_every_kind_of_number(backend: Backend) -> None:
    """The same bits and the same dtypes, whatever the dtypes of the parameters."""
    p, g = ({d: backend.array(values(8, seed=seed), d) for d in backend.table["dtypes"]} for seed in (0, 1))
    state = adamod_init(p, lr=0.5)
    expected = adamod_step(adamod_init(p, lr=SHORT), g)
    rates: list[Any] = [SHORT, np.float64(SHORT), np.float32(SHORT), np.asarray(SHORT), np.asarray(SHORT, np.float32)]
    for lr in [*rates, backend.array(SHORT, "float32"), backend.array(SHORT, "float64")]:
        for result in (adamod_step(state, g, lr=lr), adamod_step(adamod_init(p, lr=lr), g)):
            assert_same(backend, result.params, expected.params)
            assert_same(backend, result.slots, expected.slots)
    decayed = adamod_step(adamod_init(p, lr=SHORT, weight_decay=0.5), g)
    kinds: list[Any] = [np.float64, np.float32, np.asarray, lambda x: backend.array(x, "float64")]
    for kind in kinds:
        result = adamod_step(adamod_init(p, lr=kind(SHORT), weight_decay=kind(0.5)), g)
        assert_same(backend, result.params, decayed.params)


def test_an_integer_rate_and_a_zero_rate(backend: Backend) -> None:
    p, g = backend.array(values(4)), backend.array(values(4, seed=1))
    assert_same(backend, adam_step(adam_init(p, lr=1), g), adam_step(adam_init(p, lr=1.0), g))
    assert_same(backend, adam_step(adam_init(p, lr=0), g).params, p)


def test_hyperparameters_of_numpy_promote_nothing(backend: Backend) -> None:
    p, g = backend.array(values(4)), backend.array(values(4, seed=1))
    method = AdaMod(beta1=np.float64(0.9), beta2=np.float64(0.999), eps=np.float64(1e-8))
    assert method == AdaMod()
    assert_same(backend, step(init(method, p), g), step(init(AdaMod(), p), g))


@pytest.mark.filterwarnings("ignore:(overflow|invalid value) encountered:RuntimeWarning:dask._task_spec")  # later
@pytest.mark.parametrize("donate", [False, True])
def test_what_float32_cannot_hold_is_infinite_or_nothing(backend: Backend, donate: bool) -> None:
    """Silently, whatever the caller wants to hear of NumPy."""
    for how in engines_of(backend):
        with engine(how), np.errstate(all="raise"):
            state = momentum_init({"w": backend.array(values(3)), "wide": backend.array(values(3), "float64")})
            state = momentum_step(state, {**state.params}, lr=1e39, donate=donate)
        assert np.isinf(backend.numpy(state.params["w"])).all()
        assert np.isfinite(backend.numpy(state.params["wide"])).all()
        with engine(how), np.errstate(all="raise"):
            state = adam_init(backend.array(values(3)))
            for g in (1e30, 1e-30, math.inf, -math.inf):  # its square is infinite, or nothing; then inf - inf
                state = adam_step(state, backend.array([1.0, g, g]), donate=donate)
        assert np.isfinite(backend.numpy(state.params)).tolist() == [True, False, False]


def test_a_schedule(backend: Backend) -> None:
    lr = 1e-2 * schedules.untuned_linear(0.999) * schedules.cosine_decay(10)
    scheduled, told = adamod_init(tree(backend), lr=lr), adamod_init(tree(backend), lr=7.0)
    for t in (1, 2, 3):
        grads = tree(backend, seed=t)
        scheduled, told = adamod_step(scheduled, grads), adamod_step(told, grads, lr=lr(t))
        assert_same(backend, scheduled.params, told.params)
    assert (scheduled.lr, told.lr) == (lr, 7.0)  # an override is for one step


def test_a_schedule_may_be_any_callable(backend: Backend) -> None:
    asked: list[Any] = []

    def lr(t: Any) -> float:
        asked.append(t)
        return 0.5 / float(t)

    state = momentum_init(backend.array([0.0]), lr=lr, beta=0.0)
    for _ in range(3):
        state = momentum_step(state, backend.array([1.0]))
    assert asked == [1, 2, 3]
    assert_close(backend.numpy(state.params), np.asarray([-0.75 - np.float32(0.5 / 3)], np.float32))


def alone(backend: Backend, path: tuple[Any, ...], lr: Any, weight_decay: float = 0.0) -> State:
    """One leaf of the tree, stepped on its own."""
    p, g = tree(backend), tree(backend, seed=5)
    for key in path:
        p, g = p[key], g[key]
    return adamod_step(adamod_init(p, lr=lr, weight_decay=weight_decay), g)


def test_rates_of_a_tree_prefix(backend: Backend) -> None:
    prefix = {"layers": [{"w": 0.25}, schedules.constant(0.125)], "b": np.float32(0.5)}
    grads = tree(backend, seed=5)
    given = adamod_step(adamod_init(tree(backend), lr=prefix), grads)
    for state in (given, adamod_step(adamod_init(tree(backend)), grads, lr=prefix)):
        assert_same(backend, state.params["layers"][0]["w"], alone(backend, ("layers", 0, "w"), 0.25).params)
        assert_same(backend, state.params["layers"][1]["w"], alone(backend, ("layers", 1, "w"), 0.125).params)
        assert_same(backend, state.params["b"], alone(backend, ("b",), 0.5).params)
    coarse = adamod_step(adamod_init(tree(backend), lr={"layers": 0.25, "b": 0.5}), grads)
    assert_same(backend, coarse.params["layers"][0]["w"], alone(backend, ("layers", 0, "w"), 0.25).params)
    assert_same(backend, coarse.params["layers"][1]["w"], alone(backend, ("layers", 1, "w"), 0.25).params)


def test_weight_decay_of_a_tree_prefix(backend: Backend) -> None:
    state = adamod_init(tree(backend), lr=0.25, weight_decay={"layers": [0.5, 0.0], "b": 0})
    state = adamod_step(state, tree(backend, seed=5))
    assert_same(backend, state.params["layers"][0]["w"], alone(backend, ("layers", 0, "w"), 0.25, 0.5).params)
    assert_same(backend, state.params["layers"][1]["w"], alone(backend, ("layers", 1, "w"), 0.25).params)
    assert_same(backend, state.params["b"], alone(backend, ("b",), 0.25).params)


@pytest.mark.slow("dask")
@pytest.mark.parametrize("donate", [False, True])
def test_weight_decay_of_one_step(backend: Backend, donate: bool) -> None:
    """It overrides the state's, like lr, for this step alone; in every form."""
    trees: list[tuple[Any, Any]] = [(0.5, 0.5), (0.0, 0.0), (np.float32(0.5), 0.5), (np.asarray(0.5), 0.5)]
    trees += [(backend.array(0.5), 0.5), ({"layers": [0.5, 0.0], "b": 0.125}, {"layers": [0.5, 0.0], "b": 0.125})]
    for own, kept in trees:
        for before in (0.0, 0.25):
            state = adamod_init(tree(backend), lr=0.25, weight_decay=before)
            expected = adamod_init(tree(backend), lr=0.25, weight_decay=kept)
            for seed in range(3):
                state = adamod_step(state, tree(backend, seed=seed), weight_decay=own, donate=donate)
                expected = adamod_step(expected, tree(backend, seed=seed))
            assert_same(backend, state.params, expected.params)
            assert state.weight_decay == before
            after = adamod_step(expected.replace(weight_decay=before), tree(backend, seed=5))
            assert_same(backend, adamod_step(state, tree(backend, seed=5)), after)


@pytest.mark.only("jax", "torch")
def test_a_traced_weight_decay(backend: Backend) -> None:
    """Inside a user's program, which is compiled once for all values."""
    if backend.name == "jax":
        train = sys.modules["jax"].jit(lambda s, g, d: adamod_step(s, g, weight_decay=d))
    else:
        train = sys.modules["torch"].compile(
            lambda s, g, d: adamod_step(s, g, weight_decay=d), fullgraph=True, backend="eager"
        )
    state = inside = adamod_init(tree(backend), lr=0.25)
    for seed, decay in enumerate((0.5, 0.25, 0.125, 1.0)):
        state = adamod_step(state, tree(backend, seed=seed), weight_decay=decay)
        inside = train(inside, tree(backend, seed=seed), backend.array(decay))
        assert_same(backend, inside.params, state.params, ulp=0 if backend.name == "jax" else 4)  # PyTorch's own root
    assert backend.name == "torch" or train._cache_size() == 2  # of a count that is Python's, and of one that is JAX's


def test_a_weight_decay_of_16_bits(backend: Backend) -> None:
    """One minus something small is not one: the factor is computed in 32 bits or more."""
    zeros = backend.array(np.zeros(4))
    for dtype in ("float16", "bfloat16"):
        if dtype in backend.table["dtypes"]:
            state = momentum_init(backend.array(np.ones(4)), lr=0.125)
            decayed = momentum_step(state, zeros, weight_decay=backend.array(2.0**-8, dtype))
            assert_close(backend.numpy(decayed.params), np.full(4, 1 - 2.0**-11, np.float32))
            state = momentum_init(backend.array(np.ones(4)), weight_decay=2.0**-8)
            decayed = momentum_step(state, zeros, lr=backend.array(0.125, dtype))
            assert_close(backend.numpy(decayed.params), np.full(4, 1 - 2.0**-11, np.float32))


def test_what_no_weight_decay_of_a_step_is(backend: Backend) -> None:
    state, grads = adamod_init(tree(backend), lr=0.25), tree(backend)
    for wrong, error, message in (
        (-0.5, ValueError, "weight_decay must not be negative"),
        (float("nan"), ValueError, "weight_decay must be finite"),
        ("0.5", TypeError, "weight_decay must be a number"),
        (schedules.constant(0.5), TypeError, "weight_decay must be a number, .* it follows the schedule of lr"),
        ({"layers": 0.5}, ValueError, "weight_decay is neither one value nor a tree prefix"),
        ({"layers": [0.5, -1.0], "b": 0.5}, ValueError, r"weight_decay\['layers'\]\[1\].* must not be negative"),
    ):
        with pytest.raises(error, match=message):
            step(state, grads, weight_decay=wrong)


@methods
def test_weight_decay_shrinks_and_stays_out_of_the_slots(backend: Backend, method: Method) -> None:
    """Decoupled: theta times 1 - lr*lambda, then the step; powers of two, so that the product is exact."""
    x, g = values(8), backend.array(values(8, seed=1))
    decayed = step(init(method, backend.array(x), lr=0.25, weight_decay=2.0), g)
    shrunk = step(init(method, backend.array(0.5 * x), lr=0.25), g)
    assert_same(backend, decayed.params, shrunk.params)
    assert_same(backend, decayed.slots, shrunk.slots)


def test_weight_decay_follows_the_schedule(backend: Backend) -> None:
    x = backend.array(values(8))
    zero = backend.array(np.zeros(8))
    state = momentum_step(momentum_init(x, lr=schedules.constant(0.5), weight_decay=0.5), zero)
    assert_close(backend.numpy(state.params), np.float32(0.75 * values(8)))
    state = momentum_step(momentum_init(x, lr=0.5, weight_decay=0.5), zero, lr=1.0)
    assert_close(backend.numpy(state.params), np.float32(0.5 * values(8)))


def engines_of(backend: Backend) -> list[str]:
    """The engine under test, and the one of PyTorch's that has no run of its own."""
    return [backend.engine, *(["foreach"] if backend.name == "torch" else [])]


@pytest.mark.parametrize("donate", [False, True])
def test_rates_and_methods_may_change_between_any_steps(backend: Backend, donate: bool) -> None:
    """What an engine remembers of a tree holds for its rates and hyperparameters alone."""
    some, other = {"layers": [0.25, 0.5], "b": 0.5}, {"layers": 0.5, "b": 0.25}
    changes: list[tuple[dict[str, Any], Any]] = [
        ({}, None),
        ({}, some),
        ({}, other),
        ({"weight_decay": 0.5}, other),
        ({"weight_decay": some}, None),
        ({"weight_decay": other}, None),
        ({"weight_decay": 0.0}, None),
        ({"method": Momentum(beta=0.5)}, None),
    ]
    for how in engines_of(backend):
        with engine(how):
            state, by_rule = (momentum_init(tree(backend), 0.125) for _ in range(2))
            for change, lr in changes:
                state = state.replace(**change)
                assert state.method == change.get("method", state.method)
                fields = state.method, state.lr, state.weight_decay
                by_rule = State(by_rule.params, by_rule.slots, by_rule.step, *fields)
                for seed in range(3):  # the engine remembers from step to step what it saw
                    state = step(state, tree(backend, seed=seed), lr=lr, donate=donate)
                    with engine("eager"):
                        by_rule = step(by_rule, tree(backend, seed=seed), lr=lr)
                assert_same(backend, state.params, by_rule.params)


@pytest.mark.parametrize("donate", [False, True])
def test_other_leaves_may_lack_a_gradient_at_any_step(backend: Backend, donate: bool) -> None:
    """What was remembered of some leaves is not used for others."""
    shapes = {"a": (3,), "b": (4, 2), "c": (3,)}
    for how in engines_of(backend):
        with engine(how):
            state, by_rule = (
                momentum_init({k: backend.array(values(*n)) for k, n in shapes.items()}) for _ in range(2)
            )
            for seed, there in enumerate(["a", "b", "abc", "abc", "ab", "bc", "abc", "", "c", "abc"]):
                grads = {k: backend.array(values(*n, seed=seed)) if k in there else None for k, n in shapes.items()}
                state = step(state, grads, donate=donate)
                with engine("eager"):
                    by_rule = step(by_rule, grads)
                assert_same(backend, state, by_rule)


def test_a_state_may_be_stepped_twice(backend: Backend) -> None:
    state, grads = adamod_init(tree(backend)), tree(backend, seed=1)
    assert_same(backend, adamod_step(state, grads), adamod_step(state, grads))
    assert state.step == 0


def test_steps_taken_can_be_set(backend: Backend) -> None:
    """A count restored from elsewhere goes into the coefficients."""
    p, g = backend.array([0.0]), backend.array([1.0])
    late = adam_step(dataclasses.replace(adam_init(p, lr=1.0, eps=0.0), step=10**6), g)
    assert late.step == 10**6 + 1
    # m_hat = 0.1, v_hat = 0.001
    assert_close(backend.numpy(late.params), [-0.1 / np.sqrt(1e-3)], ulp=5)
