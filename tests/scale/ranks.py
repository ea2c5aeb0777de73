"""One of 2 or 4 processes that share DTensors on this machine: ``python -m tests.scale.ranks RANK WORLD PORT``.

Takes every case, since to start costs seconds, and prints what each came to: nothing, or its error.
"""

from __future__ import annotations

import datetime
import importlib
import json
import os
import sys
import traceback
from typing import Any

import torch

from tests.scale.names import CASES


def main(rank: int, world: int, port: str) -> None:
    os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT=port, RANK=str(rank), WORLD_SIZE=str(world))
    torch.set_num_threads(1)
    torch.distributed.init_process_group("gloo", timeout=datetime.timedelta(seconds=60))
    shape = (2,) if world == 2 else (2, 2)
    mesh = torch.distributed.device_mesh.init_device_mesh("cpu", shape, mesh_dim_names=("data", "model")[: len(shape)])
    found: dict[str, Any] = {}
    for file, name in CASES:
        try:
            getattr(importlib.import_module(f"tests.scale.{file}"), name)(mesh)
            found[name] = ""
        except BaseException:
            found[name] = traceback.format_exc()
            break  # the others would wait for this process
    sys.stdout.write("\n" + json.dumps(found))
    sys.stdout.flush()
    torch.distributed.barrier()
    torch.distributed.destroy_process_group()


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]), sys.argv[3])
