"""Train one classifier of handwritten digits on NumPy, PyTorch and JAX, and compare methods over learning rates.

    python docs/demo/demo.py

prints a table, a line for each framework found, and draws demo.png. What is trained, and how, is in mlp.py.
"""

from __future__ import annotations

import argparse
import functools
import hashlib
import importlib
import importlib.metadata
import importlib.util
import multiprocessing
import os
import platform
import time
from concurrent.futures import ProcessPoolExecutor
from typing import Any, NamedTuple

import mlp
import numpy as np
import picture
from sklearn.datasets import load_digits
from tqdm import tqdm

import adamod_array
from adamod_array import (
    Adam,
    AdaMod,
    Method,
    Momentum,
    RAdam,
    adamod_init,
    adamod_step,
    engine,
    init,
    schedules,
    step,
)

SIZES = (64, 64, 64, 10)  # pixels, two hidden layers, classes
BATCH = 32
SEEDS = (0, 1, 2)  # of weights and batches; the table uses the first

# name, namespace, package to look for, engine
FRAMEWORKS = (
    ("NumPy", "numpy", "numpy", "eager"),
    ("PyTorch", "torch", "torch", "eager"),
    ("JAX", "jax.numpy", "jax", "jit"),
)

# a method, and what its learning rate is multiplied by
METHODS: dict[str, tuple[Method, Any]] = {
    "Momentum": (Momentum(), 1.0),
    "Adam": (Adam(), 1.0),
    "Adam, untuned linear warmup": (Adam(), schedules.untuned_linear(0.999)),
    "RAdam": (RAdam(eps=0, eps_root=1e-8), 1.0),  # Ma & Yarats' literal equations
    "AdaMod, beta3 = 0.999": (AdaMod(beta3=0.999), 1.0),
    "AdaMod, beta3 = 0.9999": (AdaMod(beta3=0.9999), 1.0),
}
LARGE_RATE = 1e-1
CURVES = ("Adam", "Adam, untuned linear warmup", "RAdam", "AdaMod, beta3 = 0.9999")  # at the large rate
RATES = (1e-1, 1e-2, 1e-3, 1e-4)
SWEPT = ("Momentum", "Adam", "AdaMod, beta3 = 0.999", "AdaMod, beta3 = 0.9999")  # over all rates


class Digits(NamedTuple):
    """Images of 8 x 8 pixels as rows of 64 numbers in [0, 1], and their classes as one-hot rows."""

    train: tuple[np.ndarray, np.ndarray]
    test: tuple[np.ndarray, np.ndarray]

    @property
    def batches_an_epoch(self) -> int:
        """Batches of one size that the training images give."""
        return len(self.train[0]) // BATCH


def digits() -> Digits:
    """The 1,797 scans of load_digits in a shuffled order; every fifth is for the test."""
    scans = load_digits()
    order = np.random.default_rng(0).permutation(len(scans.data))
    x = (scans.data[order] / 16).astype(np.float32)
    y = np.eye(10, dtype=np.float32)[scans.target[order]]
    test = np.arange(len(x)) % 5 == 0
    return Digits((x[~test], y[~test]), (x[test], y[test]))


def data_digest() -> str:
    """Return a digest of the scans, under which the papers' experiments keep their results."""
    data = digits()
    return hashlib.sha256(b"".join(x.tobytes() for x in (*data.train, *data.test))).hexdigest()


class Row(NamedTuple):
    """A line of the table."""

    steps: int
    loss: float
    accuracy: float
    params: list[np.ndarray]
    ms_a_step: float


def train_on(name: str, namespace: str, engine_name: str, data: Digits, epochs: int) -> Row:
    """AdaMod on the arrays of one framework: the same weights, the same batches, the same program."""
    total = epochs * data.batches_an_epoch
    with tqdm(desc=name, total=total, unit=" steps") as bar, engine(engine_name):
        xp = importlib.import_module(namespace)
        rng = np.random.default_rng(SEEDS[0])
        params = [{key: xp.asarray(w) for key, w in layer.items()} for layer in mlp.initial_params(SIZES, rng)]
        batches = ((xp.asarray(x), xp.asarray(y)) for x, y in mlp.batches(*data.train, BATCH, epochs, rng))
        gradient = importlib.import_module("jax").jit(mlp.gradient) if name == "JAX" else mlp.gradient

        ends = []
        for state in mlp.training(adamod_init(params, lr=1e-2), batches, adamod_step, gradient):
            bar.update()
            if state.step % data.batches_an_epoch == 0:
                ends.append(time.perf_counter())

    host = [{key: np.asarray(w) for key, w in layer.items()} for layer in state.params]
    numbers = [w for layer in host for w in layer.values()]
    epoch = float(np.median(np.diff(ends)))  # from the end of the first, in which JAX compiles
    ms_a_step = 1e3 * epoch / data.batches_an_epoch
    return Row(state.step, float(mlp.loss(host, *data.train)), mlp.accuracy(host, *data.test), numbers, ms_a_step)


