"""Mistakes planted in CuPy's emitter, each in a copy of the checkout: the checks that watch over it must see every one."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
EMITTER = "adamod_array/_kernels/cupy.py"


def compiled(case: str) -> tuple[str, ...]:
    """The checks of test_compile.py, of one kernel for one architecture."""
    return ("tests/cuda/test_compile.py", "-k", f"sm_90 and {case}]")


@dataclass(frozen=True)
class Mutant:
    """One mistake, and which check sees it."""

    mistake: str
    old: str
    new: str
    check: tuple[str, ...]
    """Arguments of pytest."""


MUTANTS = [
    Mutant("multiply-adds contracted", '"--fmad=false"', '"--fmad=true"', compiled("adam_float32")),
    Mutant(
        "approximate quotients and roots",
        '("--fmad=false",)',
        '("--fmad=false", "--use_fast_math")',
        compiled("adam_float32"),
    ),
]
