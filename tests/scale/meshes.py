"""DTensors of numbers that every process knows, and the bits of trees of them."""

from __future__ import annotations

import itertools
from typing import Any

import torch
from torch.distributed.tensor import DTensor, Partial, Replicate, Shard, distribute_tensor

from tests.trees import values

SHAPES = {"w": (6, 4), "uneven": (5, 3), "one": (1, 2)}
"""Of leaves; the last leaves nothing to the second process where it is sharded."""


def layouts(mesh: Any) -> list[tuple[Any, ...]]:
    """All placements of matrices that are replicated or sharded."""
    return [*itertools.product((Replicate(), Shard(0), Shard(1)), repeat=mesh.ndim)]


def number(*shape: int, seed: int = 0, dtype: str = "float32") -> Any:
    return torch.from_numpy(values(*shape, seed=seed)).to(getattr(torch, dtype))


def partial(x: Any, mesh: Any) -> Any:
    """A DTensor that is the sum of what the processes hold: the first all of it."""
    return DTensor.from_local(x if torch.distributed.get_rank() == 0 else 0 * x, mesh, [Partial()] * mesh.ndim)


def spread(x: Any, mesh: Any, placements: Any) -> Any:
    if any(each.is_partial() for each in placements):
        return partial(x, mesh)
    return distribute_tensor(x, mesh, placements)


def whole(x: Any) -> Any:
    """All of an array, of which this process may have a part."""
    x = x.detach()
    return x.full_tensor() if isinstance(x, DTensor) else x


def assert_same_bits(actual: Any, expected: Any, what: str) -> None:
    actual, expected = whole(actual), whole(expected)
    assert actual.dtype == expected.dtype and actual.shape == expected.shape, what
    same = torch.equal(*(x.reshape(-1).view(torch.uint8) for x in (actual, expected)))
    assert same, f"{what}: {actual} in the place of {expected}"
