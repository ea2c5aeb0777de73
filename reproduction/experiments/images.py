"""What the AdaMod paper says of its trainings on images: their speed and their ends, beside Adam and Momentum."""

from __future__ import annotations

from typing import Any

import numpy as np

from adamod_array import Adam
from reproduction.findings import images_ends, images_speed, robustness_figures, smoothness
from reproduction.findings.beside_adam import MEMORIES, Both
from reproduction.frame import Check, Experiment, Picture, Report, Results, Run
from reproduction.grids import digits_runs, transformer_runs
from reproduction.grids.digits_runs import METHODS, MIDDLE, RATES, STABLE, Trainings, epochs_to, trainings
from reproduction.runs import train_transformer
from reproduction.statistics import plus_minus
from reproduction.style import BLUE, ORANGE, SKY, VERMILION, panels
from reproduction.verdicts import merged

ABOUT = r"""
The AdaMod paper trains ResNet-34 and DenseNet-121 on CIFAR-10 and CIFAR-100. These are the trainings on handwritten
digits of [robustness](#robustness-to-the-learning-rate-and-to-beta3), which is far less: at its best rate every method
learns all training images, so that training losses are compared instead of training accuracies. AdaMod is tried with
both values of $\beta_3$ that its paper recommends. A *best rate* is the one of 0.1, 0.01 and 0.001 with the best mean
test accuracy, for every method alike. Two trainings are added: Adam with the warmup $1 - 0.999^t$, which AdaMod's bound
with $\beta_3 = 0.999$ would be if all rates were constant, at the rates 0.01 and 0.001. Smoothness is looked at with
the [Transformer](#a-transformer-without-warmup), too. As there, half of the seeds were known when criteria were set.
"""


def runs(quick: bool) -> list[Run]:
    pairs = [(method, rate) for method in METHODS.values() for rate in RATES if rate == MIDDLE or not quick]
    listed = [run for method, rate in pairs for run in trainings(method, rate, quick)]
    if quick:
        return listed
    listed += [run for rate in STABLE for run in trainings(Adam(), rate, quick, warmup=digits_runs.OWN_WARMUP)]
    names = ("Adam", transformer_runs.OWN_WARMUP)
    configs = [*(transformer_runs.CONFIGS[name] for name in names), *map(transformer_runs.memory_config, MEMORIES)]
    shared: dict[str, Any] = {"rate": smoothness.STEADY, "steps": transformer_runs.steps(False)}
    return [
        *listed,
        *(Run(train_transformer.train, seed=seed, **shared, **config) for config in configs for seed in range(3)),
    ]


def figure_of(t: Trainings) -> Any:
    """Draw training loss and test accuracy at one rate, at which all methods train well."""
    figure, (left, right) = panels(1, 2)
    for (name, method), color, line in zip(
        METHODS.items(), (ORANGE, VERMILION, BLUE, SKY), (":", "-.", "-", "--"), strict=True
    ):
        label = robustness_figures.pretty(name)
        robustness_figures.draw(left, t.curves("loss", method, MIDDLE), color, line, label)
        robustness_figures.draw(right, 100 * t.curves("accuracy", method, MIDDLE), color, line, label)
    left.set(xlabel="epoch", ylabel="training loss (nats an image)", yscale="log")
    right.set(xlabel="epoch", ylabel="test accuracy (points)", xscale="log", ylim=(80, 100))
    right.xaxis.set_major_formatter("{x:g}")
    right.legend(loc="lower right")
    return figure


def table(t: Trainings) -> str:
    """Return every method at its best rate as Markdown."""
    lines = ["| | best rate | epochs to 95 points | test accuracy | training accuracy | training loss |"]
    lines.append("| --- |" + " ---: |" * 5)
    for name, method in METHODS.items():
        rate = t.best_rate(method)
        epochs = epochs_to(t.curves("accuracy", method, rate), images_speed.LEVEL)
        ends = [plus_minus(t.points(method, rate, what)) for what in ("accuracy", "train_accuracy")]
        cells = [f"{rate:g}", plus_minus(epochs, 1), *ends, f"{images_ends.trained(t, name).mean():.1e}"]
        lines.append(f"| {name.replace('beta3', '`beta3`')} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def report(results: Results, quick: bool) -> Report:
    t = Trainings(results)
    ends = [float(t.curves("loss", method, MIDDLE)[:, -1].max()) for method in METHODS.values()]
    checks = [
        Check(
            "every seed of every method ends with a smaller training loss than guessing, ln 10, at the rate 0.01",
            bool(max(ends) < np.log(10)),
            ", ".join(f"{name} {x:.2g}" for name, x in zip(METHODS, ends, strict=True)) + f" after {t.epochs} epochs",
        )
    ]
    picture = Picture(
        "curves",
        figure_of(t),
        "Training loss and test accuracy over epochs, of Momentum, Adam, and AdaMod with two values of beta3.",
        f"Medians and ranges of the seeds at the rate {MIDDLE:g}.",
    )
    if quick:
        return Report([], checks, [picture])
    all_of_it = merged([images_speed.judged(t), images_ends.judged(t), smoothness.judged(Both(results))])
    text = (
        f"Each method at its best rate: accuracies in points after {t.epochs} epochs, the training loss in nats an"
        f" image, and how many epochs it takes to a test accuracy of 95 points; {len(digits_runs.SEEDS)}"
        f" seeds:\n\n{table(t)}\n"
    )
    return Report(all_of_it.findings, checks, [picture], text, all_of_it.tests)


EXPERIMENT = Experiment("images", "AdaMod's course on images, in small", ABOUT, runs, report)
