"""A restart of a trained network (Ma & Yarats, section 3.3)."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
from demo import BATCH
from matplotlib.lines import Line2D

from adamod_array import Adam, Method, Momentum
from reproduction.comparisons import Compared
from reproduction.frame import Experiment, Finding, Picture, Report, Results, Run, Verdict
from reproduction.runs.train_late import restart
from reproduction.style import BLUE, GREY, VERMILION, panels
from reproduction.trials import OPPOSITE, learned, probabilities, tests_of, trials
from reproduction.verdicts import everywhere

METHODS: dict[str, Method] = {"Adam": Adam(), "Momentum": Momentum()}
RATES = {"Adam": (0.01, 0.001), "Momentum": (0.1, 0.01)}
NOISES = (0.0, 0.3)
SEEDS = (0, 1, 2, 3, 4)
EPOCHS = 80
AFTER = 100
"""Steps after a restart."""
DOUBLED = float(np.log(2))
"""A loss that is twice as high is no longer stable."""

ABOUT = rf"""
Ma & Yarats simulate Adam at a minimum; here the [demo's network](../demo/demo.md) learns handwritten digits, {EPOCHS}
epochs in batches of {BATCH} at a constant rate, and goes on for {AFTER} steps: from the state it has, or from a fresh
one of the same method and rate, without a warmup; of Adam also with the untuned linear one. The images are as they are,
or have normal noise of deviation {NOISES[1]:g} added anew in each batch, so that gradients do not vanish. There are
{len(SEEDS)} seeds.
"""


def runs(quick: bool) -> list[Run]:
    """List the trainings."""
    settings = {"epochs": 4, "steps": 10} if quick else {"epochs": EPOCHS, "steps": AFTER}
    return [
        Run(restart, method=METHODS[name], rate=rate, seed=seed, noise=noise, **settings)
        for name, rates in RATES.items()
        for rate in rates
        for noise in NOISES
        for seed in (SEEDS[:1] if quick else SEEDS)
    ]


def restarted(results: Results, name: str, rate: float, noise: float, way: str) -> np.ndarray:
    """Return the training loss after each step, a row a seed."""
    found = results.where(method=METHODS[name], rate=rate, noise=noise)
    return np.asarray([r.values[way] for r in found])


def logs(results: Results, name: str, way: str) -> dict[str, np.ndarray]:
    """Return by how much more the largest loss of AFTER steps is than without a restart: logarithms, by setting."""
    return {
        f"rate {rate:g} {'with' if noise else 'without'} noise": np.log(
            restarted(results, name, rate, noise, way).max(1)
            / restarted(results, name, rate, noise, "continued").max(1)
        )
        for rate in RATES[name]
        for noise in NOISES
    }


def stable(trial: Compared) -> Verdict:
    """Return whether the largest loss is within a factor of two, or less."""
    if trial.differs.rejects and trial.differs.mean > DOUBLED:
        return "does not hold"
    return "holds" if trial.equals.rejects or (trial.differs.rejects and trial.differs.mean < 0) else "not shown"


def judge(results: Results, name: str, claim: str, *, is_stable: bool) -> tuple[Finding, dict[str, Compared]]:
    """Judge the claim that a restart is stable, or that it is not."""
    by_setting = logs(results, name, "restarted")
    tried = trials(f"restart of {name}: logarithm of the largest loss, less that without", by_setting, DOUBLED)
    verdicts = {place: stable(trial) for place, trial in tried.items()}
    measured = f"largest training loss over that without a restart, geometric mean: {factors(by_setting)}"
    if name == "Adam":
        measured += f"; restarted with the untuned linear warmup: {factors(logs(results, name, 'warmed'))}"
    finding = Finding(
        claim,
        measured,
        f"losses of {AFTER} steps; a setting is unstable where the factor is above 2 and differs from 1, stable where"
        f" it is below 1 or shown to be below 2 (logarithms: {probabilities(tried, '(ln 2)')})",
        *everywhere({p: v if is_stable else OPPOSITE[v] for p, v in verdicts.items()}, "settings"),
    )
    return finding, tried


def factors(by_setting: dict[str, np.ndarray]) -> str:
    """Return geometric means in words."""
    return ", ".join(f"{np.exp(x.mean()):,.2f} ({place})" for place, x in by_setting.items())


def figure(results: Results) -> Any:
    """Draw the losses after a restart."""
    drawn, axes = panels(2, 2, height=2.5, sharex=True, sharey=True)
    styles = {"continued": ("no restart", ":"), "restarted": ("restart", "-"), "warmed": ("restart with warmup", "--")}
    steps = 1 + np.arange(AFTER)
    for column, (name, rates) in zip(axes.T, RATES.items(), strict=True):
        for ax, noise in zip(column, NOISES, strict=True):
            for (rate, color), (way, (_, line)) in itertools.product(
                zip(rates, (VERMILION, BLUE), strict=True), styles.items()
            ):
                if way != "warmed" or name == "Adam":
                    middle = np.exp(np.log(restarted(results, name, rate, noise, way)).mean(0))
                    ax.plot(steps, middle, line, color=color, label=f"rate {rate:g}" if way == "restarted" else None)
            ax.set(yscale="log", xlim=(1, AFTER), title=f"{name}, {f'noise {noise:g}' if noise else 'no noise'}")
        column[-1].set_xlabel("steps after the restart")
        column[-1].legend(loc="lower left")
    for ax in axes[:, 0]:
        ax.set_ylabel("training loss, nats")
    lines = [Line2D([], [], color=GREY, linestyle=line, label=words) for words, line in styles.values()]
    drawn.legend(handles=lines, loc="outside upper center", ncols=len(lines))
    return drawn


def report(results: Results, quick: bool) -> Report:
    """Judge by the largest loss after a restart."""
    checks = [learned([float(r.values["before"]) for r in results], np.log(10), "digits")]
    if quick:
        return Report([], checks)
    sgd, sgd_tried = judge(results, "Momentum", "untuned/3-3-restart-sgd", is_stable=True)
    adam, adam_tried = judge(results, "Adam", "untuned/3-3-restart-adam", is_stable=False)
    picture = Picture(
        "loss",
        figure(results),
        "Training loss over the steps after a restart of Adam and Momentum, without and with noise on the images.",
        "Geometric means of the seeds, of the images without noise.",
    )
    return Report([sgd, adam], checks, [picture], "", tests_of(sgd_tried, adam_tried))


EXPERIMENT = Experiment("restart", "A restart without a warmup", ABOUT, runs, report)
