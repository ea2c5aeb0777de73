"""Who takes part: this library, its peers, and the limit that none can pass."""

from __future__ import annotations

import importlib
import itertools
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np

import adamod_array
from adamod_array import Adam, AdaMod, Method, RAdam
from benchmarks.bars import COMPACT, JAX, LIMIT, NUMBA, PEERS, TORCH
from benchmarks.contender import ARRAYS, FRAMEWORKS, Contender, Run
from benchmarks.models import MODELS
from benchmarks.peers import naive, naive_adam, naive_adamod, optax_optimizer, torch_optimizer
from benchmarks.problem import LR, SETS, Problem


def heat(method: str, problem: Problem) -> list[Contender]:
    """Those whose steps of one method are timed in turn, in one process."""
    if problem.name in MODELS:
        return [find(f"{method} | {name}") for name in (*PEERS, *dict.fromkeys(PEERS.values()))]
    if problem.is_complex:
        return [find(f"{method} | {name}") for name in (LIMIT, NUMBA, TORCH, JAX)]
    return [x for x in ALL if x.method == method] + GUESTS.get(method, [])


def find(key: str) -> Contender:
    """The contender of that key."""
    return next(x for x in ALL if x.key == key)


# This library


def ours(
    module: str, name: str, *, donate: bool = True, engine: str = "auto", slot_dtype: Any = None
) -> Callable[[Method], Contender]:
    """A step of this library on the arrays of one framework."""

    def contender(method: Method) -> Contender:
        def build(problem: Problem) -> Run:
            if "GPU" not in module and engine == "auto":
                importlib.import_module("numba")  # never its absence, unnoticed
            framework = FRAMEWORKS[module]()
            params = framework.params(problem)
            state = adamod_array.init(method, params, LR, slot_dtype=slot_dtype)

            def step(grads: Iterable[Any]) -> None:
                nonlocal state
                state = adamod_array.step(state, list(grads), donate=donate)
                framework.wait(state.params)

            def chosen(grads: Iterable[Any]) -> None:
                with adamod_array.engine(engine):
                    step(grads)

            backward = framework.backward(problem, params)
            return Run(backward, step if engine == "auto" else chosen, lambda: list(state.params))

        rtol = 1e-4 if slot_dtype is None else COMPACT_RTOL
        return Contender(name, type(method).__name__, build, method, ours=True, rtol=rtol)

    return contender


def compact(method: Method, **slots: str) -> list[Contender]:
    """Steps of this library with these slots in 16 bits."""
    pairs = (("numpy", NUMBA), ("torch", TORCH))
    return [ours(module, f"{name}{COMPACT}", slot_dtype=slots)(method) for module, name in pairs]


def ours_in_users_jit(method: Method, module: str = "jax") -> Contender:
    """A step of this library inside a function that the user compiles."""

    def build(problem: Problem) -> Run:
        import jax

        framework = FRAMEWORKS[module]()
        compiled = jax.jit(adamod_array.step, donate_argnums=0)
        params = framework.params(problem)
        state = adamod_array.init(method, params, LR)

        def step(grads: Iterable[Any]) -> None:
            nonlocal state
            state = compiled(state, list(grads))
            framework.wait(state.params)

        return Run(framework.backward(problem, params), step, lambda: list(state.params))

    return Contender("JAX, in the user's jit, donated", type(method).__name__, build, method, ours=True)


# The limit


def limit(method: str) -> Contender:
    """A loop over the same arrays, read and written once, that only adds."""

    def build(problem: Problem) -> Run:
        from benchmarks.limit import add_3, add_4

        def full(value: float, dtype: Any = np.float32) -> Any:
            return np.full(problem.elements, value, dtype)

        whole = np.complex64 if problem.is_complex else np.float32
        sets = itertools.cycle([[full(1e-3, whole)] for _ in range(SETS)])
        arrays = [full(0, whole), full(0, whole), *(full(0) for _ in range(ARRAYS[method] // 2 - 2))]
        loop = add_4 if ARRAYS[method] == 9 else add_3
        return Run(lambda: next(sets), lambda grads: loop(*grads, *arrays), lambda: arrays)

    return Contender("limit: a loop that only adds", method, build, None)


COMPACT_RTOL = 0.05
"""Slots of 8 bits: each is off by up to 1 part in 128."""

METHODS: tuple[Method, ...] = (AdaMod(), Adam(), RAdam())
EXACT = RAdam(threshold=5, variant="reference")  # what PyTorch calls RAdam

ALL: list[Contender] = [
    *(limit(method) for method in ARRAYS),
    *map(ours("numpy", "NumPy + Numba, donated"), METHODS),
    *map(ours("numpy", "NumPy + Numba, fresh", donate=False), METHODS[:2]),
    *map(ours("numpy", "NumPy alone, donated", engine="eager"), METHODS[:2]),
    *map(ours("torch", "PyTorch, donated"), METHODS),
    *map(ours("torch", "PyTorch, fresh", donate=False), METHODS[:2]),
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
GUESTS = {
    "AdaMod": [
        *map(find, ("Adam | optax adam, jitted, donated", f"Adam | {NUMBA}", f"Adam | {TORCH}")),
        *compact(AdaMod(), m="bfloat16", s="bfloat16"),
    ],
    "Adam": [
        ours("torch, plain tensors", "PyTorch, plain tensors, donated")(Adam()),
        *compact(Adam(), m="bfloat16", v="bfloat16"),
    ],
}
"""Timed in a method's heat for a bar, without a row in the table."""
