"""Adam on the character Transformer, as Ma & Yarats look at their network: gradients early, updates all along."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from adamod_array import Adam, init, step
from adamod_array.diagnostics import update_magnitudes
from reproduction.frame import Values
from reproduction.runs.gradients import gradient
from reproduction.runs.transformer import SIZE, corpus, initial_params, loss, windows

LOOKS = (1, 10, 100)
"""Steps at which the gradients of many batches are computed, at the same parameters."""
BATCHES = 24
EVERY = 10
"""The updates of one step in so many are looked at."""


def train(batch: int, rate: float, steps: int, seed: int) -> Values:
    """Return the share of each tensor whose gradients deviate by more than their mean, and the median updates.

    Only coordinates that have had a gradient count.
    """
    torch.set_num_threads(1)
    text, rng = corpus().train, np.random.default_rng(seed)
    state = init(Adam(beta2=0.98, eps=1e-9), initial_params(SIZE, seed), lr=rate)

    def draw(random: np.random.Generator) -> tuple[Any, Any]:
        return windows(text, random.integers(len(text) - SIZE.context, size=batch), SIZE.context)

    def grads(random: np.random.Generator) -> Any:
        return gradient(loss(state.params, *draw(random), SIZE.heads), state.params)

    noisy, at, moved = [], [], []
    for t in range(1, steps + 1):
        if t in LOOKS:
            look = np.random.default_rng([seed, t])
            noisy.append(_noisy([grads(look) for _ in range(BATCHES)]))
        old, state = state, step(state, grads(rng))
        if t == 1 or t % EVERY == 0:
            magnitudes = update_magnitudes(old, state)
            lit = [magnitudes[name].detach()[v > 0] for name, v in state.slots["v"].items()]
            at.append(t)
            moved.append(float(torch.cat(lit).median()))
    return {"names": list(state.params), "noisy": noisy, "at": at, "moved": moved}


def _noisy(grads: list[Any]) -> list[float]:
    """Return of each tensor the share of coordinates with a coefficient of variation above 1."""
    shares = []
    for name in grads[0]:
        each = torch.stack([g[name].detach() for g in grads])
        deviation, mean = each.std(dim=0), each.mean(dim=0).abs()
        lit = deviation > 0
        shares.append(float((deviation > mean)[lit].double().mean()) if bool(lit.any()) else float("nan"))
    return shares
