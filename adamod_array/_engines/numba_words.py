"""What Numba's kernels do with words: unsigned integers of 32 bits that wrap, and the bits of floats.

Numba's own arithmetic widens them to 64 bits.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from llvmlite import ir
from numba import types
from numba.extending import intrinsic

_FLOAT, _WORD = ir.FloatType(), ir.IntType(32)


def _binary(operation: Callable[[Any, Any, Any], Any], result: Any = types.uint32) -> Any:
    """Return the function of two words that does an operation of LLVM; integers that it is given are cut."""

    def function(typing: Any, a: Any, b: Any) -> Any:
        def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            return operation(builder, *args)

        return result(types.uint32, types.uint32), generate

    return intrinsic(function)


def _unary(operation: Callable[[Any, Any], Any], result: Any, operand: Any) -> Any:
    def function(typing: Any, x: Any) -> Any:
        def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            return operation(builder, *args)

        return result(operand), generate

    return intrinsic(function)


add32 = _binary(lambda builder, a, b: builder.add(a, b))
mul32 = _binary(lambda builder, a, b: builder.mul(a, b))
xor32 = _binary(lambda builder, a, b: builder.xor(a, b))
and32 = _binary(lambda builder, a, b: builder.and_(a, b))
or32 = _binary(lambda builder, a, b: builder.or_(a, b))
shr32 = _binary(lambda builder, a, b: builder.lshr(a, b))
lt32 = _binary(lambda builder, a, b: builder.icmp_unsigned("<", a, b), types.boolean)
bits = _unary(lambda builder, x: builder.bitcast(x, _WORD), types.uint32, types.float32)
unbits = _unary(lambda builder, x: builder.bitcast(x, _FLOAT), types.float32, types.uint32)
word = _unary(lambda builder, x: builder.fptoui(x, _WORD), types.uint32, types.float32)


@intrinsic
def use_widest_vectors(typing: Any) -> Any:
    """Have LLVM use vectors of 512 bits, if there are any, in the function around: for loops that compute a lot.

    By default it takes half of that, for the sake of processors that slow down; words are then the bound, not memory.
    """

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        set.add(builder.function.attributes, '"prefer-vector-width"="512"')  # llvmlite knows no attributes with values
        return context.get_dummy_value()

    return types.void(), generate
