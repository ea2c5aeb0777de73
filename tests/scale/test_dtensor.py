"""DTensors over 2 and 4 processes: each case of ``tests.scale.ranks`` in all of them."""

from __future__ import annotations

import functools
import json
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from tests.scale.names import CASES

ROOT = Path(__file__).parents[2]
SECONDS = 240
"""Until processes that wait for one another are ended."""


@functools.cache
def taken(world: int) -> list[dict[str, str]]:
    """Return what the cases came to in each process."""
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        port = str(server.getsockname()[1])
    command = [sys.executable, "-W", "error", "-m", "tests.scale.ranks"]
    pipe = subprocess.PIPE
    processes = [
        subprocess.Popen([*command, str(rank), str(world), port], cwd=ROOT, stdout=pipe, stderr=pipe, text=True)
        for rank in range(world)
    ]
    try:
        results = [process.communicate(timeout=SECONDS) for process in processes]
    finally:
        for process in processes:
            process.kill()
            process.wait()
    for printed, errors in results:
        assert printed, errors
    return [json.loads(printed.splitlines()[-1]) for printed, _ in results]


@pytest.mark.parametrize("world", [2, 4])
@pytest.mark.parametrize("name", [name for _, name in CASES])
def test_dtensors(name: str, world: int) -> None:
    found = taken(world)
    errors = [each.get(name, "not reached") for each in found]
    assert not any(errors), "\n".join(errors)
