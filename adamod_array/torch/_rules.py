"""Rules of PyTorch's optimizers around the rules of the methods: decay added to the gradient, and maximising."""

from __future__ import annotations

import copy
import dataclasses
import functools
from typing import Any

from adamod_array._method import Method


@dataclasses.dataclass(frozen=True)
class Descent(Method):
    """Take plain gradient descent, which keeps nothing."""

    def rule(self, xp: Any, lr: Any, c: Any, g: Any, p: Any) -> tuple[Any, ...]:
        """Take a step along the gradient."""
        return (p - lr * g,)


@functools.lru_cache(maxsize=256)
def coupled(method: Method, decay: float, maximize: bool) -> Method:
    """Return a method whose gradient has ``decay`` times the parameter added (PyTorch's L2), or another sign."""
    if not decay and not maximize:
        return method
    kind: Any = type(method)
    new = copy.copy(method)
    for name, value in (("__class__", _coupled(kind)), ("coupled_decay", decay), ("maximize", maximize)):
        object.__setattr__(new, name, value)
    return new


@functools.lru_cache(maxsize=256)
def _coupled(method: Any) -> Any:
    """Return the class of such methods; the decay is a constant of a kernel, so that a new one compiles nothing."""

    def rule(self: Any, xp: Any, lr: Any, c: Any, g: Any, p: Any, *slots: Any) -> tuple[Any, ...]:
        if self.maximize:
            g = -g
        if self.coupled_decay:
            g = g + self.coupled_decay * p
        new: tuple[Any, ...] = method.rule(self, xp, lr, c, g, p, *slots)
        return new

    fields = [
        ("coupled_decay", float, dataclasses.field(default=0.0)),
        ("maximize", bool, dataclasses.field(default=False)),
    ]
    return dataclasses.make_dataclass(
        method.__name__, fields, bases=(method,), frozen=True, namespace={"rule": rule, "__module__": __name__}
    )
