"""AdaMod's bound: its equations, its memory and what it does to the rates, without any training."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from adamod_array import Adam, AdaMod, Method
from reproduction.findings import bound_claims
from reproduction.findings.bound_claims import BETA3, Found, deviation
from reproduction.frame import Check, Experiment, Picture, Report, Results, Run
from reproduction.runs.online import STARTS, walk
from reproduction.runs.simulated_rates import (
    BETA2,
    average_range,
    bound,
    constant_rates,
    expansion,
    memory,
    pause,
)
from reproduction.style import BLACK, BLUE, GREEN, GREY, ORANGE, SKY, VERMILION, panels

ABOUT = r"""
AdaMod averages Adam's rates, $s_t = \beta_3 s_{t-1} + (1-\beta_3)\eta_t$ (equation 1), and lets no rate exceed its
average (equation 3). What the paper and the article say of this average is arithmetic, or can be seen on a few
coordinates: gradients that are all 1; gradients from $\mathcal N(0, 1)$ for 30,000 steps; such gradients
with $\beta_2 = 0.98$, and then zeros for 1,000 steps, in which Adam's rates soar; and the example of Reddi, Kale &
Kumar 2018 (*On the convergence of Adam and beyond*, Theorem 1), on which Adam goes the wrong way for want of memory: on
$[-1, 1]$ every third gradient is $C = 3$ and the others are -1, with $\beta_1 = 0$, $\beta_2 = 1/(1+C^2)$ and rates of
$1/(2\sqrt t)$, from -1, 0 and 1. The best point is -1.
"""

LARGE = 3.0
COLORS = dict(zip(BETA3, (GREEN, ORANGE, SKY, BLUE), strict=True))
ONLINE: dict[str, Any] = {"beta1": 0.0, "beta2": 1 / (1 + LARGE**2)}
WALKS: dict[str, Method] = {
    "Adam": Adam(**ONLINE),
    "Adam, amsgrad": Adam(amsgrad=True, **ONLINE),
    **{f"AdaMod, {beta3}": AdaMod(beta3=beta3, **ONLINE) for beta3 in BETA3},
}
BEFORE = {0.9: 2_000, 0.99: 2_000, 0.999: 5_000, 0.9999: 20_000}
"""Steps ahead of a pause: the averages have settled, or nearly so."""
LENGTHS = {1_000: 0.999, 10_000: 0.9999}


def runs(quick: bool) -> list[Run]:
    return [
        *(Run(average_range, beta3=beta3) for beta3 in BETA3),
        *(Run(expansion, beta3=beta3, steps=100 if quick else 1_000, seed=0) for beta3 in BETA3),
        *(Run(constant_rates, beta3=beta3, steps=100 if quick else 1_000) for beta3 in BETA3),
        *(
            Run(bound, beta3=beta3, coordinates=500, steps=2_000 if quick else 30_000, seed=0)
            for beta3 in (0.0, *BETA3)
        ),
        *(
            Run(
                pause,
                beta2=0.98,
                beta3=beta3,
                coordinates=200,
                before=100 if quick else BEFORE[beta3],
                zeros=1_000,
                seed=0,
            )
            for beta3 in BETA3
        ),
        *(Run(memory, len_memory=length, beta3=beta3, steps=100, seed=0) for length, beta3 in LENGTHS.items()),
        *(Run(walk, method=method, large=LARGE, rate=0.5, steps=500 if quick else 20_000) for method in WALKS.values()),
    ]


def report(results: Results, quick: bool) -> Report:
    def by_beta3(function: Any) -> dict[float, Any]:
        """Return the values of the runs of a function: the results are in the order of the runs."""
        pairs = zip(runs(quick), results, strict=True)
        return {run.config["beta3"]: result.values for run, result in pairs if run.function is function}

    of = Found(
        ranges=by_beta3(average_range),
        expansions=by_beta3(expansion),
        factors={beta3: each["factor"] for beta3, each in by_beta3(constant_rates).items()},
        bounds=by_beta3(bound),
        pauses=by_beta3(pause),
        memories={length: results.one(len_memory=length) for length in LENGTHS},
        walks={name: results.one(method=method) for name, method in WALKS.items()},
    )
    steps = next(r.config["steps"] for r in results if r.config.get("coordinates") == 500)
    alt = "Median rates of Adam and of AdaMod in a pause of the gradients, over those ahead of it."
    walks_alt = "Walks on the example of Reddi, Kale and Kumar from 0, over steps, for six methods."
    pictures = [Picture("pause", _draw_pause(of), alt), Picture("walks", _draw_walks(of), walks_alt)]
    findings = [] if quick else bound_claims.findings(of)
    return Report(findings, _checks(of, steps), pictures, _table(of))


def _checks(of: Found, steps: int) -> list[Check]:
    warmup = max(_apart(factor, _growing(beta3, len(factor))) for beta3, factor in of.factors.items())
    written = max(float(each["of_rates"]) for each in of.expansions.values())
    settled = [beta3 for beta3 in BETA3 if steps * (1 - beta3) >= 3]
    rates = float(of.bounds[0.0]["over_coordinates"])
    # the rates forget like beta2**k, and follow v in a line where they deviate little; 500 coordinates tell 3 %
    quotients = [float(of.bounds[beta3]["over_coordinates"]) / rates / deviation(beta3, BETA2) for beta3 in settled]
    over = max(float(each["over"][1]) for each in of.pauses.values())
    return [
        Check(r"of constant rates AdaMod's are $1 - \beta_3^t$", warmup < 1e-12, f"{warmup:.0e} off"),
        Check("equation 1 is the weighted sum of all earlier rates", written < 1e-10, f"{written:.0e} off"),
        Check(
            r"the bound deviates by $\sqrt{(1-\beta_3)(1+\beta_2\beta_3)/((1+\beta_3)(1-\beta_2\beta_3))}$ of the"
            r" rates",
            all(abs(q - 1) < 0.2 for q in quotients),
            ", ".join(f"{q:.2f} of it" for q in quotients),
        ),
        Check("no rate exceeds its average", over <= 1 + 1e-12, f"{over:.3f} of it at most"),
        Check(
            "Adam goes to the wrong end of the example, and AMSGrad to the right one",
            bool(np.all(of.walks["Adam"]["x"][:, -1] > 0.9) and np.all(of.walks["Adam, amsgrad"]["x"][:, -1] < -0.9)),
        ),
    ]


def _growing(beta3: float, steps: int) -> np.ndarray:
    return np.asarray(-np.expm1(np.arange(1, steps + 1) * math.log(beta3)))


def _apart(a: np.ndarray, b: np.ndarray) -> float:
    return float(np.max(np.abs(a / b - 1)))


def _draw_pause(of: Found) -> Any:
    figure, ax = panels(width=5.5)
    ax.plot(of.pauses[BETA3[0]]["adam"], color=VERMILION, lw=3, label="Adam")
    for beta3, each in of.pauses.items():
        ax.plot(each["adamod"], color=COLORS[beta3], label=f"AdaMod, $\\beta_3 = {beta3:g}$")
    ax.set(yscale="log", xlabel="steps without a gradient", ylabel="median rate / rate ahead of the pause")
    ax.legend()
    return figure


def _draw_walks(of: Found) -> Any:
    figure, ax = panels(width=7)
    colors = dict(zip(of.walks, (VERMILION, BLACK, *COLORS.values()), strict=True))
    middle = STARTS.index(0.0)
    for name, each in of.walks.items():
        ax.plot(each["t"], each["x"][middle], color=colors[name], label=_label(name))
    ax.axhline(-1, color=GREY, lw=0.9, ls=":")
    ax.set(xscale="log", ylim=(-1.08, 1.08), xlabel="step $t$", ylabel="$x$, from 0 (best: -1)")
    ax.legend(loc="center left", bbox_to_anchor=(1, 0.5))
    return figure


def _label(name: str) -> str:
    method, _, beta3 = name.partition(", ")
    return f"{method}, $\\beta_3 = {beta3}$" if method == "AdaMod" else name


def _turns(of: Found, beta3: float) -> int:
    """Return the last step seen at which the walk from 0 was near the lowest of its points."""
    each = of.walks[f"AdaMod, {beta3}"]
    x = each["x"][STARTS.index(0.0)]
    return int(each["t"][x <= x.min() + 0.05][-1])


def _table(of: Found) -> str:
    rows = [
        "| example of Reddi, Kale & Kumar | ends at, from -1 | from 0 | from 1 | average regret, from 0 |",
        "| --- | ---: | ---: | ---: | ---: |",
    ]
    for name, each in of.walks.items():
        ends = " | ".join(f"{x:.2f}" for x in each["x"][:, -1])
        rows.append(f"| {_label(name)} | {ends} | {each['regret'][STARTS.index(0.0)]:.3f} |")
    rows += [
        "",
        "While the bound grows from 0 it is below all of Adam's rates, so that large gradients and small ones have the"
        " same rate, and AdaMod goes the right way. Once the bound has passed the lowest of the rates it turns round:"
        " from 0, after step " + ", ".join(f"{_turns(of, b):,} ($\\beta_3 = {b:g}$)" for b in BETA3[1:]) + ".",
        "",
        "| standard deviation, in parts of the mean | over coordinates | within 100 steps |",
        "| --- | ---: | ---: |",
    ]
    for beta3, each in of.bounds.items():
        name = f"bound, $\\beta_3 = {beta3:g}$" if beta3 else "Adam's rate"
        rows.append(f"| {name} | {float(each['over_coordinates']):.2g} | {float(each['over_time']):.2g} |")
    return "\n".join(rows) + "\n"


EXPERIMENT = Experiment("bound", "AdaMod's bound", ABOUT, runs, report)
