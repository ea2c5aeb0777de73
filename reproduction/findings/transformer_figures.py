"""The figures of the character Transformer."""

from __future__ import annotations

from typing import Any

import numpy as np

from reproduction.grids.transformer_runs import (
    ADAMOD,
    CLIPPED,
    CONFIGS,
    MEMORIES,
    MIDDLE,
    OWN_WARMUP,
    PICTURED,
    REMEDIES,
    RESTARTED,
    STEEP,
    UNBOUND,
    WARM,
    Trainings,
    memory_config,
    two_phases,
)
from reproduction.runs.train_transformer import HUGE, WINDOW
from reproduction.style import BLACK, BLUE, GREEN, GREY, ORANGE, PURPLE, SKY, VERMILION, curve, panels

STYLES = {
    "Adam": (VERMILION, "-"),
    WARM: (ORANGE, "-"),
    "Adam, eps = 1e-4": (VERMILION, ":"),
    "Adam-2k": (PURPLE, "-"),
    "RAdam": (GREEN, "-"),
    "RAdam, beta2 = 0.999": (GREEN, "--"),
    ADAMOD: (SKY, "-"),
    "AdaMod, beta3 = 0.9999": (BLUE, "-"),
    OWN_WARMUP: (BLACK, ":"),
}
LOSS = "training loss (nats a character)"
SHOWN = (2.1, 3.9)
"""Losses that are shown: all start at 4.8."""


def draw(ax: Any, trainings: Trainings, rate: float, config: dict[str, Any], line: str, **style: Any) -> bool:
    """Draw mean and range over the seeds, and return whether there was any."""
    losses = trainings.losses(rate, config)
    if not len(losses):
        return False
    at = WINDOW * (np.arange(losses.shape[1]) + 0.5)
    curve(ax, at, losses, line, alpha=0.12, **style)
    return True


def in_symbols(name: str) -> str:
    """Return a configuration's name with Greek letters."""
    return name.replace("beta2", r"$\beta_2$").replace("beta3", r"$\beta_3$").replace("eps", r"$\epsilon$")


def frame(ax: Any, trainings: Trainings, title: str, stuck: float | None = None) -> None:
    """Give a panel of losses its axes, and a line at the entropy of single characters."""
    if stuck is not None:
        ax.axhline(stuck, color=GREY, linewidth=0.8, dashes=(4, 4))
    ax.set(xlabel="step", xlim=(0, trainings.steps), ylim=SHOWN)
    ax.set_title(title)


def loss_figure(trainings: Trainings, stuck: float) -> Any:
    """Draw curves of every configuration, a panel a rate, the legend in the last."""
    figure, axes = panels(2, 2, height=3.2, sharey=True)
    *drawn, last = axes.flat
    last.set_axis_off()
    for ax, rate in zip(drawn, trainings.rates, strict=False):
        for name, (color, line) in STYLES.items():
            draw(ax, trainings, rate, CONFIGS[name], line, color=color, label=in_symbols(name))
        frame(ax, trainings, f"learning rate {rate:g}", stuck)
    for ax in drawn[len(trainings.rates) :]:
        ax.set_axis_off()
    for ax in axes[:, 0]:
        ax.set_ylabel(LOSS)
    drawn[0].plot([], [], color=GREY, linewidth=0.8, dashes=(4, 4), label="entropy of single characters")
    last.legend(*drawn[0].get_legend_handles_labels(), loc="center", fontsize=9)
    return figure


def rate_figure(trainings: Trainings) -> Any:
    """Draw how many parameters have which rate, at each of some steps."""
    figure, axes = panels(2, 2, height=2.9, sharex=True, sharey=True)
    for ax, name in zip(axes.flat, PICTURED, strict=True):
        if not trainings.of(STEEP, CONFIGS[name]):
            ax.set_axis_off()
            continue
        seen = trainings.pictured(name)
        share = seen["counts"][:, 1:-1].T / float(seen["numbers"])
        steps = np.append(seen["at"], trainings.steps + 1)
        mesh = ax.pcolormesh(steps, seen["edges"], np.where(share > 0, share, np.nan), norm="log", cmap="viridis")
        mesh.set_clim(1e-5, 0.3)
        ax.axhline(HUGE, color=VERMILION, linewidth=0.8, dashes=(4, 4))
        ax.set(xscale="log", yscale="log", ylim=(1e-6, 3e8))
        ax.grid(visible=False)
        ax.set_title(in_symbols(name))
    for ax in axes[:, 0]:
        ax.set_ylabel("rate of a parameter")
    for ax in axes[1]:
        ax.set_xlabel("step")
    figure.colorbar(mesh, ax=axes, label="share of parameters in a tenth of a decade", pad=0.01, aspect=40)
    return figure


