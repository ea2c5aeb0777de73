"""One launch of the kernel of all leaves: its group of leaves, what it is given, and what a device is sent for it.

What a launch needs goes with its arguments: scalars always; addresses of up to :data:`FEW` leaves too. Those of more
leaves are put into the device's memory, once for each set of addresses, by launches of a small kernel whose arguments
they are. So the host waits for nothing, keeps no buffer that a copy may still read, and a CUDA graph can hold it all.
"""

from __future__ import annotations

import functools
import sys
import threading
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from itertools import chain
from typing import Any, Protocol

import numpy as np

from adamod_array._engines import pass_over
from adamod_array._namespace import REAL_DTYPE, real_compute_dtype
from adamod_array._program.cuda_table_source import FEW, KERNEL, LIMIT, SEND, SENDER, SENT, THREADS, Form, source
from adamod_array._program.program import Program
from adamod_array._program.trace import constants
from adamod_array._scalars import Scalars

NAME = "CuPy's kernel for all leaves"
"""What is passed over where it does not compile."""

OPTIONS = ("--fmad=false",)

ROOM = (1, 16, 32)
"""Rows of scalars that kernels are compiled for; leaves with more are stepped by several launches."""

_RECENT = 4
"""Tables of each kind that a group keeps on devices: arrays may alternate between a few places."""

_PER_SM = 8
"""Blocks of threads that a multiprocessor can hold at once."""

_PER_THREAD = 2
"""The handle that stands for another stream in each thread."""


class Memory(Protocol):
    """What the kernels ask about arrays of a framework."""

    def device(self, x: Any) -> int:
        """Return the number of an array's device."""

    def address(self, x: Any) -> int:
        """Return where an array begins."""

    def is_beside(self, p: Any, x: Any) -> bool:
        """Return whether ``x`` lies in memory without gaps, element beside element with ``p``."""

    def is_in_order(self, x: Any) -> bool:
        """Return whether an element's place in memory is its place in C order."""

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


class NotCompiledError(Exception):
    """A kernel does not compile here."""


@dataclass
class Group:
    """Leaves of one device and one pair of dtypes, stepped by one launch."""

    leaves: list[int]
    """Which, of those that kernels take."""
    device: int
    program: Program
    storage: str
    gradient_storage: str
    decay: bool
    rows: list[int]
    """Which rows of scalars they have."""
    layout: Any
    """The kernel's table ``leaves``: first blocks, sizes, rows, and counters where the program counts."""
    blocks: int
    kernels: dict[Form, Any] = field(default_factory=dict)
    tables: dict[str, dict[Any, Any]] = field(default_factory=dict)
    """By name, and by stream and content; never written again, for a launch or a graph may read them."""

    @property
    def real(self) -> str:
        """Return the dtype of its scalars."""
        return real_compute_dtype(self.storage)

    def form(self, arrays: int, pointers: tuple[int, ...], numbers: int) -> Form:
        """Return the form of the arguments, with addresses among them where there is room."""
        room = next(rows for rows in ROOM if rows >= len(self.rows))
        form = Form(arrays, True, room, pointers, numbers, bool(self.program.rounded))
        is_few = len(self.leaves) <= FEW and form.nbytes(self.real) <= LIMIT
        return form if is_few else replace(form, is_few=False)

    def kernel(self, form: Form) -> Any:
        """Return the kernel, as :func:`_ready` does."""
        if form not in self.kernels:
            self.kernels[form] = compiled(source(self.program, self.storage, self.gradient_storage, form), KERNEL)
        return _ready(self.kernels[form])

    def sent(self, name: str, words: Any, memory: Memory, stream: Any) -> Any:
        """Return a table on the device with these words, which are sent unless they are there."""
        thread = threading.get_ident() if stream.ptr == _PER_THREAD else 0
        key, kept = (stream.ptr, thread, words.tobytes()), self.tables.get(name, {})
        table = kept.get(key)
        if table is None:
            table = memory.words(words.size, self.device)
            _send(memory.address(table), words)
            if not stream.is_capturing():  # else it is there once the graph is launched, if ever
                self.tables[name] = {**dict([*kept.items()][1 - _RECENT :]), key: table}  # another thread may read it
        if stream.is_capturing():
            _of_graphs[self.device, memory.address(table)] = table
        return table


_of_graphs: dict[tuple[int, int], Any] = {}
"""Tables that a captured launch reads whenever its graph is launched, which nobody can tell."""


