"""Every check of arrays, all of them made before anything is written."""

from __future__ import annotations

import bisect
import functools
import itertools
import math
from collections.abc import Callable, Sequence
from typing import Any, cast

import numpy as np

from adamod_array._namespace import COMPUTE_DTYPE, Namespace, dtype_name, is_tracer, namespace_of

WRITABLE = ("numpy", "cupy", "torch")
"""The frameworks whose arrays a donated step writes in place."""

Paths = Callable[[int], str]
"""The path of leaf i: a call, because paths are spelled out for errors only."""


def _describe(x: Any) -> str:
    kind = namespace_of(x)
    if kind is None:
        return f"{type(x).__module__}.{type(x).__qualname__}".removeprefix("builtins.")
    return f"a {kind.name} array of dtype {dtype_name(x)} and shape {tuple(x.shape)}"


def params(leaves: list[Any], path: Paths, root: str = "params") -> Namespace | None:
    """Floating arrays of one framework; returns its namespace (None of a tree without arrays)."""
    first: Namespace | None = None
    for i, p in enumerate(leaves):
        if p is None:
            continue
        kind = namespace_of(p)
        if kind is None:
            raise TypeError(
                f"{path(i)} must be an array, got {_describe(p)}; None marks what is not to be optimized"
                " (of an Equinox module: equinox.filter(module, equinox.is_inexact_array))"
            )
        if dtype_name(p) not in COMPUTE_DTYPE:
            raise TypeError(f"{path(i)} must have one of the dtypes {', '.join(COMPUTE_DTYPE)}, got {_describe(p)}")
        _dense(kind, p, functools.partial(path, i))
        _alive(kind, p, functools.partial(path, i))
        if first is None:
            first, at = kind, i
        elif kind.name != first.name:
            raise TypeError(
                f"{root} mix frameworks: {path(at)} is {_describe(leaves[at])}, {path(i)} is {_describe(p)}"
            )
    return first


def _alive(kind: Namespace, x: Any, path: Callable[[], str]) -> None:
    if kind.name == "jax" and not is_tracer(x) and x.is_deleted():
        raise ValueError(f"{path()} has been deleted: its buffer was donated, so the state it belonged to is spent")


def _dense(kind: Namespace, x: Any, path: Callable[[], str]) -> None:
    if kind.name == "torch" and x.layout != kind.xp.strided:
        raise TypeError(f"{path()} must be dense, got a tensor of layout {x.layout}: call .to_dense()")


def beside(kind: Namespace, p: Any, x: Any, path: Callable[[], str]) -> None:
    """A gradient or slot matches its parameter: framework, dtype category, shape and device."""
    if x is None:
        raise TypeError(f"{path()} is None where the parameter is an array")
    x_kind = namespace_of(x)
    if x_kind is None:
        raise TypeError(f"{path()} must be an array, got {_describe(x)}")
    if x_kind.name != kind.name:
        raise TypeError(f"{path()} must be a {kind.name} array like its parameter, got {_describe(x)}")
    _alive(kind, x, path)
    if x.shape != p.shape and not _unknown(p.shape):
        raise ValueError(f"{path()} must have its parameter's shape {tuple(p.shape)}, got {tuple(x.shape)}")
    if x.dtype != p.dtype:
        name = dtype_name(x)
        if name not in COMPUTE_DTYPE:
            raise TypeError(f"{path()} must have a floating dtype like its parameter's {dtype_name(p)}, got {name}")
        if name.startswith("complex") and not dtype_name(p).startswith("complex"):
            raise TypeError(f"{path()} must be real like its parameter ({dtype_name(p)}), got {name}")
    if kind.name == "numpy":
        return
    _dense(kind, x, path)
    here, there = kind.device(p), kind.device(x)
    if here != there and None not in (here, there):
        raise ValueError(f"{path()} must be on its parameter's device {here}, got {there}")


