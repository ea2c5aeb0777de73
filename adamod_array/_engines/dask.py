"""Dask: one task a chunk, in which the chunk is stepped by the engine of its own framework: NumPy's kernel.

A task returns the parameter and the slots of its chunk together, as one :class:`Stepped`. The arrays of a state read
theirs out of it, in tasks that Dask fuses into those of the next step: of a step, nothing else is computed.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import dask.array as da
import numpy as np
from dask.base import tokenize

from adamod_array import _check
from adamod_array._engines import Columns, StepInputs, eager, put
from adamod_array._engines import run as run_chunk
from adamod_array._method import Method
from adamod_array._namespace import is_complex, namespace_of
from adamod_array._program.trace import trace
from adamod_array._scalars import NOTHING, Scalars

STEP, READ = "adamod_array-step", "adamod_array-read"
"""How the names of stepped chunks begin, and of what is read out of them; dashboards and profiles show them."""


class Stepped:
    """The new arrays of one chunk: the parameter, then each slot. No tuple, which Dask would search for tasks."""

    def __init__(self, arrays: tuple[Any, ...]) -> None:
        self.arrays = arrays

    def __sizeof__(self) -> int:
        """Return the bytes of the arrays, by which Dask places and spills chunks."""
        return int(object.__sizeof__(self) + sum(x.nbytes for x in self.arrays))


def read(stepped: Stepped, k: int) -> Any:
    """Return one of the arrays of a chunk."""
    return stepped.arrays[k]


@dataclass(frozen=True)
class ChunkStep:
    """The step of any chunk of one leaf: what a worker is sent."""

    method: Method
    numbers: tuple[Any, ...]
    """Learning rate, decay factor (None where there is no decay), what all leaves share, and coefficients; None where
    the number is computed by Dask, and comes as an argument."""
    lazy: tuple[int, ...]
    """Which those are."""
    common: tuple[str, ...]
    """The names of what all leaves share."""

    def __call__(self, *arguments: Any) -> Stepped:
        """Return the new arrays of a chunk; the arguments are numbers of Dask's, gradient, parameter and slots."""
        numbers = [*self.numbers]
        for k, number in zip(self.lazy, arguments, strict=False):
            numbers[k] = number[()]
        g, p, *slots = (np.asarray(x) if isinstance(x, np.generic) else x for x in arguments[len(self.lazy) :])
        namespace = _check.params([p], lambda _: "a chunk of the parameter")
        assert namespace is not None
        for x, what in zip((g, *slots), ("the gradient", *self.method.slots), strict=True):
            _check.like_parameter(namespace, p, x, functools.partial("a chunk of {}".format, what))
        lr, decay, *rest = numbers
        n = len(self.common)
        common = dict(zip(self.common, rest, strict=False)) if n else NOTHING
        scalars = Scalars([(lr, decay)], (0,), (self.method,), (0,), [tuple(rest[n:])], common)
        new = run_chunk(StepInputs(namespace, scalars, [g], [[x] for x in (p, *slots)]), donate=False)
        return Stepped(tuple([x for (x,) in new]))


def run(inputs: StepInputs, donate: bool) -> Columns:
    """Step every leaf, a task a chunk; eagerly, by Dask's own operations, where chunks are arrays of no framework.

    No chunk is written: Dask may compute it again, or for somebody else.
    """
    fallback = [i for i, p in enumerate(inputs.params) if namespace_of(p._meta) is None]
    columns = inputs.columns
    if fallback:
        columns = put(eager.run(inputs.subset(fallback), donate), fallback, columns)
    known = [i for i in range(len(inputs.params)) if i not in fallback]
    new = [_step(inputs, i) for i in known]
    return put([[arrays[k] for arrays in new] for k in range(len(columns))], known, columns)


def _step(inputs: StepInputs, leaf: int) -> list[Any]:
    """Return the new parameter and slots of a leaf."""
    p, *slots = old = [xs[leaf] for xs in inputs.columns]
    arrays = [x if x is p else x.rechunk(p.chunks) for x in (inputs.grads[leaf], p, *slots)]
    function, lazy = _chunk_step(inputs.scalars, leaf)
    axes = tuple(range(p.ndim))
    operands: list[Any] = []
    for x, indices in (*((x, ()) for x in lazy), *((x, axes) for x in arrays)):
        operands += [x, indices]
    decay = function.numbers[1] is not None or 1 in function.lazy
    program = trace(function.method, decay=decay, complex_parameter=is_complex(p), common=function.common)
    # a class of this name may come to have another rule
    token = tokenize(function, program, [x.name for x in (*lazy, *arrays)])
    meta = np.empty((0,) * p.ndim, object)
    stepped = da.blockwise(
        function, axes, *operands, name=f"{STEP}-{token}", align_arrays=False, dtype=object, meta=meta
    )
    return _read_out_of(da.Array(stepped.dask, stepped.name, p.chunks, meta=meta), old)


def _chunk_step(scalars: Scalars, leaf: int) -> tuple[ChunkStep, list[Any]]:
    """Return the step of a leaf's chunks, and the numbers that Dask computes."""
    row = scalars.rate_index[leaf]
    numbers = [*scalars.rates[row], *scalars.common.values(), *scalars.coefficients[scalars.method_index[row]]]
    lazy = [k for k, x in enumerate(numbers) if isinstance(x, da.Array)]
    known = tuple([None if k in lazy else x for k, x in enumerate(numbers)])
    return ChunkStep(scalars.method(leaf), known, tuple(lazy), scalars.names), [numbers[k] for k in lazy]


def _read_out_of(stepped: Any, old: Sequence[Any]) -> list[Any]:
    """Return the arrays of one leaf, read out of its stepped chunks; each has the dtype and chunks of the old one."""
    axes = tuple(range(stepped.ndim))
    return [
        da.blockwise(read, axes, stepped, axes, k, None, name=name, align_arrays=False, dtype=x.dtype, meta=x._meta)
        for k, (name, x) in enumerate(zip(_names(stepped.name, len(old)), old, strict=True))
    ]


def _names(stepped: str, n: int) -> list[str]:
    """Return the names of the arrays that are read out of stepped chunks of this name."""
    return [f"{READ}{stepped.removeprefix(STEP)}-{k}" for k in range(n)]


def persisted(leaves: Sequence[Sequence[Any]], persist: Callable[..., Any]) -> list[Sequence[Any]]:
    """Return the columns of each leaf, computed by one call of ``persist``: of a step, the stepped chunks alone."""
    steps = [_stepped_of(columns) for columns in leaves]
    asked = [columns if each is None else [each] for each, columns in zip(steps, leaves, strict=True)]
    found = iter(persist(*itertools.chain(*asked)))
    new = [[next(found) for _ in each] for each in asked]
    pairs = zip(steps, new, leaves, strict=True)
    return [now if each is None else _read_out_of(now[0], old) for each, now, old in pairs]


def _stepped_of(columns: Sequence[Any]) -> Any:
    """Return the stepped chunks that the arrays of a leaf are read out of; None of any other arrays."""
    p = columns[0]
    name = STEP + p.name.removeprefix(READ).removesuffix("-0")
    layers = getattr(p.dask, "layers", ())
    if name not in layers or [x.name for x in columns] != _names(name, len(columns)):
        return None
    return da.Array(p.dask.cull_layers([name]), name, p.chunks, meta=np.empty((0,) * p.ndim, object))
