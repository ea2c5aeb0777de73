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
from typing import Any

import numpy as np

from adamod_array._check import overlapping
from adamod_array._kernels import Result, Work, eager
from adamod_array._kernels.loop import SERIAL, STORAGE, blocks, compiled_kernel, source
from adamod_array._kernels.memory import addresses_of
from adamod_array._kernels.trace import trace
from adamod_array._namespace import COMPUTE_DTYPE, dtype_name


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


@dataclass
class _Group:
    """Leaves of one storage dtype, and all that stays the same from step to step."""

    leaves: list[int]
    kernel: Any
    constants: tuple[float, ...]
    compute: str
    layout: tuple[Any, ...]
    """The kernel's arguments from ``sizes`` to ``start_of``."""
    lock: Any
    apart: bytes = b""
    """Addresses of gradients that were seen to share no memory with what a donated step writes."""


@dataclass
class Plan:
    """How a tree is stepped; handed from state to state while arrays and gradients stay in layout."""

    donate: bool
    decay: bool
    which: tuple[int, ...]
    groups: list[_Group]
    rest: list[int]
    forks: int


def run(work: Work, donate: bool) -> Result:
    """Step every leaf: those that a kernel takes in one call a storage dtype, the rest eagerly."""
    decay = any(factor is not None for _, factor in work.pairs)
    plan: Plan = work.plan
    if plan is None or (plan.donate, plan.decay, plan.which, plan.forks) != (donate, decay, work.which, _pool.forks):
        plan = work.plan = _plan(work, donate, decay)
    params: list[Any] = [*work.params]
    slots: list[Any] = [[*kept] for kept in work.slots]
    for group in plan.groups:
        arrays: list[Any] = []
        for i in group.leaves:
            arrays += (work.grads[i], params[i], *slots[i])
            if not donate:
                params[i], *slots[i] = new = [_empty_like(x) for x in (params[i], *slots[i])]
                arrays += new
        addresses = addresses_of(work.kind.name, arrays).reshape(len(group.leaves), -1)
        copies = _copies(work, group, addresses) if donate else ()  # named, to live until the kernel is done
        rows = [
            (lr, 1.0 if factor is None else factor, *work.c, *group.constants)
            if decay
            else (lr, *work.c, *group.constants)
            for lr, factor in work.pairs
        ]
        with group.lock:
            group.kernel(addresses, *group.layout, np.asarray(rows, group.compute))
        del copies
    if plan.rest:
        for i, p, kept in zip(plan.rest, *eager.run(work.subset(plan.rest), donate), strict=True):
            params[i], slots[i] = p, kept
    return params, slots


def _copies(work: Work, group: _Group, addresses: Any) -> list[Any]:
    """Copies, put in their place, of gradients that share memory with what may be written before they are read."""
    seen = addresses[:, 0].tobytes()
    if seen == group.apart:
        return []
    grads, params = [work.grads[i] for i in group.leaves], [work.params[i] for i in group.leaves]
    written = [x for p, kept in zip(work.params, work.slots, strict=True) for x in (p, *kept)]
    clashes = sorted(overlapping(work.kind, grads, params, written))
    copies = [work.kind.xp.asarray(grads[k], copy=True) for k in clashes]
    if clashes:
        addresses[clashes, 0] = addresses_of(work.kind.name, copies)
    group.apart = b"" if clashes else seen
    return copies


def _plan(work: Work, donate: bool, decay: bool) -> Plan:
    """Sort the leaves by what can be done with them."""
    by_dtype: dict[tuple[str, str], list[int]] = {}
    rest: list[int] = []
    for i, (p, g, kept) in enumerate(zip(work.params, work.grads, work.slots, strict=True)):
        key = _storage(p, g, kept)
        (rest if key is None else by_dtype.setdefault(key, [])).append(i)
    groups = [_group(work, donate, decay, key, leaves) for key, leaves in by_dtype.items()]
    return Plan(donate, decay, work.which, groups, rest, _pool.forks)


def _group(work: Work, donate: bool, decay: bool, key: tuple[str, str], leaves: list[int]) -> _Group:
    sizes, leaf_of, start_of = blocks(tuple([math.prod(work.params[i].shape) for i in leaves]))
    row_of = np.asarray([work.which[i] for i in leaves], np.int64)
    threads = bool(sizes.sum() > SERIAL) and not _pool.forks
    text, constants = source(trace(work.method, decay=decay), *key, donate=donate, threads=threads)
    compute = COMPUTE_DTYPE[key[0]]
    return _Group(
        leaves,
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
