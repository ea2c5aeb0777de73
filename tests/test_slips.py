"""What other implementations get wrong, each seen in one of them, and what their users ask for: not here.

Every test is named after the slip; its docstring says whose.
"""

from __future__ import annotations

import copy
import dataclasses
import pickle
from typing import Any

import mpmath
import numpy as np
import optree
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
    global_norm,
    init,
    radam_init,
    radam_step,
    schedules,
    step,
)
from tests.backend import Backend, numpy_dtype
from tests.compare import assert_close

pytestmark = pytest.mark.slow("jax")  # which compiles each method anew

mpf = mpmath.mpf
METHODS = [
    Adam(),
    Adam(amsgrad=True),
    AdaMod(),
    AdaMod(variant="reference"),
    RAdam(),
    RAdam(variant="reference"),
    Momentum(),
]


def among(backend: Backend, *names: str) -> list[str]:
    """Those of these dtypes that the backend has."""
    return [name for name in names if name in backend.table["dtypes"]]


def mapped(f: Any, state: Any) -> Any:
    """The state with every array in it replaced."""
    return optree.tree_map(lambda x: x if isinstance(x, int) else f(x), state)


def repeated(state: State, grads: Any, steps: int) -> State:
    """Steps with one gradient; Dask's graph is computed now and then, or it grows without end."""
    for t in range(1, steps + 1):
        state = step(state, grads)
        if t % 10 == 0:
            state = mapped(lambda x: x.persist() if hasattr(x, "persist") else x, state)
    return state


def constant_gradient_step(backend: Backend, method: Method, t: int) -> float:
    """How far step t moves a parameter whose gradients are all 1, in float64."""
    g = backend.array([1.0], "float64")
    before = repeated(init(method, backend.array([0.0], "float64"), lr=1.0), g, t - 1)
    after = step(before, g)
    return float((backend.numpy(before.params) - backend.numpy(after.params))[0])


@pytest.mark.parametrize(("t", "ratio"), [(1, 1.0), (10, 2.16), (100, 1.26)])
def test_adamod_is_two_algorithms_and_both_are_named(backend: Backend, t: int, ratio: float) -> None:
    """Nobody documents that the authors' AdaMod, which averages alpha_t sqrt(c2)/c1, is not the paper's.

    With a constant gradient 1 the rates eta are 1 in the paper and 1/(1 - beta1^t) in the code, so
    the bounds s, and the steps s * m_hat, differ by a weighted mean of those.
    """
    beta1, beta3 = mpf(0.9), mpf(0.999)
    weights = [beta3 ** (t - k) for k in range(1, t + 1)]
    corrected = [w / (1 - beta1**k) for k, w in enumerate(weights, start=1)]
    exact = sum(corrected) * (1 - beta1**t) / sum(weights)
    assert abs(exact - ratio) < 0.01
    paper = constant_gradient_step(backend, AdaMod(eps=0), t)
    reference = constant_gradient_step(backend, AdaMod(eps=0, variant="reference"), t)
    # differences of parameters of size t/100, at t = 100 some 20 ulp of a step of 0.1
    assert_close(np.float64(reference / paper), np.float64(float(exact)), ulp=8 * t + 40)


@pytest.mark.slow("dask")
def test_fifty_idle_steps_switch_the_bound_of_adamod_off(backend: Backend) -> None:
    """AdaMod everywhere: zero gradients push s to lr/eps, and a coordinate that wakes is unbounded for long.

    The paper's form does so here too, since it is the paper's; with ``hold_idle``, s waits and bounds
    the first steps as if there had been no idle ones.
    """
    beta3, lr, idle = 0.5, 1e-3, 50
    zero, one = backend.array([0.0], "float64"), backend.array([1.0], "float64")
    paper = repeated(adamod_init(one, lr, beta3=beta3), zero, idle)
    held = repeated(adamod_init(one, lr, beta3=beta3, hold_idle=True), zero, idle)
    adam = repeated(adam_init(one, lr), zero, idle)

    def bound(state: State) -> float:
        return float(backend.numpy(state.slots["s"])[0])

    assert_close(np.float64(bound(paper)), np.float64(lr / 1e-8 * (1 - beta3**idle)), ulp=60)
    assert bound(held) == 0
    paper, held, adam = step(paper, one), step(held, one), step(adam, one)
    moved_paper, moved_held, moved_adam = (1 - backend.numpy(state.params) for state in (paper, held, adam))
    # of differences between numbers of size 1
    assert_close(moved_paper, moved_adam, atol=4e-16)
    assert_close(moved_held, (1 - beta3) * moved_adam, atol=4e-16)
    after = round(10 / (1 - beta3))
    paper, held = repeated(paper, one, after), repeated(held, one, after)
    assert bound(paper) > 10 * lr  # Adam's own rate is below that all the time
    assert bound(held) < 10 * lr
    assert bound(repeated(paper, one, after)) < 10 * lr


