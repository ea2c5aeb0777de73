r"""Learning rates as functions of the step: warmup factors, decays, and their products.

Every schedule is a frozen dataclass and a pure function of ``t``, an int, an integer or real
array, or a JAX tracer; ``t = 1`` is the first step. An int gives a float in double precision.
At ``t = 0`` a warmup is at its start, which is 0, and a decay where it is at the first step.
Schedules multiply with each other and with numbers.

Examples
--------
>>> from adamod_array import schedules
>>> lr = 1e-3 * schedules.untuned_linear(0.999) * schedules.cosine_decay(10_000)
>>> lr(1), lr(2000)
(5.000000000000005e-07, 0.0009046008063157855)
"""

from __future__ import annotations

import math as _math
from collections.abc import Iterable
from dataclasses import dataclass, field, fields
from numbers import Real
from typing import Any, Never

from adamod_array._formulas import rectification
from adamod_array._math import host_math, number
from adamod_array._options import explained_class
from adamod_array._rate import checked_schedule

__all__ = [
    "Schedule",
    "constant",
    "cosine_decay",
    "effective_warmup_period",
    "exponential_decay",
    "exponential_warmup",
    "inverse_sqrt",
    "join",
    "linear_decay",
    "linear_warmup",
    "radam_warmup",
    "step_decay",
    "untuned_exponential",
    "untuned_linear",
]


# What a field must be: its metadata.
_STEPS = {"must": (float, "be at least 1", lambda x: x >= 1)}
_POSITIVE = {"must": (float, "be positive", lambda x: x > 0)}
_NOT_NEGATIVE = {"must": (float, "not be negative", lambda x: x >= 0)}
_BETA = {"must": (float, "be in [0, 1)", lambda x: 0 <= x < 1)}
_FRACTION = {"must": (float, "be in [0, 1]", lambda x: 0 <= x <= 1)}
_DECAY = {"must": (float, "be in (0, 1]", lambda x: 0 < x <= 1)}
_ASCENDING = {"must": (tuple, "ascend", lambda x: all(type(n) is float for n in x) and list(x) == sorted(x))}
_SOME = {"must": (tuple, "not be empty", bool)}


@dataclass(frozen=True)
class Schedule:
    """Base class: a function of t that multiplies. Subclass it and define ``at(t, math)`` to write your own.

    Numbers among the fields must be finite and become Python floats (a NumPy float32 would take
    the schedule down to float32); sequences of them become tuples.
    """

    __array_ufunc__ = None  # or a NumPy scalar on the left of * would make an array of this

    def __post_init__(self) -> None:
        for each in fields(self):
            what = f"{type(self).__name__}: {each.name}"
            value = _plain(getattr(self, each.name), what)
            object.__setattr__(self, each.name, value)
            if "must" in each.metadata:
                kind, must, holds = each.metadata["must"]
                if not isinstance(value, kind):
                    whole = f": write ({value:g},)" if kind is tuple and isinstance(value, float) else ""
                    raise TypeError(f"{what} must be a {kind.__name__}, got {value!r}{whole}{self._order()}")
                if not holds(value):
                    raise ValueError(f"{what} must {must}, got {value}{self._order()}")

    @classmethod
    def _order(cls) -> str:
        """Return the order of several arguments, which may be why one of them is out of its range."""
        names = [each.name for each in fields(cls) if each.init]
        return f"; the order is {cls.__name__}({', '.join(names)})" if len(names) > 1 else ""

    def __call__(self, t: Any) -> Any:
        """Return the value at step ``t``, in the namespace of ``t``."""
        t, math = number(t)
        return self.at(t, math)

    def at(self, t: Any, math: Any) -> Any:
        """Return the formula, with ``t`` a real number or array, and the functions that suit it."""
        raise NotImplementedError(f"{type(self).__name__} must define at(self, t, math)")

    def __mul__(self, other: Any) -> Schedule:
        if isinstance(other, Schedule):
            return _product(self, other)
        return self.__rmul__(other)

    def __rmul__(self, other: Any) -> Schedule:
        if isinstance(other, Real) and not isinstance(other, bool):
            return _product(constant(float(other)), self)
        return NotImplemented

    def _no_sum(self, other: Any = None) -> Never:
        raise TypeError(
            "schedules multiply, with each other and with numbers: write 0.5 * a for a / 2, and for a sum"
            " lambda t: a(t) + b(t)"
        )

    __add__ = __radd__ = __sub__ = __rsub__ = __truediv__ = __rtruediv__ = __neg__ = __pow__ = __rpow__ = _no_sum


