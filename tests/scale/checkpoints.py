"""States of DTensors as values of torch.distributed.checkpoint, which would pickle them in one process."""

from __future__ import annotations

import contextlib
import copy
import dataclasses
import io
import pickle
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed.checkpoint as dcp
from torch.distributed.tensor import DTensor, Replicate, Shard

from adamod_array import adamod_init, adamod_step
from tests.scale.meshes import assert_same_bits, number, spread


@dataclasses.dataclass
class Run:
    """Something of a user's that holds a state."""

    state: Any


@contextlib.contextmanager
def folder() -> Iterator[Path]:
    """Give the same folder in every process: that of the first."""
    with tempfile.TemporaryDirectory() as own:
        names = [own]
        torch.distributed.broadcast_object_list(names)
        yield Path(names[0])
        torch.distributed.barrier()


def state_of(mesh: Any, placement: Any) -> Any:
    params = {"w": spread(number(6, 4), mesh, [placement] * mesh.ndim), "b": number(3)}
    return adamod_step(adamod_init(params), params)


def case_a_state_as_a_value_is_refused_by_all_processes(mesh: Any) -> None:
    """Wherever it stands, and whatever saves it; nothing can be loaded."""
    for placement in (Shard(0), Replicate()):
        state = state_of(mesh, placement)
        for value in (state, {"deep": [{"in": state}]}, [state], (1, state), Run(state)):
            for save in (dcp.save, lambda *x, **where: dcp.async_save(*x, **where).result()):
                with folder() as where:
                    with pytest.raises((TypeError, dcp.CheckpointException)) as found:
                        save({"run": value, "w": state.params["w"]}, checkpoint_id=where)
                    assert "give it {'params': state.params, 'slots': state.slots, " in str(found.value)
                    torch.distributed.barrier()
                    assert not (where / ".metadata").exists()


def case_a_state_is_pickled_by_each_process(mesh: Any) -> None:
    """As its DTensors are; a state of plain tensors is all that torch.distributed.checkpoint needs of it."""
    state = state_of(mesh, Shard(0))
    by_torch = io.BytesIO()
    torch.save(state, by_torch)
    by_torch.seek(0)
    loaded = torch.load(by_torch, weights_only=False)
    for other in (pickle.loads(pickle.dumps(state)), copy.deepcopy(state), loaded):
        assert isinstance(other.params["w"], DTensor)
        assert_same_bits(other.params["w"].to_local(), state.params["w"].to_local(), "w")
    plain = adamod_step(adamod_init({"b": number(3)}), {"b": number(3)})
    found = {"state": adamod_init({"b": number(3)})}
    with folder() as where:
        dcp.save({"state": plain}, checkpoint_id=where)
        dcp.load(found, checkpoint_id=where)
    assert found["state"].step == 1
    assert_same_bits(found["state"].params["b"], plain.params["b"], "b")