def _unknown(shape: Any) -> bool:
    """Dask's shapes hold NaN where they are not known yet."""
    return any(math.isnan(n) for n in shape)


def writable(kind: Namespace, arrays: list[tuple[Any, Callable[[], str]]]) -> None:
    """Arrays that may be written in place: not read-only, and no two of them share memory."""
    spans = []
    for x, path in arrays:
        if kind.name == "numpy" and not x.flags.writeable:
            raise ValueError(f"{path()} is read-only and cannot be donated: step without donate, or from a copy")
        span = _span(kind, x)
        if span is not None:
            if any(stride == 0 and n > 1 for n, stride in zip(x.shape, _strides(kind, x), strict=True)):
                raise ValueError(f"{path()} repeats elements (a broadcast view) and cannot be donated")
            spans.append((*span, x, path))
    spans.sort(key=lambda each: each[0])
    open_spans: list[Any] = []
    for each in spans:
        low, _, x, path = each
        open_spans = [other for other in open_spans if other[1] > low]
        for _, _, y, other_path in open_spans:
            if kind.name == "jax" or _shares(_view(kind, x), _view(kind, y)):
                raise ValueError(f"{other_path()} and {path()} share memory and cannot both be donated")
        open_spans.append(each)


def overlapping(kind: Namespace, grads: Sequence[Any], params: Sequence[Any], written: Sequence[Any]) -> set[int]:
    """Which gradients share memory with an array that a donated step writes, other than as their parameter itself.

    A step reads and writes element by element, so a gradient may be its own parameter. It may not
    be another's (the gradient of x * y with respect to x is y): that one may be written first.
    """
    spans = sorted([(*span, i) for i, x in enumerate(written) if (span := _span(kind, x))])
    starts, ends = [low for low, _, _ in spans], list(itertools.accumulate([high for _, high, _ in spans], max))
    clashes = set()
    for i, (g, p) in enumerate(zip(grads, params, strict=True)):
        own = _span(kind, g)
        if own is None or (own == _span(kind, p) and kind.layout(g) == kind.layout(p)):
            continue
        k = bisect.bisect_left(starts, own[1])
        while k > 0 and ends[k - 1] > own[0] and i not in clashes:
            k -= 1
            if spans[k][1] > own[0] and _shares(_view(kind, g), _view(kind, written[spans[k][2]])):
                clashes.add(i)
    return clashes


def _strides(kind: Namespace, x: Any) -> Any:
    if kind.name == "jax":
        return x.shape  # never 0 where the shape is not
    return x.stride() if kind.name == "torch" else x.strides


def _span(kind: Namespace, x: Any) -> tuple[int, int] | None:
    """First address and the one after the last; of JAX's arrays, their identity; None of what is not written."""
    if kind.name == "jax":
        return None if is_tracer(x) else (id(x), id(x) + 1)
    if kind.name not in WRITABLE or 0 in x.shape:
        return None
    if kind.name == "torch" and x.is_contiguous():
        return x.data_ptr(), x.data_ptr() + x.numel() * x.itemsize
    low, high = np.lib.array_utils.byte_bounds(_view(kind, x))
    return low, high


def _shares(x: Any, y: Any) -> bool:
    try:
        return np.shares_memory(x, y, max_work=cast("Any", 10**6))
    except np.exceptions.TooHardError:
        return True


def _view(kind: Namespace, x: Any) -> Any:
    """The array's memory as NumPy sees it, never read here: a pointer on a GPU will do."""
    if kind.name == "numpy":
        return x
    torch = kind.name == "torch"
    interface = {
        "version": 3,
        "data": (x.data_ptr() if torch else x.data.ptr, True),
        "shape": tuple(x.shape),
        "strides": tuple(n * x.itemsize for n in x.stride()) if torch else tuple(x.strides),
        "typestr": f"|V{x.dtype.itemsize}",
    }
    return np.asarray(type("Memory", (), {"__array_interface__": interface})())
