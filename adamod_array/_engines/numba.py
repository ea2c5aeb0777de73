"""Numba: NumPy's arrays, and PyTorch's on the CPU, stepped by one call of a compiled loop.

A leaf costs nanoseconds, and PyTorch's tensors need no view.
"""

from __future__ import annotations

import functools
import math
import os
import sys
import threading
from array import array
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any

import numba
import numpy as np

from adamod_array._aliasing import overlapping
from adamod_array._engines import Result, Work, eager, pass_over, passed_over
from adamod_array._engines.numba_compile import SERIAL, STORAGE, blocks, compiled_kernel, rows_of
from adamod_array._engines.signatures import addresses_of, look_at
from adamod_array._late import lock
from adamod_array._namespace import COMPUTE_DTYPE, Namespace, dtype_name
from adamod_array._program.numba_source import source
from adamod_array._program.trace import trace


class _Pool:
    """One caller at a time: Numba's fallback thread pool may not be entered twice."""

    forks = 0
    """A child of a process that used OpenMP may not use it: it steps without threads."""

    def __init__(self) -> None:
        self.lock = threading.RLock()  # a signal handler may take a step, in the very thread that holds it
        if hasattr(os, "register_at_fork"):
            os.register_at_fork(after_in_child=self._renew)

    def _renew(self) -> None:
        self.lock = threading.RLock()
        self.forks += 1


_pool = _Pool()
_CODE = {"float32": "f", "float64": "d"}
"""What Python's arrays call the compute dtypes."""

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
    threads: bool


@dataclass
class Plan:
    """How a tree is stepped; handed from state to state while arrays and gradients stay in layout.

    Arrays are listed as gradients, parameters, and the slots one after the other.
    """

    key: tuple[Any, ...]
    """What else must be as it was: see :func:`_key`."""
    count: int
    """How many leaves kernels take."""
    taken: list[int]
    """Which."""
    rest: list[int]
    groups: list[_Group]
    nbytes: Any
    """Of each array of the leaves taken."""
    look: Any = None
    """Tells in one compiled call whether the next arrays are like those of the last step, and where they are."""
    misses: int = 0
    """Steps in a row that found other arrays: where that goes on, remembering them is lost time."""
    apart: bytes = b""
    """Addresses of arrays of which no gradient was seen to share memory with what a donated step writes."""
    spans: tuple[bytes, Any, Any] = (b"", None, None)
    """Addresses of what is written; in order, where each begins, and where the last of those before it ends."""

    def find(self, arrays: list[Any], donate: bool) -> Any:
        """Return the addresses of arrays like those of the last step; None where one is not, or may not be written."""
        where = self.look.find(arrays, donate)
        self.misses = 0 if where is not None else self.misses + 1
        return where if where is None or not donate or self._are_disjoint(where) else None

    def remember(self, arrays: list[Any]) -> None:
        """Take arrays for those that the next step will find."""
        self.look = look_at(arrays, self.count, self.nbytes) if self.misses < _PATIENCE else None

    def serves(self, pairs: Sequence[tuple[Any, Any]], which: tuple[int, ...], donate: bool) -> bool:
        """Return whether it is the plan for these rates."""
        return self.key == _key(pairs, which, donate)

    def step(
        self,
        kind: Namespace,
        grads: list[Any],
        params: list[Any],
        slots: list[list[Any]],
        where: Any,
        pairs: Sequence[tuple[Any, Any]],
        c: tuple[Any, ...],
        claim: Callable[[], None],
    ) -> tuple[list[Any], list[list[Any]]]:
        """Step the leaves taken, ``where`` all arrays are, after all that can fail; return a list of arrays a slot."""
        if not params:
            return params, slots
        rows = [self._rows(group, pairs, c) for group in self.groups]
        copies = []  # named, to live until the kernels are done
        if self.key[0]:
            copies = self._copies(kind, grads, params, slots, where)
        else:
            params = [_empty_like(x) for x in params]
            slots = [[_empty_like(x) for x in slot] for slot in slots]
            where = np.concatenate((where, addresses_of(kind.name, [*params, *chain(*slots)])))
        columns = where.reshape(-1, len(params))
        columns_of = [columns if x.leaves is None else np.ascontiguousarray(columns[:, x.leaves]) for x in self.groups]
        claim()
        for group, addresses, scalars in zip(self.groups, columns_of, rows, strict=True):
            if group.threads:
                with _pool.lock:
                    group.kernel(addresses, *group.layout, scalars)
            else:
                group.kernel(addresses, *group.layout, scalars)
        del copies
        return params, slots

    def _rows(self, group: _Group, pairs: Sequence[tuple[Any, Any]], c: tuple[Any, ...]) -> Any:
        """Return a group's scalars, rounded once; C makes what is too large for float32 infinite without a warning."""
        rows = rows_of(pairs, self.key[1], c, group.constants)
        rounded = array(_CODE[group.compute], chain.from_iterable(rows))
        return np.frombuffer(rounded, group.compute).reshape(len(rows), -1)

    def _written(self, where: Any) -> tuple[bytes, Any, Any]:
        """Return the addresses of what a donated step writes: as they are; in order; where those before end."""
        addresses = where[self.count :]
        if self.spans[0] != (seen := addresses.tobytes()):
            order = addresses.argsort()
            ends = np.maximum.accumulate((addresses + self.nbytes[self.count :])[order])
            self.spans = seen, addresses[order], np.concatenate(([0], ends))
        return self.spans

    def _are_disjoint(self, where: Any) -> bool:
        """Return whether no two of the arrays that a donated step writes share memory."""
        if where.tobytes() == self.apart:
            return True
        _, starts, ends = self._written(where)
        return bool((starts >= ends[:-1]).all())

    def _copies(self, kind: Any, grads: Any, params: Any, slots: Any, where: Any) -> list[Any]:
        """Put copies in the place of gradients that share memory with what may be written before they are read."""
        seen, n = where.tobytes(), self.count
        if seen == self.apart:
            return []
        _, starts, ends = self._written(where)
        begins_before = starts.searchsorted(where[:n] + self.nbytes[:n])
        copies = []
        if (ends[begins_before] > where[:n]).any():  # it may be its own parameter
            clashes = sorted(overlapping(kind, grads, params, [*params, *chain(*slots)]))
            copies = [kind.copy(grads[k]) for k in clashes]
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
    others = eager.begin(work.subset(plan.rest), donate) if plan.rest else None
    slots = [list(x) for x in zip(*taken.slots, strict=True)]
    where = addresses_of(work.kind.name, [*taken.grads, *taken.params, *chain(*slots)])
    params, slots = plan.step(work.kind, taken.grads, list(taken.params), slots, where, work.pairs, work.c, work.claim)
    kept: list[Sequence[Any]] = [*zip(*slots, strict=True)] or [()] * len(params)
    if others is not None:
        other_params, other_slots = others()
        order = np.argsort([*plan.taken, *plan.rest])
        params, kept = [*params, *other_params], [*kept, *other_slots]
        return [params[i] for i in order], [kept[i] for i in order]
    if known:
        plan.remember([*work.grads, *params, *chain(*slots)])
    return params, kept


