"""Loading and launching the kernels that ``compiler`` made."""

from __future__ import annotations

import ctypes
from typing import NamedTuple

from cupy_on_cpu import devices, graphs, record, streams
from cupy_on_cpu.entry_points import Functions
from cupy_on_cpu.errors import INVALID_VALUE, NOT_FOUND, driver_error
from cupy_on_cpu.record import Launch

LAUNCHER = "cupy_on_cpu_launch_"
"""What the name of a kernel's host function starts with; see include/cupy_on_cpu/launch.h."""

PARAMETERS = "cupy_on_cpu_parameters_"
"""And that of the function that tells how many bytes each of its parameters has."""

_MAX_PARAMETERS = 4096
"""More than any kernel has: CUDA gives all of them together so many bytes."""

_signature = ctypes.PYFUNCTYPE(None, ctypes.c_void_p, ctypes.POINTER(ctypes.c_uint))
"""Keeps the GIL: kernels have static variables (``threadIdx``, shared memory)."""


class Kernel(NamedTuple):
    """A function of a loaded module."""

    name: str
    launcher: ctypes._FuncPointer
    parameters: tuple[int, ...]
    """Bytes of each."""


_modules: dict[int, ctypes.CDLL] = {}
_kernels: dict[int, Kernel] = {}


def _load(path: bytes) -> int:
    library = ctypes.CDLL(bytes(path).decode())
    handle: int = library._handle
    _modules[handle] = library
    return handle


def _find(module: int, name: str) -> int:
    try:
        launcher = getattr(_modules[module], LAUNCHER + name)
    except AttributeError:
        raise driver_error(NOT_FOUND) from None
    address = ctypes.cast(launcher, ctypes.c_void_p).value
    assert address is not None
    sizes = (ctypes.c_uint * _MAX_PARAMETERS)()
    count = getattr(_modules[module], PARAMETERS + name)(sizes)
    _kernels[address] = Kernel(name, _signature(address), tuple(sizes[:count]))
    return address


def _arguments(parameters: int, sizes: tuple[int, ...]) -> tuple[bytes, ...]:
    """The bytes that are passed by value: ``parameters`` is the address of as many pointers to them."""
    pointers = (ctypes.c_void_p * len(sizes)).from_address(parameters) if sizes else ()
    return tuple(ctypes.string_at(pointer, size) for pointer, size in zip(pointers, sizes, strict=True))


def _fits(size: tuple[int, ...], limits: tuple[int, ...]) -> bool:
    return all(1 <= n <= limit for n, limit in zip(size, limits, strict=True))


def _launch(
    function: int,
    grid_x: int,
    grid_y: int,
    grid_z: int,
    block_x: int,
    block_y: int,
    block_z: int,
    shared: int,
    stream: int,
    parameters: int,
    extra: int = 0,
) -> None:
    kernel, grid, block = _kernels[function], (grid_x, grid_y, grid_z), (block_x, block_y, block_z)
    threads = block_x * block_y * block_z
    if (
        sum(kernel.parameters) > devices.MAX_PARAMETER_BYTES
        or not _fits(grid, devices.MAX_GRID)
        or not _fits(block, devices.MAX_BLOCK)
        or threads > devices.MAX_THREADS_PER_BLOCK
        or shared > devices.SHARED_MEMORY_PER_BLOCK
    ):
        raise driver_error(INVALID_VALUE)
    streams.check_current(stream)
    launch = Launch(kernel.name, devices.current(), stream, grid, block)
    if record.is_open() or graphs.is_captured(stream):
        launch = launch._replace(arguments=_arguments(parameters, kernel.parameters))
    if graphs.is_captured(stream):
        graphs.queue(stream, lambda where: _run(kernel, launch._replace(stream=where)))
        return
    record.launch(launch)
    kernel.launcher(parameters, (ctypes.c_uint * 6)(*grid, *block))


def _run(kernel: Kernel, launch: Launch) -> None:
    """Launch a kernel with the arguments that it was captured with."""
    record.launch(launch)
    kept = [ctypes.create_string_buffer(each, len(each)) for each in launch.arguments]
    pointers = (ctypes.c_void_p * len(kept))(*map(ctypes.addressof, kept))
    kernel.launcher(ctypes.addressof(pointers), (ctypes.c_uint * 6)(*launch.grid, *launch.block))


DRIVER: Functions = {
    "funcGetAttribute": lambda attribute, function: 0,
    "funcSetAttribute": lambda function, attribute, value: None,
    "launchKernel": _launch,
    "moduleGetFunction": _find,
    "moduleLoadData": _load,
    "moduleUnload": lambda module: None,  # functions may outlive it
    "occupancyMaxActiveBlocksPerMultiprocessor": lambda function, threads, shared: 1,
    "occupancyMaxPotentialBlockSize": lambda function, shared, limit: (devices.MULTIPROCESSORS, 128),
}
"""CUDA's functions that this module answers for, by name."""
