"""Every method and option x dtype x backend, against 50 digits and against NumPy."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from adamod_array import Method, engine, init, step
from tests import oracle
from tests.backend import Backend, describe, stands_in
from tests.compare import assert_close, ulps

STEPS = (1, 2, 6, 1000)
COMPILED = ("float32",)
"""Dtypes that torch.compile is held to: each of its programs takes seconds, and is the same text for all."""


def update(backend: Backend, method: Method, t: int, g: np.ndarray[Any, Any], dtype: str) -> np.ndarray[Any, Any]:
    """The parameters after step ``t`` from a state of zeros."""
    with engine(backend.engine):
        state = init(method, backend.array(np.zeros(len(g)), dtype), lr=1e-3)
        state = step(dataclasses.replace(state, step=t - 1), backend.array(g, dtype))
    return backend.numpy(state.params)


@pytest.mark.parametrize("dtype", describe("numpy")["dtypes"])
@pytest.mark.parametrize("name", oracle.METHODS)
def test_every_backend_is_within_its_bound(
    backends: list[Backend], record_property: Callable[[str, object], None], name: str, dtype: str
) -> None:
    method = oracle.METHODS[name]
    gradients = {t: oracle.gradients(f"{name} {t}", dtype, 200) for t in STEPS}
    exact = np.stack(
        [
            oracle.rounded(oracle.trajectory(method, np.zeros_like(g), [g], 1e-3, start=t)[0]["params"], dtype)
            for t, g in gradients.items()
        ]
    )
    results = {
        backend: np.stack([update(backend, method, t, g, dtype) for t, g in gradients.items()])
        for backend in backends
        if dtype in backend.table["dtypes"] and (backend.engine != "compile" or dtype in COMPILED)
    }
    numpy = results[backends[0]]
    distances = []
    for backend, result in results.items():
        where = " on the CPU" if stands_in(backend.name) else "" if backend.device == "cpu" else f"/{backend.device}"
        column = f"{backend.name}{where}/{backend.engine}"
        apart = (float(ulps(result, other).max()) for other in (exact, numpy))
        distances.append((f"{name} {dtype}", column, *apart))
    record_property("distances", distances)
    for backend, result in results.items():
        assert_close(result, exact, ulp=oracle.allowed(backend, dtype, method))
        assert_close(result, numpy, ulp=oracle.allowed(backend, dtype, method))