def _plan(work: Work, key: tuple[Any, ...]) -> Plan:
    """Sort the leaves by what can be done with them."""
    by_dtype: dict[tuple[str, str], list[int]] = {}
    rest: list[int] = []
    for i, (p, g, kept) in enumerate(zip(work.params, work.grads, work.slots, strict=True)):
        storage = _storage(p, g, kept)
        (rest if storage is None else by_dtype.setdefault(storage, [])).append(i)
    kernels = {storage: _kernel(work, key, storage, leaves) for storage, leaves in by_dtype.items()}
    for storage, kernel in kernels.items():
        if kernel is None:
            rest += by_dtype.pop(storage)
    taken = sorted(chain(*by_dtype.values()))
    groups = [_group(work, key, storage, leaves, taken, kernels[storage]) for storage, leaves in by_dtype.items()]
    rows = [(work.grads[i], work.params[i], *work.slots[i]) for i in taken]
    nbytes = np.asarray([math.prod(x.shape) * x.dtype.itemsize for column in zip(*rows, strict=True) for x in column])
    return Plan(key, len(taken), taken, sorted(rest), groups, nbytes)


def _kernel(work: Work, key: tuple[Any, ...], storage: tuple[str, str], leaves: list[int]) -> Any:
    """Return the compiled kernel of some leaves, its constants, and whether it has threads; None of one that fails."""
    donate, decay, _, forks = key
    elements = sum(math.prod(work.params[i].shape) for i in leaves)
    threads = elements > SERIAL and not forks and _has_threads()
    text, constants = source(trace(work.method, decay=decay), *storage, donate=donate, threads=threads)
    name = f"a kernel of {type(work.method).__name__} for {storage[0]}"
    if name in passed_over:
        return None
    try:
        with lock:
            return compiled_kernel(text, COMPUTE_DTYPE[storage[0]], threads), constants, threads
    except Exception as error:  # whatever a compiler may raise
        pass_over(name, error)
        return None


@functools.cache
def _has_threads() -> bool:
    """Return whether Numba can start its threads: what it needs for them may be missing."""
    try:
        with lock:
            numba.get_num_threads()
            numba.threading_layer()
    except Exception as error:
        pass_over("numba's threads", error)
        return False
    return True


def _group(
    work: Work, key: tuple[Any, ...], storage: tuple[str, str], leaves: list[int], taken: list[int], kernel: Any
) -> _Group:
    compiled, constants, threads = kernel
    sizes, leaf_of, start_of = blocks(tuple([math.prod(work.params[i].shape) for i in leaves]))
    row_of = np.asarray([key[2][i] for i in leaves], np.int64)
    return _Group(
        None if leaves == taken else [taken.index(i) for i in leaves],
        compiled,
        constants,
        COMPUTE_DTYPE[storage[0]],
        (sizes, row_of, leaf_of, start_of),
        threads,
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
