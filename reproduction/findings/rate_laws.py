"""Laws of the adaptive rate of independent normal gradients of mean 0, to which simulations are held."""

from __future__ import annotations

import math

import numpy as np
from scipy import stats

from reproduction.runs.simulated_rates import BETA2


def rho(t: np.ndarray) -> np.ndarray:
    """Ma & Yarats, equations 6 and 7, typed as printed: float64 and t of 10,000 at most do not need more."""
    bare = 2 / (1 - BETA2) - 1
    return np.asarray(bare - 2 * t * BETA2**t / (1 - BETA2**t))


def closed_form(length: np.ndarray) -> np.ndarray:
    """Variance of ``chi2(length) / length`` to the power -1/2, to first order in 1/length; none up to 4."""
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(length > 4, length / (2 * (length - 2) * (length - 4)), np.nan)


def exact(length: float) -> float:
    """The same without approximation: E[1/x] - E[x**-1/2]**2 for x = chi2(length) / length; needs length > 2."""
    half = length / 2
    root = math.exp(0.5 * math.log(half) + math.lgamma(half - 0.5) - math.lgamma(half))
    return length / (length - 2) - root**2


def equivalent_length(t: np.ndarray) -> np.ndarray:
    """The simple average with the variance (not the centre of mass) of the exponential one: (sum w)^2 / sum w^2."""
    return np.asarray((1 + BETA2) / (1 - BETA2) * (1 - BETA2**t) / (1 + BETA2**t))


def chance(t: int, bound: float) -> float:
    """Return the probability of a rate above the bound at an early step, when all weights in ``v`` are about equal."""
    return float(stats.chi2.cdf(t / bound**2, t))


def tail(t: int) -> float:
    """Return the power of x with which the chance of a rate above x falls, far out."""
    return float(stats.chi2.logcdf(t / 1e6, t) - stats.chi2.logcdf(t / 1e8, t)) / math.log(10)
