"""Numba: NumPy's arrays, and PyTorch's on the CPU, stepped by one call of a compiled loop.

A leaf costs nanoseconds, and PyTorch's tensors need no view.
"""

from __future__ import annotations

import functools
import math
import os
import threading
from collections.abc import Callable
from dataclasses import dataclass
from itertools import chain
from typing import Any

import numba
import numpy as np

from adamod_array._aliasing import overlapping
from adamod_array._engines import Columns, StepInputs, eager, pass_over, passed_over, put, recycled
from adamod_array._engines.dense import are_beside
from adamod_array._engines.numba_compile import SERIAL, Storage, blocks, compiled_kernel, storages
from adamod_array._engines.numba_memory import meet
from adamod_array._engines.plan import Plan
from adamod_array._engines.signatures import addresses_of, signatures_of
from adamod_array._late import lock
from adamod_array._method import Method
from adamod_array._namespace import COMPUTE_DTYPE, REAL_DTYPE, Namespace, real_compute_dtype
from adamod_array._program.numba_source import source
from adamod_array._scalars import Constants, Scalars


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


pool = _Pool()


@dataclass
class _Group:
    """Leaves of one storage dtype, and all that stays the same from step to step."""

    leaves: Any
    """Which of those that kernels take; None of all."""
    kernel: Any
    compute: str
    layout: tuple[Any, ...]
    """The kernel's arguments from ``sizes`` to ``start_of``."""
    threads: bool


@dataclass(kw_only=True)
class NumbaPlan(Plan):
    """How a tree is stepped. Arrays are listed as gradients, parameters, and the slots one after the other."""

    count: int
    """How many leaves kernels take."""
    in_kernel: list[int]
    """Which."""
    fallback: list[int]
    """Those that the eager engine steps."""
    groups: list[_Group]
    counters: Any
    """The first counter of each leaf, as a row beside the addresses; None where nothing is rounded stochastically."""
    nbytes: Any
    """Of each array of the leaves taken."""
    methods: tuple[Method, ...]
    constants: Constants
    """Those which end the rows of scalars."""
    spans: tuple[bytes, Any, Any, bool] = (b"", None, None, True)
    """Addresses of what is written; in order, where each begins, and where the last of those before it ends; and
    whether no two of them share memory."""

    @staticmethod
    def key_of(scalars: Scalars, donate: bool) -> tuple[Any, ...]:
        return donate, scalars.has_decay, scalars.rate_index, pool.forks, scalars.names

    def match(self, signatures: Any, arrays: list[Any], donate: bool, untouched: Any) -> Any:
        addresses = signatures.match(arrays, donate)
        if addresses is not None and donate:
            _, starts, ends, are_apart = self._spans(addresses)
            if not are_apart or (untouched is not None and meet(*untouched, starts, ends)):
                return None
        return addresses

    def signatures_for(self, arrays: list[Any]) -> Any:
        return signatures_of(arrays, self.count, self.nbytes, stay=self.key[0])

    def step(
        self,
        namespace: Namespace,
        grads: list[Any],
        columns: Columns,
        addresses: Any,
        scalars: Scalars,
        claim: Callable[[], None],
    ) -> Columns:
        """Step the leaves of the kernels, whose arrays are at these addresses, after all that can fail."""
        if not grads:
            return columns
        if scalars.methods != self.methods:  # with other numbers, and the same Program
            self.methods, self.constants = scalars.methods, scalars.constants(self.constants)
        rows = [scalars.table(self.key[1], self.constants, group.compute) for group in self.groups]
        copies = []  # named, to live until the kernels are done
        is_large = not self.key[0] and self.nbytes[self.count :].sum() >= recycled.LARGE
        recycled.pool.begin(asks=is_large)
        if self.key[0]:
            copies = self._copies(namespace, grads, columns, addresses)
        else:
            make = recycled.empty_like if is_large else recycled.plain_like
            columns = [[make(x) for x in xs] for xs in columns]
            addresses = np.concatenate((addresses, addresses_of(namespace.name, [*chain(*columns)])))
        if self.counters is not None:
            addresses = np.concatenate((addresses, self.counters))
        table = addresses.reshape(-1, len(grads))
        tables = [table if x.leaves is None else np.ascontiguousarray(table[:, x.leaves]) for x in self.groups]
        claim()
        for group, table, row in zip(self.groups, tables, rows, strict=True):
            if group.threads:
                with pool.lock:
                    group.kernel(table, *group.layout, row)
            else:
                group.kernel(table, *group.layout, row)
        del copies
        return columns

    def _spans(self, addresses: Any) -> tuple[bytes, Any, Any, bool]:
        """Return ``spans`` of what a donated step writes."""
        written = addresses[self.count :]
        if self.spans[0] != (seen := written.tobytes()):
            order = written.argsort()
            starts, ends = written[order], np.maximum.accumulate((written + self.nbytes[self.count :])[order])
            ends = np.concatenate((np.zeros(1, np.int64), ends))
            self.spans = seen, starts, ends, bool((starts >= ends[:-1]).all())
        return self.spans

    def _copies(self, namespace: Namespace, grads: list[Any], columns: Columns, addresses: Any) -> list[Any]:
        """Put copies in the place of gradients that share memory with what may be written before they are read."""
        _, starts, ends, _ = self._spans(addresses)
        if not meet(addresses[: self.count], self.nbytes, starts, ends):
            return []
        clashes = sorted(overlapping(namespace, grads, columns[0], [*chain(*columns)]))  # it may be its own parameter
        copies = [namespace.copy(grads[k]) for k in clashes]
        addresses[clashes] = addresses_of(namespace.name, copies)
        return copies


