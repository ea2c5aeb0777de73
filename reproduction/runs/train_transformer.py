"""One training of the character Transformer: the unit run of several experiments."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import torch

from adamod_array import Method, State, diagnostics, init, step
from reproduction.frame import Values
from reproduction.runs.transformer import SIZE, Corpus, Params, corpus, initial_params, loss, windows

BATCH = 8
WINDOW = 25
"""Training losses are means over this many steps."""
PICTURES = 48
"""Steps at which the rates are counted: equally far apart in the logarithm."""
HUGE = 1e4
"""Rates above it are counted apart, as the AdaMod paper does."""


def train(
    *,
    method: Method,
    rate: float,
    seed: int,
    steps: int,
    warmup: Any = 1.0,
    second_moment_first: int = 0,
) -> Values:
    """Train from ``seed`` (of weights and batches), the rate multiplied by ``warmup``.

    ``second_moment_first`` is the Adam-2k of the RAdam paper: during so many further steps ahead of the others nothing
    changes but the second moment.
    """
    torch.set_num_threads(1)
    text = corpus()
    rng = np.random.default_rng(seed)
    state = init(method, initial_params(SIZE, seed), lr=rate * warmup)
    if second_moment_first:
        state = estimate_second_moment(state, text, second_moment_first, rng)
    seen = Seen(steps)
    losses = []
    for t in range(1, steps + 1):
        value, grads = gradient(state.params, *draw(text, rng))
        lr = rate / (1 - 0.9**t) if second_moment_first else None  # m starts at zero where its correction has gone
        state = step(state, grads, lr=lr, donate=True)
        losses.append(float(value))
        seen.look(t, state, lr)
    return {
        "loss": np.asarray(losses).reshape(-1, WINDOW).mean(axis=1),
        "first_losses": np.asarray(losses[:4]),
        "valid": validation(state.params, text),
        "numbers": sum(p.numel() for p in state.params.values()),
        "characters": len(text.train),
        "text": text.digest,
        **seen.values(),
    }


def draw(text: Corpus, rng: np.random.Generator) -> tuple[Any, Any]:
    """A batch of windows from anywhere in the text."""
    return windows(text.train, rng.integers(len(text.train) - SIZE.context, size=BATCH), SIZE.context)


def gradient(params: Params, x: Any, y: Any) -> tuple[Any, Params]:
    """The loss, and its gradient."""
    value = loss(params, x, y, SIZE.heads)
    return value.detach(), dict(zip(params, torch.autograd.grad(value, list(params.values())), strict=True))


def estimate_second_moment(state: State, text: Corpus, steps: int, rng: np.random.Generator) -> State:
    """A state whose ``v`` has seen gradients of so many batches, whose parameters are the same and whose ``m`` is 0."""
    for _ in range(steps):
        state = step(state, gradient(state.params, *draw(text, rng))[1], lr=0.0, donate=True)
    m = {name: torch.zeros_like(p) for name, p in state.slots["m"].items()}
    return dataclasses.replace(state, slots={**state.slots, "m": m})


def validation(params: Params, text: Corpus, count: int = 1024) -> float:
    """The loss on windows of the text held out, the same ones always."""
    starts = np.linspace(0, len(text.valid) - SIZE.context - 1, count).astype(int)
    with torch.no_grad():
        return float(loss(params, *windows(text.valid, starts, SIZE.context), SIZE.heads))


class Seen:
    """What the rates were at some steps of a training."""

    def __init__(self, steps: int) -> None:
        self.at: list[int] = sorted({int(t) for t in np.geomspace(1, steps, PICTURES)})
        self.rows: dict[str, list[Any]] = {"counts": [], "bounded": [], "huge": [], "huge_idle": [], "largest": []}
        self.edges = np.zeros(0)

    def look(self, t: int, state: State, lr: float | None) -> None:
        """Count the rates of the step just taken, where it is one of those."""
        if t not in self.at:
            return
        rates = diagnostics.effective_rates(state, lr=lr)
        counts, self.edges = diagnostics.histogram(rates)
        idle = [v == 0 for v in state.slots["v"].values()]
        huge = [rate > HUGE for rate in rates.values()]
        moving = [rate[~still] for rate, still in zip(rates.values(), idle, strict=True)]
        row = {
            "counts": counts.numpy(),
            "bounded": float(diagnostics.bounded_fraction(state, lr=lr)),
            "huge": sum(int(each.sum()) for each in huge),
            "huge_idle": sum(int((each & still).sum()) for each, still in zip(huge, idle, strict=True)),
            "largest": max(float(each.max()) for each in moving if each.numel()),
        }
        for name, value in row.items():
            self.rows[name].append(value)

    def values(self) -> Values:
        """Arrays, a row a step looked at."""
        return {"at": np.asarray(self.at), "edges": self.edges, **{k: np.asarray(v) for k, v in self.rows.items()}}
