"""NumPy's arrays read by their C struct: where their data is, and whether they lie as they did at the last step.

All arrays of a tree are looked at in one compiled call. Python's attributes (``ndarray.ctypes``,
``strides``, ``flags``) cost more than a step of a small leaf.
"""

from __future__ import annotations

import sys
from typing import Any

import numpy as np

from adamod_array._engines.numba_cache import compiled
from adamod_array._engines.numba_memory import peek
from adamod_array._engines.numba_objects import CLASS, HEAD, ITEMS

_DATA, _NDIM, _SHAPE, _STRIDES, _DTYPE, _FLAGS = (HEAD + 8 * i for i in (0, 1, 2, 3, 5, 6))
"""PyArrayObject_fields, a part of NumPy's stable C ABI, follows the object's head."""
_SHIFT, _INT = (0 if sys.byteorder == "little" else 32), 0xFFFFFFFF
"""Where an int of 32 bits is within 64."""
_CONSIDERED = 0x1 | 0x2 | 0x100 | 0x400
"""Flags: contiguous as in C, as in Fortran; aligned; writeable."""


def addresses_of(arrays: list[Any]) -> Any:
    """Return where the data of each array is."""
    return _data_of(id(arrays), len(arrays))


def signatures_of(arrays: list[Any]) -> Any:
    """Return what is to be remembered of NumPy's arrays, a row each; the dtypes must be kept alive."""
    found = np.zeros((len(arrays), 4 + 2 * max([x.ndim for x in arrays], default=0)), np.int64)
    for row, x in zip(found, arrays, strict=True):
        row[:4] = id(type(x)), id(x.dtype), x.flags.num & _CONSIDERED, x.ndim
        row[4 : 4 + 2 * x.ndim] = (*x.shape, *x.strides)
    return found


def match(arrays: list[Any], signatures: Any) -> Any:
    """Return the addresses of these objects where they are arrays like those remembered; None where one is not."""
    if len(arrays) != len(signatures):
        return None
    addresses = _found(id(arrays), signatures)
    return addresses if addresses.size == len(arrays) else None


@compiled("int64[::1](int64, int64)")
def _data_of(arrays: int, count: int) -> Any:  # pragma: no cover - compiled
    addresses, items = np.empty(count, np.int64), peek(arrays + ITEMS)
    for i in range(count):
        addresses[i] = peek(peek(items + 8 * i) + _DATA)
    return addresses


@compiled("int64[::1](int64, int64[:, ::1])")
def _found(arrays: int, signatures: Any) -> Any:  # pragma: no cover - compiled
    addresses, items = np.empty(len(signatures), np.int64), peek(arrays + ITEMS)
    for i in range(addresses.size):
        x, row = peek(items + 8 * i), signatures[i]
        if peek(x + CLASS) != row[0] or peek(x + _DTYPE) != row[1]:  # of anything but an array no more is read
            return addresses[:0]
        ndim = (peek(x + _NDIM) >> _SHIFT) & _INT
        if ((peek(x + _FLAGS) >> _SHIFT) & _CONSIDERED) != row[2] or ndim != row[3]:
            return addresses[:0]
        shape, strides = peek(x + _SHAPE), peek(x + _STRIDES)
        for j in range(ndim):
            if peek(shape + 8 * j) != row[4 + j] or peek(strides + 8 * j) != row[4 + ndim + j]:
                return addresses[:0]
        addresses[i] = peek(x + _DATA)
    return addresses


def _probe() -> bool:
    """Return whether the struct is the one expected here: what is read of an array is what Python says of it."""
    x = np.zeros((3, 5, 2), np.float32)[:, ::2].T
    signatures = signatures_of([x])
    others = [signatures + (np.arange(signatures.size) == i) for i in range(signatures.size)]
    return addresses_of([x]) == match([x], signatures) == [x.ctypes.data] and all(
        match([x], each) is None for each in others
    )


if not _probe():  # pragma: no cover - no such NumPy is known
    raise ImportError("NumPy keeps its arrays in a struct that this version of adamod_array does not expect")
