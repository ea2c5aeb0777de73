"""Losses over time with the untuned warmups and RAdam: Ma & Yarats 2021, Figures 4 to 6."""

from __future__ import annotations

from typing import Any, NamedTuple

import demo
import numpy as np

from reproduction.frame import Finding, Picture, Results, Run, wherever
from reproduction.grids import warmup_grid
from reproduction.grids.warmup_grid import WARMUPS
from reproduction.runs.train_transformer import WINDOW
from reproduction.style import BLUE, ORANGE, VERMILION, curve, panels
from reproduction.tasks import DIGITS, TRANSFORMER

DEFAULT = 1e-3, 0.999
"""Rate and beta2 of Figure 4."""
CANONICAL = 3e-3, 0.999
"""The middle rate of the Transformer here, with the beta2 of Figures 5 and 6."""
LONG = 2500
"""Steps: the linear warmup of beta2 = 0.999 lasts 2,000."""
EPOCHS = (1, 2, 5, 10, 20, 50, 100)
CRITERION = (
    "a place holds where the three mean curves lie no further apart than one standard deviation of the seeds there"
    " (a threshold, no test)"
)


def runs(quick: bool) -> list[Run]:
    """The long trainings."""
    rate, beta2 = CANONICAL
    chosen = warmup_grid.methods(TRANSFORMER, beta2)
    return [
        Run(TRANSFORMER.run, rate=rate, seed=seed, steps=LONG, **chosen[name])
        for name in WARMUPS
        for seed in range(0 if quick else 3)
    ]


Curves = dict[str, np.ndarray]
"""By warmup: a row a seed."""


class Gap(NamedTuple):
    """How far curves are apart at one place, and how far seeds are."""

    gap: float
    deviation: float

    @property
    def narrow(self) -> bool:
        """Return whether the warmups are no further apart than seeds."""
        return self.gap <= self.deviation

    def __str__(self) -> str:
        return f"{self.gap:.2g} ({self.deviation:.2g})"


def gap(curves: Curves, part: slice) -> Gap:
    """Compare the means over a part of the curves."""
    means = [curve[:, part].mean(axis=1) for curve in curves.values()]
    deviation = np.sqrt(np.mean([x.var(ddof=1) for x in means]))
    return Gap(float(np.ptp([x.mean() for x in means])), float(deviation))


def digits_curves(results: Results) -> Curves:
    """Training losses on digits at the setting of Figure 4, a column an epoch."""
    trained = {name: warmup_grid.trained(results, DIGITS, *DEFAULT, name, False) for name in WARMUPS}
    return {name: np.asarray([r.values["loss"] for r in found]) for name, found in trained.items()}


def grid_curves(results: Results, at: tuple[float, float]) -> Curves:
    """Training losses of the Transformer in a setting of the grid, a column a window of steps."""
    trained = {name: warmup_grid.trained(results, TRANSFORMER, *at, name, False) for name in WARMUPS}
    return {name: np.asarray([r.values["loss"] for r in found]) for name, found in trained.items()}


def long_curves(results: Results) -> Curves:
    """Training losses of the long trainings, a column a window of steps."""
    chosen = warmup_grid.methods(TRANSFORMER, CANONICAL[1])
    found: Curves = {}
    for name in WARMUPS:
        config = {"warmup": None, **chosen[name]}
        trained = [r for r in results.where(steps=LONG) if all(r.config.get(k) == v for k, v in config.items())]
        found[name] = np.asarray([r.values["loss"] for r in trained])
    return found


