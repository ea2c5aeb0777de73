"""One training of the character Transformer with its layer norms at either place: a unit run."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from adamod_array import Method, init, step
from reproduction.frame import Values
from reproduction.runs.train_transformer import WINDOW, draw, gradient, validation
from reproduction.runs.transformer import SIZE, corpus, initial_params


def train(*, method: Method, rate: float, seed: int, steps: int, pre_norm: bool, warmup: Any = 1.0) -> Values:
    """Train from ``seed`` (of weights and batches), the rate multiplied by ``warmup``.

    With ``pre_norm=False`` it is the training of :mod:`reproduction.runs.train_transformer`.
    """
    torch.set_num_threads(1)
    text = corpus()
    rng = np.random.default_rng(seed)
    state = init(method, initial_params(SIZE, seed, pre_norm=pre_norm), lr=rate * warmup)
    losses = []
    for _ in range(steps):
        value, grads = gradient(state.params, *draw(text, rng))
        state = step(state, grads, donate=True)
        losses.append(float(value))
    return {
        "loss": np.asarray(losses).reshape(-1, WINDOW).mean(axis=1),
        "first_losses": np.asarray(losses[:4]),
        "valid": validation(state.params, text),
        "numbers": sum(p.numel() for p in state.params.values()),
    }
