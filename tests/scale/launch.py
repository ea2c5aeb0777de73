"""Processes on this machine that find one another on loopback, each of which prints what its cases came to."""

from __future__ import annotations

import contextlib
import json
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[2]


@contextlib.contextmanager
def processes(module: str, world: int, *arguments: str) -> Iterator[list[subprocess.Popen[str]]]:
    """Start ``python -m MODULE RANK WORLD PORT ...`` for each rank; end those that still run."""
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        port = str(server.getsockname()[1])
    command, pipe = [sys.executable, "-W", "error", "-m", module], subprocess.PIPE
    started = [
        subprocess.Popen(
            [*command, str(rank), str(world), port, *arguments], cwd=ROOT, stdout=pipe, stderr=pipe, text=True
        )
        for rank in range(world)
    ]
    try:
        yield started
    finally:
        for process in started:
            process.kill()
            process.communicate()


def results(module: str, world: int, seconds: float, *arguments: str) -> list[dict[str, str]]:
    """Return the error of each case, or nothing, of each process."""
    with processes(module, world, *arguments) as started:
        printed = [process.communicate(timeout=seconds) for process in started]
    for out, errors in printed:
        assert out, errors
    return [json.loads(out.splitlines()[-1]) for out, _ in printed]
