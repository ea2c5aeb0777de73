"""A rule as data: the straight line of operations that every compiler is given."""

from __future__ import annotations

import functools
from dataclasses import dataclass, field

INDEX = "index"
"""An operand: the place of an element in its leaf, counted from the leaf's first counter, as a word."""

COMPARISONS = ("lt", "le", "gt", "ge", "eq", "ne")

Operand = str
"""The name of an array, a scalar or an earlier value."""


@dataclass(frozen=True)
class Operation:
    """``result = name(*operands)``."""

    result: str
    name: str
    operands: tuple[Operand, ...]
    domain: str
    """"real", "complex", "bool" or "word": an unsigned integer of 32 bits."""


@dataclass(frozen=True)
class Program:
    """A rule as a straight line: equal subexpressions shared, dead ones gone.

    Its constants are scalars, so that methods which differ in them alone have one Program.
    """

    scalars: tuple[str, ...]
    """``lr``, ``decay`` where there is one, what all leaves share (``clip0``, ``clip1``, ``ok``) where a step has it,
    the coefficients ``c0``, ``c1``, ..., and the constants ``k0``, ..."""
    arrays: tuple[tuple[str, str], ...]
    """``g``, ``p`` and the slots (``slot_0``, ...: a user's names cannot meet generated ones), each with its domain."""
    operations: tuple[Operation, ...]
    outputs: tuple[Operand, ...]
    """The new ``p`` and slots."""
    rounded: tuple[int, ...] = field(default=(), repr=False)  # as operations show it
    """Places of the outputs that the program has rounded to bfloat16, stochastically: to store them rounds no more."""

    @functools.cached_property
    def words(self) -> dict[Operand, int]:
        """Return the operands that are numbers of 32 bits, with these."""
        operands = [y for x in self.operations for y in x.operands if y.startswith("0x")]
        return {y: int(y, 16) for y in operands}

    @property
    def slot_dtypes(self) -> tuple[str | None, ...]:
        """Return the dtype of each slot that is not stored in the dtype computed in, else None."""
        return tuple(["bfloat16" if k in self.rounded else None for k in range(1, len(self.outputs))])

    @property
    def is_real(self) -> bool:
        """Return whether all values are real."""
        return "complex" not in {domain for _, domain in self.arrays} | {x.domain for x in self.operations}

    @functools.cached_property
    def aliases_input(self) -> tuple[bool, ...]:
        """Return which outputs are an input, an earlier output, or part of one, under another name."""
        inputs = {name for name, _ in self.arrays}
        parts: set[Operand] = set(inputs)
        for operation in self.operations:
            if operation.name in ("real", "imag") and operation.operands[0] in {*parts, *self.outputs}:
                parts.add(operation.result)
        pairs = enumerate(self.outputs)
        return tuple([x in parts or x in self.outputs[:i] for i, x in pairs])

    @functools.cached_property
    def translates(self) -> bool:
        """Return whether the rule adds to the parameter what does not depend on it, and nothing else reads either."""
        reads = [x for x in self.operations if {"p", self.outputs[0]} & {*x.operands}]
        if {"p", self.outputs[0]} & {*self.outputs[1:]}:
            return False
        if self.outputs[0] == "p":
            return not reads
        if len(reads) != 1 or reads[0].result != self.outputs[0]:
            return False
        name, operands = reads[0].name, reads[0].operands
        return operands.count("p") == 1 and (name == "add" or (name == "sub" and operands[0] == "p"))
