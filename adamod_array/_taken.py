"""Whether a step is taken, and what its gradients are multiplied by: ``where`` and ``max_norm``."""

from __future__ import annotations

from typing import Any

import numpy as np

from adamod_array._coefficients import next_step
from adamod_array._dtensor import is_dtensor
from adamod_array._leaves import Leaves
from adamod_array._namespace import Namespace, dtype_name, is_tracer, namespace_of
from adamod_array._norm import all_finite, clip_of
from adamod_array._program.trace import CLIP, OK
from adamod_array._rate import is_free_to_read
from adamod_array._scalars import Options
from adamod_array._tree import Tree

Common = dict[str, Any]
"""What all leaves of a step share, by its names in a Program."""

DECIDE = ("jax", "torch", "cupy")
"""Frameworks whose devices decide whether a step is taken; of any other, the answer is read."""


def decision(where: Any, grads: Tree, own: Namespace | None) -> Any:
    """Return whether the step is taken: a bool, or a 0-d array where the host would have to wait for it.

    Raises
    ------
    TypeError, ValueError
        ``where`` is no bool, no 0-d array of bool, and no function of the gradients that returns one.
    """
    if isinstance(where, bool):
        return where
    framework = "" if own is None else own.name
    expected = "step: where must be True, False, a 0-d array of bool, or a function of the gradients such as all_finite"
    if callable(where) and namespace_of(where) is None:
        try:
            where = where(grads)
        except TypeError as error:
            if "finite" not in getattr(where, "__name__", ""):
                raise
            raise TypeError(f"{expected}, which is called with their tree: write where=all_finite ({error})") from None
    if is_dtensor(where):
        where = where.full_tensor()
    namespace = namespace_of(where)
    if namespace is None:
        if not isinstance(where, (bool, np.bool_)):
            raise TypeError(f"{expected}, got {where!r}")
        return bool(where)
    if tuple(where.shape) != ():
        raise ValueError(f"{expected}, got an array of shape {tuple(where.shape)}")
    if dtype_name(where) != "bool":
        raise TypeError(f"{expected}, got an array of dtype {dtype_name(where)}")
    if namespace.name == framework and framework in DECIDE and not is_free_to_read(namespace, where):
        return where
    if is_tracer(where):
        raise TypeError("step: where is traced by JAX, and the parameters are no arrays of JAX's")
    return bool(where)


def resolved(options: Options, grads: Tree, gradients: list[Any], leaves: Leaves) -> tuple[Any, list[Any], Common]:
    """Return whether the step is taken, the gradients, and what all leaves share.

    Where a gradient or its parameter has not the dtype of the norm, clipping rounds the product otherwise than a kernel
    would: such gradients are clipped here, and no factors are left.
    """
    namespace, where, clip = leaves.namespace, options.where, None
    if options.max_norm is not None and where is not False and any(g is not None for g in gradients):
        gradients = leaves.placed(gradients) if leaves.placings is not None else gradients
        clip = clip_of(gradients, leaves.spec, options.max_norm, "step: max_norm")
        if where is all_finite and clip.is_finite:
            where = True  # gradients were read already
    ok = decision(where, grads, namespace)
    common: dict[str, Any] = {}
    if clip is not None and ok is not False:
        if all(g is None or p is None or clip.is_exact(g, p) for g, p in zip(gradients, leaves.params, strict=True)):
            is_free = clip.namespace.name == "numpy" or all(is_free_to_read(clip.namespace, x) for x in clip.factors)
            common = {name: float(x) if is_free else x for name, x in zip(CLIP, clip.factors, strict=True)}
        else:
            gradients = [None if g is None else clip.applied(g) for g in gradients]
    if namespace is not None and not isinstance(ok, bool):
        common[OK] = namespace.cast(ok, namespace.dtype("float32"))
    return ok, gradients, common


def counts_after(step: Any, skipped: Any, ok: Any) -> tuple[Any, Any]:
    """Return the counts of steps that were taken and of those that were not, after one that is taken where ``ok``.

    ``ok`` is False, or an array.
    """
    if ok is False:
        return step, next_step(skipped)
    namespace = namespace_of(ok)
    assert namespace is not None
    if namespace.name == "jax":
        return _jax_count(namespace, ok, next_step(step), step), _jax_count(namespace, ok, skipped, next_step(skipped))
    taken = namespace.cast(ok, namespace.dtype("int64"))
    return step + taken, skipped + (1 - taken)


def _jax_count(namespace: Namespace, ok: Any, x: Any, y: Any) -> Any:
    """Return ``x`` where ``ok``, else ``y``: in the dtype of an array, or of integers of JAX, whose largest ends it."""
    xp = namespace.xp
    dtype = xp.result_type(int) if type(x) is type(y) is int else (x if type(y) is int else y).dtype
    end = int(xp.iinfo(dtype).max)
    return namespace.cast(xp.where(ok, *(min(n, end) if type(n) is int else n for n in (x, y))), dtype)
