"""The norm of all gradients together, and gradients clipped by it."""

from __future__ import annotations

import contextlib
import functools
import math
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from adamod_array import _check, _dtensor, _engines, _tree
from adamod_array._aliasing import is_memory
from adamod_array._method import Array
from adamod_array._modes import contained
from adamod_array._namespace import COMPUTE_DTYPE, REAL_DTYPE, SQUARE_ROOT, Namespace, dtype_name, namespace_of
from adamod_array._rate import real_number
from adamod_array._tree import Tree


class _Powers(NamedTuple):
    """Powers of two that keep squares, their sums and a quotient of norms within the range of a dtype.

    Multiplied by its scale, the largest number is at most 2**44 (2**464): 2**40 squares can be added. It is at least
    2**-53 (2**-314), so that a square that underflows beside it does not count.
    """

    scale: float
    """Of the largest numbers."""
    below: tuple[tuple[float, float], ...]
    """Bounds that descend, and the scale of numbers below each."""
    smallest: float
    """The smallest number of full precision."""
    aside: float
    """What is left to divide by where a quotient of norms is smaller than that."""


_POWERS = {
    "float32": _Powers(2.0**-84, ((2.0**44, 1.0), (2.0**-20, 2.0**64), (2.0**-84, 2.0**96)), 2.0**-126, 2.0**-40),
    "float64": _Powers(2.0**-560, ((2.0**464, 1.0), (2.0**-300, 2.0**760)), 2.0**-1022, 2.0**-440),
}
_LEAST, _LARGEST = 2.0**-600, 2.0**1000
"""Between these, a sum of squares of float64, added without a scale, has lost nothing; one of float32 never has."""

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
    norm = _norm(*_tree.flatten(tree))
    with norm.namespace.on_device(norm.scaled), _silently(norm.namespace):
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
        return _real(p) == self.real and dtype_name(g) in (self.real, _COMPLEX[self.real])

    def applied(self, g: Array) -> Array:
        """Return a gradient times the factors."""
        namespace, (first, second) = self.namespace, self.factors
        dtype = namespace.dtype(_COMPLEX[self.real] if dtype_name(g) in REAL_DTYPE else self.real)
        with namespace.on_device(g), _silently(namespace):
            return namespace.cast(_times(namespace, namespace.cast(g, dtype), first) * second, g.dtype)


def clip_of(leaves: list[Any], spec: Any, max_norm: Any, what: str) -> Clip:
    """Return what clips gradients; ``what`` is the name of ``max_norm`` in an error."""
    framework = next((space.name for g in leaves if (space := namespace_of(g)) is not None), "")
    limit = real_number(max_norm, lambda: what, framework)
    if isinstance(limit, float) and not limit > 0:
        raise ValueError(f"{what} must be positive, got {limit}")
    norm = _norm(leaves, spec)
    namespace, real = norm.namespace, norm.real
    with namespace.on_device(norm.scaled), _silently(namespace):
        limit = namespace.scalar(limit, real, namespace.device(norm.scaled))
        factors = _engines.at_once(_Factors(namespace, real), [limit, norm.scaled, norm.scale])
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
    leaves, spec = _tree.flatten(tree)
    if all(g is None for g in leaves):
        return True
    namespace, arrays = _checked(leaves, spec)
    placings, arrays = _dtensor.parts(arrays)
    question = _Finite(namespace, any(dtype_name(g) in REAL_DTYPE for g in arrays), placings)
    with namespace.on_device(arrays[0]), _silently(namespace):
        (finite,) = _answer(question, arrays)
        return finite


