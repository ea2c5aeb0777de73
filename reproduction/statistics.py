"""Tests of paired differences and of printed means, each kept with its data, so that anyone can compute it again."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import stats

LEVEL = 0.05
"""Of every test here."""


@dataclass(frozen=True)
class Test:
    """A test of a hypothesis: what it is of, its data, and its probability."""

    __test__ = False  # for pytest, which takes the name for a class of tests

    name: str
    """What is compared: ``"digits, rate 0.01: AdaMod less Adam"``."""
    kind: str
    """``"paired t"``, ``"paired equivalence"``, ``"sign"``, or ``"Welch"`` of printed means and deviations."""
    data: Mapping[str, Any]
    """``differences`` (and ``margin``), or ``means``, ``deviations`` and ``n`` of two samples."""
    p: float
    corrected: float
    """After Holm's correction for all tests of a family; ``p`` where there is one test."""
    family: int = 1
    """How many tests are corrected together."""

    @property
    def rejects(self) -> bool:
        """Return whether the hypothesis is rejected: there is a difference, or equivalence is shown."""
        return self.corrected < LEVEL

    @property
    def mean(self) -> float:
        """Return the mean difference, first less second."""
        if "differences" in self.data:
            return float(np.mean(self.data["differences"]))
        first, second = self.data["means"]
        return float(first - second)

    def __str__(self) -> str:
        """Return kind, n, deviation and probability, as a page says them."""
        n = len(self.data["differences"]) if "differences" in self.data else self.data["n"][0]
        if "differences" in self.data and not np.any(self.data["differences"]):
            return f"identical in each of {n}"
        of = {"paired t": ", own deviation", "paired equivalence": ", own deviation"}.get(self.kind, "")
        correction = f", Holm over {self.family}" if self.family > 1 else ""
        return f"{self.kind}, n = {n}{of}{correction}: p = {self.corrected:.2g}"


def difference(name: str, differences: Any) -> Test:
    """Test whether the mean of paired differences is 0, by Student's t with their own deviation."""
    x = np.asarray(differences, float)
    if np.ptp(x) == 0:  # identical runs have no deviation: they differ, or they do not
        p = float(x[0] == 0)
    else:
        p = float(stats.ttest_1samp(x, 0.0).pvalue)
    return Test(name, "paired t", {"differences": x.tolist()}, p, p)


def equivalence(name: str, differences: Any, margin: float) -> Test:
    """Test whether the mean of paired differences lies outside of ``margin``: two one-sided t tests (Schuirmann 1987).

    The deviation is their own. A small probability shows equivalence.
    """
    x = np.asarray(differences, float)
    if np.ptp(x) == 0:
        p = float(abs(x[0]) >= margin)
    else:
        below = stats.ttest_1samp(x, -margin, alternative="greater").pvalue
        p = float(max(below, stats.ttest_1samp(x, margin, alternative="less").pvalue))
    return Test(name, "paired equivalence", {"differences": x.tolist(), "margin": margin}, p, p)


def sign(name: str, differences: Any) -> Test:
    """Test whether paired differences are as often positive as negative: for what is far from normal."""
    x = np.asarray(differences, float)
    n = int(np.count_nonzero(x))
    p = float(stats.binomtest(int(np.sum(x > 0)), n).pvalue) if n else 1.0
    return Test(name, "sign", {"differences": x.tolist()}, p, p)


def welch(name: str, means: Sequence[float], deviations: Sequence[float], n: Sequence[int]) -> Test:
    """Test whether two samples have one mean, from what is printed of them, by Welch's t."""
    (a, b), (s, t), (k, m) = means, deviations, n
    if s == t == 0:
        p = float(a == b)
    else:
        p = float(stats.ttest_ind_from_stats(a, s, k, b, t, m, equal_var=False).pvalue)
    return Test(name, "Welch", {"means": [*means], "deviations": [*deviations], "n": [*n]}, p, p)


def corrected(tests: Sequence[Test]) -> list[Test]:
    """Return the tests after Holm's (1979) correction for all of them together."""
    adjusted = holm(np.asarray([test.p for test in tests]))
    return [
        dataclasses.replace(test, corrected=float(p), family=len(tests))
        for test, p in zip(tests, adjusted, strict=True)
    ]


def holm(p: Any) -> Any:
    """Return Holm's adjusted probabilities, to be compared with the level."""
    p = np.asarray(p, float)
    order = np.argsort(p)
    adjusted = np.maximum.accumulate(p[order] * np.arange(len(p), 0, -1))
    result = np.empty_like(p)
    result[order] = np.minimum(adjusted, 1)
    return result


def plus_minus(values: Any, digits: int = 2) -> str:
    """Return mean and standard deviation of a sample, as a page gives them."""
    x = np.asarray(values, float)
    return f"{x.mean():.{digits}f} ± {x.std(ddof=1):.{digits}f}"
