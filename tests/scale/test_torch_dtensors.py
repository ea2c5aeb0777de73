"""DTensors over 2 and 4 processes: each case of ``tests.scale.ranks`` in all of them."""

from __future__ import annotations

import functools
import json

import pytest

from tests.scale.launch import printed
from tests.scale.names import CASES


@functools.cache
def taken(world: int) -> list[dict[str, str]]:
    """Return what the cases came to in each process."""
    return [json.loads(text.splitlines()[-1]) for text in printed(world, "tests.scale.ranks")]


@pytest.mark.parametrize("world", [2, 4])
@pytest.mark.parametrize("name", [name for _, name in CASES])
def test_dtensors(name: str, world: int) -> None:
    found = taken(world)
    errors = [each.get(name, "not reached") for each in found]
    assert not any(errors), "\n".join(errors)
