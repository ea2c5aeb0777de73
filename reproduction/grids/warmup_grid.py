"""Rates and beta2 over which warmups are compared, on both tasks, and the results by warmup."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np

from adamod_array import Adam, RAdam, schedules
from reproduction.frame import Results, Run
from reproduction.tasks import DIGITS, TASKS, Task

WARMUPS = ("exponential", "linear", "RAdam")
NONE = "none"
"""Adam without a warmup: the control."""


def settings(task: Task, quick: bool) -> dict[str, Any]:
    """How long it is trained."""
    if task is DIGITS:
        return {"epochs": 10 if quick else 100, "weight_decay": 0.0}
    return {"steps": 50 if quick else 600}


def grid(task: Task, quick: bool) -> list[tuple[float, float]]:
    """Rates and beta2."""
    if quick:
        return [(task.rates[1], task.beta2[0])]
    return [*itertools.product(task.rates, task.beta2)]


def seeds(task: Task, quick: bool) -> range:
    """The same for every warmup."""
    return range((3 if task is DIGITS else 1) if quick else 5)


def methods(task: Task, beta2: float) -> dict[str, dict[str, Any]]:
    """The warmups and the control, as arguments of a training."""
    adam = Adam(beta2=beta2, eps=task.eps)
    return {
        "exponential": {"method": adam, "warmup": schedules.untuned_exponential(beta2)},
        "linear": {"method": adam, "warmup": schedules.untuned_linear(beta2)},
        "RAdam": {"method": RAdam(beta2=beta2, eps=0, eps_root=task.eps**2)},
        NONE: {"method": adam},
    }


def runs(quick: bool) -> list[Run]:
    """Every warmup in every setting."""
    return [
        Run(task.run, rate=rate, seed=seed, **each, **settings(task, quick))
        for task in TASKS
        for rate, beta2 in grid(task, quick)
        for each in methods(task, beta2).values()
        for seed in seeds(task, quick)
    ]


def trained(results: Results, task: Task, rate: float, beta2: float, name: str, quick: bool) -> Results:
    """The trainings of one warmup in one setting, a seed after the other."""
    config = {"warmup": None, **methods(task, beta2)[name], **settings(task, quick)}
    found = results.where(rate=rate, method=config["method"])
    return Results([r for r in found if all(r.config.get(k) == value for k, value in config.items())])


def measured(results: Results, task: Task) -> dict[str, np.ndarray]:
    """By warmup, the control last: a row a setting, a column a seed."""
    return {
        name: np.asarray(
            [[task.measure(r.values) for r in trained(results, task, *at, name, False)] for at in grid(task, False)]
        )
        for name in (*WARMUPS, NONE)
    }


def names(task: Task, quick: bool = False) -> list[str]:
    """Return the settings' names: rate and beta2."""
    return [f"{rate:g} / {beta2:g}" for rate, beta2 in grid(task, quick)]
