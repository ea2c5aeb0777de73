"""The demo's picture."""

from __future__ import annotations

from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.lines import Line2D

# Okabe and Ito's colours, which colour-blind readers tell apart; markers and dashes say the same again
STYLES: dict[str, dict[str, Any]] = {
    "Momentum": {"color": "#555555", "marker": "s", "linestyle": "-"},
    "Adam": {"color": "#D55E00", "marker": "o", "linestyle": "-"},
    "Adam, untuned linear warmup": {"color": "#E69F00", "marker": "", "linestyle": "--"},
    "RAdam": {"color": "#009E73", "marker": "", "linestyle": "-."},
    "AdaMod, beta3 = 0.999": {"color": "#56B4E9", "marker": "D", "linestyle": "--"},
    "AdaMod, beta3 = 0.9999": {"color": "#0072B2", "marker": "^", "linestyle": "-"},
}
STYLE = {
    "font.size": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.titlesize": 11,
    "axes.titlelocation": "left",
    "figure.titlesize": 12,
    "legend.frameon": False,
    "legend.fontsize": 9,
    "lines.linewidth": 1.8,
}


def draw(
    path: str,
    losses: dict[str, list[dict[int, float]]],
    large_rate: float,
    accuracies: dict[str, list[list[float]]],
    rates: tuple[float, ...],
) -> None:
    """Loss over steps and accuracy over learning rates: medians, and ranges over the seeds."""
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(10, 4.6), layout=ConstrainedLayoutEngine(wspace=0.06))
        left, right = figure.subplots(1, 2)

        for name, runs in losses.items():
            style = STYLES[name] | {"marker": ""}
            steps = list(runs[0])
            values = np.asarray([list(run.values()) for run in runs])
            left.plot(steps, np.median(values, axis=0), **style)
            left.fill_between(steps, values.min(axis=0), values.max(axis=0), color=style["color"], alpha=0.15, lw=0)
        left.set(xscale="log", yscale="log", xlabel="step", ylabel="training loss (nats an image)", xlim=(1, steps[-1]))
        left.yaxis.set_major_formatter("{x:g}")
        left.set_title(f"Loss at a large learning rate, {large_rate:g}")

        for i, (name, by_rate) in enumerate(accuracies.items()):
            values = np.asarray(by_rate)
            middle = np.median(values, axis=1)
            x = np.asarray(rates) * 1.1 ** (i - (len(accuracies) - 1) / 2)  # side by side
            spread = np.stack([middle - values.min(axis=1), values.max(axis=1) - middle])
            right.errorbar(x, middle, spread, elinewidth=1.2, markersize=5, **STYLES[name])
        right.set(xscale="log", xlabel="learning rate", ylabel="test accuracy", ylim=(0, 1.02))
        right.set_title(f"Accuracy after {steps[-1]} steps")

        for axes in (left, right):
            axes.xaxis.set_major_formatter("{x:g}")
            axes.minorticks_off()
            axes.grid(axis="y", color="0.9", linewidth=0.8)
            axes.set_axisbelow(True)
        handles = [Line2D([], [], label=name.replace("beta3", r"$\beta_3$"), **style) for name, style in STYLES.items()]
        figure.legend(handles=handles, loc="outside lower center", ncols=3, columnspacing=3)
        figure.suptitle(
            "A classifier of handwritten digits, trained from 3 seeds: medians and ranges", x=0.01, ha="left"
        )
        figure.savefig(path, dpi=150)
