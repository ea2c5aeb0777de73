"""Every check of arrays, all of them made before anything is written."""

from __future__ import annotations

import functools
import math
import sys
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np

from adamod_array import _instead
from adamod_array._difference import class_name
from adamod_array._namespace import (
    COMPUTE_DTYPE,
    Namespace,
    dtype_name,
    framework,
    is_derived_array,
    is_tracer,
    namespace_of,
)

Paths = Callable[[int], str]
"""The path of leaf i: a call, because paths are spelled out for errors only."""


def _describe(x: Any) -> str:
    namespace = namespace_of(x)
    if namespace is None:
        name = class_name(x)
        return name + (f", whose arithmetic is its own: {_instead.of_derived_array(x)}" if is_derived_array(x) else "")
    return f"a {namespace.name} array of dtype {dtype_name(x)} and shape {tuple(x.shape)}"


def params(leaves: list[Any], path: Paths, root: str = "params") -> Namespace | None:
    """Check that leaves are floating arrays of one framework; return its namespace, None of a tree without arrays."""
    if len(leaves) == 1 and leaves[0] is None and root == "params" == path(0):
        raise TypeError(f"{root} must be a tree of arrays, got None, which marks a leaf that is not to be optimized")
    first: Namespace | None = None
    for i, p in enumerate(leaves):
        if p is None:
            continue
        namespace = namespace_of(p)
        if namespace is None:
            raise TypeError(_no_array(p, path(i), "numpy" if first is None else first.name))
        if dtype_name(p) not in COMPUTE_DTYPE:
            raise TypeError(
                f"{path(i)} must have one of the dtypes {', '.join(COMPUTE_DTYPE)}, got {_describe(p)}"
                f"{_hint(_instead.of_dtype(p, path(i)))}"
            )
        _dense(namespace, p, functools.partial(path, i))
        _alive(namespace, p, functools.partial(path, i))
        if first is None:
            first, at = namespace, i
        elif namespace.name != first.name:
            x, name = (leaves[at], namespace.name) if first.name == "numpy" else (p, first.name)
            raise TypeError(
                f"{root} mix frameworks: {path(at)} is {_describe(leaves[at])}, {path(i)} is {_describe(p)}; convert"
                f" one of them{_instead.of_another_framework(x, name)}"
            )
    return first


def flag(value: Any, name: str) -> None:
    """Check that an option is True or False."""
    if not isinstance(value, (bool, np.bool_)):
        raise TypeError(f"step: {name} must be True or False, got {value!r:.200}")


def warn_of_no_gradient() -> None:
    """Warn, once for each place of a user's code, that a step had no gradient at all."""
    if framework("torch").compiler.is_compiling():
        return
    frame, level = sys._getframe(1), 2
    while frame.f_back is not None and frame.f_globals.get("__name__", "").partition(".")[0] in _PASSED:
        frame, level = frame.f_back, level + 1
    warnings.warn(
        "adamod_array: all gradients are None, so that no parameter moved. Was loss.backward() forgotten, or were"
        " gradients read of other tensors than the loss was computed from? After a step that does not donate,"
        " state.params are new tensors, and a module's own stay as they were",
        UserWarning,
        stacklevel=level,
    )


_PASSED = ("adamod_array", "torch", "contextlib")
"""Packages whose frames lie between a user's call and a warning."""


def _no_array(x: Any, path: str, name: str) -> str:
    """Return what to say of something that stands where an array of a framework is expected."""
    instead = "" if is_derived_array(x) else _instead.of_no_array(x, path, name)
    return f"{path} must be an array, got {_describe(x)}{_hint(instead)}"


def _hint(instead: str) -> str:
    return f": {instead}" if instead else ""


def refuse_state(tree: Any, root: str, instead: str) -> None:
    """Check that a tree of arrays is no state, whose counts would be taken for arrays."""
    if _instead.is_state(tree):
        raise TypeError(f"{root} must be a tree of arrays, got a state: {instead}")


def _alive(namespace: Namespace, x: Any, path: Callable[[], str]) -> None:
    if namespace.name == "jax" and not is_tracer(x) and x.is_deleted():
        raise ValueError(f"{path()} has been deleted: its buffer was donated, so the state it belonged to is spent")