@pytest.mark.parametrize("method", [*METHODS, AdaMod(hold_idle=True), RAdam(below="skip")], ids=repr)
def test_zero_gradients_in_sixteen_bits_give_no_nan(backend: Backend, method: Method) -> None:
    """float16 in optax and torch's loop Adam: eps underflows, 0/0. In AdaMod: inf * 0 once s overflows."""
    values = np.asarray([1.0, -0.5, 0.0])
    for dtype in among(backend, "float16", "bfloat16", "float32"):
        state = repeated(init(method, backend.array(values, dtype), lr=0.1), backend.array(np.zeros(3), dtype), 12)
        assert_close(backend.numpy(state.params), values.astype(numpy_dtype(dtype)))
        for slot in state.slots.values():
            assert np.isfinite(backend.numpy(slot)).all()


@pytest.mark.parametrize("method", METHODS, ids=repr)
def test_sixteen_bit_parameters_move_as_float32_ones_do(backend: Backend, method: Method) -> None:
    """bfloat16 in keras: beta2 = 0.999 rounds to 1 and nothing moves."""
    values, gradient = [1.0, -0.5], [0.25, -2.0]
    wide = step(init(method, backend.array(values), lr=0.25), backend.array(gradient))
    expected = backend.numpy(wide.params)
    assert (expected != np.asarray(values, np.float32)).all()
    for dtype in among(backend, "float16", "bfloat16"):
        narrow = step(init(method, backend.array(values, dtype), lr=0.25), backend.array(gradient, dtype))
        assert_close(backend.numpy(narrow.params), expected.astype(numpy_dtype(dtype)))
        for name, slot in narrow.slots.items():
            assert_close(backend.numpy(slot), backend.numpy(wide.slots[name]))


def test_slots_are_float32_where_parameters_have_sixteen_bits(backend: Backend, real_dtype: str) -> None:
    """optax keeps nu in the parameters' dtype (optax #1552); torch's load_state_dict casts float32 state down."""
    expected = "float64" if real_dtype == "float64" else "float32"
    p = backend.array([1.0, 2.0], real_dtype)
    state = adamod_step(adamod_init(p), p)
    for each in (state, copy.deepcopy(state), pickle.loads(pickle.dumps(state))):
        assert {backend.numpy(slot).dtype.name for slot in each.slots.values()} == {expected}
        assert {backend.numpy(slot).dtype.name for slot in step(each, p).slots.values()} == {expected}


@pytest.mark.parametrize("t", range(1, 8))
def test_radam_takes_the_right_branch_in_float32(backend: Backend, t: int) -> None:
    """optax's, and torch's under torch.compile: rho_t cancels; at beta2 = 0.9999 steps 2, 4 and 5 go wrong, 112x."""
    with mpmath.workdps(50):
        beta2 = mpf(0.9999)
        rho_inf = 2 / (1 - beta2) - 1
        rho = rho_inf - 2 * t * beta2**t / (1 - beta2**t)
        ratio = (rho - 4) * (rho - 2) * rho_inf / ((rho_inf - 4) * (rho_inf - 2) * rho)
        factor = float(mpmath.sqrt(ratio)) if rho > 4 else 1.0
    g = backend.array([1.0])
    before = repeated(radam_init(backend.array([0.0]), lr=1.0, beta2=0.9999, eps=0.0), g, t - 1)
    before = State(backend.array([0.0]), before.slots, before.step, before.method, before.lr)
    moved = -backend.numpy(radam_step(before, g).params)
    assert_close(moved, np.asarray([factor], np.float32), ulp=6)


