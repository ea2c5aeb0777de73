"""The program, once, for the arrays of any framework: a multilayer perceptron, its gradient by hand, its training.

Only functions and operators of the Python array API are used, and nothing is written in place, so that
``jax.jit`` compiles the functions as they stand.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import numpy as np
from array_api_compat import array_namespace

from adamod_array import State

Array = Any
Params = list[dict[str, Array]]
"""Layer by layer, ``{"w": ..., "b": ...}``: x becomes ``x @ w + b``, and tanh stands between two layers."""


def initial_params(sizes: tuple[int, ...], rng: np.random.Generator) -> Params:
    """Layers of these widths, on the host: normal weights of variance 1/fan-in (LeCun et al. 1998), zero biases."""
    return [
        {"w": rng.normal(0, fan_in**-0.5, (fan_in, fan_out)).astype(np.float32), "b": np.zeros(fan_out, np.float32)}
        for fan_in, fan_out in itertools.pairwise(sizes)
    ]


def batches(x: np.ndarray, y: np.ndarray, size: int, epochs: int, rng: np.random.Generator) -> Iterator[Any]:
    """Every epoch all rows in a new order, in batches of one size, on the host; the few rows left over wait."""
    for _ in range(epochs):
        order = rng.permutation(len(x))
        for start in range(0, len(x) - size + 1, size):
            rows = order[start : start + size]
            yield x[rows], y[rows]


def forward(params: Params, x: Array) -> tuple[list[Array], Array]:
    """What enters each layer, and the log-probability of each class, for one image a row of ``x``."""
    xp = array_namespace(x)
    inputs = [x]
    for layer in params[:-1]:
        inputs.append(xp.tanh(inputs[-1] @ layer["w"] + layer["b"]))
    z = inputs[-1] @ params[-1]["w"] + params[-1]["b"]
    z = z - xp.max(z, axis=1, keepdims=True)  # so that exp cannot overflow
    return inputs, z - xp.log(xp.sum(xp.exp(z), axis=1, keepdims=True))


def loss(params: Params, x: Array, y: Array) -> Array:
    """Cross-entropy with the true classes, one-hot rows of ``y``, in nats an image."""
    _, log_p = forward(params, x)
    return -array_namespace(x).sum(y * log_p) / x.shape[0]


def accuracy(params: Params, x: Array, y: Array) -> float:
    """The fraction of images whose most probable class is the true one."""
    xp = array_namespace(x)
    _, log_p = forward(params, x)
    right = xp.argmax(log_p, axis=1) == xp.argmax(y, axis=1)
    return float(xp.mean(xp.astype(right, xp.float32)))


def gradient(params: Params, x: Array, y: Array) -> Params:
    """The gradient of :func:`loss`, by the chain rule from the last layer to the first."""
    xp = array_namespace(x)
    inputs, log_p = forward(params, x)
    d = (xp.exp(log_p) - y) / x.shape[0]  # by the output of the last layer
    grads: Params = []
    for i in reversed(range(len(params))):
        grads.insert(0, {"w": inputs[i].T @ d, "b": xp.sum(d, axis=0)})
        if i > 0:
            d = (d @ params[i]["w"].T) * (1 - inputs[i] * inputs[i])  # tanh' = 1 - tanh**2
    return grads


def training(
    state: State,
    batches: Iterable[tuple[Array, Array]],
    step: Callable[[State, Params], State],
    gradient: Callable[[Params, Array, Array], Params] = gradient,
) -> Iterator[State]:
    """The states of an optimization, one a batch."""
    for x, y in batches:
        state = step(state, gradient(state.params, x, y))
        yield state
