"""A Program written out in a language: what all languages have in common."""

from __future__ import annotations

from typing import ClassVar

from adamod_array._program.trace import Operand, Operation


class Renderer:
    """Writes operations as expressions, and collects constants.

    Constants are arguments of a kernel, ``k0``, ``k1``, ...: methods that differ in hyperparameters alone share it.
    A language is a subclass that adds to the table what it writes in its own way.
    """

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

    def __init__(self) -> None:
        self._names: dict[str, str] = {}  # of constants, by repr: 0.0 and -0.0 are two

    @property
    def constants(self) -> tuple[float, ...]:
        """Return the constants so far, ``k0`` first."""
        return tuple(map(float, self._names))

    @property
    def constant_names(self) -> list[str]:
        """Return the names of the constants."""
        return [*self._names.values()]

    def name(self, value: str) -> str:
        """Return what an earlier value is called."""
        return value

    def operand(self, x: Operand) -> str:
        """Return the name of a value or constant."""
        return self.name(x) if isinstance(x, str) else self._names.setdefault(repr(x), f"k{len(self._names)}")

    def expression(self, operation: Operation) -> str:
        """Return an operation of named operands."""
        return self.operations[operation.name].format(*map(self.operand, operation.operands))