@dataclass(frozen=True)
class _Finite:
    """The question whether all squares are finite."""

    namespace: Namespace
    has_complex: bool
    placings: Any = None
    """How DTensors are laid over processes."""

    found = "outside"
    """What a kernel counts: numbers that are not below a bound, for complex ones a narrow one."""

    def is_enough(self, outside: Any) -> Any:
        """Return whether what a kernel found is the answer."""
        return outside == 0 if self.has_complex else True

    def of_kernel(self, xp: Any, outside: Any) -> tuple[Any]:
        """Return the answer."""
        return (outside == 0,)

    def of_arrays(self, arrays: list[Any]) -> tuple[Any]:
        """Return the answer, operation by operation."""
        xp = self.namespace.xp
        if self.placings is None:
            return (functools.reduce(xp.logical_and, map(self._is_finite, arrays)),)
        spoilt = [self.namespace.cast(~self._is_finite(g), xp.int32) for g in arrays]
        return (_dtensor.combined(spoilt, self.placings, "max", xp.maximum) == 0,)

    def _is_finite(self, g: Array) -> Array:
        namespace, real = self.namespace, _real(g)
        parts = [namespace.cast(x, namespace.dtype(real)) for x in _parts(namespace, g)]
        if len(parts) == 1:
            return _are_below(namespace, parts[0], SQUARE_ROOT[real])
        return _are_below(namespace, parts[0] * parts[0] + parts[1] * parts[1], math.inf)


def _answer(question: _Finite | _Length, arrays: list[Any]) -> Any:
    """Return the answer, by a kernel where one reads; the processes of a mesh must all go the same way."""
    return _engines.ask(question, arrays) if question.placings is None else question.of_arrays(arrays)


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
    reals = {*map(_real, arrays)}
    real = max(reals)  # of float32 and float64, the wider
    with namespace.on_device(arrays[0]), _silently(namespace):
        scaled, scale = _answer(_Length(namespace, real, placings), arrays)
        is_finite = False
        if _is_free_to_read(namespace, scaled):
            is_finite = bool(scaled / scale < min(SQUARE_ROOT[each] for each in reals))  # no number is larger
    return _Norm(namespace, real, scaled, scale, is_finite)


@dataclass(frozen=True)
class _Length:
    """The question of a norm times its scale, and that scale."""

    namespace: Namespace
    real: str
    placings: Any = None
    """How DTensors are laid over processes."""

    found = "squares"
    """What a kernel adds up, in float64."""

    def is_enough(self, total: Any) -> Any:
        """Return whether what a kernel found is the answer."""
        if self.real == "float32":
            return True
        return (total >= _LEAST) & (total <= _LARGEST)

    def of_kernel(self, xp: Any, total: Any) -> tuple[Any, Any]:
        """Return the answer."""
        norm = xp.sqrt(total)
        scale = self._scale(xp, norm)
        return (norm * scale).astype(self.real), scale.astype(self.real)

    def of_arrays(self, arrays: list[Any]) -> tuple[Any, Any]:
        """Return the answer, operation by operation."""
        namespace, xp = self.namespace, self.namespace.xp

        def parts(g: Array) -> list[Array]:
            return [namespace.cast(x, namespace.dtype(self.real)) for x in _parts(namespace, g)]

        def largest(g: Array) -> Array:
            return functools.reduce(xp.maximum, (_largest(namespace, x) for x in parts(g)))

        def squares(g: Array) -> Array:
            scaled = (_times(namespace, x, scale) for x in parts(g))
            return xp.sum(functools.reduce(xp.add, (x * x for x in scaled)))

        size = _dtensor.combined([*map(largest, arrays)], self.placings, "max", xp.maximum)
        scale = self._scale(xp, size)
        total = _dtensor.combined([*map(squares, arrays)], self.placings, "sum", xp.add)
        return xp.sqrt(total), scale

    def _scale(self, xp: Any, size: Array) -> Array:
        """Return the power of two for numbers of that size."""
        powers = _POWERS[self.real]
        scale = xp.full_like(size, powers.scale)
        for bound, power in powers.below:
            scale = xp.where(size < bound, power, scale)
        return scale


