"""What others do: NumPy as anyone writes it, PyTorch's optimizers, optax's, and those with PyTorch's interface."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np

from adamod_array import Method
from benchmarks.contender import FRAMEWORKS, Contender, Run
from benchmarks.problem import LR, Problem

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
        params = problem.params()
        leaves = [[p, *(np.copy(p) for _ in method.slots)] for p in params]
        t = 0

        def step(grads: Iterable[Any]) -> None:
            nonlocal t
            t += 1
            for i, g in enumerate(grads):
                leaves[i] = update(t, g, *leaves[i])

        return Run(FRAMEWORKS["numpy"]().backward(problem, params), step, lambda: [leaf[0] for leaf in leaves])

    return Contender("naive NumPy", type(method).__name__, build, method)


# PyTorch's optimizers


def torch_optimizer(
    name: str, expected: Method, module: str, cls: str, *, rtol: float = 1e-4, arrays: str = "torch", **options: Any
) -> Contender:
    """An optimizer with PyTorch's interface."""

    def build(problem: Problem) -> Run:
        framework = FRAMEWORKS[arrays]()
        params = framework.params(problem)
        optimizer = getattr(importlib.import_module(module), cls)(params, lr=LR, **options)
        return Run(framework.backward(problem, params), lambda grads: optimizer.step(), lambda: params)

    return Contender(name, type(expected).__name__, build, expected, rtol=rtol)


# optax


def optax_optimizer(expected: Method, cls: str, *, rtol: float = 1e-4, arrays: str = "jax") -> Contender:
    """Update and apply, jitted, with parameters and state donated."""

    def build(problem: Problem) -> Run:
        import jax
        import optax

        framework = FRAMEWORKS[arrays]()
        optimizer = getattr(optax, cls)(LR)
        params = framework.params(problem)
        state = optimizer.init(params)

        def update(params: Any, state: Any, grads: Any) -> Any:
            updates, state = optimizer.update(grads, state, params)
            return optax.apply_updates(params, updates), state

        compiled = jax.jit(update, donate_argnums=(0, 1))

        def step(grads: Iterable[Any]) -> None:
            nonlocal params, state
            params, state = compiled(params, state, list(grads))
            framework.wait(params)

        return Run(framework.backward(problem, params), step, lambda: list(params))

    return Contender(f"optax {cls}, jitted, donated", type(expected).__name__, build, expected, rtol=rtol)
