"""Variance of the adaptive rate: the README of RAdam's authors, Figure 1, and Ma & Yarats 2021, section 3.2."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from adamod_array import Adam, AdaMod, Method, RAdam
from adamod_array.schedules import radam_warmup
from reproduction.findings import variance_claims
from reproduction.findings.rate_laws import chance, closed_form, equivalent_length, exact, rho
from reproduction.findings.variance_claims import FIRST, Found
from reproduction.frame import Check, Experiment, Picture, Report, Results, Run, Values
from reproduction.runs.simulated_rates import BETA2, rates
from reproduction.style import BLACK, BLUE, GREEN, GREY, ORANGE, SKY, VERMILION, panels

ABOUT = r"""
The authors of RAdam explain warmup by the variance of Adam's adaptive rate $\psi_t = \sqrt{(1-\beta_2^t)/v_t}$, for
gradients from $\mathcal N(\mu, 1)$, and choose $\omega_t$ so that $\omega_t^2\operatorname{Var}\psi_t$ stays what it
becomes in the end. Here it is simulated with $\beta_2 = 0.999$ for $\mu$ = 0, 0.1, 1 and 10, with the rates of
`diagnostics.effective_rates` ($\alpha = 1$, $\epsilon = 0$), beside the closed form
$\operatorname{Var}\psi_t \approx \rho_t / (2(\rho_t - 2)(\rho_t - 4))$ of which $\omega_t$ is the quotient: $\rho_t$ is
the length of a simple average with the same centre of mass, and a simple average of squares is a $\chi^2$ variable. At
$\mu = 0$ the rates that RAdam and AdaMod apply are simulated, too; and the variance of Adam's squared rate, of which
Ma & Yarats speak, for some means in the first 100 steps.
"""

MEANS = (0.0, 0.1, 1.0, 10.0)
COLORS = dict(zip(MEANS, (BLUE, GREEN, ORANGE, VERMILION), strict=True))
ADAM = Adam(beta1=0, beta2=BETA2, eps=0)
APPLIED: dict[str, tuple[Method, str]] = {
    "Adam": (ADAM, VERMILION),
    "RAdam": (RAdam(beta1=0, beta2=BETA2, eps=0), GREEN),
    "AdaMod, $\\beta_3 = 0.999$": (AdaMod(beta1=0, beta2=BETA2, eps=0), SKY),
    "AdaMod, $\\beta_3 = 0.9999$": (AdaMod(beta1=0, beta2=BETA2, beta3=0.9999, eps=0), BLUE),
}
SQUARED = (0.0, 0.1, 1.0, 1.1, 2.0, 10.0)
"""Means for the variance of the squared rate: coefficients of variation from infinite to a tenth."""


def runs(quick: bool) -> list[Run]:
    paths, steps = (3_000, 1_200) if quick else (25_000, 10_000)
    return [
        *(Run(rates, method=ADAM, mean=mean, paths=paths, steps=steps, seed=0) for mean in MEANS),
        *(Run(rates, method=method, mean=0.0, paths=paths // 2, steps=steps, seed=1) for method, _ in APPLIED.values()),
        *(Run(rates, method=ADAM, mean=mean, paths=5 * paths, steps=100, seed=2) for mean in SQUARED),
    ]


def report(results: Results, quick: bool) -> Report:
    of_mean, applied, squared = (results.where(seed=seed) for seed in range(3))
    of = Found(
        means={mean: of_mean.one(mean=mean) for mean in MEANS},
        applied={name: applied.one(method=method) for name, (method, _) in APPLIED.items()},
        squared={mean: squared.one(mean=mean) for mean in SQUARED},
    )
    alt = "Variance of the adaptive rate over iterations, without and with rectification, for four means."
    applied_alt = "Variance and mean of the rates that Adam, RAdam and two AdaMods apply, over iterations."
    pictures = [
        Picture("variance", _draw(of), alt),
        Picture(
            "applied", _draw_applied(of.applied), applied_alt, r"$\mu = 0$. RAdam's rate is $\alpha$ up to $t = 4$."
        ),
    ]
    findings = [] if quick else variance_claims.findings(of)
    return Report(findings, _checks(of, results), pictures, TEXT)


TEXT = (
    f"Up to $t = 2$ the variance does not exist, and the sample's up to $t = 8$ or so is made by its largest few rates:"
    f" the left ends of the curves are chance. What is said of them here is therefore measured from $t = {FIRST}$"
    r" on, or by the $\chi^2$ law. What AdaMod's bound keeps of the first rate, $1-\beta_3$ of it, has no variance"
    r" either, and fades over $1/(1-\beta_3)$ steps only: so the variance of AdaMod's rates, unlike that of"
    r" RAdam's, begins high and falls, the more so the smaller $\beta_3$ is."
)


def _checks(of: Found, results: Results) -> list[Check]:
    zero, paths = of.means[0.0], results[0].config["paths"]
    t = zero["t"]
    tame = t >= FIRST  # before, the sample variance is one of few large numbers: its own does not exist up to t = 8
    # of a chi-squared variable of that length: the only error left is of its shape, of order 1/length, and of sampling
    length = equivalent_length(t[tame])
    law = np.asarray([exact(float(n)) for n in length])
    off = np.abs(zero["variance"][tame] / law - 1)
    allowed = 2 / length + 5 * np.sqrt((2 + 60 / length) / paths)
    worst = int(np.argmax(off / allowed))
    shares = {n: chance(n, 10.0) for n in (1, 2, 5)}
    seen = {n: float(zero["above"][0][np.searchsorted(t, n)]) for n in shares}
    error = {n: 5 * math.sqrt(p * (1 - p) / paths) + 0.005 * p for n, p in shares.items()}
    last = of.means[10.0]["mean"][-1] * math.sqrt(101)
    ours, gap = of.applied["RAdam"], 0.0
    for n, rate in zip(ours["t"][ours["t"] > 4], ours["mean"][ours["t"] > 4], strict=True):
        i = np.searchsorted(ours["t"], n)
        gap = max(gap, abs(rate / (radam_warmup(BETA2)(int(n)) * of.applied["Adam"]["mean"][i]) - 1))
    return [
        Check(
            rf"for $\mu = 0$ and $t \ge {FIRST}$ it is that of a $\chi^2$ variable of $(\sum w)^2/\sum w^2$ degrees",
            bool(np.all(off < allowed)),
            f"off by {off[worst]:.3f} at t = {t[tame][worst]}, where {allowed[worst]:.3f} is sampling and shape",
        ),
        Check(
            r"the share of rates above 10 at $t$ = 1, 2 and 5 is that of a $\chi^2$ variable of $t$ degrees",
            all(abs(seen[n] - shares[n]) < error[n] for n in shares),
            ", ".join(f"{seen[n]:.5f} of {shares[n]:.5f}" for n in shares),
        ),
        Check(r"the rate of $\mu = 10$ tends to $1/\sqrt{101}$", abs(last - 1) < 1e-3, f"{last:.5f} of it"),
        Check(r"RAdam's rates are $\omega_t$ times Adam's from $t = 5$ on", gap < 1e-12, f"{gap:.0e} off"),
    ]


def _draw(of: Found) -> Any:
    figure, (left, right) = panels(1, 2, sharey=True)
    t = of.means[0.0]["t"]
    for mean, each in of.means.items():
        line: dict[str, Any] = {"color": COLORS[mean], "label": f"$\\mu$ = {mean:g}", "lw": 4 if mean == 0 else 1.8}
        left.plot(t, each["variance"], **line)
        right.plot(t[t > 4], of.rectified(mean)[t > 4], **line)
    left.plot(t, closed_form(rho(t)), color=BLACK, ls=":", label="closed form")
    bare = float(closed_form(np.asarray(2 / (1 - BETA2) - 1)))
    right.axhline(bare, color=GREY, ls=":", label=r"closed form, $\rho_\infty$")
    left.set(xscale="log", yscale="log", xlabel="iteration $t$", ylabel="variance over coordinates")
    left.set_title(r"Adaptive rate $\psi_t = \sqrt{(1-\beta_2^t)/v_t}$")
    right.set(xscale="log", xlabel="iteration $t$", title=r"Rectified, $\omega_t\psi_t$")
    left.legend()
    right.legend()
    return figure


def _draw_applied(applied: dict[str, Values]) -> Any:
    figure, (left, right) = panels(1, 2)
    for name, each in applied.items():
        later = each["t"] > 4 if name == "RAdam" else each["t"] > 0
        left.plot(each["t"][later], each["variance"][later], color=APPLIED[name][1], label=name)
        right.plot(each["t"][later], each["mean"][later], color=APPLIED[name][1], label=name)
    left.set(xscale="log", yscale="log", xlabel="iteration $t$", ylabel="variance over coordinates")
    right.set(xscale="log", yscale="log", xlabel="iteration $t$", ylabel=r"mean over coordinates / $\alpha$")
    left.set_title("Rates applied: variance")
    right.set_title("Rates applied: mean")
    left.legend()
    return figure


EXPERIMENT = Experiment("variance", "Variance of the adaptive rate", ABOUT, runs, report)
