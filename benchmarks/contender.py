"""What takes part in a race: a step of some library on arrays of one framework, and how these are made."""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from adamod_array import Method
from benchmarks.problem import SETS, WARMUP, Problem

THREADS = int(os.environ.get("ADAMOD_ARRAY_BENCH_THREADS", "2"))

ARRAYS = {"AdaMod": 9, "Adam": 7, "RAdam": 7}
"""Arrays that a step must move: g, p, m, v (and s) read; p, m, v (and s) written."""


@dataclass(frozen=True)
class Run:
    """A contender at its place: its gradients, its step, and the parameters so far."""

    backward: Callable[[], Iterable[Any]]
    """Never timed: returns the gradients of the next step."""
    step: Callable[[Iterable[Any]], None]
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


@dataclass(frozen=True)
class Framework:
    """How arrays and parameters are made, gradients handed over, and results waited for."""

    array: Callable[[np.ndarray[Any, Any]], Any]
    param: Callable[[np.ndarray[Any, Any]], Any]
    wait: Callable[[Any], Any] = lambda params: None
    hand: Callable[[list[Any], Iterator[list[Any]]], Callable[[], Iterable[Any]]] = lambda params, sets: sets.__next__

    def params(self, problem: Problem) -> list[Any]:
        """Make the problem's parameters."""
        return [self.param(p) for p in problem.params()]

    def backward(self, problem: Problem, params: list[Any]) -> Callable[[], Iterable[Any]]:
        """Make all sets of gradients, and return what hands over one after the other."""
        sets = itertools.cycle([[self.array(g) for g in problem.grads(turn)] for turn in range(SETS)])
        return self.hand(params, sets)


def numpy_arrays() -> Framework:
    """NumPy's."""
    return Framework(np.copy, np.copy)


def torch_arrays(device: str = "cpu") -> Framework:
    """PyTorch's: an ``nn.Parameter`` each, whose ``grad`` is read in the step, as ``torch.optim`` reads it."""
    import torch

    torch.set_num_threads(THREADS)

    def array(x: np.ndarray[Any, Any]) -> Any:
        return torch.from_numpy(x.copy()).to(device)

    def hand(params: list[Any], sets: Iterator[list[Any]]) -> Callable[[], Iterable[Any]]:
        def backward() -> Iterable[Any]:
            for p, g in zip(params, next(sets), strict=True):
                p.grad = g
            return (p.grad for p in params)

        return backward

    return Framework(array, lambda x: torch.nn.Parameter(array(x)), hand=hand)


def plain_tensors() -> Framework:
    """PyTorch's, with plain tensors in place of each ``nn.Parameter``."""
    framework = torch_arrays()
    return replace(framework, param=framework.array)


def jax_arrays() -> Framework:
    """JAX's own memory, and its wait for what it has only promised."""
    import jax

    def array(x: np.ndarray[Any, Any]) -> Any:
        return jax.numpy.array(x, copy=True)

    return Framework(array, array, jax.block_until_ready)


def cupy_on_gpu() -> Framework:
    """CuPy's. On a GPU nobody waits for a single step: benchmarks/gpu.py waits for many."""
    import cupy

    return Framework(cupy.array, cupy.array)


def jax_on_gpu() -> Framework:
    """JAX's, on the GPU."""
    import jax

    def array(x: np.ndarray[Any, Any]) -> Any:
        return jax.device_put(x, jax.devices("cuda")[0])

    return Framework(array, array)


FRAMEWORKS: dict[str, Callable[[], Framework]] = {
    "numpy": numpy_arrays,
    "torch": torch_arrays,
    "torch, plain tensors": plain_tensors,
    "jax": jax_arrays,
    "cupy on a GPU": cupy_on_gpu,
    "torch on a GPU": lambda: torch_arrays("cuda"),
    "jax on a GPU": jax_on_gpu,
}


def host(x: Any) -> np.ndarray[Any, Any]:
    """Return the array in the host's memory."""
    return np.asarray(x.get() if hasattr(x, "get") else x.detach().cpu() if hasattr(x, "cpu") else x)


def start(contender: Contender, problem: Problem) -> Run:
    """Warm up, and check that the result is right."""
    run = contender.build(problem)
    for _ in range(WARMUP):
        run.step(run.backward())
    if contender.expected is not None:
        problem.check([host(p) for p in run.params()], contender.expected, WARMUP, contender.rtol)
    return run