def _send(address: int, words: Any) -> None:
    """Put words into the memory of the device in force, by arguments of launches."""
    sender = _ready(compiled(SEND, SENDER))
    for start in range(0, words.size, SENT):
        part = np.zeros(SENT, np.int64)
        count = min(SENT, words.size - start)
        part[:count] = words[start : start + count]
        arguments = np.int64(address + 8 * start), np.int32(count), _by_value(part.tobytes())
        sender((1,), (THREADS,), arguments)


def _by_value(content: bytes) -> Any:
    """Return bytes as one argument of a kernel, a structure."""
    return np.frombuffer(content, np.dtype((np.void, len(content))))


@functools.cache
def compiled(text: str, name: str) -> Any:
    """Return the kernel of a source text; CuPy compiles it for each device and keeps it on disk."""
    return sys.modules["cupy"].RawKernel(text, name, options=OPTIONS)


def _ready(kernel: Any) -> Any:
    """Return a kernel, compiled for the device in force.

    Raises
    ------
    NotCompiledError
        It does not compile, which has been said.
    """
    try:
        kernel.compile()
    except Exception as error:  # whatever a compiler may raise
        pass_over(NAME, error)
        raise NotCompiledError from error
    return kernel


@functools.cache
def _multiprocessors(device: int) -> int:
    runtime = sys.modules["cupy"].cuda.runtime
    return int(runtime.deviceGetAttribute(runtime.cudaDevAttrMultiProcessorCount, device))


@dataclass
class Launch:
    """All that is needed to launch a kernel: what can fail has been done."""

    group: Group
    kernel: Any
    arguments: Any
    kept: Any
    """What is read on the device, and must live until the launch is queued."""

    def __call__(self, memory: Memory) -> None:
        """Step the leaves of the group."""
        with memory.at(self.group.device):
            grid = min(self.group.blocks, _PER_SM * _multiprocessors(self.group.device))
            self.kernel((grid,), (THREADS,), (self.arguments,))


def prepared(scalars: Scalars, p: Any, group: Group, at: Any, to: Any, memory: Memory) -> Launch:
    """Return the launch for a group; ``p`` is one of its parameters.

    ``at`` are the addresses of its gradients, parameters and slots, ``to`` those of what is written.
    """
    with memory.at(group.device) as stream:
        on_device, arrays, numbers = _scalars(scalars, group, p, memory)
        form = group.form(len(to), on_device, numbers.shape[1])
        kernel = group.kernel(form)
        words = np.zeros(form.words, np.int64)
        words[:2] = group.blocks, len(group.leaves)
        sent = []
        if form.is_few:
            _fill(words[2:], form, at, to, group)
        else:
            parts = at[0], at[1:], to, np.concatenate(group.layout)
            pairs = zip(form.tables, parts, strict=True)
            sent = [group.sent(name, np.ascontiguousarray(x).ravel(), memory, stream) for name, x in pairs]
            words[2 : 2 + len(sent)] = [*map(memory.address, sent)]
    if arrays:
        pointers = np.asarray([[*map(memory.address, row)] for row in arrays], np.int64).ravel()
        first = form.words - form.rows * len(on_device)
        words[first : first + pointers.size] = pointers
    content = words.tobytes() + numbers.tobytes()
    return Launch(group, kernel, _by_value(content.ljust(form.nbytes(group.real), b"\0")), (arrays, sent))


def _fill(words: Any, form: Form, at: Any, to: Any, group: Group) -> None:
    """Write the tables of few leaves into the words of the arguments."""
    count = len(group.leaves)
    gradients, old, fresh, leaves, _ = np.split(words, np.cumsum([*form.tables.values()]))
    gradients[:count] = at[0]
    old.reshape(-1, FEW)[:, :count] = at[1:]
    fresh.reshape(-1, FEW)[:, :count] = to
    for start, part in zip((0, FEW + 1, 2 * FEW + 1, 3 * FEW + 1), group.layout, strict=False):
        leaves[start : start + part.size] = part


def _scalars(scalars: Scalars, group: Group, p: Any, memory: Memory) -> tuple[tuple[int, ...], Any, Any]:
    """Return which scalars are on the device, each row's arrays of these, and its other numbers, rounded once."""
    real, names = group.real, scalars.names
    own = [constants(method, complex_parameter=group.storage in REAL_DTYPE, common=names) for method in scalars.methods]
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