def _checked(leaves: list[Any], spec: Any) -> tuple[Namespace, list[Any]]:
    """Return the namespace of gradients, and those that are there."""
    namespace = _check.params(leaves, functools.partial(_tree.path, spec, "grads"), "grads")
    if namespace is None:
        raise ValueError("grads has no arrays: all of its leaves are None")
    _check_devices(namespace, leaves, spec)
    return namespace, [np.asarray(g) if isinstance(g, np.generic) else g for g in leaves if g is not None]


def _real(g: Array) -> str:
    """Return the real dtype that a gradient is computed in."""
    compute = COMPUTE_DTYPE[dtype_name(g)]
    return REAL_DTYPE.get(compute, compute)


def _parts(namespace: Namespace, g: Array) -> tuple[Array, ...]:
    """Return real and imaginary part of complex numbers: their modulus may overflow where neither does."""
    return (namespace.xp.real(g), namespace.xp.imag(g)) if dtype_name(g) in REAL_DTYPE else (g,)


def _silently(namespace: Namespace) -> contextlib.AbstractContextManager[Any]:
    """Keep NumPy from warning of overflow. PyTorch, which never warns, could not compile that context into a graph."""
    return contextlib.nullcontext() if namespace.name == "torch" else np.errstate(all="ignore")


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


def _largest(namespace: Namespace, x: Array) -> Array:
    """Return the largest magnitude in a real array; 0 where it has no numbers."""
    if 0 in x.shape:
        return namespace.xp.sum(x)
    # an array of magnitudes would cost more than a second read
    low, high = namespace.xp.aminmax(x) if namespace.name == "torch" else (namespace.xp.min(x), namespace.xp.max(x))
    return namespace.xp.maximum(high, -low)


def _are_below(namespace: Namespace, x: Array, bound: float) -> Array:
    """Return whether all magnitudes in a real array are below a bound; NaN is not."""
    if namespace.name == "jax":  # on the CPU, XLA's largest number of some thousands is not NaN where one of them is
        return namespace.xp.all(abs(x) < bound)
    return _largest(namespace, x) < bound


def _times(namespace: Namespace, x: Array, power: Array) -> Array:
    """Return ``x`` times a power of two; where a look at that is free and it is 1, ``x`` itself."""
    return x if _is_free_to_read(namespace, power) and power == 1 else x * power


def _is_free_to_read(namespace: Namespace, x: Array) -> bool:
    """Return whether the value of a 0-d array can be known without waiting for a device or breaking a graph."""
    if namespace.name == "torch":
        return not namespace.xp.compiler.is_compiling() and x.device.type == "cpu" and is_memory(x)
    return namespace.name == "numpy"


@dataclass(frozen=True)
class _Factors:
    """``min(1, limit / norm)`` in two factors: 1 and itself, or a power of two and the rest if it underflows."""

    namespace: Namespace
    real: str

    def of_arrays(self, arrays: list[Array]) -> tuple[Array, Array]:
        """Return the factors of a limit, a norm times its scale, and that scale.

        The second is NaN where a gradient is not finite. The norm itself, which may be inf, is only compared: quotients
        are of the scaled one, whose square the derivative of a quotient can hold.
        """
        xp, powers = self.namespace.xp, _POWERS[self.real]
        limit, scaled, scale = arrays
        one = xp.ones_like(scaled)
        inside = scaled / scale <= limit
        numerator = xp.where(inside, one, limit * one)  # on the device of the norm
        divisor = xp.where(inside, one, scaled)  # the norm may be 0
        power = xp.where(inside, one, scale)
        quotient = numerator * xp.maximum(power, one) / divisor * xp.minimum(power, one)
        small = quotient < powers.smallest
        first = xp.where(small, scale * powers.aside, one)
        second = xp.where(small, numerator / xp.where(small, divisor * powers.aside, one), quotient)
        return first, xp.where(xp.isfinite(scaled), second, math.nan)
