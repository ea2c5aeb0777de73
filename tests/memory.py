"""Arrays in every layout, what their owners can do to them in place, and who shares whose bytes."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np

from tests.backend import Backend

Bytes = np.ndarray[Any, np.dtype[Any]]
"""Addresses of bytes, or what is there."""

IN_MEMORY = ("numpy", "cupy", "torch")
"""The backends whose arrays are memory that anybody may write."""


# layouts


def _as_strided(backend: Backend, flat: Any, shape: tuple[int, ...], strides: Sequence[int]) -> Any:
    """Return a view of one-dimensional memory, with strides in elements."""
    if backend.name == "torch":
        return flat.as_strided(shape, tuple(strides))
    steps = tuple(n * flat.itemsize for n in strides)
    return backend.xp.lib.stride_tricks.as_strided(flat, shape, steps)


def _fortran(b: Backend, x: Bytes, dtype: str) -> Any:
    flipped = b.array(x.T.copy(), dtype)
    return flipped.permute(tuple(reversed(range(x.ndim)))) if b.name == "torch" else flipped.T


def _misaligned(b: Backend, x: Bytes, dtype: str) -> Any:
    plain = b.array(x, dtype)
    moved = np.zeros(plain.nbytes + 1, np.uint8)[1:].view(plain.dtype).reshape(plain.shape)
    moved[...] = plain
    return moved


def _locked(b: Backend, x: Bytes, dtype: str) -> Any:
    plain = b.array(x, dtype)
    plain.flags.writeable = False
    return plain


def _swapped(b: Backend, x: Bytes, dtype: str) -> Any:
    plain = b.array(x, dtype)
    return plain if dtype == "bfloat16" else plain.astype(plain.dtype.newbyteorder())


def _columns(b: Backend, x: Bytes, dtype: str) -> Any:
    return b.array(np.concatenate([x, x], -1), dtype)[..., : x.shape[-1]] if x.ndim else b.array(x, dtype)


def _inference(b: Backend, x: Bytes, dtype: str) -> Any:
    with b.xp.inference_mode():
        return b.array(x, dtype)


_ANYWHERE: dict[str, Callable[[Backend, Bytes, str], Any]] = {
    "Fortran": _fortran,
    "columns": _columns,
    "every other": lambda b, x, dtype: b.array(x.ravel().repeat(2), dtype)[::2].reshape(x.shape),
    "offset": lambda b, x, dtype: b.array(np.append(0.0, x), dtype)[1:].reshape(x.shape),
    "broadcast": lambda b, x, dtype: _as_strided(b, b.array(np.ones(1), dtype), x.shape, [0] * x.ndim),
    "windows": lambda b, x, dtype: _as_strided(b, b.array(np.append(x, np.ones(9)), dtype), x.shape, [1] * x.ndim),
}
_BACKWARDS: dict[str, Callable[[Backend, Bytes, str], Any]] = {
    "backwards": lambda b, x, dtype: b.array(x.ravel(), dtype)[::-1].reshape(x.shape),
}
_LAYOUTS: dict[str, dict[str, Callable[[Backend, Bytes, str], Any]]] = {
    "numpy": {**_ANYWHERE, **_BACKWARDS, "swapped": _swapped, "misaligned": _misaligned, "locked": _locked},
    "cupy": {**_ANYWHERE, **_BACKWARDS},
    "torch": {
        **_ANYWHERE,
        "parameter": lambda b, x, dtype: b.xp.nn.Parameter(b.array(x, dtype)),
        "requires grad": lambda b, x, dtype: b.array(x, dtype).requires_grad_(),
        "negative": lambda b, x, dtype: b.xp._neg_view(b.array(x, dtype)),
        "conjugate": lambda b, x, dtype: b.array(x, dtype).conj(),
        "inference": _inference,
    },
}
LAYOUTS = ["plain", *dict.fromkeys(name for each in _LAYOUTS.values() for name in each)]


def laid_out(backend: Backend, values: Bytes, dtype: str, layout: str) -> Any:
    """Return an array of these values (of some of them, where elements repeat); plain where a backend has no such."""
    make = _LAYOUTS.get(backend.name, {}).get(layout)
    return backend.array(values, dtype) if make is None else make(backend, values, dtype)


# what is in them


def lacks_memory(backend: Backend, x: Any) -> bool:
    """Return whether the numbers cannot be read any more: a buffer given away, a storage that ends too early."""
    if backend.name == "jax":
        return bool(x.is_deleted())
    if backend.name != "torch" or x.numel() == 0:
        return False
    last = sum((n - 1) * step for n, step in zip(x.shape, x.stride(), strict=True))
    return bool((x.storage_offset() + last + 1) * x.itemsize > x.untyped_storage().nbytes())


def host(backend: Backend, x: Any) -> Bytes:
    """Return a contiguous copy in native byte order."""
    if backend.name == "torch":
        x = x.detach().resolve_conj().resolve_neg()
        x = x.cfloat() if x.dtype == backend.xp.complex32 else x  # which NumPy does not have
    found = backend.numpy(x)
    return np.array(found, found.dtype.newbyteorder("="), order="C", subok=False)


def spots(backend: Backend, x: Any) -> Bytes:
    """Return the address of every byte of every element; an address twice where elements share it."""
    if backend.name == "numpy":
        start, strides = x.ctypes.data, x.strides
    elif backend.name == "cupy":
        start, strides = x.data.ptr, x.strides
    else:
        start, strides = x.data_ptr(), [n * x.itemsize for n in x.stride()]
    found = np.asarray([start], np.int64)
    for n, stride in zip(x.shape, strides, strict=True):
        found = np.add.outer(found, np.arange(n) * stride).ravel()
    return np.add.outer(found, np.arange(x.dtype.itemsize)).ravel()


def all_spots(backend: Backend, arrays: Iterable[Any]) -> Bytes:
    """Return :func:`spots` of several arrays, one after the other."""
    return np.concatenate([np.empty(0, np.int64), *(spots(backend, x) for x in arrays)])


def owner(backend: Backend, x: Any) -> Any:
    """Return what the memory of an array belongs to, the same for all its views."""
    if backend.name == "cupy":
        return x.data.mem
    if backend.name == "torch":
        return x.untyped_storage()
    while isinstance(x, np.ndarray) and isinstance(x.base, np.ndarray):
        x = x.base
    return x


def photograph(backend: Backend, arrays: Iterable[Any]) -> dict[int, Bytes]:
    """Return all bytes of all memory that the arrays lie in, beside them too, by address.

    Where arrays are no memory that others could write, it stands for their numbers.
    """
    found: dict[int, Bytes] = {}
    for x in {id(x): x for x in arrays}.values():
        if backend.name in IN_MEMORY:
            start, whole = _whole(backend, owner(backend, x))
            found[start] = whole
        elif not lacks_memory(backend, x):
            found[id(x)] = np.frombuffer(host(backend, x).tobytes(), np.uint8)
    return found


def _whole(backend: Backend, memory: Any) -> tuple[int, Bytes]:
    """Return where the memory of an :func:`owner` starts, and a copy of it."""
    xp = backend.xp
    if backend.name == "torch":
        flat = xp.empty(0, dtype=xp.uint8, device=memory.device).set_(memory)
        return memory.data_ptr(), flat.cpu().numpy().copy()
    if backend.name == "cupy":
        pointer = xp.cuda.MemoryPointer(memory, 0)
        return memory.ptr, xp.ndarray((memory.size,), xp.uint8, pointer).get() if memory.size else np.empty(0, np.uint8)
    start, stop = np.lib.array_utils.byte_bounds(memory) if memory.size else (0, 0)
    return start, _bytes_at(start, stop - start).copy()


def _bytes_at(start: int, count: int) -> Bytes:
    """Return memory as bytes."""
    interface = {"version": 3, "data": (start, True), "shape": (count,), "typestr": "|u1"}
    return np.asarray(type("Memory", (), {"__array_interface__": interface})()) if count else np.empty(0, np.uint8)


def changed(before: dict[int, Bytes], after: dict[int, Bytes]) -> Bytes:
    """Return the addresses of bytes that differ."""
    pairs = [(start, was, after[start]) for start, was in before.items() if start in after]  # JAX's may be deleted
    found = [start + np.flatnonzero(was != now) for start, was, now in pairs]
    return np.concatenate([np.empty(0, np.int64), *found])


# what their owners do to them


def _numpy_changes(x: Any, other: Any, is_shared: bool) -> dict[str, Callable[[], Any]]:
    return {
        "lock": lambda: x.setflags(write=False),
        "unlock": lambda: x.setflags(write=True),
        "shape": lambda: setattr(x, "shape", x.shape[::-1] if x.ndim > 1 else (-1,)),
        "narrow": lambda: setattr(x, "dtype", np.float32),
        "wide": lambda: setattr(x, "dtype", np.float64),
        "integer": lambda: setattr(x, "dtype", np.int32),
        "byte order": lambda: setattr(x, "dtype", x.dtype.newbyteorder()),
        "strides": lambda: setattr(x, "strides", x.strides[::-1]),
        "repeat": lambda: setattr(x, "strides", (0,) * x.ndim),
        # views of memory that is gone would be the user's fault
        "resize": lambda: None if is_shared or not x.flags.owndata else x.resize(10, refcheck=False),
    }


def _torch_changes(x: Any, other: Any, is_shared: bool) -> dict[str, Callable[[], Any]]:
    def take(f: Callable[[Any], Any]) -> Callable[[], None]:
        return lambda: setattr(x, "data", f(x.data))

    storage = x.untyped_storage()
    return {
        "double": take(lambda y: y.double()),
        "bfloat16": take(lambda y: y.bfloat16()),
        "half": take(lambda y: y.half()),
        "complex": take(lambda y: y.to(y.dtype.to_complex())),
        "integer": take(lambda y: y.int()),
        "empty": take(lambda y: y.new_empty(0)),
        "another": take(lambda y: y.clone()),
        "Fortran": take(lambda y: y.mT.contiguous().mT),
        "repeat": take(lambda y: y.flatten()[:1].expand(y.shape)),
        "alias": lambda: setattr(x, "data", other.data),
        "alias of one shape": lambda: setattr(x, "data", other.data.flatten()[: x.numel()].view(x.shape)),
        "negative": take(lambda y: y._neg_view()),
        "conjugate": take(lambda y: y.conj()),
        "transpose": lambda: x.t_(),
        "resize": lambda: x.resize_(10),
        "free": lambda: storage.resize_(0),
        "cut": lambda: storage.resize_(storage.nbytes() // 2),
        "requires grad": lambda: x.requires_grad_(not x.requires_grad),
    }


def _jax_changes(x: Any, other: Any, is_shared: bool) -> dict[str, Callable[[], Any]]:
    return {"delete": lambda: x.delete()}


def _cupy_changes(x: Any, other: Any, is_shared: bool) -> dict[str, Callable[[], Any]]:
    return {"shape": lambda: setattr(x, "shape", x.shape[::-1] if x.ndim > 1 else (-1,))}


_CHANGES: dict[str, Callable[[Any, Any, bool], dict[str, Callable[[], Any]]]] = {
    "numpy": _numpy_changes,
    "torch": _torch_changes,
    "jax": _jax_changes,
    "cupy": _cupy_changes,
}


def changes(backend: Backend, x: Any, other: Any, *, is_shared: bool) -> dict[str, Callable[[], Any]]:
    """Return by name what an array's owner can do to it in place; ``other`` is another array of the owner's."""
    known = _CHANGES.get(backend.name)
    return {} if known is None else known(x, other, is_shared)


def change(backend: Backend, x: Any, other: Any, number: int, *, is_shared: bool) -> str:
    """Do one of :func:`changes`; return which, or nothing where the framework refuses or has none."""
    options = list(changes(backend, x, other, is_shared=is_shared).items())
    if not options:
        return ""
    name, do = options[number % len(options)]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # some are deprecated, and done all the same
        try:
            do()
        except (AttributeError, IndexError, RuntimeError, TypeError, ValueError):
            return ""
    return name
