"""Momentum against AdaMod and DiffGrad: what the article says of SGDM."""

from __future__ import annotations

from typing import Any

import numpy as np

from adamod_array import AdaMod, DiffGrad, Method, Momentum
from reproduction.frame import Experiment, Finding, Picture, Report, Results, Run
from reproduction.grids.digits_runs import settings
from reproduction.runs.train_digits import DECAY, train
from reproduction.runs.train_late import then
from reproduction.statistics import plus_minus
from reproduction.style import BLUE, GREEN, VERMILION, panels
from reproduction.trials import best, learned, means, probabilities, tests_of, together, trials

ADAMOD = AdaMod(beta3=0.9999)
LENGTHS = (25, 200, 400)
"""Epochs."""
MIDDLE = LENGTHS[1]
RATES: dict[Method, tuple[float, ...]] = {Momentum(): (0.1, 0.01), ADAMOD: (0.1, 0.01), DiffGrad(): (0.01, 0.001)}
SEEDS = (0, 1, 2, 3, 4)
FIRST = 0.01
"""The rate of the training that SGDM goes on with."""
MORE = 50
"""Epochs."""
WAYS = ((None, FIRST / 10), (Momentum(), 0.1), (Momentum(), 0.01), (Momentum(), 0.001))
"""How it goes on; without a method as it was, whose rate has fallen to a tenth."""
MARGIN = 1.0
"""Points of test accuracy that do not matter."""

ABOUT = rf"""
The [demo's network](../demo/demo.md) on handwritten digits, trained as for the robustness to the rate (batches of 32,
weight decay $5 \cdot 10^{{-4}}$, the rate a tenth after {DECAY:.0%} of the epochs), with {len(SEEDS)} seeds; 360 images
test, one is 0.28 points. Momentum and AdaMod ($\beta_3 = 0.9999$) are trained for {", ".join(map(str, LENGTHS))}
epochs, at the rates {" and ".join(f"{r:g}" for r in RATES[ADAMOD])}; DiffGrad for {MIDDLE}, at
{" and ".join(f"{r:g}" for r in RATES[DiffGrad()])}; each counts at its best rate. Lastly AdaMod trains {MIDDLE} epochs
at the rate {FIRST:g}, and from there {MORE} more epochs are Momentum's at one of three rates, or AdaMod's at the rate
that it has in the end.
"""


def runs(quick: bool) -> list[Run]:
    """List the trainings; those of 200 epochs are the robustness experiment's where that has them."""
    shared = settings(False)
    seeds = SEEDS[:2] if quick else SEEDS
    epochs, more = (4, 2) if quick else (MIDDLE, MORE)
    methods: tuple[Method, ...] = (Momentum(), ADAMOD)
    lengths = [(m, e) for m in methods for e in ((2, 4) if quick else LENGTHS)] + [(DiffGrad(), epochs)]
    further = {"method": ADAMOD, "rate": FIRST, "epochs": epochs, "more": more, "ways": WAYS}
    return [
        *(
            Run(train, method=m, rate=r, seed=s, **{**shared, "epochs": e})
            for m, e in lengths
            for r in RATES[m]
            for s in seeds
        ),
        *(Run(then, seed=s, weight_decay=shared["weight_decay"], **further) for s in seeds),
    ]


def trained(results: Results, method: Method, epochs: int) -> np.ndarray:
    """Return test accuracies in points at the best rate, a number a seed."""
    by_rate = {rate: points(results, method, rate, epochs) for rate in RATES[method]}
    return by_rate[best(by_rate)]


def points(results: Results, method: Method, rate: float, epochs: int) -> np.ndarray:
    """Return test accuracies in points, a number a seed."""
    found = results.where(method=method, rate=rate, epochs=epochs)
    return np.asarray([100 * r.values["accuracy"][-1] for r in found if "ways" not in r.config])


def continued(results: Results, what: str) -> np.ndarray:
    """Return accuracies in points or losses ahead of the ways and after each: a row a seed."""
    rows = np.asarray([r.values[what] for r in results if "ways" in r.config])
    return rows * (100 if what == "accuracy" else 1)


def label(way: Any) -> str:
    """Return what the way is called."""
    method, rate = way
    return f"{'AdaMod' if method is None else 'Momentum'} at {rate:g}"


def figure(results: Results) -> Any:
    """Draw accuracy over length, and what more training brings."""
    drawn, (left, right) = panels(1, 2)
    for name, method, color, mark, aside in (
        ("Momentum", Momentum(), VERMILION, "o", 0.95),
        ("AdaMod", ADAMOD, BLUE, "s", 1),
    ):
        rows = np.asarray([trained(results, method, e) for e in LENGTHS])
        left.errorbar(
            [aside * e for e in LENGTHS],
            rows.mean(1),
            rows.std(1, ddof=1),
            fmt=f"-{mark}",
            color=color,
            label=name,
            capsize=3,
        )
    other = trained(results, DiffGrad(), MIDDLE)
    left.errorbar([1.05 * MIDDLE], other.mean(), other.std(ddof=1), fmt="^", color=GREEN, label="DiffGrad", capsize=3)
    left.set(xlabel="epochs", ylabel="test accuracy, %", xscale="log", xticks=LENGTHS, title="At the best rate")
    left.set_xticks([], minor=True)
    left.xaxis.set_major_formatter("{x:g}")
    left.legend(loc="lower center")
    accuracy = continued(results, "accuracy")
    gained = accuracy[:, 1:] - accuracy[:, :1]
    shift = np.linspace(-0.15, 0.15, len(gained))[:, None]
    right.axvline(0, color="0.6", linewidth=1)
    right.plot(gained, np.arange(len(WAYS)) + shift, ".", color="0.5")
    right.plot(gained.mean(0), np.arange(len(WAYS)), "D", color=BLUE)
    right.set(yticks=range(len(WAYS)), yticklabels=[label(w) for w in WAYS], ylim=(len(WAYS) - 0.5, -0.5))
    right.set(xlabel="points of test accuracy gained", title=f"{MORE} more epochs after AdaMod")
    return drawn


