"""Schedules that count from 1 for optax, which counts from 0, and back."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from adamod_array._coefficients import next_step
from adamod_array._math import number
from adamod_array._rate import is_schedule
from adamod_array.schedules import Schedule


def as_schedule(schedule: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """Return a schedule of this package, or any function of the step that begins at 1, as one of optax's.

    Parameters
    ----------
    schedule : function of the step
        Called with 1 for the first step.

    Returns
    -------
    function of the count
        Called by optax with 0 for the first step.

    Raises
    ------
    TypeError
        Not a function.

    Examples
    --------
    >>> import optax
    >>> from adamod_array import schedules
    >>> from adamod_array.optax import as_schedule
    >>> warmup = as_schedule(1e-3 * schedules.linear_warmup(4))
    >>> optimizer = optax.adam(warmup)
    >>> [warmup(count) for count in range(5)]
    [0.00025, 0.0005, 0.00075, 0.001, 0.001]
    """
    if not is_schedule(schedule):
        raise TypeError(f"as_schedule: expected a function of the step, got {schedule!r}")

    def rate(count: Any) -> Any:
        return schedule(next_step(count))

    return rate


@dataclass(frozen=True)
class _FromOptax(Schedule):
    schedule: Callable[[Any], Any]

    def __call__(self, t: Any) -> Any:
        return self.schedule(number(t)[1].maximum(t, 1) - 1)  # an int stays one: it may be an index

    def at(self, t: Any, math: Any) -> Any:
        return self.schedule(math.maximum(t, 1) - 1)


def from_schedule(schedule: Callable[[Any], Any]) -> Schedule:
    """Return a schedule of optax's as one of this package's, for :func:`adamod_array.init` and for products.

    Parameters
    ----------
    schedule : function of the count
        Called with 0 for the first step, and at t = 0 too.

    Returns
    -------
    adamod_array.schedules.Schedule
        Called with 1 for the first step; its values are JAX's.

    Raises
    ------
    TypeError
        Not a function, or a schedule of this package already.

    Examples
    --------
    >>> import optax
    >>> from adamod_array import schedules
    >>> from adamod_array.optax import from_schedule
    >>> lr = from_schedule(optax.linear_schedule(1.0, 0.0, 4)) * schedules.linear_warmup(2)
    >>> [float(lr(t)) for t in (1, 2, 3)]
    [0.5, 0.75, 0.5]
    """
    if not is_schedule(schedule) or isinstance(schedule, Schedule):
        raise TypeError(f"from_schedule: expected a schedule of optax's, a function of the count, got {schedule!r}")
    return _FromOptax(schedule)
