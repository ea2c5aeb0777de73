"""Schedules: the same numbers on an int, an array and a tracer, held to closed forms in 50 digits."""

from __future__ import annotations

import copy
import dataclasses
import math
import pickle
from collections.abc import Callable
from typing import Any, NamedTuple

import mpmath
import numpy as np
import pytest

from adamod_array import Momentum, State, init, schedules, step
from adamod_array.schedules import Schedule
from tests.backend import Backend
from tests.compare import assert_close

mpf = mpmath.mpf
STEPS = [*range(1, 40), *range(98, 103), 333, *range(499, 502), *range(990, 1003), *range(1998, 2003), 10**4, 10**6]
BETA2 = (0.8, 0.9, 0.99, 0.999, 0.9999, 0.99999)


@pytest.fixture(autouse=True)
def fifty_digits() -> Any:
    """The closed forms below lose at most twenty of them to cancellation."""
    with mpmath.workdps(50):
        yield


class Case(NamedTuple):
    """A schedule, its closed form, and what an evaluation in double precision may lose."""

    schedule: Schedule
    exact: Callable[[int], Any]
    ulp: float = 1
    """Of the result: half for each rounded operation that matters."""
    eps: float = 0
    """Absolute, in units of the machine epsilon: half a cosine near 0 is a difference of terms of size 1."""
    growth: Callable[[int], float] = lambda t: 0.0
    """More ulp at step t: the condition number of exp, whose argument is rounded twice itself."""


def _radam(beta2: float) -> Callable[[int], Any]:
    """Equations 6 to 8 of Ma & Yarats, the textbook forms."""

    def omega(t: int) -> Any:
        b = mpf(beta2)
        rho_inf = 2 / (1 - b) - 1
        rho = rho_inf - 2 * t * b**t / (1 - b**t)
        if rho <= 4:
            return mpf(0)
        return mpmath.sqrt((rho - 4) * (rho - 2) * rho_inf / ((rho_inf - 4) * (rho_inf - 2) * rho))

    return omega


def _half_cosine(t: int, steps: int, final: float) -> Any:
    return final + (1 - mpf(final)) * (1 + mpmath.cos(mpmath.pi * min(mpf(1), mpf(t - 1) / steps))) / 2


CASES = {
    "constant": Case(schedules.constant(0.3), lambda t: mpf(0.3), ulp=0),
    "linear_warmup": Case(schedules.linear_warmup(2000), lambda t: min(mpf(1), mpf(t) / 2000)),
    "linear_warmup, fraction": Case(schedules.linear_warmup(7.5), lambda t: min(mpf(1), t / mpf(7.5))),
    "linear_warmup, start": Case(
        schedules.linear_warmup(30, start=0.1), lambda t: min(mpf(1), mpf(0.1) + (1 - mpf(0.1)) * t / 30), ulp=2
    ),
    "untuned_linear": Case(schedules.untuned_linear(0.999), lambda t: min(mpf(1), t * (1 - mpf(0.999)) / 2)),
    "untuned_linear, .99": Case(schedules.untuned_linear(0.99), lambda t: min(mpf(1), t * (1 - mpf(0.99)) / 2)),
    # 1 ulp of expm1, and its argument is rounded once or twice
    "exponential_warmup": Case(schedules.exponential_warmup(333.3), lambda t: -mpmath.expm1(-t / mpf(333.3)), ulp=2),
    "untuned_exponential": Case(schedules.untuned_exponential(), lambda t: -mpmath.expm1(-(1 - mpf(0.999)) * t), ulp=2),
    # rho - 4 loses a digit near t = 5, the sharper the smaller beta2
    **{f"radam_warmup, {b}": Case(schedules.radam_warmup(b), _radam(b), ulp=4) for b in BETA2},
    "linear_decay": Case(schedules.linear_decay(1000), lambda t: 1 - min(mpf(1), mpf(t - 1) / 1000)),
    "linear_decay, final": Case(
        schedules.linear_decay(1000, final=0.1), lambda t: 1 - (1 - mpf(0.1)) * min(mpf(1), mpf(t - 1) / 1000), ulp=2
    ),
    "cosine_decay": Case(schedules.cosine_decay(1000), lambda t: _half_cosine(t, 1000, 0.0), eps=2),
    "cosine_decay, final": Case(schedules.cosine_decay(1000, final=0.1), lambda t: _half_cosine(t, 1000, 0.1), eps=2),
    "exponential_decay": Case(
        schedules.exponential_decay(0.97, steps=100),
        lambda t: mpf(0.97) ** (mpf(t - 1) / 100),
        growth=lambda t: 2 * abs(math.log(0.97)) * t / 100,
    ),
    "inverse_sqrt": Case(schedules.inverse_sqrt(100), lambda t: mpmath.sqrt(mpf(100) / max(t, 100))),
    "step_decay": Case(
        schedules.step_decay((10, 20, 500), factor=0.1), lambda t: mpf(0.1) ** sum(t > n for n in (10, 20, 500))
    ),
}


