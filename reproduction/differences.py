"""Differences between two ways to train, drawn beside the margin within which they count as the same."""

from __future__ import annotations

from typing import Any

import numpy as np

from reproduction.equivalence import Pairs
from reproduction.style import BLUE, GREEN, GREY, VERMILION
from reproduction.tasks import Task


def draw(ax: Any, tests: dict[str, list[Pairs]], settings: list[str], task: Task) -> None:
    """Means ± two standard errors, a line a setting, of each kind of difference."""
    ax.axvspan(-task.margin, task.margin, color="0.93", linewidth=0)
    ax.axvline(0, color=GREY, linewidth=0.8)
    farthest = task.margin
    for k, (name, single) in enumerate(tests.items()):
        mean, error = (np.asarray([getattr(each, part) for each in single]) for part in ("mean", "standard_error"))
        y = np.arange(len(settings)) + 0.22 * (k - (len(tests) - 1) / 2)
        style = {"fmt": "os^"[k], "color": (BLUE, GREEN, VERMILION)[k], "markersize": 4, "elinewidth": 1.1}
        ax.errorbar(mean, y, xerr=2 * error, label=name, **style)
        farthest = max(farthest, float(np.max(np.abs(mean) + 2 * error)))
    ax.set_yticks(range(len(settings)), settings)
    ax.set(xlabel=f"difference ({task.unit})", ylim=(len(settings) - 0.5, -0.5))
    if farthest > 2 * task.margin:
        ax.set_xscale("symlog", linthresh=task.margin)
        ticks = task.margin * np.asarray([-10.0, -1, 0, 1, 10])
        ax.set_xticks(ticks, [f"{x:g}" for x in ticks])
    ax.set_xlim(-1.3 * farthest, 1.3 * farthest)
    ax.grid(axis="y", visible=False)
