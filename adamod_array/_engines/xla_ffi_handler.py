"""The C function by which XLA calls a kernel, compiled by Numba.

The structs read here are those of xla/ffi/api/c_api.h, a stable binary interface.
"""

from __future__ import annotations

from typing import Any

import numba
import numpy as np
from llvmlite import ir
from numba.core import cgutils
from numba.core.typing import signature

from adamod_array._engines.numba_cache import compiled
from adamod_array._engines.numba_memory import memory, peek
from adamod_array._program.numba_source import BLOCK

_EXTENSION, _COUNT, _ARGS, _RETS = 8, 56, 72, 112
"""Where a call frame (XLA_FFI_CallFrame) keeps its extensions, how many arguments, these, and results."""
_DATA, _RANK, _DIMS = 24, 32, 40
"""Where a buffer (XLA_FFI_Buffer) keeps its data and shape."""
_METADATA, _VERSION = 24, 24
"""Where a metadata extension keeps its struct, and that the version of the interface: major, minor."""
_API_VERSION = 0 | 1 << 32


def handler_of(kernel: Any, compute: str, outputs: int, in_place: bool, counts: bool) -> Any:
    """Return the C function that XLA calls: it gathers addresses and calls the kernel.

    With ``counts``, first counters of leaves follow after their rows.
    """
    load = memory(compute, 0, 1)[0]
    columns = 1 + outputs if in_place else 1 + 2 * outputs
    number = np.float32 if compute == "float32" else np.float64

    @numba.njit(error_model="numpy")
    def step(frame: int) -> None:  # pragma: no cover - compiled
        if _tells_version(frame):
            return
        args, results = peek(frame + _ARGS), peek(frame + _RETS)
        leaves = _size(peek(args + 8)) // (2 if counts else 1)
        scalars_at, rows_at = peek(peek(args) + _DATA), peek(peek(args + 8) + _DATA)
        dims = peek(peek(args) + _DIMS)
        scalars = np.empty((peek(dims), peek(dims + 8)), number)
        for i in range(scalars.size):
            scalars.flat[i] = load(scalars_at, i)
        row_of = np.empty(leaves, np.int64)
        sizes = np.empty(leaves, np.int64)
        addresses = np.empty((columns + (1 if counts else 0), leaves), np.int64)
        for k in range(leaves):
            row_of[k] = (peek(rows_at + 8 * (k // 2)) >> (32 * (k % 2))) & 0x7FFFFFFF
            if counts:
                n = leaves + k
                addresses[columns, k] = (peek(rows_at + 8 * (n // 2)) >> (32 * (n % 2))) & 0xFFFFFFFF
            inputs = args + 8 * (2 + k * (1 + outputs))
            sizes[k] = _size(peek(inputs))
            for j in range(1 + outputs):
                addresses[j, k] = peek(peek(inputs + 8 * j) + _DATA)
            for j in range(outputs):
                addresses[columns - outputs + j, k] = peek(peek(results + 8 * (k * outputs + j)) + _DATA)
        leaf_of, start_of = _blocks(sizes)
        mode = _swap_mode(_IEEE)  # XLA's threads flush denormals, Numba's do not
        kernel(addresses, sizes, row_of, leaf_of, start_of, scalars)
        _swap_mode(mode)

    return _called_by_xla(step)


def reader_of(kernel: Any, text: str, bound: Any, parts: int) -> Any:
    """Return the C function by which XLA has arrays read: it adds up what the kernel finds in each block.

    ``text`` is the kernel's source: both are kept on disk.
    """
    store = memory("float64", 0, 1)[1]

    @compiled("void(int64)", f"{bound!r} {parts} {text}", error_model="numpy")
    def read(frame: int) -> None:  # pragma: no cover - compiled
        if _tells_version(frame):
            return
        leaves, args = peek(frame + _COUNT), peek(frame + _ARGS)
        addresses, sizes = np.empty(leaves, np.int64), np.empty(leaves, np.int64)
        for k in range(leaves):
            buffer = peek(args + 8 * k)
            addresses[k], sizes[k] = peek(buffer + _DATA), parts * _size(buffer)
        leaf_of, start_of = _blocks(sizes)
        found = np.empty(leaf_of.size, np.float64)
        mode = _swap_mode(_IEEE)
        kernel(addresses, sizes, leaf_of, start_of, bound, found)
        store(peek(peek(peek(frame + _RETS)) + _DATA), 0, found.sum())
        _swap_mode(mode)

    return _called_by_xla(read)


def _called_by_xla(function: Any) -> Any:
    """Return the C function that does what a compiled one does, and tells XLA that it succeeded."""

    @numba.cfunc(numba.types.int64(numba.types.int64))
    def handler(frame: int) -> int:  # pragma: no cover - compiled
        function(frame)
        return 0

    return handler


@numba.njit
def _tells_version(frame: int) -> bool:  # pragma: no cover - compiled
    """Return whether XLA asks which version of the interface this is, which is then told."""
    extension = peek(frame + _EXTENSION)
    if extension == 0:
        return False
    _poke(peek(extension + _METADATA) + _VERSION, _API_VERSION)
    return True


@numba.njit
def _blocks(sizes: Any) -> Any:  # pragma: no cover - compiled
    """Return the leaf and first element of every block."""
    count = 0
    for size in sizes:
        count += (size + BLOCK - 1) // BLOCK
    leaf_of, start_of = np.empty(count, np.int64), np.empty(count, np.int64)
    b = 0
    for k in range(sizes.size):
        for start in range(0, sizes[k], BLOCK):
            leaf_of[b], start_of[b] = k, start
            b += 1
    return leaf_of, start_of


@numba.njit
def _size(buffer: int) -> int:  # pragma: no cover - compiled
    """Return how many elements a buffer has."""
    n = 1
    for i in range(peek(buffer + _RANK)):
        n *= peek(peek(buffer + _DIMS) + 8 * i)
    return n


@numba.extending.intrinsic
def _swap_mode(typing: Any, mode: Any) -> Any:
    """Set the processor's floating-point mode (x86's MXCSR) and return what it was."""

    def generate(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        word, pointer = ir.IntType(32), ir.IntType(8).as_pointer()
        function = ir.FunctionType(ir.VoidType(), [pointer])
        old, new = builder.alloca(word), builder.alloca(word)
        builder.store(builder.trunc(args[0], word), new)
        for name, place in (("stmxcsr", old), ("ldmxcsr", new)):
            code = cgutils.get_or_insert_function(builder.module, function, f"llvm.x86.sse.{name}")
            builder.call(code, [builder.bitcast(place, pointer)])
        return builder.zext(builder.load(old), ir.IntType(64))

    return signature(numba.types.int64, numba.types.int64), generate


_IEEE = 0x1F80
"""Round to nearest, keep denormals, raise nothing."""


@numba.extending.intrinsic
def _poke(typing: Any, address: Any, value: Any) -> Any:
    """Store 64 bits at an address."""
    int64 = numba.types.int64

    def generate(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        word = context.get_value_type(int64)
        builder.store(args[1], builder.inttoptr(args[0], word.as_pointer()))
        return context.get_dummy_value()

    return signature(numba.types.void, int64, int64), generate
