"""The range of rates at which a method works: the README of RAdam's authors."""

from __future__ import annotations

from typing import Any

import numpy as np

from reproduction.frame import Check, Experiment, Finding, Picture, Report, Results, Verdict, wherever
from reproduction.grids import digits_grid
from reproduction.grids.rate_ranges import (
    ADAM,
    ADAM_LONG,
    MARGIN,
    METHODS,
    ON_DIGITS,
    PAIRS,
    RADAM,
    RADAM_LONG,
    RATES,
    TRIED,
    Losses,
    in_words,
    ranges,
    runs,
    titled,
)
from reproduction.grids.transformer_grid import LEARNED, learned, training, values
from reproduction.grids.transformer_runs import STEEP, WARM
from reproduction.runs.transformer import entropy
from reproduction.statistics import Test, corrected, difference, plus_minus
from reproduction.style import BLUE, GREEN, GREY, ORANGE, VERMILION, curve, panels

ABOUT = r"""
"Do I need to tune learning rate? Yes, the robustness of RAdam is not infinity. In our experiments, it works for a
broader range of learning rates, but not all learning rates", its authors say. How broad the range is depends on
$\beta_2$, by which RAdam's warmup is set, so RAdam is held to Adam of the same $\beta_2$: with 0.98 and 0.999 on the
character Transformer, with 0.999 on digits. A method *works* at a rate where every one of three seeds learns: to a
training loss 0.3 nats below the entropy of single characters (last 100 of 600 steps), to a test accuracy of 50 % (after
100 epochs). Both thresholds are those of the other experiments. The Transformer had been trained at 0.001, 0.003 and
0.01 before; the grid was chosen to have one more rate between these and one beyond, where Adam with a warmup was seen
to be lost in one seed.
"""


def broader(found: dict[str, tuple[list[float], list[float], int]]) -> Finding:
    """Judge whether RAdam works at more rates than Adam."""
    verdict, extent = wherever({name: len(a) > len(b) for name, (a, b, _) in found.items()}, "comparisons")
    measured = "; ".join(
        f"{name}: RAdam works at {len(a)} of {n} rates ({in_words(a)}), Adam at {len(b)} ({in_words(b)})"
        for name, (a, b, n) in found.items()
    )
    criterion = "RAdam works at more rates of the grid than Adam of the same $\\beta_2$, in each comparison"
    return Finding("radam/broader-range", measured, criterion, verdict, extent)


def bounded(results: Results, losses: Losses) -> Finding:
    """Judge whether RAdam's range has an upper end within the grid."""
    at_end = {name: plus_minus(losses.by[a, RATES[-1]]) + " nats" for name, (a, _) in PAIRS.items()}
    of_digits = digits_grid.accuracies(results, digits_grid.RADAM, digits_grid.RATES[-1])
    at_end[ON_DIGITS] = plus_minus(of_digits) + " points"
    found = ranges(results, losses)
    last = {**dict.fromkeys(PAIRS, RATES[-1]), ON_DIGITS: digits_grid.RATES[-1]}
    verdict, extent = wherever({name: last[name] not in a for name, (a, _, _) in found.items()}, "comparisons")
    measured = "; ".join(f"{name}: at {last[name]:g} {at_end[name]}" for name in found)
    criterion = f"RAdam does not work at the largest rate of the grid; single characters have {entropy():.2f} nats"
    return Finding("radam/not-all-rates", measured, criterion, verdict, extent)


def tuned(losses: Losses) -> tuple[Finding, list[Test]]:
    """Judge whether RAdam must be tuned where Adam's warmup has been."""
    _, rate = losses.best(WARM)
    baseline, plugged = losses.by[WARM, rate], losses.by[RADAM, rate]
    name, own_rate = losses.best(RADAM, RADAM_LONG)
    own = losses.by[name, own_rate]
    compared = {"plugged in less baseline": plugged - baseline, "tuned less plugged in": own - plugged}
    tests = corrected([difference(f"Transformer, RAdam {what}", x) for what, x in compared.items()])
    worse, gained = (float(np.mean(x)) for x in compared.values())
    verdict: Verdict = "holds" if worse > MARGIN and gained < -MARGIN else "does not hold"
    measured = (
        f"Adam with its warmup is best at {rate:g}: {plus_minus(baseline)} nats; RAdam in its place"
        f" {plus_minus(plugged)} ({worse:+.3f}, {tests[0]}); RAdam at its best, {titled(name)} at"
        f" {own_rate:g}, {plus_minus(own)} ({gained:+.3f}, {tests[1]})"
    )
    narrower = [r for r in TRIED[WARM] if learned(losses.by[WARM, r]) and not learned(losses.by[RADAM, r])]
    measured += "".join(
        f"; at {r:g}, not the best of either, RAdam {plus_minus(losses.by[RADAM, r])} against"
        f" {plus_minus(losses.by[WARM, r])}"
        for r in narrower
    )
    criterion = (
        f"in the place of the tuned Adam RAdam is worse by more than {MARGIN} nats, and by its own rate and $\\beta_2$"
        f" it gains more than {MARGIN}; means of three seeds"
    )
    return Finding("radam/tune-after-warmup", measured, criterion, verdict), tests


