"""What is trained with slots in bfloat16 and with float32 ones, on both tasks, and the results by kind."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np

from adamod_array import Adam, AdaMod, Method
from reproduction.frame import Results, Run, Values
from reproduction.grids import digits_runs
from reproduction.grids.transformer_runs import ADAMOD, CONFIGS, MIDDLE, WARM, steps
from reproduction.runs.compact_slots import stored
from reproduction.runs.nearest import NearestAdaMod
from reproduction.tasks import DIGITS, TRANSFORMER, Task

ALL, ADAM, CONTROL = "AdaMod, all slots", "Adam, all slots", "AdaMod, slots to nearest"


class Kind(NamedTuple):
    """A way to store slots, beside the one in float32: methods by task."""

    wide: dict[str, Method]
    narrow: dict[str, Method]


def _narrow(wide: Mapping[str, Method], slots: tuple[str, ...] = ()) -> Kind:
    return Kind(dict(wide), {title: stored(method, slots or method.slots) for title, method in wide.items()})


_ADAMOD: dict[str, AdaMod] = {DIGITS.title: AdaMod(beta3=0.999), TRANSFORMER.title: CONFIGS[ADAMOD]["method"]}
_ADAM: dict[str, Method] = {DIGITS.title: Adam(), TRANSFORMER.title: CONFIGS[WARM]["method"]}
KINDS = {
    "AdaMod, m and s": _narrow(_ADAMOD, ("m", "s")),
    ALL: _narrow(_ADAMOD),
    ADAM: _narrow(_ADAM),
}
NEAREST = Kind(
    dict(_ADAMOD),
    {title: NearestAdaMod(beta1=of.beta1, beta2=of.beta2, beta3=of.beta3, eps=of.eps) for title, of in _ADAMOD.items()},
)


def rates(task: Task, quick: bool) -> tuple[float, ...]:
    """Return those at which every training with float32 slots learns."""
    both = digits_runs.STABLE if task is DIGITS else (1e-3, MIDDLE)
    return both[1:] if quick else both


def seeds(task: Task, kind: Kind, quick: bool) -> range:
    """Return fewer for the control that takes long."""
    return range(1 if quick else 5 if kind is NEAREST and task is TRANSFORMER else 10)


def settings(task: Task, method: Method, quick: bool) -> dict[str, Any]:
    """Return how long a method is trained, and with what."""
    if task is DIGITS:
        return digits_runs.settings(quick)
    warmup = {"warmup": CONFIGS[WARM]["warmup"]} if isinstance(method, Adam) else {}
    return {"steps": 50 if quick else steps(quick), **warmup}


def trainings(task: Task, rate: float, kind: Kind, quick: bool) -> tuple[list[Run], list[Run]]:
    """Return the runs with float32 slots and with the others, a seed each."""
    wide, narrow = (
        [
            Run(task.run, method=method, rate=rate, seed=seed, **settings(task, method, quick))
            for seed in seeds(task, kind, quick)
        ]
        for method in (kind.wide[task.title], kind.narrow[task.title])
    )
    return wide, narrow


def pairs(results: Results, task: Task, kind: Kind, quick: bool) -> list[list[list[Values]]]:
    """Return what trainings with float32 slots left and what the others, by rate and seed."""
    known = {repr(Run(task.run, **r.config)): r.values for r in results if "method" in r.config}
    by_rate = [
        [[known[repr(run)] for run in half] for half in trainings(task, rate, kind, quick)]
        for rate in rates(task, quick)
    ]
    return [[both[i] for both in by_rate] for i in (0, 1)]


def measured(found: list[list[list[Values]]], measure: Callable[[Values], float]) -> np.ndarray:
    """Return a number of each training: float32 and the others, by rate and seed."""
    return np.asarray([[[measure(values) for values in row] for row in half] for half in found])
