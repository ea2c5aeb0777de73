"""What is said of AdaMod's bound, and what it is."""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass

import numpy as np

from reproduction.frame import Finding, Values, wherever

BETA3 = (0.9, 0.99, 0.999, 0.9999)
"""Those of the paper."""


@dataclass(frozen=True)
class Found:
    """The results of the experiment, most of them by beta3."""

    ranges: dict[float, Values]
    expansions: dict[float, Values]
    factors: dict[float, np.ndarray]
    bounds: dict[float, Values]
    pauses: dict[float, Values]
    memories: dict[int, Values]
    walks: dict[str, Values]


def deviation(beta3: float, beta2: float) -> float:
    """Return the deviation of an exponential average of numbers that are correlated like ``beta2**k``, over theirs."""
    return math.sqrt((1 - beta3) * (1 + beta2 * beta3) / ((1 + beta3) * (1 - beta2 * beta3)))


def findings(of: Found) -> list[Finding]:
    """Return what is said of the claims."""
    return [*_ranges(of), *_equations(of), *_warmup(of), *_pauses(of), *_fluctuations(of), *_example(of)]


def _ranges(of: Found) -> list[Finding]:
    found = {beta3: float(each["range"]) for beta3, each in of.ranges.items()}
    recent = float(of.ranges[0.9999]["recent"])
    published = {0.9: 10.0, 0.999: 1000.0}
    readings = {
        "their mean age is 10,000": abs(found[0.9999] / 10_000 - 1) < 0.001,
        "at least 99 % of the weight is on them": recent >= 0.99,
    }
    criterion = r"the mean age $\sum_k k\,(1-\beta_3)\beta_3^{k-1}$"
    return [
        Finding(
            "adamod/methods-below-eq-1-first-half",
            ", ".join(
                f"{value:,.0f} at {beta3:g}, where $1/\\beta_3$ is {1 / beta3:.4g}" for beta3, value in found.items()
            ),
            f"{criterion} is $1/\\beta_3$ to a thousandth; it is $1/(1-\\beta_3)$",
            *wherever({f"{beta3:g}": abs(value * beta3 - 1) < 1e-3 for beta3, value in found.items()}, r"$\beta_3$"),
        ),
        Finding(
            "adamod/methods-below-eq-1-second-half",
            ", ".join(f"{found[beta3]:,.1f} at {beta3:g}" for beta3 in published),
            f"{criterion} is the printed number to a thousandth",
            *wherever({f"{b:g}": abs(found[b] / value - 1) < 1e-3 for b, value in published.items()}, r"$\beta_3$"),
        ),
        Finding(
            "adamod/analysis-10000",
            f"mean age {found[0.9999]:,.0f}; the last 10,000 rates carry {recent:.0%} of the weight",
            "both readings of 'up to', to a thousandth and to a hundredth",
            *wherever(readings, "readings"),
        ),
    ]


def _equations(of: Found) -> list[Finding]:
    printed = {f"{beta3:g}": float(each["printed"]) for beta3, each in of.expansions.items()}
    rates = max(float(each["of_rates"]) for each in of.expansions.values())
    same = {str(length): bool(each["method"] and each["bits"]) for length, each in of.memories.items()}
    return [
        Finding(
            "adamod/eq-2",
            f"off by up to {max(printed.values()):.0%} of $s_t$; with the rates"
            f" $\\eta_t, \\ldots, \\eta_1$ in the place of $s_{{t-1}}, \\ldots, s_0$, by {rates:.0e}",
            "the right side, with the $s$ of equation 1, is $s_t$ to $10^{-9}$ at each step",
            *wherever({beta3: off < 1e-9 for beta3, off in printed.items()}, r"$\beta_3$"),
        ),
        Finding(
            "article/using-adamod-len-memory",
            ", ".join(f"{length}: {'the same' if equal else 'not the same'}" for length, equal in same.items()),
            "the same method, and the same bits after 100 steps",
            *wherever(same, "lengths"),
        ),
    ]


def _warmup(of: Found) -> list[Finding]:
    off, starts = {}, []
    for beta3, factor in of.factors.items():
        expected = 1 - beta3 ** np.arange(1, len(factor) + 1)
        rises = bool(np.all(np.diff(factor) >= 0))
        off[f"{beta3:g}"] = rises and bool(np.max(np.abs(factor - expected)) < 1e-9)
        starts.append(f"{factor[0]:.1g} to {factor[-1]:.2g} ($\\beta_3 = {beta3:g}$)")
    steps = len(next(iter(of.factors.values())))
    return [
        Finding(
            "article/first-paragraph",
            f"of constant rates it applies $1 - \\beta_3^t$: in {steps:,} steps from " + ", ".join(starts),
            r"never falling, and $1 - \beta_3^t$ to $10^{-9}$: the exponential warmup over $1/(1-\beta_3)$ steps,"
            r" without anything to tune but $\beta_3$",
            *wherever(off, r"$\beta_3$"),
        )
    ]


