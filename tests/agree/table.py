"""Distances in ulps, gathered test by test and printed as one table."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from tests.backend import describe
from tests.oracle import METHODS

ROWS = [f"{name} {dtype}" for name in METHODS for dtype in describe("numpy")["dtypes"]]
TITLE = "largest distances in ulps, from 50 digits | from NumPy, of steps from a state of zeros"


@dataclass
class Table:
    """A row a method and dtype, a column a backend, device and engine."""

    cells: dict[str, dict[str, tuple[float, float]]] = field(default_factory=dict)

    def add(self, row: str, column: str, exact: float, numpy: float) -> None:
        """The distances from the oracle and from NumPy's arrays."""
        self.cells.setdefault(row, {})[column] = (exact, numpy)

    def lines(self) -> Iterator[str]:
        """The table, a line at a time, in one order wherever the tests ran."""
        rows = {name: self.cells[name] for name in sorted(self.cells, key=ROWS.index)}
        columns = list(dict.fromkeys(column for row in rows.values() for column in row))
        width = max(map(len, rows))
        widths = [max(len(column), 10) for column in columns]
        yield " " * width + "".join(f"  {c:>{w}}" for c, w in zip(columns, widths, strict=True))
        for name, row in rows.items():
            texts = [f"{row[c][0]:.2f} | {row[c][1]:.0f}" if c in row else "-" for c in columns]
            yield f"{name:{width}}" + "".join(f"  {text:>{w}}" for text, w in zip(texts, widths, strict=True))
        worst = [max(row[c][0] for row in rows.values() if c in row) for c in columns]
        yield f"{'worst':{width}}" + "".join(f"  {f'{x:.2f}':>{w}}" for x, w in zip(worst, widths, strict=True))
