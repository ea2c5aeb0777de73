"""Who takes part: this library, its peers, NumPy as anyone writes it, and the limit that none can pass."""

from __future__ import annotations

import importlib
import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

import adamod_array
from adamod_array import Adam, AdaMod, Method, RAdam
from benchmarks.problem import LR, Problem

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


def heat(method: str) -> list[Contender]:
    """Those whose steps of one method are timed in turn, in one process."""
    return [x for x in ALL if x.method == method] + [x for x in GUESTS if method == "AdaMod"]


def find(key: str) -> Contender:
    """The contender of that key."""
    return next(x for x in ALL if x.key == key)


# This library


def ours(module: str, name: str, *, donate: bool = True, engine: str = "auto") -> Callable[[Method], Contender]:
    """A step of this library on the arrays of one framework."""

    def contender(method: Method) -> Contender:
        def build(problem: Problem) -> Run:
            if module in ("numpy", "torch") and engine == "auto":
                importlib.import_module("numba")  # never its absence, unnoticed
            array, wait = FRAMEWORKS[module]()
            state = adamod_array.init(method, [array(p) for p in problem.params()], LR)
            grads = [array(g) for g in problem.grads()]

            def step() -> None:
                nonlocal state
                state = adamod_array.step(state, grads, donate=donate)
                wait(state.params)

            def chosen() -> None:
                with adamod_array.engine(engine):
                    step()

            return Run(step if engine == "auto" else chosen, lambda: list(state.params))

        return Contender(name, type(method).__name__, build, method, ours=True)

    return contender


def ours_in_users_jit(method: Method, module: str = "jax") -> Contender:
    """A step of this library inside a function that the user compiles."""

    def build(problem: Problem) -> Run:
        import jax

        array, wait = FRAMEWORKS[module]()
        compiled = jax.jit(adamod_array.step, donate_argnums=0)
        state = adamod_array.init(method, [array(p) for p in problem.params()], LR)
        grads = [array(g) for g in problem.grads()]

        def step() -> None:
            nonlocal state
            state = compiled(state, grads)
            wait(state.params)

        return Run(step, lambda: list(state.params))

    return Contender("JAX, in the user's jit, donated", type(method).__name__, build, method, ours=True)


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


# NumPy as anyone writes it


def naive_adam(t: int, g: Any, p: Any, m: Any, v: Any) -> Any:
    """Whole-array expressions."""
    m = 0.9 * m + (1 - 0.9) * g
    v = 0.999 * v + (1 - 0.999) * g**2
    m_hat = m / (1 - 0.9**t)
    v_hat = v / (1 - 0.999**t)
    p = p - LR * m_hat / (np.sqrt(v_hat) + 1e-8)
    return p, m, v


def naive_adamod(t: int, g: Any, p: Any, m: Any, v: Any, s: Any) -> Any:
    """Whole-array expressions."""
    m = 0.9 * m + (1 - 0.9) * g
    v = 0.999 * v + (1 - 0.999) * g**2
    m_hat = m / (1 - 0.9**t)
    v_hat = v / (1 - 0.999**t)
    eta = LR / (np.sqrt(v_hat) + 1e-8)
    s = 0.999 * s + (1 - 0.999) * eta
    p = p - np.minimum(eta, s) * m_hat
    return p, m, v, s


def naive(method: Method, update: Callable[..., Any]) -> Contender:
    """Those expressions, over the leaves."""

    def build(problem: Problem) -> Run:
        grads = problem.grads()
        leaves = [[problem.params()[0] for _ in range(1 + len(method.slots))] for _ in grads]
        t = 0

        def step() -> None:
            nonlocal t
            t += 1
            for i, g in enumerate(grads):
                leaves[i] = update(t, g, *leaves[i])

        return Run(step, lambda: [leaf[0] for leaf in leaves])

    return Contender("naive NumPy", type(method).__name__, build, method)


# PyTorch's optimizers


