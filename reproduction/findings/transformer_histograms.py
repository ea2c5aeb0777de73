"""Numbers of the distribution of the parameters' rates over a training's steps."""

from __future__ import annotations

from typing import Any

import numpy as np

Values = dict[str, Any]


def share(values: Values) -> np.ndarray:
    """Return the share of those of :func:`many` among all parameters."""
    return many(values) / float(values["numbers"])


def many(values: Values) -> np.ndarray:
    """Return how many parameters that have had a gradient have a rate above 10,000, a number a step looked at."""
    return np.asarray(values["huge"] - values["huge_idle"])


def moving(values: Values, idle: np.ndarray) -> np.ndarray:
    """Return the histograms without the parameters that have had no gradient: these have the largest rate of all."""
    counts = np.array(values["counts"])
    for row, number in zip(counts, idle, strict=True):
        left = int(number)
        for k in range(len(row) - 1, -1, -1):
            taken = min(left, int(row[k]))
            row[k] -= taken
            left -= taken
    return counts


def logarithms(values: Values) -> np.ndarray:
    """Return the decimal logarithm of the middle of each bin, the two open ones at their edges."""
    edges = np.log10(values["edges"])
    return np.concatenate([edges[:1], (edges[1:] + edges[:-1]) / 2, edges[-1:]])


def median(values: Values, idle: np.ndarray) -> np.ndarray:
    """Return the median rate at each step looked at, to a tenth of a decade."""
    shares = np.cumsum(moving(values, idle), axis=1)
    middle = np.argmax(shares >= shares[:, -1:] / 2, axis=1)
    return np.asarray(10.0 ** logarithms(values)[middle])


def spread(values: Values, idle: np.ndarray) -> np.ndarray:
    """Return the standard deviation of the rates' decimal logarithms at each step looked at."""
    counts, x = moving(values, idle), logarithms(values)
    share = counts / counts.sum(axis=1, keepdims=True)
    return np.asarray(np.sqrt(share @ x**2 - (share @ x) ** 2))
