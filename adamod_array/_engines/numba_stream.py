"""Results of a step written past the caches: a store of a whole line need not read that line first.

LLVM keeps a non-temporal store scalar, which gains nothing, unless it is known to be aligned to the vector. So a loop
writes a few lines to a buffer on the stack, and from there they are stored in whole vectors.
"""

from __future__ import annotations

import functools
import platform
from typing import Any

import numba
from llvmlite import ir
from numba.core import cgutils
from numba.extending import intrinsic

from adamod_array._program.numba_source import LINE

_IS_X86 = platform.machine().lower() in ("x86_64", "amd64", "i686", "x86")
_int64, _void = numba.types.int64, numba.types.void
_VECTOR = ir.VectorType(ir.IntType(32), LINE // 4)


@functools.cache
def stream(nbytes: int) -> tuple[Any, Any, Any]:
    """Return ``buffer()``, ``flush(buffer, address)`` and ``copy(buffer, address, count)``.

    The first gives the address of so many bytes on the stack; the second stores all of them to memory that begins with
    a cache line, past the caches where the processor is of x86; the third stores ``count`` of them to any memory.
    """

    def buffer(typing: Any) -> Any:
        def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            place = cgutils.alloca_once(builder, ir.ArrayType(ir.IntType(8), nbytes))
            place.align = LINE
            return builder.ptrtoint(place, ir.IntType(64))

        return _int64(), generate

    def flush(typing: Any, buffer: Any, address: Any) -> Any:
        def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            source, target = (builder.inttoptr(x, _VECTOR.as_pointer()) for x in args)
            for i in range(nbytes // LINE):
                at = [ir.IntType(32)(i)]
                store = builder.store(builder.load(builder.gep(source, at), align=LINE), builder.gep(target, at), LINE)
                if _IS_X86:
                    store.set_metadata("nontemporal", builder.module.add_metadata([ir.IntType(32)(1)]))
            return context.get_dummy_value()

        return _void(_int64, _int64), generate

    def copy(typing: Any, buffer: Any, address: Any, count: Any) -> Any:
        def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            source, target = (builder.inttoptr(x, ir.IntType(8).as_pointer()) for x in args[:2])
            cgutils.raw_memcpy(builder, target, source, args[2], 1)
            return context.get_dummy_value()

        return _void(_int64, _int64, _int64), generate

    return intrinsic(buffer), intrinsic(flush), intrinsic(copy)


@intrinsic
def fence(typing: Any) -> Any:
    """Let what was stored past the caches be seen before what is stored next: x86 promises that of other stores."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        if _IS_X86:
            function = ir.FunctionType(ir.VoidType(), [])
            builder.call(cgutils.get_or_insert_function(builder.module, function, "llvm.x86.sse.sfence"), [])
        return context.get_dummy_value()

    return _void(), generate
