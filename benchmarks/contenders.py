"""Who takes part: this library, its peers, and the limit that none can pass."""

from __future__ import annotations

import importlib
from collections.abc import Callable

import numpy as np

import adamod_array
from adamod_array import Adam, AdaMod, Method, RAdam
from benchmarks.contender import ARRAYS, FRAMEWORKS, Contender, Run
from benchmarks.peers import naive, naive_adam, naive_adamod, optax_optimizer, torch_optimizer
from benchmarks.problem import LR, Problem


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
            if module in ("numpy", "torch", "jax") and engine == "auto":
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
EXACT = RAdam(threshold=5, variant="reference")  # what PyTorch calls RAdam

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
