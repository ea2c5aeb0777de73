"""What a contributor reads whose Python is too old: a sentence."""

from __future__ import annotations

import ast
import runpy
import sys
from collections import namedtuple

import pytest

from tests.blocks import ROOT

pytestmark = pytest.mark.only("numpy")
NOXFILE = ROOT / "noxfile.py"


def test_older_python_is_told_so(monkeypatch: pytest.MonkeyPatch) -> None:
    """Before anything is imported that it lacks, in a file that it can read."""
    ast.parse(NOXFILE.read_text(encoding="utf-8"), feature_version=(3, 9))
    version = namedtuple("version", "major minor micro")
    for minor in (9, 10):
        monkeypatch.setattr(sys, "version_info", version(3, minor, 1))
        monkeypatch.setattr(sys, "version", f"3.{minor}.1 (main)")
        for missing in ("tomllib", "nox"):
            monkeypatch.setitem(sys.modules, missing, None)  # importing it raises
        with pytest.raises(
            SystemExit, match=rf"^adamod_array needs Python 3\.11 or later, .* 3\.{minor}\.1: make \.venv anew"
        ):
            runpy.run_path(str(NOXFILE))