def _plain(value: Any, what: str) -> Any:
    """Return finite floats, and tuples of them; words, flags, None and functions as they are."""
    if value is None or isinstance(value, (bool, str)) or callable(value):
        return value
    if isinstance(value, Iterable) and getattr(value, "ndim", None) != 0:
        return tuple(_plain(x, what) for x in value)
    try:
        x = float(value)
    except (TypeError, ValueError):
        raise TypeError(f"{what} must be a number, got {value!r}") from None
    if not _math.isfinite(x):
        raise ValueError(f"{what} must be finite, got {x}")
    return x


@dataclass(frozen=True)
class _product(Schedule):
    a: Schedule
    b: Schedule

    def at(self, t: Any, math: Any) -> Any:
        return self.a.at(t, math) * self.b.at(t, math)

    def __repr__(self) -> str:
        a = self.a.value if type(self.a) is constant else self.a
        b = f"({self.b})" if isinstance(self.b, _product) else self.b
        return f"{a} * {b}"


@dataclass(frozen=True)
class constant(Schedule):
    """The same value at every step.

    >>> constant(0.1)(7)
    0.1
    """

    value: float = field(metadata=_NOT_NEGATIVE)

    def at(self, t: Any, math: Any) -> Any:
        """Return ``value``, in the shape of t."""
        return self.value + 0 * t


@dataclass(frozen=True)
class linear_warmup(Schedule):
    r"""From ``start`` to 1 over ``steps`` steps: :math:`\min\{1, t/\tau\}` (Ma & Yarats 2021, equation 5).

    The first step is already a fraction above ``start``: no step is wasted at rate 0.

    >>> [linear_warmup(4)(t) for t in (1, 2, 4, 5)]
    [0.25, 0.5, 1.0, 1.0]
    """

    steps: float = field(metadata=_POSITIVE)
    start: float = field(default=0.0, metadata=_FRACTION)

    def at(self, t: Any, math: Any) -> Any:
        """Return equation 5."""
        return math.where(t < self.steps, self.start + (1 - self.start) * (t / self.steps), 1.0)


@dataclass(frozen=True)
class untuned_linear(Schedule):
    r"""Linear warmup over :math:`2/(1-\beta_2)` steps (Ma & Yarats 2021, equation 14).

    :math:`\omega_t = \min\{1, t(1-\beta_2)/2\}`.

    >>> untuned_linear(0.999)(1000)
    0.5000000000000004
    """

    beta2: float = field(default=0.999, metadata=_BETA)

    def at(self, t: Any, math: Any) -> Any:
        """Return equation 14. Its period is not truncated to an int: 2/(1 - 0.999) is 2000 and a little."""
        return math.minimum(t * ((1 - self.beta2) / 2), 1.0 + 0 * t)


@dataclass(frozen=True)
class exponential_warmup(Schedule):
    r""":math:`1 - e^{-t/\tau}` (Ma & Yarats 2021, equation 12).

    >>> round(exponential_warmup(10.0)(10), 4)
    0.6321
    """

    tau: float = field(metadata=_POSITIVE)

    def at(self, t: Any, math: Any) -> Any:
        """Return equation 12."""
        return -math.expm1(t * (-1 / self.tau))


