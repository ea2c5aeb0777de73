"""Memory of results that is used again: what the last array that looks at it leaves, a later step writes.

New memory is slow: the system finds each page, and fills it with zeros, at its first touch. An array that is made here
is a view of one that keeps a :class:`_Loan`, as every view, memoryview and tensor of it does; its memory is free when
nothing but the pool has the loan. That is seen when a step begins, and nothing of this package runs where an array
goes: an interrupt would be lost there, and a lock might never come free.
"""

from __future__ import annotations

import contextlib
import functools
import mmap
import os
import sys
import threading
import time
from collections.abc import Callable, Iterable
from itertools import chain
from typing import Any, TypeVar

import numpy as np

T = TypeVar("T")
SMALL = {True: 1 << 16, False: 1 << 19}
"""Bytes of an array, or else a tensor, that is left to its framework, whose allocator may find its memory again."""
LARGE = 1 << 20
"""Bytes of results of a step from which on it pays."""
_PAGE, _HUGE = mmap.PAGESIZE, 1 << 21
IDLE_STEPS, IDLE_SECONDS = 16, 1.0
"""Memory that nobody asked for during so many steps, and so long, is given back."""
_QUICK = 5e-6
"""Seconds in which a huge page is offered to the system; small ones take longer, and are then found and zeroed anew."""


class _Memory:
    """A mapping of this process alone, aligned to pages; it ends with this object."""

    __slots__ = ("_map", "_offered", "address", "free_at", "free_since", "nbytes")

    def __init__(self, nbytes: int) -> None:
        private = {"flags": mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS} if hasattr(mmap, "MAP_PRIVATE") else {}
        self._map = mmap.mmap(-1, nbytes, **private)  # which a fork must not share
        self.address, self.nbytes = np.frombuffer(self._map, np.uint8).ctypes.data, nbytes
        self.free_since, self.free_at = 0, 0.0
        start = -self.address % _HUGE
        self._offered = start, max(0, nbytes - start) // _HUGE * _HUGE
        if self._offered[1] and hasattr(mmap, "MADV_HUGEPAGE"):
            with contextlib.suppress(OSError):  # a kernel without them
                self._map.madvise(mmap.MADV_HUGEPAGE)

    def offer(self) -> None:
        """Let the system have the pages, if it runs short of them before they are written again."""
        start, nbytes = self._offered
        if nbytes and hasattr(mmap, "MADV_FREE"):
            begun = time.perf_counter()
            try:
                self._map.madvise(mmap.MADV_FREE, start, nbytes)
            except OSError:
                self._offered = 0, 0
            if time.perf_counter() - begun > nbytes / _HUGE * _QUICK:  # no huge pages: too dear to do it again
                self._offered = 0, 0


class _Loan:
    """Stands for the memory of an array while anything can see it."""

    __slots__ = ("__array_interface__", "memory")

    def __init__(self, memory: _Memory, nbytes: int) -> None:
        self.memory = memory
        place = memory.address, False
        self.__array_interface__ = {"version": 3, "data": place, "shape": (nbytes,), "typestr": "|u1"}


_ALONE = next(map(sys.getrefcount, [_Loan.__new__(_Loan)]))
"""What Python counts, in this very way, where a list has the only reference."""


