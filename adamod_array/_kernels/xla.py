"""A rule's straight line as a program for XLA: one jitted call for the whole tree, with the bits of IEEE arithmetic.

XLA rewrites arithmetic in the last bit: it contracts multiply-adds, takes reciprocals of divisors,
joins constants. A *fence* stops it: the bits of a value are combined by exclusive or with a zero
that XLA cannot know.
"""

from __future__ import annotations

import functools
import operator
import sys
from collections.abc import Callable
from typing import Any

import numpy as np

from adamod_array._kernels import Result
from adamod_array._kernels.trace import COMPARISONS, Line, Operand, Operation, trace
from adamod_array._namespace import COMPUTE_DTYPE, REAL_DTYPE, dtype_name

NOT_TRACED = np.uint32(0)
"""Of the library's own programs: known here, but an argument there."""


@functools.cache
def program(donate: bool, own: bool) -> Any:
    """A jitted function of a secret and the parts of a work; ``own`` if it is no part of the user's program."""
    jax = sys.modules["jax"]
    leaf = jax.jit(_step_leaf, static_argnums=(0, 1))  # traced once for all leaves of one shape

    def step(secret: Any, method: Any, which: Any, c: Any, pairs: Any, params: Any, grads: Any, slots: Any) -> Result:
        new = []
        for i, (at, p, g, kept) in enumerate(zip(which, params, grads, slots, strict=True)):
            lr, decay = pairs[at]
            scalars = (lr, *(() if decay is None else (decay,)), *c)
            unknown = secret[i] if isinstance(secret, list) else secret
            new.append(leaf(method, decay is not None, unknown, scalars, g, p, *kept))
        return [arrays[0] for arrays in new], [arrays[1:] for arrays in new]

    return jax.jit(
        step,
        static_argnums=(1, 2),
        donate_argnums=(5, 7) if donate else (),
        compiler_options=_options() if own else None,
    )


@functools.cache
def _options() -> dict[str, Any] | None:
    """What lets XLA write into donated arrays in the order that needs no copy of them, where it knows how."""
    jax = sys.modules["jax"]
    options = {"xla_cpu_copy_insertion_use_region_analysis": True}
    try:
        jax.jit(lambda: 0, compiler_options=options).lower().compile()
    except jax.errors.JaxRuntimeError:
        return None
    return options


def _step_leaf(method: Any, decay: bool, secret: Any, scalars: Any, g: Any, *old: Any) -> list[Any]:
    """The new parameter and slots of one leaf."""
    jnp = sys.modules["jax"].numpy
    compute = COMPUTE_DTYPE[dtype_name(old[0])]
    real = REAL_DTYPE.get(compute, compute)
    line = trace(method, decay=decay, complex_parameter=compute in REAL_DTYPE)
    given = {name: jnp.asarray(x, real) for name, x in zip(line.scalars, scalars, strict=True)}
    for (name, kind), x in zip(line.arrays, (g, *old), strict=True):
        given[name] = x.astype(compute if kind == "complex" else real)
    zero = functools.partial(_zero, _mixed(secret))
    new = _Evaluation(line, given, np.dtype(real).type, zero).outputs()
    return [_stored(jnp.broadcast_to(y, x.shape), x.dtype, zero(0)) for x, y in zip(old, new, strict=True)]


def _stored(x: Any, dtype: Any, zero: Any) -> Any:
    """``x`` in the dtype of the array it replaces; if that is narrower, XLA may not skip the rounding."""
    return x if x.dtype == dtype else _fenced(x.astype(dtype), zero)