@dataclass(frozen=True)
class untuned_exponential(Schedule):
    r""":math:`1 - e^{-(1-\beta_2)t}` (Ma & Yarats 2021, equation 13).

    >>> round(untuned_exponential(0.999)(1000), 4)
    0.6321
    """

    beta2: float = field(default=0.999, metadata=_BETA)

    def at(self, t: Any, math: Any) -> Any:
        """Return equation 13."""
        return -math.expm1(t * -(1 - self.beta2))


@dataclass(frozen=True)
class radam_warmup(Schedule):
    r"""The factor :math:`\omega_t` of RAdam (Ma & Yarats 2021, equation 8), 0 while :math:`\rho_t \le 4`.

    >>> [round(radam_warmup(0.999)(t), 4) for t in (4, 5, 1000)]
    [0.0, 0.0173, 0.6453]
    """

    beta2: float = field(default=0.999, metadata=_BETA)

    def at(self, t: Any, math: Any) -> Any:
        """Return equation 8."""
        return rectification(t, self.beta2, math) + 0 * t


def _taken(t: Any, math: Any) -> Any:
    """Return how many steps of a decay lie before step t: none at t = 1, nor at t = 0."""
    return math.maximum(t - 1, 0.0)


def _left(t: Any, steps: float, math: Any) -> Any:
    """Return how much of a decay is left at step t: 1 at t = 1, 0 after ``steps`` steps."""
    taken = _taken(t, math)
    return math.where(taken < steps, (steps - taken) / steps, 0.0)


@dataclass(frozen=True)
class linear_decay(Schedule):
    """From 1 at the first step to ``final`` after ``steps`` steps, in a line.

    >>> [linear_decay(4)(t) for t in (1, 2, 4, 5)]
    [1.0, 0.75, 0.25, 0.0]
    """

    steps: float = field(metadata=_STEPS)
    final: float = field(default=0.0, metadata=_FRACTION)

    def at(self, t: Any, math: Any) -> Any:
        """Return final + (1 - final) (steps - (t - 1))/steps."""
        return self.final + (1 - self.final) * _left(t, self.steps, math)


@dataclass(frozen=True)
class cosine_decay(Schedule):
    """From 1 at the first step to ``final`` after ``steps`` steps, along half a cosine (Loshchilov & Hutter 2017).

    >>> [round(cosine_decay(4)(t), 4) for t in (1, 3, 5, 6)]
    [1.0, 0.5, 0.0, 0.0]
    """

    steps: float = field(metadata=_STEPS)
    final: float = field(default=0.0, metadata=_FRACTION)

    def at(self, t: Any, math: Any) -> Any:
        """Return final + (1 - final) (1 - cos(pi (steps - (t - 1))/steps))/2."""
        return self.final + (1 - self.final) * 0.5 * (1 - math.cos(_math.pi * _left(t, self.steps, math)))


@dataclass(frozen=True)
class exponential_decay(Schedule):
    """``factor`` every ``steps`` steps, continuously: ``factor**((t - 1)/steps)``.

    >>> [exponential_decay(0.5, steps=2)(t) for t in (1, 3, 5)]
    [1.0, 0.5, 0.25]
    """

    factor: float = field(metadata=_DECAY)
    steps: float = field(default=1, metadata=_POSITIVE)

    def at(self, t: Any, math: Any) -> Any:
        """Return factor**((t - 1)/steps); of an array by exp, or float32 would round the factor before it is raised."""
        if math is host_math:
            return self.factor ** (_taken(t, math) / self.steps)
        return math.exp(_taken(t, math) * (_math.log(self.factor) / self.steps))


