"""What memory allows: loops that read and write as many arrays as a step does, and only add.

Of complex parameters ``v`` and ``s`` are real.
"""

from __future__ import annotations

from typing import Any

from numba import njit, prange


@njit(parallel=True, error_model="numpy")
def add_3(g: Any, p: Any, m: Any, v: Any) -> None:
    """Read four arrays, write three: Adam's and RAdam's traffic."""
    for i in prange(g.size):
        p[i] += g[i]
        m[i] += g[i]
        v[i] += g[i].real


@njit(parallel=True, error_model="numpy")
def add_4(g: Any, p: Any, m: Any, v: Any, s: Any) -> None:
    """Read five arrays, write four: AdaMod's traffic."""
    for i in prange(g.size):
        p[i] += g[i]
        m[i] += g[i]
        v[i] += g[i].real
        s[i] += g[i].real
