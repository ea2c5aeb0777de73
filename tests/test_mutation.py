"""The mistakes that are planted in copies of the code can be planted: their places are there."""

from __future__ import annotations

from pathlib import Path

import pytest

import tests.cuda.mutants
import tests.mutants.mutants
from tests.backend import Backend
from tests.mutation import ROOT, each_of


@pytest.mark.only("numpy")
def test_every_mistake_has_its_place(backend: Backend) -> None:
    for mutants in (tests.cuda.mutants.MUTANTS, tests.mutants.mutants.MUTANTS):
        for file, mutant in each_of(mutants):
            text = Path(ROOT, file).read_text(encoding="utf-8")
            assert text.count(mutant.old) == 1, f"{file}: {mutant.mistake}"