@pytest.fixture(params=list(CASES.values()), ids=list(CASES))
def case(request: pytest.FixtureRequest) -> Case:
    chosen: Case = request.param
    return chosen


def check(case: Case, actual: Any, steps: list[int], *, more: float = 0) -> None:
    """Every value within the case's bound, and ``more`` ulp for the framework's functions."""
    actual = np.asarray(actual)
    epsilon = float(np.finfo(actual.dtype).eps)
    for value, t in zip(actual, steps, strict=True):
        exact = case.exact(t)
        wide = np.longdouble(mpmath.nstr(exact, 25))
        assert_close(value, wide, ulp=case.ulp + more + case.growth(t), atol=case.eps * (1 + more) * epsilon)


def test_an_int_gives_a_float_in_double_precision(case: Case) -> None:
    values = [case.schedule(t) for t in STEPS]
    assert {type(value) for value in values} == {float}
    check(case, values, STEPS)


def test_a_numpy_integer_is_an_int(case: Case) -> None:
    values = [float(case.schedule(np.int64(t))) for t in STEPS]
    check(case, values, STEPS, more=2)


def test_an_array_of_steps(backend: Backend, case: Case) -> None:
    """NumPy's and other frameworks' expm1, cos and pow are allowed 2 ulp beside the C library's half."""
    t = backend.array(STEPS, "int64")
    values = case.schedule(t)
    assert type(values) is type(t)
    assert values.shape == t.shape
    assert backend.numpy(values).dtype == np.float64
    check(case, backend.numpy(values), STEPS, more=2)


def test_an_array_of_no_dimensions(backend: Backend, case: Case) -> None:
    for t in (1, 5, 2000):
        value = case.schedule(backend.array(t, "int64"))
        assert value.shape == ()
        check(case, [backend.numpy(value)[()]], [t], more=2)


def test_a_real_array_keeps_its_dtype(backend: Backend, case: Case) -> None:
    """Steps given in float32 are computed in float32, by forms without cancellation: 3 ulp more for its functions."""
    t = backend.array(STEPS, "float32")
    values = backend.numpy(case.schedule(t))
    assert values.dtype == np.float32
    check(case, values, STEPS, more=3)


@pytest.mark.only("jax")
@pytest.mark.parametrize("x64", [True, False])
def test_a_tracer(case: Case, x64: bool) -> None:
    """Inside jit, one trace for all steps; in float32 when JAX has no float64."""
    jax = pytest.importorskip("jax")
    traces = 0

    def traced(t: Any) -> Any:
        nonlocal traces
        traces += 1
        return case.schedule(t)

    with jax.enable_x64(x64):
        one = jax.jit(traced)
        values = np.asarray([one(t) for t in STEPS])
        assert values.dtype == (np.float64 if x64 else np.float32)
        assert traces == 1
        check(case, values, STEPS, more=2 if x64 else 3)
        together = np.asarray(jax.jit(jax.vmap(case.schedule))(jax.numpy.asarray(STEPS)))
        assert together.dtype == values.dtype
        check(case, together, STEPS, more=2 if x64 else 3)


