"""What docs/howto draws and prints of the digits, which need scikit-learn and matplotlib."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.blocks import ROOT
from tests.test_howto import table


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(str(ROOT / "docs" / "howto"))
    yield importlib.import_module
    for name in ("beta3", "pictures"):
        sys.modules.pop(name, None)


def numbers(row: str) -> list[float]:
    return [float(cell.strip(" *").replace(",", "")) for cell in row.strip("|").split("|")]


def test_the_short_runs_on_digits(script: Any) -> None:
    beta3 = script("beta3")
    for found, shown in zip(beta3.rows(beta3.digits(), (100, 400)), table("digits"), strict=False):
        # another BLAS rounds other sums: an image or three of the 360 may be read otherwise
        assert numbers(found) == pytest.approx(numbers(shown), abs=1)


def test_pictures_are_drawn(script: Any, tmp_path: Path) -> None:
    script("pictures").main(["--folder", str(tmp_path), "--steps", "30"])
    drawn = {path.name: path.stat().st_size for path in tmp_path.iterdir()}
    assert set(drawn) == {path.name for path in (ROOT / "docs" / "howto").glob("*.png")}
    assert min(drawn.values()) > 10_000
