"""What the RAdam authors' README and the article say of why Adam needs a warmup, and of what can take its place."""

from __future__ import annotations

import numpy as np

from reproduction.findings.transformer_verdicts import FINAL, LEARNED, LOST, NEAR, Judged, listed
from reproduction.frame import Finding, wherever
from reproduction.grids.transformer_runs import CONFIGS, LARGER_EPS, RESTARTED, STEEP, WARM, two_phases
from reproduction.statistics import plus_minus

AVOIDED = f"every seed's {FINAL} is at most {NEAR} nats above Adam with warmup, at the rates at which Adam without ends"
AVOIDED += " farther above"
RADAMS = {"0.98": "RAdam", "0.999": "RAdam, beta2 = 0.999"}
"""By their beta2."""


def readme_of(judged: Judged) -> list[Finding]:
    """Return what became of the claims about causes and remedies."""
    return [*needed(judged), *remedies(judged), *variance(judged), *at_the_start(judged)]


def needed(judged: Judged) -> list[Finding]:
    """Compare Adam without a warmup and with it."""
    rates = judged.rates
    without, warmed = (judged.losses(name, of=np.exp) for name in ("Adam", WARM))
    needy = {f"{rate:g}": judged.lost(rate, "Adam") and judged.learns(rate, WARM) for rate in rates}
    lost = [rate for rate, needs in needy.items() if needs]
    return [
        Finding(
            "radam/warmup-must-have",
            f"at the rates {listed(rates)} without warmup {judged.losses('Adam')}, with it {judged.losses(WARM)}; a"
            f" training is lost without and learns with at {', '.join(lost) or 'none'}",
            f"*certain situations*: at one rate at least every seed's {FINAL} is above the entropy of single"
            f" characters less {LOST} without warmup, and below it less {LEARNED} with warmup",
            "holds" if lost else "does not hold",
        ),
        Finding(
            "radam/figure-2-adam-vanilla",
            f"perplexity of a character {judged.at_all()}: {without}; single characters have"
            f" {np.exp(judged.stuck):.1f}",
            f"every seed's {FINAL} is above the entropy of single characters less {LOST}; the value is of the words of"
            " another text",
            *judged.where(lambda rate: judged.lost(rate, "Adam")),
        ),
        Finding(
            "radam/figure-2-adam-warmup",
            f"perplexity of a character {judged.at_all()}: {warmed}",
            f"every seed's {FINAL} is below the entropy of single characters less {LEARNED}; the value is of the words"
            " of another text",
            *judged.where(lambda rate: judged.learns(rate, WARM)),
        ),
    ]


def beside(judged: Judged, names: tuple[str, ...]) -> str:
    """Return the losses of some remedies beside those of Adam, at the rates at which it has trouble."""
    found = "; ".join(f"{judged.losses(name, judged.troubled)} by {name}" for name in names)
    rest = f"{judged.losses('Adam', judged.troubled)} by Adam, {judged.losses(WARM, judged.troubled)} with warmup"
    return f"at the rates {listed(judged.troubled)}: {found}; {rest}"


def remedies(judged: Judged) -> list[Finding]:
    """Judge what the README says of a larger eps, of a second moment that is known beforehand, and of RAdam."""
    places = {
        f"$\\beta_2 = {beta2}$ at {rate:g}": judged.avoids(rate, name)
        for beta2, name in RADAMS.items()
        for rate in judged.troubled
    }
    return [
        Finding(
            "radam/warmup-or-eps",
            beside(judged, LARGER_EPS),
            f"with one of {len(LARGER_EPS)} values {AVOIDED}",
            *judged.where(lambda rate: any(judged.avoids(rate, name) for name in LARGER_EPS), judged.troubled),
        ),
        Finding(
            "radam/figure-2-adam-eps",
            beside(judged, LARGER_EPS),
            f"*relieved*: with one of {len(LARGER_EPS)} values every seed ends below Adam without warmup, by {NEAR}"
            " nats in the mean, at the rates at which that has trouble",
            *judged.where(lambda rate: any(judged.relieves(rate, name) for name in LARGER_EPS), judged.troubled),
        ),
        Finding(
            "radam/figure-2-adam-2k",
            beside(judged, ("Adam-2k",)),
            f"*avoided*: {AVOIDED}",
            *judged.where(lambda rate: judged.avoids(rate, "Adam-2k"), judged.troubled),
        ),
        Finding("radam/figure-2-radam", beside(judged, tuple(RADAMS.values())), AVOIDED, *wherever(places, "settings")),
    ]


def variance(judged: Judged) -> list[Finding]:
    """Judge the conjecture, by the training in which the variance is small and nothing else is changed."""

    def explained(rate: float) -> float:
        """Return which share of the distance between Adam and Adam with warmup goes when the variance does."""
        adam, known, warmed = (judged.final(rate, name).mean() for name in ("Adam", "Adam-2k", WARM))
        return float((adam - known) / (adam - warmed))

    shares = ", ".join(f"{100 * explained(rate):.0f} % at {rate:g}" for rate in judged.troubled)
    return [
        Finding(
            "radam/motivation-variance",
            f"with the second moment estimated beforehand, by ten times its memory, goes of the distance between Adam"
            f" without and with warmup {shares}",
            f"if the variance is the cause, at least half of the distance goes with it, {FINAL}, mean of the seeds, at"
            f" the rates at which that is more than {NEAR} nats",
            *judged.where(lambda rate: explained(rate) >= 0.5, judged.troubled),
        )
    ]


def at_the_start(judged: Judged) -> list[Finding]:
    """Judge the article's jumps, and its trap."""
    trainings = judged.trainings
    restarted = trainings.of(STEEP, two_phases(quick=False)[RESTARTED])
    moved = np.asarray([r.values["moved"] for r in restarted])
    ends = np.asarray([r.values["loss"][-4:].mean() for r in restarted])
    switch = two_phases(quick=False)[RESTARTED]["switch"]

    def rises(rate: float) -> list[float]:
        """Return how far the loss is above the first in the next three steps, at most, a number a seed."""
        first = [r.values["first_losses"] for r in trainings.of(rate, CONFIGS["Adam"])]
        return [float(each[1:].max() - each[0]) for each in first]

    stays = {
        "going on as before": judged.lost(STEEP, "Adam"),
        f"restarted at a tenth of the rate after {switch} steps": bool(np.all(ends > judged.stuck - LOST)),
    }
    return [
        Finding(
            "article/no-warm-up-needed-jumps",
            f"{judged.at_all()} the loss after one to three steps is at most "
            + ", ".join(f"{max(rises(rate)):+.2f}" for rate in judged.rates)
            + f" from the first; in the first {moved.shape[1]} steps no parameter moves farther than {moved.max():.2f}"
            f" times the rate (median {moved[:, 0, 0].mean():.2f} at step 1, {moved[:, 9, 0].mean():.2f} at step 10, at"
            f" the rate {STEEP:g})",
            "*poor* jumps: in some seed the loss is above the first after one of the first three steps",
            *judged.where(lambda rate: max(rises(rate)) > 0),
        ),
        Finding(
            "article/no-warm-up-needed-trap",
            f"at the rate {STEEP:g} Adam ends at {judged.losses('Adam', [STEEP])}; restarted from where it is lost, at"
            f" a tenth of the rate after {switch} steps, it ends at {plus_minus(ends)} after as many"
            f" more, {np.sum(ends > judged.stuck - LOST)} of {len(ends)} seeds lost as before; single characters have"
            f" {judged.stuck:.2f}",
            f"every seed's {FINAL} is above the entropy of single characters less {LOST}",
            *wherever(stays, "ways"),
        ),
    ]
