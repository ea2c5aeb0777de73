"""Processes that share a port on this machine, started and ended."""

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
def started(world: int, module: str, *arguments: str) -> Iterator[list[subprocess.Popen[str]]]:
    """Give the processes ``python -m MODULE RANK WORLD PORT *arguments`` of all ranks, none of which outlives it."""
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        port = str(server.getsockname()[1])
    command, pipe = [sys.executable, "-W", "error", "-m", module], subprocess.PIPE
    with contextlib.ExitStack() as stack:
        yield [
            stack.enter_context(
                _ended(
                    subprocess.Popen(
                        [*command, str(rank), str(world), port, *arguments],
                        cwd=ROOT,
                        stdout=pipe,
                        stderr=pipe,
                        text=True,
                    )
                )
            )
            for rank in range(world)
        ]


@contextlib.contextmanager
def _ended(process: subprocess.Popen[str]) -> Iterator[subprocess.Popen[str]]:
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def printed(world: int, module: str, *arguments: str, seconds: float = 240) -> list[str]:
    """Return what each process prints; fail with its errors where it does not end well in that time."""
    with started(world, module, *arguments) as processes:
        results = [process.communicate(timeout=seconds) for process in processes]
        for process, (_, errors) in zip(processes, results, strict=True):
            assert process.returncode == 0, errors
    return [text for text, _ in results]


def outcomes(world: int, module: str, *arguments: str, seconds: float = 240) -> list[dict[str, str]]:
    """Return the error of each case, or nothing, in each process."""
    return [json.loads(text.splitlines()[-1]) for text in printed(world, module, *arguments, seconds=seconds)]


def assert_passed(name: str, processes: list[dict[str, str]]) -> None:
    """Fail with the errors of a case, or where a process did not come to it."""
    errors = [found.get(name, "not reached") for found in processes]
    assert not any(errors), "\n".join(errors)
