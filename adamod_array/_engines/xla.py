"""A rule's straight line as a program for XLA: one jitted call for the whole tree, with the bits of IEEE arithmetic."""

from __future__ import annotations

import functools
import graphlib
import operator
import sys
from collections.abc import Callable
from typing import Any

import numpy as np

from adamod_array._engines import Columns, StepInputs, words
from adamod_array._engines.xla_fence import divisor, fenced, first, mixed, opaque_zero
from adamod_array._namespace import COMPUTE_DTYPE, REAL_DTYPE, dtype_name
from adamod_array._program.program import COMPARISONS, INDEX, Operand, Operation, Program
from adamod_array._program.rounding import WORDS
from adamod_array._program.trace import constants
from adamod_array._scalars import arguments

KEPT: dict[str, Any] = vars(sys).setdefault("_adamod_array_kept", {})
"""What JAX keeps for the life of the process, by name: it outlives this module, which may be imported again.

Filled by ``setdefault``, which is atomic: a lock could be held for ever by an interrupt or a fork.
"""


def program_of(inputs: StepInputs, opaque: Any, donate: bool) -> tuple[Callable[..., Columns], tuple[Any, ...]]:
    """Return a jitted function that takes the step, and its arguments."""
    scalars, kinds = inputs.scalars, _kinds(inputs)
    programs = tuple(
        [(kind, inputs.program(decay=kind[0], complex_parameter=kind[1], storage=kind[2])) for kind in kinds]
    )
    numbers = [
        [constants(method, complex_parameter=is_complex, common=scalars.names) for method in scalars.methods]
        for _, is_complex, _ in kinds
    ]
    common = (*scalars.common.values(),)
    index = scalars.rate_index, scalars.method_index, tuple(scalars.counters or [0] * len(inputs.params))
    arguments = (opaque, index, scalars.coefficients, scalars.rates, numbers, common)
    return jitted(programs, donate, on_one_cpu()), (*arguments, inputs.grads, inputs.columns)


Kind = tuple[bool, bool, str]
"""Of a leaf: whether it decays, whether it is complex, and "bfloat16" where its program depends on that."""
Programs = tuple[tuple[Kind, Program], ...]


def _kinds(inputs: StepInputs) -> tuple[Kind, ...]:
    return tuple(sorted({_kind(inputs.scalars.decays(i), p) for i, p in enumerate(inputs.params)}))


def _kind(decays: bool, p: Any) -> Kind:
    return decays, p.dtype.kind == "c", "bfloat16" if dtype_name(p) == "bfloat16" else ""


@functools.lru_cache(maxsize=256)
def jitted(programs: Programs, donate: bool, sequential: bool) -> Any:
    """Return a jitted function of opaque numbers and the parts of a step's inputs.

    ``sequential`` for one CPU, where XLA runs a loop for each output: it needs no memory if these take
    turns. A GPU may have one for all of them.
    """
    jax = sys.modules["jax"]
    steps = {kind: jax.jit(functools.partial(_step_leaf, program, sequential)) for kind, program in programs}

    def step(
        opaque: Any, index: Any, c: Any, rates: Any, constants: Any, common: Any, grads: Any, columns: Columns
    ) -> Columns:
        rate_index, method_index, counters = index
        if isinstance(opaque, list):
            unknown = [mixed([first(x) for x in arrays if x.size] if sequential else arrays) for arrays in opaque]
        else:
            number = mixed(opaque)
            if sequential and isinstance(opaque, tuple):
                (c, rates, constants, common), number = _computed((c, rates, constants, common), number)
            unknown = [number] * len(grads)
        constants_of = dict(zip(steps, constants, strict=True))
        new = []
        for k, number, counter, g, p, *slots in zip(rate_index, unknown, counters, grads, *columns, strict=True):
            lr, decay = rates[k]
            kind = _kind(decay is not None, p)
            own = method_index[k]
            scalars = arguments(lr, decay, (*c[own], *constants_of[kind][own]), common)
            new.append(
                steps[kind](number, np.uint32(counter), scalars, resharded(g, p), p, *slots)
            )  # traced once for all leaves of one shape
        return [[arrays[k] for arrays in new] for k in range(len(columns))]

    return jax.jit(step, static_argnums=1, donate_argnums=7 if donate else ())


def resharded(g: Any, p: Any) -> Any:
    """Return a gradient sharded as its parameter is, where types say how; elsewhere XLA sees to it."""
    jax = sys.modules["jax"]
    typeof = getattr(jax, "typeof", None)
    if typeof is None:  # of a JAX whose types do not say
        return g
    there = typeof(p).sharding
    if there.mesh.empty or there == typeof(g).sharding:
        return g
    return jax.reshard(g, there) if jax.sharding.AxisType.Explicit in there.mesh.axis_types else g


def on_one_cpu() -> bool:
    """Return whether programs are made for one CPU device, unless the user says otherwise."""
    jax = sys.modules["jax"]
    return bool(jax.default_backend() == "cpu" and jax.device_count() == 1)


def _computed(scalars: Any, number: Any) -> Any:
    """Compute both before any loop over an array: XLA would compute scalars in it, for every element anew."""
    jax = sys.modules["jax"]
    known = opaque_zero(number, 0) == 0
    return jax.lax.cond(known, lambda x: x, lambda x: jax.tree.map(operator.neg, x), (scalars, number))


