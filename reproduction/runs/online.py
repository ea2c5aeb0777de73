"""The example of Reddi, Kale & Kumar 2018 on which Adam does not converge: a unit run."""

from __future__ import annotations

import dataclasses

import numpy as np

from adamod_array import Method, init, schedules, step
from reproduction.frame import Values

STARTS = (-1.0, 0.0, 1.0)


def walk(method: Method, large: float, rate: float, steps: int) -> Values:
    """Walk on [-1, 1] where every third gradient is ``large`` and the others are -1, at rates of rate/sqrt(t).

    All losses are linear, and -1 is the best point. Returns where the walks from STARTS are and their average regret.
    """
    state = init(method, np.asarray(STARTS), lr=rate * schedules.inverse_sqrt(1))
    regret, marks, places = np.zeros(len(STARTS)), set(np.geomspace(1, steps, 120).astype(int).tolist()), []
    for t in range(1, steps + 1):
        g = large if t % 3 == 1 else -1.0
        regret = regret + g * (state.params + 1)
        state = step(state, np.full(len(STARTS), g))
        state = dataclasses.replace(state, params=np.clip(state.params, -1, 1))
        if t in marks:
            places.append((t, *state.params))
    t, *x = np.asarray(places).T
    return {"t": t.astype(int), "x": x, "regret": regret / steps}
