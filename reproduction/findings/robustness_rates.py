"""What is said of learning rates, Figure 6 of the AdaMod paper: how far apart trainings end, judged on digits."""

from __future__ import annotations

import itertools
from collections.abc import Iterable

import numpy as np

from reproduction.frame import Finding, Verdict
from reproduction.grids.digits_runs import (
    ADAM,
    ADAMODS,
    LARGE,
    LONGER,
    METHODS,
    MOMENTUM,
    RATES,
    SMALL,
    Trainings,
    lost,
)
from reproduction.statistics import corrected, difference, equivalence, plus_minus, sign
from reproduction.tasks import DIGITS
from reproduction.verdicts import Judged, ahead, alike, counted, everywhere, listed, merged


def at_rates(t: Trainings, name: str) -> str:
    """Return the accuracies of a method at each rate."""
    return ", ".join(f"{plus_minus(x)} at {rate:g}" for rate, x in zip(RATES, t.over_rates(METHODS[name]), strict=True))


def same_end(t: Trainings) -> Judged:
    """Judge whether AdaMod ends alike at all three rates."""
    points = dict(zip(RATES, t.over_rates(METHODS[LONGER]), strict=True))
    pairs = list(itertools.combinations(RATES, 2))
    tests = corrected(
        [
            equivalence(f"digits, {LONGER}: rate {a:g} less rate {b:g}", points[a] - points[b], DIGITS.margin)
            for a, b in pairs
        ]
    )
    verdicts = {f"{a:g} and {b:g}": alike(test) for (a, b), test in zip(pairs, tests, strict=True)}
    finding = Finding(
        "adamod/figure-6-adamod",
        f"{at_rates(t, LONGER)}; largest difference {max(abs(test.mean) for test in tests):.2f} points",
        f"each pair of rates equivalent within one point: {listed(verdicts, tests)}",
        *everywhere(verdicts, "pairs of rates"),
    )
    return Judged([finding], tests)


def sensitive(t: Trainings) -> Judged:
    """Judge whether Momentum and Adam depend more on the rate than AdaMod does."""
    spreads = {name: t.spread(METHODS[name]) for name in METHODS}
    paper = corrected(
        [sign(f"digits, spread over rates: {n} less {LONGER}", spreads[n] - spreads[LONGER]) for n in (MOMENTUM, ADAM)]
    )
    findings = [
        Finding(
            f"adamod/figure-6-{word}",
            f"best less worst of three rates: {plus_minus(spreads[name])} points, AdaMod {plus_minus(spreads[LONGER])};"
            f" {counted(test, 'larger')}; {lost(t.over_rates(METHODS[name]).min(axis=0))} seeds lost at a rate",
            f"a spread above one point, and larger than AdaMod's: {test}",
            ahead(test) if spreads[name].mean() > DIGITS.margin else "does not hold",
        )
        for word, name, test in zip(("sgdm", "adam"), (MOMENTUM, ADAM), paper, strict=True)
    ]
    article = corrected(
        [sign(f"digits, spread over rates: {ADAM} less {n}", spreads[ADAM] - spreads[n]) for n in ADAMODS]
    )
    verdicts = {f"{b:g}": ahead(test) for b, test in zip(ADAMODS.values(), article, strict=True)}
    spread_of = "; ".join(f"{n} {plus_minus(spreads[n])} points" for n in (ADAM, *ADAMODS))
    findings.append(
        Finding(
            "article/rate-sensitivity",
            f"best less worst of three rates: {spread_of}; Adam's is "
            + ", ".join(f"{counted(test, 'larger')} than with {b}" for b, test in zip(verdicts, article, strict=True)),
            "Adam's spread larger than AdaMod's with either $\\beta_3$: " + listed(verdicts, article),
            *everywhere(verdicts, r"values of $\beta_3$"),
        )
    )
    return Judged(findings, [*paper, *article])


def two_orders(t: Trainings) -> Judged:
    """Judge whether trainings whose rates are a hundredfold apart end alike by AdaMod, and apart by the others."""

    def apart(name: str) -> np.ndarray:
        return np.asarray(t.points(METHODS[name], LARGE) - t.points(METHODS[name], SMALL))

    label = f"digits, {{}}: rate {LARGE:g} less rate {SMALL:g}"
    same = corrected([equivalence(label.format(n), apart(n), DIGITS.margin) for n in ADAMODS])
    differ = corrected([difference(label.format(MOMENTUM), apart(MOMENTUM)), sign(label.format(ADAM), apart(ADAM))])
    verdicts = {f"{b:g}": alike(test) for b, test in zip(ADAMODS.values(), same, strict=True)}
    others: dict[str, Verdict] = {
        n: "holds" if test.rejects else "not shown" for n, test in zip((MOMENTUM, ADAM), differ, strict=True)
    }

    def means(names: Iterable[str]) -> str:
        return "; ".join(
            f"{n} " + " and ".join(plus_minus(t.points(METHODS[n], rate)) for rate in (LARGE, SMALL)) for n in names
        )

    findings = [
        Finding(
            "article/two-orders",
            f"at {LARGE:g} and {SMALL:g}: {means(ADAMODS)}",
            "equivalent within one point with either $\\beta_3$: " + listed(verdicts, same),
            *everywhere(verdicts, r"values of $\beta_3$"),
        ),
        Finding(
            "article/others-end-apart",
            f"at {LARGE:g} and {SMALL:g}: {means((MOMENTUM, ADAM))}",
            f"a difference for both: {listed(others, differ)}",
            *everywhere(others, "methods"),
        ),
    ]
    return Judged(findings, [*same, *differ])


def judged(t: Trainings) -> Judged:
    """Return all findings of this module."""
    return merged(part(t) for part in (same_end, sensitive, two_orders))
