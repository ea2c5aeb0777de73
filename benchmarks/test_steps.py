"""One contender at a time, for a profile or a comparison with an earlier commit: ``pytest benchmarks``.

Ratios between contenders are not to be read off here: they drift with the machine. ``python -m benchmarks``
times them in turn.
"""

from __future__ import annotations

from typing import Any

import pytest

from benchmarks.contender import Contender, start
from benchmarks.contenders import ALL
from benchmarks.problem import Problem

PROBLEMS = [Problem("1x1000"), Problem("100x1000"), Problem("1x1000000")]


@pytest.mark.filterwarnings("ignore:This overload of add_ is deprecated")  # the authors' code, of 2019
@pytest.mark.parametrize("contender", [pytest.param(x, id=x.key) for x in ALL])
@pytest.mark.parametrize("problem", PROBLEMS, ids=str)
def test_step(benchmark: Any, contender: Contender, problem: Problem) -> None:
    """Right after the warm-up, then timed."""
    benchmark.group = f"{contender.method}, {problem}"
    run = start(contender, problem)
    benchmark.pedantic(run.step, setup=lambda: ((run.backward(),), {}), rounds=200, warmup_rounds=1)