class _Evaluation:
    """The outputs of a line, each computed from the arrays and from other outputs alone.

    XLA writes each output by a loop of its own, and an expensive intermediate value of two outputs,
    such as AdaMod's eta, by one more into an array that nobody asked for. It is computed for each
    of them instead, behind a fence of that output, without which XLA would see that they are one.
    """

    def __init__(self, line: Line, given: dict[str, Any], constant: Callable[[float], Any], zero: Any) -> None:
        self.line, self.given, self.constant, self.zero = line, given, constant, zero
        self.operations: dict[Operand, Operation] = {x.result: x for x in line.operations}
        self.old = dict(zip(line.outputs, [name for name, _ in line.arrays[1:]], strict=True))
        self.own = {x: self._own(x) for x in self.old if x in self.operations}
        self.shared = {x for x in self.operations if sum(x in each for each in self.own.values()) > 1}
        self.fenced = self._fences()
        self.kept: dict[Operand, Any] = {}

    def _fences(self) -> set[Operand]:
        """The results that XLA would contract into a sum or join with other factors; divisors are another matter."""
        users: dict[Operand, set[str]] = {}
        one: set[Operand] = set(self.line.scalars)  # numbers, the same for a whole array
        fenced: set[Operand] = set()
        for x in self.line.operations:
            for y in x.operands:
                users.setdefault(y, set()).add(x.name)
            if all(isinstance(y, float) or y in one for y in x.operands):
                one.add(x.result)
        for x in self.line.operations:
            joins = any(isinstance(y, float) or y in one for y in x.operands)
            contracts = users.get(x.result, set()) - {"mul"}
            if (x.name == "mul" and (joins or contracts)) or (x.name == "div" and "div" in contracts):
                fenced.add(x.result)
        return fenced

    def _own(self, output: Operand) -> set[Operand]:
        """The operations done for an output.

        Another output is taken as given, unless the array it replaces is needed too: of arrays that
        are written in place, only one of the two is there.
        """
        own = {output}
        while True:
            read: set[Operand] = set()
            left = [*own]
            while left:
                for x in self.operations[left.pop()].operands:
                    read.add(x)
                    if x in self.operations and x not in self.old and x not in own:
                        own.add(x)
                        left.append(x)
            both = {x for x in read if x in self.operations and x not in own and self.old[x] in read}
            if not both:
                return own
            own |= both

    def outputs(self) -> list[Any]:
        """The new parameter and slots."""
        return [self._output(x) for x in self.line.outputs]

    def _output(self, x: Operand) -> Any:
        if x not in self.kept:
            zero = self.zero(self.line.outputs.index(x))
            self.kept[x] = self._value(x, zero, self.own[x], {}) if x in self.own else self._input(x)
        return self.kept[x]

    def _input(self, x: Operand) -> Any:
        return self.constant(x) if isinstance(x, float) else self.given[x]

    def _value(self, x: Operand, zero: Any, own: set[Operand], values: dict[Operand, Any]) -> Any:
        """An operation of the output that ``zero``, ``own`` and ``values`` belong to."""
        if x in values:
            return values[x]
        operation, operands = self.operations[x], []
        for y in operation.operands:
            if y in own:
                operands.append(self._value(y, zero, own, values))
            else:
                operands.append(self._output(y) if y in self.own else self._input(y))
        if operation.name in _EXPENSIVE and x in self.shared:
            operands[-1] = _fenced(operands[-1], zero)
        if operation.name == "div":
            operands[1] = _divisor(operands[0], operands[1], zero)
        values[x] = (_product if operation.name == "mul" else _function(operation.name))(*operands)
        if x in self.fenced:
            values[x] = _fenced(values[x], zero)
        return values[x]


_EXPENSIVE = ("div", "sqrt", "exp")
"""What XLA would rather keep in memory than compute twice."""


def _function(name: str) -> Any:
    if name in ("add", "sub", "neg", *COMPARISONS):
        return getattr(operator, name)
    if name == "div":
        return operator.truediv
    return getattr(sys.modules["jax"].numpy, name)


def _product(a: Any, b: Any) -> Any:
    """``a * b``. A complex number times a real one is two products, as it is to IEEE's rounding."""
    if (a.dtype.kind == "c") == (b.dtype.kind == "c"):
        return a * b
    real, z = (b, a) if a.dtype.kind == "c" else (a, b)
    return sys.modules["jax"].lax.complex(real * z.real, real * z.imag)


def _divisor(a: Any, b: Any, zero: Any) -> Any:
    """``b`` of ``a / b``, where XLA cannot tell that it is one number for all of ``a``, and take its reciprocal."""
    if a.dtype.kind == "c":
        return b
    bits = _BITS[a.dtype.itemsize]
    return _fenced(b, sys.modules["jax"].lax.bitcast_convert_type(a, bits) & zero.astype(bits))


def _fenced(x: Any, zero: Any) -> Any:
    """``x``, of which XLA cannot tell how it was computed."""
    if x.dtype.kind == "c":
        return sys.modules["jax"].lax.complex(_fence()(x.real, zero), _fence()(x.imag, zero))
    return _fence()(x, zero)


@functools.cache
def _fence() -> Any:
    jax = sys.modules["jax"]

    @jax.custom_jvp  # an identity to derivatives, which end at integers
    def fence(x: Any, zero: Any) -> Any:
        bits = _BITS[x.dtype.itemsize]
        return jax.lax.bitcast_convert_type(jax.lax.bitcast_convert_type(x, bits) ^ zero.astype(bits), x.dtype)

    fence.defjvp(lambda primals, tangents: (fence(*primals), tangents[0]))
    return fence


_BITS = {2: "uint16", 4: "uint32", 8: "uint64"}


def _mixed(secret: Any) -> Any:
    """One number of 32 bits out of all that XLA cannot know: some of them may be constants to it after all."""
    if not isinstance(secret, tuple):
        return secret
    lax = sys.modules["jax"].lax
    reals = [x.real if x.dtype.kind == "c" else x for x in secret]
    return sum((lax.bitcast_convert_type(x, _BITS[x.dtype.itemsize]).astype("uint32") for x in reals), NOT_TRACED)


def _zero(secret: Any, k: int) -> Any:
    """The ``k``-th zero: a square is 0, 1 or 4 modulo 8, which compilers have not heard of."""
    n = secret + np.uint32(k)
    square = n * n
    return square & (square >> np.uint32(2)) & np.uint32(1)
