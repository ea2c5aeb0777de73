"""Trainings of the character Transformer beyond those of ``transformer``: more rates, more warmups, more methods.

What ``transformer`` trains anyway is listed with its length, so that it is trained once; the others are shorter. The
rates are constant after a warmup, so the first steps of a long training are those of a short one, and both are compared
at the end of the short one.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from reproduction.frame import Results, Run, Values
from reproduction.grids.transformer_runs import CONFIGS, LAST, RATES, steps
from reproduction.runs.train_transformer import WINDOW, train
from reproduction.runs.transformer import entropy

SEEDS = (0, 1, 2)
LEARNED = 0.3
"""Nats below the entropy of single characters, from which on a training has learned."""

LOST = 0.15
"""Nats below it, up to which a training has learned nothing else."""


def short(quick: bool) -> int:
    """Return the steps at which all are compared."""
    return 200 if quick else 600


def training(config: dict[str, Any], rate: float, seed: int, quick: bool) -> Run:
    """Return the run of ``transformer`` where it has this one, else a short one."""
    known = rate in RATES and config in CONFIGS.values()
    return Run(train, rate=rate, seed=seed, steps=steps(quick) if known else short(quick), **config)


def values(results: Results, run: Run) -> Values:
    """Return what that run returned."""
    (found,) = [result.values for result in results if result.config == run.config]
    return found


def late(results: Results, runs: list[Run], at: int = short(quick=False)) -> np.ndarray:
    """Return the mean training loss of the last steps up to step ``at``, a number a run."""
    end = at // WINDOW
    return np.asarray([values(results, run)["loss"][end - LAST // WINDOW : end].mean() for run in runs])


def held_out(results: Results, runs: list[Run]) -> np.ndarray:
    """Return the loss on the text held out, at the end of each run."""
    return np.asarray([float(values(results, run)["valid"]) for run in runs])


def learned(losses: np.ndarray) -> bool:
    """Return whether every training has learned more than how often each character occurs."""
    return bool(np.all(losses < entropy() - LEARNED))


def lost(loss: float) -> bool:
    """Return whether a training knows no more than how often each character occurs."""
    return not loss <= entropy() - LOST  # a loss that is no number is lost, too
