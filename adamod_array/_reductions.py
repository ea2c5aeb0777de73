"""What is asked of all gradients together: a norm, whether they are finite; and the factors that clip them."""

from __future__ import annotations

import contextlib
import functools
import math
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from adamod_array import _dtensor, _engines
from adamod_array._aliasing import is_memory
from adamod_array._method import Array
from adamod_array._namespace import COMPUTE_DTYPE, REAL_DTYPE, SQUARE_ROOT, Namespace, dtype_name


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


@dataclass(frozen=True, kw_only=True)
class _Question:
    """One that a kernel may answer in a read of the gradients: see :func:`adamod_array._engines.ask`."""

    namespace: Namespace
    placings: Any = None
    """How DTensors are laid over processes."""

    def answer(self, arrays: list[Any]) -> Any:
        """Return the answer, by a kernel where one reads; the processes of a mesh must all go the same way."""
        return _engines.ask(self, arrays) if self.placings is None else self.of_arrays(arrays)

    def of_arrays(self, arrays: list[Any]) -> Any:
        """Return the answer, operation by operation."""
        raise NotImplementedError


@dataclass(frozen=True, kw_only=True)
class Finite(_Question):
    """The question whether all squares are finite."""

    has_complex: bool

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
        namespace, real = self.namespace, real_dtype(g)
        parts = [namespace.cast(x, namespace.dtype(real)) for x in _parts(namespace, g)]
        if len(parts) == 1:
            return _are_below(namespace, parts[0], SQUARE_ROOT[real])
        return _are_below(namespace, parts[0] * parts[0] + parts[1] * parts[1], math.inf)


@dataclass(frozen=True, kw_only=True)
class Length(_Question):
    """The question of a norm times its scale, and that scale."""

    real: str

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
            scaled = (times(namespace, x, scale) for x in parts(g))
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


@dataclass(frozen=True)
class Factors:
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


def real_dtype(g: Array) -> str:
    """Return the real dtype that a gradient is computed in."""
    compute = COMPUTE_DTYPE[dtype_name(g)]
    return REAL_DTYPE.get(compute, compute)


def _parts(namespace: Namespace, g: Array) -> tuple[Array, ...]:
    """Return real and imaginary part of complex numbers: their modulus may overflow where neither does."""
    return (namespace.xp.real(g), namespace.xp.imag(g)) if dtype_name(g) in REAL_DTYPE else (g,)


def silently(namespace: Namespace) -> contextlib.AbstractContextManager[Any]:
    """Keep NumPy from warning of overflow. PyTorch, which never warns, could not compile that context into a graph."""
    return contextlib.nullcontext() if namespace.name == "torch" else np.errstate(all="ignore")


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


def times(namespace: Namespace, x: Array, power: Array) -> Array:
    """Return ``x`` times a power of two; where a look at that is free and it is 1, ``x`` itself."""
    return x if is_free_to_read(namespace, power) and power == 1 else x * power


def is_free_to_read(namespace: Namespace, x: Array) -> bool:
    """Return whether the value of a 0-d array can be known without waiting for a device or breaking a graph."""
    if namespace.name == "torch":
        return not namespace.xp.compiler.is_compiling() and x.device.type == "cpu" and is_memory(x)
    return namespace.name == "numpy"
