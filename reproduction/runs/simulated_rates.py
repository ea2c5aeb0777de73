"""Adaptive rates of coordinates whose gradients are independent normal numbers: unit runs."""

from __future__ import annotations

import math

import numpy as np

from adamod_array import Adam, AdaMod, Method, adamod_init, init, step
from adamod_array.diagnostics import effective_rates
from reproduction.frame import Values

BETA2 = 0.999
ABOVE = (10.0, 100.0)
"""Rates above these multiples of what the rate tends to at mean 0 are counted."""
FOLLOWED = 1000
"""How many coordinates are followed from step to step, over windows of WINDOW steps."""
WINDOW = 100


def rates(method: Method, mean: float, paths: int, steps: int, seed: int) -> Values:
    """Return mean and variance of the rate over coordinates, at each of the first 20 steps and then at some.

    ``squared`` is the variance of its square; ``fluctuation`` how far a coordinate's rate strays from a line within the
    last 100 steps up to each of ``windows``, in parts of the rate.
    """
    rng = np.random.default_rng([seed, round(10 * mean)])
    marks = {*range(1, 21), *np.geomspace(20, steps, 60).astype(int).tolist(), 100, 1000}
    windows = sorted({min(1000, steps), steps})
    state = init(method, np.zeros(paths), lr=1.0)
    rows, kept, fluctuation = [], [], []
    for t in range(1, steps + 1):
        state = step(state, rng.normal(mean, 1, paths))
        followed = any(end - WINDOW < t <= end for end in windows)
        if t not in marks and not followed:
            continue
        rate = effective_rates(state)
        if t in marks:
            above = [np.mean(rate > bound) for bound in ABOVE]
            rows.append((t, rate.mean(), rate.var(), (rate**2).var(), *above))
        if followed:
            kept.append(rate[:FOLLOWED])
        if t in windows:
            fluctuation.append(strays(np.asarray(kept)))
            kept = []
    t, mean_rate, variance, squared, *above = np.asarray(rows).T
    return {
        "t": t.astype(int),
        "mean": mean_rate,
        "variance": variance,
        "squared": squared,
        "above": above,
        "windows": windows,
        "fluctuation": fluctuation,
    }


def strays(rows: np.ndarray) -> float:
    """Return the median over columns of the standard deviation about a line down the rows, in parts of the mean."""
    x = np.arange(len(rows)) - (len(rows) - 1) / 2
    mean = rows.mean(axis=0)
    off = rows - mean - np.outer(x, x @ rows / (x @ x))
    return float(np.median(off.std(axis=0) / mean))


def bound(beta3: float, coordinates: int, steps: int, seed: int) -> Values:
    """Return how AdaMod's bound fluctuates at the end: over coordinates, and within a window of time.

    With ``beta3`` 0 the bound is Adam's rate itself.
    """
    rng = np.random.default_rng(seed)
    state = init(AdaMod(beta1=0, beta2=BETA2, beta3=beta3, eps=0), np.zeros(coordinates), lr=1.0)
    kept = []
    for t in range(1, steps + 1):
        state = step(state, rng.normal(0, 1, coordinates))
        if t > steps - WINDOW:
            kept.append(state.slots["s"])
    last = kept[-1]
    return {"over_coordinates": last.std() / last.mean(), "over_time": strays(np.asarray(kept))}


def pause(beta2: float, beta3: float, coordinates: int, before: int, zeros: int, seed: int) -> Values:
    """Give normal gradients for a while, then zeros only: what Adam's and AdaMod's rates become in the pause.

    ``adam`` and ``adamod`` are medians of the rates over those ahead of the pause. ``over`` is the largest quotient
    of a rate and its average over the past (AdaMod's ``s``), Adam's and AdaMod's, in the pause.
    """
    rng = np.random.default_rng(seed)
    adam, adamod = Adam(beta1=0, beta2=beta2, eps=0), AdaMod(beta1=0, beta2=beta2, beta3=beta3, eps=0)
    states = [init(method, np.zeros(coordinates), lr=1.0) for method in (adam, adamod)]
    over, grown = np.zeros(2), []
    start: list[np.ndarray] = []
    for t in range(1, before + zeros + 1):
        grads = rng.normal(0, 1, coordinates) if t <= before else np.zeros(coordinates)
        states = [step(state, grads) for state in states]
        if t >= before:
            now = [effective_rates(state) for state in states]
            over = np.maximum(over, [np.max(rate / states[1].slots["s"]) for rate in now])
            start = start or now
            grown.append([np.median(rate / first) for rate, first in zip(now, start, strict=True)])
    return {"adam": np.asarray(grown)[:, 0], "adamod": np.asarray(grown)[:, 1], "over": over}


def constant_rates(beta3: float, steps: int) -> Values:
    """Return AdaMod's rate over Adam's at each step, where all gradients are 1."""
    state = init(AdaMod(beta1=0, beta3=beta3, eps=0), np.zeros(1), lr=1.0)
    factor = []
    for _ in range(steps):
        state = step(state, np.ones(1))
        factor.append(effective_rates(state)[0])
    return {"factor": factor}


def expansion(beta3: float, steps: int, seed: int) -> Values:
    """Follow equation 1 of the AdaMod paper from the rates of normal gradients, and write it out as in equation 2.

    ``printed`` is how far the right side of equation 2 is from ``s``, ``of_rates`` the same with the rates in the place
    of the earlier ``s``: the largest difference, in parts of ``s``.
    """
    rng = np.random.default_rng(seed)
    state = init(AdaMod(beta1=0, beta3=beta3, eps=0), np.zeros(1), lr=1.0)
    plain = init(Adam(beta1=0, eps=0), np.zeros(1), lr=1.0)
    s, eta = [0.0], []
    for _ in range(steps):
        g = rng.normal(0, 1, 1)
        state, plain = step(state, g), step(plain, g)
        s.append(float(state.slots["s"][0]))
        eta.append(float(effective_rates(plain)[0]))
    printed, of_rates = [], []
    for t in range(1, steps + 1):
        weights = (1 - beta3) * beta3 ** np.arange(t)
        printed.append(abs(weights @ s[:t][::-1] / s[t] - 1))
        of_rates.append(abs(weights @ eta[:t][::-1] / s[t] - 1))
    return {"printed": max(printed), "of_rates": max(of_rates)}


def memory(len_memory: int, beta3: float, steps: int, seed: int) -> Values:
    """Return whether ``len_memory`` makes the method, and the bits of a walk, that ``beta3`` makes."""
    rng = np.random.default_rng(seed)
    states = [adamod_init(np.zeros(100), len_memory=len_memory), adamod_init(np.zeros(100), beta3=beta3)]
    method = states[0].method == states[1].method
    for _ in range(steps):
        grads = rng.normal(0, 1, 100)
        states = [step(state, grads) for state in states]
    return {"method": method, "bits": bool(np.array_equal(states[0].params, states[1].params))}


def average_range(beta3: float) -> Values:
    """Return the mean age of what equation 1 averages, the newest of age 1, and the weight of the last 1/(1-beta3)."""
    length = round(1 / (1 - beta3))
    age = np.arange(1, 50 * length + 1)
    weights = (1 - beta3) * beta3 ** (age - 1.0)
    return {"range": math.fsum(age * weights), "recent": math.fsum(weights[:length])}
