"""The table of docs/howto/method_and_beta3.md is what docs/howto/beta3.py prints."""

from __future__ import annotations

import runpy
from pathlib import Path

import pytest

from tests.blocks import ROOT

pytestmark = pytest.mark.only("numpy")

FOLDER = ROOT / "docs" / "howto"
beta3 = runpy.run_path(str(FOLDER / "beta3.py"))


def table(name: str, page: Path = FOLDER / "method_and_beta3.md") -> list[str]:
    """The lines of the page's table of a problem, in the order in which the script has them."""
    rows = [line for line in page.read_text(encoding="utf-8").splitlines() if line.startswith(("| 1", "| 4"))]
    rows = [row for row in rows if row.count("|") == 7]
    size = len(beta3["LENGTHS"])
    assert len(rows) == size * len(beta3["PROBLEMS"])
    first = size * list(beta3["PROBLEMS"]).index(name)
    return rows[first : first + size]


@pytest.mark.parametrize("name", ["line", "image"])
def test_the_cheap_rows_are_what_the_script_prints(name: str) -> None:
    """Of runs up to 400 steps, in float64: the digits that are shown are far above rounding."""
    assert beta3["rows"](beta3["PROBLEMS"][name](), (100, 400)) == table(name)[:2]


@pytest.mark.parametrize("name", ["line", "image", "digits"])
def test_a_memory_of_a_tenth_is_as_good_as_adam(name: str) -> None:
    """What the page says of its bold numbers."""
    near = {"line": 0.03, "image": 1.0, "digits": 1.0}[name]
    found = [[cell.strip() for cell in row.strip("|").split("|")] for row in table(name)]
    bold = [(float(adam), float(cell.strip("*"))) for _, adam, *cells in found for cell in cells if "*" in cell]
    assert len(bold) == 7
    assert all(abs(ours - adam) <= near for adam, ours in bold)
