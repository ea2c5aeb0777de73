"""Slots in bfloat16: how a method is told, their bits in every framework, and how an average follows what falls."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from demo import digits

from adamod_array import AdaMod, Method, init, step
from reproduction.frame import Values
from reproduction.runs.nearest import NearestAdaMod
from reproduction.runs.replay import REFERENCE, Training, batches

HIGH, LOW = 1.0, 0.1
"""Gradients of the first steps, and of those after them."""


def stored(method: Method, slots: Sequence[str]) -> Method:
    """Return the method that stores these slots in bfloat16."""
    told: Method = init(method, np.zeros(1, np.float32), slot_dtype=dict.fromkeys(slots, "bfloat16")).method
    return told


def bits(tree: Any) -> np.ndarray:
    """Return all numbers of a tree of layers in a row, as the bits of float32."""
    leaves = [x for layer in tree for x in layer.values()]
    wide = [np.asarray(x.float() if hasattr(x, "float") else x.get() if hasattr(x, "get") else x) for x in leaves]
    return np.concatenate([x.astype(np.float32).ravel() for x in wide]).view(np.int32)


def compared(*, name: str, method: Method, rate: float, seed: int, epochs: int, weight_decay: float) -> Values:
    """Step NumPy's gradients by a framework: how many bits of parameters and slots differ, over all steps."""
    recorded, other = (Training(each, method, rate, seed, epochs, weight_decay) for each in (REFERENCE, name))
    params = slots = steps = 0
    for x, y in batches(digits(), seed, epochs):
        other.step(recorded.step_from(x, y))
        params += int(np.sum(bits(recorded.state.params) != bits(other.state.params)))
        for slot in method.slots:
            slots += int(np.sum(bits(recorded.state.slots[slot]) != bits(other.state.slots[slot])))
        steps += 1
    return {"params": params, "slots": slots, "steps": steps, "numbers": recorded.numbers.size}


def falling(*, count: int, before: int, after: int) -> Values:
    """Give many parameters large gradients and then small ones: ``v`` in float32, in bfloat16, and to nearest."""
    kept: dict[str, np.ndarray] = {}
    for name, method in {
        "float32": AdaMod(),
        "stochastic": stored(AdaMod(), ("v",)),
        "nearest": NearestAdaMod(),
    }.items():
        state = init(method, np.zeros(count, np.float32), lr=0.0)
        means = []
        for t in range(before + after):
            state = step(state, np.full(count, HIGH if t < before else LOW, np.float32), donate=True)
            means.append(np.mean(state.slots["v"], dtype=np.float64))
        kept[name] = np.asarray(means)
        kept[f"{name}_end"] = np.asarray(state.slots["v"], np.float32)
    return kept
