"""Figures of the trainings on digits: over rates, over beta3, and beside each other."""

from __future__ import annotations

from typing import Any

import numpy as np

from adamod_array import AdaMod
from reproduction.findings.robustness_others import REMEDIES
from reproduction.grids.digits_runs import ADAM, LARGE, MEMORIES, METHODS, RATES, SLOW, Trainings
from reproduction.style import BLUE, GREY, ORANGE, SKY, VERMILION, panels

COLORS, LINES = (VERMILION, ORANGE, SKY, BLUE), ("-.", ":", "--", "-")


def pretty(name: str) -> str:
    return name.replace("beta3", r"$\beta_3$")


def draw(ax: Any, curves: np.ndarray, color: str, line: str, label: str) -> None:
    """Draw the median and the range of some seeds over the epochs."""
    epoch = 1 + np.arange(curves.shape[1])
    ax.plot(epoch, np.median(curves, axis=0), line, color=color, label=label, linewidth=1.4)
    ax.fill_between(epoch, curves.min(axis=0), curves.max(axis=0), color=color, alpha=0.13, linewidth=0)
    ax.set_xlim(1, curves.shape[1])


def of_rates(t: Trainings, names: tuple[str, ...]) -> Any:
    """Draw the paper's Figure 6."""
    figure, axes = panels(2, 2, height=2.4, sharex=True, sharey=True)
    for ax, name in zip(axes.flat, names, strict=False):
        for rate, color, line in zip(RATES, (VERMILION, SKY, BLUE), ("-", "--", "-."), strict=True):
            draw(ax, 100 * t.curves("accuracy", METHODS[name], rate), color, line, f"rate {rate:g}")
        ax.set(ylim=(0, 101))
        ax.set_title(pretty(name))
    for ax in axes.flat[len(names) :]:
        ax.set_visible(False)
    for ax in axes[:, 0]:
        ax.set_ylabel("test accuracy (points)")
    for ax in axes[-1]:
        ax.set_xlabel("epoch")
    axes[0, 0].legend(loc="lower right")
    return figure


def of_memories(t: Trainings) -> Any:
    """Draw the paper's Figure 8, and the test accuracy beside it."""
    figure, axes = panels(1, 2, sharey=True)
    for ax, what, title in zip(
        axes, ("train_accuracy", "accuracy"), ("training accuracy", "test accuracy"), strict=True
    ):
        for beta3, color, line in zip(MEMORIES, COLORS, LINES, strict=True):
            draw(ax, 100 * t.curves(what, AdaMod(beta3=beta3), SLOW), color, line, rf"$\beta_3$ = {beta3:g}")
        ax.set(xlabel="epoch", xscale="log", ylim=(60, 101))
        ax.xaxis.set_major_formatter("{x:g}")
        ax.set_title(title)
    axes[0].set_ylabel("accuracy (points)")
    axes[0].legend(loc="lower right")
    return figure


def of_remedies(t: Trainings) -> Any:
    """Draw where each seed of Adam ends at the large rate, without and with its largest rates."""
    figure, ax = panels(1, 1, width=6, height=2.2)
    found = {"Adam as it is": t.points(METHODS[ADAM], LARGE)}
    found |= {name: t.points(rate=LARGE, **config) for name, config in REMEDIES.items()}
    for y, points in enumerate(found.values()):
        ax.plot(points, y + np.linspace(-0.2, 0.2, len(points)), "o", color=BLUE, markersize=4)
    ax.axvline(10, color=GREY, linewidth=0.8, linestyle="--")
    ax.set_yticks(range(len(found)), list(found))
    ax.set(xlabel="test accuracy at the end (points)", xlim=(0, 101), ylim=(len(found) - 0.5, -0.5))
    ax.grid(axis="y", visible=False)
    return figure
