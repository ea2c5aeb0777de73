"""Complex values as pairs of real ones, so that no language has to know complex numbers."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import ClassVar

from adamod_array._namespace import COMPUTE_DTYPE, real_compute_dtype
from adamod_array._program.program import COMPARISONS, Operand, Operation, Program

ZERO, ONE = "0.0", "1.0"
"""Operands that are no values of the Program: a renderer writes the number."""

Pair = tuple[Operand, Operand | None]
"""Real and imaginary part; None of a real or bool value."""


def can_be_lowered(program: Program) -> bool:
    """Return whether every operation on complex values has a known form in real ones."""
    complex_ones = {name for name, domain in program.arrays if domain == "complex"}
    complex_ones |= {x.result for x in program.operations if x.domain == "complex"}
    return all(x.name in _Lowering.forms or complex_ones.isdisjoint(x.operands) for x in program.operations)


@functools.lru_cache(maxsize=1024)
def lowered(program: Program) -> Program:
    """Return the program of real values that does the same.

    A complex array ``g`` becomes the arrays ``g_re`` and ``g_im``, a complex output two outputs.
    Products are those of NumPy: a real factor has the imaginary part 0. Quotients are scaled, as CuPy's
    are, and may differ from NumPy's in the last bit.
    """
    return program if program.is_real else _Lowering(program).program()


def stored_dtypes(program: Program, storage: str) -> dict[str, str]:
    """Return the dtype in memory of every array, the gradient's as its parameter's."""
    kept = {"real": real_compute_dtype(storage), "complex": COMPUTE_DTYPE[storage]}
    slots = {name: kept[domain] for name, domain in program.arrays[2:]}
    slots |= {name: dtype for name, dtype in zip(slots, program.slot_dtypes, strict=True) if dtype}
    return {"g": storage, "p": storage, **slots}


class _Lowering:
    def __init__(self, program: Program) -> None:
        self._given = program
        self._operations: dict[tuple[str, tuple[Operand, ...]], Operation] = {}
        self._pairs: dict[Operand, Pair] = {name: (name, None) for name in program.scalars}
        for name, domain in program.arrays:
            self._pairs[name] = (f"{name}_re", f"{name}_im") if domain == "complex" else (name, None)

    def program(self) -> Program:
        for x in self._given.operations:
            operands = [self._pairs[y] for y in x.operands]
            if x.name in ("real", "imag") or any(im is not None for _, im in operands):
                self._pairs[x.result] = self.forms[x.name](self, *operands)
            else:
                self._pairs[x.result] = self._do(x.name, *(re for re, _ in operands)), None
        arrays: list[tuple[str, str]] = []
        for name, _ in self._given.arrays:
            arrays += [(part, "real") for part in self._pairs[name] if part is not None]
        outputs: list[Operand] = []
        for output, (_, domain) in zip(self._given.outputs, self._given.arrays[1:], strict=True):
            re, im = self._pairs[output]
            outputs += [re, im or ZERO] if domain == "complex" else [re]
        return Program(self._given.scalars, tuple(arrays), tuple(self._operations.values()), tuple(outputs))

    def _do(self, name: str, *operands: Operand) -> Operand:
        key = name, operands
        if key not in self._operations:
            domain = "bool" if name in (*COMPARISONS, "and", "or") else "real"
            self._operations[key] = Operation(f"x{len(self._operations)}", name, operands, domain)
        return self._operations[key].result

    def _add(self, a: Pair, b: Pair) -> Pair:
        return self._do("add", a[0], b[0]), self._do("add", a[1] or ZERO, b[1] or ZERO)  # of -0.0 and 0.0, 0.0

    def _sub(self, a: Pair, b: Pair) -> Pair:
        re = self._do("sub", a[0], b[0])
        return re, a[1] if b[1] is None else self._do("sub", a[1] or ZERO, b[1])

    def _mul(self, a: Pair, b: Pair) -> Pair:
        (a_re, a_im), (b_re, b_im) = (a[0], a[1] or ZERO), (b[0], b[1] or ZERO)
        re = self._do("sub", self._do("mul", a_re, b_re), self._do("mul", a_im, b_im))
        return re, self._do("add", self._do("mul", a_re, b_im), self._do("mul", a_im, b_re))

    def _div(self, a: Pair, b: Pair) -> Pair:
        if b[1] is None:
            return self._do("div", a[0], b[0]), None if a[1] is None else self._do("div", a[1], b[0])
        scale = self._do("div", ONE, self._do("add", self._do("abs", b[0]), self._do("abs", b[1])))
        a_re, a_im, b_re, b_im = (self._do("mul", x, scale) for x in (a[0], a[1] or ZERO, b[0], b[1]))
        square = self._do("add", self._do("mul", b_re, b_re), self._do("mul", b_im, b_im))
        inverse = self._do("div", ONE, square)
        re = self._do("add", self._do("mul", a_re, b_re), self._do("mul", a_im, b_im))
        im = self._do("sub", self._do("mul", a_im, b_re), self._do("mul", a_re, b_im))
        return self._do("mul", re, inverse), self._do("mul", im, inverse)

    def _neg(self, a: Pair) -> Pair:
        return self._do("neg", a[0]), None if a[1] is None else self._do("neg", a[1])

    def _abs(self, a: Pair) -> Pair:
        return self._do("abs", a[0]) if a[1] is None else self._do("hypot", a[0], a[1]), None

    def _real(self, a: Pair) -> Pair:
        return a[0], None

    def _imag(self, a: Pair) -> Pair:
        return a[1] or ZERO, None

    def _where(self, condition: Pair, a: Pair, b: Pair) -> Pair:
        re = self._do("where", condition[0], a[0], b[0])
        return re, self._do("where", condition[0], a[1] or ZERO, b[1] or ZERO)

    def _eq(self, a: Pair, b: Pair) -> Pair:
        return self._do("and", *(self._do("eq", x or ZERO, y or ZERO) for x, y in zip(a, b, strict=True))), None

    def _ne(self, a: Pair, b: Pair) -> Pair:
        return self._do("or", *(self._do("ne", x or ZERO, y or ZERO) for x, y in zip(a, b, strict=True))), None

    forms: ClassVar[dict[str, Callable[..., Pair]]] = {
        "add": _add,
        "sub": _sub,
        "mul": _mul,
        "div": _div,
        "neg": _neg,
        "abs": _abs,
        "real": _real,
        "imag": _imag,
        "where": _where,
        "eq": _eq,
        "ne": _ne,
    }
