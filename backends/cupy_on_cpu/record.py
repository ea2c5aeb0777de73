"""What CuPy asked of its device, for tests: launches, transfers, allocations, synchronizations, sources."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import NamedTuple


class Launch(NamedTuple):
    """One launch of a kernel."""

    kernel: str
    device: int
    stream: int
    """CUDA's handle, ``cupy.cuda.Stream.ptr``; 0 is the default stream."""
    grid: tuple[int, int, int]
    block: tuple[int, int, int]
    arguments: tuple[bytes, ...] = ()
    """The bytes of each, as they are passed: numbers, structures, addresses of arrays."""


class Transfer(NamedTuple):
    """One copy by the runtime; elementwise copies are launches."""

    kind: str
    """``"host to device"``, ``"device to host"``, ``"device to device"`` or ``"host to host"``."""
    nbytes: int
    stream: int | None
    """None where the host waits for the copy."""


class Allocation(NamedTuple):
    """Memory that the runtime handed out; the blocks of CuPy's pool are seen by a ``cupy.cuda.MemoryHook``."""

    kind: str
    """``"device"``, ``"managed"`` or ``"host"`` (pinned)."""
    nbytes: int
    device: int


class Source(NamedTuple):
    """CUDA C++ that CuPy had compiled."""

    kernels: tuple[str, ...]
    code: str
    options: tuple[str, ...]


@dataclass
class Record:
    """All that happened within one ``with recording()``, in order."""

    launches: list[Launch] = field(default_factory=list)
    transfers: list[Transfer] = field(default_factory=list)
    allocations: list[Allocation] = field(default_factory=list)
    synchronizations: list[str] = field(default_factory=list)
    """What the host waited by: ``"streamSynchronize"``, ``"memcpy"``, ..."""


sources: list[Source] = []
"""Every source that was compiled, or loaded from the cache, since the start of the process."""

_open: list[Record] = []


@contextlib.contextmanager
def recording() -> Iterator[Record]:
    """Record what every thread asks of its device.

    >>> with recording() as seen:  # doctest: +SKIP
    ...     y = x + 1
    >>> [launch.kernel for launch in seen.launches]  # doctest: +SKIP
    ['cupy_add__float32_int_float32']
    """
    record = Record()
    _open.append(record)
    try:
        yield record
    finally:
        _open[:] = [other for other in _open if other is not record]


def is_open() -> bool:
    """Whether anybody records."""
    return bool(_open)


def launch(what: Launch) -> None:
    """A kernel was launched."""
    for record in _open:
        record.launches.append(what)


def transfer(what: Transfer) -> None:
    """Memory was copied."""
    for record in _open:
        record.transfers.append(what)


def allocation(what: Allocation) -> None:
    """Memory was handed out."""
    for record in _open:
        record.allocations.append(what)


def synchronization(function: str) -> None:
    """The host waited for the device."""
    for record in _open:
        record.synchronizations.append(function)
