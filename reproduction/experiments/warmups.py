"""Warmup schedules: Ma & Yarats 2021, section 3.1 (Fact 3.1) and section 4 (Figure 3)."""

from __future__ import annotations

import numpy as np

from adamod_array import schedules
from reproduction.frame import Check, Claim, Experiment, Picture, Report, Results, Run, Values
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
    found = {
        name: np.asarray([schedules.effective_warmup_period(warmup(float(b))) for b in beta2])
        for name, (warmup, *_) in WARMUPS.items()
    }
    return {"beta2": beta2, **found}


def factors(beta2: float, steps: int) -> Values:
    """The warmup factors of the first steps."""
    t = np.arange(1, steps + 1)
    return {"t": t, **{name: warmup(beta2)(t) for name, (warmup, *_) in WARMUPS.items()}}


def first_rectified(points: int) -> Values:
    """The first step with rho_t > 4, for beta2 on a grid of [0.8, 1): where RAdam's warmup factor is positive."""
    beta2 = np.concatenate([np.linspace(0.8, 1, points, endpoint=False), 1 - np.geomspace(1e-12, 0.2, points)])
    t = np.arange(1, 51)
    positive = np.asarray([schedules.radam_warmup(float(b))(t) > 0 for b in beta2])
    return {"beta2": beta2, "fact": np.all(positive == (t > 4), axis=1)}


def runs(quick: bool) -> list[Run]:
    memories = tuple(float(x) for x in np.geomspace(5, 1e4 if quick else 1e5, 20 if quick else 60))
    return [
        Run(periods, memories=memories),
        Run(factors, beta2=0.999, steps=5000),
        Run(first_rectified, points=2_000 if quick else 100_000),
    ]


def report(results: Results, quick: bool) -> Report:
    of_beta2, of_t, fact = (result.values for result in results)
    figure, (left, right) = panels(1, 2)
    for name, (_, color, line) in WARMUPS.items():
        left.plot(1 / (1 - of_beta2["beta2"]), of_beta2[name], line, color=color, label=name)
        right.plot(of_t["t"], of_t[name], line, color=color, label=name)
    left.set(
        xscale="log", yscale="log", xlabel=r"memory $1/(1-\beta_2)$ (steps)", ylabel="effective warmup period (steps)"
    )
    left.set_title("Effective warmup period")
    right.set(xlabel="step $t$", ylabel=r"warmup factor $\omega_t$", xlim=(0, len(of_t["t"])), ylim=(0, 1.02))
    right.set_title(r"Warmup factors, $\beta_2 = 0.999$")
    left.legend()
    right.legend()

    practical = of_beta2["beta2"] >= 0.98
    memory = 1 / (1 - of_beta2["beta2"])
    ratio = {name: of_beta2[name] / of_beta2["RAdam"] for name in WARMUPS if name != "RAdam"}
    low = min(float(r[practical].min()) for r in ratio.values())
    high = max(float(r[practical].max()) for r in ratio.values())
    gap = float(np.max(np.abs(of_t["untuned exponential"] - of_t["RAdam"])))
    gap_linear = float(np.max(np.abs(of_t["untuned linear"] - of_t["RAdam"])))
    holds = bool(np.all(fact["fact"]))
    # sums of a geometric series and of a line, in closed form
    exact = 1 / np.expm1(1 / memory)
    off = float(np.max(np.abs(of_beta2["untuned exponential"] / exact - 1)))
    claims = [
        Claim(
            "Ma & Yarats, Fact 3.1",
            r"for $0.8 \le \beta_2 < 1$, $\rho_t \le 4$ if and only if $t \le 4$",
            "proved",
            f"true at all {len(fact['beta2']):,} of $\\beta_2$, $t \\le 50$",
            "holds" if holds else "does not hold",
        ),
        Claim(
            "Ma & Yarats, Figure 3a",
            r"effective warmup periods are nearly identical for all practical $\beta_2$",
            "curves that coincide",
            f"untuned periods are {low:.3f} to {high:.3f} of RAdam's for $\\beta_2 \\ge 0.98$",
            "holds" if low > 0.8 and high < 1.25 else "does not hold",
            "judged by a fifth; below that $\\beta_2$ RAdam's is longer, by half at 0.9",
        ),
        Claim(
            "Ma & Yarats, Figure 3b",
            "the factors of RAdam and of the exponential warmup closely correspond in shape",
            "curves beside each other",
            f"at most {gap:.2f} apart; the linear warmup and RAdam, {gap_linear:.2f}",
            "holds" if gap < 0.15 else "does not hold",
            "judged by 0.15; the table shows where they part",
        ),
    ]
    checks = [
        Check("Fact 3.1 on the grid", holds, f"{int(fact['fact'].sum())} of {len(fact['fact'])}"),
        Check("the exponential warmup's period is $1/(e^{1-\\beta_2} - 1)$", off < 1e-9, f"off by {off:.1e} at most"),
    ]
    alt = "Left, effective warmup periods over beta2. Right, warmup factors over 5,000 steps."
    return Report(claims, checks, [Picture("schedules", figure, alt)], _tables(of_t))


def _tables(of_t: Values) -> str:
    """Numbers to read off: factors by step, periods by beta2."""
    steps, betas = (5, 10, 100, 1000, 2000, 4000), (0.9, 0.98, 0.99, 0.999, 0.9999)
    lines = [
        "| warmup factor, $\\beta_2 = 0.999$ | " + " | ".join(f"t = {t:,}" for t in steps) + " |",
        "| --- |" + " ---: |" * len(steps),
        *(f"| {name} | " + " | ".join(f"{of_t[name][t - 1]:.4f}" for t in steps) + " |" for name in WARMUPS),
        "",
        "| effective warmup period, steps | " + " | ".join(f"$\\beta_2$ = {b}" for b in betas) + " |",
        "| --- |" + " ---: |" * len(betas),
    ]
    for name, (warmup, *_) in WARMUPS.items():
        lines.append(
            f"| {name} | " + " | ".join(f"{schedules.effective_warmup_period(warmup(b)):,.1f}" for b in betas) + " |"
        )
    return "\n".join(lines) + SEEN


SEEN = r"""

The sums agree to a tenth; the first steps do not. There RAdam's factor grows like $\sqrt t$, the untuned ones like $t$.
"""

EXPERIMENT = Experiment("warmups", "Warmup schedules", ABOUT, runs, report)
