"""The picture: share of the limit over the number of parameters, a panel a method."""

from __future__ import annotations

from pathlib import Path

import matplotlib as mpl
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from benchmarks.bars import Times
from benchmarks.contender import ARRAYS, Contender
from benchmarks.contenders import ALL
from benchmarks.problem import Problem
from benchmarks.report import curve_problems, share

# Okabe and Ito's colours, which colour-blind readers tell apart: one a framework
COLORS = {"NumPy": "#0072B2", "torch": "#D55E00", "jax": "#009E73"}
STYLE = {
    "font.size": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.titlesize": 12,
    "axes.titlelocation": "left",
}
TOP = 1.15
"""Of the vertical axis; what a cache or a noisy machine takes beyond it is cut off."""


def _framework(name: str) -> str:
    if "NumPy" in name:
        return "NumPy"
    return "jax" if name.startswith(("JAX", "optax")) else "torch"


def _style(contender: Contender) -> dict[str, object]:
    """Ours: solid, thick, full markers. Peers: dashed, thin, hollow ones."""
    color = COLORS[_framework(contender.name)]
    if contender.ours:
        marker = {"fresh": "v", "alone": "s"}.get(next((x for x in ("fresh", "alone") if x in contender.name), ""), "o")
        return {"color": color, "linewidth": 2.4, "marker": marker, "markersize": 5.5}
    return {"color": color, "linewidth": 1.2, "linestyle": (0, (4, 2)), "marker": "o", "markerfacecolor": "white"} | {
        "markersize": 4.5
    }


def _short(name: str) -> str:
    return name.replace(", jitted", "").replace(", in the user's jit", " in user's jit").replace(", donated", "")


def _spread(heights: list[float], gap: float) -> list[float]:
    """Heights of labels, moved apart to stand at least ``gap`` from each other, none below 0."""
    order = sorted(range(len(heights)), key=heights.__getitem__)
    placed = list(heights)
    for below, i in zip([None, *order], order, strict=False):
        placed[i] = max(placed[i], gap / 2 if below is None else placed[below] + gap)
    excess = max(0.0, placed[order[-1]] - TOP)
    for above, i in zip([None, *reversed(order)], reversed(order), strict=False):
        top = placed[i] - excess if above is None else placed[above] - gap
        placed[i] = min(placed[i], top)
    return placed


def draw(path: Path, times: Times) -> None:
    """One line a contender, its name at its end."""
    problems = curve_problems(times)
    sizes = [Problem(x).elements for x in problems]
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(8, 13))  # a page's width: text keeps its size
        figure.subplots_adjust(left=0.09, right=0.72, bottom=0.04, top=0.93, hspace=0.22)
        panels = figure.subplots(3, 1)
        for panel, (method, arrays) in zip(panels, ARRAYS.items(), strict=True):
            entries = [x for x in ALL if x.method == method and x.expected is not None]
            ends = []
            for contender in entries:
                ratios = [share(times[method, problem], contender.key, method) for problem in problems]
                style = _style(contender)
                panel.plot(sizes, [x.median for x in ratios], zorder=3 if contender.ours else 2, **style)
                panel.fill_between(
                    sizes, [x.low for x in ratios], [x.high for x in ratios], color=style["color"], alpha=0.12, lw=0
                )
                ends.append(ratios[-1].median)
            for contender, end, height in zip(entries, ends, _spread(ends, 0.055), strict=True):
                panel.annotate(
                    _short(contender.name),
                    (sizes[-1], min(end, TOP)),
                    (sizes[-1] * 2.0, height),
                    color=COLORS[_framework(contender.name)],
                    weight="bold" if contender.ours else "normal",
                    fontsize=9,
                    va="center",
                    annotation_clip=False,
                    arrowprops={"arrowstyle": "-", "color": "0.75", "lw": 0.7, "shrinkA": 0, "shrinkB": 3},
                )
            panel.axhline(1, color="0.2", lw=1)
            panel.annotate("the limit: a loop that only adds", (sizes[0], 1.012), fontsize=8.5, color="0.2")
            panel.set(xscale="log", ylim=(0, TOP), xlim=(sizes[0] * 0.8, sizes[-1] * 1.5))
            panel.set_title(f"{method}: {arrays} arrays, {4 * arrays} bytes a parameter")
            panel.yaxis.set_major_formatter(PercentFormatter(1))
            panel.grid(axis="y", color="0.9", lw=0.8)
            panel.set_axisbelow(True)
            panel.set_ylabel("bytes a second, share of the limit")
        panels[-1].set_xlabel("float32 parameters")
        figure.suptitle(
            "Bold, solid: adamod_array. Dashed: peers.\nBlue NumPy, red PyTorch, green JAX. Bands: quartiles.",
            fontsize=10,
            x=0.01,
            ha="left",
        )
        figure.savefig(path, dpi=110)
