"""These tests are of the tool: pytest -p cupy_on_cpu backends/cupy_on_cpu/tests."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent.parent

Run = Callable[..., str]


@pytest.fixture
def run() -> Run:
    """What a program prints in a process of its own, with these settings; or the error that ends it."""

    def printed(program: str, **settings: str) -> str:
        paths = [str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(paths), **settings}
        command = [sys.executable, "-W", "error", "-c", program]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
        return done.stdout if done.returncode == 0 else done.stderr.strip().splitlines()[-1]

    return printed