@pytest.mark.only("jax")
@pytest.mark.parametrize("beta2", [0.9, *BETA2[2:]])
def test_radam_warmup_in_float32_inside_jit(beta2: float) -> None:
    """The branch of float64 at every step, and the factor within 5e-6 of the exact one, up to a million steps."""
    jax = pytest.importorskip("jax")
    steps = np.unique(np.concatenate([np.arange(1, 300), np.geomspace(300, 10**6, 400).astype(np.int64)]))
    with jax.enable_x64(False):
        traced = np.asarray(jax.jit(jax.vmap(schedules.radam_warmup(beta2)))(jax.numpy.asarray(steps)))
    exact = [_radam(beta2)(int(t)) for t in steps]
    assert (traced > 0).tolist() == [omega > 0 for omega in exact]
    relative = [abs(float(a) / float(e) - 1) for a, e in zip(traced, exact, strict=True) if e > 0]
    assert max(relative) <= 5e-6


@pytest.mark.parametrize(
    "beta2", [*np.linspace(0.8, 1, 200, endpoint=False), 1 - 1e-6, 1 - 1e-12, float(np.nextafter(1, 0))]
)
def test_fact_3_1_of_ma_and_yarats(beta2: float) -> None:
    """For 0.8 <= beta2 < 1, rho_t <= 4 if and only if t <= 4."""
    omega = schedules.radam_warmup(float(beta2))
    assert [omega(t) > 0 for t in range(1, 30)] == [t > 4 for t in range(1, 30)]
    assert omega(10**4) > 0


def test_radam_warmup_is_zero_where_rho_never_exceeds_4() -> None:
    """rho tends to 2/(1 - beta2) - 1, which is 4 at beta2 = 0.6."""
    for beta2 in (0.0, 0.3, 0.6):
        assert [schedules.radam_warmup(beta2)(t) for t in (1, 5, 1000)] == [0, 0, 0]


