"""Gradients at the initial parameters of a network, and the adaptive rates that they give: a unit run."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from typing import Any

import mlp
import numpy as np
import torch
from demo import BATCH, SIZES, digits

from adamod_array import Adam, init, step
from adamod_array.diagnostics import effective_rates
from reproduction.frame import Values
from reproduction.runs.train_transformer import draw, gradient
from reproduction.runs.transformer import SIZE, corpus, initial_params

BETA2 = 0.999
POST, PRE, DIGITS = "Transformer", "pre-norm Transformer", "digits network"
MODELS = (POST, PRE, DIGITS)
ATTENTION, FEED_FORWARD = ("query", "key", "value", "attention_out"), ("inner", "outer")
"""The matrices of a block."""
PARTS = ATTENTION + FEED_FORWARD
NEAR_ZERO = 0.01
"""Of a root mean square: what is below it counts as near zero."""

Gradients = dict[str, np.ndarray]


def sample(*, model: str, seed: int, repeats: int, length: int) -> Values:
    """Draw ``repeats`` times ``length`` batches at the initial parameters of ``seed``, which stay as they are."""
    torch.set_num_threads(1)
    drawn = _of_digits(seed) if model == DIGITS else _of_transformer(seed, pre_norm=model == PRE)
    gradients = list(itertools.islice(drawn, repeats * length))
    found = adaptive_rates(gradients, repeats)
    if model != DIGITS:
        shares = [near_zero(_parts(each)) for each in gradients]
        for scale in ("matrix", "block"):
            found[f"near_zero_{scale}"] = np.mean([each[scale] for each in shares], axis=0)
    return found


def _of_transformer(seed: int, pre_norm: bool) -> Iterator[Gradients]:
    text, rng = corpus(), np.random.default_rng(seed)
    params = initial_params(SIZE, seed, pre_norm=pre_norm)
    while True:
        _, grads = gradient(params, *draw(text, rng))
        yield {name: g.numpy() for name, g in grads.items()}


def _of_digits(seed: int) -> Iterator[Gradients]:
    (x, y), rng = digits().train, np.random.default_rng(seed)
    params = mlp.initial_params(SIZES, rng)
    while True:
        rows = rng.choice(len(x), BATCH, replace=False)
        grads = mlp.gradient(params, x[rows], y[rows])
        yield {f"{name}{i}": g for i, layer in enumerate(grads) for name, g in layer.items()}


def adaptive_rates(gradients: list[Gradients], repeats: int) -> Values:
    """Return mean and variance over the repeats of each parameter's adaptive rate, and its gradients' size.

    The rate is Adam's at the end of each repeat, with a learning rate of 1 and without eps. Parameters that had no
    gradient in one of the repeats, whose rate is infinite, are left out.
    """
    ends = []
    for chunk in np.array_split(np.arange(len(gradients)), repeats):
        zeros = {name: np.zeros_like(g) for name, g in gradients[0].items()}
        state = init(Adam(beta1=0.0, beta2=BETA2, eps=0.0), zeros, lr=1.0)
        with np.errstate(divide="ignore", invalid="ignore"):
            for i in chunk:
                state = step(state, gradients[i])
            ends.append(_flat(effective_rates(state)))
    rates = np.asarray(ends, float)
    square = np.mean([_flat(each) ** 2 for each in gradients], axis=0)
    finite = np.isfinite(rates).all(axis=0)
    return {
        "mean": rates[:, finite].mean(axis=0),
        "variance": rates[:, finite].var(axis=0, ddof=1),
        "size": np.sqrt(square[finite]),
        "left_out": int(np.sum(~finite)),
    }


def _flat(tree: dict[str, Any]) -> np.ndarray:
    return np.concatenate([np.asarray(each, float).ravel() for each in tree.values()])


def _parts(grads: Gradients) -> Gradients:
    """Return the gradients of a block's matrices, the blocks stacked in the first axis."""
    query, key, value = np.split(grads["query_key_value"], 3, axis=2)
    named = {"query": query, "key": key, "value": value}
    return named | {name: grads[name] for name in PARTS if name not in named}


def near_zero(parts: Gradients) -> dict[str, list[float]]:
    """Return the share of each matrix's gradients that is near zero, beside those of the matrix or of its block."""
    squares = {name: g.astype(float).reshape(len(g), -1) ** 2 for name, g in parts.items()}
    of_block = np.concatenate(list(squares.values()), axis=1).mean(axis=1, keepdims=True)
    scales: dict[str, Callable[[np.ndarray], np.ndarray]] = {
        "matrix": lambda square: square.mean(axis=1, keepdims=True),
        "block": lambda square: of_block,
    }
    return {
        name: [float(np.mean(square < NEAR_ZERO**2 * scale(square))) for square in squares.values()]
        for name, scale in scales.items()
    }
