"""Memory of the devices and pinned memory of the host: blocks of the process's own, filled with NaN."""

from __future__ import annotations

import bisect
import ctypes
import threading
from collections import Counter
from typing import Any, NamedTuple

from cupy_on_cpu import devices, graphs, record
from cupy_on_cpu.entry_points import Functions
from cupy_on_cpu.errors import INVALID_VALUE, OUT_OF_MEMORY, runtime_error
from cupy_on_cpu.record import Allocation, Transfer
from cupy_on_cpu.settings import MEMORY

ALIGNMENT = 512
"""Bytes, as cudaMalloc's; CuPy's pool counts on it."""

FRESH = 0xFF
"""What every byte of fresh memory is: NaN in every floating dtype, -1 in every signed integer's."""

HOST, DEVICE, MANAGED = 1, 2, 3
"""CUDA's enum cudaMemoryType; 0 is memory that it does not know."""
_NAME = {HOST: "host", DEVICE: "device", MANAGED: "managed"}


class Block(NamedTuple):
    """One allocation."""

    nbytes: int
    device: int
    kind: int


_blocks: dict[int, Block] = {}
_addresses: list[int] = []
"""Of all blocks, in order."""
_used: Counter[int] = Counter()
"""Bytes of each device."""
_lock = threading.Lock()
"""Of the three above."""

_libc = ctypes.CDLL(None)
_libc.aligned_alloc.restype = ctypes.c_void_p
_libc.aligned_alloc.argtypes = [ctypes.c_size_t, ctypes.c_size_t]
_libc.free.argtypes = [ctypes.c_void_p]


def fill_fresh(address: int, nbytes: int) -> None:
    """Make sure that nobody can rely on what is there."""
    ctypes.memset(address, FRESH, nbytes)


def _allocate(nbytes: int, kind: int) -> int:
    device = devices.current()
    charged = nbytes if kind != HOST else 0
    room = max(-(-nbytes // ALIGNMENT), 1) * ALIGNMENT
    with _lock:
        address = _libc.aligned_alloc(ALIGNMENT, room) if _used[device] + charged <= MEMORY else None
        if address is None:
            raise runtime_error(OUT_OF_MEMORY)
        _blocks[address] = Block(nbytes, device, kind)
        bisect.insort(_addresses, address)
        _used[device] += charged
    fill_fresh(address, room)
    record.allocation(Allocation(_NAME[kind], nbytes, device))
    return int(address)


def _free(address: int, stream: int = 0) -> None:
    if not address:
        return
    with _lock:
        block = _blocks.pop(address, None)
        if block is None:
            raise runtime_error(INVALID_VALUE)
        del _addresses[bisect.bisect_left(_addresses, address)]
        _used[block.device] -= block.nbytes if block.kind != HOST else 0
    _libc.free(address)


def block_at(address: int) -> Block | None:
    """The block that an address lies in."""
    with _lock:
        i = bisect.bisect_right(_addresses, address) - 1
        if i < 0:
            return None
        block = _blocks[_addresses[i]]
        return block if address < _addresses[i] + max(block.nbytes, 1) else None


def _check(address: int, nbytes: int) -> None:
    """What lies in a block must end in it."""
    block = block_at(address)
    if block is not None and nbytes and block_at(address + nbytes - 1) is not block:
        raise runtime_error(INVALID_VALUE)


def _kind(address: int) -> int:
    block = block_at(address)
    return 0 if block is None else block.kind


def _copy(target: int, source: int, nbytes: int, stream: int | None) -> None:
    _check(target, nbytes)
    _check(source, nbytes)
    here, there = ("device" if _kind(address) in (DEVICE, MANAGED) else "host" for address in (source, target))

    def copy(where: int | None) -> None:
        record.transfer(Transfer(f"{here} to {there}", nbytes, where))
        ctypes.memmove(target, source, nbytes)

    if stream is not None:
        graphs.queue(stream, copy)
        return
    graphs.refuse_waiting()
    copy(None)
    if "host" in (here, there):
        record.synchronization("memcpy")


def _set(address: int, value: int, nbytes: int, stream: int = 0) -> None:
    _check(address, nbytes)

    def fill(_: int) -> None:
        ctypes.memset(address, value & 0xFF, nbytes)

    graphs.queue(stream, fill)


def _attributes(address: int) -> Any:
    from cupy_backends.cuda.api.runtime import PointerAttributes

    block = block_at(address)
    if block is None:
        return PointerAttributes(devices.current(), 0, address, 0)
    return PointerAttributes(block.device, 0 if block.kind == HOST else address, address, block.kind)


def _information() -> tuple[int, int]:
    return MEMORY - _used[devices.current()], MEMORY


RUNTIME: Functions = {
    "free": _free,
    "freeAsync": _free,
    "freeHost": _free,
    "hostAlloc": lambda nbytes, flags=0: _allocate(nbytes, HOST),
    "malloc": lambda nbytes: _allocate(nbytes, DEVICE),
    "mallocAsync": lambda nbytes, stream: _allocate(nbytes, DEVICE),
    "mallocManaged": lambda nbytes, flags=0: _allocate(nbytes, MANAGED),
    "memGetInfo": _information,
    "memcpy": lambda target, source, nbytes, kind: _copy(target, source, nbytes, None),
    "memcpyAsync": lambda target, source, nbytes, kind, stream: _copy(target, source, nbytes, stream),
    "memcpyPeer": lambda target, to, source, of, nbytes: _copy(target, source, nbytes, None),
    "memcpyPeerAsync": lambda target, to, source, of, nbytes, stream: _copy(target, source, nbytes, stream),
    "memset": _set,
    "memsetAsync": _set,
    "pointerGetAttributes": _attributes,
    "pointerGetMemoryType": _kind,
}
"""CUDA's functions that this module answers for, by name."""


def fill_what_pools_give() -> None:
    """Have CuPy's default pool give blocks that look fresh, also where it gives one a second time."""
    import cupy

    pool = cupy.get_default_memory_pool()

    def allocate(nbytes: int) -> Any:
        memory = pool.malloc(nbytes)
        if memory.ptr:
            fill_fresh(memory.ptr, nbytes)
        return memory

    cupy.cuda.set_allocator(allocate)
