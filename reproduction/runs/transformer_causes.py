"""Trainings of the character Transformer that change one thing at a time, to see what holds Adam up."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import torch

from adamod_array import (
    Method,
    State,
    abs_sq,
    corrected_average,
    corrected_update,
    corrected_weights,
    diagnostics,
    init,
    step,
)
from reproduction.frame import Values
from reproduction.runs.train_transformer import WINDOW, draw, gradient, validation
from reproduction.runs.transformer import SIZE, corpus, initial_params


@dataclasses.dataclass(frozen=True)
class ClippedAdam(Method):
    r"""Adam with no rate above a limit: :math:`\min(\alpha / (\sqrt{\hat v} + \epsilon), \text{limit})`."""

    beta1: float = 0.9
    beta2: float = 0.999
    eps: float = 1e-8
    limit: float = 1e4

    slots = ("m", "v")

    def coefficients(self, t: Any, math: Any) -> tuple[Any, ...]:
        """Return the corrected weights of both moments."""
        return *corrected_weights(self.beta1, t, math), *corrected_weights(self.beta2, t, math)

    def rule(self, xp: Any, lr: Any, c: Any, g: Any, p: Any, m: Any, v: Any) -> tuple[Any, ...]:
        """Take a step of Adam with the clipped rate."""
        b1, a1, b2, a2 = c
        g_sq = abs_sq(xp, g)
        m_hat, v_hat = corrected_update(m, g, b1, a1), corrected_update(v, g_sq, b2, a2)
        m = self.beta1 * m + (1 - self.beta1) * g
        v = self.beta2 * v + (1 - self.beta2) * g_sq
        return p - self._clipped(xp, self._eta(xp, lr, v_hat)) * m_hat, m, v

    def _eta(self, xp: Any, lr: Any, v_hat: Any) -> Any:
        return lr / (xp.sqrt(v_hat) + self.eps)

    def _clipped(self, xp: Any, eta: Any) -> Any:
        return xp.minimum(eta, self.limit)

    def rates(self, xp: Any, lr: Any, c: Any, m: Any, v: Any) -> tuple[Any, Any]:
        """Return the rate before and after it is clipped."""
        _, _, b2, a2 = c
        eta = self._eta(xp, lr, corrected_average(v, b2, a2))
        return eta, self._clipped(xp, eta)


def train_on(
    *, first: Method, then: Method, switch: int, restart: bool, rate: float, then_rate: float, seed: int, steps: int
) -> Values:
    """Train by one method, and from step ``switch`` on by another, of whose slots the first has all.

    With ``restart`` its averages and its count of steps start anew; without, nothing changes but the method. How far
    parameters moved is looked at in the first steps, in units of the rate.
    """
    torch.set_num_threads(1)
    text = corpus()
    rng = np.random.default_rng(seed)
    state = init(first, initial_params(SIZE, seed), lr=rate)
    losses: list[float] = []
    moved: list[list[float]] = []
    for t in range(1, steps + 1):
        value, grads = gradient(state.params, *draw(text, rng))
        after = step(state, grads, donate=t > MOVES)
        losses.append(float(value))
        if t <= MOVES:
            moved.append(quantiles(diagnostics.update_magnitudes(state, after)))
        state = after
        if t == switch:
            state = init(then, state.params, lr=then_rate) if restart else continued(state, then, then_rate)
    return {
        "loss": np.asarray(losses).reshape(-1, WINDOW).mean(axis=1),
        "moved": np.asarray(moved),
        "valid": validation(state.params, text),
    }


MOVES = 100
"""First steps in which it is looked at how far the parameters move."""


def quantiles(moves: Any) -> list[float]:
    """Return the median and the largest of the parameters' moves, of those that moved."""
    every = torch.cat([each.detach().flatten() for each in moves.values()])
    every = every[every > 0]
    return [float(every.median()), float(every.max())]


def continued(state: State, method: Method, rate: float) -> State:
    """Return a state of another method with the same parameters, averages and count of steps."""
    new = init(method, state.params, lr=rate)
    slots = {name: state.slots[name] for name in method.slots}
    return dataclasses.replace(new, slots=slots, step=state.step)
