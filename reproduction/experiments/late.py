"""What improves the end of a training: a smaller rate, or larger batches (Ma & Yarats, section 6.2)."""

from __future__ import annotations

from typing import Any

import numpy as np
from demo import BATCH

from adamod_array import Adam, Method, Momentum
from reproduction.comparisons import Compared
from reproduction.frame import Experiment, Finding, Picture, Report, Results, Run, Verdict
from reproduction.runs.train_digits import DECAY
from reproduction.runs.train_late import LARGE, finish
from reproduction.statistics import plus_minus
from reproduction.style import BLUE, VERMILION, panels
from reproduction.trials import OPPOSITE, judged, learned, means, probabilities, tests_of, together, trials
from reproduction.verdicts import everywhere

METHODS: dict[str, Method] = {"Adam": Adam(), "Momentum": Momentum()}
RATES = {"Adam": (0.01, 0.003), "Momentum": (0.1, 0.03)}
"""The large one first; at smaller ones a training of this length is still far from its end."""
NOISE = 0.3
SEEDS = (0, 1, 2, 3, 4)
EPOCHS = 80
MARGIN, SHARE = 0.02, 0.1
"""Nats, and parts of what a tenth of the rate gains, that do not matter."""
WAYS = {
    "nothing": "no change",
    "rate": "a tenth of the rate",
    "images": "larger batches, as many images",
    "steps": "larger batches, as many steps",
}
BATCHES = ("images", "steps")

ABOUT = rf"""
The [demo's network](../demo/demo.md) on handwritten digits with normal noise of deviation {NOISE:g} added anew in each
batch, so that gradients vary at a minimum, too. After {DECAY:.0%} of {EPOCHS} epochs in batches of {BATCH} nothing
changes, or the rate is a tenth, or batches are of {LARGE}: for as many images, or for as many steps. Losses are means
under the noise; {len(SEEDS)} seeds. That larger batches do not help Adam is a suspicion in the paper, not its result.
"""


def runs(quick: bool) -> list[Run]:
    """List the trainings."""
    return [
        Run(finish, method=METHODS[name], rate=rate, seed=seed, epochs=4 if quick else EPOCHS, noise=NOISE)
        for name, rates in RATES.items()
        for rate in rates
        for seed in (SEEDS[:1] if quick else SEEDS)
    ]


def ended(results: Results, name: str, rate: float, way: str) -> np.ndarray:
    """Return the loss at the end, a number a seed."""
    return np.asarray([float(r.values[way]) for r in results.where(method=METHODS[name], rate=rate)])


def of_decay(results: Results) -> tuple[Finding, list[dict[str, Compared]]]:
    """Judge whether a smaller rate is the only one of the ways that improves Adam's end."""
    rates = RATES["Adam"]
    change = {
        (r, way): ended(results, "Adam", r, way) - ended(results, "Adam", r, "nothing") for r in rates for way in WAYS
    }
    decay = trials(
        "Adam's end, a tenth of the rate less no change", {f"rate {r:g}": change[r, "rate"] for r in rates}, MARGIN
    )
    larger = trials(
        "Adam's end, less no change", {f"rate {r:g}, {WAYS[w]}": change[r, w] for r in rates for w in BATCHES}, MARGIN
    )
    helps = {place: judged(trial, -1) == "holds" for place, trial in decay.items()}
    only: dict[str, Verdict] = {
        place: OPPOSITE[judged(trial, -1)] if helps[place.split(",")[0]] else "not shown"
        for place, trial in larger.items()
    }
    finding = Finding(
        "untuned/6-2-rate-decay",
        f"Adam's loss at the end less that without a change, in nats: {means(decay, 3)} with a tenth of the rate;"
        f" {means(larger, 3)}",
        f"holds in a setting where a tenth of the rate lowers the loss ({probabilities(decay, 'nats')}) and larger"
        f" batches do not ({probabilities(larger, 'nats')})",
        *everywhere(only, "settings"),
    )
    return finding, [decay, larger]