@dataclass(frozen=True)
class inverse_sqrt(Schedule):
    """1 for the first ``steps`` steps, then ``sqrt(steps/t)``.

    ``linear_warmup(n) * inverse_sqrt(n)`` is the Transformer's schedule (Vaswani et al. 2017), with peak 1.

    >>> [inverse_sqrt(100)(t) for t in (1, 100, 400)]
    [1.0, 1.0, 0.5]
    """

    steps: float = field(default=1, metadata=_POSITIVE)

    def at(self, t: Any, math: Any) -> Any:
        """Return sqrt(steps / max(t, steps))."""
        return math.sqrt(self.steps / math.maximum(t, self.steps + 0 * t))


@dataclass(frozen=True)
class step_decay(Schedule):
    """``factor`` to the power of the milestones passed; step ``t = milestone`` still has the old rate.

    >>> [step_decay((10, 20), 0.5)(t) for t in (10, 11, 20, 21)]
    [1.0, 0.5, 0.5, 0.25]
    """

    milestones: tuple[float, ...] = field(metadata=_ASCENDING)
    factor: float = field(default=0.1, metadata=_NOT_NEGATIVE)

    def at(self, t: Any, math: Any) -> Any:
        """Compare once a milestone."""
        value = 1.0 + 0 * t
        for passed, milestone in enumerate(self.milestones, start=1):
            value = math.where(t > milestone, self.factor**passed, value)
        return value


@dataclass(frozen=True)
class join(Schedule):
    """One schedule after another: ``schedules[i + 1]`` counts from 1 after step ``boundaries[i]``.

    >>> lr = join((linear_warmup(4), linear_decay(4)), boundaries=(4,))
    >>> [lr(t) for t in (1, 4, 5, 6)]
    [0.25, 1.0, 1.0, 0.75]
    """

    schedules: tuple[Schedule, ...] = field(metadata=_SOME)
    boundaries: tuple[float, ...] = field(metadata=_ASCENDING)

    def __post_init__(self) -> None:
        super().__post_init__()
        for schedule in self.schedules:
            if not isinstance(schedule, Schedule):
                raise TypeError(f"join: schedules must be instances of Schedule, got {schedule!r}{self._order()}")
        if len(self.schedules) != len(self.boundaries) + 1:
            raise ValueError(f"join: there must be one boundary between two schedules, got {self.boundaries}")

    def at(self, t: Any, math: Any) -> Any:
        """Ask each schedule only for steps of its own, so that none is taken out of its domain."""
        value = self.schedules[0].at(t, math)
        for boundary, schedule in zip(self.boundaries, self.schedules[1:], strict=True):
            value = math.where(t > boundary, schedule.at(math.maximum(t - boundary, 1.0 + 0 * t), math), value)
        return value


def effective_warmup_period(schedule: Schedule) -> float:
    r"""Return the steps that a warmup takes away, :math:`\sum_{t \ge 1} (1 - \omega_t)` (Ma & Yarats, section 4.1).

    Parameters
    ----------
    schedule : Schedule
        A warmup factor, one that tends to 1.

    Returns
    -------
    float
        In steps.

    Raises
    ------
    TypeError
        It is no schedule, or a class of them.
    ValueError
        The sum does not converge within 1e8 steps.

    Examples
    --------
    >>> round(effective_warmup_period(linear_warmup(2000)), 6)
    999.5
    """
    import numpy as np

    if not isinstance(schedule, Schedule):
        if callable(schedule):
            checked_schedule(schedule, lambda: "effective_warmup_period: schedule")
        else:
            raise TypeError(
                f"effective_warmup_period: schedule must be a schedule such as untuned_linear(0.999), got {schedule!r}"
            )
    total, start, length = 0.0, 1, 1 << 10
    while start < 10**8:
        part = float(np.sum(1 - schedule(np.arange(start, start + length))))
        total += part
        if abs(part) <= 2**-50 * length:  # a few ulp of 1 a step: what is left is rounding
            return total
        start, length = start + length, min(2 * length, 1 << 20)
    raise ValueError(f"{schedule!r}: the effective warmup period is infinite, or too long to add up")


for _each in Schedule.__subclasses__():
    explained_class(_each, "schedules.")
