"""What Numba's kernels know of memory: loads and stores by address, in every storage dtype."""

from __future__ import annotations

import functools
import math
import platform
from typing import Any

import numba
import numpy as np
from llvmlite import binding as llvm
from llvmlite import ir
from numba.core import cgutils
from numba.extending import intrinsic, overload

from adamod_array._engines.numba_cache import compiled
from adamod_array._namespace import COMPUTE_DTYPE, SIZE

_HALF, _WORD = ir.IntType(16), ir.IntType(32)
_ELEMENT = {"float16": ir.HalfType(), "bfloat16": _HALF, "float32": ir.FloatType(), "float64": ir.DoubleType()}


def converts_float16() -> bool:
    """Return whether the processor that code is made for has float16: LLVM would end the process where it has not."""
    if platform.machine().lower() not in ("x86_64", "amd64"):
        return True
    if numba.config.CPU_FEATURES is not None:
        return "+f16c" in numba.config.CPU_FEATURES
    return numba.config.CPU_NAME != "generic" and bool(llvm.get_host_cpu_features().get("f16c"))


@functools.cache
def memory(storage: str, array: int, arrays: int, part: int | None = None, *, cut: bool = False) -> tuple[Any, Any]:
    """Return ``load(address, i)`` and ``store(address, i, x)`` for one of a kernel's arrays.

    ``x`` is in the compute dtype: 16-bit floats widen exactly when loaded and are rounded to nearest
    even when stored; with ``cut``, of what is bfloat16 already, the upper half is stored. ``array`` of ``arrays``
    numbers the alias scope. Of complex numbers, pairs of ``storage``, ``part`` says which is meant: 0 real, 1
    imaginary.
    """
    number = getattr(numba.types, COMPUTE_DTYPE[storage])
    int64 = numba.types.int64

    def pointer(builder: Any, address: Any, i: Any) -> Any:
        if part is None:
            return builder.gep(builder.inttoptr(address, _ELEMENT[storage].as_pointer()), [i])
        pair = ir.LiteralStructType([_ELEMENT[storage]] * 2)  # as C has them, which LLVM vectorises
        return builder.gep(builder.inttoptr(address, pair.as_pointer()), [i, _WORD(part)])

    def scoped(builder: Any, instruction: Any) -> Any:
        module = builder.module
        domain = module.add_metadata(["adamod_array"])
        scopes = [module.add_metadata([f"array {k}", domain]) for k in range(arrays)]
        instruction.set_metadata("alias.scope", module.add_metadata([scopes[array]]))
        instruction.set_metadata("noalias", module.add_metadata([s for k, s in enumerate(scopes) if k != array]))
        return instruction

    def load(typing: Any, address: Any, i: Any) -> Any:
        def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            x = scoped(builder, builder.load(pointer(builder, *args), align=SIZE[storage]))
            if storage == "float16":
                return builder.fpext(x, ir.FloatType())
            return _from_bfloat16(builder, x) if storage == "bfloat16" else x

        return number(int64, int64), generate

    def store(typing: Any, address: Any, i: Any, x: Any) -> Any:
        def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            address, i, x = args
            if storage == "float16":
                x = builder.fptrunc(x, ir.HalfType())
            elif storage == "bfloat16":
                x = _upper_half(builder, x) if cut else _to_bfloat16(builder, x)
            scoped(builder, builder.store(x, pointer(builder, address, i), align=SIZE[storage]))
            return context.get_dummy_value()

        return numba.types.void(int64, int64, number), generate

    return intrinsic(load), intrinsic(store)


@functools.cache
def prefetch(written: bool) -> Any:
    """Return ``fetch(address)``: ask for the cache line there, to read it or to write it too; it need not exist."""

    def fetch(typing: Any, address: Any) -> Any:
        def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            pointer, number = ir.IntType(8).as_pointer(), ir.IntType(32)
            function = ir.FunctionType(ir.VoidType(), [pointer, number, number, number])
            call = cgutils.get_or_insert_function(builder.module, function, "llvm.prefetch.p0i8")
            near, data = number(3), number(1)  # into every cache; no instructions
            builder.call(call, [builder.inttoptr(args[0], pointer), number(int(written)), near, data])
            return context.get_dummy_value()

        return numba.types.void(numba.types.int64), generate

    return intrinsic(fetch)


def _from_bfloat16(builder: Any, x: Any) -> Any:
    """Return the upper half of a float32."""
    return builder.bitcast(builder.shl(builder.zext(x, _WORD), _WORD(16)), ir.FloatType())


def _upper_half(builder: Any, x: Any) -> Any:
    return builder.trunc(builder.lshr(builder.bitcast(x, _WORD), _WORD(16)), _HALF)


def _to_bfloat16(builder: Any, x: Any) -> Any:
    """Round to nearest even; a NaN stays a NaN."""
    bits = builder.bitcast(x, _WORD)
    odd = builder.and_(builder.lshr(bits, _WORD(16)), _WORD(1))
    rounded = builder.lshr(builder.add(bits, builder.add(odd, _WORD(0x7FFF))), _WORD(16))
    quiet = builder.or_(builder.lshr(bits, _WORD(16)), _WORD(0x40))
    return builder.trunc(builder.select(builder.fcmp_unordered("uno", x, x), quiet, rounded), _HALF)


@numba.njit(inline="always")
def minimum(a: Any, b: Any) -> Any:  # pragma: no cover - compiled
    """Return the array API's minimum: NaN where either is."""
    return a if a < b or a != a else b


@numba.njit(inline="always")
def maximum(a: Any, b: Any) -> Any:  # pragma: no cover - compiled
    """Return the array API's maximum: NaN where either is."""
    return a if a > b or a != a else b


def hypot(a: Any, b: Any) -> Any:  # pragma: no cover - compiled
    """Return the modulus of a complex number, given its parts, as the C library computes it for NumPy."""
    raise NotImplementedError


@overload(hypot)
def _hypot(a: Any, b: Any) -> Any:  # pragma: no cover - compiled
    def by_library(a: Any, b: Any) -> Any:
        return math.hypot(a, b)

    def in_float64(a: Any, b: Any) -> Any:  # as glibc does for float32; whole vectors at a time, unlike its own
        x, y = np.float64(a), np.float64(b)
        found = np.float32(np.sqrt(x * x + y * y))
        return np.float32(np.inf) if abs(a) == np.inf or abs(b) == np.inf else found

    return in_float64 if a == numba.types.float32 else by_library


@intrinsic
def peek(typing: Any, address: Any) -> Any:
    """Load the pointer stored at an address."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.load(builder.inttoptr(args[0], ir.IntType(64).as_pointer()))

    return numba.types.int64(numba.types.int64), generate


@compiled("boolean(int64[::1], int64[::1], int64[::1], int64[::1])")
def meet(addresses: Any, nbytes: Any, starts: Any, ends: Any) -> bool:  # pragma: no cover - compiled
    """Return whether an array meets one of the spans, which are in order; ``ends`` are those of all before each."""
    for i in range(addresses.size):
        first, last = 0, starts.size
        while first < last:  # how many spans begin before the array ends
            middle = (first + last) // 2
            if starts[middle] < addresses[i] + nbytes[i]:
                first = middle + 1
            else:
                last = middle
        if ends[first] > addresses[i]:
            return True
    return False
