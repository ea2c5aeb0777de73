"""Learning rates and weight decays: checked, spread over the leaves, and read at step t."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from adamod_array._namespace import Namespace, is_tracer, namespace_of
from adamod_array._tree import Tree, broadcast_prefix


def _as_number(value: Any, what: str, beside: str = "") -> Any:
    """A Python float, a schedule as it is, or an array of no dimensions where reading it would cost something.

    ``beside`` names the framework of the parameters, whose arrays may stay; all others are read.
    """
    if callable(value) and namespace_of(value) is None:
        return value
    if isinstance(value, (bool, complex)):
        raise TypeError(f"{what} must be a real number, got {value!r}")
    kind = namespace_of(value)
    if kind is not None and not isinstance(value, np.generic):
        if tuple(value.shape) != ():
            raise ValueError(f"{what} must be one number, got an array of shape {tuple(value.shape)}")
        if kind.name == beside != "numpy" and not _is_free_to_read(kind, value):
            return value
        if is_tracer(value):
            raise TypeError(f"{what} is traced by JAX and init keeps it as a constant: give it to step(..., lr=...)")
    try:
        number = float(value)
    except (TypeError, ValueError):
        raise TypeError(f"{what} must be a number or a schedule, got {value!r}") from None
    if not math.isfinite(number):
        raise ValueError(f"{what} must be finite, got {number}")
    if number < 0:
        raise ValueError(f"{what} must not be negative, got {number}")
    return number


def _is_free_to_read(kind: Namespace, value: Any) -> bool:
    """Whether float(value) neither waits for a device nor cuts a gradient."""
    return kind.name == "torch" and value.device.type == "cpu" and not value.requires_grad


def constant_rate(value: Tree, spec: Any, what: str) -> Any:
    """What a state keeps: one float or schedule, or a tuple of one a leaf."""
    if _is_single(value):
        return _as_number(value, what)
    return tuple(_as_number(x, what) for x in broadcast_prefix(value, spec, what))


def _is_single(value: Any) -> bool:
    return isinstance(value, (int, float, complex, str)) or callable(value) or namespace_of(value) is not None


def decay_rate(value: Tree, spec: Any) -> Any:
    """As :func:`constant_rate`, for weight decay: numbers only."""
    kept = constant_rate(value, spec, "weight_decay")
    for each in kept if isinstance(kept, tuple) else (kept,):
        if callable(each):
            raise TypeError(f"weight_decay must be a number, got {each!r}; it follows the schedule of lr already")
    return kept


def rates_at(
    t: Any, lr: Any, override: Tree | None, weight_decay: Any, spec: Any, beside: str
) -> tuple[list[tuple[Any, Any]], tuple[int, ...]]:
    """Rate and decay factor of every leaf at step ``t``: the distinct pairs, and which of them each leaf has.

    The decay factor is ``1 - lr * weight_decay``, or None where there is no decay.
    """
    n = spec.num_leaves
    if override is not None:
        if _is_single(override):
            lr = override
        else:
            lr = tuple(broadcast_prefix(override, spec, "lr"))
    if not isinstance(lr, tuple) and not isinstance(weight_decay, tuple):
        return [_pair(_read(lr, t, beside), weight_decay)], (0,) * n
    lrs = lr if isinstance(lr, tuple) else (lr,) * n
    decays = weight_decay if isinstance(weight_decay, tuple) else (weight_decay,) * n
    index: dict[tuple[int, float], int] = {}
    pairs: list[tuple[Any, Any]] = []
    which: list[int] = []
    for each, decay in zip(lrs, decays, strict=True):
        key = (id(each), decay)
        if key not in index:
            index[key] = len(pairs)
            pairs.append(_pair(_read(each, t, beside), decay))
        which.append(index[key])
    return pairs, tuple(which)


def _read(rate: Any, t: Any, beside: str) -> Any:
    schedule: Callable[[Any], Any] | None = rate if callable(rate) and namespace_of(rate) is None else None
    return _as_number(schedule(t) if schedule else rate, f"lr {schedule!r} at step {t}" if schedule else "lr", beside)


def _pair(rate: Any, weight_decay: float) -> tuple[Any, Any]:
    return rate, None if weight_decay == 0 else 1 - rate * weight_decay
