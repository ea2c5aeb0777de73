"""reproduction/grids/compact_runs.py: slots in bfloat16 as arguments of runs, and the control's rounding."""

from __future__ import annotations

import dataclasses

import ml_dtypes
import numpy as np

from adamod_array import AdaMod, init, step
from reproduction import store
from reproduction.frame import Run
from reproduction.grids.compact_runs import KINDS, trainings
from reproduction.runs.compact_slots import stored
from reproduction.runs.nearest import NearestAdaMod, nearest
from reproduction.tasks import TASKS
from tests.compare import assert_close


def cast(x: np.ndarray) -> np.ndarray:
    """Round to the nearest bfloat16, as ml_dtypes does."""
    return x.astype(ml_dtypes.bfloat16).astype(np.float32)


def test_a_run_says_and_its_key_knows_what_is_compact() -> None:
    wide, two, all_ = (
        Run(TASKS[0].run, method=method) for method in (AdaMod(), stored(AdaMod(), "ms"), stored(AdaMod(), "mvs"))
    )
    assert repr(wide).endswith(f"(method={AdaMod()!r})")
    assert repr(two).endswith("compact=('m', 's')))")
    assert len({store.key(each) for each in (wide, two, all_)}) == 3


def test_pairs_differ_in_their_slots_alone() -> None:
    for task in TASKS:
        for kind in KINDS.values():
            for wide, narrow in zip(*trainings(task, 1e-3, kind, quick=False), strict=True):
                method, other = wide.config.pop("method"), narrow.config.pop("method")
                assert wide.config == narrow.config and method == dataclasses.replace(other, compact=()) != other


def test_the_control_rounds_as_a_cast_does() -> None:
    x = np.random.default_rng(0).lognormal(0, 20, 10_000).astype(np.float32)
    ties = np.asarray([1 + 2**-8, 1 + 3 * 2**-8, -(1 + 2**-8), 0.0], np.float32)
    for numbers in (x, -x, ties):
        assert_close(nearest(numbers), cast(numbers))
    rounded, wide = (step(init(method, ties, lr=0.1), ties) for method in (NearestAdaMod(), AdaMod()))
    assert_close(rounded.params, wide.params)
    for name, slot in wide.slots.items():
        assert_close(rounded.slots[name], cast(slot))
