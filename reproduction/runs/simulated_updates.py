"""Parameters whose gradients are noise, as at a minimum, and how far methods move them: unit runs."""

from __future__ import annotations

import hashlib
import math

import numpy as np

from adamod_array import Adam, Method, Momentum, RAdam, init, step
from adamod_array.diagnostics import bounded_fraction, update_magnitudes
from adamod_array.schedules import radam_warmup
from reproduction.frame import Values

QUANTILES = (0.025, 0.25, 0.5, 0.75, 0.975)
TINY = 1e-30
"""An ``eps`` that changes no bit beside a gradient, and saves what has had none from 0/0."""


def noise(law: str, rng: np.random.Generator, parameters: int, progress: float) -> np.ndarray:
    """Return one iteration's gradients: of variance 1, and of mean 0 where the law does not say otherwise."""
    match law:
        case "normal":
            return rng.normal(0, 1, parameters)
        case "Student":
            return rng.standard_t(3, parameters) / math.sqrt(3)
        case "Laplace":
            return rng.laplace(0, math.sqrt(0.5), parameters)
        case "sparse":
            return np.where(rng.random(parameters) < 0.1, rng.normal(0, math.sqrt(10), parameters), 0.0)
        case "mean 1":
            return rng.normal(1, 1, parameters)
        case "falling":
            return rng.normal(0, 10**-progress, parameters)
    raise ValueError(f"no such law: {law!r}")


def simulate(method: Method, law: str, variance: float, parameters: int, iterations: int, seed: int) -> Values:
    """Return quantiles of the update magnitudes after each iteration, or after every tenth beyond the first 1,000."""
    rng = np.random.default_rng(seed)
    state = init(method, np.zeros(parameters), lr=1.0)
    steps, quantiles, deviation, bounded, furthest = [], [], [], [], []
    for t in range(1, iterations + 1):
        grads = math.sqrt(variance) * noise(law, rng, parameters, t / iterations)
        old, state = state, step(state, grads)
        if t <= 1000 or t % 10 == 0:
            moved = update_magnitudes(old, state)
            steps.append(t)
            quantiles.append(np.quantile(moved, QUANTILES))
            deviation.append(moved.std())
            bounded.append(float(bounded_fraction(state)))
            furthest.append([moved.min(), moved.max()])
    return {
        "t": steps,
        "quantiles": quantiles,
        "deviation": deviation,
        "bounded": bounded,
        "range": furthest,
        "digest": hashlib.sha256(state.params.tobytes()).hexdigest(),
    }


def first_step(parameters: int, seed: int) -> Values:
    """Return the averages of Adam's first step: the least and the largest ``|m_1|/sqrt(v_1)``, as they are kept."""
    method = Adam(eps=0)
    grads = np.random.default_rng(seed).normal(0, 1, parameters)
    state = step(init(method, np.zeros(parameters), lr=1.0), grads)
    kept = np.abs(state.slots["m"]) / np.sqrt(state.slots["v"])
    corrected = kept / (1 - method.beta1) * math.sqrt(1 - method.beta2)
    return {"kept": [kept.min(), kept.max()], "corrected": [corrected.min(), corrected.max()]}


def rectified(law: str, variance: float, parameters: int, iterations: int, seed: int) -> Values:
    """Compare RAdam's steps with Adam's times its warmup factor, and its first four with those of momentum.

    A difference is the largest one among the parameters, in parts of the largest update.
    """
    rng = np.random.default_rng(seed)
    beta1, omega = RAdam().beta1, radam_warmup(RAdam().beta2)
    methods = RAdam(eps=TINY), Adam(eps=TINY), Momentum(beta=beta1)
    states = [init(method, np.zeros(parameters), lr=1.0) for method in methods]
    warm, heavy, corrected = [], [], []
    for t in range(1, iterations + 1):
        grads = math.sqrt(variance) * noise(law, rng, parameters, t / iterations)
        new = [step(state, grads) for state in states]
        radam, adam, momentum = (after.params - before.params for before, after in zip(states, new, strict=True))
        if t > 4:
            warm.append(_apart(radam, omega(t) * adam))
        else:
            heavy.append(_apart(radam, momentum))
            corrected.append(_apart(radam, (1 - beta1) / (1 - beta1**t) * momentum))
        states = new
    return {"warm": max(warm), "heavy": heavy, "corrected": corrected}


def _apart(a: np.ndarray, b: np.ndarray) -> float:
    return float(np.max(np.abs(a - b)) / np.max(np.abs(b)))
