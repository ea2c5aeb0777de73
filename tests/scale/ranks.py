"""One of 2 or 4 processes that share DTensors on this machine: ``python -m tests.scale.ranks RANK WORLD PORT``.

Takes every case, since to start costs seconds.
"""

from __future__ import annotations

import sys

import torch

from tests.scale.group import group
from tests.scale.names import CASES, print_outcomes

if __name__ == "__main__":
    with group(*sys.argv[1:4]) as size:
        shape = (2,) if size == 2 else (2, 2)
        names = ("data", "model")[: len(shape)]
        mesh = torch.distributed.device_mesh.init_device_mesh("cpu", shape, mesh_dim_names=names)
        print_outcomes("tests.scale", CASES, mesh)
