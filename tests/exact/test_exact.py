"""A thousand steps, the same to the last bit: every method, engine and CPU framework against NumPy's eager rule."""

from __future__ import annotations

import dataclasses
import hashlib
import importlib.util
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

from adamod_array import State, engine, init, step
from tests.backend import Backend, describe, is_here, numpy_dtype
from tests.oracle import METHODS

SIZE, EVERY = 257, 50  # whole vectors and a remainder; the bits are compared every so many steps
STEPS = {"Dask, Numba": 100, "Dask": 100, "CuPy, eager": 100}
"""A lazy step costs ten milliseconds, twenty launches on the CPU one; the arithmetic of Dask is NumPy's own."""

CONTENDERS = {
    "NumPy, Numba": ("numpy", "numba"),
    "PyTorch, Numba": ("torch", "numba"),
    "JAX, Numba": ("jax", "numba"),
    "JAX, jitted by the library": ("jax", "jit"),
    "JAX, jitted by the user": ("jax", "user's numba"),
    "JAX, jitted by the user, without the kernel": ("jax", "user's jit"),
    "array-api-strict": ("strict", "eager"),
    "Dask, Numba": ("dask", "numba"),
    "Dask": ("dask", "eager"),
    "CuPy": ("cupy", "cupy"),
    "CuPy, eager": ("cupy", "eager"),
}
KERNELS = ("NumPy, Numba", "PyTorch, Numba", "JAX, Numba", "JAX, jitted by the library", "CuPy")
DTYPES = {"CuPy": ["float16", "bfloat16", "complex64"], "CuPy, eager": ["float16", "bfloat16"]}
DTYPES = {name: ["complex64"] for name in KERNELS} | DTYPES
"""Beside float32 and float64, for 200 steps; those of Numba's kernels are held in test_kernels.py."""
CASES = [
    pytest.param(contender, name, dtype, marks=pytest.mark.slow if contender == "Dask" else [])
    for contender in CONTENDERS
    for name, method in METHODS.items()
    if "g_last" not in method.slots  # IEEE 754 does not say how an exponential is rounded
    for dtype in ["float32", "float64", *DTYPES.get(contender, [])]
]


@pytest.fixture(autouse=True)
def wide() -> Iterator[None]:
    """float64 in JAX."""
    if importlib.util.find_spec("jax") is None:
        yield
        return
    import jax

    with jax.enable_x64(True):
        yield


def gradients(dtype: str, steps: int) -> Iterator[np.ndarray[Any, Any]]:
    """Noise over many magnitudes, none so small that its square is denormal, and a coordinate that is idle at first."""
    rng = np.random.default_rng(7)
    scale = 10.0 ** rng.uniform(-4, 2, SIZE)
    for t in range(steps):
        g = normal(rng, dtype) * scale
        g[0] = g[0] if t > 20 else 0.0
        yield g.astype(numpy_dtype(dtype))


def normal(rng: np.random.Generator, dtype: str) -> np.ndarray[Any, Any]:
    """Numbers in double precision; complex ones for a complex dtype."""
    x = rng.normal(size=SIZE)
    return x + 1j * rng.normal(size=SIZE) if dtype.startswith("complex") else x


def trajectory(backend: Backend, name: str, dtype: str, steps: int) -> list[tuple[int, str, str]]:
    """Digests of all bits of the state, every few steps."""
    start = normal(np.random.default_rng(1), dtype)
    state = init(METHODS[name], backend.array(start, dtype), lr=1e-2, weight_decay=1e-2)
    take: Callable[[State, Any], State] = step
    if backend.engine.startswith("user's"):
        import jax

        take = jax.jit(step)
    found = []
    with engine(backend.engine.removeprefix("user's ")):
        for t, g in enumerate(gradients(dtype, steps), start=1):
            state = take(state, backend.array(g, dtype))
            if backend.name == "dask":
                state = persisted(state)
            if t % EVERY == 0:
                arrays = {"params": state.params, **{slot: state.slots[slot] for slot in METHODS[name].slots}}
                found += [(t, key, hashlib.sha256(backend.numpy(x).tobytes()).hexdigest()) for key, x in arrays.items()]
    return found


def persisted(state: State) -> State:
    """Dask's arrays computed, so that a thousand steps do not become one graph."""
    slots = {name: x.persist(scheduler="synchronous") for name, x in state.slots.items()}
    return dataclasses.replace(state, params=state.params.persist(scheduler="synchronous"), slots=slots)


REFERENCE: dict[tuple[str, str], list[tuple[int, str, str]]] = {}


@pytest.mark.parametrize(("contender", "name", "dtype"), CASES)
def test_a_thousand_steps_have_the_same_bits(contender: str, name: str, dtype: str) -> None:
    framework, how = CONTENDERS[contender]
    if not is_here(framework):
        pytest.skip(f"{framework} is not installed, or its device is not here")
    if (name, dtype) not in REFERENCE:
        REFERENCE[name, dtype] = trajectory(Backend("numpy", "cpu", "eager"), name, dtype, 1000)
    steps = STEPS.get(contender, 200 if dtype in DTYPES.get(contender, []) else 1000)
    device = describe(framework)["devices"][0]
    found = trajectory(Backend(framework, device, how), name, dtype, steps)
    expected = [each for each in REFERENCE[name, dtype] if each[0] <= steps]
    assert found, "nothing was compared"
    first = next(((t, key) for (t, key, a), (_, _, b) in zip(found, expected, strict=True) if a != b), None)
    assert first is None, f"{contender} leaves NumPy by step {first[0]}, in {first[1]}" if first else ""
