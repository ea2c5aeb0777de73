"""Differences between ways to train, drawn beside the margin within which they count as the same."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from reproduction.comparisons import Compared
from reproduction.style import BLUE, GREEN, GREY, PURPLE, VERMILION
from reproduction.tasks import Task


def draw(ax: Any, kinds: Mapping[str, Sequence[Compared]], settings: Sequence[str], task: Task) -> None:
    """Means ± two standard errors, a line a setting, of each kind of difference, beside the margin."""
    ax.axvspan(-task.margin, task.margin, color="0.93", linewidth=0)
    ax.axvline(0, color=GREY, linewidth=0.8)
    farthest = task.margin
    for k, (name, compared) in enumerate(kinds.items()):
        mean = np.asarray([each.differs.mean for each in compared])
        error = np.asarray([each.standard_error for each in compared])
        y = np.arange(len(settings)) + 0.2 * (k - (len(kinds) - 1) / 2)
        style = {"fmt": "os^D"[k], "color": (BLUE, GREEN, VERMILION, PURPLE)[k], "markersize": 3.5, "elinewidth": 1.1}
        ax.errorbar(mean, y, xerr=2 * error, label=name, **style)
        farthest = max(farthest, float(np.max(np.abs(mean) + 2 * error)))
    ax.set_yticks(range(len(settings)), settings, fontsize=8)
    ax.set(xlabel=f"difference ({task.unit})", ylim=(len(settings) - 0.5, -0.5))
    if farthest > 2 * task.margin:
        ax.set_xscale("symlog", linthresh=task.margin)
        ticks = task.margin * np.asarray([-10.0, -1, 0, 1, 10])
        ax.set_xticks(ticks, [f"{x:g}" for x in ticks])
    ax.set_xlim(-1.3 * farthest, 1.3 * farthest)
    ax.grid(axis="y", visible=False)
