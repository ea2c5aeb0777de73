"""Runs on a mesh that are saved, and go on elsewhere: on another mesh, by other processes, after one has died."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import jax
import orbax.checkpoint as ocp
import pytest

from adamod_array import AdaMod, State, adamod_init, step
from adamod_array.checkpoint import load, save
from tests.scale.jax.meshes import assert_state, mesh_of, numbers, placed, shapes
from tests.scale.jax.steps import alone

HALF, STEPS = 5, 10
GRADIENTS = [numbers(t) for t in range(STEPS)]


def shapes_of(layout: str) -> tuple[Any, State]:
    """A mesh, and the state of what will lie on it."""
    mesh = mesh_of(layout)
    return mesh, adamod_init(shapes(layout, mesh), lr=0.1)


def trained(state: State, layout: str, mesh: Any, start: int, stop: int) -> State:
    for grads in GRADIENTS[start:stop]:
        state = step(state, placed(grads, layout, mesh), donate=True)
    return state


def half_way(layout: str) -> State:
    mesh = mesh_of(layout)
    return trained(adamod_init(placed(numbers(100), layout, mesh), lr=0.1), layout, mesh, 0, HALF)


def case_orbax_to_another_mesh(folder: Path) -> None:
    """Saved from one mesh by all processes; gone on with another; two processes' file by one process, too."""
    expected = alone(AdaMod(), GRADIENTS, lr=0.1)
    file = folder / f"by {jax.process_count()}"
    with ocp.StandardCheckpointer() as checkpointer:
        checkpointer.save(file, half_way("2-d"))
        checkpointer.wait_until_finished()
        for layout in ("2-d", "sharded", "replicated"):
            mesh, like = shapes_of(layout)
            state = trained(checkpointer.restore(file, like), layout, mesh, HALF, STEPS)
            assert_state(state, expected, layout, mesh, layout)
        if jax.process_count() == 1:
            mesh, like = shapes_of("sharded")
            state = trained(checkpointer.restore(folder / "by 2", like), "sharded", mesh, HALF, STEPS)
            assert_state(state, expected, "sharded", mesh, "of two processes")


def case_files_of_this_package(folder: Path) -> None:
    """One process saves and loads its shards; where others have some, the error says what to use."""
    state = half_way("2-d")
    if jax.process_count() > 1:
        with pytest.raises(ValueError, match=r"lies with other processes in part .*use orbax"):
            save(state, folder / "never")
        return
    save(state, folder / "run.safetensors")
    expected, mesh = alone(AdaMod(), GRADIENTS, lr=0.1), mesh_of("sharded")
    like = adamod_init(placed(numbers(100), "sharded", mesh), lr=0.1)
    state = trained(load(folder / "run.safetensors", like=like), "sharded", mesh, HALF, STEPS)
    assert_state(state, expected, "sharded", mesh, "another mesh")
