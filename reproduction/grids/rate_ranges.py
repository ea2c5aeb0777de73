"""What is trained to see at which rates Adam and RAdam work, and the rates at which they do."""

from __future__ import annotations

from typing import Any

import numpy as np

from adamod_array import Adam
from reproduction.frame import Results, Run
from reproduction.grids import digits_grid
from reproduction.grids.transformer_grid import SEEDS, late, learned, training
from reproduction.grids.transformer_runs import CONFIGS, STEEP, WARM
from reproduction.grids.transformer_runs import TRANSFORMER as SHARED
from reproduction.tasks import TRANSFORMER

RATES = (1e-3, 3e-3, 6e-3, 1e-2, 3e-2)
ADAM, ADAM_LONG, RADAM, RADAM_LONG = "Adam", "Adam, beta2 = 0.999", "RAdam", "RAdam, beta2 = 0.999"
METHODS: dict[str, dict[str, Any]] = {
    ADAM: CONFIGS[ADAM],
    RADAM: CONFIGS[RADAM],
    ADAM_LONG: {"method": Adam(beta2=0.999, eps=TRANSFORMER.eps)},
    RADAM_LONG: CONFIGS[RADAM_LONG],
    WARM: CONFIGS[WARM],
}
TRIED = {name: RATES[:2] + RATES[3:] if name == WARM else RATES for name in METHODS}
"""The rates of each method: the baseline is not trained at the one in between."""
PAIRS = {
    r"Transformer with $\beta_2 = 0.98$": (RADAM, ADAM),
    r"Transformer with $\beta_2 = 0.999$": (RADAM_LONG, ADAM_LONG),
}
ON_DIGITS = "digits"
MARGIN = TRANSFORMER.margin


def listed(name: str, rate: float, quick: bool) -> list[Run]:
    """Return the trainings of one method at one rate, a seed each."""
    return [training(METHODS[name], rate, seed, quick) for seed in SEEDS]


def runs(quick: bool) -> list[Run]:
    """Return the trainings of both tasks."""
    if quick:
        return [training(METHODS[name], STEEP, 0, quick) for name in (ADAM, WARM)]
    of_transformer = [run for name in METHODS for rate in TRIED[name] for run in listed(name, rate, quick)]
    return [*of_transformer, *(run for name in digits_grid.NAMES for run in digits_grid.over_rates(name))]


class Losses:
    """The Transformer's losses by method and rate."""

    def __init__(self, results: Results) -> None:
        self.by = {
            (name, rate): late(results, listed(name, rate, quick=False)) for name in METHODS for rate in TRIED[name]
        }

    def working(self, name: str) -> list[float]:
        """Return the rates at which every training has learned."""
        return [rate for rate in RATES if learned(self.by[name, rate])]

    def best(self, *names: str) -> tuple[str, float]:
        """Return which of these methods has the lowest mean loss, and at which rate."""
        return min(((name, rate) for name in names for rate in TRIED[name]), key=lambda each: _mean(self.by[each]))


def _mean(losses: np.ndarray) -> float:
    """Return the mean; that of a training that ended without a number is infinite."""
    return float(np.mean(losses)) if np.isfinite(losses).all() else np.inf


def titled(name: str) -> str:
    """Return a method's name with its symbols, and the beta2 of all others."""
    if "beta2" not in name:
        name += f", beta2 = {SHARED['beta2']:g}"
    return name.replace("beta2", r"$\beta_2$")


def in_words(rates: list[float]) -> str:
    """Return the rates, as a page lists them."""
    return ", ".join(f"{rate:g}" for rate in rates) or "none"


def ranges(results: Results, losses: Losses) -> dict[str, tuple[list[float], list[float], int]]:
    """Return the rates at which RAdam and Adam work, and of how many, for each comparison."""
    found = {name: (losses.working(a), losses.working(b), len(RATES)) for name, (a, b) in PAIRS.items()}
    of_digits = [digits_grid.working(results, name) for name in (digits_grid.RADAM, digits_grid.BARE)]
    return found | {ON_DIGITS: (of_digits[0], of_digits[1], len(digits_grid.RATES))}
