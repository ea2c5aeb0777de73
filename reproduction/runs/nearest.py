"""AdaMod whose slots are rounded to the nearest bfloat16 after each step, as by a cast: the control of ``compact``."""

from __future__ import annotations

import dataclasses
from typing import Any

from adamod_array import AdaMod

SPLIT = 65537.0
"""Two to the 16, and one: of 24 bits all but the first 8 are rounded off (Dekker 1971)."""


@dataclasses.dataclass(frozen=True)
class NearestAdaMod(AdaMod):
    """AdaMod with slots of float32 that hold numbers of bfloat16, rounded to nearest."""

    def rule(self, xp: Any, lr: Any, c: Any, g: Any, p: Any, *slots: Any) -> tuple[Any, ...]:
        """Take AdaMod's step, and round the slots that it leaves."""
        p, *left = super().rule(xp, lr, c, g, p, *slots)
        return p, *(nearest(x) for x in left)


def nearest(x: Any) -> Any:
    """Round a float32 below 2**111 to the nearest number of 8 bits."""
    scaled = SPLIT * x
    return scaled - (scaled - x)
