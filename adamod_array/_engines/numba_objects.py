"""Python's objects read by their C structs: the items of a list, and the class of each.

To ask Python for the address of every array (``map(id, arrays)``) takes longer than to look at them.
"""

from __future__ import annotations

import ctypes
from typing import Any

HEAD = object.__basicsize__
"""What all objects begin with; it ends with their class."""
CLASS = HEAD - 8
ITEMS = HEAD + 8
"""Of a list, after its length: where its items are."""


def _probe() -> bool:
    objects: list[Any] = [object(), [], 1.5, "x"]
    items = _word(id(objects) + ITEMS)
    found = [_word(items + 8 * i) for i in range(len(objects))]
    return found == [*map(id, objects)] and [_word(x + CLASS) for x in found] == [*map(id, map(type, objects))]


def _word(address: int) -> int:
    return ctypes.c_int64.from_address(address).value


if not _probe():  # pragma: no cover - no such Python is known
    raise ImportError("Python keeps its lists in a struct that this version of adamod_array does not expect")
