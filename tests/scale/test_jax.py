"""JAX's arrays on a mesh of 8 devices, of one process and of two: each case of ``tests.scale.jax``."""

from __future__ import annotations

import functools
import subprocess
import sys
from pathlib import Path

import pytest

from tests.scale.jax.names import CASES
from tests.scale.launch import ROOT, assert_passed, outcomes, started

SECONDS = 400
"""Until processes that wait for one another are ended."""


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(tmp_path_factory.mktemp("jax"))


@functools.cache
def taken(world: int, folder: str) -> list[dict[str, str]]:
    """Return what the cases came to in each process; one goes on with what two have saved."""
    if world == 1:
        taken(2, folder)
    return outcomes(world, "tests.scale.jax.ranks", folder, seconds=SECONDS)


@pytest.mark.parametrize("world", [2, 1])
@pytest.mark.parametrize("name", [name for _, name in CASES])
def test_meshes(name: str, world: int, folder: str) -> None:
    assert_passed(name, taken(world, folder))


def test_one_process_of_two_is_killed(tmp_path: Path) -> None:
    """The other ends, by an error of JAX's, in bounded time; what was saved last goes on in one process."""
    with started(2, "tests.scale.jax.killed", str(tmp_path)) as (first, second):
        assert second.wait(timeout=120) < 0
        _, errors = first.communicate(timeout=120)  # JAX's heartbeats stop after 10 seconds
    assert first.returncode != 0 and "adamod_array" not in errors.splitlines()[-1], errors
    command = [sys.executable, "-W", "error", "-m", "tests.scale.jax.go_on", str(tmp_path)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
