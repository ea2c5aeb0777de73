"""Kernels are captured once, and compiled once for each architecture; the table of their registers ends the report."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from tests.cuda.cases import Case
from tests.cuda.ptx import Kernel
from tests.cuda.registers import complete, lines

ARCHITECTURES = (75, 80, 90, 100, 120)
"""From Turing, the oldest for which CUDA 13 compiles, to Blackwell: ``sm_75``, ``sm_80``, ..."""

ROOT = Path(__file__).parents[2]
Kernels = Mapping[str, Kernel]
_KERNELS = pytest.StashKey[dict[int, Kernels]]()


def pytest_configure(config: pytest.Config) -> None:
    config.stash[_KERNELS] = {}


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    kernels = config.stash[_KERNELS]
    if set(kernels) == set(ARCHITECTURES) and all(map(complete, kernels.values())):
        terminalreporter.section("registers")
        for line in lines(kernels):
            terminalreporter.write_line(line)


@pytest.fixture(scope="session")
def captured(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Any]]:
    """Source and options of the kernels that the selected tests look at, as CuPy on the CPU was given them."""
    file = tmp_path_factory.mktemp("cuda") / "kernels.json"
    tests = [item for item in request.session.items if isinstance(item, pytest.Function)]
    cases = [item.callspec.params.get("case") for item in tests if hasattr(item, "callspec")]
    names = dict.fromkeys(case.name for case in cases if isinstance(case, Case))
    command = [sys.executable, "-m", "tests.cuda.capture", str(file), *names]
    subprocess.run(command, check=True, cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT / "backends")})
    found: dict[str, dict[str, Any]] = json.loads(file.read_text(encoding="utf-8"))
    return found


@pytest.fixture(scope="session")
def compiling(request: pytest.FixtureRequest, captured: dict[str, dict[str, Any]]) -> Iterator[dict[int, Future[Any]]]:
    """Kernels for the architectures of the selected tests, on their way: one on each of two cores takes a minute."""
    from tests.cuda.nvrtc import compile_all

    tests = [item for item in request.session.items if isinstance(item, pytest.Function) and hasattr(item, "callspec")]
    selected = {item.callspec.params.get("kernels") for item in tests}
    with ThreadPoolExecutor(2) as pool:
        yield {arch: pool.submit(compile_all, captured, arch) for arch in ARCHITECTURES if arch in selected}


@pytest.fixture(scope="session", params=ARCHITECTURES, ids=lambda number: f"sm_{number}")
def kernels(request: pytest.FixtureRequest, compiling: dict[int, Future[Any]]) -> Kernels:
    """Every case's kernel, compiled for one architecture."""
    found: Kernels = compiling[request.param].result()
    request.config.stash[_KERNELS][request.param] = found
    return found
