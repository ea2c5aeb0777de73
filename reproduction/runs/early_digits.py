"""The first steps of Adam on digits, as Ma & Yarats look at them: the unit run of their Figure 1."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import mlp
import numpy as np
from demo import digits

from adamod_array import adam_init, adam_step
from adamod_array.diagnostics import effective_rates, update_magnitudes
from reproduction.frame import Values

SIZES = (64, 64, 64, 10)
ROUND = (40, 50, 100, 1000)
"""Steps that are looked at besides the first 20 and some equally far apart in the logarithm."""
QUARTILES = (0.25, 0.5, 0.75)


def flat(tree: Any) -> np.ndarray:
    """Return all numbers of a network."""
    return np.concatenate([w.ravel() for layer in tree for w in layer.values()])


def batches(data: Any, size: int, epochs: int, noise: float, rng: np.random.Generator) -> Iterator[Any]:
    """Yield batches of images and labels, a share of whose labels is drawn at random, anew each time."""
    x, y = data
    for rows_x, rows_y in mlp.batches(x, y, size, epochs, rng):
        if noise:
            random = np.eye(y.shape[1])[rng.integers(y.shape[1], size=size)]
            rows_y = np.where(rng.random((size, 1)) < noise, random, rows_y)
        yield rows_x, rows_y


def train(batch: int, noise: float, steps: int, seed: int) -> Values:
    """Return what the steps looked at were like: gradients of an epoch, moments, rates and updates of the step."""
    data = [each.astype(np.float64) for each in digits().train]
    rng = np.random.default_rng(seed)
    params = [{k: w.astype(np.float64) for k, w in layer.items()} for layer in mlp.initial_params(SIZES, rng)]
    state = adam_init(params, lr=1e-3, eps=1e-12)
    epochs = -(-steps // (len(data[0]) // batch))
    marks = {*range(1, 21), *ROUND, *np.geomspace(20, steps, 50).astype(int).tolist()}
    rows = []
    for pair in batches(data, batch, epochs, noise, rng):
        t = state.step + 1
        if t > steps:
            break
        variation = None
        if t in marks:  # at the parameters from which step t goes
            look = np.random.default_rng([seed, t])
            grads = [flat(mlp.gradient(state.params, *each)) for each in batches(data, batch, 1, noise, look)]
            variation = np.std(grads, axis=0, ddof=1), np.abs(np.mean(grads, axis=0))
        old, state = state, adam_step(state, mlp.gradient(state.params, *pair))
        if variation is not None:
            m, root = np.abs(flat(state.slots["m"])), np.sqrt(flat(state.slots["v"]))
            deviation, mean = variation
            lit = (root > 0) & (mean > 0)
            rows.append(
                (
                    t,
                    np.median(deviation[lit] / mean[lit]),
                    np.mean(deviation[lit] > mean[lit]),
                    np.corrcoef(m[lit], root[lit])[0, 1],
                    *np.quantile(flat(update_magnitudes(old, state))[lit], QUARTILES),
                    *np.quantile(flat(effective_rates(state))[lit], QUARTILES),
                )
            )
    t, variation, noisy, correlation, *quartiles = np.asarray(rows).T
    return {
        "t": t.astype(int),
        "variation": variation,
        "noisy": noisy,
        "correlation": correlation,
        "moved": quartiles[:3],
        "rates": quartiles[3:],
    }
