"""Slots stored in bfloat16, and parameters of bfloat16 rounded stochastically: what is asked for, and what can be."""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import optree

from adamod_array._method import PARAMS, Method
from adamod_array._methods import Methods, method_of
from adamod_array._namespace import Namespace, dtype_name, full_width, namespace_of
from adamod_array._program.rounding import STEP
from adamod_array._tree import flatten, unflatten

STORAGE = {"slot_dtype": "float32", "param_rounding": "nearest"}
"""What ``replace`` takes for how things are stored, and what None stands for."""

_ROUNDINGS = (None, "nearest", "stochastic")

_WITH_BITS = ("numpy", "torch", "jax", "cupy")
"""Frameworks in which the bits of a float can be looked at."""

_WITH_COMPACT = ("float32", "bfloat16", "float16")
"""Parameters, computed with in float32, whose slots may have 16 bits."""


def with_compact(method: Method | Methods, slot_dtype: Any, param_rounding: Any) -> Method | Methods:
    """Return a method, or one a leaf, that stores its slots as asked; None leaves that to the method.

    Raises
    ------
    TypeError, ValueError
        A dtype, a slot's name or a way of rounding that is not known.
    """
    if slot_dtype is None and param_rounding is None:
        return method
    if isinstance(method, Methods):
        return Methods([_with_compact(each, slot_dtype, param_rounding) for each in method])
    return _with_compact(method, slot_dtype, param_rounding)


def compacted(method: Any, slot_dtype: Any) -> Any:
    """Return a tree of methods that store their slots as asked; None leaves that to each."""
    return method if slot_dtype is None else _mapped(lambda x: _with_compact(x, slot_dtype, None), method)


def _with_compact(method: Method, slot_dtype: Any, param_rounding: Any) -> Method:
    kept = tuple([name for name in method.compact if name != PARAMS]) if slot_dtype is None else ()
    if isinstance(slot_dtype, Mapping):
        for name in slot_dtype:
            if name not in method.slots:
                raise ValueError(f"slot_dtype: {type(method).__name__} keeps {method.slots}, got {name!r}")
        compact = [name for name, dtype in slot_dtype.items() if dtype is not None and _is_bfloat16(dtype)]
        kept = tuple([name for name in method.slots if name in compact])
    elif slot_dtype is not None and _is_bfloat16(slot_dtype):
        kept = method.slots
    if not (param_rounding is None or isinstance(param_rounding, str)) or param_rounding not in _ROUNDINGS:
        raise ValueError(f"param_rounding must be 'nearest' or 'stochastic', got {param_rounding!r:.200}")
    if param_rounding == "stochastic" or (param_rounding is None and PARAMS in method.compact):
        kept = (*kept, PARAMS)
    return stored_as(method, kept)


def _is_bfloat16(dtype: Any) -> bool:
    """Return whether what stands for bfloat16 or float32, in any framework, is bfloat16.

    Raises
    ------
    ValueError
        It stands for neither.
    """
    name = dtype if isinstance(dtype, str) else ""
    if isinstance(dtype, type):  # of scalars: ml_dtypes.bfloat16, jax.numpy.bfloat16
        name = dtype.__name__
    elif isinstance(dtype, np.dtype) or (type(dtype).__module__, type(dtype).__name__) == ("torch", "dtype"):
        name = str(dtype).removeprefix("torch.")
    if name not in ("bfloat16", "float32"):
        raise ValueError(
            f"slot_dtype must be 'bfloat16' or 'float32', or a mapping of slots to them, got {dtype!r:.200}"
        )
    return name == "bfloat16"


def stored_as(method: Method, compact: tuple[str, ...]) -> Method:
    """Return a method that stores these slots, and perhaps the parameters, in bfloat16 rounded stochastically."""
    if method.compact == compact:
        return method
    twin = copy.copy(method)
    object.__setattr__(twin, "compact", compact)  # whatever arguments a user's own class is made of
    return twin


def compact_of(method: Any) -> tuple[str, ...]:
    """Return what a state of a method, or of a tree of them, stores in bfloat16; of anything else, nothing."""
    if isinstance(method, Methods):
        method = method[0]
    leaves = optree.tree_leaves(method, is_leaf=_is_method)
    return next((x.compact for x in leaves if _is_method(x)), ())


def kept_compact(method: Any, old: Any) -> Any:
    """Return a tree of methods that store their slots as ``old`` does.

    Raises
    ------
    ValueError
        One was given another storage.
    """
    compact = compact_of(old)

    def kept(x: Method) -> Method:
        if x.compact and x.compact != compact:
            raise ValueError(
                f"State.replace: method= stores {_listed(x.compact)} in bfloat16, rounded stochastically, this state"
                f" {_listed(compact)}; say it by replace(method=..., slot_dtype=..., param_rounding=...)"
            )
        return stored_as(x, compact)

    return _mapped(kept, method)


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names) or "nothing"


