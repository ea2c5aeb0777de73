"""One training of a character LSTM, in PyTorch, on the Transformer's text: the unit run of ``lstm``."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from adamod_array import Method, init, schedules, step
from reproduction.frame import Values
from reproduction.runs.gradients import gradient
from reproduction.runs.transformer import VOCABULARY, corpus, windows

LAYERS, WIDTH = 3, 64
BATCH, CONTEXT = 8, 32
"""Windows in a batch, and characters in a window."""
DECAY = 0.6
"""Where the rate falls to a tenth, as a part of the training: epoch 120 of 200 in the AdaMod paper."""


class Model(nn.Module):
    """Embedding, layers of LSTM, and the logarithms of the odds of the next character."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(len(VOCABULARY), WIDTH)
        self.layers = nn.LSTM(WIDTH, WIDTH, LAYERS, batch_first=True)
        self.output = nn.Linear(WIDTH, len(VOCABULARY))

    def loss(self, x: Any, y: Any) -> Any:
        """Return the cross-entropy with the next character, in nats."""
        h, _ = self.layers(self.embedding(x))
        return functional.cross_entropy(self.output(h).flatten(0, 1), y.flatten())


def train(*, method: Method, rate: float, seed: int, steps: int) -> Values:
    """Train from ``seed`` (of weights and batches): the loss of each step, and of the held-out text at the end."""
    torch.set_num_threads(1)
    text = corpus()
    rng = np.random.default_rng(seed)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = Model()
    falling = schedules.step_decay((int(DECAY * steps),), 0.1)
    state = init(method, dict(model.named_parameters()), lr=schedules.constant(rate) * falling)
    losses = []
    for _ in range(steps):
        starts = rng.integers(len(text.train) - CONTEXT, size=BATCH)
        value = model.loss(*windows(text.train, starts, CONTEXT))
        state = step(state, gradient(value, state.params), donate=True)  # in place: these are the model's own
        losses.append(float(value.detach()))
    starts = np.linspace(0, len(text.valid) - CONTEXT - 1, 1024).astype(int)
    with torch.no_grad():
        valid = float(model.loss(*windows(text.valid, starts, CONTEXT)))
    return {
        "loss": np.asarray(losses),
        "valid": valid,
        "numbers": sum(p.numel() for p in state.params.values()),
        "characters": len(text.train),
    }
