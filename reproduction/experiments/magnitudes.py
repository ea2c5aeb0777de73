"""Update magnitudes at a minimum: Ma & Yarats 2021, sections 3.1 to 3.3 and Figure 2."""

from __future__ import annotations

import math
from statistics import NormalDist
from typing import Any

import numpy as np

from adamod_array import Adam, AdaMod, Method, Momentum, RAdam
from reproduction.findings import magnitudes_claims
from reproduction.findings.magnitudes_claims import VARIANCE, Found, at, median
from reproduction.frame import Check, Experiment, Picture, Report, Results, Run, Values
from reproduction.runs.simulated_updates import TINY, first_step, rectified, simulate
from reproduction.style import BLACK, BLUE, GREEN, ORANGE, PURPLE, SKY, VERMILION, panels

ABOUT = r"""
At a minimum all gradients are noise. As in the paper, each of 25,000 parameters sees gradients from
$\mathcal N(0, 10^{-9})$ in 10,000 iterations (the first 1,000 are the paper's Figure 2), and the magnitude of each
update, before it is multiplied by $\alpha$, is recorded: $\beta_1 = 0.9$, $\beta_2 = 0.999$, $\epsilon = 0$. The paper
shows Adam; RAdam and AdaMod see the same gradients. With 5,000 parameters the same is done for SGD and Momentum, and
for Adam where the gradients are not normal: Student's $t$ of three degrees of freedom, Laplace's law, normal but nine
times in ten zero, of a mean that is one deviation, and of a variance that falls to a hundredth over the iterations.
"""

METHODS: dict[str, tuple[Method, str]] = {
    "Adam": (Adam(eps=0), VERMILION),
    "RAdam": (RAdam(eps=0), GREEN),
    "AdaMod, $\\beta_3 = 0.999$": (AdaMod(eps=0), SKY),
    "AdaMod, $\\beta_3 = 0.9999$": (AdaMod(eps=0, beta3=0.9999), BLUE),
}
FIRST_ORDER: dict[str, Method] = {"SGD": Momentum(beta=0), "Momentum": Momentum()}
LAWS = ("normal", "Student", "Laplace", "sparse", "mean 1", "falling")
SCALES = (VARIANCE, VARIANCE * 2**20, VARIANCE / 2**20)
"""Variances that are powers of four apart: the gradients differ in their exponents alone."""


def at_minimum(method: Method, quick: bool) -> Run:
    """Return the simulation of the paper's Figure 2, of one method."""
    parameters, iterations = (1_000, 1_000) if quick else (25_000, 10_000)
    return Run(
        simulate,
        method=method,
        law="normal",
        variance=VARIANCE,
        parameters=parameters,
        iterations=iterations,
        seed=0,
    )


def runs(quick: bool) -> list[Run]:
    small: dict[str, Any] = {"parameters": 300 if quick else 5_000, "iterations": 400 if quick else 10_000, "seed": 1}
    short = {"parameters": 500, "iterations": 60 if quick else 1_000, "seed": 2}
    return [
        *(at_minimum(method, quick) for method, _ in METHODS.values()),
        *(Run(simulate, method=Adam(eps=TINY), law=law, variance=VARIANCE, **small) for law in LAWS),
        *(Run(simulate, method=method, law="normal", variance=VARIANCE, **small) for method in FIRST_ORDER.values()),
        *(Run(simulate, method=Adam(eps=0), law="normal", variance=variance, **short) for variance in SCALES),
        Run(simulate, method=RAdam(eps=0), law="normal", variance=1.0, **short),
        *(Run(rectified, law=law, variance=variance, **short) for law in LAWS for variance in (VARIANCE, 1.0)),
        Run(first_step, parameters=1_000, seed=3),
    ]


def found(results: Results) -> Found:
    """Return the results by what they are of: each kind of run has its seed."""
    main, laws, short, first = (results.where(seed=seed) for seed in range(4))
    return Found(
        methods={name: main.one(method=method) for name, (method, _) in METHODS.items()},
        laws={law: laws.one(law=law, method=Adam(eps=TINY)) for law in LAWS},
        first_order={name: laws.one(method=method) for name, method in FIRST_ORDER.items()},
        scales={variance: short.one(method=Adam(eps=0), variance=variance) for variance in SCALES},
        radam_at_one=short.one(method=RAdam(eps=0)),
        rectified={(r.config["law"], r.config["variance"]): r.values for r in short if "warm" in r.values},
        first=first[0].values,
        parameters=main[0].config["parameters"],
    )


