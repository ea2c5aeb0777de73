"""The table of registers: a row a method, a column a dtype, in it a number an architecture."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from tests.cuda.cases import BYTES, METHODS
from tests.cuda.ptx import Kernel


def complete(kernels: Mapping[str, Kernel]) -> bool:
    """Whether all that the table shows is there."""
    return {_name(label, dtype) for label in METHODS for dtype in BYTES} <= set(kernels)


def _name(label: str, dtype: str) -> str:
    return f"{label}_{dtype}_decay".replace("-", "_")


def lines(kernels: Mapping[int, Mapping[str, Kernel]]) -> Iterator[str]:
    """The table, a line at a time."""
    width, across = max(map(len, METHODS)), 3 * len(kernels) - 1
    architectures = " ".join(map(str, kernels))
    yield f"registers a thread, with weight decay, for sm_ {architectures}"
    yield " " * width + "".join(f"   {dtype:>{across}}" for dtype in BYTES)
    for label in METHODS:
        cells = [
            " ".join(f"{by_name[_name(label, dtype)].registers:2}" for by_name in kernels.values()) for dtype in BYTES
        ]
        yield f"{label:{width}}" + "".join(f"   {cell:>{across}}" for cell in cells)
