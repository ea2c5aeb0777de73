"""Words, unsigned integers of 32 bits that wrap, in namespaces of frameworks: what stochastic rounding is made of."""

from __future__ import annotations

import functools
import operator
import sys
from collections.abc import Callable
from typing import Any

import numpy as np

from adamod_array._namespace import Namespace
from adamod_array._program.rounding import Do

Table = dict[str, Callable[..., Any]]


def doing(namespace: Namespace) -> Do:
    """Return ``do(name, *operands)`` of a namespace, which :mod:`adamod_array._program.rounding` asks for."""
    table = table_of(namespace.name)
    return lambda name, *operands: table[name](*operands)


@functools.cache
def table_of(framework: str) -> Table:
    """Return the operations on words, of arrays and of Python's ints, by their names in a Program."""
    return {"torch": _torch, "jax": _jax}.get(framework, _numpy)(sys.modules[framework])


def counted(namespace: Namespace, first: int, like: Any) -> Any:
    """Return the index of every element of an array, in C order and from ``first`` on, as words."""
    xp, shape = namespace.xp, tuple(like.shape)
    if namespace.name == "jax":
        return iota(first, shape)
    if namespace.name == "torch":
        return counted_by_torch(first, like)
    return (xp.arange(like.size, dtype=xp.uint64) + np.uint64(first)).astype(xp.uint32).reshape(shape)


def counted_by_torch(first: int, like: Any) -> Any:
    """Return :func:`counted` of a tensor."""
    torch = sys.modules["torch"]
    return (torch.arange(like.numel(), dtype=torch.int64, device=like.device).reshape(like.shape) + first) & _ALL


def iota(first: Any, shape: tuple[Any, ...]) -> Any:
    """Return the index as a sum over dimensions, which XLA computes where it is used, also of an array in parts."""
    jax = sys.modules["jax"]
    index, step = jax.numpy.full(shape, first, "uint32"), 1
    for k in reversed(range(len(shape))):
        index = index + jax.lax.broadcasted_iota("uint32", shape, k) * jax.numpy.asarray(step % 2**32, "uint32")
        step *= shape[k]
    return index


_ALL = 0xFFFFFFFF

_OPERATORS: Table = {
    "add32": operator.add,
    "mul32": operator.mul,
    "xor32": operator.xor,
    "and32": operator.and_,
    "or32": operator.or_,
    "shr32": operator.rshift,
    "lt32": operator.lt,
}


def _of_words(xp: Any) -> Table:
    """Return the operations where there is uint32."""

    def function(do: Callable[..., Any]) -> Callable[..., Any]:
        return lambda a, b: do(*(xp.uint32(x) if type(x) is int else x for x in (a, b)))

    return {name: function(do) for name, do in _OPERATORS.items()} | {"where": xp.where}


def _numpy(xp: Any) -> Table:
    views = {"bits": lambda x: x.view(xp.uint32), "unbits": lambda x: x.view(xp.float32)}
    return _of_words(xp) | views | {"word": lambda x: x.astype(xp.uint32)}


def _jax(jax: Any) -> Table:
    cast = jax.lax.bitcast_convert_type
    views = {"bits": lambda x: cast(x, "uint32"), "unbits": lambda x: cast(x, "float32")}
    return _of_words(jax.numpy) | views | {"word": lambda x: jax.numpy.asarray(x).astype("uint32")}


def _torch(torch: Any) -> Table:
    """Return the operations on int64, of which words are the lower half: PyTorch does little with uint32."""
    return _OPERATORS | {
        "add32": lambda a, b: (a + b) & _ALL,
        "mul32": lambda a, b: (a * b) & _ALL,
        "where": torch.where,
        "bits": lambda x: x.view(torch.int32).to(torch.int64) & _ALL,
        "unbits": lambda x: x.to(torch.int32).view(torch.float32),
        "word": lambda x: x.to(torch.int64) if isinstance(x, torch.Tensor) else int(x),
    }