def report(results: Results, quick: bool) -> Report:
    of = found(results)
    adam = of.methods["Adam"]
    exactly_one = float(np.max(np.abs(adam["range"][0] - 1)))
    above = max(
        float(np.max(each["quantiles"] - adam["quantiles"])) for name, each in of.methods.items() if "AdaMod" in name
    )
    expected, settled, error = stationary_median(), of.settled(), of.error(stationary_median())
    warm = max(float(each["warm"]) for each in of.rectified.values())
    checks = [
        Check(
            "Adam's first updates have magnitude 1, to the last bit or two",
            exactly_one < 1e-15,
            f"{exactly_one:.1e} off",
        ),
        Check(
            r"Adam's median settles at $\Phi^{-1}(3/4)\sqrt{(1-\beta_1)/(1+\beta_1)}$ = " + f"{expected:.4f}",
            # beside the error of sampling, v has not its mean's value: E[v**-1/2] is up to 3/(4 rho_inf) = 0.0004 above
            abs(settled - expected) < 5 * error + 0.001 * expected,
            f"{settled:.4f}, five standard errors are {5 * error:.4f}",
        ),
        # a parameter walks away from 0 and is rounded there
        Check(r"RAdam's are $\omega_t$ times Adam's from $t = 5$ on", warm < 1e-11, f"{warm:.0e} off"),
        Check("no quantile of AdaMod's is above Adam's", above < 1e-12, f"{above:.0e}"),
    ]
    alt = "Update magnitudes over iterations for Adam, RAdam and two AdaMods."
    laws_alt = "Median update magnitudes over iterations for six laws of gradients, and for SGD and Momentum."
    pictures = [
        Picture("quantiles", _draw(of.methods), alt),
        Picture("laws", _draw_laws(of), laws_alt, "Right: in parts of the deviation of a gradient."),
    ]
    findings = [] if quick else magnitudes_claims.findings(of)
    return Report(findings, checks, pictures, _table(of) + _seen(of))


def stationary_median(beta1: float = 0.9) -> float:
    """Of ``|m|/sqrt(v)`` where ``v`` has settled: ``m`` is normal with (1 - beta1)/(1 + beta1) of the variance."""
    return NormalDist().inv_cdf(0.75) * math.sqrt((1 - beta1) / (1 + beta1))


def _seen(of: Found) -> str:
    slow = of.methods["AdaMod, $\\beta_3 = 0.9999$"]
    return (
        "\nRAdam's first four steps are momentum: their magnitudes are those of the gradients"
        f" (median {at(of.methods['RAdam'], 1):.0e} at $t = 1$), not of $\\alpha$, and"
        f" {at(of.radam_at_one, 1):.2f} where"
        " the gradients have variance 1. AdaMod's are small because its bound starts from $s_0 = 0$; with"
        f" $\\beta_3 = 0.9999$ they are at {median(slow)[-1] / of.settled():.0%} of Adam's in the end.\n"
    )


def _draw(methods: dict[str, Values]) -> Any:
    figure, axes = panels(2, 2, height=3.2, sharex=True, sharey=True)
    for ax, (name, each) in zip(axes.flat, methods.items(), strict=True):
        t = each["t"]
        low, quarter, middle, three, high = each["quantiles"].T
        color = METHODS[name][1]
        ax.fill_between(t, low, high, color=color, alpha=0.15, lw=0, label="2.5 % to 97.5 %")
        ax.fill_between(t, quarter, three, color=color, alpha=0.35, lw=0, label="25 % to 75 %")
        ax.plot(t, middle, color=color, label="median")
        ax.axhline(stationary_median(), color="0.4", lw=0.9, ls=":", label=f"{stationary_median():.3f}")
        ax.set(xscale="log", ylim=(0, 1.05), xlim=(1, t[-1]), title=name)
        ax.legend(loc="upper right")
    for ax in axes[1]:
        ax.set_xlabel("iteration $t$")
    for ax in axes[:, 0]:
        ax.set_ylabel(r"update magnitude / $\alpha$")
    return figure


def _draw_laws(of: Found) -> Any:
    figure, (left, right) = panels(1, 2, height=3.4)
    for law, color in zip(LAWS, (BLACK, GREEN, SKY, VERMILION, ORANGE, PURPLE), strict=True):
        each = of.laws[law]
        left.plot(each["t"], median(each), lw=1, color=color, label=magnitudes_claims.LAW_NAMES[law])
    for (name, each), color in zip(of.first_order.items(), (BLUE, ORANGE), strict=True):
        right.plot(each["t"], median(each) / math.sqrt(VARIANCE), lw=1, color=color, label=name)
    left.axhline(stationary_median(), color="0.4", lw=0.9, ls=":")
    left.set(ylim=(0, 1.55), ylabel=r"median update magnitude / $\alpha$", title="Adam")
    right.set(ylim=(0, 2.4), ylabel="median update / deviation of a gradient", title="First order")
    for ax in (left, right):
        ax.set(xscale="log", xlabel="iteration $t$", xlim=(1, None))
        ax.legend(loc="upper right", ncols=2)
    return figure


def _table(of: Found) -> str:
    t = of.methods["Adam"]["t"]
    marks = [k for k in MARKS if k <= t[-1]]
    rows = ["| median update magnitude | " + " | ".join(f"t = {k:,}" for k in marks) + " |"]
    rows.append("| --- |" + " ---: |" * len(marks))
    for name, each in of.methods.items():
        rows.append(f"| {name} | " + " | ".join(f"{at(each, k):.2g}" for k in marks) + " |")
        if "AdaMod" in name:
            shares = [each["bounded"][np.searchsorted(t, k)] for k in marks]
            rows.append("| share of rates bounded | " + " | ".join(f"{share:.2f}" for share in shares) + " |")
    return "\n".join(rows) + "\n"


MARKS = (1, 4, 5, 10, 40, 100, 1000, 3000, 10_000)

EXPERIMENT = Experiment("magnitudes", "Update magnitudes at a minimum", ABOUT, runs, report)
