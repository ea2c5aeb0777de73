"""Two processes that train on one mesh, of which one is killed.

``python -m tests.scale.jax.killed RANK WORLD PORT FOLDER``
A checkpoint is saved after every second step.
"""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

SAVED, KILLED = 4, 5
"""The last step that was saved, and the one before which the second process dies."""


def main(rank: int, world: int, port: str, folder: str) -> None:
    os.environ |= {"XLA_FLAGS": "--xla_force_host_platform_device_count=4", "JAX_PLATFORMS": "cpu"}
    import jax

    jax.distributed.initialize(
        f"127.0.0.1:{port}", world, rank, initialization_timeout=60, heartbeat_timeout_seconds=10
    )
    import orbax.checkpoint as ocp

    from adamod_array import adamod_init, adamod_step, global_norm
    from tests.scale.jax.checkpoints import GRADIENTS
    from tests.scale.jax.meshes import mesh_of, numbers, placed

    mesh = mesh_of("2-d")
    state = adamod_init(placed(numbers(100), "2-d", mesh), lr=0.1)
    with ocp.StandardCheckpointer() as checkpointer:
        for t, grads in enumerate(GRADIENTS):
            if t == KILLED and rank == 1:
                os.kill(os.getpid(), signal.SIGKILL)
            given = placed(grads, "2-d", mesh)
            float(global_norm(given))  # for which processes wait for one another
            state = adamod_step(state, given, donate=True)
            if t + 1 in (2, SAVED):
                checkpointer.save(Path(folder) / f"step {t + 1}", state)
                checkpointer.wait_until_finished()


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]), *sys.argv[3:])
