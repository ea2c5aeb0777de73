"""One training of the demo's network on handwritten digits, in NumPy: the unit run of several experiments."""

from __future__ import annotations

from typing import Any

import mlp
import numpy as np
from demo import BATCH, SIZES, digits

from adamod_array import Method, init, schedules, step
from reproduction.frame import Values

DECAY = 0.75
"""Where the rate falls to a tenth, as a part of the training: epoch 150 of 200 in the AdaMod paper."""


def train(
    *, method: Method, rate: float, seed: int, epochs: int, warmup: Any = 1.0, decay: bool = False, weight_decay: float
) -> Values:
    """Train from ``seed`` (of weights and batches), the rate multiplied by ``warmup``.

    What is returned is of the end of each epoch: accuracy on test images, accuracy and loss on those trained on.
    """
    data = digits()
    each = data.batches_an_epoch
    rng = np.random.default_rng(seed)
    falling = schedules.step_decay((int(DECAY * epochs) * each,), 0.1) if decay else 1.0
    params = mlp.initial_params(SIZES, rng)
    batches = mlp.batches(*data.train, BATCH, epochs, rng)
    accuracies, learned, losses = [], [], []
    with np.errstate(over="ignore", invalid="ignore"):  # a training that diverges is a result
        initial = init(method, params, lr=schedules.constant(rate) * warmup * falling, weight_decay=weight_decay)
        for state in mlp.training(initial, batches, step):
            if state.step % each == 0:
                accuracies.append(mlp.accuracy(state.params, *data.test))
                learned.append(mlp.accuracy(state.params, *data.train))
                losses.append(float(mlp.loss(state.params, *data.train)))
    return {"accuracy": np.asarray(accuracies), "train_accuracy": np.asarray(learned), "loss": np.asarray(losses)}