@pytest.mark.only("jax")
def test_radam_takes_the_right_branch_in_float32_inside_jit() -> None:
    """The same, where the coefficients are computed by XLA in float32."""
    jax = pytest.importorskip("jax")
    with jax.enable_x64(False):
        state = radam_init(jax.numpy.zeros(1), lr=1.0, beta1=0.0, beta2=0.9999)
        moves, take = [], jax.jit(radam_step)
        for _ in range(7):
            before, state = state.params, take(state, jax.numpy.ones(1))
            moves.append(float((before - state.params)[0]))
    assert moves[:4] == [1, 1, 1, 1]
    exact = [schedules.radam_warmup(0.9999)(t) for t in (5, 6, 7)]
    # parameters of size 4 hide what is below 5e-7
    assert_close(np.asarray(moves[4:]), np.asarray(exact), atol=1e-6)


@pytest.mark.parametrize("beta2", [0.9, 0.99, 0.999, 0.9999])
def test_the_period_of_an_untuned_warmup_is_not_truncated(beta2: float) -> None:
    """pytorch_warmup takes int(2/(1 - beta2)): 1999 for 0.999, and 19 for 0.9."""
    warmup = schedules.untuned_linear(beta2)
    period = round(2 / (1 - beta2))
    assert_close(np.float64(warmup(period - 1)), np.float64(1 - 1 / period), atol=1e-12)


def test_a_loaded_state_is_not_dampened_twice(backend: Backend) -> None:
    """pytorch_warmup, built anew after loading a state, multiplies the rate once more."""
    g = backend.array([1.0, -2.0])
    state = repeated(adamod_init(g, lr=1e-2 * schedules.untuned_linear(0.9)), g, 5)
    loaded = pickle.loads(pickle.dumps(state))
    assert loaded.lr(loaded.step) == state.lr(state.step) == 1e-2 * schedules.untuned_linear(0.9)(5)
    assert_close(backend.numpy(repeated(loaded, g, 5).params), backend.numpy(repeated(state, g, 5).params))


@pytest.mark.parametrize("method", METHODS, ids=repr)
def test_weight_decay_is_never_dropped(backend: Backend, method: Method) -> None:
    """kozistr's RAdam drops it silently in some of its branches."""
    lr, decay = 0.5, 0.25
    zero = backend.array([0.0, 0.0], "float64")
    state = repeated(init(method, backend.array([1.0, -3.0], "float64"), lr, weight_decay=decay), zero, 8)
    assert_close(backend.numpy(state.params), np.asarray([1.0, -3.0]) * (1 - lr * decay) ** 8)  # exact: 7/8 to the 8th


@pytest.mark.parametrize("donate", [False, True])
@pytest.mark.parametrize("method", METHODS, ids=repr)
def test_the_callers_gradient_is_neither_negated_nor_zeroed(backend: Backend, method: Method, donate: bool) -> None:
    """kozistr's ``maximize`` negates .grad; thinc's RAdam zeroes the gradient that it was given."""
    values = np.asarray([0.5, -2.0, 0.0], np.float32)
    g = backend.array(values)
    state = init(method, backend.array([1.0, 2.0, 3.0]), weight_decay=0.1)
    for _ in range(6):
        state = step(state, g, donate=donate)
    assert_close(backend.numpy(g), values)


@pytest.mark.parametrize("method", METHODS, ids=repr)
def test_each_leaf_has_its_own_rate(backend: Backend, method: Method) -> None:
    """jettify's RAdam: all groups use the first group's lr."""
    rates = {"a": 0.5, "b": 0.125 * schedules.linear_warmup(3), "c": 0.0}
    p = backend.array([1.0, -2.0])
    together = repeated(
        init(method, dict.fromkeys(rates, p), rates, weight_decay={"a": 0.0, "b": 0.5, "c": 0.5}),
        dict.fromkeys(rates, p),
        7,
    )
    for name, decay in (("a", 0.0), ("b", 0.5), ("c", 0.5)):
        alone = repeated(init(method, p, rates[name], weight_decay=decay), p, 7)
        assert_close(backend.numpy(together.params[name]), backend.numpy(alone.params), ulp=2)  # XLA fuses leaf by leaf
    assert_close(backend.numpy(together.params["c"]), backend.numpy(p))


