"""Numba: NumPy's arrays, and PyTorch's on the CPU, stepped by one call of a compiled loop.

A leaf costs nanoseconds, and PyTorch's tensors need no view.
"""

from __future__ import annotations

import contextlib
import math
import os
import sys
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any

import numpy as np

from adamod_array._check import overlapping
from adamod_array._kernels import Result, Work, eager
from adamod_array._kernels.headers import addresses_of, find, headers_of
from adamod_array._kernels.loop import SERIAL, STORAGE, blocks, compiled_kernel, rows_of, source
from adamod_array._kernels.trace import trace
from adamod_array._namespace import COMPUTE_DTYPE, Namespace, dtype_name


class _Pool:
    """One caller at a time: Numba's fallback thread pool may not be entered twice."""

    forks = 0
    """A child of a process that used OpenMP may not use it: it steps without threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        if hasattr(os, "register_at_fork"):
            os.register_at_fork(after_in_child=self._renew)

    def _renew(self) -> None:
        self._lock = threading.Lock()
        self.forks += 1

    def __enter__(self) -> None:
        self._lock.acquire()

    def __exit__(self, *_: object) -> None:
        self._lock.release()


_pool = _Pool()


_PATIENCE = 8
"""After so many misses in a row a plan is not repeated any more."""


@dataclass
class _Group:
    """Leaves of one storage dtype, and all that stays the same from step to step."""

    leaves: Any
    """Which of those that kernels take; None of all."""
    kernel: Any
    constants: tuple[float, ...]
    compute: str
    layout: tuple[Any, ...]
    """The kernel's arguments from ``sizes`` to ``start_of``."""
    lock: Any


@dataclass
class Plan:
    """How a tree is stepped; handed from state to state while arrays and gradients stay in layout.

    Arrays are listed as gradients, parameters, and the slots one after the other.
    """

    key: tuple[Any, ...]
    """What else must be as it was: see :func:`_key`."""
    taken: list[int]
    """The leaves that kernels take."""
    rest: list[int]
    groups: list[_Group]
    nbytes: Any
    """Of each array of the leaves taken."""
    headers: Any = None
    """Of NumPy's arrays, what the next ones must be like for the plan to be repeated without another look."""
    dtypes: Any = None
    """Those of the headers, kept alive."""
    misses: int = 0
    """Steps in a row that found other arrays: where that goes on, remembering them is lost time."""
    apart: bytes = b""
    """Addresses of arrays of which no gradient was seen to share memory with what a donated step writes."""
    spans: tuple[bytes, Any, Any] = (b"", None, None)
    """Addresses of what is written; in order, where each begins, and where the last of those before it ends."""

    def find(self, arrays: list[Any]) -> Any:
        """The addresses of arrays that are like those of the last step; None where one is not."""
        where = find(arrays, self.headers)
        self.misses = 0 if where is not None else self.misses + 1
        return where

    def remember(self, arrays: list[Any]) -> None:
        """Take arrays for those that the next step will find."""
        self.dtypes = [x.dtype for x in arrays]
        self.headers = headers_of(arrays) if self.misses < _PATIENCE else None

    def serves(self, pairs: Sequence[tuple[Any, Any]], which: tuple[int, ...], donate: bool) -> bool:
        """Whether it is the plan for these rates."""
        return self.key == _key(pairs, which, donate)

    def step(
        self, kind: Namespace, grads: list[Any], params: list[Any], slots: list[list[Any]], where: Any, scalars: Any
    ) -> tuple[list[Any], list[list[Any]]]:
        """Step the leaves taken, ``where`` all arrays are; a list of arrays a slot.

        ``scalars`` are the pairs of rate and decay factor, and the coefficients.
        """
        if not params:
            return params, slots
        pairs, c = scalars
        donate, decay, *_ = self.key
        copies = []  # named, to live until the kernels are done
        if donate:
            copies = self._copies(kind, grads, params, slots, where)
        else:
            params = [_empty_like(x) for x in params]
            slots = [[_empty_like(x) for x in slot] for slot in slots]
            where = np.concatenate((where, addresses_of(kind.name, [*params, *chain(*slots)])))
        columns = where.reshape(-1, len(params))
        for group in self.groups:
            rows = rows_of(pairs, decay, c, group.constants)
            with group.lock:
                group.kernel(
                    columns if group.leaves is None else np.ascontiguousarray(columns[:, group.leaves]),
                    *group.layout,
                    np.asarray(rows, group.compute),
                )
        del copies
        return params, slots

    def _copies(self, kind: Any, grads: Any, params: Any, slots: Any, where: Any) -> list[Any]:
        """Copies, put in their place, of gradients that share memory with what may be written before they are read."""
        seen, n = where.tobytes(), len(params)
        if seen == self.apart:
            return []
        written = seen[n * where.itemsize :]
        if self.spans[0] != written:
            order = where[n:].argsort()
            ends = np.maximum.accumulate((where[n:] + self.nbytes[n:])[order])
            self.spans = written, where[n:][order], np.concatenate(([0], ends))
        _, starts, ends = self.spans
        begins_before = starts.searchsorted(where[:n] + self.nbytes[:n])
        copies = []
        if (ends[begins_before] > where[:n]).any():  # it may be its own parameter
            clashes = sorted(overlapping(kind, grads, params, [*params, *chain(*slots)]))
            copies = [kind.xp.asarray(grads[k], copy=True) for k in clashes]
            where[clashes] = addresses_of(kind.name, copies)
        if not copies:
            self.apart = seen
        return copies


