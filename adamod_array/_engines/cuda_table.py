"""The kernels of cuda_table_source, launched once a device for all leaves of a dtype: for CuPy, and PyTorch beside it.

What a launch needs goes with its arguments: scalars always; addresses of up to :data:`FEW` leaves too. Those of more
leaves are put into the device's memory, once for each set of addresses, by launches of a small kernel whose arguments
they are. So the host waits for nothing, keeps no buffer that a copy may still read, and a CUDA graph can hold it all.
"""

from __future__ import annotations

import functools
import math
import sys
import threading
from collections.abc import Callable, Hashable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from itertools import chain
from typing import Any, Protocol

import numpy as np

from adamod_array._engines import Columns, StepInputs, pass_over, passed_over, put
from adamod_array._engines.eager import disjoint_unless
from adamod_array._engines.plan import Plan
from adamod_array._namespace import dtype_name, is_complex
from adamod_array._program.cuda_source import real_dtype, stored_dtypes
from adamod_array._program.cuda_table_source import BLOCK, FEW, KERNEL, LIMIT, SEND, SENDER, SENT, THREADS, Form, source
from adamod_array._program.lower import can_be_lowered
from adamod_array._program.program import Program
from adamod_array._program.trace import constants
from adamod_array._scalars import Scalars

NAME = "CuPy's kernel for all leaves"
"""What is passed over where it does not compile."""

OPTIONS = ("--fmad=false",)

_ROOM = (1, 16, 32)
"""Rows of scalars that kernels are compiled for; leaves with more are stepped by several launches."""

_RECENT = 16
"""Tables on devices that a plan keeps: arrays may alternate between a few places."""

_PER_SM = 8
"""Blocks of threads that a multiprocessor can hold at once."""


class Memory(Protocol):
    """What the kernels ask about arrays of a framework."""

    def device(self, x: Any) -> int:
        """Return the number of an array's device."""

    def address(self, x: Any) -> int:
        """Return where an array begins."""

    def is_beside(self, p: Any, x: Any) -> bool:
        """Return whether ``x`` lies in memory without gaps, element beside element with ``p``."""

    def at(self, device: int) -> AbstractContextManager[Any]:
        """Return a context in which CuPy launches on a device and the framework's current stream, which it gives."""

    def empty_like(self, x: Any) -> Any:
        """Return new memory for an array that lies as ``x`` does."""

    def words(self, count: int, device: int) -> Any:
        """Return memory of so many int64 on the device and stream of :meth:`at`."""

    def scalar(self, value: Any, real: str, p: Any) -> Any:
        """Return a number, or a 0-d array of dtype ``real`` on the device of ``p``."""

    def full(self, value: float, real: str, p: Any) -> Any:
        """Return a number as such an array, without a copy from the host."""


@dataclass
class _Group:
    """Leaves of one device and one pair of dtypes, stepped by one launch."""

    leaves: list[int]
    """Which, of those that kernels take."""
    device: int
    program: Program
    storage: str
    gradient_storage: str
    decay: bool
    is_complex: bool
    rows: list[int]
    """Which rows of scalars they have."""
    layout: Any
    """The kernel's table ``leaves``: first blocks, sizes and rows."""
    blocks: int


@dataclass(kw_only=True)
class TablePlan(Plan):
    """How a tree is stepped, as long as arrays and gradients stay in layout."""

    taken: list[int]
    """The leaves that kernels take."""
    others: list[int]
    groups: list[_Group]
    rest: Any = None
    """The plan of the engine that steps them."""
    apart: list[int] | None = None
    """Addresses for which no gradient had to be copied; while they do not change nobody looks again."""
    tables: dict[Hashable, Any] = field(default_factory=dict)
    """Tables on devices, by device, stream and content; never written again, for a launch or a graph may read them."""

    @staticmethod
    def key_of(scalars: Scalars, donate: bool) -> tuple[Any, ...]:
        return scalars.rate_index, tuple([factor is not None for _, factor in scalars.rates]), scalars.names

    def sent(self, memory: Memory, device: int, stream: Any, words: Any) -> int:
        """Return where these words are on the device, where they are put unless they are there."""
        key = device, stream.ptr, threading.get_ident(), words.tobytes()
        table = self.tables.get(key)
        if table is None:
            table = memory.words(words.size, device)
            _send(memory.address(table), words)
            kept = [*self.tables.items()][1 - _RECENT :]
            self.tables = {**dict(kept), key: table}  # another thread may read them
        if stream.is_capturing():
            _of_graphs[key] = table
        return memory.address(table)


_of_graphs: dict[Hashable, Any] = {}
"""Tables that a captured launch reads whenever its graph is launched, which nobody can tell."""


class _NotCompiledError(Exception):
    """A kernel does not compile here."""