def memory_figure(trainings: Trainings) -> Any:
    """Draw the AdaMod paper's Figure 9, a panel a rate, the legend in the last."""
    figure, axes = panels(2, 2, height=2.7, sharey=True)
    *drawn, last = axes.flat
    last.set_axis_off()
    for ax, rate in zip(drawn, trainings.rates, strict=True):
        for beta3, color, line in zip(MEMORIES, [VERMILION, ORANGE, SKY, BLUE], ["-.", ":", "--", "-"], strict=True):
            label = rf"AdaMod, $\beta_3$ = {beta3:g}"
            draw(ax, trainings, rate, memory_config(beta3), line, color=color, label=label)
        for name, line in (("Adam", "-"), (WARM, "--")):
            draw(ax, trainings, rate, CONFIGS[name], line, color=GREY, label=name, linewidth=1)
        frame(ax, trainings, f"learning rate {rate:g}")
    for ax in axes[:, 0]:
        ax.set_ylabel(LOSS)
    last.legend(*drawn[0].get_legend_handles_labels(), loc="center", fontsize=9)
    return figure


def remedy_figure(trainings: Trainings, stuck: float) -> Any:
    """Draw what might help at the two larger rates and, below, trainings that go on in another way."""
    figure, axes = panels(2, 2, height=3.2, sharey=True)
    plain = {name: CONFIGS[name] for name in ("Adam", WARM, "Adam, eps = 1e-4")}
    colors = {CLIPPED: (BLACK, ":"), "Adam, eps = 1e-3": (PURPLE, "--"), "Adam, eps = 1e-2": (BLUE, "-.")}
    for ax, rate in zip(axes[0], (MIDDLE, STEEP), strict=True):
        for name, config in {**plain, **REMEDIES}.items():
            color, line = {**STYLES, **colors}[name]
            draw(ax, trainings, rate, config, line, color=color, label=in_symbols(name))
        frame(ax, trainings, f"learning rate {rate:g}", stuck)
    phases = two_phases(quick=False)
    left, right = axes[1]
    for rate, color in zip(trainings.rates, (GREEN, SKY, BLUE), strict=True):
        draw(left, trainings, rate, CONFIGS[ADAMOD], "-", color=color, label=f"{rate:g}, bound")
        draw(left, trainings, rate, phases[UNBOUND], ":", color=color, label=f"{rate:g}, dropped")
    frame(left, trainings, r"AdaMod, $\beta_3$ = 0.999, whose bound is dropped")
    draw(right, trainings, STEEP, CONFIGS["Adam"], "-", color=VERMILION, label=f"rate {STEEP:g}")
    draw(right, trainings, STEEP, phases[RESTARTED], "--", color=BLACK, label=f"restarted at {STEEP / 10:g}")
    draw(right, trainings, STEEP / 10, CONFIGS["Adam"], "-", color=GREEN, label=f"rate {STEEP / 10:g}")
    frame(right, trainings, "Adam, restarted where it is lost", stuck)
    for ax in (left, right):
        ax.axvline(phases[UNBOUND]["switch"], color=GREY, linewidth=0.8, linestyle=":")
    opaque = {"frameon": True, "framealpha": 1, "edgecolor": "none"}
    left.legend(loc="upper right", ncols=2, **opaque)
    right.legend(loc="lower left")
    axes[0, 1].legend(loc="upper right", labelspacing=0.2)
    for ax in axes[:, 0]:
        ax.set_ylabel(LOSS)
    return figure
