"""Verdicts that follow from tests: which of two is ahead, whether they are the same, and what several places say."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import NamedTuple

import numpy as np

from reproduction.frame import Finding, Verdict, wherever
from reproduction.statistics import Test


class Judged(NamedTuple):
    """Findings, and the tests that they rest on."""

    findings: list[Finding]
    tests: list[Test]


def merged(parts: Iterable[Judged]) -> Judged:
    """Return all of them as one."""
    kept = list(parts)
    return Judged([x for part in kept for x in part.findings], [x for part in kept for x in part.tests])


def signs(test: Test) -> tuple[int, int, int]:
    """Return how many differences are positive, how many negative, and how many there are."""
    x = np.asarray(test.data["differences"])
    return int(np.sum(x > 0)), int(np.sum(x < 0)), len(x)


def direction(test: Test) -> int:
    """Return the sign of what is tested: of the mean, or of most differences in a test of signs."""
    more, fewer, _ = signs(test)
    return int(np.sign(more - fewer if test.kind == "sign" else test.mean))


def ahead(test: Test, same: Test | None = None, sign: int = 1) -> Verdict:
    """Judge that the differences are above zero, or below with ``sign=-1``.

    It does not hold where they are on the other side, or where the test ``same`` shows them to be too small to
    matter; where neither is shown, nothing is.
    """
    if test.rejects:
        return "holds" if direction(test) * sign > 0 else "does not hold"
    return "does not hold" if same is not None and same.rejects else "not shown"


def alike(test: Test) -> Verdict:
    """Judge by a test of equivalence: a mean beyond the margin is not the same, one within it is not shown to be."""
    if test.rejects:
        return "holds"
    return "does not hold" if abs(test.mean) >= test.data["margin"] else "not shown"


def worst(verdicts: Mapping[str, Verdict]) -> Verdict:
    """Judge what must hold in all of these: one that fails decides."""
    for verdict in ("does not hold", "not shown"):
        if verdict in verdicts.values():
            return verdict
    return "holds"


def everywhere(verdicts: Mapping[str, Verdict], unit: str) -> tuple[Verdict, str]:
    """Return verdict and extent of what was judged in several places.

    Where it holds in none of them it does not hold, unless nothing speaks against it anywhere.
    """
    verdict, extent = wherever({place: each == "holds" for place, each in verdicts.items()}, unit)
    if verdict == "does not hold" and "does not hold" not in verdicts.values():
        return "not shown", ""
    return verdict, extent


def counted(test: Test, what: str = "more") -> str:
    """Return how many differences are positive, in words: ``"more in 9 of 10 seeds"``."""
    more, _, n = signs(test)
    return f"{what} in {more} of {n} seeds"


def listed(places: Iterable[str], tests: Iterable[Test]) -> str:
    """Return tests and places, what tests share only once: ``"sign, n = 10: at 0.1 p = 0.02, at 0.01 p = 0.3"``."""
    groups: dict[str, list[str]] = {}
    for place, test in zip(places, tests, strict=True):
        kind, _, p = str(test).rpartition(": ")
        groups.setdefault(kind, []).append(f"{place} {p}")
    return "; ".join(f"{kind}{': ' if kind else ''}{', '.join(each)}" for kind, each in groups.items())
