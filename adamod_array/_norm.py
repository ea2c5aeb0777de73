"""The norm of all gradients together, and gradients clipped by it."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from adamod_array import _check, _dtensor, _engines, _tree
from adamod_array._method import Array
from adamod_array._modes import contained
from adamod_array._namespace import REAL_DTYPE, SQUARE_ROOT, Namespace, dtype_name, namespace_of
from adamod_array._rate import real_number
from adamod_array._reductions import Factors, Finite, Length, is_free_to_read, real_dtype, silently, times
from adamod_array._tree import Tree

_COMPLEX = {real: dtype for dtype, real in REAL_DTYPE.items()}


@contained
def global_norm(tree: Tree) -> Any:
    """Return the Euclidean norm of all the numbers in a tree, as if they were one vector.

    Parameters
    ----------
    tree : array or tree of arrays
        Floating arrays of one framework and device; None leaves are passed over.

    Returns
    -------
    0-d array
        Real, in the widest compute dtype of the leaves (float32 for 16 bits), in which all squares
        are added. Numbers whose squares that dtype cannot hold are scaled before, by one power of
        two: the norm is inf only where a number is, or where it is too large itself.

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
    _check.refuse_state(tree, "grads", "give it gradients, or state.params")
    norm = _norm(*_tree.flatten(tree))
    with norm.namespace.on_device(norm.scaled), silently(norm.namespace):
        return norm.scaled / norm.scale


@contained
def clip_by_global_norm(grads: Tree, max_norm: float) -> Tree:
    """Scale gradients down together so that their :func:`global_norm` is at most ``max_norm``.

    Parameters
    ----------
    grads : array or tree of arrays
        As in :func:`global_norm`; not written to.
    max_norm : float
        A positive number, or a 0-d array.

    Returns
    -------
    tree
        ``grads`` times ``min(1, max_norm / norm)``: in the same dtypes, the same numbers to the
        last bit when the norm is not above the limit. All NaN where one of them is not finite;
        right where they are and their norm is too large for the dtype.

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
    _check.refuse_state(grads, "grads", "give it gradients, or state.params")
    leaves, spec = _tree.flatten(grads)
    clip = clip_of(leaves, spec, max_norm, "clip_by_global_norm: max_norm")
    return _tree.unflatten(spec, [None if g is None else clip.applied(g) for g in leaves])


@dataclass(frozen=True)
class Clip:
    """The two factors that clip gradients, in the dtype of their norm."""

    namespace: Namespace
    real: str
    factors: tuple[Array, Array]
    is_finite: bool
    """Whether all gradients, and their squares, are known to be finite."""

    def is_exact(self, g: Array, p: Array) -> bool:
        """Return whether a kernel, which computes in the parameter's dtype, gets the bits of :meth:`applied`."""
        return real_dtype(p) == self.real and dtype_name(g) in (self.real, _COMPLEX[self.real])

    def applied(self, g: Array) -> Array:
        """Return a gradient times the factors."""
        namespace, (first, second) = self.namespace, self.factors
        dtype = namespace.dtype(_COMPLEX[self.real] if dtype_name(g) in REAL_DTYPE else self.real)
        with namespace.on_device(g), silently(namespace):
            return namespace.cast(times(namespace, namespace.cast(g, dtype), first) * second, g.dtype)


def clip_of(leaves: list[Any], spec: Any, max_norm: Any, what: str) -> Clip:
    """Return what clips gradients; ``what`` is the name of ``max_norm`` in an error."""
    framework = next((space.name for g in leaves if (space := namespace_of(g)) is not None), "")
    limit = real_number(max_norm, lambda: what, framework)
    if isinstance(limit, float) and not limit > 0:
        raise ValueError(f"{what} must be positive, got {limit}")
    norm = _norm(leaves, spec)
    namespace, real = norm.namespace, norm.real
    with namespace.on_device(norm.scaled), silently(namespace):
        limit = namespace.scalar(limit, real, namespace.device(norm.scaled))
        factors = _engines.at_once(Factors(namespace, real), [limit, norm.scaled, norm.scale])
    return Clip(namespace, real, factors, norm.is_finite)


