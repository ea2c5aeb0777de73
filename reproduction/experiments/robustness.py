"""Robustness to the learning rate and to beta3: the AdaMod paper's Figures 6 and 8."""

from __future__ import annotations

import numpy as np

from adamod_array import Adam, AdaMod, Method
from reproduction.findings import (
    beside_adam,
    robustness_figures,
    robustness_memories,
    robustness_others,
    robustness_rates,
)
from reproduction.findings.robustness_others import REMEDIES
from reproduction.frame import Check, Experiment, Finding, Picture, Report, Results, Run, wherever
from reproduction.grids import digits_runs, transformer_runs
from reproduction.grids.digits_runs import LARGE, LONG, MEMORIES, METHODS, MIDDLE, Trainings, trainings
from reproduction.runs import train_transformer
from reproduction.runs.train_digits import DECAY, train
from reproduction.runs.transformer_causes import ClippedAdam
from reproduction.statistics import plus_minus

ABOUT = r"""
The AdaMod paper trains a ResNet-34 on CIFAR-10; here it is the [demo's network](../demo/demo.md) on handwritten digits
(two hidden layers of 64, 1,437 images to train on in batches of 32, 360 to test). As there: 200 epochs (8,800 steps),
the rate a tenth after the 150th, weight decay $5 \cdot 10^{-4}$, rates 0.1, 0.01 and 0.001, $\beta_3 = 0.9999$, and for
$\beta_3 \in \{0.9, 0.99, 0.999, 0.9999\}$ the rate 0.001. Ten seeds, the same for every method. A test image is 0.28
points. Where claims are of several tasks, the trainings of the [Transformer](#a-transformer-without-warmup) count as
well, three seeds each.

**The results of five of the ten seeds were known when the criteria were set.** The others were added because signs in
five seeds cannot be significant at the level 0.05. The margin of one point is older than all results. Where trainings
are *lost* (below 50 points at the end), results lie near 98 points or near 10: there differences are tested by their
signs.
"""

RATES, SLOW, settings = digits_runs.RATES, digits_runs.SLOW, digits_runs.settings
NONE = AdaMod(beta3=0.0)
EQUAL = {"AdaMod with beta3 = 0": NONE, "Adam with a limit that no rate reaches": ClippedAdam(limit=1e30)}
"""What must be Adam to the last bit."""


def seeds(quick: bool) -> tuple[int, ...]:
    """Return those that experiments with dearer trainings share with this one."""
    return digits_runs.seeds(quick)[:5]


def runs(quick: bool) -> list[Run]:
    pairs = [(METHODS[name], rate) for name in METHODS for rate in RATES if name != LONG or not quick]
    pairs += [(AdaMod(beta3=beta3), SLOW) for beta3 in MEMORIES[:2] if not quick]
    equal = [*((method, MIDDLE) for method in EQUAL.values()), *((NONE, rate) for rate in RATES if rate != MIDDLE)]
    return [
        *(run for method, rate in pairs for run in trainings(method, rate, quick)),
        *(Run(train, method=method, rate=rate, seed=0, **settings(quick)) for method, rate in equal),
        *(run for config in REMEDIES.values() if not quick for run in trainings(rate=LARGE, quick=quick, **config)),
        *([] if quick else transformers()),
    ]


def transformers() -> list[Run]:
    """Return trainings of the Transformer, which are those of its own experiment."""
    configs = [transformer_runs.CONFIGS["Adam"], *map(transformer_runs.memory_config, MEMORIES)]
    return [
        Run(train_transformer.train, rate=rate, seed=seed, steps=transformer_runs.steps(False), **config)
        for rate in transformer_runs.RATES
        for config in configs
        for seed in range(3)
    ]


def same(t: Trainings, method: Method, rate: float) -> bool:
    """Return whether a method's training is Adam's, to the last bit."""
    return all(np.array_equal(*(t.curves(what, m, rate)[0] for m in (method, Adam()))) for what in ("accuracy", "loss"))


