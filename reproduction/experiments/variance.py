"""Variance of the adaptive rate: the README of RAdam's authors, Figure 1."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from adamod_array import Adam, init, step
from adamod_array.diagnostics import effective_rates
from adamod_array.schedules import radam_warmup
from reproduction.frame import Check, Claim, Experiment, Picture, Report, Results, Run, Values
from reproduction.style import BLACK, BLUE, GREEN, GREY, ORANGE, VERMILION, panels

ABOUT = r"""
The authors of RAdam explain warmup by the variance of Adam's adaptive rate $\psi_t = \sqrt{(1-\beta_2^t)/v_t}$, for
gradients from $\mathcal N(\mu, 1)$, and choose $\omega_t$ so that $\omega_t^2\operatorname{Var}\psi_t$ stays what it
becomes in the end. Here it is simulated with $\beta_2 = 0.999$ for $\mu$ = 0, 0.1, 1 and 10, with the rates of
`diagnostics.effective_rates` ($\alpha = 1$, $\epsilon = 0$), beside the closed form
$\operatorname{Var}\psi_t \approx \rho_t / (2(\rho_t - 2)(\rho_t - 4))$ of which $\omega_t$ is the quotient: $\rho_t$ is
the length of a simple average with the same centre of mass, and a simple average of squares is a $\chi^2$ variable.
"""

MEANS = (0.0, 0.1, 1.0, 10.0)
COLORS = dict(zip(MEANS, (BLUE, GREEN, ORANGE, VERMILION), strict=True))
BETA2 = 0.999


def simulate(mean: float, paths: int, steps: int, seed: int) -> Values:
    """Mean and variance of the rate over independent coordinates, at each of the first 20 steps and then at some."""
    rng = np.random.default_rng([seed, round(10 * mean)])
    marks = {*range(1, 21), *np.geomspace(20, steps, 60).astype(int).tolist()}
    state = init(Adam(beta1=0, beta2=BETA2, eps=0), np.zeros(paths), lr=1.0)
    rows = []
    for t in range(1, steps + 1):
        state = step(state, rng.normal(mean, 1, paths))
        if t in marks:
            rates = effective_rates(state)
            rows.append((t, rates.mean(), rates.var()))
    t, mean_rate, variance = np.asarray(rows).T
    return {"t": t.astype(int), "mean": mean_rate, "variance": variance}


def runs(quick: bool) -> list[Run]:
    paths, steps = (4_000, 1_500) if quick else (100_000, 10_000)
    return [Run(simulate, mean=mean, paths=paths, steps=steps, seed=0) for mean in MEANS]


def rho(t: np.ndarray) -> np.ndarray:
    """Ma & Yarats, equations 6 and 7, typed as printed: float64 and t of 10,000 at most do not need more."""
    bare = 2 / (1 - BETA2) - 1
    return np.asarray(bare - 2 * t * BETA2**t / (1 - BETA2**t))


def closed_form(length: np.ndarray) -> np.ndarray:
    """Variance of ``chi2(length) / length`` to the power -1/2, to first order in 1/length; none up to 4."""
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(length > 4, length / (2 * (length - 2) * (length - 4)), np.nan)


def exact(length: float) -> float:
    """The same without approximation: E[1/x] - E[x**-1/2]**2 for x = chi2(length) / length; needs length > 2."""
    half = length / 2
    root = math.exp(0.5 * math.log(half) + math.lgamma(half - 0.5) - math.lgamma(half))
    return length / (length - 2) - root**2


def equivalent_length(t: np.ndarray) -> np.ndarray:
    """The simple average with the variance (not the centre of mass) of the exponential one: (sum w)^2 / sum w^2."""
    return np.asarray((1 + BETA2) / (1 - BETA2) * (1 - BETA2**t) / (1 + BETA2**t))


def report(results: Results, quick: bool) -> Report:
    found = {mean: results.one(mean=mean) for mean in MEANS}
    paths, t = results[0].config["paths"], found[0.0]["t"]
    rectified = {mean: radam_warmup(BETA2)(t) ** 2 * each["variance"] for mean, each in found.items()}
    tame = t >= 20  # before, the sample variance is one of few large numbers: its own does not exist up to t = 8
    early, last = int(np.searchsorted(t, 5)), len(t) - 1
    growth = {mean: each["variance"][early] / each["variance"][last] for mean, each in found.items()}
    flat = rectified[0.0][tame] / rectified[0.0][last]
    to_form = found[0.0]["variance"][tame] / closed_form(rho(t[tame]))
    # of a chi-squared variable of that length: the only error left is of its shape, of order 1/length, and of sampling
    law = np.asarray([exact(float(n)) for n in equivalent_length(t[tame])])
    off = np.abs(found[0.0]["variance"][tame] / law - 1)
    allowed = 2 / equivalent_length(t[tame]) + 5 * np.sqrt((2 + 60 / equivalent_length(t[tame])) / paths)
    worst = int(np.argmax(off / allowed))
    small = found[10.0]["variance"][early] / found[0.0]["variance"][early]
    claims = [
        Claim(
            "RAdam README, Figure 1",
            "the adaptive rate has a large variance in the early stage",
            "a curve that falls",
            f"{growth[0.0]:,.0f} times as large at $t = 5$ as at $t$ = {t[-1]:,}, for $\\mu = 0$",
            "holds" if growth[0.0] > 10 else "does not hold",
        ),
        Claim(
            "RAdam README, Q&A",
            "also where the mean is not zero",
            "curves that fall",
            r"for $\mu$ = 0.1, 1 and 10, "
            + ", ".join(f"{growth[mean]:,.0f}" for mean in MEANS[1:])
            + " times as large",
            "holds" if min(growth.values()) > 10 else "does not hold",
        ),
        Claim(
            "RAdam README, Q&A",
            r"at $\mu = 10$ the variance is relatively small",
            "a small curve",
            f"{small:.1e} of that at $\\mu = 0$, at $t = 5$",
            "holds" if small < 0.01 else "does not hold",
        ),
        Claim(
            "RAdam README; Ma & Yarats, equation 8",
            r"$\omega_t^2\operatorname{Var}\psi_t$ is about constant ($\mu = 0$)",
            "constant",
            f"{flat.min():.2f} to {flat.max():.2f} of its last value for $t \\ge 20$, while the variance itself falls"
            f" {found[0.0]['variance'][np.argmax(tame)] / found[0.0]['variance'][last]:.0f}-fold",
            "holds" if flat.min() > 0.8 and flat.max() < 1.25 else "does not hold",
        ),
        Claim(
            "the closed form",
            r"$\operatorname{Var}\psi_t \approx \rho_t/(2(\rho_t-2)(\rho_t-4))$ for $\mu = 0$",
            "1",
            f"simulated over closed form: {to_form.min():.2f} to {to_form.max():.2f} for $t \\ge 20$",
            "holds" if to_form.min() > 0.8 and to_form.max() < 1.25 else "does not hold",
        ),
    ]
    checks = [
        Check(
            r"for $\mu = 0$ and $t \ge 20$ it is that of a $\chi^2$ variable of $(\sum w)^2/\sum w^2$ degrees",
            bool(np.all(off < allowed)),
            f"off by {off[worst]:.3f} at t = {t[tame][worst]}, where {allowed[worst]:.3f} is sampling and shape",
        ),
        Check(
            r"the rate of $\mu = 10$ tends to $1/\sqrt{101}$",
            abs(found[10.0]["mean"][last] * math.sqrt(101) - 1) < 1e-3,
            f"{found[10.0]['mean'][last] * math.sqrt(101):.5f} of it",
        ),
    ]
    alt = "Variance of the adaptive rate over iterations, without and with rectification, for four means."
    text = (
        "Up to $t = 2$ the variance does not exist, and the sample's up to $t = 8$ or so is made by its largest few"
        " rates: the left ends of the curves are chance."
    )
    return Report(claims, checks, [Picture("variance", _draw(found, rectified, t), alt)], text)


def _draw(found: dict[float, Values], rectified: dict[float, np.ndarray], t: np.ndarray) -> object:
    figure, (left, right) = panels(1, 2, sharey=True)
    for mean, each in found.items():
        line: dict[str, Any] = {"color": COLORS[mean], "label": f"$\\mu$ = {mean:g}", "lw": 4 if mean == 0 else 1.8}
        left.plot(t, each["variance"], **line)
        right.plot(t[t > 4], rectified[mean][t > 4], **line)
    left.plot(t, closed_form(rho(t)), color=BLACK, ls=":", label="closed form")
    bare = float(closed_form(np.asarray(2 / (1 - BETA2) - 1)))
    right.axhline(bare, color=GREY, ls=":", label=r"closed form, $\rho_\infty$")
    left.set(xscale="log", yscale="log", xlabel="iteration $t$", ylabel="variance over coordinates")
    left.set_title(r"Adaptive rate $\psi_t = \sqrt{(1-\beta_2^t)/v_t}$")
    right.set(xscale="log", xlabel="iteration $t$", title=r"Rectified, $\omega_t\psi_t$")
    left.legend()
    right.legend()
    return figure


EXPERIMENT = Experiment("variance", "Variance of the adaptive rate", ABOUT, runs, report)
