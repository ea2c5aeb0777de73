"""PyTorch's tensors read by their C++ structs: where their memory is, and whether they lie as at the last step.

As :mod:`numpy_abi` does it, but no stable ABI says where things are. They are searched for in tensors of which Python
says them, and where a PyTorch keeps one elsewhere than all of these do, nothing is read in this way. DLPack's C API
gives addresses and shapes alone: neither dispatch keys nor how large a storage is still.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from adamod_array._engines.numba_cache import compiled
from adamod_array._engines.numba_memory import peek
from adamod_array._engines.numba_objects import CLASS, ITEMS

_INLINE = 5
"""Up to so many dimensions are kept in the tensor itself."""
_SHORT = 0xFFFF
"""The bits of a dtype in its word."""
_TENSOR, _STORAGE, _KEYS, _DTYPE, _NDIM, _SIZES, _STRIDES, _OFFSET, _DATA, _NBYTES, _FLAGS, _IS_LAZY = range(12)
"""What :data:`_WHERE` tells, by position: of a Python object where its C++ tensor is; of that, of a storage, the rest.
``_IS_LAZY`` are the bits of a storage that shares memory until one of its tensors is asked for the address."""
_TENSOR_WORDS, _STORAGE_WORDS = 22, 9
"""As far as is searched, which is not beyond the end of either."""


def signatures_of(tensors: list[Any], nbytes: Any) -> Any:
    """Return what is to be remembered of tensors without a subclass, a row each, and the bytes that each needs."""
    width = 6 + 2 * max([x.ndim for x in tensors], default=0)
    rows = _rows(id(tensors), len(tensors), width, _WHERE)
    rows[:, 4], rows[:, 5] = [x.itemsize for x in tensors], nbytes
    return rows


def match(tensors: list[Any], signatures: Any) -> Any:
    """Return the addresses of these objects where they are tensors like those remembered; None where one is not."""
    if len(tensors) != len(signatures):
        return None
    addresses = _found(id(tensors), signatures, _WHERE)
    return addresses if addresses.size == len(tensors) else None


@compiled("int64[:, ::1](int64, int64, int64, int64[::1])")
def _rows(tensors: int, count: int, width: int, where: Any) -> Any:  # pragma: no cover - compiled
    rows, items = np.zeros((count, width), np.int64), peek(tensors + ITEMS)
    for i in range(count):
        row, x = rows[i], peek(items + 8 * i)
        tensor = peek(x + where[_TENSOR])
        row[0], row[1], row[3] = peek(x + CLASS), peek(tensor + where[_KEYS]), peek(tensor + where[_NDIM])
        row[2] = peek(tensor + where[_DTYPE]) & _SHORT
        sizes, strides = tensor + where[_SIZES], tensor + where[_STRIDES]
        if row[3] > _INLINE:
            sizes = peek(sizes)
            strides = sizes + 8 * row[3]
        for j in range(row[3]):
            row[6 + j], row[6 + row[3] + j] = peek(sizes + 8 * j), peek(strides + 8 * j)
    return rows


@compiled("int64[::1](int64, int64[:, ::1], int64[::1])")
def _found(tensors: int, signatures: Any, where: Any) -> Any:  # pragma: no cover - compiled
    addresses, items = np.empty(len(signatures), np.int64), peek(tensors + ITEMS)
    for i in range(addresses.size):
        x, row = peek(items + 8 * i), signatures[i]
        if peek(x + CLASS) != row[0]:  # of anything but a tensor no more is read
            return addresses[:0]
        tensor, ndim = peek(x + where[_TENSOR]), row[3]
        if tensor == 0 or peek(tensor + where[_KEYS]) != row[1] or peek(tensor + where[_NDIM]) != ndim:
            return addresses[:0]
        if (peek(tensor + where[_DTYPE]) & _SHORT) != row[2]:
            return addresses[:0]
        sizes, strides = tensor + where[_SIZES], tensor + where[_STRIDES]
        if ndim > _INLINE:
            sizes = peek(sizes)
            strides = sizes + 8 * ndim
        for j in range(ndim):
            if peek(sizes + 8 * j) != row[6 + j] or peek(strides + 8 * j) != row[6 + ndim + j]:
                return addresses[:0]
        storage, start = peek(tensor + where[_STORAGE]), peek(tensor + where[_OFFSET]) * row[4]
        if storage == 0 or start < 0 or start + row[5] > peek(storage + where[_NBYTES]):  # it has shrunk
            return addresses[:0]
        if peek(storage + where[_FLAGS]) & where[_IS_LAZY]:
            return addresses[:0]
        addresses[i] = peek(storage + where[_DATA]) + start
    return addresses


# where it all is


def _samples() -> list[Any]:
    """Return tensors that differ in all that is searched for."""
    whole = torch.arange(720, dtype=torch.float32)
    shapes = [(), (3,), (2, 5), (3, 7, 2), (2, 3, 5, 4), (2, 3, 2, 5, 2)]
    samples = [torch.as_strided(whole, x, [*range(3, 3 + len(x))], 11 + len(x)) for x in shapes]
    dtypes = (torch.float16, torch.bfloat16, torch.float32, torch.float64, torch.complex64, torch.complex128)
    samples += [torch.zeros(13 + k, dtype=dtype)[k:] for k, dtype in enumerate(dtypes)]
    samples += [torch.zeros(0), samples[-1].conj(), samples[-1].conj().imag, torch.nn.Parameter(torch.zeros(4))]
    with torch.inference_mode():
        return [*samples, torch.zeros(2, 2)]


def _words(address: int, count: int) -> list[int]:
    return [*(ctypes.c_int64 * count).from_address(address)]


def _signed(x: int) -> int:
    return ctypes.c_int64(x).value


def _place(structs: list[list[int]], wanted: list[list[int]]) -> int:
    """Return where, in bytes, each struct has these words one after the other."""
    for k in range(min(map(len, structs))):
        if all(words[k : k + len(x)] == x for words, x in zip(structs, wanted, strict=True)):
            return 8 * k
    raise ImportError("PyTorch keeps its tensors in a struct that this version of adamod_array does not expect")


def _flag(copies: list[int], others: list[int]) -> int:
    """Return the bits of the byte that is true in the first words, and false in the others."""
    for k in range(8):
        one = 1 << (8 * k)
        if all(x & (0xFF * one) == one for x in copies) and not any(x & (0xFF * one) for x in others):
            return _signed(one)
    raise ImportError("PyTorch's storages do not say whether they are copies yet to be made")


def _search() -> Any:
    samples = _samples()

    def within(structs: list[list[int]], value: Callable[[Any], list[int]]) -> int:
        return _place(structs, [value(x) for x in samples])

    objects = [_words(id(x), type(x).__basicsize__ // 8) for x in samples]
    tensors = [_words(x._cdata, _TENSOR_WORDS) for x in samples]
    storages = [_words(x.untyped_storage()._cdata, _STORAGE_WORDS) for x in samples]
    keys = within(tensors, lambda x: [_signed(torch._C._dispatch_keys(x).raw_repr())])
    shape = within(tensors, lambda x: [x.ndim, *x.shape])
    nbytes = within(storages, lambda x: [x.untyped_storage().nbytes()])
    originals = [torch.zeros(5 + k) for k in range(4)]
    copies = [_words(torch._lazy_clone(x).untyped_storage()._cdata, _STORAGE_WORDS) for x in originals]
    flags = nbytes // 8 + 1
    return np.asarray(
        [
            within(objects, lambda x: [x._cdata]),
            within(tensors, lambda x: [x.untyped_storage()._cdata]),
            keys,
            keys - 8,
            shape,
            shape + 8,
            within(tensors, lambda x: [*x.stride()]),
            within(tensors, lambda x: [x.storage_offset()]),
            within(storages, lambda x: [x.untyped_storage().data_ptr()]),
            nbytes,
            nbytes + 8,
            _flag([x[flags] for x in copies], [x[flags] for x in storages]),
        ],
        np.int64,
    )


def _probe() -> bool:
    """Return whether what is read of tensors is what Python says of them, and each change of one is noticed."""
    samples = [*_samples(), torch.zeros(2, 3, 1, 2, 1, 4)[:, 1:].transpose(0, 5)]
    nbytes = [x.numel() * x.itemsize for x in samples]
    rows = signatures_of(samples, nbytes)
    codes = {(x.dtype, code) for x, code in zip(samples, rows[:, 2].tolist(), strict=True)}
    if len({x for x, _ in codes}) != len(codes) or len({x for _, x in codes}) != len(codes):
        return False
    found = match(samples, rows)
    if found is None or any(x.numel() and x.data_ptr() != k for x, k in zip(samples, found.tolist(), strict=True)):
        return False
    for x, own in zip(samples, rows[:, None], strict=True):
        used = [0, 1, 2, 3, *range(6, 6 + 2 * x.ndim)]
        if any(match([x], own + (np.arange(own.size) == k)) is not None for k in used):
            return False
        storage = x.untyped_storage()
        if storage.nbytes() and match([x], signatures_of([x], storage.nbytes() + 1)) is not None:
            return False
    lazy = torch._lazy_clone(samples[0])
    return match([lazy], signatures_of([lazy], nbytes[0])) is None


_WHERE = _search()
if not _probe():  # pragma: no cover - no such PyTorch is known
    raise ImportError("PyTorch keeps its tensors in a struct that this version of adamod_array does not expect")
