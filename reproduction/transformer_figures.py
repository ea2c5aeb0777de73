"""The figures of the character Transformer."""

from __future__ import annotations

from typing import Any

import numpy as np

from reproduction.style import BLACK, BLUE, GREEN, GREY, ORANGE, PURPLE, SKY, VERMILION, panels
from reproduction.train_transformer import HUGE, WINDOW
from reproduction.transformer_runs import (
    ADAMOD,
    CONFIGS,
    MEMORIES,
    MIDDLE,
    OWN_WARMUP,
    PICTURED,
    STEEP,
    WARM,
    Trainings,
    memory_config,
)

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


def loss_figure(trainings: Trainings, stuck: float) -> Any:
    """Curves of every configuration, a panel a rate."""
    figure, axes = panels(1, len(trainings.rates), height=4.6, width=4.2, squeeze=False, sharey=True)
    for ax, rate in zip(axes[0], trainings.rates, strict=True):
        for name, (color, line) in STYLES.items():
            found = trainings.of(rate, CONFIGS[name])
            if not found:
                continue
            losses = np.asarray([r.values["loss"] for r in found])
            at = WINDOW * (np.arange(losses.shape[1]) + 0.5)
            label = name.replace("beta", r"$\beta_").replace("3 =", "3$ =").replace("2 =", "2$ =")
            ax.plot(at, losses.mean(axis=0), line, color=color, label=label, linewidth=1.5)
            ax.fill_between(at, losses.min(axis=0), losses.max(axis=0), color=color, alpha=0.12, linewidth=0)
        ax.axhline(stuck, color=GREY, linewidth=0.8, dashes=(4, 4))
        ax.set(xlabel="step", xlim=(0, trainings.steps), ylim=(2.1, 3.9))
        ax.set_title(f"learning rate {rate:g}")
    axes[0, 0].set_ylabel("training loss (nats a character)")
    middle = axes[0, len(trainings.rates) // 2]
    middle.text(trainings.steps, stuck + 0.01, "entropy of single characters", ha="right", va="bottom", fontsize=8)
    handles, labels = axes[0, 0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=min(5, len(labels)))
    return figure


def rate_figure(trainings: Trainings) -> Any:
    """How many parameters have which rate, at each of some steps."""
    names = [name for name in PICTURED if trainings.of(STEEP, CONFIGS[name])]
    figure, axes = panels(1, len(names), width=3.4, height=3.8, squeeze=False, sharey=True)
    for ax, name in zip(axes[0], names, strict=True):
        seen = trainings.pictured(name)
        share = seen["counts"][:, 1:-1].T / float(seen["numbers"])
        steps = np.append(seen["at"], trainings.steps + 1)
        mesh = ax.pcolormesh(steps, seen["edges"], np.where(share > 0, share, np.nan), norm="log", cmap="viridis")
        mesh.set_clim(1e-5, 0.3)
        ax.axhline(HUGE, color=VERMILION, linewidth=0.8, dashes=(4, 4))
        ax.set(xscale="log", yscale="log", xlabel="step", ylim=(1e-6, 3e8))
        ax.grid(visible=False)
        ax.set_title(name.replace("beta3", r"$\beta_3$"))
    axes[0, 0].set_ylabel("rate of a parameter")
    figure.colorbar(mesh, ax=list(axes[0]), label="share of parameters in a tenth of a decade", pad=0.01)
    return figure


def memory_figure(trainings: Trainings) -> Any:
    """The AdaMod paper's Figure 9."""
    figure, axes = panels(1, 2, width=4.6, sharey=True)
    for ax, rate in zip(axes, (MIDDLE, STEEP), strict=True):
        lines = zip([VERMILION, ORANGE, SKY, BLUE], ["-.", ":", "--", "-"], strict=True)
        for beta3, (color, line) in zip(MEMORIES, lines, strict=True):
            losses = np.asarray([r.values["loss"] for r in trainings.of(rate, memory_config(beta3))])
            at = WINDOW * (np.arange(losses.shape[1]) + 0.5)
            ax.plot(at, losses.mean(axis=0), line, color=color, label=rf"$\beta_3$ = {beta3:g}")
            ax.fill_between(at, losses.min(axis=0), losses.max(axis=0), color=color, alpha=0.15, linewidth=0)
        ax.set(xlabel="step", xlim=(0, trainings.steps), ylim=(2.1, 3.9))
        ax.set_title(f"AdaMod, learning rate {rate:g}")
    axes[0].set_ylabel("training loss (nats a character)")
    axes[0].legend()
    return figure