def changed(state: Any, changes: Mapping[str, Any]) -> dict[str, Any]:
    """Return the fields that ``state.replace`` is to change, with methods and slots stored as it was asked to.

    Raises
    ------
    TypeError, ValueError
        As :func:`with_compact` and :func:`kept_compact`.
    """
    fields = {name: x for name, x in changes.items() if name not in STORAGE}
    if len(fields) == len(changes):
        if "method" in fields:
            fields["method"] = kept_compact(fields["method"], state.method)
        return fields
    given = [None if name not in changes else changes[name] or wide for name, wide in STORAGE.items()]
    compact = compact_of(state.method)
    fields["method"] = _mapped(
        lambda x: _with_compact(stored_as(x, compact), *given), fields.get("method", state.method)
    )
    if "slot_dtype" in changes and "slots" not in fields:
        fields["slots"] = _recast(state.slots, state.resolved()[0].namespace, compact_of(fields["method"]))
    return fields


def _recast(slots: Mapping[str, Any], namespace: Namespace | None, compact: Sequence[str]) -> dict[str, Any]:
    """Return trees of slots in the dtypes that they are stored in: widened exactly, or rounded to nearest, once."""

    def cast(x: Any, dtype: str) -> Any:
        if x is None or namespace is None or namespace.name not in _WITH_BITS:
            return x
        if dtype_name(x) == dtype or dtype_name(x) not in ("float32", "bfloat16"):
            return x
        with namespace.on_device(x), np.errstate(all="ignore"):
            return namespace.cast(x, namespace.dtype(dtype))

    found = {}
    for name, tree in slots.items():
        leaves, spec = flatten(tree)
        dtype = "bfloat16" if name in compact else "float32"
        found[name] = unflatten(spec, [cast(x, dtype) for x in leaves])
    return found


def _mapped(change: Callable[[Method], Method], methods: Any) -> Any:
    """Return a tree of methods with each of them changed."""
    if isinstance(methods, Methods):
        return Methods([change(x) for x in methods])
    return optree.tree_map(lambda x: change(x) if _is_method(x) else x, methods, is_leaf=_is_method)


def _is_method(x: Any) -> bool:
    return isinstance(x, Method)


def check(
    method: Method | Methods,
    namespace: Namespace | None,
    params: Sequence[Any],
    slots: Sequence[Sequence[Any]],
    path: Callable[[str, int], str],
) -> None:
    """Check that parameters can have compact slots, and that slots have bfloat16 where, and only where, they do.

    Raises
    ------
    TypeError
        They cannot, or have not; the message names the leaf.
    """
    given = [i for i, p in enumerate(params) if p is not None]
    if namespace is None or not given:
        return
    compact = method_of(method, 0).compact
    if compact:
        _check_params(compact, namespace, params, given, path)
    for name, column in zip(method.slots, slots, strict=False):
        for i in given:
            dtype = dtype_name(column[i])
            if name in compact and dtype != "bfloat16":
                raise TypeError(
                    f"{path(f'slots[{name!r}]', i)} must be bfloat16, as this state stores it, got {dtype}: write"
                    " state.replace(slot_dtype=None) for slots of float32"
                )
            if name not in compact and dtype == "bfloat16" and dtype_name(params[i]) in _WITH_COMPACT:
                raise TypeError(
                    f"{path(f'slots[{name!r}]', i)} must be float32, as this state stores it, got bfloat16, which would"
                    " be rounded to nearest: write state.replace(slot_dtype='bfloat16') for slots that are rounded"
                    " stochastically"
                )


def _check_params(
    compact: Sequence[str], namespace: Namespace, params: Sequence[Any], given: Sequence[int], path: Any
) -> None:
    """Check that parameters, of which these are ``given``, can have compact slots, or be rounded stochastically."""
    has_slots = set(compact) != {PARAMS}
    if namespace.name not in _WITH_BITS:
        what, undo = ("slots in bfloat16", "slot_dtype") if has_slots else ("parameters", "param_rounding")
        raise TypeError(
            f"{what} are rounded stochastically by a look at the bits of numbers, which {namespace.name} does not show;"
            f" NumPy, PyTorch, JAX and CuPy do. state.replace({undo}=None) there goes on without"
        )
    for i in given:
        if has_slots and dtype_name(params[i]) not in _WITH_COMPACT:
            raise TypeError(
                f"{path('params', i)} must be float32, bfloat16 or float16 for slot_dtype='bfloat16', got"
                f" {dtype_name(params[i])}: write x.astype('float32'), or keep it in a state of its own"
            )
    if PARAMS in compact and all(dtype_name(params[i]) != "bfloat16" for i in given):
        raise TypeError(
            f"param_rounding='stochastic' rounds parameters of bfloat16, and there is none: {path('params', given[0])}"
            f" is {dtype_name(params[given[0]])}; leave it out"
        )


def halves_of(t: Any) -> dict[str, Any]:
    """Return what step ``t`` is called in a Program: two numbers below 2**16 that make it up, modulo 2**32."""
    if type(t) is int:
        return dict(zip(STEP, (float(t % 65536), float(t // 65536 % 65536)), strict=True))
    namespace = namespace_of(t)
    wide = namespace is not None and namespace.name == "jax"
    with full_width((t,)) if wide else contextlib.nullcontext():
        if namespace is not None and dtype_name(t) in ("int8", "uint8", "int16", "uint16"):
            t = namespace.cast(t, namespace.dtype("int32"))  # which holds 65536
        return dict(zip(STEP, (t % 65536, t // 65536 % 65536), strict=True))