def without_memory(t: Trainings) -> Finding:
    """Judge whether AdaMod whose beta3 is 0 is Adam."""
    equal = {f"{rate:g}": same(t, NONE, rate) for rate in RATES}
    return Finding(
        "adamod/beta3-zero-is-adam",
        f"the same losses and accuracies, to the last bit, after each of {t.epochs} epochs, at"
        f" {sum(equal.values())} of {len(equal)} rates: {', '.join(rate for rate in equal if equal[rate])}",
        r"trainings with $\beta_3 = 0$ and by Adam are identical, at each rate",
        *wherever(equal, "rates"),
    )


def checks_of(t: Trainings) -> list[Check]:
    names = [name for name in METHODS if name != LONG]
    learned = [float(t.curves("loss", METHODS[name], MIDDLE)[0, -1]) for name in names]
    return [
        *(
            Check(
                f"{name} is Adam",
                same(t, method, MIDDLE),
                f"the same losses and accuracies, to the last bit, after each of {t.epochs} epochs",
            )
            for name, method in EQUAL.items()
        ),
        Check(
            "every method halves the loss of guessing, ln 10, at the rate 0.01",
            bool(max(learned) < np.log(10) / 2),
            ", ".join(f"{x:.4f}" for x in learned) + f" after {t.epochs} epochs",
        ),
    ]


def table(t: Trainings) -> str:
    lines = ["| |" + "".join(f" {rate:g} |" for rate in RATES) + " spread |", "| --- |" + " ---: |" * (len(RATES) + 1)]
    for name, method in METHODS.items():
        cells = [*map(plus_minus, t.over_rates(method)), plus_minus(t.spread(method))]
        lines.append(f"| {name.replace('beta3', '`beta3`')} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def report(results: Results, quick: bool) -> Report:
    t = Trainings(results)
    shown = tuple(name for name in METHODS if name != LONG or not quick)
    pictures = [
        Picture(
            "rates",
            robustness_figures.of_rates(t, shown),
            f"Test accuracy over epochs at the learning rates 0.1, 0.01 and 0.001, for {', '.join(shown)}.",
            f"Medians and ranges of the seeds; the rate falls to a tenth after {DECAY:.0%} of the epochs.",
        )
    ]
    if quick:
        return Report([], checks_of(t), pictures)
    pictures += [
        Picture(
            "remedies",
            robustness_figures.of_remedies(t),
            "Test accuracy of each seed at the end: Adam at the rate 0.1, with two limits of its rates, with a warmup.",
            "Adam at the rate 0.1, a point a seed; the dashed line is guessing.",
        ),
        Picture(
            "beta3",
            robustness_figures.of_memories(t),
            "Training and test accuracy over epochs for AdaMod with beta3 of 0.9, 0.99, 0.999 and 0.9999.",
            f"AdaMod at the rate {SLOW:g}: medians and ranges of the seeds.",
        ),
    ]
    both = beside_adam.Both(results)
    rates, others, memories = robustness_rates.judged(t), robustness_others.judged(t), robustness_memories.judged(both)
    findings = [without_memory(t), *rates.findings, *others.findings, *memories.findings]
    text = (
        f"Test accuracy in points after {t.epochs} epochs, mean ± standard deviation of {len(digits_runs.SEEDS)} seeds:"
        f"\n\n{table(t)}\n\nAdaMod beside Adam (points of test accuracy, nats a character held out). *Better* and"
        " *worse* are means further apart than the margin, one point or 0.02 nats; the tests are of any difference at"
        " all:\n\n"
        f"{beside_adam.table(beside_adam.rows(both))}\n"
    )
    return Report(findings, checks_of(t), pictures, text, [*rates.tests, *others.tests, *memories.tests])


EXPERIMENT = Experiment("robustness", "Robustness to the learning rate and to beta3", ABOUT, runs, report)