STYLES = {
    ADAM: (VERMILION, "-"),
    ADAM_LONG: (VERMILION, "--"),
    WARM: (ORANGE, "-"),
    RADAM: (GREEN, "-"),
    RADAM_LONG: (BLUE, "--"),
}
OF_DIGITS = {digits_grid.BARE: ADAM_LONG, digits_grid.RADAM: RADAM_LONG}


def figure_of(results: Results, losses: Losses) -> Any:
    """Draw the losses and the accuracies over the rates."""
    figure, (left, right) = panels(1, 2, height=3.6)
    for name, (color, line) in STYLES.items():
        every = np.asarray([losses.by[name, rate] for rate in TRIED[name]])
        label = titled(name)
        curve(left, TRIED[name], every.T, line, alpha=0.12, color=color, marker="o", markersize=3, label=label)
    left.axhline(entropy() - LEARNED, color=GREY, linewidth=0.8, dashes=(4, 4))
    left.set(xscale="log", xlabel="rate", ylabel="training loss (nats a character)", ylim=(2.2, 3.5))
    left.set_title("Transformer")
    for name, as_on_left in OF_DIGITS.items():
        color, line = STYLES[as_on_left]
        every = np.asarray([digits_grid.accuracies(results, name, rate) for rate in digits_grid.RATES])
        curve(right, digits_grid.RATES, every.T, line, alpha=0.12, color=color, marker="o", markersize=3)
    right.axhline(50, color=GREY, linewidth=0.8, dashes=(4, 4))
    right.set(xscale="log", xlabel="rate", ylabel="test accuracy (points)", ylim=(0, 100))
    right.set_title("digits")
    figure.legend(*left.get_legend_handles_labels(), loc="outside lower center", ncols=3)
    return figure


def table(results: Results, losses: Losses) -> str:
    """Return the losses and the accuracies."""
    lines = ["| Transformer | " + " | ".join(f"{r:g}" for r in RATES) + " |", "| --- |" + " ---: |" * len(RATES)]
    lines += [
        f"| {titled(name)} | "
        + " | ".join(plus_minus(losses.by[name, rate]) if rate in TRIED[name] else "" for rate in RATES)
        + " |"
        for name in METHODS
    ]
    rates = digits_grid.RATES
    lines += ["", "| digits | " + " | ".join(f"{r:g}" for r in rates) + " |", "| --- |" + " ---: |" * len(rates)]
    for name, title in zip(digits_grid.NAMES, ("Adam", "Adam, untuned linear warmup", "RAdam"), strict=True):
        cells = [plus_minus(digits_grid.accuracies(results, name, rate), 1) for rate in rates]
        lines.append(f"| {title} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def checks_of(results: Results, quick: bool) -> list[Check]:
    """Check that trainings of a seed begin alike, and that the rate matters from the first step on."""
    first = [float(r.values["first_losses"][0]) for r in results if r.config["seed"] == 0 and "steps" in r.config]
    bare, warm = (values(results, training(METHODS[name], STEEP, 0, quick))["first_losses"] for name in (ADAM, WARM))
    return [
        Check(
            "every training of the Transformer with the first seed starts from the same loss",
            len(set(first)) == 1,
            f"{first[0]:.4f}, of {len(first)} trainings",
        ),
        Check(
            "after the first step the loss depends on the warmup",
            bool(bare[1] != warm[1]),
            f"{bare[1]:.3f} without, {warm[1]:.3f} with",
        ),
    ]


def report(results: Results, quick: bool) -> Report:
    """Judge the claims, draw losses and accuracies."""
    checks = checks_of(results, quick)
    if quick:
        return Report([], checks)
    losses = Losses(results)
    of_guide, tests = tuned(losses)
    picture = Picture(
        "rates",
        figure_of(results, losses),
        "Training loss of the Transformer and test accuracy on digits over the rates, by method.",
        "Means and ranges over three seeds; the dashed grey lines are the thresholds below or above which a training"
        " has learned.",
    )
    text = (
        "Training loss in nats a character, and test accuracy in points, mean ± standard deviation of three seeds:\n\n"
        f"{table(results, losses)}\n"
    )
    findings = [broader(ranges(results, losses)), bounded(results, losses), of_guide]
    return Report(findings, checks, [picture], text, tests)


EXPERIMENT = Experiment("rates", "How broad is the range of rates?", ABOUT, runs, report)
