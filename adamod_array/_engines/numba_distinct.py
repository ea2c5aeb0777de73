"""Whether no object stands twice in a list, in one compiled call: JAX's arrays are looked at one by one no more."""

from __future__ import annotations

from typing import Any

import numpy as np

from adamod_array._engines.numba_cache import compiled
from adamod_array._engines.numba_memory import peek
from adamod_array._engines.numba_objects import ITEMS


@compiled("boolean(int64, int64)")
def _are_distinct(objects: int, count: int) -> bool:  # pragma: no cover - compiled
    places = 16
    while places < 4 * count:
        places *= 2
    seen, items = np.zeros(places, np.int64), peek(objects + ITEMS)
    for i in range(count):
        x = peek(items + 8 * i)
        place = (x >> 4) & (places - 1)
        while seen[place] != 0:
            if seen[place] == x:
                return False
            place = (place + 1) & (places - 1)
        seen[place] = x
    return True


def are_distinct(objects: list[Any]) -> bool:
    """Return whether no object stands twice in a list."""
    return _are_distinct(id(objects), len(objects))  # type: ignore[no-any-return]
