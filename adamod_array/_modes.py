"""Modes that a call sets for the time it takes: NumPy's warnings, PyTorch's autograd, JAX's width of numbers."""

from __future__ import annotations

import contextvars
import functools
from collections.abc import Callable
from typing import Any, ParamSpec, TypeVar

from adamod_array._namespace import framework

Arguments = ParamSpec("Arguments")
Result = TypeVar("Result")


def contained(function: Callable[Arguments, Result]) -> Callable[Arguments, Result]:
    """Decorate a function so that the modes it sets end with it, whatever it raises.

    A ``with`` alone does not promise that: Ctrl-C may come in a context's ``__enter__`` just after the mode was set,
    or in its ``__exit__`` just before it is put back, and a notebook goes on without gradients.
    """

    @functools.wraps(function)
    def call(*args: Arguments.args, **kwargs: Arguments.kwargs) -> Result:
        torch, jax = framework("torch"), framework("jax")
        if torch is not None and torch.compiler.is_compiling():  # into a graph, which no interrupt enters
            return function(*args, **kwargs)
        gradients = torch is not None and torch.is_grad_enabled()
        wide = jax is not None and jax.config.jax_enable_x64
        try:  # NumPy's modes are a part of the context
            return contextvars.copy_context().run(function, *args, **kwargs)
        except BaseException:
            _restore(torch, gradients, jax, wide)
            raise

    return call


def _restore(torch: Any, gradients: bool, jax: Any, wide: bool) -> None:
    if torch is not None and torch.is_grad_enabled() != gradients:
        torch.set_grad_enabled(gradients)
    if jax is not None and jax.config.jax_enable_x64 != wide:
        jax.enable_x64(wide).__enter__()  # a value of this thread's alone is set by a context only
