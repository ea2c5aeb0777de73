"""docs/demo/mlp.py, the program of the demo: its gradient, its batches, its training."""

from __future__ import annotations

import runpy
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from adamod_array import adamod_init, adamod_step
from tests.backend import Backend
from tests.compare import assert_close

PROGRAM = Path(__file__).parent.parent / "docs" / "demo" / "mlp.py"
mlp = SimpleNamespace(**runpy.run_path(str(PROGRAM)))
SIZES = (3, 2, 2, 3)


def on(backend: Backend, params: Any, dtype: str = "float64") -> Any:
    return [{key: backend.array(w, dtype) for key, w in layer.items()} for layer in params]


def three_clusters(rows: int, rng: np.random.Generator) -> tuple[Any, Any]:
    """Points about the three unit vectors, and which one as one-hot rows."""
    y = np.eye(3, dtype=np.float32)[rng.integers(3, size=rows)]
    return (y + rng.normal(0, 0.3, y.shape)).astype(np.float32), y


@pytest.mark.slow("dask")
def test_the_gradient_is_that_of_the_loss(backend: Backend) -> None:
    rng = np.random.default_rng(0)
    params = [
        {key: w + rng.normal(0, 0.1, w.shape) for key, w in layer.items()} for layer in mlp.initial_params(SIZES, rng)
    ]
    x, y = (backend.array(values, "float64") for values in three_clusters(6, rng))
    grads = mlp.gradient(on(backend, params), x, y)
    assert [list(layer) for layer in grads] == [list(layer) for layer in params]

    h = 1e-5
    for layer, grad in zip(params, grads, strict=True):
        for key, w in layer.items():
            slope = np.empty_like(w)
            for i in np.ndindex(w.shape):
                at = w[i]
                w[i] = at + h
                above = backend.numpy(mlp.loss(on(backend, params), x, y))
                w[i] = at - h
                below = backend.numpy(mlp.loss(on(backend, params), x, y))
                w[i] = at
                slope[i] = (above - below) / (2 * h)
            # central differences are off by h**2/6 times a third derivative of about 1, and by 2**-53/h times the loss
            assert_close(backend.numpy(grad[key]), slope, atol=2e-10)


def test_loss_and_accuracy_of_a_network_known_by_heart(backend: Backend) -> None:
    x = backend.array(9 * np.eye(4), "float64")
    y = backend.array(np.eye(4)[[0, 1, 2, 0]], "float64")
    identity = on(backend, [{"w": np.eye(4), "b": np.zeros(4)}])
    assert mlp.accuracy(identity, x, y) == 0.75
    constant = on(backend, [{"w": np.zeros((4, 4)), "b": np.full(4, 1e3)}])  # exp(1000) would overflow
    assert_close(backend.numpy(mlp.loss(constant, x, y)), np.log(4.0), ulp=2)  # log, and a mean of four


def test_an_epoch_is_all_rows_once() -> None:
    x = np.arange(20)
    drawn = list(mlp.batches(x, -x, 5, 3, np.random.default_rng(0)))
    assert [len(rows) for rows, _ in drawn] == [5] * 12
    assert all(np.array_equal(labels, -rows) for rows, labels in drawn)
    epochs = [np.concatenate([rows for rows, _ in drawn[i : i + 4]]) for i in (0, 4, 8)]
    assert all(np.array_equal(np.sort(epoch), x) for epoch in epochs)
    assert not np.array_equal(epochs[0], epochs[1])
    assert [len(rows) for rows, _ in mlp.batches(x, -x, 6, 1, np.random.default_rng(0))] == [6, 6, 6]


def test_two_epochs_reduce_the_loss(backend: Backend) -> None:
    rng = np.random.default_rng(0)
    x, y = three_clusters(32, rng)
    batches = [(backend.array(rows), backend.array(labels)) for rows, labels in mlp.batches(x, y, 16, 2, rng)]
    everything = backend.array(x), backend.array(y)
    initial = adamod_init(on(backend, mlp.initial_params(SIZES, rng), "float32"), lr=3e-2, beta3=0.5)
    states = list(mlp.training(initial, batches, adamod_step))
    assert [state.step for state in states] == [1, 2, 3, 4]
    losses = [float(backend.numpy(mlp.loss(state.params, *everything))) for state in (initial, states[1], states[3])]
    assert losses[0] > losses[1] > losses[2]
