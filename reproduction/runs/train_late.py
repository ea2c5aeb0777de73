"""Trainings on digits that go on in several ways from one state: the unit runs of ``late``, and one of ``sgdm``."""

from __future__ import annotations

import collections
import functools
from collections.abc import Iterator
from typing import Any

import mlp
import numpy as np
from demo import BATCH, SIZES, Digits, digits

from adamod_array import Adam, Method, State, init, schedules, step
from reproduction.frame import Values
from reproduction.runs.train_digits import DECAY

LARGE = 10 * BATCH
"""The larger batch."""
COPIES = 8
"""Of each image, with noise of its own, on which the mean loss under noise is measured."""
BEFORE, AFTER = 10_000, 20_000
"""Added to the seed of the batches, ahead of the state from which the ways part and behind it."""


def finish(*, method: Method, rate: float, seed: int, epochs: int, noise: float) -> Values:
    """Train to DECAY of the epochs; then go on as before, at a tenth of the rate, or with larger batches.

    To each image normal ``noise`` is added anew in each batch, so that gradients vary at a minimum, too. The losses are
    means under this noise; the larger batches are of as many images, or as many steps, as without a change.
    """
    data = digits()
    begun = int(DECAY * epochs)
    rest = epochs - begun
    middle = converge(digits_state(method, rate, seed), data, seed + BEFORE, begun, noise)
    slower = functools.partial(step, lr=rate / 10)
    longer = round(rest * data.batches_an_epoch / (len(data.train[0]) // LARGE))
    ways: dict[str, tuple[Any, int, int]] = {
        "nothing": (step, BATCH, rest),
        "rate": (slower, BATCH, rest),
        "images": (step, LARGE, rest),
        "steps": (step, LARGE, longer),
    }
    losses = {"before": mean_loss(middle.params, data, noise)}
    for name, (stepper, size, length) in ways.items():
        last = end_of(mlp.training(middle, noisy(data, size, length, noise, seed + AFTER), stepper))
        losses[name] = mean_loss(last.params, data, noise)
    return losses


def restart(*, method: Method, rate: float, seed: int, epochs: int, noise: float, steps: int) -> Values:
    """Train, then go on for some steps from the same state or from a fresh one: training losses after each step.

    Of Adam a third way is a fresh state with the untuned linear warmup. The losses are of the images without noise.
    """
    data = digits()
    end = converge(digits_state(method, rate, seed), data, seed + BEFORE, epochs, noise)
    ways = {"continued": end, "restarted": init(method, end.params, lr=rate)}
    if isinstance(method, Adam):
        warmup = schedules.untuned_linear(method.beta2)
        ways["warmed"] = init(method, end.params, lr=schedules.constant(rate) * warmup)
    found: Values = {"before": float(mlp.loss(end.params, *data.train))}
    for name, first in ways.items():
        epochs_after = 1 + steps // data.batches_an_epoch
        batches = [*noisy(data, BATCH, epochs_after, noise, seed + AFTER)][:steps]
        found[name] = np.asarray([float(mlp.loss(s.params, *data.train)) for s in mlp.training(first, batches, step)])
    return found


def then(*, method: Method, rate: float, seed: int, epochs: int, more: int, ways: Any, weight_decay: float) -> Values:
    """Train, the rate a tenth from DECAY on; then train ``more`` epochs by each (method, rate) of ``ways``.

    A way whose method is None goes on with the state as it is. The arrays are test accuracies and training losses,
    ahead of the ways and after each of them.
    """
    data = digits()
    falling = schedules.step_decay((int(DECAY * epochs) * data.batches_an_epoch,), 0.1)
    first = digits_state(method, schedules.constant(rate) * falling, seed, weight_decay)
    end = converge(first, data, seed + BEFORE, epochs)
    ends = [end]
    for other, lr in ways:
        begun = end if other is None else init(other, end.params, lr=lr, weight_decay=weight_decay)
        ends.append(converge(begun, data, seed + AFTER, more))
    return {
        "accuracy": np.asarray([mlp.accuracy(each.params, *data.test) for each in ends]),
        "loss": np.asarray([float(mlp.loss(each.params, *data.train)) for each in ends]),
    }


def digits_state(method: Method, lr: Any, seed: int, weight_decay: float = 0.0) -> State:
    """Return the state before the first step."""
    return init(method, mlp.initial_params(SIZES, np.random.default_rng(seed)), lr=lr, weight_decay=weight_decay)


def converge(first: State, data: Digits, seed: int, epochs: int, noise: float = 0.0) -> State:
    """Return the state after so many epochs."""
    with np.errstate(over="ignore", invalid="ignore"):  # a training that diverges is a result
        return end_of(mlp.training(first, noisy(data, BATCH, epochs, noise, seed), step))


def end_of(states: Iterator[State]) -> State:
    """Return the last state alone."""
    return collections.deque(states, maxlen=1).pop()


def noisy(data: Digits, size: int, epochs: int, noise: float, seed: int) -> Iterator[Any]:
    """Return batches, with noise of their own."""
    rng = np.random.default_rng(seed)
    for x, y in mlp.batches(*data.train, size, epochs, rng):
        yield with_noise(x, noise, rng), y


def with_noise(x: np.ndarray, noise: float, rng: np.random.Generator) -> np.ndarray:
    """Return images with normal noise of this deviation."""
    return x + np.float32(noise) * rng.standard_normal(x.shape, np.float32) if noise else x


def mean_loss(params: Any, data: Digits, noise: float) -> float:
    """Return the training loss under noise; the noise is the same always."""
    rng = np.random.default_rng(0)
    x, y = data.train
    return float(np.mean([mlp.loss(params, with_noise(x, noise, rng), y) for _ in range(COPIES)]))
