"""What first gradients of several networks show, by model and seed: shares, variances, and their picture."""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy import stats

from reproduction.frame import Results
from reproduction.runs.first_gradients import MODELS, PARTS, POST, PRE
from reproduction.statistics import plus_minus
from reproduction.style import BLUE, GREEN, VERMILION, panels

SCALES = ("matrix", "block")
"""Beside whose root mean square a gradient is near zero."""
GAUSSIAN = 2 * stats.norm.cdf(0.01) - 1
"""Of normal gradients, so many are below 1 % of their root mean square."""


def shares(results: Results, model: str, scale: str, parts: tuple[str, ...] = PARTS) -> np.ndarray:
    """Return the share of near-zero gradients in some of a block's matrices, a number a seed."""
    chosen = [PARTS.index(part) for part in parts]
    return np.asarray([np.mean(r.values[f"near_zero_{scale}"][chosen]) for r in results.where(model=model)])


def relative(values: dict[str, Any]) -> np.ndarray:
    """Return each parameter's variance of the adaptive rate over its mean's square."""
    return np.asarray(values["variance"] / values["mean"] ** 2)


def medians(results: Results, model: str) -> np.ndarray:
    """Return the median of it over the parameters, a number a seed."""
    return np.asarray([np.median(relative(r.values)) for r in results.where(model=model)])


def correlations(results: Results, model: str, *, of_relative: bool) -> np.ndarray:
    """Return the rank correlation of a gradient's size with the variance of its rate, a number a seed."""
    return np.asarray(
        [
            stats.spearmanr(r.values["size"], relative(r.values) if of_relative else r.values["variance"]).statistic
            for r in results.where(model=model)
        ]
    )


def figure_of(results: Results) -> Any:
    """Draw the shares by matrix, and the distribution of the variances."""
    figure, (left, right) = panels(1, 2, height=3.4)
    at = np.arange(len(PARTS))
    markers = zip((POST, PRE), (VERMILION, BLUE), strict=True)
    for model, color in markers:
        for scale, marker in zip(SCALES, ("o", "s"), strict=True):
            each = 100 * np.mean([r.values[f"near_zero_{scale}"] for r in results.where(model=model)], axis=0)
            left.plot(at, each, marker, color=color, label=f"{model}, of the {scale}", markersize=5)
    left.axhline(100 * GAUSSIAN, color="black", linewidth=0.8, dashes=(4, 4))
    left.set_xticks(at, [part.replace("attention_out", "attention\nout") for part in PARTS], fontsize=8, rotation=30)
    left.set(ylabel="gradients near zero (%)", ylim=(0, 13))
    left.legend(fontsize=8, loc="upper right")
    for model, color in zip(MODELS, (VERMILION, BLUE, GREEN), strict=True):
        every = np.sort(np.concatenate([relative(r.values) for r in results.where(model=model)]))
        share = np.linspace(0, 1, 400)
        right.plot(np.quantile(every, share), share, color=color, label=model)
    right.set(xscale="log", xlabel=r"Var $\psi_{10}$ / (mean $\psi_{10}$)$^2$", ylabel="share of parameters below")
    right.set_xlim(2e-3, 5)
    right.legend(fontsize=8)
    return figure


def table(results: Results) -> str:
    """Return the shares of every matrix and the variances of every model."""
    lines = ["| near zero, % | " + " | ".join(PARTS) + " |", "| --- |" + " ---: |" * len(PARTS)]
    for model in (POST, PRE):
        for scale in SCALES:
            cells = [plus_minus(100 * shares(results, model, scale, (part,))) for part in PARTS]
            lines.append(f"| {model}, of the {scale} | " + " | ".join(cells) + " |")
    lines += ["", "| | median variance | over the mean's square | left out |", "| --- | ---: | ---: | ---: |"]
    for model in MODELS:
        every = [float(np.median(r.values["variance"])) for r in results.where(model=model)]
        left_out = [int(r.values["left_out"]) for r in results.where(model=model)]
        lines.append(
            f"| {model} | {np.mean(every):.2g} | {plus_minus(medians(results, model), 4)} |"
            f" {min(left_out):,} to {max(left_out):,} |"
        )
    return "\n".join(lines)
