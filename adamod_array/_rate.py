"""Numbers that users give: rates, weight decays and counts, checked, spread over the leaves, read at step t."""

from __future__ import annotations

import functools
import inspect
import math
import operator
import types
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from adamod_array import _instead
from adamod_array._aliasing import is_memory
from adamod_array._namespace import Namespace, dtype_name, is_tracer, namespace_of
from adamod_array._tree import Tree, broadcast_prefix, flatten, path, root_type

_REAL = ("float", "bfloat", "int", "uint")


def real_number(value: Any, what: Callable[[], str], framework: str = "", kinds: str = "a number") -> Any:
    """Return a Python float, or a 0-d array where reading it would cost something.

    ``framework`` names the framework of the parameters, whose arrays may stay; all others are read.
    ``what`` is a call, because paths are spelled out for errors only.
    """
    if isinstance(value, (bool, str, bytes)):
        raise TypeError(f"{what()} must be {kinds}, got {_instead.of_no_number(value, what())}")
    namespace = namespace_of(value)
    if namespace is not None:
        if namespace.name == "torch" and tuple(value.shape) == (1,):
            value = value[0]  # as torch.optim's users keep a rate
        if tuple(value.shape) != ():
            raise ValueError(f"{what()} must be one number, got an array of shape {tuple(value.shape)}")
        if not dtype_name(value).startswith(_REAL):
            raise TypeError(f"{what()} must be a real number, got {value!r}")
        if namespace.name == framework != "numpy" and not is_free_to_read(namespace, value):
            return value
        if is_tracer(value):
            name = next(word for word in what().partition("[")[0].split() if not word.endswith(":"))
            raise TypeError(f"{what()} is traced by JAX: give it to step(..., {name}=...), with JAX parameters")
        if namespace.name == "torch" and value.requires_grad:
            raise TypeError(
                f"{what()} requires grad, which a number that is kept cannot: write x.item(), or give it to step(...),"
                " with PyTorch's parameters, to differentiate by it"
            )
    try:
        return float(value)
    except (TypeError, ValueError):
        raise TypeError(f"{what()} must be {kinds}, got {_instead.of_no_number(value, what())}") from None


def as_rate(value: Any, what: Callable[[], str], framework: str = "", kinds: str = "a number or a schedule") -> Any:
    number = real_number(value, what, framework, kinds)
    if isinstance(number, float):
        if not math.isfinite(number):
            raise ValueError(f"{what()} must be finite, got {number}")
        if number < 0:
            raise ValueError(f"{what()} must not be negative, got {number}")
    return number


def is_free_to_read(namespace: Namespace, value: Any) -> bool:
    """Return whether float(value) neither waits for a device nor cuts a gradient, and is one number even under vmap."""
    return namespace.name == "torch" and value.device.type == "cpu" and not value.requires_grad and is_memory(value)


def checked_schedule(value: Any, what: Callable[[], str]) -> Any:
    """Return a schedule that can be called with a number of steps.

    Raises
    ------
    TypeError
        It is a class of schedules, or a function of other arguments.
    """
    if not isinstance(value, (type, types.FunctionType)):
        return value
    name, is_class = value.__name__, isinstance(value, type)
    if isinstance(value, type) and not any("__call__" in vars(x) for x in value.__mro__):  # instances are no functions
        raise TypeError(f"{what()} must be a number or a schedule, got {name}, a class")
    signature = inspect.signature(value, follow_wrapped=is_class)  # a wrapper of a function is called itself
    kept = [x.replace(annotation=x.empty) for x in signature.parameters.values()]
    signature = signature.replace(parameters=kept, return_annotation=signature.empty)
    if is_class:
        raise TypeError(f"{what()} must be a number or a schedule, got {name}, a class: call it, {name}{signature}")
    try:
        signature.bind(1)
    except TypeError as error:
        raise TypeError(
            f"{what()} must be a number or a function of the step t, got {name}{signature} ({error}): call it first,"
            " if it makes a schedule, or write lambda t: ..."
        ) from None
    return value


def is_schedule(value: Any) -> bool:
    return callable(value) and namespace_of(value) is None


def is_number(value: Any) -> bool:
    """Return whether a rate is meant for one number that can be read for nothing, right or wrong."""
    return value is None or isinstance(value, (int, float, complex, str, bytes, np.generic))


def is_settled(value: Any) -> bool:
    """Return whether a rate is no tree of rates that is still to be spread over the leaves."""
    return is_number(value) or isinstance(value, PerLeaf) or is_schedule(value) or namespace_of(value) is not None


def is_single(value: Any, spec: Any) -> bool:
    """Return whether a rate is no tree. An Equinox module can be called, and is a tree where the parameters are."""
    if is_schedule(value):
        return spec is None or type(value) is not root_type(spec)
    return is_number(value) or namespace_of(value) is not None or (spec is not None and _is_lone(value))


def _is_lone(value: Any) -> bool:
    """Return whether a value is neither a rate nor a container of rates: what is wrong with it, is so anywhere."""
    return not isinstance(value, (dict, list, tuple)) and any(x is value for x in flatten(value)[0][:1])


