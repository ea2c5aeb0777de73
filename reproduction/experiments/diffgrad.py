"""Whether DiffGrad needs a warmup more than AdaMod: the article Meet AdaMod."""

from __future__ import annotations

from typing import Any

import numpy as np

from adamod_array import DiffGrad
from reproduction.frame import Check, Experiment, Finding, Picture, Report, Results, Run, wherever
from reproduction.grids.transformer_grid import SEEDS, late, lost, short, training, values
from reproduction.grids.transformer_runs import ADAMOD, CONFIGS, MIDDLE, STEEP, TRANSFORMER
from reproduction.runs.train_transformer import WINDOW
from reproduction.runs.transformer import entropy
from reproduction.statistics import Test, corrected, difference, plus_minus
from reproduction.style import GREEN, GREY, SKY, VERMILION, curve, panels
from reproduction.tasks import TRANSFORMER as TASK

ABOUT = r"""
"DiffGrad does not handle training variance (i.e. warmup) as well as AdaMod", the article says. The character
Transformer is trained by it without a warmup, beside Adam and AdaMod ($\beta_3 = 0.999$), at the two rates at which
Adam does badly without one: 0.003, at which it is held up, and 0.01, at which it is lost. Losses are training losses of
the last 100 of 600 steps.
"""

RATES = (MIDDLE, STEEP)
DIFFGRAD = "DiffGrad"
METHODS: dict[str, dict[str, Any]] = {
    "Adam": CONFIGS["Adam"],
    ADAMOD: CONFIGS[ADAMOD],
    DIFFGRAD: {"method": DiffGrad(**TRANSFORMER)},
}
STYLES = {"Adam": (VERMILION, "-"), ADAMOD: (SKY, "-"), DIFFGRAD: (GREEN, "-")}


def listed(name: str, rate: float, quick: bool) -> list[Run]:
    """Return the trainings of one method at one rate, a seed each."""
    return [training(METHODS[name], rate, seed, quick) for seed in (SEEDS[:1] if quick else SEEDS)]


def runs(quick: bool) -> list[Run]:
    """Return all trainings."""
    return [run for name in METHODS for rate in (RATES[1:] if quick else RATES) for run in listed(name, rate, quick)]


def finding(losses: dict[tuple[str, float], np.ndarray]) -> tuple[Finding, list[Test]]:
    """Judge whether AdaMod gets further than DiffGrad without a warmup."""
    behind = {rate: losses[DIFFGRAD, rate] - losses[ADAMOD, rate] for rate in RATES}
    tests = corrected(
        [difference(f"Transformer, rate {rate:g}: DiffGrad less AdaMod", x) for rate, x in behind.items()]
    )
    verdict, extent = wherever({f"{rate:g}": bool(np.all(x > TASK.margin)) for rate, x in behind.items()}, "rates")
    measured = "; ".join(
        f"at {rate:g} DiffGrad {plus_minus(losses[DIFFGRAD, rate])}, {sum(map(lost, losses[DIFFGRAD, rate]))} of"
        f" {len(SEEDS)} seeds lost, AdaMod {plus_minus(losses[ADAMOD, rate])},"
        f" {sum(map(lost, losses[ADAMOD, rate]))} lost ({test})"
        for rate, test in zip(RATES, tests, strict=True)
    )
    return Finding(
        "article/diffgrad-handles-variance-worse",
        f"nats without a warmup: {measured}",
        f"DiffGrad is worse than AdaMod by more than {TASK.margin} nats in every seed",
        verdict,
        extent,
    ), tests


def figure_of(results: Results) -> Any:
    """Draw the losses over the steps, a panel a rate."""
    figure, axes = panels(1, len(RATES), height=3.4, sharey=True)
    end = short(quick=False) // WINDOW
    for ax, rate in zip(axes, RATES, strict=True):
        for name, (color, line) in STYLES.items():
            every = np.asarray([values(results, run)["loss"][:end] for run in listed(name, rate, quick=False)])
            at = WINDOW * (np.arange(end) + 0.5)
            curve(ax, at, every, line, color=color, label=name.replace("beta3", r"$\beta_3$"))
        ax.axhline(entropy(), color=GREY, linewidth=0.8, dashes=(4, 4))
        ax.set(xlabel="step", xlim=(0, short(quick=False)), ylim=(2.3, 4.2))
        ax.set_title(f"rate {rate:g}")
    axes[0].set_ylabel("training loss (nats a character)")
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=3)
    return figure


def checks_of(results: Results, quick: bool) -> list[Check]:
    """Check that the methods start alike and go apart."""
    first = {name: values(results, listed(name, STEEP, quick)[0])["first_losses"] for name in METHODS}
    starts, steps = ({float(x[i]) for x in first.values()} for i in (0, 1))
    return [
        Check(
            "all start from the same loss, and each takes a step of its own",
            len(starts) == 1 and len(steps) == len(first),
            "after the first step " + ", ".join(f"{x[1]:.3f} by {name}" for name, x in first.items()),
        )
    ]


def report(results: Results, quick: bool) -> Report:
    """Judge the claim, draw the losses."""
    checks = checks_of(results, quick)
    if quick:
        return Report([], checks)
    losses = {(name, rate): late(results, listed(name, rate, quick)) for name in METHODS for rate in RATES}
    found, tests = finding(losses)
    picture = Picture(
        "losses",
        figure_of(results),
        "Training loss over steps by Adam, AdaMod and DiffGrad without a warmup, at two rates.",
        "Means and ranges over three seeds; the dashed grey line is the entropy of single characters.",
    )
    return Report([found], checks, [picture], "", tests)


EXPERIMENT = Experiment("diffgrad", "Does DiffGrad need a warmup?", ABOUT, runs, report)
