"""The kernels as a GPU would run them: IEEE's operations and no others, each array moved once, nothing spilled.

The kernel of all leaves has two loops: over packs of 16 bytes, and over single elements of what is left.
"""

from __future__ import annotations

import re
from collections import Counter
from typing import Any

import pytest

from tests.cuda.cases import BUILT_IN, CASES, GAPS, OTHERS, Case
from tests.cuda.conftest import Kernels
from tests.cuda.ptx import Kernel, traffic

ROUNDED = ("add", "sub", "mul", "div", "sqrt")
EXACT = ("neg", "abs", "selp", "setp", "mov", "ld", "st", "cvt")
"""What rounds nothing; a conversion rounds where storage is narrower, to nearest."""
FLOAT32 = [case for case in BUILT_IN if case.dtype == "float32" and not case.decay]
REAL = [case for case in [*BUILT_IN, *GAPS] if not case.dtype.startswith("complex")]
OF_LEAVES = [*BUILT_IN, *OTHERS]

cases = pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
built_in = pytest.mark.parametrize("case", [*BUILT_IN, *GAPS], ids=lambda case: case.name)
of_leaves = pytest.mark.parametrize("case", OF_LEAVES, ids=lambda case: case.name)
of_a_leaf = pytest.mark.parametrize("case", GAPS, ids=lambda case: case.name)
real = pytest.mark.parametrize("case", REAL, ids=lambda case: case.name)


def on_numbers(way: list[str]) -> list[str]:
    """The instructions that have to do with floating-point numbers."""
    return [each for each in way if re.search(r"\.(?:f16|bf16|f32|f64)(?:x2)?\b", each)]


def steps(kernel: Kernel) -> list[list[str]]:
    """The ways through the kernel on which an element is stepped; the others end behind the last element."""
    return [way for way in kernel.ways if traffic(way, "st")]


@built_in
def test_every_operation_is_rounded_once_to_nearest(kernels: Kernels, case: Case) -> None:
    precise = "f64" if case.compute == "float64" else "ftz.f32"
    allowed = {f"{name}.rn.{precise}" for name in ROUNDED}
    for each in on_numbers(list(kernels[case.name].instructions)):
        name, *modifiers = each.split(".")
        assert each in allowed or name in EXACT
        assert case.compute == "float64" or "f64" not in modifiers
        assert name != "cvt" or modifiers in (["f32", "f16"], ["f32", "bf16"]) or modifiers[0] == "rn"


@real
def test_operations_are_those_of_the_rule(kernels: Kernels, case: Case) -> None:
    """Where a kernel has several ways, since a coefficient decides for all elements, none does more."""
    expected = Counter(x.name for x in case.line.operations if x.name in ROUNDED)
    most = 1 if case.layout == "gaps" else case.width + 1
    found = [
        Counter(name for each in on_numbers(way) if (name := each.partition(".")[0]) in ROUNDED)
        for way in steps(kernels[case.name])
    ]
    assert found and all(each <= _times(expected, most) for each in found)
    decides = any(x.name in ("where", "lt", "le", "gt", "ge") for x in case.line.operations)
    ways = {1} if case.layout == "gaps" else {1, case.width, most}
    assert decides or {*map(_items, found)} == {_items(_times(expected, n)) for n in ways}


def _times(counter: Counter[Any], n: int) -> Counter[Any]:
    return Counter({key: n * count for key, count in counter.items()})


def _items(counter: Counter[Any]) -> frozenset[tuple[Any, int]]:
    return frozenset(counter.items())


@of_a_leaf
def test_every_array_is_read_once_and_written_once(kernels: Kernels, case: Case) -> None:
    ways = steps(kernels[case.name])
    assert ways
    for way in ways:
        assert traffic(way, "ld") == case.reads
        assert traffic(way, "st") == case.writes


@of_leaves
def test_packs_are_moved_by_16_bytes_and_the_rest_one_by_one(kernels: Kernels, case: Case) -> None:
    """Each once, and nothing else but, of many leaves, 8 bytes at a time of the table."""
    ways = steps(kernels[case.name])
    reads, writes = (
        [Counter(), each, _packs(each, case.width), each + _packs(each, case.width)]
        for each in (case.reads, case.writes)
    )
    for way in ways:
        read, written = traffic(way, "ld"), traffic(way, "st")
        assert written in writes[1:]
        rest = read - reads[writes.index(written)]
        assert rest + reads[writes.index(written)] == read
        assert not rest or (case.layout == "many" and {*rest} == {8})
    assert [each in [traffic(way, "st") for way in ways] for each in writes[1:]] == [True] * 3


def _packs(each: Counter[int], width: int) -> Counter[int]:
    """The 16 bytes that packs of so many elements are moved by."""
    return Counter({16: sum(width * size * count for size, count in each.items()) // 16})


@pytest.mark.parametrize(
    ("case", "reads", "writes"),
    [(case, *{"adam": (4, 3), "adamod": (5, 4)}[case.label]) for case in FLOAT32 if case.label in ("adam", "adamod")],
    ids=lambda x: x.name if isinstance(x, Case) else str(x),
)
def test_adam_moves_seven_arrays_and_adamod_nine(kernels: Kernels, case: Case, reads: int, writes: int) -> None:
    moved = [(traffic(way, "ld"), traffic(way, "st")) for way in steps(kernels[case.name])]
    assert ({16: reads}, {16: writes}) in moved
    assert ({4: reads}, {4: writes}) in moved


@cases
def test_everything_is_in_registers(kernels: Kernels, case: Case) -> None:
    kernel = kernels[case.name]
    assert kernel.stack == kernel.spill_stores == kernel.spill_loads == 0
    assert not any(each.startswith(("ld.local", "st.local")) for each in kernel.instructions)


@pytest.mark.parametrize("case", [case for case in FLOAT32 if case.label == "adamod"], ids=lambda case: case.name)
def test_contraction_would_be_seen(captured: dict[str, dict[str, Any]], case: Case) -> None:
    """The checks above can fail: this is what ``--fmad=false`` prevents."""
    from tests.cuda.nvrtc import compile_all

    kernel = captured[case.name]
    contracted = {**kernel, "options": [each for each in kernel["options"] if each != "--fmad=false"]}
    assert len(contracted["options"]) == len(kernel["options"]) - 1
    assert any(each.startswith("fma.rn") for each in compile_all({case.name: contracted}, 90)[case.name].instructions)
