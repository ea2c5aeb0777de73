"""What AdaMod gains over Adam as a network becomes deeper."""

from __future__ import annotations

from typing import Any

import numpy as np

from adamod_array import Adam, AdaMod, Method
from reproduction.frame import Experiment, Finding, Picture, Report, Results, Run
from reproduction.runs.train_resnet import BATCH, CHANNELS, train
from reproduction.statistics import plus_minus
from reproduction.style import BLUE, VERMILION, panels
from reproduction.trials import best, learned, probabilities, tests_of, together, trials

METHODS: dict[str, Method] = {"Adam": Adam(), "AdaMod": AdaMod(beta3=0.99)}
BLOCKS = (1, 3, 9)
RATES = {"Adam": (0.003, 0.01, 0.03), "AdaMod": (0.01, 0.03, 0.1)}
"""So that the best of them is not the last."""
SEEDS = (0, 1, 2, 3, 4)
EPOCHS = 30
MARGIN = 1.0
"""Points of test accuracy that do not matter."""

ABOUT = rf"""
The AdaMod paper compares ResNet-34 with DenseNet-121 on CIFAR. Here residual convolutional networks (PyTorch; blocks of
two 3 x 3 convolutions of {CHANNELS} channels, group norms and rectifiers ahead of them; {", ".join(map(str, BLOCKS))}
blocks, that is {", ".join(str(2 * b + 1) for b in BLOCKS)} convolutions) learn 360 of the 8 x 8 digits and are tested
with the other 1,437: so few images leave room above the accuracy that is reached. {EPOCHS} epochs in batches of
{BATCH} (300 steps), the rate a tenth after three quarters, weight decay $5 \cdot 10^{{-4}}$ as in the paper. The memory
of AdaMod is a third of the training, $\beta_3 = 0.99$; that of the paper's 0.999 and 0.9999 is longer than all of it.
Adam has the rates {", ".join(f"{r:g}" for r in RATES["Adam"])}, AdaMod {", ".join(f"{r:g}" for r in RATES["AdaMod"])},
and each counts at its best one; {len(SEEDS)} seeds.
"""


def runs(quick: bool) -> list[Run]:
    """List the trainings."""
    return [
        Run(train, method=m, rate=r, seed=s, blocks=b, epochs=2 if quick else EPOCHS, weight_decay=5e-4)
        for name, m in METHODS.items()
        for r in (RATES[name][1:2] if quick else RATES[name])
        for s in (SEEDS[:2] if quick else SEEDS)
        for b in (BLOCKS[:2] if quick else BLOCKS)
    ]


def values(results: Results, what: str, method: Method, blocks: int, rate: float) -> np.ndarray:
    """Return a number a seed; accuracy in points."""
    found = [float(r.values[what]) for r in results.where(method=method, blocks=blocks, rate=rate)]
    return np.asarray(found) * (100 if what == "accuracy" else 1)


def at_best(results: Results, name: str, blocks: int) -> tuple[float, np.ndarray]:
    """Return the rate of the best mean test accuracy, and the accuracies there."""
    by_rate = {rate: values(results, "accuracy", METHODS[name], blocks, rate) for rate in RATES[name]}
    rate = best(by_rate)
    return rate, by_rate[rate]


def gains(results: Results) -> dict[int, np.ndarray]:
    """Return AdaMod's accuracy less Adam's, each at its best rate, by the number of blocks."""
    return {b: at_best(results, "AdaMod", b)[1] - at_best(results, "Adam", b)[1] for b in BLOCKS}


def figure(results: Results) -> Any:
    """Draw accuracies and gains over the depth."""
    drawn, (left, right) = panels(1, 2)
    layers = [2 * b + 1 for b in BLOCKS]
    for name, color, mark, aside in zip(METHODS, (VERMILION, BLUE), "os", (0.96, 1.04), strict=True):
        rows = np.asarray([at_best(results, name, b)[1] for b in BLOCKS])
        left.errorbar(
            [aside * x for x in layers],
            rows.mean(1),
            rows.std(1, ddof=1),
            fmt=f"-{mark}",
            color=color,
            label=name,
            capsize=3,
        )
    left.set(ylabel="test accuracy, %", title="At the best rate")
    left.margins(y=0.25)  # room for the legend
    left.legend(loc="lower center", ncols=2)
    rows = np.asarray(list(gains(results).values()))
    right.axhline(0, color="0.6", linewidth=1)
    right.plot(layers, rows, ".", color="0.5")
    right.plot(layers, rows.mean(1), "-s", color=BLUE)
    right.set(ylabel="points", title="AdaMod less Adam")
    for ax in (left, right):
        ax.set(xlabel="convolutions", xscale="log", xticks=layers)
        ax.set_xticks([], minor=True)
        ax.xaxis.set_major_formatter("{x:g}")
    return drawn


def table(results: Results) -> str:
    """Return the accuracies and losses of all settings."""
    rates = sorted({rate for each in RATES.values() for rate in each})
    head = " | ".join(f"accuracy at {r:g}" for r in rates)
    lines = [
        f"| convolutions | method | {head} | loss at the best rate |",
        "| ---: | --- |" + " ---: |" * len((*rates, 0)),
    ]
    for b in BLOCKS:
        for name, m in METHODS.items():
            cells = [plus_minus(values(results, "accuracy", m, b, r)) if r in RATES[name] else "" for r in rates]
            cells.append(plus_minus(values(results, "test_loss", m, b, at_best(results, name, b)[0]), 3))
            lines.append(f"| {2 * b + 1} | {name} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def report(results: Results, quick: bool) -> Report:
    """Judge by the interaction of method and depth."""
    checks = [learned([float(r.values["loss"][-1]) for r in results], np.log(10), "residual networks")]
    if quick:
        return Report([], checks)
    by_depth = gains(results)
    least, most = BLOCKS[0], BLOCKS[-1]
    tried = trials(
        "residual networks: AdaMod's gain in the deepest less that in the shallowest",
        {"growth": by_depth[most] - by_depth[least]},
        MARGIN,
    )
    finding = Finding(
        "adamod/densenet-abstract-especially-on-complex-networks",
        "AdaMod's test accuracy less Adam's, in points: "
        + ", ".join(f"{plus_minus(x)} with {2 * b + 1} convolutions" for b, x in by_depth.items()),
        f"holds where the gain grows from {2 * least + 1} to {2 * most + 1} convolutions, each method at its best rate;"
        f" does not hold where it falls or its change does not matter ({probabilities(tried, 'point')})",
        *together(tried, 1, "networks"),
    )
    picture = Picture(
        "gain",
        figure(results),
        "Test accuracy of Adam and AdaMod over the number of convolutions, and the difference of the two.",
        "Mean and standard deviation of the seeds, each method at its best rate; grey dots are seeds.",
    )
    text = (
        f"Test accuracy in % and test loss in nats, mean ± standard deviation of {len(SEEDS)} seeds:\n\n"
        f"{table(results)}\n"
    )
    return Report([finding], checks, [picture], text, tests_of(tried))


EXPERIMENT = Experiment("depth", "AdaMod's gain and the depth of the network", ABOUT, runs, report)
