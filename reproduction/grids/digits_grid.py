"""Rates up to those at which a training on digits is lost: Adam without and with a warmup, and RAdam.

At the smaller rates these are trainings of ``interchangeable``, with which they share everything else.
"""

from __future__ import annotations

import numpy as np

from reproduction.frame import Results, Run
from reproduction.grids.transformer_grid import SEEDS, values
from reproduction.grids.warmup_grid import NONE, methods, settings
from reproduction.tasks import DIGITS

RATES = (*DIGITS.rates, 1e-1, 3e-1)
BETA2 = 0.999
BARE, WARM, RADAM = NONE, "linear", "RAdam"
NAMES = (BARE, WARM, RADAM)


def trainings(name: str, rate: float) -> list[Run]:
    """Return the trainings of one method at one rate, a seed each."""
    config = {**methods(DIGITS, BETA2)[name], **settings(DIGITS, quick=False)}
    return [Run(DIGITS.run, rate=rate, seed=seed, **config) for seed in SEEDS]


def over_rates(name: str) -> list[Run]:
    """Return the trainings of one method at every rate."""
    return [run for rate in RATES for run in trainings(name, rate)]


def accuracies(results: Results, name: str, rate: float) -> np.ndarray:
    """Return the test accuracy at the end in points, a number a seed."""
    return np.asarray([DIGITS.measure(values(results, run)) for run in trainings(name, rate)])


def working(results: Results, name: str) -> list[float]:
    """Return the rates at which every training has learned."""
    return [rate for rate in RATES if not any(map(DIGITS.failed, accuracies(results, name, rate)))]
