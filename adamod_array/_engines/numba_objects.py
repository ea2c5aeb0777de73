"""Python's objects read by their C structs: the items of a list, and the class of each.

To ask Python for the address of every array (``map(id, arrays)``) takes longer than to look at them.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from adamod_array._engines.numba_cache import compiled
from adamod_array._engines.numba_memory import peek

HEAD = object.__basicsize__
"""What all objects begin with; it ends with their class."""
CLASS = HEAD - 8
ITEMS = HEAD + 8
"""Of a list, after its length: where its items are."""


@compiled("int64[::1](int64, int64)")
def _items(objects: int, count: int) -> Any:  # pragma: no cover - compiled
    found = np.empty(2 * count, np.int64)
    for i in range(count):
        found[i] = peek(peek(objects + ITEMS) + 8 * i)
        found[count + i] = peek(found[i] + CLASS)
    return found


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


def _probe() -> bool:
    objects: list[Any] = [object(), [], 1.5, "x"]
    found = _items(id(objects), len(objects)).tolist()
    return found == [*map(id, objects), *map(id, map(type, objects))] and not are_distinct([*objects, objects[0]])


if not _probe():  # pragma: no cover - no such Python is known
    raise ImportError("Python keeps its lists in a struct that this version of adamod_array does not expect")
