"""The text of CuPy's kernels. Neither CuPy nor a GPU is needed; ``nox -s cuda_compile`` compiles them."""

from __future__ import annotations

import dataclasses
import re
from typing import Any

import pytest

from adamod_array import Adam, AdaMod, Method
from adamod_array._program.cuda_source import source
from adamod_array._program.lower import can_be_lowered
from adamod_array._program.program import Program
from adamod_array._program.trace import constants, trace
from tests.cuda.cases import BUILT_IN, Everything

pytestmark = pytest.mark.only("numpy")  # once is enough


@dataclasses.dataclass(frozen=True)
class Signed(Method):
    """The two zeros among the constants."""

    slots = ("a",)

    def rule(self, xp: Any, lr: Any, c: Any, g: Any, p: Any, *slots: Any) -> tuple[Any, ...]:
        return p - lr * xp.where(g > 0, 0.0, -0.0), -0.0


def line_of(method: Method, dtype: str, decay: bool = False) -> Program:
    return trace(method, decay=decay, complex_parameter=dtype.startswith("complex"))


def test_methods_that_differ_in_hyperparameters_share_a_kernel() -> None:
    first, second = Adam(), Adam(beta1=0.8, eps=1e-3)
    one, other = (source(line_of(method, "float32"), "float32", "float32") for method in (first, second))
    assert one == other
    assert constants(first) == (0.9, 1 - 0.9, 0.999, 1 - 0.999, 1e-8)
    assert constants(second) == (0.8, 1 - 0.8, 0.999, 1 - 0.999, 1e-3)


@pytest.mark.parametrize(("dtype", "real"), [("bfloat16", "float32"), ("float64", "float64"), ("complex64", "float32")])
def test_scalars_have_the_real_dtype_that_is_computed_in(dtype: str, real: str) -> None:
    line = line_of(AdaMod(), dtype, decay=True)
    text = source(line, dtype, dtype)
    assert line.scalars[:3] == ("lr", "decay", "c0") and line.scalars[-1] == "k6"
    assert text.inputs.split(", ")[len(line.arrays) :] == [f"{real} {name}" for name in line.scalars]


def test_both_zeros_are_constants() -> None:
    text = source(line_of(Signed(), "float32"), "float32", "float32")
    assert list(map(repr, constants(Signed()))) == ["0.0", "-0.0"]
    assert "out_slot_0 = float(k1);" in text.operation


def test_slots_may_trade_places_in_one_array() -> None:
    """All is read before anything is written: outputs may be the inputs' own arrays."""
    text = source(line_of(Everything(), "float32"), "float32", "float32")
    statements = text.operation.splitlines()
    last_read = max(i for i, each in enumerate(statements) if "in_" in each)
    first_write = min(i for i, each in enumerate(statements) if each.startswith("out_"))
    assert last_read < first_write
    assert statements[-2:] == ["out_slot_0 = float(x_slot_1);", "out_slot_1 = float(x_slot_0);"]


def test_minimum_passes_nan_on() -> None:
    text = source(line_of(AdaMod(), "float32"), "float32", "float32")
    assert "fmin" not in text.operation
    assert re.search(r"= (x\d+) < (x\d+) \|\| \1 != \1 \? \1 : \2;", text.operation)


def test_complex_functions_are_left_to_the_rule_itself() -> None:
    assert all(can_be_lowered(case.line) for case in BUILT_IN)
    assert can_be_lowered(line_of(Everything(), "float32"))
    assert not can_be_lowered(line_of(Everything(), "complex64"))
