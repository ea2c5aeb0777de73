"""CuPy's kernels as nvcc compiles them: IEEE's operations and no others, each array moved once.

Neither CuPy nor a GPU is needed, so this runs beside NumPy's tests.
"""

from __future__ import annotations

import dataclasses
import re
import shutil
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from adamod_array import Adam, AdaMod, Method
from adamod_array._kernels.cupy import Source, source, takes
from adamod_array._kernels.trace import Line, trace
from adamod_array._namespace import COMPUTE_DTYPE
from tests.cuda_source import Compiled, compile_all
from tests.trees import METHODS

pytestmark = pytest.mark.only("numpy")  # once is enough

SIZE = {"float16": 2, "bfloat16": 2, "float32": 4, "float64": 8, "complex64": 8, "complex128": 16}


@dataclasses.dataclass(frozen=True)
class Everything(Method):
    """All that a rule may use and the methods of the package do not."""

    slots = ("a", "b")

    def rule(self, xp: Any, lr: Any, c: Any, g: Any, p: Any, *slots: Any) -> tuple[Any, ...]:
        a, b = slots
        step = xp.maximum(xp.minimum(xp.exp(-xp.abs(g)), a), b)
        keep = xp.where(g <= 0, a, xp.where(g >= 1, b, xp.where(p != a, 1.0, -0.0)))
        return p - lr * step * keep / 3.0, b, a


@dataclasses.dataclass(frozen=True)
class Signed(Method):
    """The two zeros among the constants."""

    slots = ("a",)

    def rule(self, xp: Any, lr: Any, c: Any, g: Any, p: Any, *slots: Any) -> tuple[Any, ...]:
        return p - lr * xp.where(g > 0, 0.0, -0.0), -0.0


def line_of(method: Method, dtype: str, decay: bool = False) -> Line:
    return trace(method, decay=decay, complex_parameter=dtype.startswith("complex"))


@dataclasses.dataclass(frozen=True)
class Case:
    """A kernel that a built-in method needs."""

    method: str
    dtype: str
    decay: bool

    @property
    def name(self) -> str:
        return f"{self.method}_{self.dtype}{'_decay' * self.decay}".replace("-", "_")

    @property
    def line(self) -> Line:
        return line_of(METHODS[self.method], self.dtype, self.decay)


CASES = [Case(method, dtype, decay) for method in METHODS for dtype in SIZE for decay in (False, True)]
REAL_CASES = [case for case in CASES if not case.dtype.startswith("complex")]
MIXED = [("float32", "float64"), ("bfloat16", "float32"), ("complex64", "float32"), ("complex64", "complex128")]
"""Dtypes of parameters and of gradients that differ."""

cases = pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
real_cases = pytest.mark.parametrize("case", REAL_CASES, ids=lambda case: case.name)


def sources() -> dict[str, Source]:
    """Every kernel to compile, by its name."""
    found = {case.name: source(case.line, case.dtype, case.dtype)[0] for case in CASES}
    for dtype in ("float16", "float32", "float64"):
        found[f"everything_{dtype}"] = source(line_of(Everything(), dtype), dtype, dtype)[0]
    for dtype, gradient in MIXED:
        found[f"mixed_{dtype}_{gradient}"] = source(line_of(AdaMod(), dtype), dtype, gradient)[0]
    return found


@pytest.fixture(scope="module")
def nvcc() -> str:
    path = shutil.which("nvcc")
    if path is None:
        pytest.skip("nvcc, CUDA's compiler, is not on this machine")
    return path


@pytest.fixture(scope="module")
def compiled(nvcc: str, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Compiled]:
    return compile_all(nvcc, sources(), tmp_path_factory.mktemp("cuda"), "-fmad=false")


ARITHMETIC = "add|sub|mul|div|sqrt|neg|abs|fma|mad|rcp|rsqrt|ex2|lg2|min|max"


def arithmetic(kernel: Compiled) -> list[str]:
    """The instructions that compute with floating-point numbers."""
    pattern = rf"(?:{ARITHMETIC})\b.*\.(?:f16|bf16|f32|f64)(?:x2)?"
    return [each for each in kernel.instructions if re.fullmatch(pattern, each)]


@cases
def test_every_operation_is_rounded_once_to_nearest(compiled: dict[str, Compiled], case: Case) -> None:
    kernel = compiled[case.name]
    precise = "f64" if COMPUTE_DTYPE[case.dtype] in ("float64", "complex128") else "ftz.f32"
    allowed = {f"{name}.rn.{precise}" for name in ("add", "sub", "mul", "div", "sqrt")}
    assert set(arithmetic(kernel)) <= allowed
    assert not re.search(r"fma|approx|\.full\b", kernel.ptx)


@real_cases
def test_operations_are_those_of_the_line(compiled: dict[str, Compiled], case: Case) -> None:
    names = ("add", "sub", "mul", "div", "sqrt")
    expected = Counter(x.name for x in case.line.operations if x.name in names)
    assert Counter(each.partition(".")[0] for each in arithmetic(compiled[case.name])) == expected