def run(inputs: StepInputs, donate: bool) -> Columns:
    """Step every leaf: those that a kernel takes in one call a storage dtype, the rest eagerly."""
    plan: NumbaPlan = inputs.plan
    known = plan is not None and plan.fits(inputs.scalars, donate)
    if not known:
        plan = inputs.plan = _plan(inputs, NumbaPlan.key_of(inputs.scalars, donate))
    if plan.fallback and donate:
        inputs.grads = eager.disjoint(inputs)  # all of them, before any array is written
    kernels = inputs.subset(plan.in_kernel) if plan.fallback else inputs
    finish = eager.begin(inputs.subset(plan.fallback), donate) if plan.fallback else None
    addresses = addresses_of(inputs.namespace.name, [*kernels.grads, *kernels.written])
    new = plan.step(inputs.namespace, kernels.grads, kernels.columns, addresses, inputs.scalars, inputs.claim)
    if finish is not None:
        return put(finish(), plan.fallback, put(new, plan.in_kernel, inputs.columns))
    if known:
        plan.remember([*inputs.grads, *chain(*new)])
    return new


def _plan(inputs: StepInputs, key: tuple[Any, ...]) -> NumbaPlan:
    """Group the leaves by the kernel that takes them."""
    by_dtype: dict[Storage, list[int]] = {}
    fallback: list[int] = []
    storage_of = storages(functools.partial(inputs.program, decay=key[1]))
    in_order = bool(inputs.scalars.methods[0].compact)  # an element's place in memory is then that in the array, too
    for i, (g, p, *slots) in enumerate(zip(inputs.grads, *inputs.columns, strict=True)):
        storage = storage_of(p, g, slots) if all(_alike(p, x, in_order) for x in (p, g, *slots)) else None
        (fallback if storage is None else by_dtype.setdefault(storage, [])).append(i)
    kernels = {storage: _kernel(inputs, key, storage, leaves) for storage, leaves in by_dtype.items()}
    for storage, kernel in kernels.items():
        if kernel is None:
            fallback += by_dtype.pop(storage)
    in_kernel = sorted(chain(*by_dtype.values()))
    groups = [_group(inputs, key, storage, leaves, in_kernel, kernels[storage]) for storage, leaves in by_dtype.items()]
    arrays = [xs[i] for xs in (inputs.grads, *inputs.columns) for i in in_kernel]
    nbytes = np.asarray([math.prod(x.shape) * x.dtype.itemsize for x in arrays], np.int64)
    counters = inputs.scalars.counters
    return NumbaPlan(
        key=key,
        counters=None if counters is None else np.asarray([counters[i] for i in in_kernel], np.int64),
        count=len(in_kernel),
        in_kernel=in_kernel,
        fallback=sorted(fallback),
        groups=groups,
        nbytes=nbytes,
        methods=inputs.scalars.methods,
        constants=inputs.scalars.constants({storage in REAL_DTYPE for storage, _ in by_dtype}),
    )


def _kernel(inputs: StepInputs, key: tuple[Any, ...], storage: Storage, leaves: list[int]) -> Any:
    """Return the compiled kernel of some leaves, and whether it has threads; None of one that fails."""
    donate, decay, _, forks, _ = key
    elements = sum(math.prod(inputs.params[i].shape) for i in leaves)
    threads = elements > SERIAL and not forks and has_threads()
    program = inputs.program(decay=decay, complex_parameter=storage[0] in REAL_DTYPE, storage=storage[0])
    text = source(program, *storage, donate=donate, threads=threads)
    name = f"a kernel of {type(inputs.scalars.methods[0]).__name__} for {storage[0]}"
    if name in passed_over:
        return None
    try:
        with lock:
            return compiled_kernel(text, real_compute_dtype(storage[0]), threads), threads
    except Exception as error:  # whatever a compiler may raise
        pass_over(name, error)
        return None


@functools.cache
def has_threads() -> bool:
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
    inputs: StepInputs,
    key: tuple[Any, ...],
    storage: Storage,
    leaves: list[int],
    in_kernel: list[int],
    kernel: Any,
) -> _Group:
    compiled, threads = kernel
    sizes, leaf_of, start_of = blocks(tuple([math.prod(inputs.params[i].shape) for i in leaves]))
    row_of = np.asarray([key[2][i] for i in leaves], np.int64)
    return _Group(
        None if leaves == in_kernel else [in_kernel.index(i) for i in leaves],
        compiled,
        COMPUTE_DTYPE[storage[0]],
        (sizes, row_of, leaf_of, start_of),
        threads,
    )


def _alike(p: Any, x: Any, in_order: bool) -> bool:
    """Return whether ``x`` lies in memory without gaps, element beside element with ``p``; perhaps in C order alone."""
    if isinstance(x, np.ndarray):
        flags = x.flags
        if not flags.aligned or not x.dtype.isnative:
            return False
        in_c = flags.c_contiguous and p.flags.c_contiguous
        return in_c or (not in_order and flags.f_contiguous and p.flags.f_contiguous)
    return are_beside(p, x) and (not in_order or x.is_contiguous())
