"""What the AdaMod paper says of Momentum's and Adam's learning rates, below its Figure 6, judged on digits."""

from __future__ import annotations

from typing import Any

import numpy as np

from adamod_array import Adam, schedules
from reproduction.frame import Finding
from reproduction.grids.digits_runs import ADAM, LARGE, METHODS, MIDDLE, MOMENTUM, SMALL, Trainings, lost
from reproduction.runs.transformer_causes import ClippedAdam
from reproduction.statistics import corrected, difference, equivalence, plus_minus, sign
from reproduction.tasks import DIGITS
from reproduction.verdicts import Judged, ahead, counted, direction, everywhere, listed, merged

LIMITS = (10_000.0, 100.0)
"""Of rates: what the paper calls extremely large, and a hundredth of it."""

REMEDIES: dict[str, dict[str, Any]] = {
    **{f"no rate above {limit:,.0f}": {"method": ClippedAdam(limit=limit)} for limit in LIMITS},
    "untuned linear warmup": {"method": Adam(), "warmup": schedules.untuned_linear(0.999)},
}
"""Ways to take the large rates from Adam at 0.1: all through the training, or in its first 2,000 steps."""


def gaps(t: Trainings) -> Judged:
    """Judge whether neighbouring rates differ more where they are large."""
    findings, tests = [], []
    for word, name in (("sgdm", MOMENTUM), ("adam", ADAM)):
        large, middle, small = t.over_rates(METHODS[name])
        upper, lower = np.abs(large - middle), np.abs(middle - small)
        test = sign(f"digits, {name}: gap between 0.1 and 0.01 less gap between 0.01 and 0.001", upper - lower)
        tests.append(test)
        findings.append(
            Finding(
                f"adamod/rate-gaps-grow-{word}",
                f"gap of {plus_minus(upper)} points between {LARGE:g} and {MIDDLE:g}, of {plus_minus(lower)} between"
                f" {MIDDLE:g} and {SMALL:g}; {counted(test, 'larger')}",
                f"the gap of the larger rates is larger: {test}",
                ahead(test),
            )
        )
    return Judged(findings, tests)


def momentum(t: Trainings) -> Judged:
    """Judge whether Momentum is worse at both ends than in the middle."""
    large, middle, small = t.over_rates(METHODS[MOMENTUM])
    ends = {"small": (SMALL, middle - small), "large": (LARGE, middle - large)}
    tests = corrected([difference(f"digits, Momentum: rate 0.01 less rate {r:g}", x) for r, x in ends.values()])
    same = corrected(
        [equivalence(f"digits, Momentum: rate 0.01 less rate {r:g}", x, DIGITS.margin) for r, x in ends.values()]
    )
    findings = [
        Finding(
            f"adamod/sgdm-{word}-rate",
            f"{plus_minus(t.points(METHODS[MOMENTUM], rate))} points, {plus_minus(middle)} at {MIDDLE:g}:"
            f" {abs(test.mean):.2f} {'worse' if direction(test) > 0 else 'better'}",
            f"worse than at {MIDDLE:g}: {test}; it does not hold where both are equivalent within one point: {equal}",
            ahead(test, equal),
        )
        for (word, (rate, _)), test, equal in zip(ends.items(), tests, same, strict=True)
    ]
    return Judged(findings, [*tests, *same])


def adam(t: Trainings) -> Judged:
    """Judge whether Adam is less stable at the large rate, and a little better at the small one."""
    large, middle, small = t.over_rates(METHODS[ADAM])
    unstable = sign("digits, Adam: rate 0.01 less rate 0.1", middle - large)
    better = difference("digits, Adam: rate 0.001 less rate 0.01", small - middle)
    much = lost(large) >= len(large) / 4 and lost(middle) == 0
    findings = [
        Finding(
            "adamod/adam-large-rate",
            f"{plus_minus(large)} points, {lost(large)} of {len(large)} seeds lost, {plus_minus(middle)} and"
            f" {lost(middle)} lost at {MIDDLE:g}; {counted(unstable, 'worse')}",
            f"at least a quarter of the seeds lost (below 50 points), none at {MIDDLE:g}, and worse: {unstable}",
            ahead(unstable) if much else "does not hold",
        ),
        Finding(
            "adamod/adam-small-rate",
            f"{plus_minus(small)} points, {plus_minus(middle)} at {MIDDLE:g}: {better.mean:+.2f}",
            f"better: {better}",
            ahead(better),
        ),
    ]
    return Judged(findings, [unstable, better])


def cause(t: Trainings) -> Judged:
    """Judge whether Adam becomes stable at the large rate once its largest rates are taken from it."""
    plain = t.points(METHODS[ADAM], LARGE)
    found = {name: t.points(rate=LARGE, **config) for name, config in REMEDIES.items()}
    tests = corrected([sign(f"digits, Adam at 0.1: {name} less nothing", x - plain) for name, x in found.items()])
    verdicts = {
        name: ahead(test) if lost(x) == 0 else "does not hold"
        for (name, x), test in zip(found.items(), tests, strict=True)
    }
    finding = Finding(
        "adamod/adam-large-rate-cause",
        f"{plus_minus(plain)} points and {lost(plain)} of {len(plain)} seeds lost; "
        + "; ".join(
            f"{name}: {plus_minus(x)}, {lost(x)} lost, {counted(test, 'better')}"
            for (name, x), test in zip(found.items(), tests, strict=True)
        ),
        f"without them no seed is lost, and most are better: {listed(found, tests)}",
        *everywhere(verdicts, "ways to lower the rates"),
    )
    return Judged([finding], tests)


def judged(t: Trainings) -> Judged:
    """Return all findings of this module."""
    return merged(part(t) for part in (gaps, momentum, adam, cause))
