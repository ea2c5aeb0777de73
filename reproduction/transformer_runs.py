"""What is trained with the character Transformer, and the results by configuration."""

from __future__ import annotations

from typing import Any

import numpy as np

from adamod_array import Adam, AdaMod, RAdam, schedules
from reproduction.frame import Results
from reproduction.train_transformer import WINDOW

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

PICTURED = ("Adam", WARM, "RAdam", ADAMOD)
MEMORIES = (0.9, 0.99, 0.999, 0.9999)
LAST = 100
"""A final loss is the mean over so many steps."""


def memory_config(beta3: float) -> dict[str, Any]:
    return {"method": AdaMod(beta3=beta3, **TRANSFORMER)}


def steps(quick: bool) -> int:
    return 200 if quick else 1000


class Trainings:
    """The trainings of one length, by configuration and rate."""

    def __init__(self, results: Results) -> None:
        self.steps = max(result.config["steps"] for result in results)
        self.results = results.where(steps=self.steps)
        self.rates = sorted({result.config["rate"] for result in self.results})

    def of(self, rate: float, config: dict[str, Any]) -> Results:
        keys = ("warmup", "second_moment_first")
        found = self.results.where(rate=rate, method=config["method"])
        return Results([r for r in found if all(r.config.get(k) == config.get(k) for k in keys)])

    def final(self, rate: float, config: dict[str, Any]) -> np.ndarray:
        """Mean training loss of the last steps, a number a seed."""
        return np.asarray([r.values["loss"][-LAST // WINDOW :].mean() for r in self.of(rate, config)])

    def valid(self, rate: float, config: dict[str, Any]) -> np.ndarray:
        return np.asarray([float(r.values["valid"]) for r in self.of(rate, config)])

    def pictured(self, name: str) -> dict[str, Any]:
        values: dict[str, Any] = self.of(STEEP, CONFIGS[name])[0].values
        return values


def plus_minus(values: np.ndarray) -> str:
    return f"{values.mean():.2f} ± {values.std(ddof=1):.2f}" if len(values) > 1 else f"{values.mean():.2f}"