def test_the_untuned_period_is_not_truncated() -> None:
    """2/(1 - beta2) is 1999.9999999999982 in doubles for 0.999: int() of it loses a step."""
    for beta2, period in ((0.999, 2000), (0.99, 200), (0.9, 20), (0.9999, 20_000)):
        warmup = schedules.untuned_linear(beta2)
        assert_close(np.float64(warmup(period - 1)), np.float64((period - 1) / period), atol=1e-11)
        assert_close(np.float64(warmup(period // 2)), np.float64(0.5), atol=1e-12)
        assert warmup(period + 1) == 1
    assert_close(np.float64(schedules.untuned_linear(0.7)(6)), np.float64(0.9), ulp=3)  # a period of 6 2/3


def test_no_warmup_wastes_the_first_step_and_every_decay_starts_at_1() -> None:
    first = {name: case.schedule(1) for name, case in CASES.items()}
    for name, value in first.items():
        if "decay" in name or "inverse" in name:
            assert value == 1, name
        elif "radam" not in name:  # RAdam's own first four factors are 0, its momentum phase
            assert value > 0, name


def test_the_first_step_is_1_and_lr_is_asked_once_a_step(backend: Backend) -> None:
    """A plain function is a schedule too."""
    seen: list[int] = []

    def lr(t: int) -> float:
        seen.append(t)
        return 0.5**t

    state = init(Momentum(beta=0), backend.array([1.0]), lr)
    for _ in range(3):
        state = step(state, backend.array([1.0]))
    assert seen == [1, 2, 3]
    assert all(type(t) is int for t in seen)
    assert_close(backend.numpy(state.params), np.asarray([1 - 0.5 - 0.25 - 0.125], np.float32))


@dataclasses.dataclass(frozen=True)
class Triangle(Schedule):
    """A user's own: up and down again every ``period`` steps."""

    period: float

    def at(self, t: Any, math: Any) -> Any:
        half = self.period / 2
        return math.where(t < half, t / half, math.maximum(2 - t / half, 0 * t))


def test_a_schedule_of_ones_own(backend: Backend) -> None:
    schedule = 0.5 * Triangle(8) * schedules.constant(2)
    exact = [0.25, 0.5, 0.75, 1.0, 0.75, 0.5, 0.25, 0.0, 0.0]
    assert [schedule(t) for t in range(1, 10)] == exact
    assert_close(backend.numpy(schedule(backend.array(range(1, 10), "int64"))), np.asarray(exact))
    state = init(Momentum(beta=0), backend.array([10.0, -1.0]), schedule)
    for _ in exact:
        state = step(state, backend.array([1.0, 0.0]))
    assert_close(backend.numpy(state.params), np.asarray([10 - sum(exact), -1], np.float32))


def test_a_schedule_without_a_formula_says_what_to_define() -> None:
    with pytest.raises(NotImplementedError, match=r"Schedule must define at\(self, t, math\)"):
        Schedule()(1)


def test_a_schedule_moves_the_parameters_at_its_rate(backend: Backend, case: Case) -> None:
    """Gradient descent with gradient -1 from 0 adds up the rates; each is rounded to float64 once."""
    state = init(Momentum(beta=0), backend.array([0.0], "float64"), case.schedule)
    for _ in range(12):
        before, state = state, step(state, backend.array([-1.0], "float64"))
        expected = backend.numpy(before.params) + case.schedule(state.step)
        assert_close(backend.numpy(state.params), expected)
    assert state.lr(state.step) == case.schedule(12)  # the rate in force


def test_products() -> None:
    warmup, decay = schedules.untuned_linear(0.99), schedules.cosine_decay(500)
    for t in (1, 100, 200, 400, 501):
        w, d = warmup(t), decay(t)
        assert (warmup * decay)(t) == w * d == (decay * warmup)(t)
        assert (0.1 * warmup)(t) == 0.1 * w == (warmup * 0.1)(t)
        assert (2 * warmup)(t) == 2 * w
        assert (np.float64(0.1) * warmup)(t) == 0.1 * w
        assert (np.float32(0.1) * warmup)(t) == float(np.float32(0.1)) * w
        assert (1e-3 * warmup * decay)(t) == 1e-3 * w * d
        assert type((np.float64(0.1) * warmup * np.float32(2))(t)) is float


@pytest.mark.parametrize("factor", [True, "2", None, [1.0], 1j, np.ones(2), np.True_, np.complex128(1)], ids=repr)
def test_a_product_with_anything_else_is_refused(factor: Any) -> None:
    with pytest.raises(TypeError):
        schedules.linear_warmup(3) * factor
    with pytest.raises(TypeError):
        factor * schedules.linear_warmup(3)


def test_a_product_with_a_number_that_is_no_rate_is_refused() -> None:
    with pytest.raises(ValueError, match="finite"):
        math.nan * schedules.linear_warmup(3)


def test_step_decay_keeps_the_old_rate_at_a_milestone() -> None:
    decay = schedules.step_decay((10, 20), 0.5)
    assert [decay(t) for t in (1, 10, 11, 20, 21, 10**6)] == [1, 1, 0.5, 0.5, 0.25, 0.25]
    assert schedules.step_decay(())(7) == 1


def test_decays_stay_at_their_end() -> None:
    for decay in (schedules.linear_decay(10, 0.25), schedules.cosine_decay(10, 0.25)):
        assert [decay(t) for t in (11, 12, 10**6)] == [0.25] * 3
        assert decay(10) > 0.25


def test_join_counts_from_1_in_each_part(backend: Backend) -> None:
    parts = (schedules.linear_warmup(4), schedules.constant(0.7), schedules.linear_decay(4))
    joined = schedules.join(parts, boundaries=(4, 6))
    exact = [parts[0](t) for t in (1, 2, 3, 4)] + [0.7, 0.7] + [parts[2](t) for t in (1, 2, 3, 4, 5, 6)]
    assert [joined(t) for t in range(1, 13)] == exact
    assert_close(backend.numpy(joined(backend.array(range(1, 13), "int64"))), np.asarray(exact))
    assert (0.5 * joined)(5) == 0.35


def test_join_of_joins_and_products() -> None:
    inner = schedules.join((schedules.linear_warmup(2), 0.5 * schedules.constant(1)), (2,))
    outer = schedules.join((inner, inner), (3,))
    assert [outer(t) for t in range(1, 7)] == [0.5, 1, 0.5, 0.5, 1, 0.5]


@pytest.mark.parametrize("tau", [1, 2, 7, 1023, 1024, 1025, 2000, 50_000])
def test_effective_period_of_linear_warmup(tau: int) -> None:
    """The sum of 1 - t/tau over t < tau: (tau - 1)/2 of an integer tau."""
    period = schedules.effective_warmup_period(schedules.linear_warmup(tau))
    assert_close(np.float64(period), np.float64((tau - 1) / 2), ulp=1000)  # a thousand partial sums


def test_effective_period_of_a_fractional_tau() -> None:
    tau, n = 10.5, 10
    period = schedules.effective_warmup_period(schedules.linear_warmup(tau))
    assert_close(np.float64(period), np.float64(n - n * (n + 1) / (2 * tau)), ulp=10)


@pytest.mark.parametrize("tau", [0.5, 1.0, 10.0, 1000.0, 1e5, 1e6])
def test_effective_period_of_exponential_warmup(tau: float) -> None:
    """A geometric series: 1/(e^(1/tau) - 1)."""
    period = schedules.effective_warmup_period(schedules.exponential_warmup(tau))
    exact = float(1 / mpmath.expm1(1 / mpf(tau)))
    # each of some 40 tau terms is wrong by at most half an ulp of 1, either way: far from all of them add up
    assert_close(np.float64(period), np.float64(exact), atol=40 * 2.0**-53 * tau)


def test_effective_period_of_radam() -> None:
    """The sum taken directly with equations 6 to 8: roughly 1000 steps at beta2 = 0.999 (section 4.3)."""
    with mpmath.workdps(25):
        b, power, exact = mpf(0.999), mpf(1), mpf(0)
        rho_inf = 2 / (1 - b) - 1
        for t in range(1, 45_000):  # 1 - omega is below 1e-14 of a step afterwards
            power *= b
            rho = rho_inf - 2 * t * power / (1 - power)
            ratio = (rho - 4) * (rho - 2) * rho_inf / ((rho_inf - 4) * (rho_inf - 2) * rho)
            exact += 1 - (mpmath.sqrt(ratio) if rho > 4 else 0)
    period = schedules.effective_warmup_period(schedules.radam_warmup(0.999))
    assert_close(np.float64(period), np.float64(float(exact)), atol=40_000 * 2.0**-53)
    assert 950 < period < 1050


@pytest.mark.parametrize("beta2", [0.9, 0.99, 0.999, 0.9999])
def test_untuned_warmups_have_the_effective_period_of_radam(beta2: float) -> None:
    """Figure 3a of Ma & Yarats: nearly identical."""
    period = schedules.effective_warmup_period
    radam = period(schedules.radam_warmup(beta2))
    for untuned in (schedules.untuned_linear(beta2), schedules.untuned_exponential(beta2)):
        assert abs(period(untuned) - radam) <= 5 + 0.1 * radam


def test_effective_period_that_is_infinite() -> None:
    with pytest.raises(ValueError, match="effective warmup period is infinite"):
        schedules.effective_warmup_period(schedules.constant(0.5))


OBJECTS = {
    **{name: case.schedule for name, case in CASES.items()},
    "product": 1e-3 * schedules.untuned_linear(0.99) * schedules.cosine_decay(10_000),
    "product of products": (2 * schedules.linear_warmup(5)) * (3 * schedules.linear_decay(50)),
    "product on the right": schedules.linear_warmup(5) * (2 * schedules.constant(3)),
    "join": schedules.join((schedules.linear_warmup(4), schedules.constant(0.5), schedules.linear_decay(4)), (4, 6)),
    "product of decays": 2 * schedules.linear_decay(5) * schedules.exponential_decay(0.5),
    "join of decays": schedules.join((schedules.cosine_decay(1), schedules.linear_warmup(4)), (3,)),
    "join of products": schedules.join((2 * schedules.linear_warmup(4), schedules.constant(1) * Triangle(3)), (4,)),
}


AT_ZERO = {
    "constant": 0.3,
    "linear_warmup, start": 0.1,
    **{name: 1.0 for name in CASES if "decay" in name or "inverse" in name},
    "product of decays": 2.0,
    "join of decays": 1.0,
}
"""Before the first step: what a decay has then, and the start of a warmup, which is 0 of all the others."""


@pytest.mark.slow("jax")
def test_every_schedule_has_a_value_at_0(backend: Backend) -> None:
    """Where t counts from 0: an int, a float, a NumPy number, 0-d and 1-d arrays of ints and of float32."""
    public = {getattr(schedules, name) for name in schedules.__all__} - {Schedule, schedules.effective_warmup_period}
    assert public <= {type(schedule) for schedule in OBJECTS.values()}
    for name, schedule in OBJECTS.items():
        value = AT_ZERO.get(name, 0.0)
        for t in (0, 0.0):
            assert (type(schedule(t)), schedule(t)) == (float, value), name
        for number in (np.int64(0), np.float64(0), np.asarray(0)):
            assert_close(np.float64(schedule(number)), np.float64(value), ulp=1)
        for dtype, result in (("int64", "float64"), ("float64", "float64"), ("float32", "float32")):
            assert_close(backend.numpy(schedule(backend.array(0, dtype))), np.asarray(value, result), ulp=1)
            assert_close(backend.numpy(schedule(backend.array([0, 0], dtype))), np.full(2, value, result), ulp=1)


@pytest.mark.slow("jax")
@pytest.mark.only("jax")
def test_every_schedule_has_a_value_at_0_inside_jit() -> None:
    import jax

    for x64 in (True, False):
        with jax.enable_x64(x64):
            for name, schedule in OBJECTS.items():
                at_zero = jax.jit(schedule)(0)
                assert_close(at_zero, np.asarray(AT_ZERO.get(name, 0.0), at_zero.dtype), ulp=1)


@pytest.mark.parametrize("schedule", OBJECTS.values(), ids=OBJECTS)
def test_frozen_equal_hashable_picklable(schedule: Schedule) -> None:
    field = dataclasses.fields(schedule)[0].name
    with pytest.raises(dataclasses.FrozenInstanceError):
        setattr(schedule, field, 1.0)
    for twin in (pickle.loads(pickle.dumps(schedule)), copy.deepcopy(schedule), copy.copy(schedule)):
        assert twin == schedule
        assert hash(twin) == hash(schedule)
        assert twin(3) == schedule(3)
    assert schedule != schedules.linear_warmup(12345)
    assert len({schedule, copy.deepcopy(schedule)}) == 1


@pytest.mark.parametrize("schedule", OBJECTS.values(), ids=OBJECTS)
def test_the_repr_evaluates_back(schedule: Schedule) -> None:
    names = {name: getattr(schedules, name) for name in schedules.__all__}
    twin = eval(repr(schedule), {**names, "Triangle": Triangle})
    assert twin == schedule
    assert [twin(t) for t in STEPS] == [schedule(t) for t in STEPS]


def calls(*arguments: tuple[str, tuple[Any, ...]]) -> Any:
    """A test of schedules by name and arguments, deliberately beyond what their types allow."""
    ids = [f"{name}{values}" for name, values in arguments]
    return pytest.mark.parametrize(("name", "arguments"), arguments, ids=ids)


@calls(
    ("linear_warmup", (np.float32(7),)),
    ("linear_warmup", (np.int64(7), np.float32(0.25))),
    ("linear_decay", (np.int64(7), np.float32(0.25))),
    ("cosine_decay", (np.float32(7), np.float64(0.25))),
    ("exponential_warmup", (np.float32(7),)),
    ("exponential_decay", (np.float32(0.5), np.float32(7))),
    ("inverse_sqrt", (np.float32(7),)),
    ("step_decay", (np.asarray([2, 5]), np.float32(0.5))),
    ("untuned_linear", (np.float32(0.75),)),
    ("untuned_exponential", (np.float32(0.75),)),
    ("radam_warmup", (np.float32(0.875),)),
    ("join", ((schedules.constant(1), schedules.constant(2)), np.asarray([3]))),
)
def test_numpy_numbers_as_arguments_become_floats(name: str, arguments: tuple[Any, ...]) -> None:
    """A float32 among them must not take the schedule down to float32."""
    make = getattr(schedules, name)
    schedule = make(*arguments)
    assert {type(schedule(t)) for t in range(1, 9)} == {float}
    assert hash(schedule) == hash(make(*arguments))
    assert "np." not in repr(schedule)


@dataclasses.dataclass(frozen=True)
class Named(Schedule):
    """Fields that are no numbers are its own business."""

    name: str
    shape: Callable[[float], float]
    periods: Any
    flag: bool = True
    nothing: None = None

    def at(self, t: Any, math: Any) -> Any:
        return self.shape(t / self.periods[0])


def test_the_fields_of_a_schedule_of_ones_own() -> None:
    assert type(Triangle(np.float64(8)).period) is float
    own = Named("sqrt", math.sqrt, [np.float32(4), 8])
    assert (own.name, own.shape, own.flag, own.nothing) == ("sqrt", math.sqrt, True, None)
    assert [type(x) for x in own.periods] == [float, float]
    assert (2 * own)(1) == 1
    with pytest.raises(ValueError, match="Named: periods must be finite, got nan"):
        Named("sqrt", math.sqrt, (math.nan,))
    with pytest.raises(TypeError, match="Triangle: period must be a number"):
        Triangle(1j)  # type: ignore[arg-type]


@calls(
    ("constant", (math.nan,)),
    ("constant", (-1,)),
    ("constant", (math.inf,)),
    ("linear_warmup", (0,)),
    ("linear_warmup", (-3,)),
    ("linear_warmup", (math.nan,)),
    ("linear_warmup", (math.inf,)),
    ("linear_warmup", (5, -0.1)),
    ("linear_warmup", (5, 1.5)),
    ("linear_warmup", (5, math.nan)),
    ("exponential_warmup", (0,)),
    ("exponential_warmup", (math.nan,)),
    ("exponential_warmup", (math.inf,)),
    ("untuned_linear", (1.0,)),
    ("untuned_linear", (-0.1,)),
    ("untuned_linear", (math.nan,)),
    ("untuned_exponential", (1.0,)),
    ("untuned_exponential", (-0.1,)),
    ("untuned_exponential", (math.nan,)),
    ("radam_warmup", (1.0,)),
    ("radam_warmup", (-0.1,)),
    ("radam_warmup", (math.nan,)),
    ("linear_decay", (0,)),
    ("linear_decay", (5, math.nan)),
    ("linear_decay", (5, -0.5)),
    ("cosine_decay", (-1,)),
    ("cosine_decay", (5, math.inf)),
    ("exponential_decay", (0,)),
    ("exponential_decay", (1.5,)),
    ("exponential_decay", (math.nan,)),
    ("exponential_decay", (0.5, 0)),
    ("inverse_sqrt", (0,)),
    ("inverse_sqrt", (math.nan,)),
    ("step_decay", ((20, 10),)),
    ("step_decay", ((math.nan,),)),
    ("step_decay", ((10,), math.nan)),
    ("step_decay", ((10,), -0.5)),
    ("join", ((), ())),
    ("join", ((schedules.constant(1),), (4,))),
    ("join", ((schedules.constant(1), schedules.constant(1)), ())),
    ("join", ((schedules.constant(1),) * 3, (9, 4))),
)
def test_bad_arguments(name: str, arguments: tuple[Any, ...]) -> None:
    """The message names the schedule, and what it wants."""
    with pytest.raises(ValueError, match=f"{name}.*: .* must"):
        getattr(schedules, name)(*arguments)


@calls(
    ("linear_warmup", ("5",)),
    ("linear_warmup", (True,)),
    ("linear_warmup", ((3, 4),)),
    ("step_decay", (10,)),
    ("constant", (None,)),
    ("untuned_linear", (1j,)),
    ("join", ((schedules.constant(1), math.sqrt), (4,))),
)
def test_arguments_of_another_type(name: str, arguments: tuple[Any, ...]) -> None:
    with pytest.raises(TypeError, match=f"{name}: .* must"):
        getattr(schedules, name)(*arguments)


@pytest.mark.parametrize("value", [math.nan, math.inf, -1.0])
def test_a_rate_that_is_no_rate_is_refused_at_its_step(backend: Backend, value: float) -> None:
    """The state before still stands, and the message says which schedule at which step."""
    lr = schedules.step_decay((2,), 0.5)
    state = step(init(Momentum(), backend.array([1.0]), lambda t: lr(t) if t < 2 else value), backend.array([1.0]))
    before = backend.numpy(state.params).copy()
    with pytest.raises(ValueError, match="at step 2"):
        step(state, backend.array([1.0]), donate=True)
    assert_close(backend.numpy(state.params), before)
    assert isinstance(step(state, backend.array([1.0]), lr=0.1), State)
