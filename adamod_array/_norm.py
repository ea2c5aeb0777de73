"""The norm of all gradients together, and gradients clipped by it."""

from __future__ import annotations

import functools
import math
from typing import Any

import numpy as np

from adamod_array import _check, _tree
from adamod_array._kernels.eager import cast
from adamod_array._method import abs_sq
from adamod_array._namespace import COMPUTE_DTYPE, REAL_DTYPE, Namespace, dtype_name
from adamod_array._rate import real_number
from adamod_array._tree import Tree


def global_norm(tree: Tree) -> Any:
    """The Euclidean norm of all the numbers in a tree, as if they were one vector.

    Parameters
    ----------
    tree : array or tree of arrays
        Floating arrays of one framework and device; None leaves are passed over.

    Returns
    -------
    array of no dimensions
        Real, in the widest compute dtype of the leaves (float32 for 16 bits). Squares are added
        leaf by leaf in that leaf's compute dtype, so beyond 1e19 float32 gradients overflow to inf.

    Raises
    ------
    TypeError
        A leaf is not a floating array.
    ValueError
        The tree has no arrays.

    Examples
    --------
    >>> import numpy as np
    >>> from adamod_array import global_norm
    >>> print(global_norm({"w": np.asarray([3.0, 0.0]), "b": np.asarray([4.0])}))
    5.0
    """
    leaves, spec = _tree.flatten(tree)
    return _norm(leaves, spec)[1]


def clip_by_global_norm(grads: Tree, max_norm: float) -> Tree:
    """Gradients scaled down together so that their :func:`global_norm` is at most ``max_norm``.

    Parameters
    ----------
    grads : array or tree of arrays
        As in :func:`global_norm`; not written to.
    max_norm : float
        A positive number, or an array of no dimensions.

    Returns
    -------
    tree
        ``grads`` times ``min(1, max_norm / norm)``: in the same dtypes, the same numbers to the
        last bit when the norm is not above the limit. NaN where the norm is not finite.

    Raises
    ------
    TypeError, ValueError
        As :func:`global_norm`; ``max_norm`` is not positive.

    Examples
    --------
    >>> import numpy as np
    >>> from adamod_array import clip_by_global_norm
    >>> print(clip_by_global_norm([np.asarray([3.0]), np.asarray([4.0])], 1.0))
    [array([0.6]), array([0.8])]
    """
    leaves, spec = _tree.flatten(grads)
    kind, norm = _norm(leaves, spec)
    limit = real_number(max_norm, lambda: "clip_by_global_norm: max_norm", kind.name)
    if isinstance(limit, float) and not limit > 0:
        raise ValueError(f"clip_by_global_norm: max_norm must be positive, got {limit}")
    xp = kind.xp
    one = xp.ones_like(norm)
    with np.errstate(all="ignore"):
        limit = kind.scalar(limit, dtype_name(norm), kind.device(norm))
        inside = norm <= limit
        scale = xp.where(inside, one, limit / xp.where(inside, one, norm))  # norm may be 0
        scale = xp.where(xp.isfinite(norm), scale, xp.full_like(norm, math.nan))

    def clipped(g: Any) -> Any:
        dtype = COMPUTE_DTYPE[dtype_name(g)]
        factor = cast(kind, scale, kind.dtype(REAL_DTYPE.get(dtype, dtype)))
        with np.errstate(all="ignore"):
            return cast(kind, cast(kind, g, kind.dtype(dtype)) * factor, g.dtype)

    return _tree.unflatten(spec, [None if g is None else clipped(g) for g in leaves])


def _norm(leaves: list[Any], spec: Any) -> tuple[Namespace, Any]:
    kind = _check.params(leaves, functools.partial(_tree.path, spec, "grads"), "grads")
    if kind is None:
        raise ValueError("grads has no arrays to take the norm of")
    total: Any = None
    here: Any = None
    for i, g in enumerate(leaves):
        if g is None:
            continue
        there = None if kind.name == "jax" else kind.device(g)  # JAX moves what may be moved, and says what may not
        if total is not None and here != there:
            raise ValueError(f"{_tree.path(spec, 'grads', i)} must be on the device of the others, {here}, got {there}")
        with np.errstate(all="ignore"):
            part = kind.xp.sum(abs_sq(kind.xp, cast(kind, g, kind.dtype(COMPUTE_DTYPE[dtype_name(g)]))))
            total = part if total is None else total + part
        here = there
    return kind, kind.xp.sqrt(total)
