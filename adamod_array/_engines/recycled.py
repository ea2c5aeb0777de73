"""Memory of results that is used again: what the last array that looks at it leaves, a later step writes.

New memory is slow: the system finds each page, and fills it with zeros, at its first touch. An array that is made here
is a view of one that keeps a :class:`_Loan`, as every view, memoryview and tensor of it does; its memory comes back
when the loan goes.
"""

from __future__ import annotations

import contextlib
import mmap
import os
import sys
import threading
import time
import weakref
from collections import deque
from collections.abc import Callable
from typing import Any, TypeVar

import numpy as np

T = TypeVar("T")
SMALL = 1 << 18
"""Bytes of an array that is left to NumPy or PyTorch, whose own allocators find its memory again."""
_PAGE, _HUGE = mmap.PAGESIZE, 1 << 21
PATIENCE = 16
"""Steps after which memory that nobody asked for is given back."""
_QUICK = 5e-6
"""Seconds in which a huge page is offered to the system; small ones take longer, and are then found and zeroed anew."""


class _Memory:
    """A mapping of this process alone, aligned to pages; it ends with this object."""

    __slots__ = ("__weakref__", "_map", "_offered", "address", "nbytes", "since")

    def __init__(self, nbytes: int) -> None:
        private = {"flags": mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS} if hasattr(mmap, "MAP_PRIVATE") else {}
        self._map = mmap.mmap(-1, nbytes, **private)  # which a fork must not share
        self.address, self.nbytes, self.since = np.frombuffer(self._map, np.uint8).ctypes.data, nbytes, 0
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

    __slots__ = ("__array_interface__", "__weakref__", "_pool", "memory")

    def __init__(self, pool: Pool, memory: _Memory, nbytes: int) -> None:
        self._pool, self.memory = pool, memory
        place = {"data": (memory.address, False), "shape": (nbytes,), "typestr": "|u1"}
        self.__array_interface__ = {"version": 3} | place

    def __del__(self) -> None:
        if hasattr(self, "__array_interface__"):
            del self.__array_interface__  # should a finalizer of a user's bring it back
            self._pool.take_back(self.memory)


class Pool:
    """Memory that is lent, and memory that lies idle: never more than is lent.

    Arrays go in any thread, at any line, also in the middle of a method here: what is done then is left to that method.
    """

    def __init__(self) -> None:
        self.idle: dict[int, list[_Memory]] = {}
        """By size, and of each the longest idle first."""
        self.idle_bytes = self.lent_bytes = self.steps = 0
        self._loans: weakref.WeakSet[_Loan] = weakref.WeakSet()
        self._returned: deque[_Memory] = deque()
        self._renew()
        if hasattr(os, "register_at_fork"):
            os.register_at_fork(after_in_child=self._renew)

    def _renew(self) -> None:
        self._lock, self._is_at_work = threading.RLock(), False

    def lend(self, nbytes: int) -> Any:
        """Return an array of bytes that begins with a page, with whatever is in it; None where there is none."""
        size = -(-nbytes // _PAGE) * _PAGE
        memory = self._alone(lambda: self._found(size))
        if memory is None:
            try:
                memory = _Memory(size)
            except (OSError, ValueError, MemoryError):  # too many mappings, perhaps
                self.release()
                return None
        loan = _Loan(self, memory, nbytes)
        self._loans.add(loan)
        self.lent_bytes += size
        return np.asarray(loan)

    def take_back(self, memory: _Memory) -> None:
        """Take memory that nothing looks at any more."""
        self._returned.append(memory)
        self._alone(self._sort_in)

    def age(self) -> None:
        """Count a step, and give back what many steps have not asked for."""
        self.steps += 1
        if self.idle:
            self._alone(self._clear_old)

    def release(self) -> int:
        """Give all idle memory back to the system; return how many bytes."""
        return self._alone(self._clear) or 0

    def _alone(self, do: Callable[[], T]) -> T | None:
        """Do something that no other thread does meanwhile; nothing in the middle of another thing done so."""
        with self._lock:
            if self._is_at_work:
                return None
            self._is_at_work = True
            try:
                return do()
            finally:
                self._is_at_work = False

    def _found(self, size: int) -> _Memory | None:
        self._sort_in()
        some = self.idle.get(size)
        if not some:
            return None
        self.idle_bytes -= size
        return some.pop()

    def _sort_in(self) -> None:
        """Keep what was returned, and give back what has been idle for longest, until no more is idle than is lent."""
        while self._returned:
            memory = self._returned.popleft()
            self.lent_bytes -= memory.nbytes
            memory.offer()
            memory.since = self.steps
            self.idle.setdefault(memory.nbytes, []).append(memory)
            self.idle_bytes += memory.nbytes
            while self.idle_bytes > self.lent_bytes and (some := [*filter(None, self.idle.values())]):
                self.idle_bytes -= min(some, key=lambda each: each[0].since).pop(0).nbytes

    def _clear_old(self) -> None:
        self._count()
        for some in self.idle.values():
            while some and some[0].since < self.steps - PATIENCE:
                self.idle_bytes -= some.pop(0).nbytes
        self.idle = {size: some for size, some in self.idle.items() if some}

    def _clear(self) -> int:
        self._sort_in()
        self._count()
        released, self.idle, self.idle_bytes = self.idle_bytes, {}, 0
        return released

    def _count(self) -> None:
        """Add up what is there: an interrupt may have come between a change and its account."""
        self.idle_bytes = sum(size * len(some) for size, some in self.idle.items())
        self.lent_bytes = sum(loan.memory.nbytes for loan in self._loans)


pool = Pool()
IS_ON = os.environ.get("ADAMOD_ARRAY_RECYCLE") != "0"


def empty_like(x: Any) -> Any:
    """Return an array or a tensor on the CPU like one that has no gaps, in memory that begins with a page if large."""
    is_array = isinstance(x, np.ndarray)
    root = pool.lend(x.nbytes) if IS_ON and x.nbytes >= SMALL else None
    if root is None:
        return np.empty_like(x, subok=False) if is_array else sys.modules["torch"].empty_like(x)
    if is_array:
        return np.ndarray(x.shape, x.dtype, root, order="C" if x.flags.c_contiguous else "F")
    torch = sys.modules["torch"]
    # no view, which autograd would follow: ``data``
    return torch.frombuffer(root, dtype=x.dtype).as_strided(x.shape, x.stride()).data
