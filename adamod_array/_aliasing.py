"""Who shares memory: arrays that may be written in place, gradients that must be read before they are."""

from __future__ import annotations

import bisect
import itertools
import sys
from collections.abc import Callable, Sequence
from typing import Any, cast

import numpy as np

from adamod_array._namespace import Namespace, is_tracer

WRITABLE = ("numpy", "cupy", "torch")
"""The frameworks whose arrays a donated step writes in place."""

Named = tuple[Any, Callable[[], str]]
"""An array and its path: a call, because paths are spelled out for errors only."""


def check_writable(namespace: Namespace, written: list[Named], untouched: list[Named]) -> None:
    """Check arrays that are to be written in place: none is read-only or shares memory with another of its state.

    ``untouched`` are those that the step leaves as they are.

    Raises
    ------
    ValueError
        One of them cannot be written, or not without changing another.
    """
    spans = []
    for x, path in written:
        if namespace.name == "numpy" and not x.flags.writeable:
            raise ValueError(f"{path()} is read-only and cannot be donated: step without donate, or from a copy")
        if (own := span(namespace, x)) is not None:
            if _overlaps_itself(namespace, x):
                raise ValueError(f"{path()} repeats elements (a broadcast view, a sliding window): donate a copy")
            spans.append((*own, x, path, True))
    spans += [(*own, x, path, False) for x, path in untouched if (own := span(namespace, x)) is not None]
    spans.sort(key=lambda each: each[0])
    open_spans: list[Any] = []
    for each in spans:
        low, _, x, path, is_written = each
        open_spans = [other for other in open_spans if other[1] > low]
        for _, _, y, other_path, other_is_written in open_spans:
            if (is_written or other_is_written) and _overlap(namespace, x, y):
                raise ValueError(
                    f"{other_path()} and {path()} share memory and cannot both be donated: step without donate,"
                    " or give copies"
                )
        open_spans.append(each)


def overlapping(namespace: Namespace, grads: Sequence[Any], params: Sequence[Any], written: Sequence[Any]) -> set[int]:
    """Return which gradients share memory with an array that a donated step writes, other than as their own parameter.

    A step reads and writes element by element, so a gradient may be its own parameter. It may not
    be another's (the gradient of x * y with respect to x is y): that one may be written first.
    """
    spans = sorted([(*own, i) for i, x in enumerate(written) if (own := span(namespace, x))])
    starts, ends = [low for low, _, _ in spans], list(itertools.accumulate([high for _, high, _ in spans], max))
    clashes = set()
    for i, (g, p) in enumerate(zip(grads, params, strict=True)):
        own = span(namespace, g)
        if own is None or (own == span(namespace, p) and namespace.layout(g) == namespace.layout(p)):
            continue
        k = bisect.bisect_left(starts, own[1])
        while k > 0 and ends[k - 1] > own[0] and i not in clashes:
            k -= 1
            if spans[k][1] > own[0] and _overlap(namespace, g, written[spans[k][2]]):
                clashes.add(i)
    return clashes


def _overlaps_itself(namespace: Namespace, x: Any) -> bool:
    """Return whether two indices may lead to one element: some dimension steps by less than those inside it reach."""
    if namespace.name == "jax" or (namespace.name == "cupy" and x.flags.forc):
        return False
    strides, reach = (x.stride(), 1) if namespace.name == "torch" else (x.strides, x.dtype.itemsize)
    for stride, n in sorted((abs(stride), n) for stride, n in zip(strides, x.shape, strict=True) if n > 1):
        if stride < reach:
            return True
        reach += stride * (n - 1)
    return False


def span(namespace: Namespace, x: Any) -> tuple[int, int] | None:
    """Return the first address and the one after the last; None of what has no memory that a step would write.

    Of arrays that a framework alone can find (JAX's, DTensors, fakes), their identity stands for it.
    """
    if namespace.name == "jax" or (namespace.name == "torch" and not is_memory(x)):
        return None if is_tracer(x) else (-id(x), 1 - id(x))
    if namespace.name not in WRITABLE or 0 in x.shape:
        return None
    if namespace.name == "torch" and x.is_contiguous():
        return x.data_ptr(), x.data_ptr() + x.numel() * x.itemsize
    if namespace.name == "cupy" and x.flags.forc:
        return x.data.ptr, x.data.ptr + x.nbytes
    low, high = np.lib.array_utils.byte_bounds(_view(namespace, x))
    return low, high


def is_memory(x: Any) -> bool:
    """Return whether a tensor is memory of a device: no shard, no fake, and none that stands for several under vmap."""
    torch = sys.modules["torch"]
    if type(x) not in (torch.Tensor, torch.nn.Parameter) or x.is_meta:
        return False
    try:
        return bool(x.data_ptr() != 0 or x.numel() == 0)
    except RuntimeError:  # functorch's
        return False


def _overlap(namespace: Namespace, x: Any, y: Any) -> bool:
    """Return whether two arrays whose spans meet have an element in common."""
    if x is y:
        return True
    try:
        return np.shares_memory(_view(namespace, x), _view(namespace, y), max_work=cast("Any", 10**6))
    except np.exceptions.TooHardError:
        return True


def _view(namespace: Namespace, x: Any) -> Any:
    """Return the array's memory as NumPy sees it, never read here: a pointer on a GPU will do."""
    if namespace.name == "numpy":
        return x
    torch = namespace.name == "torch"
    interface = {
        "version": 3,
        "data": (x.data_ptr() if torch else x.data.ptr, True),
        "shape": tuple(x.shape),
        "strides": tuple(n * x.itemsize for n in x.stride()) if torch else tuple(x.strides),
        "typestr": f"|V{x.dtype.itemsize}",
    }
    return np.asarray(type("Memory", (), {"__array_interface__": interface})())
