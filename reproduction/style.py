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
    "font.size": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.titlesize": 11,
    "axes.titlelocation": "left",
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "0.92",
    "figure.titlesize": 12,
    "legend.frameon": False,
    "legend.fontsize": 9,
    "lines.linewidth": 1.8,
}


def panels(rows: int = 1, columns: int = 1, *, width: float = 5.0, height: float = 3.8, **options: Any) -> Any:
    """A figure in this style, and its axes: ``figure, (left, right) = panels(1, 2)``."""
    mpl.rcParams.update(STYLE)
    figure = Figure(figsize=(width * columns, height * rows), layout=ConstrainedLayoutEngine(wspace=0.06, hspace=0.06))
    return figure, figure.subplots(rows, columns, **options)
