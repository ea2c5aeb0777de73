"""Tests of paired differences: that there is one, and that there is none that matters."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from scipy import stats


class Pairs(NamedTuple):
    """What paired differences say about their mean, at the level 0.05 where nothing else is said."""

    mean: float
    standard_error: float
    p_different: float
    """Student's test of the mean being 0."""
    p_equivalent: float
    """Two one-sided tests (Schuirmann 1987) of the mean lying outside of the margin: small where it lies inside."""


def compare(differences: np.ndarray, margin: float, *, deviation: float | None = None, freedom: int = 0) -> Pairs:
    """Test independent differences; with ``deviation``, known with so many degrees of ``freedom`` from elsewhere."""
    n = len(differences)
    mean = float(np.mean(differences))
    if deviation is None:
        deviation, freedom = float(np.std(differences, ddof=1)), n - 1
    error = deviation / n**0.5
    if error == 0:
        return Pairs(mean, 0.0, float(mean == 0), float(abs(mean) >= margin))
    different = 2 * stats.t.sf(abs(mean) / error, freedom)
    equivalent = stats.t.sf((margin - abs(mean)) / error, freedom)  # the larger of the two
    return Pairs(mean, error, float(different), float(equivalent))


def pooled_deviation(groups: np.ndarray) -> tuple[float, int]:
    """The standard deviation about the mean of each row, common to all of them, and its degrees of freedom."""
    rows, n = groups.shape
    freedom = rows * (n - 1)
    return float(np.sqrt(np.sum((groups - groups.mean(axis=1, keepdims=True)) ** 2) / freedom)), freedom


def holm(p: np.ndarray) -> np.ndarray:
    """Holm's (1979) correction for testing many at once: adjusted probabilities, to be compared with the level."""
    p = np.asarray(p, float)
    order = np.argsort(p)
    adjusted = np.maximum.accumulate(p[order] * np.arange(len(p), 0, -1))
    result = np.empty_like(p)
    result[order] = np.minimum(adjusted, 1)
    return result


class Grid(NamedTuple):
    """Tests of several kinds of differences in several settings, their probabilities after Holm's correction."""

    overall: list[Pairs]
    """Of each kind, over all settings."""
    single: list[list[Pairs]]
    """Of each kind, in each setting; corrected for all of them together."""


def compare_grid(kinds: list[np.ndarray], margin: float, counted: np.ndarray) -> Grid:
    """Test differences, a row a setting and a column a seed; ``counted`` marks the settings that count overall.

    The standard deviation in one of these is pooled over them; any other setting has its own.
    """
    overall = [compare(rows[counted].mean(axis=0), margin) for rows in kinds]
    single = []
    for rows in kinds:
        deviation, freedom = pooled_deviation(rows[counted])
        for row, one_of_them in zip(rows, counted, strict=True):
            test = compare(row, margin, deviation=deviation, freedom=freedom) if one_of_them else compare(row, margin)
            single.append(test)
    single, settings = corrected(single), len(kinds[0])
    return Grid(corrected(overall), [single[i : i + settings] for i in range(0, len(single), settings)])


def corrected(tests: list[Pairs]) -> list[Pairs]:
    """The same tests after Holm's correction."""
    different, equivalent = (holm(np.asarray([test[i] for test in tests])) for i in (2, 3))
    return [
        test._replace(p_different=float(p), p_equivalent=float(q))
        for test, p, q in zip(tests, different, equivalent, strict=True)
    ]


def verdict(test: Pairs) -> str:
    """In words."""
    words = [word for word, p in (("equivalent", test.p_equivalent), ("different", test.p_different)) if p < 0.05]
    return " and ".join(words) or "undecided"


def simulated_level(seed: int, *, margin: float, n: int, repeats: int) -> float:
    """How often means that lie on the margin are declared equivalent: no more often than the level, 0.05."""
    draws = np.random.default_rng(seed).normal(margin, margin / 4, (repeats, n))
    return float(np.mean([compare(draw, margin).p_equivalent < 0.05 for draw in draws]))
