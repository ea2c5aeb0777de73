"""One process of a training by DistributedDataParallel on this machine: ``python -m tests.ddp RANK PORT``.

Prints how far each optimizer of this package ends from PyTorch's of the same name, alone and sharded by
ZeroRedundancyOptimizer, and AdaMod from a training in one process; in float64.
"""

from __future__ import annotations

import json
import os
import sys
from typing import Any

import torch
from torch.distributed.optim import ZeroRedundancyOptimizer

import adamod_array.torch

WORLD, STEPS = 2, 8


def network() -> Any:
    torch.manual_seed(0)
    return torch.nn.Sequential(torch.nn.Linear(3, 5), torch.nn.Tanh(), torch.nn.Linear(5, 1)).double()


def batch(step: int, rank: int) -> Any:
    return torch.randn(4, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(WORLD * step + rank))


def loss_of(model: Any, x: Any) -> Any:
    return (model(x) - x.sum(dim=1, keepdim=True)).square().mean()


def trained(rank: int, make: Any) -> list[Any]:
    """Return the parameters after a few steps by DistributedDataParallel."""
    model = torch.nn.parallel.DistributedDataParallel(network())
    optimizer = make(model.parameters())
    for step in range(STEPS):
        optimizer.zero_grad()
        loss_of(model, batch(step, rank)).backward()
        optimizer.step()
    return [p.detach() for p in model.parameters()]


def alone(make: Any) -> list[Any]:
    """Return the same of one process, which sees all batches."""
    model = network()
    optimizer = make(model.parameters())
    for step in range(STEPS):
        optimizer.zero_grad()
        loss_of(model, torch.cat([batch(step, rank) for rank in range(WORLD)])).backward()
        optimizer.step()
    return [p.detach() for p in model.parameters()]


def apart(some: list[Any], others: list[Any]) -> float:
    return max(float((x - y).abs().max()) for x, y in zip(some, others, strict=True))


def main(rank: int, port: str) -> None:
    os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT=port, RANK=str(rank), WORLD_SIZE=str(WORLD))
    torch.distributed.init_process_group("gloo")
    found = {}
    for name, options in (("Adam", {}), ("AdamW", {}), ("RAdam", {}), ("SGD", {"momentum": 0.9})):
        ours, theirs = getattr(adamod_array.torch, name), getattr(torch.optim, name)
        expected = trained(rank, lambda p, of=theirs, options=options: of(p, lr=0.05, **options))
        found[name] = apart(trained(rank, lambda p, of=ours, options=options: of(p, lr=0.05, **options)), expected)
        sharded = trained(
            rank,
            lambda p, of=ours, options=options: ZeroRedundancyOptimizer(p, optimizer_class=of, lr=0.05, **options),
        )
        found[f"{name}, sharded"] = apart(sharded, expected)
    adamod = adamod_array.torch.AdaMod
    found["AdaMod"] = apart(trained(rank, lambda p: adamod(p, lr=0.05)), alone(lambda p: adamod(p, lr=0.05)))
    sys.stdout.write(json.dumps(found))
    torch.distributed.destroy_process_group()


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2])
