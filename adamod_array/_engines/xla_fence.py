"""Fences: values of which XLA cannot tell how they were computed.

XLA rewrites arithmetic in the last bit: it contracts multiply-adds, takes reciprocals of divisors,
joins constants. A *fence* stops it: the bits of a value are combined by exclusive or with a zero
that XLA cannot know.
"""

from __future__ import annotations

import functools
import sys
from typing import Any

import numpy as np

from adamod_array._namespace import full_width

NOT_TRACED = np.uint32(0)
"""Of the library's own programs: known here, but an argument there."""


def divisor(a: Any, b: Any, zero: Any) -> Any:
    """Return ``b`` of ``a / b``, fenced: XLA would take the reciprocal of what is one number for all of ``a``."""
    if a.dtype.kind == "c":
        return b
    bits = _BITS[a.dtype.itemsize]
    return fenced(b, sys.modules["jax"].lax.bitcast_convert_type(a, bits) & zero.astype(bits))


def fenced(x: Any, zero: Any) -> Any:
    """Return ``x``, of which XLA cannot tell any more how it was computed."""
    if x.dtype.kind == "c":
        return sys.modules["jax"].lax.complex(_fence()(x.real, zero), _fence()(x.imag, zero))
    return _fence()(x, zero)


@functools.cache
def _fence() -> Any:
    jax = sys.modules["jax"]

    @jax.custom_jvp  # an identity to derivatives, which end at integers
    def fence(x: Any, zero: Any) -> Any:
        bits = _BITS[x.dtype.itemsize]
        with full_width((x,)):  # JAX calls this once more for derivatives, whenever these are taken
            return jax.lax.bitcast_convert_type(jax.lax.bitcast_convert_type(x, bits) ^ zero.astype(bits), x.dtype)

    fence.defjvp(lambda primals, tangents: (fence(*primals), tangents[0]))
    return fence


_BITS = {2: "uint16", 4: "uint32", 8: "uint64"}


def mixed(opaque: Any) -> Any:
    """Return one 32-bit number out of all that XLA cannot know: some of them may be constants to it after all."""
    if not isinstance(opaque, (tuple, list)):
        return opaque
    lax = sys.modules["jax"].lax
    reals = [x.real if x.dtype.kind == "c" else x for x in opaque]
    return sum((lax.bitcast_convert_type(x, _BITS[x.dtype.itemsize]).astype("uint32") for x in reals), NOT_TRACED)


def first(x: Any) -> Any:
    """Return an array's first number."""
    return x[(0,) * x.ndim]  # of a flat array nobody could say how it is sharded


def opaque_zero(opaque: Any, k: int) -> Any:
    """Return the ``k``-th opaque zero: n*n & (n*n >> 2) & 1 is 0 for every n, but no compiler pass folds it."""
    n = opaque + np.uint32(k)
    square = n * n
    return square & (square >> np.uint32(2)) & np.uint32(1)
