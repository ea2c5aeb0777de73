"""Every mistake of mutants.py, planted in a copy of the checkout, is seen by its check; without it, all checks pass."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.mutants.mutants import MUTANTS
from tests.mutation import Check, Mutant, assert_passes, assert_seen, checks_of, each_of, name_of


@pytest.mark.parametrize("check", checks_of(MUTANTS), ids=lambda check: " ".join((check.file, *check.options)))
def test_the_checks_pass_without_a_mistake(tmp_path: Path, check: Check) -> None:
    assert_passes(check, tmp_path)


@pytest.mark.parametrize(("file", "mutant"), each_of(MUTANTS), ids=name_of)
def test_the_mistake_is_seen(tmp_path: Path, file: str, mutant: Mutant) -> None:
    assert_seen(file, mutant, tmp_path)
