"""A training that was killed and resumed ends with the bits of one that was not."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from tests.hosts import train

ROOT = Path(__file__).parents[2]


def run(host: str, folder: Path, *rest: str) -> int:
    """Run a training in a process of its own; returns its exit status."""
    command = [sys.executable, "-m", "tests.hosts.train", host, str(folder), *rest]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode in (0, -signal.SIGKILL), done.stderr
    return done.returncode


@pytest.mark.parametrize("host", train.HOSTS)
def test_a_resumed_training_has_the_same_bits(host: str, tmp_path: Path) -> None:
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    for folder in (whole, killed):
        folder.mkdir()
    assert run(host, whole) == 0
    assert run(host, killed, "12") == -signal.SIGKILL
    assert not (killed / "weights.pt").exists()
    assert run(host, killed) == 0
    weights = [torch.load(folder / "weights.pt") for folder in (whole, killed)]
    begun = train.Network().state_dict()
    for name, x in weights[0].items():
        assert torch.equal(x, weights[1][name]), name
        assert not torch.equal(x, begun[name]), name