def table_of_lengths(results: Results) -> str:
    """Return the accuracies by method, rate and length."""
    lines = [f"| method | rate | {' | '.join(f'{e} epochs' for e in LENGTHS)} |", "| --- |" + " ---: |" * 4]
    for name, method in (("Momentum", Momentum()), ("AdaMod", ADAMOD), ("DiffGrad", DiffGrad())):
        for rate in RATES[method]:
            found = [points(results, method, rate, e) for e in LENGTHS]
            lines.append(f"| {name} | {rate:g} | {' | '.join(plus_minus(x) if len(x) else '' for x in found)} |")
    return "\n".join(lines)


def lost(results: Results) -> str:
    """Return the settings in which trainings have not learned, in words."""
    words = [
        f"AdaMod at {rate:g} in {int(np.sum(x < 50))} of {len(x)} seeds with {epochs} epochs"
        for rate in RATES[ADAMOD]
        for epochs in LENGTHS
        for x in [points(results, ADAMOD, rate, epochs)]
        if np.any(x < 50)
    ]
    return f" Below 50 % is {' and '.join(words)}." if words else ""


def table_of_ways(results: Results) -> str:
    """Return what more training brings."""
    accuracy, loss = continued(results, "accuracy"), continued(results, "loss")
    names = [f"AdaMod, {MIDDLE} epochs", *(f"and {MORE} epochs of {label(way)}" for way in WAYS)]
    lines = ["| | test accuracy, % | training loss, nats |", "| --- | ---: | ---: |"]
    lines += [
        f"| {n} | {plus_minus(a)} | {plus_minus(x, 4)} |" for n, a, x in zip(names, accuracy.T, loss.T, strict=True)
    ]
    return "\n".join(lines)


def report(results: Results, quick: bool) -> Report:
    """Judge by test accuracies."""
    checks = [
        learned([float(r.values["loss"][-1]) for r in results.where(rate=FIRST)], np.log(10), f"digits, rate {FIRST:g}")
    ]
    if quick:
        return Report([], checks)
    by_length = {f"{e} epochs": trained(results, Momentum(), e) - trained(results, ADAMOD, e) for e in LENGTHS}
    lengths = trials("digits: Momentum less AdaMod", by_length, MARGIN)
    longest = f"{LENGTHS[-1]} epochs"
    apart = trained(results, DiffGrad(), MIDDLE) - trained(results, Momentum(), MIDDLE)
    friction = trials("digits: DiffGrad less Momentum", {f"{MIDDLE} epochs": apart}, MARGIN)
    accuracy = continued(results, "accuracy")
    gained = {label(w): a - accuracy[:, 0] for w, a in zip(WAYS, accuracy.T[1:], strict=True)}
    own = gained.pop(label(WAYS[0]))
    further = trials("digits, after AdaMod: more epochs less none", gained, MARGIN)
    findings = [
        Finding(
            "article/limitations-second-half",
            f"Momentum's test accuracy less AdaMod's, in points: {means(lengths)}",
            f"holds where Momentum's is higher after {longest}, each method at its best rate"
            f" ({probabilities(lengths, 'point')})",
            *together({longest: lengths[longest]}, 1, "lengths"),
        ),
        Finding(
            "article/parenthesis-on-diffgrad-first-half",
            f"DiffGrad's test accuracy less Momentum's, in points: {means(friction)}",
            f"holds where DiffGrad's is higher, each method at its best rate ({probabilities(friction, 'point')})",
            *together(friction, 1, "lengths"),
        ),
        Finding(
            "article/limitations-recommendation-then-sgdm",
            f"test accuracy after {MORE} more epochs less that before them, in points: {means(further)};"
            f" as many more of AdaMod {plus_minus(own)}",
            f"holds at a rate of Momentum where it is higher ({probabilities(further, 'point')})",
            *together(further, 1, "rates"),
        ),
    ]
    picture = Picture(
        "accuracy",
        figure(results),
        "Test accuracy of Momentum, AdaMod and DiffGrad over the number of epochs, and what more epochs bring.",
        "Left mean and standard deviation of the seeds; right each seed (grey) and the mean.",
    )
    text = (
        f"Test accuracy in %, mean ± standard deviation of {len(SEEDS)} seeds:\n\n{table_of_lengths(results)}\n\n"
        f"{lost(results).strip()}\n\nMore epochs after AdaMod:\n\n{table_of_ways(results)}\n"
    )
    return Report(findings, checks, [picture], text, tests_of(lengths, friction, further))


EXPERIMENT = Experiment("sgdm", "SGDM: longer, after AdaMod, and beside DiffGrad", ABOUT, runs, report)
