"""What the small trainings of several experiments share: verdicts of three outcomes, a check, the choice of a rate."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from reproduction.comparisons import Compared, compare
from reproduction.frame import Check, Verdict
from reproduction.statistics import Test, plus_minus
from reproduction.verdicts import ahead, everywhere

OPPOSITE: dict[Verdict, Verdict] = {"holds": "does not hold", "does not hold": "holds", "not shown": "not shown"}
"""The verdict of the claim that it is not so."""


def judged(trial: Compared, sign: int) -> Verdict:
    """Return whether the difference at one place has this sign."""
    return ahead(trial.differs, trial.equals, sign)


def trials(title: str, differences: Mapping[str, Any], margin: float) -> dict[str, Compared]:
    """Return the trials of a claim by place; the tests of a kind are corrected together."""
    compared = compare({f"{title}, {place}": x for place, x in differences.items()}, margin)
    return dict(zip(differences, compared, strict=True))


def tests_of(*tried: Mapping[str, Compared]) -> list[Test]:
    """Return all tests, for the report."""
    return [trial[kind] for each in tried for kind in (0, 1) for trial in each.values()]  # a family after the other


def together(tried: Mapping[str, Compared], sign: int, unit: str) -> tuple[Verdict, str]:
    """Return verdict and extent over all places where a difference should have this sign."""
    return everywhere({place: judged(trial, sign) for place, trial in tried.items()}, unit)


def means(tried: Mapping[str, Compared], digits: int = 2) -> str:
    """Return mean and deviation of the differences at each place, in words."""
    parts = (f"{plus_minus(t.differs.data['differences'], digits)} ({place})" for place, t in tried.items())
    return ", ".join(parts)


def probabilities(tried: Mapping[str, Compared], unit: str) -> str:
    """Return kind, n, deviation, correction and probabilities of all tests, in words."""
    first = next(iter(tried.values()))
    n, margin = len(first.differs.data["differences"]), first.equals.data["margin"]
    correction = f", Holm over {len(tried)}" if len(tried) > 1 else ""
    p, q = (", ".join(_probability(trial[i]) for trial in tried.values()) for i in (0, 1))
    return (
        f"paired t, n = {n}, own deviation{correction}: p = {p};"
        f" equivalence within {margin:.2g} {unit}, likewise: p = {q}"
    )


def _probability(test: Test) -> str:
    """Return the corrected probability, where the differences have a deviation."""
    x = np.asarray(test.data["differences"])
    if np.ptp(x) > 0:
        return f"{test.corrected:.2g}"
    return "the same in each" if np.any(x) else "identical"


def learned(losses: Sequence[float], guess: float, what: str) -> Check:
    """Return the check that each of these trainings is below the loss of guessing."""
    worst = max(losses)
    return Check(
        f"{what}: every loss is below that of guessing, {guess:.2f}", bool(worst < guess), f"at most {worst:.3f}"
    )


def best(over_rates: Mapping[float, np.ndarray]) -> float:
    """Return the rate whose seeds have the highest mean."""
    return max(over_rates, key=lambda rate: float(over_rates[rate].mean()))
