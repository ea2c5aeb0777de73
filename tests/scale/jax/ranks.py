"""One process of a mesh of 8 devices: ``python -m tests.scale.jax.ranks RANK WORLD PORT FOLDER``.

Takes every case, since to start costs seconds.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

from tests.scale.jax.names import CASES
from tests.scale.names import print_outcomes


def main(rank: int, world: int, port: str, folder: str) -> None:
    os.environ["XLA_FLAGS"] = f"--xla_force_host_platform_device_count={8 // world}"
    os.environ["JAX_PLATFORMS"] = "cpu"
    import jax

    if world > 1:
        jax.distributed.initialize(f"127.0.0.1:{port}", world, rank, initialization_timeout=60)
    print_outcomes("tests.scale.jax", CASES, Path(folder))
    if world > 1:
        jax.distributed.shutdown()


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]), *sys.argv[3:])