def _send(address: int, words: Any) -> None:
    """Put words into the memory of the device in force, by arguments of launches."""
    for start in range(0, words.size, SENT):
        part = np.zeros(SENT, np.int64)
        count = min(SENT, words.size - start)
        part[:count] = words[start : start + count]
        arguments = np.int64(address + 8 * start), np.int32(count), _by_value(part.tobytes())
        compiled(SEND, SENDER)((1,), (THREADS,), arguments)


def _by_value(content: bytes) -> Any:
    """Return bytes as one argument of a kernel, a structure."""
    return np.frombuffer(content, np.dtype((np.void, len(content))))


@functools.cache
def compiled(text: str, name: str) -> Any:
    """Return the kernel of a source text; CuPy compiles it for each device and keeps it on disk."""
    return sys.modules["cupy"].RawKernel(text, name, options=OPTIONS)


@functools.lru_cache(maxsize=1024)
def _kernel(program: Program, storage: str, gradient_storage: str, form: Form) -> Any:
    return compiled(source(program, storage, gradient_storage, form), KERNEL)


@functools.cache
def _multiprocessors(device: int) -> int:
    runtime = sys.modules["cupy"].cuda.runtime
    return int(runtime.deviceGetAttribute(runtime.cudaDevAttrMultiProcessorCount, device))


def run(
    inputs: StepInputs, donate: bool, memory: Memory, begin_others: Callable[[StepInputs, bool], Callable[[], Columns]]
) -> Columns:
    """Step every leaf: those that lie without gaps in one launch a device and dtype, the rest by another engine.

    ``begin_others`` does for the rest what can fail, and returns what finishes it.
    """
    plan: TablePlan = inputs.plan
    if plan is None or not plan.fits(inputs.scalars, donate):
        plan = inputs.plan = _plan(inputs, memory)
    addresses = None
    if donate:  # no address of the plan's is used, which another thread may change
        inputs.grads, addresses = disjoint_unless(plan.apart, _addresses(memory, inputs), inputs)
        plan.apart = addresses
    mine = inputs.subset(plan.taken) if plan.others else inputs
    new = mine.columns if donate else [[*map(memory.empty_like, xs)] for xs in mine.columns]
    shape = 1 + len(new), len(mine.grads)
    if addresses is None or plan.others:
        addresses = _addresses(memory, mine)
    at = np.asarray(addresses, np.int64).reshape(shape)
    to = at[1:] if donate else np.asarray([*map(memory.address, chain(*new))], np.int64).reshape(len(new), shape[1])
    try:
        launches = [
            _launch(mine, plan, group, at[:, group.leaves], to[:, group.leaves], memory) for group in plan.groups
        ]
    except _NotCompiledError:
        inputs.plan = None
        return run(inputs, donate, memory, begin_others)
    finish = None
    if plan.others:
        others = inputs.subset(plan.others)
        others.plan = plan.rest
        finish = begin_others(others, donate)
        plan.rest = others.plan
    if donate:
        inputs.claim()
    for group, kernel, arguments, _ in launches:
        with memory.at(group.device):
            grid = min(group.blocks, _PER_SM * _multiprocessors(group.device))
            kernel((grid,), (THREADS,), (arguments,))
    if finish is None:
        return new
    return put(finish(), plan.others, put(new, plan.taken, inputs.columns))


def _addresses(memory: Memory, inputs: StepInputs) -> list[int]:
    return [*map(memory.address, chain(inputs.grads, *inputs.columns))]


def _plan(inputs: StepInputs, memory: Memory) -> TablePlan:
    """Group the leaves that a kernel takes."""
    taken: list[int] = []
    by_kernel: dict[Any, list[int]] = {}
    for i, (g, p, *slots) in enumerate(zip(inputs.grads, *inputs.columns, strict=True)):
        decays = inputs.scalars.decays(i)
        if _is_taken(inputs.program(decay=decays, complex_parameter=is_complex(p)), g, p, slots, memory):
            # a factor of 1 changes no real number; of a complex one it spoils the other half of an infinite one
            key = memory.device(p), dtype_name(p), dtype_name(g), decays if is_complex(p) else None
            by_kernel.setdefault(key, []).append(len(taken))
            taken.append(i)
    mine = inputs.subset(taken)
    groups = [group for key, leaves in by_kernel.items() for group in _groups(mine, leaves, key)]
    return TablePlan(
        key=TablePlan.key_of(inputs.scalars, donate=False),
        taken=taken,
        others=sorted({*range(len(inputs.params))}.difference(taken)),
        groups=groups,
    )


def _is_taken(program: Program, g: Any, p: Any, slots: Sequence[Any], memory: Memory) -> bool:
    if NAME in passed_over:
        return False
    stored = stored_dtypes(program, dtype_name(p), dtype_name(g))
    dtypes = [stored[name] for name, _ in program.arrays[2:]]
    return (
        can_be_lowered(program)
        and _room(program, real_dtype(dtype_name(p))) > 0
        and [dtype_name(x) for x in slots] == dtypes
        and all(memory.is_beside(p, x) for x in (p, g, *slots))
    )