def _pauses(of: Found) -> list[Finding]:
    adam = _doubles(of.pauses[BETA3[0]]["adam"])
    steps = {beta3: _doubles(each["adamod"]) for beta3, each in of.pauses.items()}
    grown = {beta3: float(each["adamod"][-1]) for beta3, each in of.pauses.items()}
    over = {beta3: each["over"] for beta3, each in of.pauses.items()}
    return [
        Finding(
            "adamod/bound-too-fast",
            f"to double in a pause Adam's rate takes {adam} steps, AdaMod's "
            + ", ".join(f"{t} ({beta3:g})" for beta3, t in steps.items())
            + f"; after 1,000 steps they are {float(of.pauses[BETA3[0]]['adam'][-1]):,.0f} times as large, and "
            + ", ".join(f"{value:,.0f}" for value in grown.values()),
            "at least twice as many steps as Adam's, for each $\\beta_3$",
            *wherever({f"{beta3:g}": t >= 2 * adam for beta3, t in steps.items()}, r"$\beta_3$"),
        ),
        Finding(
            "adamod/bound-too-large",
            "largest rate over the average of its past: AdaMod's "
            + f"{max(float(each[1]) for each in over.values()):.2f}, Adam's "
            + ", ".join(f"{float(each[0]):.3g} ({beta3:g})" for beta3, each in over.items()),
            "AdaMod's is at most 1, as equation 3 has it, and Adam's above 1 (chosen afterwards); the past is what"
            " $s_t$ averages",
            *wherever({f"{b:g}": bool(x[1] <= 1 + 1e-12 and x[0] > 1.01) for b, x in over.items()}, r"$\beta_3$"),
        ),
    ]


def _doubles(grown: np.ndarray) -> int:
    return int(np.argmax(grown >= 2))


def _fluctuations(of: Found) -> list[Finding]:
    over_time = [float(of.bounds[beta3]["over_time"]) for beta3 in BETA3]
    over_all = [float(of.bounds[beta3]["over_coordinates"]) for beta3 in BETA3]
    falls = {
        f"{a:g} to {b:g}": over_time[i + 1] < over_time[i] and over_all[i + 1] < over_all[i]
        for i, (a, b) in enumerate(itertools.pairwise(BETA3))
    }
    return [
        Finding(
            "adamod/robustness-to-different-beta3-2",
            "standard deviation of the bound, in parts of its mean, at $\\beta_3$ = 0.9, 0.99, 0.999, 0.9999: over"
            f" coordinates {', '.join(f'{x:.2g}' for x in over_all)}; within 100 steps"
            f" {', '.join(f'{x:.2g}' for x in over_time)}",
            "both fall from each $\\beta_3$ to the next, with the same gradients",
            *wherever(falls, "steps of $\\beta_3$"),
        )
    ]


def _example(of: Found) -> list[Finding]:
    adam = of.walks["Adam"]
    mods = {name.removeprefix("AdaMod, "): each for name, each in of.walks.items() if "AdaMod" in name}
    arrives = {beta3: bool(np.all(each["x"][:, -1] < -0.9)) for beta3, each in mods.items()}
    memory = of.walks["Adam, amsgrad"]
    return [
        Finding(
            "adamod/reddi-adam",
            f"ends at {_ends(adam)}, with an average regret of {adam['regret'].min():.2f} or more",
            "does not end within 0.1 of the best point, -1, from any of the three starts",
            "holds" if np.all(adam["x"][:, -1] > -0.9) else "does not hold",
        ),
        Finding(
            "adamod/reddi-bound",
            "AdaMod ends at "
            + "; ".join(f"{_ends(each)} ({beta3})" for beta3, each in mods.items())
            + f"; AMSGrad at {_ends(memory)}",
            "ends within 0.1 of the best point, -1, from each of the three starts",
            *wherever(arrives, r"$\beta_3$"),
        ),
    ]


def _ends(values: Values) -> str:
    return ", ".join(f"{x:.2f}" for x in values["x"][:, -1])
