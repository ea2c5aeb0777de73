"""Update magnitudes at a minimum: Ma & Yarats 2021, section 3.3 and Figure 2."""

from __future__ import annotations

import math
from statistics import NormalDist

import numpy as np

from adamod_array import Adam, AdaMod, Method, RAdam, init, step
from adamod_array.diagnostics import bounded_fraction, update_magnitudes
from adamod_array.schedules import radam_warmup
from reproduction.frame import Check, Claim, Experiment, Picture, Report, Results, Run, Values
from reproduction.style import BLUE, GREEN, SKY, VERMILION, panels

ABOUT = r"""
At a minimum all gradients are noise. As in the paper, each of 25,000 parameters sees gradients from
$\mathcal N(0, 10^{-9})$ in 10,000 iterations (the first 1,000 are the paper's Figure 2), and the magnitude of each
update, before it is multiplied by $\alpha$, is recorded: $\beta_1 = 0.9$, $\beta_2 = 0.999$, $\epsilon = 0$. The paper
shows Adam; RAdam and AdaMod see the same gradients.
"""

QUANTILES = (0.025, 0.25, 0.5, 0.75, 0.975)
VARIANCE = 1e-9
METHODS: dict[str, tuple[Method, str]] = {
    "Adam": (Adam(eps=0), VERMILION),
    "RAdam": (RAdam(eps=0), GREEN),
    "AdaMod, $\\beta_3 = 0.999$": (AdaMod(eps=0), SKY),
    "AdaMod, $\\beta_3 = 0.9999$": (AdaMod(eps=0, beta3=0.9999), BLUE),
}


def simulate(method: Method, parameters: int, iterations: int, seed: int) -> Values:
    """Quantiles of the update magnitudes after each iteration, or of every tenth after the first 1,000."""
    rng = np.random.default_rng(seed)
    state = init(method, np.zeros(parameters), lr=1.0)
    steps, quantiles, bounded, furthest = [], [], [], []
    for t in range(1, iterations + 1):
        old, state = state, step(state, rng.normal(0, math.sqrt(VARIANCE), parameters))
        if t <= 1000 or t % 10 == 0:
            moved = update_magnitudes(old, state)
            steps.append(t)
            quantiles.append(np.quantile(moved, QUANTILES))
            bounded.append(float(bounded_fraction(state)))
            furthest.append([moved.min(), moved.max()])
    return {"t": steps, "quantiles": quantiles, "bounded": bounded, "range": furthest}


def runs(quick: bool) -> list[Run]:
    parameters, iterations = (2_000, 3_000) if quick else (25_000, 10_000)
    return [
        Run(simulate, method=method, parameters=parameters, iterations=iterations, seed=0)
        for method, _ in METHODS.values()
    ]


def stationary_median(beta1: float = 0.9) -> float:
    """Of ``|m|/sqrt(v)`` where ``v`` has settled: ``m`` is normal with (1 - beta1)/(1 + beta1) of the variance."""
    return NormalDist().inv_cdf(0.75) * math.sqrt((1 - beta1) / (1 + beta1))


