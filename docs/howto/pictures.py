"""Draw bound.png, rates.png and updates.png of diagnostics.md: what a training's steps looked like.

    python docs/howto/pictures.py

trains the demo's classifier of handwritten digits, in half a minute; scikit-learn, matplotlib and tqdm are needed.
"""

from __future__ import annotations

import argparse
import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import beta3
import matplotlib as mpl
import numpy as np
import optree
from matplotlib.figure import Figure

from adamod_array import Adam, AdaMod, Method, State, diagnostics, init, schedules, step

STYLE = {
    "font.size": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.titlelocation": "left",
    "axes.titlesize": 10.5,
    "legend.frameon": False,
    "lines.linewidth": 2,
}
# Okabe and Ito's colours, which colour-blind readers tell apart; dashes say the same again
LINES: tuple[dict[str, Any], ...] = (
    {"color": "#D55E00", "linestyle": "-"},
    {"color": "#009E73", "linestyle": "--"},
    {"color": "#0072B2", "linestyle": "-."},
    {"color": "#555555", "linestyle": ":"},
)
BETA3 = (0.9, 0.99, 0.999)


def states(problem: beta3.Problem, method: Method, lr: Any, steps: int) -> Iterator[State]:
    """The states of a training, the first before any step."""
    state = init(method, problem.start, lr=lr)
    yield state
    for gradient in itertools.islice(problem.gradients(), steps):
        state = step(state, gradient(state.params))
        yield state


def numbers(tree: Any) -> np.ndarray:
    """All numbers of a tree, in one vector."""
    return np.concatenate([np.ravel(x) for x in optree.tree_leaves(tree)])


def held_down(state: State) -> float:
    """Return the median, over coordinates, of AdaMod's rate in units of the rate that Adam would have taken."""
    adam = state.replace(method=Adam(), slots={name: state.slots[name] for name in ("m", "v")})
    return float(np.median(numbers(diagnostics.effective_rates(state)) / numbers(diagnostics.effective_rates(adam))))


def grid(steps: int, count: int = 40) -> list[int]:
    """Steps that are evenly spread in the logarithm, from 1."""
    return sorted({round(steps ** (k / count)) for k in range(count + 1)})


def save(figure: Figure, folder: Path, name: str) -> None:
    """Write a picture that is 700 pixels wide on the page, at twice as many."""
    figure.savefig(folder / f"{name}.png", dpi=200)


def draw_bound(problem: beta3.Problem, folder: Path, steps: int) -> None:
    """How many rates are bounded, and how far down they are held, by beta3."""
    at = grid(steps)
    figure = Figure(figsize=(7, 3.5), layout="constrained")
    left, right = figure.subplots(1, 2, sharex=True, sharey=True)
    for value, style in zip(BETA3, LINES, strict=False):
        seen = [s for s in states(problem, AdaMod(beta3=value), problem.rate, steps) if s.step in at]
        left.plot(at, [float(diagnostics.bounded_fraction(s)) for s in seen], **style)
        right.plot(at, [held_down(s) for s in seen], label=rf"$\beta_3 = {value:g}$", **style)
    left.set_title("Share of the rates that are bounded")
    right.set_title("Median rate, relative to Adam's")
    figure.legend(loc="outside lower center", ncols=len(BETA3))
    for axes in (left, right):
        axes.set(xscale="log", xlabel="step", xlim=(1, steps), ylim=(0, 1.02))
        axes.xaxis.set_major_formatter("{x:,.0f}")
        axes.grid(axis="y", color="0.9")
    save(figure, folder, "bound")


def draw_rates(problem: beta3.Problem, folder: Path, steps: int) -> None:
    """Histograms of the rates, a column a step."""
    methods = {"Adam": Adam(), r"AdaMod, $\beta_3 = 0.999$": AdaMod(beta3=0.999)}
    at = grid(steps, 80)
    borders = np.sqrt([at[0] / 2, *np.multiply(at[:-1], at[1:]), at[-1] ** 2])
    figure = Figure(figsize=(7, 3.5), layout="constrained")
    panels = figure.subplots(1, 2, sharey=True)
    for axes, (name, method) in zip(panels, methods.items(), strict=True):
        columns = []
        for state in states(problem, method, problem.rate, steps):
            if state.step in at:
                counts, edges = diagnostics.histogram(diagnostics.effective_rates(state), decades=(-4, 2))
                columns.append(counts[1:-1] / counts.sum())
        mesh = axes.pcolormesh(borders, edges, 100 * np.transpose(columns), cmap="Blues", vmin=0, vmax=10)
        axes.axhline(problem.rate, color=LINES[0]["color"], linestyle="--", linewidth=1.2)
        axes.set(xscale="log", yscale="log", xlabel="step", xlim=(1, steps), title=name)
        axes.xaxis.set_major_formatter("{x:,.0f}")
    panels[0].set_ylabel("rate of a coordinate")
    below = {"xytext": (0, -4), "textcoords": "offset points", "ha": "right", "va": "top"}
    panels[0].annotate("learning rate", (steps, problem.rate), **below)
    figure.colorbar(mesh, ax=panels, label="share of coordinates in a bin (%)", extend="max")
    save(figure, folder, "rates")


def draw_updates(problem: beta3.Problem, folder: Path, steps: int) -> None:
    """How far a step moves a coordinate: the median, in units of the learning rate."""
    runs = {
        "Adam": (Adam(), problem.rate),
        "Adam, linear warmup of 100 steps": (Adam(), problem.rate * schedules.linear_warmup(100)),
        r"AdaMod, $\beta_3 = 0.99$": (AdaMod(beta3=0.99), problem.rate),
        r"AdaMod, $\beta_3 = 0.999$": (AdaMod(beta3=0.999), problem.rate),
    }
    at = grid(steps)
    figure = Figure(figsize=(7, 3.8), layout="constrained")
    axes = figure.subplots()
    for (name, (method, lr)), style in zip(runs.items(), LINES, strict=True):
        pairs = itertools.pairwise(states(problem, method, lr, steps))
        # in units of the rate itself, so that the warmup is seen
        moved = [diagnostics.update_magnitudes(old, new, lr=problem.rate) for old, new in pairs if new.step in at]
        axes.plot(at, [np.median(numbers(each)) for each in moved], label=name, **style)
    axes.set(xscale="log", yscale="log", xlabel="step", xlim=(1, steps), ylim=(5e-4, 2))
    axes.xaxis.set_major_formatter("{x:,.0f}")
    axes.yaxis.set_major_formatter("{x:g}")
    axes.set_title("Median update of a coordinate, in units of the learning rate")
    axes.grid(axis="y", color="0.9")
    figure.legend(loc="outside lower center", ncols=2)
    save(figure, folder, "updates")


def main(arguments: list[str] | None = None) -> None:
    """Draw all three."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, default=Path(__file__).parent, help="where the pictures go")
    parser.add_argument("--steps", type=int, default=5_000, help="of every training (default: %(default)s)")
    options = parser.parse_args(arguments)
    problem = beta3.digits()
    with mpl.rc_context(STYLE):
        for draw in (draw_bound, draw_rates, draw_updates):
            draw(problem, options.folder, options.steps)


if __name__ == "__main__":
    main()
