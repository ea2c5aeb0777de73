"""DTensors over 2 and 4 processes: each case of ``tests.scale.ranks`` in all of them."""

from __future__ import annotations

import functools

import pytest

from tests.scale.launch import assert_passed, outcomes
from tests.scale.names import CASES


@functools.cache
def taken(world: int) -> list[dict[str, str]]:
    """Return what the cases came to in each process."""
    return outcomes(world, "tests.scale.ranks")


@pytest.mark.parametrize("world", [2, 4])
@pytest.mark.parametrize("name", [name for _, name in CASES])
def test_dtensors(name: str, world: int) -> None:
    assert_passed(name, taken(world))