def stretches(steps: int, every: int) -> dict[str, slice]:
    """Parts of a curve of windows, by name."""
    return {
        f"steps {start + 1:,} to {start + every:,}": slice(start // WINDOW, (start + every) // WINDOW)
        for start in range(0, steps, every)
    }


def listed(gaps: dict[str, Gap]) -> str:
    """Say the gaps, each with the deviation of the seeds."""
    return ", ".join(f"{each} at {place}" for place, each in gaps.items())


def findings(results: Results) -> tuple[list[Finding], Picture]:
    """Judge the curves of the three figures."""
    digits, long = digits_curves(results), long_curves(results)
    ends = {at: grid_curves(results, at) for at in warmup_grid.grid(TRANSFORMER, False)}
    sound = {at: curves for at, curves in ends.items() if not _any_lost(results, at)}
    by_epoch = {f"epoch {epoch}": gap(digits, slice(epoch - 1, epoch)) for epoch in EPOCHS}
    by_stretch = {
        place: max((gap(curves, part) for curves in sound.values()), key=lambda each: each.gap / each.deviation)
        for place, part in stretches(warmup_grid.settings(TRANSFORMER, False)["steps"], 100).items()
    }
    by_long = {place: gap(long, part) for place, part in stretches(LONG, 500).items()}
    rate, beta2 = CANONICAL
    epochs, lasts = len(digits["linear"][0]), 2 / (1 - DEFAULT[1]) / demo.digits().batches_an_epoch
    rows = [
        (
            "untuned/figure-4",
            by_epoch,
            f"training loss on digits, five seeds (the linear warmup lasts {lasts:.0f} of {epochs} epochs)",
        ),
        (
            "untuned/figure-5",
            by_stretch,
            f"training loss of the Transformer, five seeds, in the worst of the {len(sound)} settings that learned",
        ),
        (
            "untuned/figure-6",
            by_long,
            f"training loss of the Transformer at the rate {rate:g}, $\\beta_2$ = {beta2:g}, three seeds",
        ),
    ]
    found = []
    for claim, gaps, what in rows:
        verdict, extent = wherever({place: each.narrow for place, each in gaps.items()}, "places")
        measured = f"{what}, largest difference of two means (deviation of the seeds): {listed(gaps)}"
        found.append(Finding(claim, measured, CRITERION, verdict, extent))
    return found, picture(digits, long)


def text() -> str:
    """Say how long these trainings are beside the warmups."""
    steps = EPOCHS[-1] * demo.digits().batches_an_epoch
    return (
        "The curves of Figures 4 to 6 are of trainings that are short beside the warmups: the linear one of"
        f" $\\beta_2$ = 0.999 lasts 2,000 steps, of {steps:,} on digits and of {LONG:,} with the Transformer. In a"
        " training many times as long these differences would lie at its very beginning."
    )


def _any_lost(results: Results, at: tuple[float, float]) -> bool:
    return any(
        TRANSFORMER.failed(TRANSFORMER.measure(r.values))
        for name in WARMUPS
        for r in warmup_grid.trained(results, TRANSFORMER, *at, name, False)
    )


def picture(digits: Curves, long: Curves) -> Picture:
    """Draw means and ranges of the seeds."""
    figure, (left, right) = panels(1, 2)
    steps = WINDOW * (np.arange(LONG // WINDOW) + 0.5)
    for ax, curves, at in ((left, digits, 1 + np.arange(digits["RAdam"].shape[1])), (right, long, steps)):
        _curves(ax, curves, at)
    left.set(xlabel="epoch", ylabel="training loss (nats)", yscale="log")
    left.set_title(f"Digits, {DEFAULT[0]:g}, $\\beta_2$ = {DEFAULT[1]:g}")
    right.set(xlabel="step", ylabel="training loss (nats a character)")
    right.set_title(f"Transformer, {CANONICAL[0]:g}, $\\beta_2$ = {CANONICAL[1]:g}")
    left.legend()
    return Picture(
        "curves",
        figure,
        "Training losses over time with the exponential and the linear warmup and with RAdam.",
        "Means and ranges of the seeds, five on the left and three on the right.",
    )


def _curves(ax: Any, curves: Curves, at: np.ndarray) -> None:
    for (name, rows), color, line in zip(curves.items(), (BLUE, ORANGE, VERMILION), ("-", "--", ":"), strict=True):
        curve(ax, at, rows, line, alpha=0.12, color=color, label=name)
    ax.set_xscale("log")
    ax.xaxis.set_major_formatter("{x:g}")
