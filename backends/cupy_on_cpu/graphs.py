"""CUDA graphs: what is queued on a stream that is captured is kept, and runs whenever its graph is launched."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence

from cupy_on_cpu.entry_points import Functions
from cupy_on_cpu.errors import (
    CAPTURE_UNSUPPORTED,
    ILLEGAL_CAPTURE,
    INVALID_HANDLE,
    INVALID_VALUE,
    runtime_error,
)

Work = Callable[[int], None]
"""Is given the stream that it runs on."""

_handles = itertools.count(0x900000, 16)
_captures: dict[int, list[Work]] = {}
"""What has been queued, by the stream that is captured."""
_graphs: dict[int, Sequence[Work]] = {}
"""By the handles of graphs, and of what is instantiated of them."""


def queue(stream: int, work: Work) -> None:
    """Run what is queued on a stream, or keep it while the stream is captured."""
    if stream in _captures:
        _captures[stream].append(work)
    else:
        work(stream)


def is_captured(stream: int) -> bool:
    """Whether work on the stream is kept for a graph."""
    return stream in _captures


def refuse_waiting(stream: int | None = None) -> None:
    """Raise CUDA's error where the host is to wait for a stream, or for all of them, while it is captured."""
    if _captures if stream is None else stream in _captures:
        raise runtime_error(CAPTURE_UNSUPPORTED)


def _begin(stream: int, mode: int = 0) -> None:
    if stream in (0, 1, 2):  # the legacy stream cannot be captured
        raise runtime_error(CAPTURE_UNSUPPORTED)
    if stream in _captures:
        raise runtime_error(ILLEGAL_CAPTURE)
    _captures[stream] = []


def _end(stream: int) -> int:
    if stream not in _captures:
        raise runtime_error(ILLEGAL_CAPTURE)
    handle = next(_handles)
    _graphs[handle] = tuple(_captures.pop(stream))
    return handle


def _instantiate(graph: int) -> int:
    handle = next(_handles)
    _graphs[handle] = _known(graph)
    return handle


def _known(handle: int) -> Sequence[Work]:
    if handle not in _graphs:
        raise runtime_error(INVALID_HANDLE)
    return _graphs[handle]


def _launch(executable: int, stream: int) -> None:
    works = _known(executable)
    if stream in _captures:
        raise runtime_error(INVALID_VALUE)
    for work in works:
        work(stream)


def _destroy(handle: int) -> None:
    _known(handle)
    del _graphs[handle]


RUNTIME: Functions = {
    "graphDestroy": _destroy,
    "graphExecDestroy": _destroy,
    "graphInstantiate": _instantiate,
    "graphLaunch": _launch,
    "graphUpload": lambda executable, stream: None,
    "streamBeginCapture": _begin,
    "streamEndCapture": _end,
    "streamIsCapturing": lambda stream: int(is_captured(stream)),
}
"""CUDA's functions that this module answers for, by name."""