class Pool:
    """Memory that is lent, and memory that lies idle: never more than is lent.

    Steps may be taken by several threads, and by a signal's handler in the middle of a method here: who comes while
    another is at work does without.
    """

    def __init__(self) -> None:
        self._books: tuple[list[_Loan], dict[int, list[_Memory]]] = [], {}
        """What was lent, and what is idle by its size; replaced at once, for an interrupt may come at any line."""
        self._steps = self._sorted = 0
        self._renew()
        if hasattr(os, "register_at_fork"):
            os.register_at_fork(after_in_child=self._renew)

    def _renew(self) -> None:
        self._lock = threading.Lock()

    @property
    def lent_bytes(self) -> int:
        """Return the bytes of what something looks at."""
        lent = self._books[0]
        return _total(loan.memory for loan, n in zip(lent, [*map(sys.getrefcount, lent)], strict=False) if n > _ALONE)

    @property
    def idle_bytes(self) -> int:
        """Return the bytes of what is kept beside that."""
        lent, idle = self._books
        return _total(chain(*idle.values())) + _total(loan.memory for loan in [*lent]) - self.lent_bytes

    def lend(self, nbytes: int) -> Any:
        """Return an array of bytes that begins with a page, with whatever is in it; None where there is none."""
        return self._alone(self._lend, nbytes)

    def begin(self, asks: bool) -> None:
        """Begin a step, that asks for memory or not: see what is free, and give back what is too much or too old."""
        self._steps += 1
        if asks or (any(self._books) and self._steps > self._sorted + IDLE_STEPS):
            self._alone(self._sort)

    def release(self) -> int:
        """Give all idle memory back to the system; return how many bytes."""
        return self._alone(self._release) or 0

    def _alone(self, do: Callable[..., T], *what: Any) -> T | None:
        """Do something unless it, or the like, is being done: by another thread, or where a signal's handler came."""
        if self._lock.locked():
            return None
        with self._lock:
            return do(*what)

    def _lend(self, nbytes: int) -> Any:
        lent, idle = self._books
        size = -(-nbytes // _PAGE) * _PAGE
        some = idle.get(size)
        try:
            memory = some.pop() if some else _Memory(size)
        except (OSError, ValueError, MemoryError):  # too many mappings, perhaps
            self._books = lent, {}
            return None
        loan = _Loan(memory, nbytes)
        array = np.asarray(loan)
        lent.append(loan)
        return array

    def _sort(self) -> None:
        lent, idle = self._books
        counts = [*map(sys.getrefcount, lent)]
        free = [loan.memory for loan, n in zip(lent, counts, strict=True) if n <= _ALONE]
        lent = [loan for loan, n in zip(lent, counts, strict=True) if n > _ALONE]
        now, self._sorted = time.monotonic(), self._steps
        for memory in free:
            memory.offer()
            memory.free_since, memory.free_at = self._steps, now
        every = sorted([*chain(*idle.values()), *free], key=lambda memory: memory.free_since)
        room = _total(loan.memory for loan in lent) - _total(every)
        idle = {}
        for memory in every:  # the longest idle first
            is_old = memory.free_since < self._steps - IDLE_STEPS and memory.free_at < now - IDLE_SECONDS
            if is_old or room < 0:
                room += memory.nbytes
            else:
                idle.setdefault(memory.nbytes, []).append(memory)
        self._books = lent, idle

    def _release(self) -> int:
        self._sort()
        lent, idle = self._books
        self._books = lent, {}
        return _total(chain(*idle.values()))


def _total(memories: Iterable[_Memory]) -> int:
    return sum(memory.nbytes for memory in memories)


pool = Pool()
IS_ON = os.environ.get("ADAMOD_ARRAY_RECYCLE") != "0" and getattr(sys, "_is_gil_enabled", lambda: True)()
"""Without the lock of the interpreter, references are not counted at one place."""


def empty_like(x: Any) -> Any:
    """Return an array or a tensor on the CPU like one without gaps, of which there are enough to use memory again."""
    is_array = isinstance(x, np.ndarray)
    root = pool.lend(x.nbytes) if IS_ON and x.nbytes >= SMALL[is_array] else None
    if root is None:
        return plain_like(x)
    if is_array:
        return np.ndarray(x.shape, x.dtype, root, order="C" if x.flags.c_contiguous else "F")
    torch = sys.modules["torch"]
    if (dtype := _in_numpy(x.dtype)) is not None and x.is_contiguous():
        return torch.from_numpy(np.ndarray(x.shape, dtype, root))
    return torch.frombuffer(root, dtype=x.dtype).as_strided(x.shape, x.stride()).data  # no view, for autograd


def plain_like(x: Any) -> Any:
    """Return an array or a tensor like another, in memory of the framework's."""
    return np.empty_like(x, subok=False) if isinstance(x, np.ndarray) else sys.modules["torch"].empty_like(x)


@functools.cache
def _in_numpy(dtype: Any) -> Any:
    """Return what NumPy calls a tensor's dtype; None of bfloat16, or where PyTorch was built without NumPy."""
    try:
        return sys.modules["torch"].empty(0, dtype=dtype, device="cpu").numpy().dtype
    except (RuntimeError, TypeError):
        return None
