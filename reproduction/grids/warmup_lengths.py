"""What is trained to see how long a warmup must be, and the held-out losses by length."""

from __future__ import annotations

from typing import Any

import numpy as np

from adamod_array import Adam, schedules
from reproduction.frame import Results, Run
from reproduction.grids.transformer_grid import SEEDS, held_out, training
from reproduction.grids.transformer_runs import ADAMOD, CONFIGS, MIDDLE, RATES, STEEP, TRANSFORMER, steps
from reproduction.grids.warmup_grid import methods, settings
from reproduction.runs.train_transformer import train
from reproduction.tasks import TRANSFORMER as TASK

LENGTHS = (100, 400)
TROUBLED = RATES[1:]
"""Rates at which Adam does badly without a warmup."""
FEW_HUNDRED = (200, 400)
ADAM, LONG = "Adam", "AdaMod, beta3 = 0.9999"
ADAMODS = (ADAMOD, LONG)
MARGIN = TASK.margin
UNTUNED = ("exponential", "linear", "RAdam")


def with_warmup(length: int) -> dict[str, Any]:
    """Return what Adam with a linear warmup of so many steps is trained with; none of 0 steps."""
    warmup = {} if length == 0 else {"warmup": schedules.linear_warmup(length)}
    return {**CONFIGS[ADAM], **warmup}


def long(config: dict[str, Any], rate: float) -> list[Run]:
    """Return trainings as long as those of ``transformer``, a seed each."""
    return [Run(train, rate=rate, seed=seed, steps=steps(quick=False), **config) for seed in SEEDS]


def listed(config: dict[str, Any], rate: float) -> list[Run]:
    """Return trainings of at least 600 steps, a seed each."""
    return [training(config, rate, seed, quick=False) for seed in SEEDS]


def both(rate: float) -> list[Run]:
    """Return trainings of AdaMod with a warmup."""
    return listed({**CONFIGS[ADAMOD], "warmup": schedules.linear_warmup(400)}, rate)


def few_hundred(length: int) -> list[Run]:
    """Return trainings of Adam with the larger beta2, where it is lost without a warmup."""
    warmup = {} if length == 0 else {"warmup": schedules.linear_warmup(length)}
    return listed({"method": Adam(beta2=0.999, eps=TASK.eps), **warmup}, STEEP)


def effectively_longer() -> list[Run]:
    """Return trainings of RAdam at the same rate and beta2."""
    return listed(CONFIGS["RAdam, beta2 = 0.999"], STEEP)


def untuned(name: str) -> list[Run]:
    """Return trainings with an untuned warmup, at the same rate."""
    config = {**methods(TASK, TRANSFORMER["beta2"])[name], **settings(TASK, quick=False)}
    return [Run(TASK.run, rate=STEEP, seed=seed, **config) for seed in SEEDS]


def one_step() -> list[Run]:
    """Return two short trainings that must be the same: without a warmup, and with one that is over at once."""
    arguments: dict[str, Any] = {"method": Adam(**TRANSFORMER), "rate": MIDDLE, "seed": 0, "steps": 25}
    return [Run(train, **arguments), Run(train, warmup=schedules.linear_warmup(1), **arguments)]


def runs(quick: bool) -> list[Run]:
    """Return all trainings, those of the checks last."""
    if quick:
        return one_step()
    lengths = [run for n in (0, *LENGTHS) for rate in RATES for run in long(with_warmup(n), rate)]
    adamods = [run for name in ADAMODS for rate in RATES for run in long(CONFIGS[name], rate)]
    more = [run for rate in TROUBLED for run in both(rate)]
    more += [run for n in (0, *FEW_HUNDRED) for run in few_hundred(n)] + effectively_longer()
    return [*lengths, *adamods, *more, *(run for name in UNTUNED for run in untuned(name)), *one_step()]


class Lengths:
    """Held-out losses by length of the warmup, and of AdaMod, at each rate."""

    def __init__(self, results: Results) -> None:
        self.adam = {(n, rate): held_out(results, long(with_warmup(n), rate)) for n in (0, *LENGTHS) for rate in RATES}
        self.adamod = {(name, rate): held_out(results, long(CONFIGS[name], rate)) for name in ADAMODS for rate in RATES}

    def best(self, rate: float) -> int:
        """Return the length with the lowest mean loss."""
        return min((0, *LENGTHS), key=lambda n: float(self.adam[n, rate].mean()))

    def cost(self, n: int, rate: float) -> float:
        """Return by how much the mean loss of a length is above that of the best one."""
        return float(self.adam[n, rate].mean() - self.adam[self.best(rate), rate].mean())

    def behind(self, name: str, rate: float) -> np.ndarray:
        """Return by how much AdaMod's loss is above that with the best warmup, a number a seed."""
        return np.asarray(self.adamod[name, rate] - self.adam[self.best(rate), rate])


def titled(name: str) -> str:
    """Return AdaMod's name with its symbol."""
    return name.replace("AdaMod, beta3 =", r"$\beta_3$ =")
