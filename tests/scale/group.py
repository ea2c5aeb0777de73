"""The process group of one rank."""

from __future__ import annotations

import contextlib
import datetime
import os
from collections.abc import Iterator

import torch

SECONDS = 60
"""Until a process that waits for another gives up."""


@contextlib.contextmanager
def group(rank: str, world: str, port: str) -> Iterator[int]:
    """Give the number of processes, which share a group meanwhile, each with one thread."""
    os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT=port, RANK=rank, WORLD_SIZE=world)
    torch.set_num_threads(1)
    torch.distributed.init_process_group("gloo", timeout=datetime.timedelta(seconds=SECONDS))
    yield int(world)
    torch.distributed.barrier()
    torch.distributed.destroy_process_group()