def _step_leaf(
    program: Program, sequential: bool, number: Any, counter: Any, scalars: Any, g: Any, *old: Any
) -> list[Any]:
    """Return the new parameter and slots of one leaf."""
    jnp = sys.modules["jax"].numpy
    compute = COMPUTE_DTYPE[dtype_name(old[0])]
    real = REAL_DTYPE.get(compute, compute)
    given: dict[Operand, Any] = {name: jnp.asarray(x, real) for name, x in zip(program.scalars, scalars, strict=True)}
    for (name, kind), x in zip(program.arrays, (g, *old), strict=True):
        given[name] = x.astype(compute if kind == "complex" else real)
    if program.rounded:
        given[INDEX] = words.iota(counter, old[0].shape)
        given |= {name: jnp.uint32(x) for name, x in program.words.items()}
    new = _Evaluation(program, given, number, sequential).outputs()
    zero = opaque_zero(number, 0)
    return [_stored(jnp.broadcast_to(y, x.shape), x.dtype, zero) for x, y in zip(old, new, strict=True)]


def _stored(x: Any, dtype: Any, zero: Any) -> Any:
    """Return ``x`` in the dtype of the array it replaces; if that is narrower, XLA may not skip the rounding."""
    return x if x.dtype == dtype else fenced(x.astype(dtype), zero)


class _Evaluation:
    """The outputs of a program, each computed from the arrays and from other outputs alone.

    XLA writes each output by a loop of its own, and an expensive intermediate value of two outputs,
    such as AdaMod's eta, by one more into an array that nobody asked for. It is computed for each
    of them instead, behind a fence of that output, without which XLA would see that they are one.
    """

    def __init__(self, program: Program, given: dict[Operand, Any], number: Any, sequential: bool) -> None:
        self.program, self.given, self.number, self.sequential = program, given, number, sequential
        self.operations: dict[Operand, Operation] = {x.result: x for x in program.operations}
        self.old = dict(zip(program.outputs, [name for name, _ in program.arrays[1:]], strict=True))
        self.own = {x: self._own(x) for x in self.old if x in self.operations}
        self.shared = {x for x in self.operations if sum(x in each for each in self.own.values()) > 1}
        self.fenced = self._fences()
        self.kept: dict[Operand, Any] = {}

    def _fences(self) -> set[Operand]:
        """Return products that XLA would fuse into an FMA or reassociate. Divisors: see :func:`divisor`."""
        users: dict[Operand, set[str]] = {}
        one: set[Operand] = set(self.program.scalars)  # numbers, the same for a whole array
        fenced: set[Operand] = set()
        for x in self.program.operations:
            for y in x.operands:
                users.setdefault(y, set()).add(x.name)
            if all(y in one for y in x.operands):
                one.add(x.result)
        for x in self.program.operations:
            joins = any(y in one for y in x.operands)
            contracts = users.get(x.result, set()) - {"mul"}
            if (x.name == "mul" and (joins or contracts)) or (x.name == "div" and "div" in contracts):
                fenced.add(x.result)
        return fenced

    def _own(self, output: Operand) -> set[Operand]:
        """Return the operations done for an output.

        Another output is reused, not computed again, except where this one reads the array that it replaces,
        too: after an in-place update the two cannot both be live.
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
        """Return the new parameter and slots.

        In turn, each comes after those that read the array it replaces, and waits for a number of
        the one before it. XLA orders its loops as it likes, and copies what one overwrites too early.
        """
        for x in self._order() if self.sequential else ():
            y = self._output(x)
            if x in self.own and y.size:
                self.number = self.number + mixed([first(y)])
        return [self._output(x) for x in self.program.outputs]

    def _order(self) -> list[Operand]:
        reads = {x: {y for each in own for y in self.operations[each].operands} for x, own in self.own.items()}
        after = {
            x: {y for y in self.own if y != x and (y in reads[x] - self.own[x] or self.old[x] in reads[y])}
            for x in self.own
        }
        try:
            return [*graphlib.TopologicalSorter(after).static_order()]
        except graphlib.CycleError:  # two arrays that both need the other's: one is copied
            return [*self.own]

    def _output(self, x: Operand) -> Any:
        if x not in self.kept:
            zero = opaque_zero(self.number, self.program.outputs.index(x))
            self.kept[x] = self._value(x, zero, self.own[x], {}) if x in self.own else self.given[x]
        return self.kept[x]

    def _value(self, x: Operand, zero: Any, own: set[Operand], values: dict[Operand, Any]) -> Any:
        """Return an operation of the output that ``zero``, ``own`` and ``values`` belong to."""
        if x in values:
            return values[x]
        operation, operands = self.operations[x], []
        for y in operation.operands:
            if y in own:
                operands.append(self._value(y, zero, own, values))
            else:
                operands.append(self._output(y) if y in self.own else self.given[y])
        if operation.name in _EXPENSIVE and x in self.shared:
            operands[-1] = fenced(operands[-1], zero)
        if operation.name == "div":
            operands[1] = divisor(operands[0], operands[1], zero)
        values[x] = (_product if operation.name == "mul" else _function(operation.name))(*operands)
        if x in self.fenced:
            values[x] = fenced(values[x], zero)
        return values[x]


_EXPENSIVE = ("div", "sqrt", "exp")
"""What XLA would rather keep in memory than compute twice."""


def _function(name: str) -> Any:
    if name in WORDS:
        return words.table_of("jax")[name]
    if name in ("add", "sub", "neg", *COMPARISONS):
        return getattr(operator, name)
    if name == "div":
        return operator.truediv
    return getattr(sys.modules["jax"].numpy, name)


def _product(a: Any, b: Any) -> Any:
    """Multiply. A complex number times a real one is two products, as it is to IEEE's rounding."""
    if (a.dtype.kind == "c") == (b.dtype.kind == "c"):
        return a * b
    real, z = (b, a) if a.dtype.kind == "c" else (a, b)
    return sys.modules["jax"].lax.complex(real * z.real, real * z.imag)