def torch_optimizer(
    name: str, expected: Method, module: str, cls: str, *, rtol: float = 1e-4, arrays: str = "torch", **options: Any
) -> Contender:
    """An optimizer with PyTorch's interface."""

    def build(problem: Problem) -> Run:
        array, _ = FRAMEWORKS[arrays]()
        params = [array(p).requires_grad_() for p in problem.params()]
        for p, g in zip(params, problem.grads(), strict=True):
            p.grad = array(g)
        optimizer = getattr(importlib.import_module(module), cls)(params, lr=LR, **options)
        return Run(optimizer.step, lambda: [p.detach() for p in params])

    return Contender(name, type(expected).__name__, build, expected, rtol=rtol)


# optax


def optax_optimizer(expected: Method, cls: str, *, rtol: float = 1e-4, arrays: str = "jax") -> Contender:
    """Update and apply, jitted, with parameters and state donated."""

    def build(problem: Problem) -> Run:
        import jax
        import optax

        array, wait = FRAMEWORKS[arrays]()
        optimizer = getattr(optax, cls)(LR)
        params = [array(p) for p in problem.params()]
        grads = [array(g) for g in problem.grads()]
        state = optimizer.init(params)

        def update(params: Any, state: Any, grads: Any) -> Any:
            updates, state = optimizer.update(grads, state, params)
            return optax.apply_updates(params, updates), state

        compiled = jax.jit(update, donate_argnums=(0, 1))

        def step() -> None:
            nonlocal params, state
            params, state = compiled(params, state, grads)
            wait(params)

        return Run(step, lambda: list(params))

    return Contender(f"optax {cls}, jitted, donated", type(expected).__name__, build, expected, rtol=rtol)


# The limit


def limit(method: str) -> Contender:
    """A loop over the same arrays, read and written once, that only adds."""

    def build(problem: Problem) -> Run:
        from benchmarks.limit import add_3, add_4

        grads = np.full(problem.elements, 1e-3, np.float32)
        arrays = [np.full(problem.elements, 0, np.float32) for _ in range(ARRAYS[method] // 2)]
        loop = add_4 if ARRAYS[method] == 9 else add_3
        return Run(lambda: loop(grads, *arrays), lambda: arrays)

    return Contender("limit: a loop that only adds", method, build, None)


METHODS: tuple[Method, ...] = (AdaMod(), Adam(), RAdam())
EXACT = RAdam(threshold=5, variant="reference")  # what PyTorch and optax call RAdam

ALL: list[Contender] = [
    *(limit(method) for method in ARRAYS),
    *map(ours("numpy", "NumPy + Numba, donated"), METHODS),
    *map(ours("numpy", "NumPy + Numba, fresh", donate=False), METHODS[:2]),
    *map(ours("numpy", "NumPy alone, donated", engine="eager"), METHODS[:2]),
    *map(ours("torch", "PyTorch, donated"), METHODS),
    *map(ours("jax", "JAX, donated"), METHODS),
    *map(ours_in_users_jit, METHODS),
    naive(AdaMod(), naive_adamod),
    naive(Adam(), naive_adam),
    torch_optimizer("the authors' AdaMod", AdaMod(variant="reference"), "adamod", "AdaMod"),
    torch_optimizer(
        "pytorch_optimizer AdaMod",
        AdaMod(variant="reference"),
        "pytorch_optimizer",
        "AdaMod",
        betas=(0.9, 0.999, 0.999),
        foreach=True,
    ),
    torch_optimizer("torch Adam, fused", Adam(), "torch.optim", "Adam", fused=True),
    torch_optimizer("torch Adam, foreach", Adam(), "torch.optim", "Adam", foreach=True),
    torch_optimizer("torch RAdam, foreach", EXACT, "torch.optim", "RAdam", foreach=True),
    optax_optimizer(Adam(), "adam"),
    optax_optimizer(RAdam(threshold=5), "radam", rtol=1e-2),
]
GUESTS = [find("Adam | optax adam, jitted, donated")]
"""Of Adam, timed in AdaMod's heat too: a bar compares the two."""