class PerLeaf(tuple[Any, ...]):
    """One rate a leaf, in leaf order: a tree prefix of rates once it has met the parameters."""

    def __getitem__(self, index: Any) -> Any:
        try:
            return tuple.__getitem__(self, index)
        except TypeError:
            raise TypeError(
                f"there is one value a leaf, in leaf order, got {index!r}: state.learning_rate() returns rates by their"
                " branches"
            ) from None


def spread(value: Tree, spec: Any, params: Sequence[Any], what: str) -> PerLeaf:
    """Spread a tree prefix of rates over the leaves; where a parameter is None, its rate may be so too."""
    if isinstance(value, PerLeaf):
        if len(value) != spec.num_leaves:
            raise ValueError(f"{what} has {len(value)} values for {spec.num_leaves} leaves of params")
        return value
    pairs = zip(broadcast_prefix(value, spec, what), params, strict=True)
    return PerLeaf([0.0 if x is None is p else x for x, p in pairs])


def constant_rate(value: Tree, spec: Any = None, params: Sequence[Any] = (), what: str = "lr") -> Any:
    """Return what a state keeps of a rate: one float or schedule, or :class:`PerLeaf`.

    ``spec`` and ``params`` are the structure and the leaves of a tree of which ``value`` may be a prefix.
    """
    if is_single(value, spec):
        return _kept(value, lambda: what, what)
    kept: dict[int, Any] = {}
    values = spread(value, spec, params, what)
    for i, x in enumerate(values):
        if id(x) not in kept:
            kept[id(x)] = _kept(x, functools.partial(path, spec, what, i), what)
    return PerLeaf([kept[id(x)] for x in values])


def _kept(value: Any, what: Callable[[], str], name: str) -> Any:
    """Return a rate, or a decay, as a state keeps it."""
    if name == "weight_decay":
        return value if is_schedule(value) else as_rate(value, what, kinds="a number")
    return checked_schedule(value, what) if is_schedule(value) else as_rate(value, what)


def decay_rate(value: Tree, spec: Any = None, params: Sequence[Any] = ()) -> Any:
    """Check weight decay as :func:`constant_rate` checks a rate: numbers only."""
    kept = constant_rate(value, spec, params, "weight_decay")
    for each in kept if isinstance(kept, tuple) else (kept,):
        refuse_schedule(each, lambda: "weight_decay")
    return kept


def refuse_schedule(value: Any, what: Callable[[], str]) -> None:
    """Check that weight decay is no schedule."""
    if is_schedule(value):
        raise TypeError(f"{what()} must be a number, got {value!r}; it follows the schedule of lr already")


def rate_at(rate: Any, t: Any, what: Callable[[], str], framework: str) -> Any:
    """Return the learning rate of step ``t``, checked: a float, or a 0-d array of the parameters' framework."""
    if type(rate) is float and 0 <= rate < math.inf:
        return rate
    if is_schedule(rate):
        return as_rate(rate(t), lambda: f"{what()} {rate!r} at step {t}", framework, "a number")
    return as_rate(rate, what, framework)


def checked_decay(weight_decay: Any, what: Callable[[], str], framework: str) -> Any:
    """Return the weight decay of a step, checked: a float, or a 0-d array of the parameters' framework."""
    if type(weight_decay) is float and 0 <= weight_decay < math.inf:
        return weight_decay
    refuse_schedule(weight_decay, what)
    return as_rate(weight_decay, what, framework, "a number")


def with_factor(rate: Any, weight_decay: Any) -> tuple[Any, Any]:
    """Return the rate and the decay factor ``1 - rate * weight_decay``, None where there is no decay."""
    if type(weight_decay) is float:
        if weight_decay == 0:
            return rate, None
        if type(rate) is float:
            return rate, 1 - rate * weight_decay
    return rate, 1 - _wide(rate) * _wide(weight_decay)


def _wide(x: Any) -> Any:
    """Return a number or 0-d array with 32 bits or more: in 16, one minus something small is one."""
    namespace = namespace_of(x)
    narrow = namespace is not None and dtype_name(x) in ("float16", "bfloat16")
    return namespace.cast(x, namespace.dtype("float32")) if namespace is not None and narrow else x


def step_count(value: Any, name: str = "step") -> Any:
    """Return a number of steps as a Python int; as it is where the host would have to wait for it.

    Raises
    ------
    TypeError, ValueError
        It is no integer, not one number, or negative.
    """
    if type(value) is int and value >= 0:
        return value
    expected = f"{name} must be a count of steps, an int from 0 up"
    namespace = namespace_of(value)
    if namespace is not None:
        if tuple(value.shape) != ():
            raise ValueError(f"{expected}, got an array of shape {tuple(value.shape)}")
        if not dtype_name(value).startswith(("int", "uint")):
            raise TypeError(f"{expected}, got {value!r}")
        if namespace.name in ("jax", "cupy") or (namespace.name == "torch" and not is_free_to_read(namespace, value)):
            return value
    try:
        if isinstance(value, bool):
            raise TypeError
        count = operator.index(value) if namespace is None else int(value)
    except TypeError:
        raise TypeError(f"{expected}, got {value!r}") from None
    if count < 0:
        raise ValueError(f"{expected}, got {count}")
    return count
