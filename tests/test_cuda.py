"""What only a GPU can show: the engine that compiles for it, which is too slow at first for every other test."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from adamod_array import engine, init, step
from tests.backend import Backend
from tests.compare import assert_close
from tests.trees import METHODS, leaves, tree

pytestmark = [pytest.mark.cuda, pytest.mark.only("torch")]

STEPS, LR = 5, 1e-2
ROUNDING = {"float32": 2.0**-23, "float64": 2.0**-52, "bfloat16": 2.0**-23}


def stepped(backend: Backend, name: str, dtype: str) -> list[np.ndarray[Any, Any]]:
    state = init(METHODS[name], tree(backend, dtype), lr=LR, weight_decay=1e-2)
    for seed in range(STEPS):
        state = step(state, tree(backend, dtype, seed=seed), donate=True)
    return [backend.numpy(x) for x in leaves(state.params)]


@pytest.mark.parametrize("backend", [Backend("torch", "cuda:0", "compile")], ids=["compile"], indirect=True)
@pytest.mark.parametrize("dtype", ROUNDING)
@pytest.mark.parametrize("name", METHODS)
def test_compiled_steps_are_numpys(backend: Backend, name: str, dtype: str) -> None:
    found = stepped(backend, name, dtype)
    with engine("eager"):
        expected = stepped(Backend("numpy", "cpu", "eager"), name, dtype)
    for x, y in zip(found, expected, strict=True):
        # in each step a few roundings of an update of the size of the rate, and one of the parameter
        assert_close(x, y, ulp=STEPS, atol=8 * STEPS * LR * ROUNDING[dtype])
