"""The place of the layer norm: the README of RAdam's authors, notes on the Transformer."""

from __future__ import annotations

from typing import Any

import numpy as np

from adamod_array import Adam
from reproduction.frame import Check, Experiment, Finding, Picture, Report, Results, Run, Verdict, wherever
from reproduction.grids import digits_grid
from reproduction.grids.transformer_grid import SEEDS, late, learned, lost, short, training, values
from reproduction.grids.transformer_runs import CONFIGS, MIDDLE, STEEP, TRANSFORMER, WARM
from reproduction.runs import train_norms, train_transformer
from reproduction.runs.train_transformer import WINDOW
from reproduction.runs.transformer import VOCABULARY, entropy
from reproduction.statistics import Test, corrected, difference, plus_minus
from reproduction.style import BLUE, GREY, ORANGE, SKY, VERMILION, curve, panels
from reproduction.tasks import DIGITS

ABOUT = r"""
The character Transformer of the section above has its layer norms after the residuals. Here it is trained once more
with the norms ahead of attention and feed-forward network, and one at the end (*pre-norm*), without a warmup and with
the same linear one over 400 steps, from the same matrices and on the same batches. Losses are training losses of the
last 100 of 600 steps.

A network *needs* the warmup at a rate if it learns with it in every seed, and its loss without it is higher by at least
0.1 nats in every seed. That was set before pre-norm had been trained.
"""

RATES = (3e-3, 1e-2, 3e-2)
"""The smallest is the smallest at which the original is held up without a warmup."""
NEEDED = 0.1
"""Nats that a warmup must gain to be needed."""
POST, PRE = "norm after", "norm before"
PLACES = (POST, PRE)
BARE, WARMED = "Adam", WARM
CONFIG = {name: CONFIGS[name] for name in (BARE, WARMED)}


def listed(place: str, name: str, rate: float, quick: bool) -> list[Run]:
    """Return the trainings of one network, with or without a warmup, a seed each."""
    if place == POST:
        return [training(CONFIG[name], rate, seed, quick) for seed in SEEDS]
    more = {"steps": short(quick), "pre_norm": True, **CONFIG[name]}
    return [Run(train_norms.train, rate=rate, seed=seed, **more) for seed in SEEDS]


def same() -> list[Run]:
    """Return two short trainings of the original that must be the same, of the two functions that train."""
    arguments: dict[str, Any] = {"method": Adam(**TRANSFORMER), "rate": MIDDLE, "seed": 0, "steps": 25}
    return [Run(train_transformer.train, **arguments), Run(train_norms.train, pre_norm=False, **arguments)]


def runs(quick: bool) -> list[Run]:
    """Return all trainings, those of the checks last."""
    if quick:
        return [*same(), Run(train_norms.train, rate=STEEP, seed=0, steps=50, pre_norm=True, **CONFIG[BARE])]
    every = [run for place in PLACES for name in CONFIG for rate in RATES for run in listed(place, name, rate, quick)]
    of_digits = [run for name in (digits_grid.BARE, digits_grid.WARM) for run in digits_grid.over_rates(name)]
    return [*every, *of_digits, *same()]


class Losses:
    """The losses by network, warmup and rate, and what a warmup gains."""

    def __init__(self, results: Results) -> None:
        self.by = {
            (place, name, rate): late(results, listed(place, name, rate, quick=False))
            for place in PLACES
            for name in CONFIG
            for rate in RATES
        }

    def gain(self, place: str, rate: float) -> np.ndarray:
        """Return by how much the loss is higher without a warmup, a number a seed."""
        return np.asarray(self.by[place, BARE, rate] - self.by[place, WARMED, rate])

    def stable(self, place: str) -> list[float]:
        """Return the rates at which it learns with a warmup."""
        return [rate for rate in RATES if learned(self.by[place, WARMED, rate])]

    def needs(self, place: str, rate: float) -> bool:
        """Return whether it needs the warmup at a rate at which it learns with it."""
        return bool(np.all(self.gain(place, rate) >= NEEDED))

    def interactions(self) -> dict[float, Test]:
        """Return the tests of whether a warmup gains the same with either place, where both learn with it."""
        rates = [rate for rate in RATES if all(rate in self.stable(place) for place in PLACES)]
        tests = [
            difference(
                f"Transformer, rate {rate:g}: gain by a warmup, {POST} less {PRE}",
                self.gain(POST, rate) - self.gain(PRE, rate),
            )
            for rate in rates
        ]
        return dict(zip(rates, corrected(tests), strict=True)) if tests else {}


def sensitivity(losses: Losses, tests: dict[float, Test]) -> Finding:
    """Judge whether the place of the norm decides on whether the warmup is needed."""
    held = {f"{rate:g}": losses.needs(POST, rate) and not losses.needs(PRE, rate) for rate in tests}
    verdict, extent = wherever(held, "rates") if held else ("not shown", "")
    seen = "; ".join(
        f"at {rate:g} the warmup gains {plus_minus(losses.gain(POST, rate))} with the norm after the residuals and"
        f" {plus_minus(losses.gain(PRE, rate))} with it before ({test})"
        for rate, test in tests.items()
    )
    return Finding(
        "radam/position-of-the-norm",
        f"nats: {seen}" if seen else "at no rate do both learn with a warmup",
        f"with the norm after, the warmup gains at least {NEEDED} nats in every seed, with the norm before it does not;"
        " rates at which both learn with it; the tests are of the difference of the gains",
        verdict,
        extent,
    )


