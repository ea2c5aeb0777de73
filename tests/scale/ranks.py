"""One of 2 or 4 processes that share DTensors on this machine: ``python -m tests.scale.ranks RANK WORLD PORT``.

Takes every case, since to start costs seconds, and prints what each came to: nothing, or its error.
"""

from __future__ import annotations

import importlib
import json
import sys
import traceback

import torch

from tests.scale.group import group
from tests.scale.names import CASES


def main(world: int) -> dict[str, str]:
    shape = (2,) if world == 2 else (2, 2)
    mesh = torch.distributed.device_mesh.init_device_mesh("cpu", shape, mesh_dim_names=("data", "model")[: len(shape)])
    found: dict[str, str] = {}
    for file, name in CASES:
        try:
            getattr(importlib.import_module(f"tests.scale.{file}"), name)(mesh)
            found[name] = ""
        except BaseException:
            found[name] = traceback.format_exc()
            break  # the others would wait for this process
    return found


if __name__ == "__main__":
    with group(*sys.argv[1:4]) as size:
        sys.stdout.write("\n" + json.dumps(main(size)))
        sys.stdout.flush()
