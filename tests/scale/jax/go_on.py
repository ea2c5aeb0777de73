"""One process that goes on with what two have saved: ``python -m tests.scale.jax.go_on FOLDER``."""

from __future__ import annotations

import os
import sys
from pathlib import Path


def main(folder: str) -> None:
    os.environ |= {"XLA_FLAGS": "--xla_force_host_platform_device_count=8", "JAX_PLATFORMS": "cpu"}
    import orbax.checkpoint as ocp

    from adamod_array import AdaMod
    from tests.scale.jax.checkpoints import GRADIENTS, STEPS, shapes_of, trained
    from tests.scale.jax.killed import SAVED
    from tests.scale.jax.meshes import assert_state
    from tests.scale.jax.steps import alone

    mesh, like = shapes_of("sharded")
    with ocp.StandardCheckpointer() as checkpointer:
        state = checkpointer.restore(Path(folder) / f"step {SAVED}", like)
    state = trained(state, "sharded", mesh, SAVED, STEPS)
    assert_state(state, alone(AdaMod(), GRADIENTS, lr=0.1), "sharded", mesh, "after a process has died")


if __name__ == "__main__":
    main(sys.argv[1])
