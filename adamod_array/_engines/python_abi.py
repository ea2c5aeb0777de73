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


def _probe() -> bool:
    objects: list[Any] = [object(), [], 1.5, "x"]
    return _items(id(objects), len(objects)).tolist() == [*map(id, objects), *map(id, map(type, objects))]


if not _probe():  # pragma: no cover - no such Python is known
    raise ImportError("Python keeps its lists in a struct that this version of adamod_array does not expect")