def _key(pairs: Sequence[tuple[Any, Any]], which: tuple[int, ...], donate: bool) -> tuple[Any, ...]:
    """What a plan depends on beside the arrays."""
    return donate, any(factor is not None for _, factor in pairs), which, _pool.forks


def run(work: Work, donate: bool) -> Result:
    """Step every leaf: those that a kernel takes in one call a storage dtype, the rest eagerly."""
    plan: Plan = work.plan
    known = plan is not None and plan.serves(work.pairs, work.which, donate)
    if not known:
        plan = work.plan = _plan(work, _key(work.pairs, work.which, donate))
    if plan.rest and donate:
        work.grads = eager.apart(work)  # all of them, before any array is written
    taken = work.subset(plan.taken) if plan.rest else work
    slots = [list(x) for x in zip(*taken.slots, strict=True)]
    where = addresses_of(work.kind.name, [*taken.grads, *taken.params, *chain(*slots)])
    params, slots = plan.step(work.kind, taken.grads, list(taken.params), slots, where, (work.pairs, work.c))
    kept: list[Sequence[Any]] = [*zip(*slots, strict=True)] or [()] * len(params)
    if plan.rest:
        others, theirs = eager.run(work.subset(plan.rest), donate)
        order = np.argsort([*plan.taken, *plan.rest])
        params, kept = [*params, *others], [*kept, *theirs]
        return [params[i] for i in order], [kept[i] for i in order]
    if known and work.kind.name == "numpy":
        plan.remember([*work.grads, *params, *chain(*slots)])
    return params, kept


def _plan(work: Work, key: tuple[Any, ...]) -> Plan:
    """Sort the leaves by what can be done with them."""
    by_dtype: dict[tuple[str, str], list[int]] = {}
    rest: list[int] = []
    for i, (p, g, kept) in enumerate(zip(work.params, work.grads, work.slots, strict=True)):
        storage = _storage(p, g, kept)
        (rest if storage is None else by_dtype.setdefault(storage, [])).append(i)
    taken = sorted(chain(*by_dtype.values()))
    groups = [_group(work, key, storage, leaves, taken) for storage, leaves in by_dtype.items()]
    rows = [(work.grads[i], work.params[i], *work.slots[i]) for i in taken]
    nbytes = np.asarray([math.prod(x.shape) * x.dtype.itemsize for column in zip(*rows, strict=True) for x in column])
    return Plan(key, taken, rest, groups, nbytes)


def _group(work: Work, key: tuple[Any, ...], storage: tuple[str, str], leaves: list[int], taken: list[int]) -> _Group:
    donate, decay, which, forks = key
    sizes, leaf_of, start_of = blocks(tuple([math.prod(work.params[i].shape) for i in leaves]))
    row_of = np.asarray([which[i] for i in leaves], np.int64)
    threads = bool(sizes.sum() > SERIAL) and not forks
    text, constants = source(trace(work.method, decay=decay), *storage, donate=donate, threads=threads)
    compute = COMPUTE_DTYPE[storage[0]]
    return _Group(
        None if leaves == taken else [taken.index(i) for i in leaves],
        compiled_kernel(text, compute, threads),
        constants,
        compute,
        (sizes, row_of, leaf_of, start_of),
        _pool if threads else contextlib.nullcontext(),
    )


def _empty_like(x: Any) -> Any:
    return np.empty_like(x, subok=False) if isinstance(x, np.ndarray) else sys.modules["torch"].empty_like(x)


def _storage(p: Any, g: Any, slots: Sequence[Any]) -> tuple[str, str] | None:
    """The storage dtypes of a parameter and gradient that a kernel can take with these slots, or None."""
    storage, gradient_storage = dtype_name(p), dtype_name(g)
    compute = COMPUTE_DTYPE[storage]
    if storage not in STORAGE or any(dtype_name(x) != compute for x in slots):
        return None
    fits = COMPUTE_DTYPE[gradient_storage] == compute and all(_alike(p, x) for x in (p, g, *slots))
    return (storage, gradient_storage) if fits else None


def _alike(p: Any, x: Any) -> bool:
    """Whether ``x`` lies in memory without gaps, element beside element with ``p``."""
    if isinstance(x, np.ndarray):
        flags = x.flags
        if not flags.aligned or not x.dtype.isnative:
            return False
        return (flags.c_contiguous and p.flags.c_contiguous) or (flags.f_contiguous and p.flags.f_contiguous)
    if x.is_contiguous():
        return p.is_contiguous()  # type: ignore[no-any-return]
    return x.stride() == p.stride() and _is_dense(x.shape, x.stride())


def _is_dense(shape: Sequence[int], strides: Sequence[int]) -> bool:
    expected = 1
    for stride, n in sorted((stride, n) for stride, n in zip(strides, shape, strict=True) if n != 1):
        if stride != expected:
            return False
        expected *= n
    return True
