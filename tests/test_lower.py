"""Programs of pairs of reals compute what the rules do to complex numbers."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from adamod_array import Method, host_math
from adamod_array._method import apply_rule
from adamod_array._program.evaluate import OF_SCALARS
from adamod_array._program.lower import ONE, ZERO, can_be_lowered, lowered
from adamod_array._program.program import Program
from adamod_array._program.trace import constants, trace
from adamod_array._scalars import arguments
from tests.compare import assert_close
from tests.trees import METHODS, values

pytestmark = pytest.mark.only("numpy")

OPERATIONS: dict[str, Callable[..., Any]] = OF_SCALARS | {
    "hypot": np.hypot,
    "and": np.logical_and,
    "or": np.logical_or,
}


@dataclasses.dataclass(frozen=True)
class Forms(Method):
    """Every operation that complex numbers have, on pairs of them and beside a real one."""

    half: float = 0.5
    slots = ("a", "b", "c", "d", "e")

    def rule(self, xp: Any, lr: Any, c: Any, g: Any, p: Any, a: Any, b: Any, k: Any, d: Any, e: Any) -> tuple[Any, ...]:
        size = xp.abs(g)
        alike = xp.where(g == p, g * p, xp.where(p != p, size, -g))
        return (
            (g * p - lr) / (p + self.half),
            lr - g + (self.half - p) * size,
            xp.where(size > 2.0, self.half, g) + alike,
            lr / g + g / size + xp.real(p),
            xp.abs(g - p) + xp.imag(g),
            xp.imag(size) + xp.real(size),
        )


def run(program: Program, scalars: list[Any], arrays: list[Any], real: Any) -> list[Any]:
    """The outputs of a program of reals."""
    values = {ZERO: real(0), ONE: real(1)} | dict(zip(program.scalars, scalars, strict=True))
    values |= dict(zip((name for name, _ in program.arrays), arrays, strict=True))
    for x in program.operations:
        values[x.result] = OPERATIONS[x.name](*[values[y] for y in x.operands])
    return [values[x] for x in program.outputs]


def made(domain: str, real: Any, n: int, seed: int) -> Any:
    """An array of a domain, whose real ones are positive."""
    x = values(n, seed=seed).astype(real)
    return x + real(1) * 1j * values(n, seed=seed + 50).astype(real) if domain == "complex" else np.abs(x)


@pytest.mark.parametrize("method", [*METHODS.values(), Forms()], ids=[*METHODS, "every form"])
def test_they_compute_what_the_rule_does(method: Method) -> None:
    for decays in (False, True):
        for real in (np.float32, np.float64):
            program = trace(method, decay=decays, complex_parameter=True)
            of_reals = lowered(program)
            assert of_reals.is_real and not program.is_real and can_be_lowered(program)
            c = tuple([real(x) for x in method.coefficients(3.0, host_math)])
            lr, decay = real(0.125), real(0.75) if decays else None
            arrays: list[Any] = [made(domain, real, 20, seed=i) for i, (_, domain) in enumerate(program.arrays)]
            arrays[1][:3] = arrays[0][:3]  # equal ones, too
            arrays[1][3:6] = arrays[0][3:6].conj()  # and half of them
            parts = [y for x in arrays for y in ((x.real, x.imag) if x.dtype.kind == "c" else (x,))]
            numbers = constants(method, complex_parameter=True)
            scalars = [*arguments(lr, decay, c), *map(real, numbers)]
            found = iter(run(of_reals, scalars, parts, real))
            g, p, *slots = arrays
            expected = apply_rule(method, np, lr, decay, c, g, p, slots)
            # products and sums have NumPy's bits; quotients and moduli are computed in another way than NumPy's, and
            # added to what may be larger
            moduli = any(x.name == "hypot" for x in of_reals.operations)
            ulp, units = (8, 40) if isinstance(method, Forms) else (2, 4) if moduli else (0, 0)
            for e, (_, domain) in zip(expected, program.arrays[1:], strict=True):
                actual: Any = np.broadcast_to(np.asarray(next(found), real), 20)
                if domain == "complex":
                    actual = actual + 1j * np.broadcast_to(np.asarray(next(found), real), 20)
                wanted = np.broadcast_to(e, 20).astype(actual.dtype)
                assert_close(actual, wanted, ulp=ulp, atol=units * float(np.finfo(real).eps))


def test_a_program_of_reals_is_itself() -> None:
    for method in METHODS.values():
        program = trace(method)
        assert lowered(program) == program
