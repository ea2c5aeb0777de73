"""What is trained on the digits as the AdaMod paper trains on images, and the results by method and rate."""

from __future__ import annotations

from typing import Any

import numpy as np

from adamod_array import Adam, AdaMod, Method, Momentum, schedules
from reproduction.frame import Results, Run
from reproduction.runs.train_digits import train
from reproduction.tasks import DIGITS

RATES = (0.1, 0.01, 0.001)
"""Of the paper's Figure 6."""
LARGE, MIDDLE, SMALL = RATES
STABLE = RATES[1:]
"""At which Adam trains in every seed."""
SLOW = 0.001
"""At which the paper's Figure 8 varies beta3."""
MEMORIES = (0.9, 0.99, 0.999, 0.9999)
SEEDS = tuple(range(10))

MOMENTUM, ADAM = "Momentum", "Adam"
LONG, LONGER = "AdaMod, beta3 = 0.999", "AdaMod, beta3 = 0.9999"
METHODS: dict[str, Method] = {
    MOMENTUM: Momentum(),
    ADAM: Adam(),
    LONGER: AdaMod(beta3=0.9999),
    LONG: AdaMod(beta3=0.999),
}
ADAMODS = {LONG: 0.999, LONGER: 0.9999}
"""The values of beta3 that the paper recommends."""
OWN_WARMUP = schedules.exponential_warmup(1000)
"""1 - exp(-t / 1000): about 1 - 0.999^t, what the bound of AdaMod would be if all rates were constant."""


def settings(quick: bool) -> dict[str, Any]:
    """Return what all these trainings share: those of the paper on CIFAR-10."""
    return {"epochs": 8 if quick else 200, "decay": True, "weight_decay": 5e-4}


def seeds(quick: bool) -> tuple[int, ...]:
    return SEEDS[:2] if quick else SEEDS


def trainings(method: Method, rate: float, quick: bool, **more: Any) -> list[Run]:
    """Return the runs of one method at one rate, a seed each."""
    return [Run(train, method=method, rate=rate, seed=seed, **settings(quick), **more) for seed in seeds(quick)]


class Trainings:
    """The trainings on digits, by method and rate; whatever is returned has a row a seed."""

    def __init__(self, results: Results) -> None:
        self._results = Results([r for r in results if "epochs" in r.config])
        self.epochs = int(self._results[0].config["epochs"])

    def curves(self, what: str, method: Method, rate: float, warmup: Any = None) -> np.ndarray:
        """Return ``accuracy`` on test images, ``train_accuracy`` or training ``loss`` after each epoch."""
        found = self._results.where(method=method, rate=rate)
        return np.asarray([r.values[what] for r in found if r.config.get("warmup") == warmup])

    def points(self, method: Method, rate: float, what: str = "accuracy", warmup: Any = None) -> np.ndarray:
        """Return the accuracy at the end, in points."""
        return 100 * self.curves(what, method, rate, warmup)[:, -1]

    def over_rates(self, method: Method) -> np.ndarray:
        """Return the test accuracy at the end in points, a row a rate, a column a seed."""
        return np.asarray([self.points(method, rate) for rate in RATES])

    def spread(self, method: Method) -> np.ndarray:
        """Return the best of the rates less the worst of them, in points."""
        return np.asarray(np.ptp(self.over_rates(method), axis=0))

    def best_rate(self, method: Method) -> float:
        """Return the rate with the best mean test accuracy: chosen on the test images, for every method alike."""
        return RATES[int(np.argmax(self.over_rates(method).mean(axis=1)))]

    def at_best(self, method: Method, what: str = "accuracy") -> np.ndarray:
        """Return the accuracy at the end of the trainings at that rate, in points."""
        return self.points(method, self.best_rate(method), what)


def lost(points: np.ndarray) -> int:
    """Return how many of these trainings have not learned."""
    return sum(DIGITS.failed(x) for x in points)


def epochs_to(curves: np.ndarray, level: float) -> np.ndarray:
    """Return after how many epochs each curve first is at a level; one more than there are where it never is."""
    reached = curves >= level
    return np.asarray(np.where(reached.any(axis=1), 1 + np.argmax(reached, axis=1), 1 + curves.shape[1]))
