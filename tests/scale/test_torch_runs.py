"""Runs that torch.distributed.checkpoint saves: loaded by another number of processes; killed."""

from __future__ import annotations

import os
import re
import signal
import time
from pathlib import Path
from typing import Any

import pytest

from tests.scale.launch import printed, started

RUNS = "tests.scale.runs"


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The folder of what two processes saved."""
    folder = str(tmp_path_factory.mktemp("saved"))
    printed(2, RUNS, "save", folder)
    return folder


@pytest.mark.parametrize("world", [1, 4])
def test_what_two_processes_saved_goes_on_in_another_number(world: int, saved: str) -> None:
    """With the bits of a run that was not interrupted, which they look at themselves."""
    printed(world, RUNS, "load", saved)


def resumed(folder: Path) -> tuple[int, Any]:
    """Load the last whole checkpoint into tensors of this process; return the number of steps, and the state."""
    import torch.distributed.checkpoint as dcp

    from adamod_array import adamod_init
    from tests.scale.runs import LR, contents, tree

    last = max(found.parent for found in folder.glob("*/.metadata"))
    fresh = adamod_init(tree(7), lr=LR)
    found = contents(fresh)
    dcp.load(found, checkpoint_id=last)
    return int(last.name) + 1, fresh.replace(**found)


@pytest.mark.filterwarnings("ignore:torch.distributed is disabled:UserWarning")
@pytest.mark.parametrize("victim", [0, 1])
def test_a_process_is_killed(victim: int, tmp_path: Path) -> None:
    """The other ends with PyTorch's error, and what was saved goes on in a single process, to the bit."""
    import optree

    from adamod_array import adamod_init, adamod_step
    from tests.scale.group import SECONDS
    from tests.scale.meshes import assert_same_bits
    from tests.scale.runs import END, LR, tree

    with started(2, RUNS, "train", str(tmp_path)) as processes:
        killed, other = processes[victim], processes[1 - victim]
        assert killed.stdout is not None
        for line in killed.stdout:
            if int(line) == 10:
                break
        os.kill(killed.pid, signal.SIGKILL)
        begun = time.monotonic()
        _, errors = other.communicate(timeout=2 * SECONDS)
        assert time.monotonic() - begun < SECONDS + 10
        assert other.returncode > 0 and re.search(r"Error: .*(gloo|torch\.distributed)", errors), errors
    steps, state = resumed(tmp_path)
    assert steps >= 8 and (state.step, state.skipped) == (steps - 1, 1)
    expected = adamod_init(tree(0), lr=LR)
    for t in range(steps + 2):
        expected = adamod_step(expected, tree(t % END), where=t != 2)
        state = state if t < steps else adamod_step(state, tree(t % END))
    for actual, wanted in zip(*map(optree.tree_leaves, (state, expected)), strict=True):
        if isinstance(wanted, int):
            assert actual == wanted
        else:
            assert_same_bits(actual, wanted, "a leaf")