def _room(program: Program, real: str) -> int:
    """Return how many rows of scalars go with a launch for any number of leaves, wherever the scalars are."""
    every = tuple(range(len(program.scalars)))
    forms = (Form(len(program.arrays) - 1, False, rows, every, 0) for rows in _ROOM)
    return max((form.rows for form in forms if form.nbytes(real) <= LIMIT), default=0)


def _groups(mine: StepInputs, leaves: list[int], key: Any) -> Iterator[_Group]:
    """Yield the leaves of one device and pair of dtypes, in groups whose rows of scalars go with one launch."""
    device, storage, gradient_storage, _ = key
    scalars, complex_parameter = mine.scalars, storage.startswith("complex")
    decay = any(map(scalars.decays, leaves))
    program = mine.program(decay=decay, complex_parameter=complex_parameter)
    room = _room(program, real_dtype(storage))
    every = [*dict.fromkeys(scalars.rate_index[i] for i in leaves)]
    for first in range(0, len(every), room):
        rows = every[first : first + room]
        some = [i for i in leaves if scalars.rate_index[i] in rows]
        sizes = [math.prod(mine.params[i].shape) for i in some]
        ends = np.cumsum([0, *(-(-size // BLOCK) for size in sizes)])
        if ends[-1]:
            own = [rows.index(scalars.rate_index[i]) for i in some]
            layout, blocks = (ends, np.asarray(sizes), np.asarray(own)), int(ends[-1])
            shared = program, storage, gradient_storage, decay, complex_parameter
            yield _Group(some, device, *shared, rows, layout, blocks)


def _launch(mine: StepInputs, plan: TablePlan, group: _Group, at: Any, to: Any, memory: Memory) -> Any:
    """Return a group, its kernel, the arguments, and what has to live until the launch.

    ``at`` are the addresses of its gradients, parameters and slots, ``to`` those of what is written.
    """
    real, count = real_dtype(group.storage), len(group.leaves)
    p = mine.params[group.leaves[0]]
    with memory.at(group.device) as stream:
        on_device, arrays, numbers = _scalars(mine.scalars, group, real, p, memory)
        room = next(rows for rows in _ROOM if rows >= len(group.rows))
        form = Form(len(to), True, room, on_device, numbers.shape[1])
        if count > FEW or form.nbytes(real) > LIMIT:
            form = Form(len(to), False, room, on_device, numbers.shape[1])
        kernel = _kernel(group.program, group.storage, group.gradient_storage, form)
        try:
            kernel.compile()
        except Exception as error:  # whatever a compiler may raise
            pass_over(NAME, error)
            raise _NotCompiledError from error
        words = np.zeros(form.words, np.int64)
        words[:2] = group.blocks, count
        if form.is_few:
            tables = np.split(words[2:], np.cumsum([*form.tables.values()]))
            tables[0][:count] = at[0]
            for table, addresses in ((tables[1], at[1:]), (tables[2], to)):
                table.reshape(-1, FEW)[:, :count] = addresses
            for start, part in zip((0, FEW + 1, 2 * FEW + 1), group.layout, strict=True):
                tables[3][start : start + part.size] = part
        else:
            parts = at[0], at[1:].ravel(), to.ravel(), np.concatenate(group.layout)
            words[2:6] = [plan.sent(memory, group.device, stream, np.ascontiguousarray(part)) for part in parts]
    if arrays:
        pointers = np.asarray([[*map(memory.address, row)] for row in arrays], np.int64)
        words[form.words - room * len(on_device) :][: pointers.size] = pointers.ravel()
    content = words.tobytes() + numbers.tobytes()
    return group, kernel, _by_value(content.ljust(form.nbytes(real), b"\0")), (arrays, plan.tables)


def _scalars(scalars: Scalars, group: _Group, real: str, p: Any, memory: Memory) -> tuple[tuple[int, ...], Any, Any]:
    """Return which scalars are on the device, each row's arrays of these, and its other numbers, rounded once."""
    names = scalars.names
    own = [constants(method, complex_parameter=group.is_complex, common=names) for method in scalars.methods]
    every = scalars.rows(group.decay, own)
    rows = [every[k] for k in group.rows]
    on_device: tuple[int, ...] = ()
    if not all(map(_is_number, chain(*rows))):
        cast = {id(x): memory.scalar(x, real, p) for x in chain(*rows) if not _is_number(x)}
        rows = [tuple([cast.get(id(x), x) for x in row]) for row in rows]
        on_device = tuple([k for k, xs in enumerate(zip(*rows, strict=True)) if not all(map(_is_number, xs))])
    arrays = [[memory.full(row[k], real, p) if _is_number(row[k]) else row[k] for k in on_device] for row in rows]
    numbers = [[x for k, x in enumerate(row) if k not in on_device] for row in rows]
    with np.errstate(all="ignore"):  # 1e39 is infinite in float32
        return on_device, arrays if on_device else [], np.asarray(numbers, np.float64).astype(real)


def _is_number(x: Any) -> bool:
    return isinstance(x, (float, int))
