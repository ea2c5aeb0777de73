"""Slots stored in bfloat16, and parameters of bfloat16 rounded stochastically: what is asked for, and what can be."""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import optree

from adamod_array._method import PARAMS, Method
from adamod_array._methods import Methods, method_of
from adamod_array._namespace import Namespace, dtype_name, full_width, namespace_of
from adamod_array._program.rounding import STEP

_WITH_BITS = ("numpy", "torch", "jax", "cupy")
"""Frameworks in which the bits of a float can be looked at."""


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
    if slot_dtype is not None:
        given = slot_dtype if isinstance(slot_dtype, Mapping) else dict.fromkeys(method.slots, slot_dtype)
        for name, dtype in given.items():
            if name not in method.slots:
                raise ValueError(f"slot_dtype: {type(method).__name__} keeps {method.slots}, got {name!r}")
            if dtype != "bfloat16":
                raise ValueError(f"slot_dtype must be 'bfloat16', or a mapping of slots to it, got {dtype!r}")
        kept = tuple([name for name in method.slots if name in given])
    if param_rounding not in (None, "nearest", "stochastic"):
        raise ValueError(f"param_rounding must be 'nearest' or 'stochastic', got {param_rounding!r}")
    if param_rounding == "stochastic" or (param_rounding is None and PARAMS in method.compact):
        kept = (*kept, PARAMS)
    return stored_as(method, kept)


def stored_as(method: Method, compact: tuple[str, ...]) -> Method:
    """Return a method that stores these slots, and perhaps the parameters, in bfloat16 rounded stochastically."""
    if method.compact == compact:
        return method
    twin = copy.copy(method)
    object.__setattr__(twin, "compact", compact)  # whatever arguments a user's own class is made of
    return twin


def compact_of(method: Any) -> tuple[str, ...]:
    """Return what a state of a method, or of one a leaf, stores in bfloat16; of anything else, nothing."""
    return getattr(method[0] if isinstance(method, Methods) else method, "compact", ())


def kept_compact(method: Any, old: Any) -> Any:
    """Return a tree of methods that store their slots as ``old`` does."""
    compact = compact_of(old)
    return _mapped(lambda x: x if x.compact else stored_as(x, compact), method)


def _mapped(change: Callable[[Method], Method], methods: Any) -> Any:
    """Return a tree of methods with each of them changed."""

    def is_method(x: Any) -> bool:
        return isinstance(x, Method)

    return optree.tree_map(lambda x: change(x) if is_method(x) else x, methods, is_leaf=is_method)


def check(
    method: Method | Methods,
    namespace: Namespace | None,
    params: Sequence[Any],
    slots: Sequence[Sequence[Any]],
    path: Callable[[str, int], str],
) -> None:
    """Check that parameters can have compact slots, and that compact slots have bfloat16.

    Raises
    ------
    TypeError
        They cannot, or have not; the message names the leaf.
    """
    if namespace is None or not params or not method_of(method, 0).compact:
        return
    compact = method_of(method, 0).compact
    option = "slot_dtype='bfloat16'" if compact != (PARAMS,) else "param_rounding='stochastic'"
    if namespace.name not in _WITH_BITS:
        raise TypeError(
            f"{option} looks at the bits of numbers, which {namespace.name} does not show; it is there for NumPy,"
            " PyTorch, JAX and CuPy"
        )
    for i, p in enumerate(params):
        if p is None:
            continue
        dtype = dtype_name(p)
        if option.startswith("slot") and dtype not in ("float32", "bfloat16", "float16"):
            raise TypeError(
                f"{path('params', i)} must be float32, bfloat16 or float16 for {option}, got {dtype}: keep it in a"
                " state of its own"
            )
        if PARAMS in compact and dtype == "float16":
            raise TypeError(f"{path('params', i)} must not be float16: param_rounding='stochastic' rounds to bfloat16")
        for name, column in zip(method.slots, slots, strict=False):
            if name in compact and dtype_name(column[i]) != "bfloat16":
                raise TypeError(
                    f"{path(f'slots[{name!r}]', i)} must be bfloat16, as slot_dtype= of init said, got"
                    f" {dtype_name(column[i])}"
                )


def halves_of(t: Any) -> dict[str, Any]:
    """Return what step ``t`` is called in a Program: two numbers below 2**16 that make it up, modulo 2**32."""
    if type(t) is int:
        return dict(zip(STEP, (float(t % 65536), float(t // 65536 % 65536)), strict=True))
    namespace = namespace_of(t)
    wide = namespace is not None and namespace.name == "jax"
    with full_width((t,)) if wide else contextlib.nullcontext():
        return dict(zip(STEP, (t % 65536, t // 65536 % 65536), strict=True))