def test_the_first_step_is_t_1(backend: Backend) -> None:
    """thinc's RAdam starts at t = 2: its first m_hat is not g."""
    g = backend.array([0.25, -4.0], "float64")
    zero = backend.array([0.0, 0.0], "float64")
    for method in (RAdam(), Momentum()):  # RAdam's first steps are momentum's: lr * m_hat
        moved = -backend.numpy(step(init(method, zero, lr=0.5), g).params)
        assert_close(moved, np.asarray([0.125, -2.0]), ulp=2)
    moved = -backend.numpy(step(init(Adam(eps=0), zero, lr=0.5), g).params)
    assert_close(moved, np.asarray([0.5, -0.5]), ulp=5)


@pytest.mark.parametrize(
    "method",
    [
        Adam(eps=2**-9, eps_root=2**-9),
        AdaMod(eps=2**-9, beta3=0.5),
        AdaMod(eps=2**-9, beta3=0.5, variant="reference"),
        RAdam(eps=2**-9, eps_root=2**-9, below="skip"),
        RAdam(eps=2**-9, below="skip", variant="reference"),
    ],
    ids=repr,
)
def test_eps_has_the_units_of_a_gradient_and_eps_root_of_its_square(backend: Backend, method: Any) -> None:
    """Papers and libraries put eps outside the root here and inside there, under one name: optax has two."""
    k = 12  # a power of two, which no rounding sees
    options = {"eps": method.eps * 2**k}
    if root := getattr(method, "eps_root", 0):
        options["eps_root"] = root * 4**k
    g, p = np.asarray([0.5, -0.01, 3e-5], np.float32), backend.array(np.zeros(3))
    plain = repeated(init(method, p, lr=0.5), backend.array(g), 8)
    scaled = repeated(init(dataclasses.replace(method, **options), p, lr=0.5), backend.array(np.ldexp(g, k)), 8)
    assert np.all(backend.numpy(plain.params) != 0)
    assert_close(backend.numpy(scaled.params), backend.numpy(plain.params))


def test_float64_is_not_truncated_to_float32(backend: Backend) -> None:
    """The authors' RAdam computes in float32 whatever the parameters are."""
    g, steps = 1 / 3, 10
    state = repeated(
        radam_init(backend.array([0.0], "float64"), lr=1 / 7, beta2=0.99), backend.array([g], "float64"), steps
    )
    with mpmath.workdps(50):
        beta2, total = mpf(0.99), mpf(0)
        rho_inf = 2 / (1 - beta2) - 1
        for t in range(1, steps + 1):  # of a constant gradient m_hat = g and v_hat = g**2
            rho = rho_inf - 2 * t * beta2**t / (1 - beta2**t)
            ratio = (rho - 4) * (rho - 2) * rho_inf / ((rho_inf - 4) * (rho_inf - 2) * rho)
            total -= mpf(1 / 7) * mpf(g) * (mpmath.sqrt(ratio) / (mpf(g) + mpf(1e-8)) if rho > 4 else 1)
        exact = np.longdouble(mpmath.nstr(total, 25))
    assert_close(backend.numpy(state.params), np.asarray([exact]), ulp=3 * steps)


@pytest.mark.parametrize("method", [Adam(), AdaMod(), RAdam(), Momentum()], ids=repr)
def test_the_type_of_lr_changes_neither_result_nor_dtype(backend: Backend, method: Method, dtype: str) -> None:
    """optax #1405: np.float64, np.float32 or a 0-d array for lr promotes the parameters. 0.125 is exact in all."""
    p = backend.array([1.0, -2.0], dtype)
    kinds: list[Any] = [np.float64(0.125), np.float32(0.125), np.asarray(0.125), np.asarray(0.125, np.float32)]
    kinds += [backend.array(0.125, "float64"), backend.array(0.125, "float32")]
    expected = repeated(init(method, p, 0.125, weight_decay=0.5), p, 2)
    for lr in kinds:
        at_init = repeated(init(method, p, lr, weight_decay=np.float64(0.5)), p, 2)
        by_step = init(method, p, weight_decay=0.5)
        for _ in range(2):
            by_step = step(by_step, p, lr=lr)
        for state in (at_init, by_step):
            assert state.params.dtype == p.dtype
            assert_close(backend.numpy(state.params), backend.numpy(expected.params))
            for name, slot in state.slots.items():
                assert slot.dtype == expected.slots[name].dtype


