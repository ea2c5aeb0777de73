"""What is said of the warmup schedules, and what they are."""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import numpy as np

from reproduction.frame import Finding, Values, wherever

BETAS = (0.8, 0.9, 0.95, 0.98, 0.99, 0.999, 0.9999)
"""Ma & Yarats call all of [0.8, 1) practically relevant."""
TYPICAL = (0.98, 0.99, 0.997, 0.998, 0.999)
"""Those of their experiments."""
UNTUNED = ("untuned exponential", "untuned linear")


@dataclass(frozen=True)
class Found:
    """The results of the experiment."""

    periods: Values
    """For each of BETAS."""
    factors: dict[float, Values]
    fact: Values
    curve: Values
    """Periods over more of beta2, to be drawn."""


def findings(of: Found) -> list[Finding]:
    """Return what is said of the claims."""
    return [_fact(of), _approximation(of), *_periods(of), *_factors(of)]


def _fact(of: Found) -> Finding:
    holds, count = int(of.fact["fact"].sum()), len(of.fact["fact"])
    return Finding(
        "untuned/fact-3-1",
        f"true at {holds:,} of {count:,} of $\\beta_2$",
        r"true at each $\beta_2$ of a grid of $[0.8, 1)$ that is dense at 1, for $t \le 50$",
        "holds" if holds == count else "does not hold",
    )


def _approximation(of: Found) -> Finding:
    off = {
        beta2: float(np.max(np.abs(each["untuned exponential"] - each["bias correction"])))
        for beta2, each in of.factors.items()
    }
    return Finding(
        "untuned/4-2",
        "largest difference " + ", ".join(f"{off[beta2]:.2g} ({beta2:g})" for beta2 in sorted(off)),
        r"at most 0.005 at each $\beta_2$ of the paper's experiments, which 0.9 is not; chosen afterwards",
        *wherever({f"{beta2:g}": off[beta2] <= 0.005 for beta2 in TYPICAL}, r"$\beta_2$"),
    )


def _periods(of: Found) -> list[Finding]:
    exponential, linear, radam = (of.periods[name] for name in (*UNTUNED, "RAdam"))
    equal = {f"{b:g}": abs(float(x / y) - 1) <= 0.01 for b, x, y in zip(BETAS, linear, exponential, strict=True)}
    ratios = {beta2: [float(exponential[i] / radam[i]), float(linear[i] / radam[i])] for i, beta2 in enumerate(BETAS)}
    near = {f"{beta2:g}": all(abs(x - 1) <= 0.1 for x in both) for beta2, both in ratios.items()}
    at_999 = {name: float(of.periods[name][BETAS.index(0.999)]) for name in ("RAdam", *UNTUNED)}
    return [
        Finding(
            "untuned/4-3-appendix-b-2",
            "linear over exponential: "
            + ", ".join(f"{x / y:.4f} ({b:g})" for b, x, y in zip(BETAS, linear, exponential, strict=True)),
            "the same to a hundredth",
            *wherever(equal, r"$\beta_2$"),
        ),
        Finding(
            "untuned/figure-3a",
            "untuned over RAdam's: " + ", ".join(f"{min(both):.2f} ({beta2:g})" for beta2, both in ratios.items()),
            r"both within a tenth, at each $\beta_2$ of $[0.8, 1)$ tried; the tenth chosen afterwards",
            *wherever(near, r"$\beta_2$"),
        ),
        Finding(
            "untuned/6-1",
            ", ".join(f"{period:,.1f} ({name})" for name, period in at_999.items()),
            "within a tenth of 1,000",
            *wherever({name: abs(period / 1000 - 1) <= 0.1 for name, period in at_999.items()}, "warmups"),
        ),
    ]


def _factors(of: Found) -> list[Finding]:
    each = of.factors[0.999]
    names = ("RAdam", *UNTUNED)
    later = each["t"] > 4
    apart = {f"{a} and {b}": float(np.max(np.abs(each[a] - each[b]))) for a, b in itertools.combinations(names, 2)}
    ratio = each["RAdam"][later] / each["untuned linear"][later]
    readings = {"as differences": max(apart.values()) <= 0.25, "as ratios": bool(np.max(ratio) <= 2)}
    shape = apart["RAdam and untuned exponential"]
    concave = all(np.all(np.diff(each[name][later], 2) <= 1e-12) for name in names[:2])
    last = int(each["t"][later][ratio > 2][-1])
    return [
        Finding(
            "untuned/figure-3b-magnitudes",
            "at most "
            + ", ".join(f"{gap:.2f} ({pair})" for pair, gap in apart.items())
            + f" apart; at $t = 5$ RAdam's factor is {ratio[0]:.1f} times the linear one, and more than twice up to"
            f" $t = {last}$",
            "as differences, at most 0.25 for each pair; as ratios, at most 2 from $t = 5$ on; chosen afterwards",
            *wherever(readings, "readings"),
        ),
        Finding(
            "untuned/figure-3b-shape",
            f"at most {shape:.2f} apart; both {'rise ever more slowly' if concave else 'are not concave'}",
            "at most 0.15 apart, chosen afterwards, and both concave from $t = 5$ on",
            "holds" if shape <= 0.15 and concave else "does not hold",
        ),
    ]
