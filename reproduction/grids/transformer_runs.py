"""What is trained with the character Transformer, and the results by configuration."""

from __future__ import annotations

from typing import Any

import numpy as np

from adamod_array import Adam, AdaMod, RAdam, schedules
from reproduction.frame import Results, Run
from reproduction.runs.train_transformer import WINDOW, train
from reproduction.runs.transformer_causes import ClippedAdam, train_on

TRANSFORMER: dict[str, Any] = {"beta2": 0.98, "eps": 1e-9}
RATES = (1e-3, 3e-3, 1e-2)
MIDDLE, STEEP = RATES[1:]
"""The last is the one at which Adam is lost without a warmup."""
ADAMOD = "AdaMod, beta3 = 0.999"
WARM = "Adam, linear warmup"
OWN_WARMUP = "Adam, AdaMod's warmup"

CONFIGS: dict[str, dict[str, Any]] = {
    "Adam": {"method": Adam(**TRANSFORMER)},
    WARM: {"method": Adam(**TRANSFORMER), "warmup": schedules.linear_warmup(400)},
    "Adam, eps = 1e-4": {"method": Adam(beta2=0.98, eps=1e-4)},
    "Adam-2k": {"method": Adam(**TRANSFORMER), "second_moment_first": 500},
    "RAdam": {"method": RAdam(beta2=0.98, eps=0, eps_root=1e-18)},
    "RAdam, beta2 = 0.999": {"method": RAdam(beta2=0.999, eps=0, eps_root=1e-18)},
    ADAMOD: {"method": AdaMod(beta3=0.999, **TRANSFORMER)},
    "AdaMod, beta3 = 0.9999": {"method": AdaMod(beta3=0.9999, **TRANSFORMER)},
    OWN_WARMUP: {"method": Adam(**TRANSFORMER), "warmup": schedules.exponential_warmup(1000)},
}
"""Trained at every rate."""

CLIPPED = "Adam, rates clipped at 10,000"
REMEDIES: dict[str, dict[str, Any]] = {
    CLIPPED: {"method": ClippedAdam(limit=1e4, **TRANSFORMER)},
    "Adam, eps = 1e-3": {"method": Adam(beta2=0.98, eps=1e-3)},
    "Adam, eps = 1e-2": {"method": Adam(beta2=0.98, eps=1e-2)},
}
"""Trained where Adam without a warmup has trouble, at the two larger rates."""
LARGER_EPS = ("Adam, eps = 1e-4", "Adam, eps = 1e-3", "Adam, eps = 1e-2")

UNBOUND, RESTARTED = "AdaMod, unbound in the second half", "Adam, restarted at a tenth of the rate"
PICTURED = ("Adam", WARM, "RAdam", ADAMOD)
MEMORIES = (0.9, 0.99, 0.999, 0.9999)
LAST = 100
"""A final loss is the mean over so many steps."""


def memory_config(beta3: float) -> dict[str, Any]:
    """Return what AdaMod of that memory is trained with."""
    return {"method": AdaMod(beta3=beta3, **TRANSFORMER)}


def steps(quick: bool) -> int:
    """Return how long all but the checks are trained."""
    return 200 if quick else 1000


def two_phases(quick: bool) -> dict[str, dict[str, Any]]:
    """Return the trainings that go on in another way after half of their steps, apart from rate and seed."""
    length, adam = steps(quick), Adam(**TRANSFORMER)
    both = {"then": adam, "switch": length // 2, "steps": length}
    return {
        UNBOUND: {"first": CONFIGS[ADAMOD]["method"], "restart": False, **both},
        RESTARTED: {"first": adam, "restart": True, **both},
    }


def runs(quick: bool) -> list[Run]:
    """Return all trainings, those of the checks last."""
    seeds = (0,) if quick else (0, 1, 2)
    plain = [(rate, CONFIGS[name]) for rate in RATES for name in CONFIGS]
    plain += [(rate, memory_config(beta3)) for rate in RATES for beta3 in MEMORIES[:2]]
    plain += [(rate, config) for rate in (MIDDLE, STEEP) for config in REMEDIES.values()]
    if quick:
        plain = [(STEEP, CONFIGS[name]) for name in ("Adam", ADAMOD)]
    phases = two_phases(quick)
    parted = [] if quick else [(STEEP, STEEP / 10, phases[RESTARTED])]
    parted += [] if quick else [(rate, rate, phases[UNBOUND]) for rate in RATES]
    return [
        *(Run(train, rate=rate, seed=seed, steps=steps(quick), **config) for rate, config in plain for seed in seeds),
        *(Run(train_on, rate=a, then_rate=b, seed=seed, **config) for a, b, config in parted for seed in seeds),
        *checking(),
    ]


def checking() -> list[Run]:
    """Return short trainings that must be the same to the last bit: Adam, and what turns into it."""
    short: dict[str, Any] = {"rate": MIDDLE, "seed": 0, "steps": 25}
    adam = Adam(**TRANSFORMER)
    methods = (adam, AdaMod(beta3=0.0, **TRANSFORMER), ClippedAdam(limit=1e30, **TRANSFORMER))
    parted = Run(train_on, first=adam, then=adam, switch=10, restart=False, then_rate=MIDDLE, **short)
    return [*(Run(train, method=method, **short) for method in methods), parted]


class Trainings:
    """The trainings of one length, by configuration and rate."""

    def __init__(self, results: Results) -> None:
        self.steps = max(result.config["steps"] for result in results)
        self.results = results.where(steps=self.steps)
        self.rates = sorted({result.config["rate"] for result in self.results})

    def of(self, rate: float, config: dict[str, Any]) -> Results:
        """Return those of a configuration at a rate, a training a seed."""
        keys = {*config} | {"warmup", "second_moment_first"}
        found = self.results.where(rate=rate)
        return Results([r for r in found if all(r.config.get(key) == config.get(key) for key in keys)])

    def final(self, rate: float, config: dict[str, Any]) -> np.ndarray:
        """Return the mean training loss of the last steps, a number a seed."""
        return np.asarray([r.values["loss"][-LAST // WINDOW :].mean() for r in self.of(rate, config)])

    def valid(self, rate: float, config: dict[str, Any]) -> np.ndarray:
        """Return the loss on the text held out, a number a seed."""
        return np.asarray([float(r.values["valid"]) for r in self.of(rate, config)])

    def losses(self, rate: float, config: dict[str, Any]) -> np.ndarray:
        """Return the training losses, a row a seed, a column a window."""
        return np.asarray([r.values["loss"] for r in self.of(rate, config)])

    def pictured(self, name: str) -> dict[str, Any]:
        """Return what the first seed at the largest rate left."""
        values: dict[str, Any] = self.of(STEEP, CONFIGS[name])[0].values
        return values