@pytest.mark.only("jax")
def test_a_new_lr_does_not_recompile() -> None:
    """optax #577: a rate that is a static argument, or a Python float in a closure, compiles for every value."""
    jax = pytest.importorskip("jax")
    traces = 0

    @jax.jit
    def train(state: State, grads: Any, lr: Any) -> State:
        nonlocal traces
        traces += 1
        return adamod_step(state, grads, lr=lr)

    state = adamod_init(jax.numpy.ones(3))
    for t in range(1, 30):
        state = train(state, jax.numpy.ones(3), 0.1 / t)
    assert traces == 1


def test_v_of_a_complex_parameter_is_the_squared_modulus(backend: Backend) -> None:
    """pytorch #59998: g**2 of a complex g turns with its phase, and so does the step."""
    g = np.asarray([3 + 4j, -5j, 2 + 0j])
    for dtype in among(backend, "complex64", "complex128"):
        zero = backend.array(np.zeros(3), dtype)
        state = adam_step(adam_init(zero, lr=1.0, eps=0.0, beta2=0.75), backend.array(g, dtype))
        v = backend.numpy(state.slots["v"])
        assert v.dtype.kind == "f"
        assert_close(v, np.asarray([6.25, 6.25, 1.0]), ulp=1)
        assert_close(backend.numpy(state.params), -g / abs(g), ulp=5)


def test_a_state_survives_a_change_of_framework(backend: Backend, dtype: str) -> None:
    """jax #3759, equinox #632: the state is a tree of arrays and an int, so any map over trees moves it."""
    values, gradient = [1.0, -2.0, 0.5], [0.25, 3.0, -1.0]
    g = backend.array(gradient, dtype)
    state = repeated(adamod_init({"w": backend.array(values, dtype)}, 1e-2 * schedules.linear_warmup(4)), {"w": g}, 3)
    host = mapped(backend.numpy, state)
    assert (host.step, host.method, host.lr) == (3, state.method, state.lr)
    there = step(host, {"w": backend.numpy(g)})
    back = step(state, {"w": g})
    assert there.step == back.step == 4
    assert_close(backend.numpy(back.params["w"]), there.params["w"], ulp=2)


def test_the_rate_in_force_can_be_read(backend: Backend) -> None:
    """optax #206: the learning rate that the last step used."""
    g = backend.array([1.0])
    state = repeated(adamod_init(g, lr=1e-2 * schedules.linear_warmup(10) * schedules.cosine_decay(100)), g, 7)
    before = backend.numpy(init(Momentum(beta=0), g).params)
    rate = state.lr(state.step)
    assert rate == 1e-2 * schedules.linear_warmup(10)(7) * schedules.cosine_decay(100)(7)
    moved = before - backend.numpy(step(init(Momentum(beta=0), g, rate), g).params)
    assert_close(moved, before - (before - np.float32(rate)))
    assert adamod_init(g, lr=0.25).lr == 0.25


def test_a_step_with_a_bad_gradient_can_be_known_and_left_out(backend: Backend) -> None:
    """pytorch #67590: whether the step happened. The norm tells before, ``state.step`` after."""
    state = adamod_init([backend.array([1.0, 2.0]), backend.array(3.0)])
    for bad in (np.nan, np.inf):
        grads = [backend.array([1.0, bad]), backend.array(1.0)]
        assert not np.isfinite(backend.numpy(global_norm(grads)))
        state = step(state, [None, None])
    assert state.step == 2  # counted, with nothing moved
    assert_close(backend.numpy(state.params[0]), np.asarray([1.0, 2.0], np.float32))


@pytest.mark.parametrize(
    "warmup", [schedules.linear_warmup(10), schedules.untuned_linear(0.9), schedules.exponential_warmup(10.0)]
)
def test_a_warmup_wastes_no_step(backend: Backend, warmup: schedules.Schedule) -> None:
    """gpt-neox #1373: a warmup that starts at rate 0 throws the first gradient away."""
    state = step(init(Momentum(beta=0), backend.array([0.0]), warmup), backend.array([-1.0]))
    assert_close(backend.numpy(state.params), np.asarray([warmup(1)], np.float32))
    assert warmup(1) > 0.04