@cases
def test_every_array_is_read_once_and_written_once(compiled: dict[str, Compiled], case: Case) -> None:
    kernel, slots = compiled[case.name], [kind for _, kind in case.line.arrays[2:]]
    compute = SIZE[COMPUTE_DTYPE[case.dtype]]
    part = compute // 2 if case.dtype.startswith("complex") else compute
    kept = [compute if kind == "complex" else part for kind in slots]
    assert sorted(kernel.traffic("ld")) == sorted([SIZE[case.dtype]] * 2 + kept)
    assert sorted(kernel.traffic("st")) == sorted([SIZE[case.dtype], *kept])
    assert kernel.spilled == 0


@pytest.mark.parametrize(("method", "reads", "writes"), [("adam", 4, 3), ("adamod", 5, 4)])
def test_adam_moves_seven_arrays_and_adamod_nine(
    compiled: dict[str, Compiled], method: str, reads: int, writes: int
) -> None:
    kernel = compiled[f"{method}_float32"]
    assert kernel.traffic("ld") == [4] * reads
    assert kernel.traffic("st") == [4] * writes


@pytest.mark.parametrize(("dtype", "gradient"), MIXED)
def test_gradients_of_another_dtype_are_read_as_they_are(
    compiled: dict[str, Compiled], dtype: str, gradient: str
) -> None:
    kernel = compiled[f"mixed_{dtype}_{gradient}"]
    slots = {"float32": [4] * 3, "bfloat16": [4] * 3, "complex64": [8, 4, 4]}[dtype]
    assert sorted(kernel.traffic("ld")) == sorted([SIZE[gradient], SIZE[dtype], *slots])


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
def test_all_that_a_rule_may_use_compiles(compiled: dict[str, Compiled], dtype: str) -> None:
    kernel = compiled[f"everything_{dtype}"]
    slot = SIZE[COMPUTE_DTYPE[dtype]]
    assert sorted(kernel.traffic("ld")) == sorted([SIZE[dtype]] * 2 + [slot] * 2)


def test_contraction_would_be_seen(nvcc: str, tmp_path: Path) -> None:
    """The checks above can fail: this is what ``--fmad=false`` prevents."""
    text, _ = source(line_of(AdaMod(), "float32"), "float32", "float32")
    kernel = compile_all(nvcc, {"adamod": text}, tmp_path)["adamod"]
    assert any(each.startswith("fma.rn") for each in arithmetic(kernel))
    kernel = compile_all(nvcc, {"adamod": text}, tmp_path, "-prec-div=false", "-prec-sqrt=false")["adamod"]
    assert any(".full" in each or ".approx" in each for each in arithmetic(kernel))


# the text itself


def test_methods_that_differ_in_hyperparameters_share_a_kernel() -> None:
    first, constants = source(line_of(Adam(), "float32"), "float32", "float32")
    second, others = source(line_of(Adam(beta1=0.8, eps=1e-3), "float32"), "float32", "float32")
    assert first == second
    assert constants == (0.9, 1 - 0.9, 0.999, 1 - 0.999, 1e-8)
    assert others == (0.8, 1 - 0.8, 0.999, 1 - 0.999, 1e-3)


@pytest.mark.parametrize(("dtype", "real"), [("bfloat16", "float32"), ("float64", "float64"), ("complex64", "float32")])
def test_scalars_have_the_real_dtype_that_is_computed_in(dtype: str, real: str) -> None:
    line = line_of(AdaMod(), dtype, decay=True)
    text, constants = source(line, dtype, dtype)
    names = [*line.scalars, *(f"k{i}" for i in range(len(constants)))]
    assert names[:3] == ["lr", "decay", "c0"] and names[-1] == f"k{len(constants) - 1}"
    assert text.inputs.split(", ")[len(line.arrays) :] == [f"{real} {name}" for name in names]


def test_both_zeros_are_constants() -> None:
    text, constants = source(line_of(Signed(), "float32"), "float32", "float32")
    assert list(map(repr, constants)) == ["0.0", "-0.0"]
    assert "out_slot_a = float(k1);" in text.operation


def test_slots_may_trade_places_in_one_array() -> None:
    """All is read before anything is written: outputs may be the inputs' own arrays."""
    text, _ = source(line_of(Everything(), "float32"), "float32", "float32")
    statements = text.operation.splitlines()
    last_read = max(i for i, each in enumerate(statements) if "in_" in each)
    first_write = min(i for i, each in enumerate(statements) if each.startswith("out_"))
    assert last_read < first_write
    assert statements[-2:] == ["out_slot_a = float(x_slot_b);", "out_slot_b = float(x_slot_a);"]


def test_minimum_passes_nan_on() -> None:
    text, _ = source(line_of(AdaMod(), "float32"), "float32", "float32")
    assert "fmin" not in text.operation
    assert re.search(r"= (x\d+) < (x\d+) \|\| \1 != \1 \? \1 : \2;", text.operation)


def test_complex_functions_are_left_to_the_rule_itself() -> None:
    assert all(takes(case.line) for case in CASES)
    assert takes(line_of(Everything(), "float32"))
    assert not takes(line_of(Everything(), "complex64"))