def _dense(namespace: Namespace, x: Any, path: Callable[[], str]) -> None:
    if namespace.name == "torch":
        if x.layout != namespace.xp.strided:
            raise TypeError(f"{path()} must be dense, got a tensor of layout {x.layout}: call .to_dense()")
        backed(x, path)


def backed(x: Any, path: Callable[[], str]) -> None:
    """Check that a tensor's memory is there: its storage may have been freed or cut under it."""
    if lacks_memory(x):
        raise ValueError(
            f"{path()} has lost its memory: a storage of {x.untyped_storage().nbytes()} bytes does not hold"
            f" {_describe(x)} (was it resized, or freed by FSDP?)"
        )


def lacks_memory(x: Any) -> bool:
    """Return whether the storage of a tensor ends before its elements do."""
    if framework("torch").compiler.is_compiling() or type(x).__name__ not in ("Tensor", "Parameter") or x.numel() == 0:
        return False  # of a shard or a fake, somebody else knows
    try:
        size: int = x.untyped_storage().nbytes()
    except NotImplementedError:  # one of functorch's
        return False
    last = (
        x.numel() - 1 if x.is_contiguous() else sum((n - 1) * step for n, step in zip(x.shape, x.stride(), strict=True))
    )
    return bool((x.storage_offset() + last + 1) * x.itemsize > size)


def like_parameter(namespace: Namespace, p: Any, x: Any, path: Callable[[], str]) -> None:
    """Check that a gradient or slot matches its parameter: framework, dtype category, shape and device."""
    if x is None:
        raise TypeError(f"{path()} is None where the parameter is an array")
    theirs = namespace_of(x)
    if theirs is None:
        raise TypeError(_no_array(x, path(), namespace.name))
    if theirs.name != namespace.name:
        raise TypeError(
            f"{path()} must be a {namespace.name} array like its parameter, got"
            f" {_describe(x)}{_instead.of_another_framework(x, namespace.name)}"
        )
    _alive(namespace, x, path)
    if x.shape != p.shape and not has_unknown_sizes(p.shape):
        shape = tuple(p.shape)
        raise ValueError(
            f"{path()} must have its parameter's shape {shape}, got {tuple(x.shape)}{_instead.of_shape(x, shape)}"
        )
    if namespace.name == "dask":
        _blocks(p, x, path)
    if x.dtype != p.dtype:
        name, own = dtype_name(x), dtype_name(p)
        if name.startswith("complex") and not own.startswith("complex"):
            raise TypeError(f"{path()} must be real like its parameter ({own}), got {name}: write x.real")
        if name not in COMPUTE_DTYPE:
            raise TypeError(
                f"{path()} must have a floating dtype like its parameter's {own}, got {name}"
                f"{_hint(_instead.of_dtype(x, path(), own))}"
            )
    if namespace.name == "numpy":
        return
    _dense(namespace, x, path)
    here, there = namespace.device(p), namespace.device(x)
    if here != there and None not in (here, there) and not (namespace.name == "jax" and _moves(p, x)):
        raise ValueError(
            f"{path()} must be on its parameter's device {here}, got {there}: {_instead.of_device(x, here)}"
        )


def _blocks(p: Any, x: Any, path: Callable[[], str]) -> None:
    """Check that Dask's chunks can be laid as the parameter's: where sizes are unknown, they are matched by number."""
    if x.ndim == p.ndim and all(
        len(ours) == len(theirs) or not has_unknown_sizes((*ours, *theirs))
        for ours, theirs in zip(p.chunks, x.chunks, strict=True)
    ):
        return
    raise ValueError(
        f"{path()} must have the blocks of its parameter, {p.numblocks}, where sizes are unknown; got"
        f" {x.numblocks}: call compute_chunk_sizes() on both"
    )


def _moves(*arrays: Any) -> bool:
    """Return whether JAX takes its arrays to one device: nobody chose where one that is not committed lies."""
    return not all(x.committed for x in arrays)


def has_unknown_sizes(shape: Any) -> bool:
    """Return whether a shape is not known yet: Dask's then holds NaN."""
    return any(math.isnan(n) for n in shape)
