"""Memory of results that is used again: what the last array that looks at it leaves, a later step writes.

New memory is slow: the system finds each page, and fills it with zeros, at its first touch. An array that is made here
is a view of one that keeps a :class:`_Loan`, as every view, memoryview and tensor of it does; its memory comes back
when the loan goes.
"""

from __future__ import annotations

import contextlib
import functools
import mmap
import os
import sys
import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Any, TypeVar

import numpy as np

T = TypeVar("T")
SMALL = {True: 1 << 16, False: 1 << 19}
"""Bytes of an array, or else a tensor, that is left to its framework, whose allocator may find its memory again."""
LARGE = 1 << 20
"""Bytes of results of a step from which on it pays."""
_PAGE, _HUGE = mmap.PAGESIZE, 1 << 21
PATIENCE = 16
"""Steps after which memory that nobody asked for is given back."""
_QUICK = 5e-6
"""Seconds in which a huge page is offered to the system; small ones take longer, and are then found and zeroed anew."""


class _Memory:
    """A mapping of this process alone, aligned to pages; it ends with this object."""

    __slots__ = ("_map", "_offered", "address", "nbytes", "since")

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

    __slots__ = ("__array_interface__", "_memory", "_pool")

    def __init__(self, pool: Pool, memory: _Memory, nbytes: int) -> None:
        self._pool, self._memory = pool, memory
        place = memory.address, False
        self.__array_interface__ = {"version": 3, "data": place, "shape": (nbytes,), "typestr": "|u1"}

    def __del__(self) -> None:
        if hasattr(self, "__array_interface__"):
            del self.__array_interface__  # should a finalizer of a user's bring it back
            self._pool.take_back(self._memory)


class Pool:
    """Memory that is lent, and memory that lies idle: never more than is lent.

    Arrays go in any thread, at any line, also in the middle of a method here: what is done then is left to that method.
    """

    def __init__(self) -> None:
        self.idle: dict[int, list[_Memory]] = {}
        """By size, and of each the longest idle first."""
        self.idle_bytes = self.lent_bytes = self.steps = 0
        self._lent: dict[int, int] = {}
        """Bytes by the identity of a memory."""
        self._returned: deque[_Memory] = deque()
        self._renew()
        if hasattr(os, "register_at_fork"):
            os.register_at_fork(after_in_child=self._renew)

    def _renew(self) -> None:
        self._lock, self._is_at_work = threading.RLock(), False

    def lend(self, nbytes: int) -> Any:
        """Return an array of bytes that begins with a page, with whatever is in it; None where there is none."""
        size = -(-nbytes // _PAGE) * _PAGE
        memory = self._alone(self._found, size)
        if memory is None:
            try:
                memory = _Memory(size)
            except (OSError, ValueError, MemoryError):  # too many mappings, perhaps
                self.release()
                return None
        loan = _Loan(self, memory, nbytes)
        self._lent[id(memory)] = size  # after the loan, which takes it out of there wherever it ends
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

    def _alone(self, do: Callable[..., T], *what: Any) -> T | None:
        """Do something that no other thread does meanwhile; nothing in the middle of another thing done so."""
        with self._lock:
            if self._is_at_work:
                return None
            self._is_at_work = True
            try:
                return do(*what)
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
            self.lent_bytes -= self._lent.pop(id(memory), 0)
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
        self.lent_bytes = sum(self._lent.copy().values())


pool = Pool()
IS_ON = os.environ.get("ADAMOD_ARRAY_RECYCLE") != "0"


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