def seriousness(losses: Losses, results: Results) -> Finding:
    """Judge whether the original has the most serious problems of the networks that were trained."""
    shares: dict[str, float] = {}
    seen = []
    for place, title in ((POST, "original Transformer"), (PRE, "pre-norm Transformer")):
        if stable := losses.stable(place):
            without = losses.by[place, BARE, stable[-1]]
            shares[title] = float(np.mean([lost(x) for x in without]))
            seen.append(f"{title} {shares[title]:.0%} of {len(without)} seeds at {stable[-1]:g}")
    if stable := digits_grid.working(results, digits_grid.WARM):
        without = digits_grid.accuracies(results, digits_grid.BARE, stable[-1])
        shares["digits network"] = float(np.mean([DIGITS.failed(x) for x in without]))
        seen.append(f"digits network {shares['digits network']:.0%} of {len(without)} seeds at {stable[-1]:g}")
    first, *others = shares.values()
    verdict: Verdict = "holds" if first > max(others) else "does not hold"
    return Finding(
        "radam/original-transformer",
        f"lost without a warmup: {', '.join(seen)}",
        "the original loses the largest share of seeds without a warmup, each network at the largest rate of its grid"
        " at which every seed learns with one; of these three networks only",
        verdict,
    )


def figure_of(results: Results, losses: Losses) -> Any:
    """Draw the losses over the steps, a panel a rate."""
    figure, axes = panels(1, len(RATES), width=2.5, height=3.4, sharey=True)
    end = short(quick=False) // WINDOW
    for ax, rate in zip(axes, RATES, strict=True):
        for place, (bare, warm) in {POST: (VERMILION, ORANGE), PRE: (BLUE, SKY)}.items():
            for name, color, line in ((BARE, bare, "-"), (WARMED, warm, "--")):
                every = np.asarray([values(results, run)["loss"][:end] for run in listed(place, name, rate, False)])
                at = WINDOW * (np.arange(end) + 0.5)
                label = f"{place}, {'no warmup' if name == BARE else 'warmup'}"
                curve(ax, at, every, line, color=color, label=label)
        ax.axhline(entropy(), color=GREY, linewidth=0.8, dashes=(4, 4))
        ax.set(xlabel="step", xlim=(0, short(quick=False)), ylim=(2.1, 4.2))
        ax.set_title(f"rate {rate:g}")
    axes[0].set_ylabel("training loss (nats a character)")
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=2)
    return figure


def table(losses: Losses) -> str:
    """Return the losses and gains."""
    lines = ["| | " + " | ".join(f"{rate:g}" for rate in RATES) + " |", "| --- |" + " ---: |" * len(RATES)]
    for place in PLACES:
        for name, title in ((BARE, "no warmup"), (WARMED, "warmup")):
            cells = [plus_minus(losses.by[place, name, rate]) for rate in RATES]
            lines.append(f"| {place}, {title} | " + " | ".join(cells) + " |")
        gains = [plus_minus(losses.gain(place, rate)) for rate in RATES]
        lines.append(f"| {place}, gain by the warmup | " + " | ".join(gains) + " |")
    return "\n".join(lines)


def checks_of(results: Results) -> list[Check]:
    """Check that the original is the one of the other experiments, and what pre-norm starts from."""
    one, other = (values(results, run) for run in same())
    pre = results.where(pre_norm=True)[0].values
    # of normal logits of variance 0.5, which Glorot's matrix gives; few characters are a large part of a batch
    expected = np.log(len(VOCABULARY)) + 0.25
    first = float(pre["first_losses"][0])
    return [
        Check(
            "with the norms after the residuals it is the training of the other experiments",
            bool(np.array_equal(one["loss"], other["loss"]) and one["valid"] == other["valid"]),
            f"a held-out loss of {float(one['valid']):.4f} after 25 steps, the same to the last bit",
        ),
        Check(
            "pre-norm starts from the loss of random logits, and has the numbers of one more norm",
            abs(first - expected) < 0.3 and int(pre["numbers"]) == int(other["numbers"]) + 64,
            f"{first:.3f}; ln 96 + 1/4 is {expected:.3f}; {int(pre['numbers']):,} numbers",
        ),
    ]


def report(results: Results, quick: bool) -> Report:
    """Judge the claims, draw the losses."""
    checks = checks_of(results)
    if quick:
        return Report([], checks)
    losses = Losses(results)
    tests = losses.interactions()
    picture = Picture(
        "losses",
        figure_of(results, losses),
        "Training loss over steps at three rates, for norms after and before, with and without a warmup.",
        "Means and ranges over three seeds; the dashed grey line is the entropy of single characters.",
    )
    text = f"Training loss in nats a character, mean ± standard deviation of three seeds:\n\n{table(losses)}\n"
    findings = [sensitivity(losses, tests), seriousness(losses, results)]
    return Report(findings, checks, [picture], text, [*tests.values()])


EXPERIMENT = Experiment("layer_norm", "The place of the layer norm", ABOUT, runs, report)
