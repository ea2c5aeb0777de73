"""Running the optimizers of others beside ours, in float64."""

from __future__ import annotations

from typing import Any

import jax
import numpy as np
import optax
import torch

from adamod_array import Method, init, step
from tests.compare import assert_close

STEPS, SIZE = 50, 8
RTOL = 1e-12 * 2.0**52
"""1e-12, relative, in ulps of float64: what two orders of the same operations leave after 50 steps."""


def problem(seed: int = 0) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """Parameters, and gradients over eight decades."""
    rng = np.random.default_rng(seed)
    return rng.normal(size=SIZE), rng.normal(size=(STEPS, SIZE)) * 10.0 ** np.arange(-5, SIZE - 5)


def ours(method: Method, lr: Any, weight_decay: float = 0.0) -> list[np.ndarray[Any, Any]]:
    """The parameters after each step, on NumPy."""
    theta, gradients = problem()
    state, path = init(method, theta, lr, weight_decay=weight_decay), []
    for g in gradients:
        state = step(state, g)
        path.append(state.params)
    return path


def of_torch(cls: Any, **options: Any) -> list[np.ndarray[Any, Any]]:
    """The parameters after each step of a ``torch.optim.Optimizer``."""
    theta, gradients = problem()
    p = torch.nn.Parameter(torch.from_numpy(theta.copy()))
    optimizer, path = cls([p], **options), []
    for g in gradients:
        p.grad = torch.from_numpy(g.copy())
        optimizer.step()
        path.append(p.detach().numpy().copy())
    return path


def of_optax(transformation: optax.GradientTransformation) -> list[np.ndarray[Any, Any]]:
    """The parameters after each step of an optax optimizer."""
    theta, gradients = problem()
    with jax.enable_x64(True):
        params, path = jax.numpy.asarray(theta), []
        state = transformation.init(params)
        update = jax.jit(transformation.update)
        for g in gradients:
            updates, state = update(jax.numpy.asarray(g), state, params)
            params = optax.apply_updates(params, updates)
            path.append(np.asarray(params))
    return path


def assert_same(path: list[np.ndarray[Any, Any]], other: list[np.ndarray[Any, Any]]) -> None:
    """Two runs agree after every step."""
    assert_close(path, other, ulp=RTOL, atol=1e-13)  # a parameter may pass through zero
