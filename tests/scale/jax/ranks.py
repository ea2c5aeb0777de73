"""One process of a mesh of 8 devices: ``python -m tests.scale.jax.ranks RANK WORLD PORT FOLDER``.

Takes every case, since to start costs seconds, and prints what each came to: nothing, or its error.
"""

from __future__ import annotations

import importlib
import json
import os
import sys
import traceback
from pathlib import Path

from tests.scale.jax.names import CASES


def main(rank: int, world: int, port: str, folder: str) -> None:
    os.environ["XLA_FLAGS"] = f"--xla_force_host_platform_device_count={8 // world}"
    os.environ["JAX_PLATFORMS"] = "cpu"
    import jax

    if world > 1:
        jax.distributed.initialize(f"127.0.0.1:{port}", world, rank, initialization_timeout=60)
    found: dict[str, str] = {}
    for file, name in CASES:
        try:
            getattr(importlib.import_module(f"tests.scale.jax.{file}"), name)(Path(folder))
            found[name] = ""
        except BaseException:
            found[name] = traceback.format_exc()
            break  # the other would wait for this process
    sys.stdout.write("\n" + json.dumps(found))
    sys.stdout.flush()
    if world > 1:
        jax.distributed.shutdown()


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]), *sys.argv[3:])