def share(results: Results, name: str, rate: float, way: str) -> np.ndarray:
    """Return what larger batches gain, as a part of what a tenth of the rate does."""
    nothing, decay, larger = (ended(results, name, rate, each) for each in ("nothing", "rate", way))
    return np.asarray((nothing - larger) / (nothing - decay))


def of_batches(results: Results) -> tuple[Finding, list[dict[str, Compared]]]:
    """Judge whether Adam has less of larger batches than Momentum."""
    pairs = dict(zip(("large", "small"), zip(*RATES.values(), strict=True), strict=True))
    measured, tried = {}, {}
    for way in BATCHES:
        shares = {
            f"{size} rate": (share(results, "Adam", adam, way), share(results, "Momentum", momentum, way))
            for size, (adam, momentum) in pairs.items()
        }
        measured[way] = ", ".join(f"{plus_minus(a)} and {plus_minus(b)} ({x})" for x, (a, b) in shares.items())
        apart = {size: a - b for size, (a, b) in shares.items()}
        tried[way] = trials(f"the end, {WAYS[way]}: Adam's share less Momentum's", apart, SHARE)
    images, steps = (tried[way] for way in BATCHES)
    finding = Finding(
        "untuned/6-2-batch-size",
        "gain of larger batches over that of a tenth of the rate, Adam and Momentum: "
        + "; ".join(f"{measured[way]} with {WAYS[way]}" for way in BATCHES),
        "holds at a rate where Adam's part is less than Momentum's with as many images, as batches are enlarged by"
        f" Smith et al. (2018), whom the paper cites ({probabilities(images, 'of that gain')}); with as many steps,"
        f" of ten times the images, {probabilities(steps, 'of that gain')}, which does not count (chosen afterwards)",
        *together(images, -1, "rates"),
    )
    return finding, [images, steps]


def figure(results: Results) -> Any:
    """Draw the losses at the end by way."""
    drawn, axes = panels(1, 2, height=2.6, sharex=True, sharey=True)
    for ax, (name, rates) in zip(axes, RATES.items(), strict=True):
        for rate, color, mark, shift in zip(rates, (VERMILION, BLUE), "os", (-0.12, 0.12), strict=True):
            for i, way in enumerate(WAYS):
                losses = ended(results, name, rate, way)
                ax.plot(losses, np.full(len(losses), i + shift), mark, color=color, markersize=4, alpha=0.6)
            ax.plot([], [], mark, color=color, label=f"rate {rate:g}")
        ax.set(xlabel="loss at the end, nats", title=name)
        ax.set(yticks=range(len(WAYS)), yticklabels=[words.replace(", ", ",\n") for words in WAYS.values()])
        ax.set_ylim(len(WAYS), -0.5)  # room for the legend
        ax.legend(loc="lower center", ncols=len(rates))
    return drawn


def table(results: Results) -> str:
    """Return the losses at the end."""
    lines = [
        f"| method | rate | after {DECAY:.0%} | {' | '.join(WAYS.values())} |",
        "| --- |" + " ---: |" * (len(WAYS) + 2),
    ]
    for name, rates in RATES.items():
        for rate in rates:
            cells = [plus_minus(ended(results, name, rate, way), 3) for way in ("before", *WAYS)]
            lines.append(f"| {name} | {rate:g} | {' | '.join(cells)} |")
    return "\n".join(lines)


def report(results: Results, quick: bool) -> Report:
    """Judge by the loss at the end."""
    checks = [learned([float(r.values["before"]) for r in results], np.log(10), "digits under noise")]
    if quick:
        return Report([], checks)
    decay, decays = of_decay(results)
    batches, shares = of_batches(results)
    picture = Picture(
        "loss",
        figure(results),
        "Loss at the end with no change, a tenth of the rate, or larger batches, for Adam and Momentum.",
        "A mark a seed.",
    )
    text = f"Loss under noise in nats, mean ± standard deviation of {len(SEEDS)} seeds:\n\n{table(results)}\n"
    return Report([decay, batches], checks, [picture], text, tests_of(*decays, *shares))


EXPERIMENT = Experiment("late", "The end of a training: a smaller rate or larger batches", ABOUT, runs, report)
