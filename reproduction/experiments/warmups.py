"""Warmup schedules: Ma & Yarats 2021, section 3.1 (Fact 3.1) and section 4 (Figure 3)."""

from __future__ import annotations

from typing import Any

import numpy as np

from adamod_array import schedules
from reproduction.findings import warmups_claims
from reproduction.findings.warmups_claims import BETAS, TYPICAL, Found
from reproduction.frame import Check, Experiment, Picture, Report, Results, Run, Values
from reproduction.style import BLUE, GREEN, VERMILION, panels

ABOUT = r"""
Ma & Yarats 2021 show that RAdam is four steps of momentum and then Adam with a fixed warmup $\omega_t$, and propose
two warmups without anything to tune, $1 - e^{-(1-\beta_2)t}$ and $\min\{1, t(1-\beta_2)/2\}$. Their *effective warmup
period* is $\mathcal T(\omega) = \sum_t (1 - \omega_t)$, with $\omega_1, \ldots, \omega_4 = 0$ for RAdam.
"""

WARMUPS = {
    "RAdam": (schedules.radam_warmup, GREEN, "-"),
    "untuned exponential": (schedules.untuned_exponential, BLUE, "--"),
    "untuned linear": (schedules.untuned_linear, VERMILION, ":"),
}


def periods(memories: tuple[float, ...]) -> Values:
    """Effective warmup periods for each beta2 = 1 - 1/memory."""
    beta2 = 1 - 1 / np.asarray(memories)
    of = {
        "RAdam": schedules.radam_warmup,
        "untuned exponential": schedules.untuned_exponential,
        "untuned linear": schedules.untuned_linear,
    }
    found = {
        name: np.asarray([schedules.effective_warmup_period(warmup(float(b))) for b in beta2])
        for name, warmup in of.items()
    }
    return {"beta2": beta2, **found}


def factors(beta2: float, steps: int) -> Values:
    """The warmup factors of the first steps, and what the exponential one approximates."""
    t = np.arange(1, steps + 1)
    return {
        "t": t,
        "RAdam": schedules.radam_warmup(beta2)(t),
        "untuned exponential": schedules.untuned_exponential(beta2)(t),
        "untuned linear": schedules.untuned_linear(beta2)(t),
        "bias correction": -np.expm1(t * np.log(beta2)),
    }


def first_rectified(points: int) -> Values:
    """The first step with rho_t > 4, for beta2 on a grid of [0.8, 1): where RAdam's warmup factor is positive."""
    beta2 = np.concatenate([np.linspace(0.8, 1, points, endpoint=False), 1 - np.geomspace(1e-12, 0.2, points)])
    t = np.arange(1, 51)
    positive = np.asarray([schedules.radam_warmup(float(b))(t) > 0 for b in beta2])
    return {"beta2": beta2, "fact": np.all(positive == (t > 4), axis=1)}


def runs(quick: bool) -> list[Run]:
    memories = tuple(float(x) for x in np.geomspace(5, 1e3 if quick else 2e4, 15 if quick else 40))
    return [
        Run(periods, memories=memories),
        Run(periods, memories=tuple(float(1 / (1 - beta2)) for beta2 in BETAS)),
        Run(first_rectified, points=2_000 if quick else 40_000),
        *(Run(factors, beta2=beta2, steps=5000) for beta2 in sorted({0.999, 0.9, *TYPICAL})),
    ]


def report(results: Results, quick: bool) -> Report:
    curve, table, fact = (result.values for result in results[:3])
    of = Found(table, {r.config["beta2"]: r.values for r in results if "beta2" in r.config}, fact, curve)
    # sums of a geometric series and of a line, in closed form
    exact = 1 / np.expm1(1 - curve["beta2"])
    off = float(np.max(np.abs(curve["untuned exponential"] / exact - 1)))
    checks = [
        Check("Fact 3.1 on the grid", bool(np.all(fact["fact"])), f"{int(fact['fact'].sum())} of {len(fact['fact'])}"),
        Check("the exponential warmup's period is $1/(e^{1-\\beta_2} - 1)$", off < 1e-9, f"off by {off:.1e} at most"),
    ]
    alt = "Left, effective warmup periods over beta2. Right, warmup factors over 5,000 steps."
    findings = [] if quick else warmups_claims.findings(of)
    return Report(findings, checks, [Picture("schedules", _draw(of), alt)], _tables(of))


def _draw(of: Found) -> Any:
    figure, (left, right) = panels(1, 2)
    of_t = of.factors[0.999]
    for name, (_, color, line) in WARMUPS.items():
        left.plot(1 / (1 - of.curve["beta2"]), of.curve[name], line, color=color, label=name)
        right.plot(of_t["t"], of_t[name], line, color=color, label=name)
    left.set(
        xscale="log", yscale="log", xlabel=r"memory $1/(1-\beta_2)$ (steps)", ylabel="effective warmup period (steps)"
    )
    left.set_title("Effective warmup period")
    right.set(xlabel="step $t$", ylabel=r"warmup factor $\omega_t$", xlim=(0, len(of_t["t"])), ylim=(0, 1.02))
    right.set_title(r"Warmup factors, $\beta_2 = 0.999$")
    left.legend()
    right.legend()
    return figure


def _tables(of: Found) -> str:
    """Numbers to read off: factors by step, periods by beta2."""
    steps, of_t = (5, 10, 100, 1000, 2000, 4000), of.factors[0.999]
    lines = [
        "| warmup factor, $\\beta_2 = 0.999$ | " + " | ".join(f"t = {t:,}" for t in steps) + " |",
        "| --- |" + " ---: |" * len(steps),
        *(f"| {name} | " + " | ".join(f"{of_t[name][t - 1]:.4f}" for t in steps) + " |" for name in WARMUPS),
        "",
        "| effective warmup period, steps | " + " | ".join(f"$\\beta_2$ = {b:g}" for b in BETAS) + " |",
        "| --- |" + " ---: |" * len(BETAS),
        *(f"| {name} | " + " | ".join(f"{period:,.1f}" for period in of.periods[name]) + " |" for name in WARMUPS),
    ]
    ratios = of.periods["untuned linear"] / of.periods["RAdam"]
    return "\n".join(lines) + (
        f"\n\nThe untuned periods go from {ratios[0]:.2f} of RAdam's at $\\beta_2 = {BETAS[0]:g}$ to"
        f" {ratios[-1]:.2f} at {BETAS[-1]:g}. In the first steps RAdam's factor grows like $\\sqrt t$, the untuned"
        f" ones like $t$.\n"
    )


EXPERIMENT = Experiment("warmups", "Warmup schedules", ABOUT, runs, report)
