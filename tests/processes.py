"""One of two processes that share arrays: ``python -m tests.processes FRAMEWORK RANK PORT FILE``.

FILE is a checkpoint of ``arange(10.0).reshape(5, 2)``. Prints what was refused.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

import numpy as np

from adamod_array import adam_init
from adamod_array.checkpoint import convert, load, save

X = np.arange(10.0, dtype="float32").reshape(5, 2)


def refused(state: Any, file: str) -> str:
    """Return the error of saving a state of which another process holds a part."""
    try:
        save(state, Path(file).with_name("never"))
    except ValueError as error:
        return str(error)
    raise AssertionError("it was saved")


def by_torch(rank: int, port: str, file: str) -> list[str]:
    import torch
    from torch.distributed.tensor import Replicate, Shard, distribute_tensor, init_device_mesh

    os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT=port, RANK=str(rank), WORLD_SIZE="2")
    torch.distributed.init_process_group("gloo")
    mesh, found = init_device_mesh("cpu", (2,)), []
    for placement in (Shard(0), Shard(1), Replicate()):
        like = distribute_tensor(torch.zeros(5, 2), mesh, [placement])
        for state in (load(file, like), convert(adam_init(X), like)):
            for x in (state.params, state.slots["v"]):
                assert x.placements == (placement,) and x.device_mesh == mesh
            assert torch.equal(state.params.full_tensor(), torch.from_numpy(X))
            found.append(refused(state, file))
    torch.distributed.destroy_process_group()
    return found


def by_jax(rank: int, port: str, file: str) -> list[str]:
    import jax
    from jax.sharding import NamedSharding, PartitionSpec

    jax.config.update("jax_cpu_collectives_implementation", "gloo")
    jax.distributed.initialize(f"127.0.0.1:{port}", 2, rank)
    mesh, found = jax.make_mesh((2,), ("x",)), []
    for axis in ("x", None):
        sharding = NamedSharding(mesh, PartitionSpec(None, axis))
        like = jax.make_array_from_callback(X.shape, sharding, lambda index: 0 * X[index])
        for state in (load(file, like), convert(adam_init(X), like)):
            assert state.params.sharding == state.slots["v"].sharding == sharding
            for shard in state.params.addressable_shards:
                assert np.array_equal(shard.data, X[shard.index])
            if axis is None:  # each process has all of it
                own = f"{file}{rank}"
                save(state, own)
                assert np.array_equal(load(own, X).params, X)
            else:
                found.append(refused(state, file))
    return found


if __name__ == "__main__":
    what = by_torch if sys.argv[1] == "torch" else by_jax
    sys.stdout.write("\n".join(what(int(sys.argv[2]), *sys.argv[3:])))
