"""The one comparison that tests make between arrays of numbers."""

from __future__ import annotations

from typing import Any

import numpy as np


def ulps(actual: Any, expected: Any) -> np.ndarray[Any, Any]:
    """The distance between two arrays, in units in the last place of ``expected`` in actual's dtype.

    ``expected`` may be wider than ``actual``. Complex numbers: the larger of the distances of real
    and imaginary part, in units of the larger part. Equal infinities and two NaNs are at distance 0.
    """
    actual, expected = np.asarray(actual), np.asarray(expected)
    if actual.dtype.kind == "c":
        both = np.maximum(abs(expected.real), abs(expected.imag)).astype(actual.real.dtype)
        pairs = [(actual.real, expected.real), (actual.imag, expected.imag)]
    else:
        both, pairs = np.abs(expected).astype(actual.dtype), [(actual, expected)]
    with np.errstate(invalid="ignore"):  # of infinities
        spacing = np.spacing(both) if both.dtype != "bfloat16" else _bfloat16_spacing(both)
    spacing = spacing.astype(np.longdouble)
    result = np.zeros(np.broadcast_shapes(actual.shape, expected.shape), np.longdouble)
    for a, e in pairs:
        with np.errstate(invalid="ignore"):
            distance = np.abs(a.astype(np.longdouble) - e.astype(np.longdouble)) / spacing
        same = (a == e) | (np.isnan(a.astype(np.longdouble)) & np.isnan(e.astype(np.longdouble)))
        result = np.maximum(result, np.where(same, 0, distance))
    return result


def _bfloat16_spacing(x: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    _, exponent = np.frexp(np.maximum(x.astype(np.float64), 2.0**-126))
    spacing: np.ndarray[Any, Any] = np.ldexp(1.0, exponent - 8)
    return spacing


def assert_close(actual: Any, expected: Any, *, ulp: float = 0, atol: float = 0.0) -> None:
    """Every number within ``ulp`` units in the last place of ``expected``, or within ``atol``; 0 means the same bits.

    Shapes must be equal too.
    """
    actual, expected = np.asarray(actual), np.asarray(expected)
    assert actual.shape == expected.shape, f"shape {actual.shape}, expected {expected.shape}"
    distance = ulps(actual, expected)
    wrong = ~(distance <= ulp)
    if atol:
        with np.errstate(invalid="ignore"):  # of infinities
            wrong &= ~(np.abs(actual.astype(np.complex256) - expected.astype(np.complex256)) <= atol)
    if wrong.any():
        i = np.unravel_index(np.nanargmax(np.where(wrong, np.nan_to_num(distance, nan=np.inf), -1)), wrong.shape)
        raise AssertionError(
            f"{wrong.sum()} of {wrong.size} numbers are off; the worst, at {tuple(map(int, i))}, is {actual[i]!r},"
            f" expected {expected[i]!r}: {float(distance[i]):.3g} ulp where {ulp} is allowed (atol {atol})"
        )
