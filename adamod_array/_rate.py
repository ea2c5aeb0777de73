"""Learning rates and weight decays: checked, spread over the leaves, and read at step t."""

from __future__ import annotations

import functools
import math
import sys
from collections.abc import Callable
from typing import Any

from adamod_array._namespace import Namespace, dtype_name, is_tracer, namespace_of
from adamod_array._tree import Tree, broadcast_prefix, path, root_type

_REAL = ("float", "bfloat", "int", "uint")


def real_number(value: Any, what: Callable[[], str], beside: str = "", kinds: str = "a number") -> Any:
    """A Python float, or an array of no dimensions where reading it would cost something.

    ``beside`` names the framework of the parameters, whose arrays may stay; all others are read.
    ``what`` is a call, because paths are spelled out for errors only.
    """
    if isinstance(value, (bool, str, bytes)):
        raise TypeError(f"{what()} must be {kinds}, got {value!r}")
    kind = namespace_of(value)
    if kind is not None:
        if tuple(value.shape) != ():
            raise ValueError(f"{what()} must be one number, got an array of shape {tuple(value.shape)}")
        if not dtype_name(value).startswith(_REAL):
            raise TypeError(f"{what()} must be a real number, got {value!r}")
        if kind.name == beside != "numpy" and not _is_free_to_read(kind, value):
            return value
        if is_tracer(value):
            raise TypeError(f"{what()} is traced by JAX: give it to step(..., lr=...), with JAX parameters")
    try:
        return float(value)
    except (TypeError, ValueError):
        raise TypeError(f"{what()} must be {kinds}, got {value!r}") from None


def _as_rate(value: Any, what: Callable[[], str], beside: str = "") -> Any:
    number = real_number(value, what, beside, "a number or a schedule")
    if isinstance(number, float):
        if not math.isfinite(number):
            raise ValueError(f"{what()} must be finite, got {number}")
        if number < 0:
            raise ValueError(f"{what()} must not be negative, got {number}")
    return number


def _is_free_to_read(kind: Namespace, value: Any) -> bool:
    """Whether float(value) neither waits for a device nor cuts a gradient, and is one number even under vmap."""
    if kind.name != "torch" or value.device.type != "cpu" or value.requires_grad:
        return False
    return not sys.modules["torch"]._C._functorch.is_functorch_wrapped_tensor(value)


def _is_schedule(value: Any) -> bool:
    return callable(value) and namespace_of(value) is None


def _is_single(value: Any, spec: Any) -> bool:
    """Not a tree of rates. An Equinox module can be called, and is one where the parameters are."""
    if _is_schedule(value):
        return type(value) is not root_type(spec)
    return value is None or isinstance(value, (int, float, complex, str, bytes)) or namespace_of(value) is not None


def constant_rate(value: Tree, spec: Any, what: str) -> Any:
    """What a state keeps: one float or schedule, or a tuple of one a leaf."""
    if _is_single(value, spec):
        return value if _is_schedule(value) else _as_rate(value, lambda: what)
    return tuple(
        x if _is_schedule(x) else _as_rate(x, functools.partial(path, spec, what, i))
        for i, x in enumerate(broadcast_prefix(value, spec, what))
    )


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
        lr = override if _is_single(override, spec) else tuple(broadcast_prefix(override, spec, "lr"))
    if not isinstance(lr, tuple) and not isinstance(weight_decay, tuple):
        return [_pair(_read(lr, t, lambda: "lr", beside), weight_decay)], (0,) * n
    lrs = lr if isinstance(lr, tuple) else (lr,) * n
    decays = weight_decay if isinstance(weight_decay, tuple) else (weight_decay,) * n
    index: dict[tuple[int, float], int] = {}
    pairs: list[tuple[Any, Any]] = []
    which: list[int] = []
    for i, (each, decay) in enumerate(zip(lrs, decays, strict=True)):
        key = (id(each), decay)
        if key not in index:
            index[key] = len(pairs)
            pairs.append(_pair(_read(each, t, functools.partial(path, spec, "lr", i), beside), decay))
        which.append(index[key])
    return pairs, tuple(which)


def _read(rate: Any, t: Any, what: Callable[[], str], beside: str) -> Any:
    if type(rate) is float and 0 <= rate < math.inf:
        return rate
    if _is_schedule(rate):
        return _as_rate(rate(t), lambda: f"lr {rate!r} at step {t}", beside)
    return _as_rate(rate, what, beside)


def _pair(rate: Any, weight_decay: float) -> tuple[Any, Any]:
    return rate, None if weight_decay == 0 else 1 - rate * weight_decay
