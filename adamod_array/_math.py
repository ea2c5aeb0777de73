"""The scalar functions of a step's coefficients and schedules, for whatever kind of number t is."""

from __future__ import annotations

import math
from types import SimpleNamespace
from typing import Any

from adamod_array._namespace import namespace_of

host_math = SimpleNamespace(
    exp=math.exp,
    expm1=math.expm1,
    log=math.log,
    sqrt=math.sqrt,
    cos=math.cos,
    minimum=min,
    maximum=max,
    where=lambda condition, a, b: a if condition else b,
)
"""Double precision on the host, by the C library: an int ``t`` never touches an array."""


def number(t: Any) -> tuple[Any, Any]:
    """Return ``t`` as a number to compute with, and the functions to compute with.

    An int becomes a float and :data:`host_math`; an integer array becomes the namespace's default
    real dtype where that is float64, and float64 where the namespace has it.
    """
    if isinstance(t, (int, float)):
        return float(t), host_math
    namespace = namespace_of(t)
    if namespace is None:
        return float(t), host_math  # NumPy scalars and anything else that is a number
    xp = namespace.xp
    if xp.isdtype(t.dtype, "integral"):
        t = xp.astype(t, namespace.widest_float)
    return t, xp
