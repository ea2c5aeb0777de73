"""A Program written out in a language: what all languages have in common."""

from __future__ import annotations

from typing import ClassVar

from adamod_array._program.program import Operand, Operation


class Renderer:
    """Writes operations as expressions; a language is a subclass that adds to the table what it writes otherwise."""

    operations: ClassVar[dict[str, str]] = {
        "add": "{} + {}",
        "sub": "{} - {}",
        "mul": "{} * {}",
        "div": "{} / {}",
        "neg": "-{}",
        "abs": "abs({})",
        "lt": "{} < {}",
        "le": "{} <= {}",
        "gt": "{} > {}",
        "ge": "{} >= {}",
        "eq": "{} == {}",
        "ne": "{} != {}",
    }
    """Expressions with one operator each, so that none needs parentheses."""

    def name(self, value: Operand) -> str:
        """Return what an array, a scalar or an earlier value is called."""
        return value

    def expression(self, operation: Operation) -> str:
        """Return an operation of named operands."""
        return self.operations[operation.name].format(*map(self.name, operation.operands))