def report(results: Results, quick: bool) -> Report:
    parameters = results[0].config["parameters"]
    found = {name: results.one(method=method) for name, (method, _) in METHODS.items()}
    t = found["Adam"]["t"]
    median = {name: each["quantiles"][:, 2] for name, each in found.items()}
    adam = median["Adam"]
    exactly_one = float(np.max(np.abs(found["Adam"]["range"][0] - 1)))
    expected = stationary_median()
    late = t > t[-1] / 2  # the medians of iterations that are 100 apart do not know each other
    settled = float(np.mean(adam[late]))
    # the density of |x| at its median, of a normal x with that median: the error of the median of n
    density = 2 * NormalDist().pdf(NormalDist().inv_cdf(0.75)) * NormalDist().inv_cdf(0.75) / expected
    error = 1 / (2 * density * math.sqrt(parameters))
    error_of_mean = error / math.sqrt((t[-1] - t[late][0]) / 100)

    def at(step: int, name: str = "Adam") -> float:
        return float(median[name][np.searchsorted(t, step)])

    near = int(t[np.argmax(np.abs(adam - expected) < 0.01)])
    claims = [
        Claim(
            "Ma & Yarats, 3.3",
            "at $t = 1$ every update has magnitude 1",
            "1",
            f"1, within {exactly_one:.0e}",
            "holds" if exactly_one < 1e-15 else "does not hold",
        ),
        Claim(
            "Ma & Yarats, 3.3",
            "after 40 iterations or so the median is near 0.16",
            "0.16",
            f"{at(40):.3f} at $t = 40$, {at(100):.3f} at 100; within 0.01 of its limit from $t = {near}$ on",
            "holds" if 0.15 < at(40) < 0.17 else "does not hold",
        ),
        Claim(
            "Ma & Yarats, 3.3",
            "the stationary median is about 0.153",
            "0.153",
            f"{settled:.4f} (mean over late iterations; one iteration scatters by {error:.4f})",
            "holds" if abs(settled - 0.153) < 0.0005 + 3 * error else "does not hold",
        ),
        *_unshown(median, t),
    ]
    # a parameter walks up to 200 away, where it rounds off by 3e-14
    gap = _rectified(found, t)
    above = max(
        float(np.max(each["quantiles"] - found["Adam"]["quantiles"]))
        for name, each in found.items()
        if "AdaMod" in name
    )
    checks = [
        Check(
            "Adam's first updates have magnitude 1, to the last bit or two",
            exactly_one < 1e-15,
            f"{exactly_one:.1e} off",
        ),
        Check(
            r"Adam's median settles at $\Phi^{-1}(3/4)\sqrt{(1-\beta_1)/(1+\beta_1)}$ = " + f"{expected:.4f}",
            # beside the error of sampling, v has not its mean's value: E[v**-1/2] is up to 3/(4 rho_inf) = 0.0004 above
            abs(settled - expected) < 5 * error_of_mean + 0.001 * expected,
            f"{settled:.4f}, five standard errors are {5 * error_of_mean:.4f}",
        ),
        Check(r"RAdam's are $\omega_t$ times Adam's from $t = 5$ on", gap < 1e-13, f"{gap:.0e} off"),
        Check("no quantile of AdaMod's is above Adam's", above < 1e-13, f"{above:.0e}"),
    ]
    picture = Picture(
        "quantiles", _draw(found, t), "Update magnitudes over iterations for Adam, RAdam and two AdaMods."
    )
    return Report(claims, checks, [picture], _table(found, t) + SEEN)


SEEN = r"""
RAdam's first four steps are momentum: their magnitudes are those of the gradients ($3\times 10^{-5}$ here), not of
$\alpha$, and would be large if the gradients were. AdaMod's are small because its bound starts from $s_0 = 0$; with
$\beta_3 = 0.9999$ they are still growing after 10,000 iterations.
"""


def _unshown(median: dict[str, np.ndarray], t: np.ndarray) -> list[Claim]:
    """What the paper's argument says of the methods that it does not simulate."""
    texts = {
        name: ", ".join(f"{float(m[np.searchsorted(t, k)]):.2g}" for k in (1, 5, 100, 1000))
        for name, m in median.items()
    }
    first = {name: max(m[:100]) for name, m in median.items()}
    return [
        Claim(
            "not in the paper",
            f"{name} has no large first updates",
            "none",
            f"medians {texts[name]} at $t$ = 1, 5, 100, 1,000",
            "holds" if first[name] < 0.16 else "does not hold",
        )
        for name in median
        if name != "Adam"
    ]


def _rectified(found: dict[str, Values], t: np.ndarray) -> float:
    """How far RAdam's quantiles are from omega times Adam's."""
    later = t > 4
    expected = radam_warmup(0.999)(t[later])[:, None] * found["Adam"]["quantiles"][later]
    return float(np.max(np.abs(found["RAdam"]["quantiles"][later] - expected)))


def _draw(found: dict[str, Values], t: np.ndarray) -> object:
    figure, axes = panels(2, 2, height=3.2, sharex=True, sharey=True)
    for ax, (name, each) in zip(axes.flat, found.items(), strict=True):
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


def _table(found: dict[str, Values], t: np.ndarray) -> str:
    rows = ["| median update magnitude | " + " | ".join(f"t = {k:,}" for k in MARKS if k <= t[-1]) + " |"]
    rows.append("| --- |" + " ---: |" * sum(k <= t[-1] for k in MARKS))
    for name, each in found.items():
        at = [np.searchsorted(t, k) for k in MARKS if k <= t[-1]]
        rows.append(f"| {name} | " + " | ".join(f"{each['quantiles'][i, 2]:.2g}" for i in at) + " |")
        if "AdaMod" in name:
            rows.append("| share of rates bounded | " + " | ".join(f"{each['bounded'][i]:.2f}" for i in at) + " |")
    return "\n".join(rows) + "\n"


MARKS = (1, 4, 5, 10, 40, 100, 1000, 3000, 10_000)

EXPERIMENT = Experiment("magnitudes", "Update magnitudes at a minimum", ABOUT, runs, report)
