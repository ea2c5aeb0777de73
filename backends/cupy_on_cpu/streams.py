"""Streams and events: handles that belong to a device. Whatever is queued has run when the call returns."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from cupy_on_cpu import devices, graphs, record
from cupy_on_cpu.entry_points import Functions
from cupy_on_cpu.errors import INVALID_HANDLE, runtime_error

DEFAULT_STREAMS = (0, 1, 2)
"""The null stream, the legacy stream and the thread's own: every device has them."""

_handles = itertools.count(0x1000, 16)


@dataclass(frozen=True)
class Stream:
    """What is known of a stream."""

    device: int
    flags: int = 0
    priority: int = 0


_streams: dict[int, Stream] = {}
_events: dict[int, float | None] = {}
"""When each event was recorded, in milliseconds."""


def known(handle: int) -> Stream:
    """The stream of that handle, or CUDA's error."""
    if handle in DEFAULT_STREAMS:
        return Stream(devices.current())
    if handle not in _streams:
        raise runtime_error(INVALID_HANDLE)
    return _streams[handle]


def check_current(handle: int) -> None:
    """Work can be queued on streams of the current device only."""
    if known(handle).device != devices.current():
        raise runtime_error(INVALID_HANDLE)


def _create(flags: int = 0, priority: int = 0) -> int:
    handle = next(_handles)
    _streams[handle] = Stream(devices.current(), flags, priority)
    return handle


def _destroy(handle: int) -> None:
    known(handle)
    _streams.pop(handle, None)


def _synchronize(handle: int) -> None:
    known(handle)
    graphs.refuse_waiting(handle)
    record.synchronization("streamSynchronize")


def _known_event(handle: int) -> float | None:
    if handle not in _events:
        raise runtime_error(INVALID_HANDLE)
    return _events[handle]


def _create_event(flags: int = 0) -> int:
    handle = next(_handles)
    _events[handle] = None
    return handle


def _destroy_event(handle: int) -> None:
    _known_event(handle)
    del _events[handle]


def _record_event(event: int, stream: int) -> None:
    _known_event(event)
    check_current(stream)
    _events[event] = time.perf_counter() * 1e3


def _synchronize_event(handle: int) -> None:
    _known_event(handle)
    graphs.refuse_waiting()
    record.synchronization("eventSynchronize")


def _elapsed(start: int, end: int) -> float:
    first, last = _known_event(start), _known_event(end)
    if first is None or last is None:
        raise runtime_error(INVALID_HANDLE)
    return last - first


def _wait(stream: int, event: int, flags: int = 0) -> None:
    known(stream)
    _known_event(event)


def _call(stream: int, function: Callable[[Any], None], argument: Any) -> None:
    known(stream)
    function(argument)


def _call_with_status(stream: int, function: Callable[[int, int, Any], None], argument: Any, flags: int = 0) -> None:
    known(stream)
    function(stream, 0, argument)


RUNTIME: Functions = {
    "eventCreate": _create_event,
    "eventCreateWithFlags": _create_event,
    "eventDestroy": _destroy_event,
    "eventElapsedTime": _elapsed,
    "eventQuery": lambda event: 0 * bool(_known_event(event)),
    "eventRecord": _record_event,
    "eventSynchronize": _synchronize_event,
    "launchHostFunc": _call,
    "streamAddCallback": _call_with_status,
    "streamCreate": _create,
    "streamCreateWithFlags": _create,
    "streamCreateWithPriority": _create,
    "streamDestroy": _destroy,
    "streamGetFlags": lambda stream: known(stream).flags,
    "streamGetPriority": lambda stream: known(stream).priority,
    "streamQuery": lambda stream: 0 * known(stream).flags,
    "streamSynchronize": _synchronize,
    "streamWaitEvent": _wait,
}
"""CUDA's functions that this module answers for, by name."""

DRIVER: Functions = {
    "streamGetCtx": lambda stream: known(stream).device + 1,
}
