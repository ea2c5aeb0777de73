"""How the figures look: the demo's style."""

from __future__ import annotations

from typing import Any

import matplotlib as mpl
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine

# Okabe and Ito's colours, which colour-blind readers tell apart
GREY, BLACK = "#777777", "#000000"
VERMILION, ORANGE, GREEN, SKY, BLUE, PURPLE = "#D55E00", "#E69F00", "#009E73", "#56B4E9", "#0072B2", "#CC79A7"

STYLE = {
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.titlesize": 10,
    "axes.titlelocation": "left",
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "0.92",
    "figure.titlesize": 11,
    "legend.frameon": False,
    "legend.fontsize": 8,
    "lines.linewidth": 1.5,
}


WIDEST = 7.6
"""Inches of a figure: so wide it stands in the page at its own size, and its letters with it."""


def panels(rows: int = 1, columns: int = 1, *, width: float = 3.8, height: float = 3.0, **options: Any) -> Any:
    """A figure in this style, and its axes: ``figure, (left, right) = panels(1, 2)``.

    Raises
    ------
    ValueError
        It is wider than the page: put the panels into rows.
    """
    if width * columns > WIDEST:
        raise ValueError(f"{columns} panels of {width:g} inches are wider than the page, {WIDEST} inches")
    mpl.rcParams.update(STYLE)
    figure = Figure(figsize=(width * columns, height * rows), layout=ConstrainedLayoutEngine(wspace=0.06, hspace=0.06))
    return figure, figure.subplots(rows, columns, **options)


def curve(ax: Any, x: Any, rows: Any, line: str = "-", *, alpha: float = 0.15, **style: Any) -> None:
    """Draw the mean of curves, a row a seed, and their range as a band."""
    ax.plot(x, rows.mean(axis=0), line, **style)
    ax.fill_between(x, rows.min(axis=0), rows.max(axis=0), color=style["color"], alpha=alpha, linewidth=0)
