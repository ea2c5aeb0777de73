"""One training stepped by several frameworks at once: from the same gradients, or each from its own."""

from __future__ import annotations

import importlib
import importlib.util
import platform
import shutil
import sys
from collections.abc import Iterator
from typing import Any, NamedTuple

import mlp
import numpy as np
from demo import BATCH, SIZES, Digits, digits

from adamod_array import Method, State, engine, init, schedules, step
from reproduction import ROOT
from reproduction.frame import Values
from reproduction.runs.train_digits import DECAY

STAND_IN = ROOT / "backends"
"""The folder of cupy_on_cpu, by which CuPy runs without a GPU."""


class Framework(NamedTuple):
    """Whose arrays, and what steps them."""

    namespace: str
    engine: str
    package: str
    """Without which it is left out."""


FRAMEWORKS = {
    "NumPy": Framework("numpy", "eager", "numpy"),
    "NumPy, Numba": Framework("numpy", "numba", "numba"),
    "PyTorch, Numba": Framework("torch", "numba", "torch"),
    "PyTorch, its own operations": Framework("torch", "eager", "torch"),
    "JAX, XLA": Framework("jax.numpy", "jit", "jax"),
    "JAX, Numba": Framework("jax.numpy", "numba", "jax"),
    "CuPy on the CPU": Framework("cupy", "cupy", "cupy"),
}
REFERENCE = "NumPy"
MARKS = 60
"""Steps at which a drift is looked at: equally far apart in the logarithm."""


def here(name: str) -> bool:
    """Whether the framework can be had."""
    package = FRAMEWORKS[name].package
    if package == "cupy" and not (sys.platform == "linux" and platform.machine() == "x86_64" and shutil.which("g++")):
        return False  # cupy_on_cpu needs them
    return importlib.util.find_spec(package) is not None


def namespace(name: str) -> Any:
    """Import it."""
    if FRAMEWORKS[name].package == "cupy" and "cupy" not in sys.modules:
        sys.path.append(str(STAND_IN))
        importlib.import_module("cupy_on_cpu")
    return importlib.import_module(FRAMEWORKS[name].namespace)


class Training:
    """The digits, trained on the arrays of one framework."""

    def __init__(self, name: str, method: Method, rate: float, seed: int, epochs: int, weight_decay: float) -> None:
        self.xp, self.engine = namespace(name), FRAMEWORKS[name].engine
        self.gradient = mlp.gradient
        if FRAMEWORKS[name].package == "jax":
            self.gradient = importlib.import_module("jax").jit(mlp.gradient)
        each = digits().batches_an_epoch
        lr = schedules.constant(rate) * schedules.step_decay((int(DECAY * epochs) * each,), 0.1)
        params = mlp.initial_params(SIZES, np.random.default_rng(seed))
        self.state = init(method, self.take(params), lr=lr, weight_decay=weight_decay)

    def take(self, layers: mlp.Params) -> mlp.Params:
        """NumPy's arrays as the framework's own, which share no memory with them."""
        return [{key: self.xp.asarray(x.copy()) for key, x in layer.items()} for layer in layers]

    def step(self, grads: mlp.Params) -> None:
        """One step from NumPy's gradients."""
        with engine(self.engine):
            self.state = step(self.state, self.take(grads))

    def step_from(self, x: np.ndarray, y: np.ndarray) -> mlp.Params:
        """One step from the framework's own gradients, which are returned."""
        with np.errstate(over="ignore", invalid="ignore"):
            grads = self.gradient(self.state.params, self.xp.asarray(x), self.xp.asarray(y))
            with engine(self.engine):
                self.state = step(self.state, grads)
        return grads

    @property
    def numbers(self) -> np.ndarray:
        """All parameters in a row, in NumPy."""
        return on_host(self.state.params)

    @property
    def slots(self) -> np.ndarray:
        """All slots in a row, in NumPy."""
        return np.concatenate([on_host(slot) for slot in self.state.slots.values()])


def on_host(layers: mlp.Params) -> np.ndarray:
    arrays = [x.get() if hasattr(x, "get") else np.asarray(x) for layer in layers for x in layer.values()]
    return np.concatenate([x.ravel() for x in arrays])


def batches(data: Digits, seed: int, epochs: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Those of train_digits.train, which draws the weights first."""
    rng = np.random.default_rng(seed)
    mlp.initial_params(SIZES, rng)
    return mlp.batches(*data.train, BATCH, epochs, rng)


def replayed(*, name: str, method: Method, rate: float, seed: int, epochs: int, weight_decay: float) -> Values:
    """Step NumPy's gradients by a framework: how many parameters differ in a bit, after each step.

    The gradients of a step are replayed as soon as they are recorded, so that they need not be kept.
    """
    data = digits()
    recorded, other = (Training(each, method, rate, seed, epochs, weight_decay) for each in (REFERENCE, name))
    differing = []
    for x, y in batches(data, seed, epochs):
        other.step(recorded.step_from(x, y))
        differing.append(np.sum(recorded.numbers.view(np.int32) != other.numbers.view(np.int32)))
    return {
        "differing": np.asarray(differing),
        "slots": np.sum(recorded.slots.view(np.int32) != other.slots.view(np.int32)),
        "numbers": recorded.numbers.size,
        "largest": np.max(np.abs(recorded.numbers - other.numbers)),
    }


def own(*, name: str, method: Method, rate: float, seed: int, epochs: int, weight_decay: float) -> Values:
    """Train by NumPy and by a framework, each from its own gradients: how far apart the parameters are."""
    data = digits()
    both = [Training(each, method, rate, seed, epochs, weight_decay) for each in (REFERENCE, name)]
    total = epochs * data.batches_an_epoch
    marks = sorted({int(t) for t in np.geomspace(1, total, MARKS)})
    largest, middle, classes = [], [], []
    for t, (x, y) in enumerate(batches(data, seed, epochs), start=1):
        for training in both:
            training.step_from(x, y)
        if t in marks:
            apart = np.abs(both[0].numbers - both[1].numbers)
            largest.append(apart.max())
            middle.append(np.median(apart))
        if t % data.batches_an_epoch == 0:
            classes.append([predictions(training.state, data) for training in both])
    true = np.argmax(data.test[1], axis=1)
    found = np.asarray(classes)
    return {
        "at": np.asarray(marks),
        "largest": np.asarray(largest),
        "median": np.asarray(middle),
        "otherwise": np.mean(found[:, 0] != found[:, 1], axis=1),
        "accuracy": np.mean(found == true, axis=2),
    }


def predictions(state: State, data: Digits) -> np.ndarray:
    """The class of every test image, by NumPy."""
    params = [{key: np.asarray(x) for key, x in layer.items()} for layer in state.params]
    with np.errstate(over="ignore", invalid="ignore"):
        return np.asarray(np.argmax(mlp.forward(params, data.test[0])[1], axis=1))