@contained
def all_finite(tree: Tree) -> Any:
    """Return whether all numbers in a tree, and their squares, are finite.

    A gradient of 1e20 in float32 has a square that is infinite: it would stop its parameter for ever. Methods keep
    averages of squares in float32 (16-bit, float32 and complex64 leaves) or float64.

    Parameters
    ----------
    tree : array or tree of arrays
        Floating arrays of one framework and device; None leaves are passed over.

    Returns
    -------
    0-d array of bool
        On the device of the leaves, which nobody waits for; True of a tree without arrays. A step takes it:
        ``step(state, grads, where=all_finite(grads))``, or ``where=all_finite``.

    Raises
    ------
    TypeError
        A leaf is not a floating array.
    ValueError
        Leaves are on several devices.

    Examples
    --------
    >>> import numpy as np
    >>> from adamod_array import all_finite
    >>> small, large = np.asarray([1.0, -2.0], np.float32), np.asarray([1e20], np.float32)
    >>> print(all_finite([small]), all_finite([small, large]), all_finite([large.astype(np.float64)]))
    True False True
    """
    _check.refuse_state(tree, "grads", "give it gradients, or state.params")
    leaves, spec = _tree.flatten(tree)
    if all(g is None for g in leaves):
        return True
    namespace, arrays = _checked(leaves, spec)
    placings, arrays = _dtensor.parts(arrays)
    has_complex = any(dtype_name(g) in REAL_DTYPE for g in arrays)
    question = Finite(namespace=namespace, placings=placings, has_complex=has_complex)
    with namespace.on_device(arrays[0]), silently(namespace):
        (finite,) = question.answer(arrays)
        return finite


class _Norm(NamedTuple):
    """A norm in a real dtype, times a power of two, its scale."""

    namespace: Namespace
    real: str
    scaled: Array
    scale: Array
    is_finite: bool
    """Whether all squares are known to be finite."""


def _norm(leaves: list[Any], spec: Any) -> _Norm:
    """Return the norm of all leaves together.

    The scale is found and used on the device: nobody waits for it. It is 1 for numbers of ordinary size, so that
    nothing changes for them, and a constant to derivatives.
    """
    namespace, arrays = _checked(leaves, spec)
    placings, arrays = _dtensor.parts(arrays)
    reals = {*map(real_dtype, arrays)}
    real = max(reals)  # of float32 and float64, the wider
    with namespace.on_device(arrays[0]), silently(namespace):
        scaled, scale = Length(namespace=namespace, placings=placings, real=real).answer(arrays)
        is_finite = False
        if is_free_to_read(namespace, scaled):
            is_finite = bool(scaled / scale < min(SQUARE_ROOT[each] for each in reals))  # no number is larger
    return _Norm(namespace, real, scaled, scale, is_finite)


def _checked(leaves: list[Any], spec: Any) -> tuple[Namespace, list[Any]]:
    """Return the namespace of gradients, and those that are there."""
    namespace = _check.params(leaves, functools.partial(_tree.path, spec, "grads"), "grads")
    if namespace is None:
        raise ValueError("grads has no arrays: all of its leaves are None")
    _check_devices(namespace, leaves, spec)
    return namespace, [np.asarray(g) if isinstance(g, np.generic) else g for g in leaves if g is not None]


def _check_devices(namespace: Namespace, leaves: list[Any], spec: Any) -> None:
    """Check that all leaves are on one device; JAX moves what may be moved, and says what may not."""
    if namespace.name == "jax":
        return
    here: Any = None
    for i, g in enumerate(leaves):
        if g is None:
            continue
        there = namespace.device(g)
        if here is not None and here != there:
            raise ValueError(f"{_tree.path(spec, 'grads', i)} must be on the device of the others, {here}, got {there}")
        here = there
