"""Every mistake of mutants.py, planted in a copy of the checkout, is seen by its check; without it, all checks pass."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.cuda.conftest import ROOT
from tests.cuda.mutants import EMITTER, MUTANTS, Mutant

FILES = {"compile": "tests/cuda/test_compile.py", "steps": "tests/test_cupy.py", "exact": "tests/exact/test_exact.py"}
ON_CPU = ("-p", "cupy_on_cpu", "--backend", "cupy")


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """What these checks need of the checkout."""
    for name in ("adamod_array", "tests", "backends"):
        shutil.copytree(ROOT / name, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    return tmp_path


def outcome(copy: Path, kind: str, select: str) -> str:
    """Pytest's last line: what came of the selected tests on the copy's package."""
    plugin = () if kind == "compile" else ON_CPU
    arguments = (*plugin, "-p", "no:cacheprovider", FILES[kind], "-k", select)
    variables = {"PYTHONPATH": str(copy / "backends"), "CUPY_ON_CPU_DEVICES": "2"}
    command = [sys.executable, "-m", "pytest", *arguments]
    done = subprocess.run(
        command, cwd=copy, env={**os.environ, **variables}, capture_output=True, text=True, check=False
    )
    return done.stdout.rstrip().rpartition("\n")[2].strip("= ")


def passed_alone(line: str) -> bool:
    """Some tests passed, and no other word is said of any but that they were not selected."""
    return re.fullmatch(r"\d+ passed(, \d+ deselected)? in .*", line) is not None


@pytest.mark.parametrize("kind", FILES)
def test_the_checks_pass_without_a_mistake(copy: Path, kind: str) -> None:
    selected = dict.fromkeys(each.seen_by.select for each in MUTANTS if each.seen_by.kind == kind)
    line = outcome(copy, kind, " or ".join(f"({each})" for each in selected))
    assert passed_alone(line), line


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.mistake)
def test_the_mistake_is_seen(copy: Path, mutant: Mutant) -> None:
    emitter = copy / EMITTER
    text = emitter.read_text(encoding="utf-8")
    assert text.count(mutant.old) == 1
    emitter.write_text(text.replace(mutant.old, mutant.new), encoding="utf-8")
    line = outcome(copy, *mutant.seen_by)
    assert re.match(r"\d+ failed", line) and "error" not in line, line
