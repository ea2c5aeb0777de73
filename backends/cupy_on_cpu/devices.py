"""Devices: how many, what they say of themselves, and which is current in a thread."""

from __future__ import annotations

import threading
from typing import Any

from cupy_on_cpu import graphs, record
from cupy_on_cpu.entry_points import Functions
from cupy_on_cpu.errors import INVALID_DEVICE, runtime_error
from cupy_on_cpu.settings import DEVICES, MEMORY

COMPUTE_CAPABILITY = (9, 0)
CUDA_VERSION = 13000
MAX_THREADS_PER_BLOCK = 1024
MAX_BLOCK = (1024, 1024, 64)
MAX_GRID = (2**31 - 1, 65535, 65535)
MAX_PARAMETER_BYTES = 4096
"""Of a kernel; newer drivers take more for newer devices."""
MULTIPROCESSORS = 2
SHARED_MEMORY_PER_BLOCK = 48 << 10
WARP_SIZE = 32

PROPERTIES = {
    "name": b"CuPy on the CPU (no GPU)",
    "major": COMPUTE_CAPABILITY[0],
    "minor": COMPUTE_CAPABILITY[1],
    "maxGridSize": MAX_GRID,
    "maxThreadsDim": MAX_BLOCK,
    "maxThreadsPerBlock": MAX_THREADS_PER_BLOCK,
    "maxThreadsPerMultiProcessor": 2048,
    "multiProcessorCount": MULTIPROCESSORS,
    "regsPerBlock": 65536,
    "sharedMemPerBlock": SHARED_MEMORY_PER_BLOCK,
    "totalGlobalMem": MEMORY,
    "warpSize": WARP_SIZE,
}

ATTRIBUTES = {  # by the numbers of CUDA's enum cudaDeviceAttr; what is not here is 0
    1: MAX_THREADS_PER_BLOCK,
    **dict(zip((2, 3, 4), MAX_BLOCK, strict=True)),
    **dict(zip((5, 6, 7), MAX_GRID, strict=True)),
    8: SHARED_MEMORY_PER_BLOCK,
    9: 65536,  # constant memory
    10: WARP_SIZE,
    12: 65536,  # registers a block
    16: MULTIPROCESSORS,
    39: 2048,  # threads a multiprocessor
    41: 1,  # unified addressing
    **dict(zip((75, 76), COMPUTE_CAPABILITY, strict=True)),
    81: SHARED_MEMORY_PER_BLOCK,  # a multiprocessor's
    97: SHARED_MEMORY_PER_BLOCK,  # a block's that opts in
}


class _Current(threading.local):
    device = 0


_current = _Current()


def current() -> int:
    """The device of this thread."""
    return _current.device


def _check(device: int) -> None:
    if not 0 <= device < DEVICES:
        raise runtime_error(INVALID_DEVICE)


def _set_current(device: int) -> None:
    _check(device)
    _current.device = device


def _attribute(attribute: int, device: int) -> int:
    _check(device)
    return ATTRIBUTES.get(attribute, 0)


def _properties(device: int) -> dict[str, Any]:
    _check(device)
    return dict(PROPERTIES)


def _bus_id(device: int) -> str:
    _check(device)
    return f"0000:{device:02x}:00.0"


def _synchronize() -> None:
    graphs.refuse_waiting()
    record.synchronization("deviceSynchronize")


RUNTIME: Functions = {
    "_ensure_context": lambda: None,
    "deviceCanAccessPeer": lambda device, peer: 0,
    "deviceGetAttribute": _attribute,
    "deviceGetPCIBusId": _bus_id,
    "deviceSynchronize": _synchronize,
    "driverGetVersion": lambda: CUDA_VERSION,
    "getDevice": current,
    "getDeviceCount": lambda: DEVICES,
    "getDeviceProperties": _properties,
    "profilerStart": lambda: None,
    "profilerStop": lambda: None,
    "setDevice": _set_current,
}
"""CUDA's functions that this module answers for, by name."""

DRIVER: Functions = {
    "ctxGetCurrent": lambda: _current.device + 1,
    "ctxGetDevice": current,
    "ctxSetCurrent": lambda context: _set_current(context - 1),
}
