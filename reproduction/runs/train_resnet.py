"""One training of a residual convolutional network on handwritten digits, in PyTorch: the unit run of ``depth``."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from demo import digits
from torch.nn import functional

from adamod_array import Method, init, schedules, step
from reproduction.frame import Values
from reproduction.runs.gradients import gradient
from reproduction.runs.train_digits import DECAY

CHANNELS = 8
BATCH = 36
"""A tenth of the images to train on."""
BLOCK = ("first", "second", "scale", "shift")
"""The parameters that each block has; they are stacked."""


def train(*, method: Method, rate: float, seed: int, blocks: int, epochs: int, weight_decay: float) -> Values:
    """Train from ``seed`` (of weights and batches): losses of the epochs, and what it has learned in the end.

    The network learns the 360 images that the other experiments test with, and is tested with their 1,437: so few
    images leave room above the accuracy that is reached, and so many measure it well.
    """
    torch.set_num_threads(1)
    data = digits()
    (x, y), (test_x, test_y) = tensors(*data.test), tensors(*data.train)
    each = len(x) // BATCH
    rng = np.random.default_rng(seed)
    falling = schedules.step_decay((int(DECAY * epochs) * each,), 0.1)
    params = initial_params(blocks, seed)
    numbers = sum(p.numel() for p in params.values())
    state = init(method, params, lr=schedules.constant(rate) * falling, weight_decay=weight_decay)
    losses = []
    for _ in range(epochs):
        order = torch.from_numpy(rng.permutation(len(x)))
        for rows in order.split(BATCH):
            value = functional.cross_entropy(forward(state.params, x[rows]), y[rows])
            state = step(state, gradient(value, state.params), donate=True)
            losses.append(float(value.detach()))
    with torch.no_grad():
        z = forward(state.params, test_x)
    return {
        "loss": np.asarray(losses).reshape(epochs, each).mean(axis=1),
        "accuracy": float((z.argmax(1) == test_y).float().mean()),
        "test_loss": float(functional.cross_entropy(z, test_y)),
        "numbers": numbers,
    }


def tensors(x: np.ndarray, y: np.ndarray) -> tuple[Any, Any]:
    """Return images of one channel, and their classes as numbers."""
    return torch.from_numpy(x).reshape(-1, 1, 8, 8), torch.from_numpy(y).argmax(1)


def initial_params(blocks: int, seed: int) -> dict[str, Any]:
    """Return normal weights of variance 2/fan-in (He et al. 2015), as in the original."""
    random = torch.Generator().manual_seed(seed)

    def he(*shape: int, fan_in: int) -> Any:
        return torch.randn(shape, generator=random) * (2 / fan_in) ** 0.5

    square, inputs = (blocks, CHANNELS, CHANNELS, 3, 3), 9 * CHANNELS
    params = {
        "stem": he(CHANNELS, 1, 3, 3, fan_in=9),
        "first": he(*square, fan_in=inputs),
        "second": he(*square, fan_in=inputs),
        "scale": torch.ones(blocks, 2, CHANNELS),
        "shift": torch.zeros(blocks, 2, CHANNELS),
        "output": he(16 * CHANNELS, 10, fan_in=16 * CHANNELS),
        "output_bias": torch.zeros(10),
    }
    return {name: p.requires_grad_() for name, p in params.items()}


def forward(params: dict[str, Any], x: Any) -> Any:
    """Return the logarithms of the odds of each class.

    Norms and rectifiers stand ahead of the convolutions, two in a block (He et al. 2016); the norms are of an image, so
    that nothing has to be kept for the test.
    """
    h = functional.conv2d(x, params["stem"], padding=1)
    for first, second, scale, shift in zip(*(params[name].unbind() for name in BLOCK), strict=True):
        inner = h
        for weight, a, b in zip((first, second), scale, shift, strict=True):
            inner = functional.conv2d(functional.relu(functional.group_norm(inner, 1, a, b)), weight, padding=1)
        h = h + inner
    h = functional.avg_pool2d(functional.relu(functional.group_norm(h, 1)), 2)
    return h.flatten(1) @ params["output"] + params["output_bias"]
