"""Modes of a call: NumPy's warnings, PyTorch's autograd and compiler, JAX's width of numbers."""

from __future__ import annotations

import contextvars
import functools
import sys
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
        width = _width(jax)
        wide = None if width is None else width.get_local()
        try:  # NumPy's modes are a part of the context
            return contextvars.copy_context().run(function, *args, **kwargs)
        except BaseException:
            if torch is not None and torch.is_grad_enabled() != gradients:
                torch.set_grad_enabled(gradients)
            if width is not None:
                width.set_local(wide)
            raise

    return call


def untraced(function: Callable[Arguments, Result]) -> Callable[Arguments, Result]:
    """Return the function as PyTorch's compiler calls it and does not look into it.

    Where the graph of a user's ``torch.compile`` breaks, each Python function that is called next is traced by itself.
    """
    if sys.modules.get("torch._dynamo") is None:  # nobody compiles
        return function
    hidden = _UNTRACED.get(function)
    if hidden is None:
        hidden = _UNTRACED[function] = framework("torch").compiler.disable(function)
    return hidden


_UNTRACED: dict[Callable[..., Any], Callable[..., Any]] = {}


def _width(jax: Any) -> Any:
    """Return what knows whether JAX's arrays may be wide in this thread, which may have no value of its own.

    The object is public, and the methods asked for here are not documented: None where they are gone.
    """
    width = getattr(jax, "enable_x64", None)
    return width if hasattr(width, "get_local") and hasattr(width, "set_local") else None
