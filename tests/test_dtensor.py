"""What DTensors over several processes are held to, by one process alone; ``nox -s scale`` starts several."""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from typing import Any

import pytest

from tests.scale.names import CASES

pytestmark = [
    pytest.mark.only("torch"),
    pytest.mark.filterwarnings("ignore:FSDP2-wrapped module .* returned a view tensor:UserWarning"),
]


@pytest.fixture(scope="module")
def mesh() -> Iterator[Any]:
    import torch

    store = torch.distributed.HashStore()
    torch.distributed.init_process_group("gloo", rank=0, world_size=1, store=store)
    try:
        yield torch.distributed.device_mesh.init_device_mesh("cpu", (1,), mesh_dim_names=("data",))
    finally:
        torch.distributed.destroy_process_group()


@pytest.mark.parametrize(("file", "case"), CASES)
def test_one_process(file: str, case: str, mesh: Any) -> None:
    getattr(importlib.import_module(f"tests.scale.{file}"), case)(mesh)
