"""What takes part in a race: a step of some library on arrays of one framework, and how these are made."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from adamod_array import Method
from benchmarks.problem import Problem

THREADS = int(os.environ.get("ADAMOD_ARRAY_BENCH_THREADS", "2"))

ARRAYS = {"AdaMod": 9, "Adam": 7, "RAdam": 7}
"""Arrays that a step must move: g, p, m, v (and s) read; p, m, v (and s) written."""


@dataclass(frozen=True)
class Run:
    """A contender at its place: a step, and the parameters so far."""

    step: Callable[[], None]
    params: Callable[[], list[Any]]


@dataclass(frozen=True)
class Contender:
    """One line of the table."""

    name: str
    method: str
    """A key of :data:`ARRAYS`."""
    build: Callable[[Problem], Run]
    expected: Method | None
    """What it must compute; None of the limit, which computes nothing of use."""
    ours: bool = False
    rtol: float = 1e-4

    @property
    def key(self) -> str:
        """Its name beside those of other methods."""
        return f"{self.method} | {self.name}"


def numpy_arrays() -> Any:
    """How an array is made, and how its result is waited for."""
    return np.copy, lambda params: None


def torch_arrays() -> Any:
    """PyTorch's; nothing is to be waited for on the CPU."""
    import torch

    torch.set_num_threads(THREADS)
    return (lambda x: torch.from_numpy(x.copy())), lambda params: None


def jax_arrays() -> Any:
    """JAX's own memory, and its wait for what it has only promised."""
    import jax

    return (lambda x: jax.numpy.array(x, copy=True)), jax.block_until_ready


def cupy_on_gpu() -> Any:
    """CuPy's. On a GPU nobody waits for a single step: benchmarks/gpu.py waits for many."""
    import cupy

    return cupy.array, lambda params: None


def torch_on_gpu() -> Any:
    """PyTorch's, on the GPU."""
    import torch

    return (lambda x: torch.from_numpy(x.copy()).to("cuda")), lambda params: None


def jax_on_gpu() -> Any:
    """JAX's, on the GPU."""
    import jax

    return (lambda x: jax.device_put(x, jax.devices("cuda")[0])), lambda params: None


FRAMEWORKS: dict[str, Callable[[], Any]] = {
    "numpy": numpy_arrays,
    "torch": torch_arrays,
    "jax": jax_arrays,
    "cupy on a GPU": cupy_on_gpu,
    "torch on a GPU": torch_on_gpu,
    "jax on a GPU": jax_on_gpu,
}
"""Of each framework, how it makes an array, and how it waits for a result."""
