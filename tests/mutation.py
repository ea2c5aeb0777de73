"""Mutation testing: a mistake is planted in a copy of the checkout, and the tests that concern it must fail."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).parents[1]
PATIENCE = 300
"""Seconds; a mistake may make a step wait for ever."""


class Check(NamedTuple):
    """Tests of a file, as pytest's ``-k`` selects them."""

    file: str
    select: str
    options: tuple[str, ...] = ()


@dataclass(frozen=True)
class Mutant:
    """One mistake: a text that occurs once in its file, and what stands there instead."""

    mistake: str
    old: str
    new: str
    seen_by: Check


Mutants = Mapping[str, Sequence[Mutant]]
"""Mistakes by the file that they are planted in."""


def each_of(mutants: Mutants) -> list[tuple[str, Mutant]]:
    """Return every mistake with its file."""
    return [(file, mutant) for file, these in mutants.items() for mutant in these]


def as_tests(mutants: Mutants) -> tuple[Callable[..., None], Callable[..., None]]:
    """Return two tests: the checks pass without a mistake, and each mistake is seen by its own."""

    @pytest.mark.parametrize("check", checks_of(mutants), ids=lambda check: " ".join((check.file, *check.options)))
    def passes(tmp_path: Path, check: Check) -> None:
        assert_passes(check, tmp_path)

    @pytest.mark.parametrize(
        ("file", "mutant"), each_of(mutants), ids=lambda x: x.mistake if isinstance(x, Mutant) else Path(x).stem
    )
    def is_seen(tmp_path: Path, file: str, mutant: Mutant) -> None:
        assert_seen(file, mutant, tmp_path)

    return passes, is_seen


def checks_of(mutants: Mutants) -> list[Check]:
    """Return the checks of all mistakes; those of one file and the same options as one."""
    selected: dict[tuple[str, tuple[str, ...]], dict[str, None]] = {}
    for _, mutant in each_of(mutants):
        file, select, options = mutant.seen_by
        selected.setdefault((file, options), {})[f"({select})"] = None
    return [Check(file, " or ".join(selects), options) for (file, options), selects in selected.items()]


def assert_passes(check: Check, folder: Path) -> None:
    """Some of the selected tests pass on an unchanged copy, and no other word is said of any."""
    line = _outcome(check, _copied(folder))
    assert re.fullmatch(r"\d+ passed(, \d+ deselected)? in .*", line), line


def assert_seen(file: str, mutant: Mutant, folder: Path) -> None:
    """The selected tests fail on a copy with the mistake; that it cannot be imported does not count."""
    planted = _copied(folder) / file
    text = planted.read_text(encoding="utf-8")
    assert text.count(mutant.old) == 1, f"{text.count(mutant.old)} times in {file}: {mutant.old}"
    planted.write_text(text.replace(mutant.old, mutant.new), encoding="utf-8")
    line = _outcome(mutant.seen_by, folder)
    assert re.match(r"\d+ failed|killed", line) and "error" not in line, line


def _copied(folder: Path) -> Path:
    """Copy what the checks need of the checkout."""
    for name in ("adamod_array", "tests", "backends"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", folder)
    return folder


def _outcome(check: Check, copy: Path) -> str:
    """Return pytest's last line: what came of the selected tests on the copy's package."""
    arguments = ("-x", "-p", "no:cacheprovider", *check.options, check.file, "-k", check.select)
    variables = {
        "PYTHONPATH": os.pathsep.join((str(copy), str(copy / "backends"))),
        "CUPY_ON_CPU_DEVICES": "2",
        "ADAMOD_ARRAY_CACHE": str(copy.parent / "kernels"),  # of all copies; their names tell sources apart
    }
    try:
        done = subprocess.run(
            [sys.executable, "-m", "pytest", *arguments],
            cwd=copy,
            env={**os.environ, **variables},
            capture_output=True,
            text=True,
            check=False,
            timeout=PATIENCE,
        )
    except subprocess.TimeoutExpired:
        return f"killed after {PATIENCE} s"
    if done.returncode < 0:
        return f"killed by signal {-done.returncode}"
    return done.stdout.rstrip().rpartition("\n")[2].strip("= ")