def print_table(data: Digits, epochs: int) -> None:
    """What each framework makes of the same training."""
    lines = [("backend", "engine", "steps", "train loss", "test accuracy", "difference", "ms a step")]
    numpy_row = None
    for name, namespace, package, engine_name in FRAMEWORKS:
        if importlib.util.find_spec(package) is None:
            tqdm.write(f"{name} is not installed: left out")
            continue
        row = train_on(name, namespace, engine_name, data, epochs)
        numpy_row = numpy_row or row
        difference = max(float(np.max(np.abs(a - b))) for a, b in zip(row.params, numpy_row.params, strict=True))
        backend = f"{name} {importlib.metadata.version(package)}"
        numbers = (f"{row.loss:.6f}", f"{row.accuracy:.4f}", f"{difference:.1e}", f"{row.ms_a_step:.2f}")
        lines.append((backend, engine_name, str(row.steps), *numbers))
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    print()
    for line in lines:
        print("  ".join(text.ljust(width) for text, width in zip(line, widths, strict=True)).rstrip())
    print("difference: from NumPy's parameters, the largest of all\n")


def train_by(job: tuple[str, float, int], data: Digits, epochs: int) -> tuple[dict[int, float], float]:
    """One method at one learning rate from one seed, on NumPy: losses after some steps, and the test accuracy."""
    name, rate, seed = job
    method, factor = METHODS[name]
    rng = np.random.default_rng(seed)
    initial = init(method, mlp.initial_params(SIZES, rng), lr=rate * factor)
    marks = {int(t) for t in np.geomspace(1, epochs * data.batches_an_epoch, 60)}
    losses = {}
    with engine("eager"):  # every engine gives the same numbers; this one compiles nothing
        for state in mlp.training(initial, mlp.batches(*data.train, BATCH, epochs, rng), step):
            if state.step in marks:
                losses[state.step] = float(mlp.loss(state.params, *data.train))
    return losses, mlp.accuracy(state.params, *data.test)


def draw_picture(path: str, data: Digits, epochs: int) -> None:
    """Train by every method, on all cores, and draw what came of it."""
    pairs = {(name, LARGE_RATE) for name in CURVES} | {(name, rate) for name in SWEPT for rate in RATES}
    jobs = [(name, rate, seed) for name, rate in sorted(pairs) for seed in SEEDS]
    work = functools.partial(train_by, data=data, epochs=epochs)
    # spawned: by now PyTorch and JAX have threads, which a fork would lose
    with ProcessPoolExecutor(min(4, os.cpu_count() or 1), multiprocessing.get_context("spawn")) as pool:
        results = dict(zip(jobs, tqdm(pool.map(work, jobs), "methods", len(jobs), unit=" runs"), strict=True))

    losses = {name: [results[name, LARGE_RATE, seed][0] for seed in SEEDS] for name in CURVES}
    accuracies = {name: [[results[name, rate, seed][1] for seed in SEEDS] for rate in RATES] for name in SWEPT}
    picture.draw(path, losses, LARGE_RATE, accuracies, RATES)

    print(f"\n{'test accuracy at learning rate':<30}" + "".join(f"{rate:>9g}" for rate in RATES))
    for name, by_rate in accuracies.items():
        print(f"{name:<30}" + "".join(f"{np.median(each):>9.3f}" for each in by_rate))
    print(f"medians of {len(SEEDS)} seeds\n\nwrote {path}")


def main() -> None:
    """The table, then the picture."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", default="demo.png", help="where the picture goes (default: %(default)s)")
    parser.add_argument("--epochs", type=int, default=50, help="at least 2 (default: %(default)s)")
    options = parser.parse_args()
    if options.epochs < 2:
        parser.error("--epochs must be at least 2: the first cannot be timed")

    os.environ.setdefault("OMP_NUM_THREADS", "1")  # arrays as small as these only wait for threads
    data = digits()
    print(f"adamod_array {adamod_array.__version__}, Python {platform.python_version()}, seeds {SEEDS}")
    print(f"{len(data.train[0])} images to train on, {len(data.test[0])} to test; layers {SIZES}, batches of {BATCH}\n")
    print_table(data, options.epochs)
    draw_picture(options.output, data, options.epochs)


if __name__ == "__main__":
    main()
