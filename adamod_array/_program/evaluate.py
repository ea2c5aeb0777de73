"""A Program of real numbers run over NumPy's arrays, a block at a time, in temporaries that are used again.

The operations are the rule's, in its order, and give its bits. What is saved is memory: an expression allocates an
array for every operation, and what the last ones left in the cache is lost.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from adamod_array._program.program import COMPARISONS, Program


class Evaluation:
    """The outputs of a program, block after block.

    Parameters
    ----------
    program : Program
        One of real numbers.
    scalars : sequence
        In the order of ``program.scalars``, in the dtype to compute in.
    dtype : dtype
        What is computed in.
    size : int
        Elements of the largest block.
    """

    def __init__(self, program: Program, scalars: Sequence[Any], dtype: Any, size: int) -> None:
        self._code, self._dtype = _scheduled(program), dtype
        self._scalars = [*scalars]
        first = len(program.arrays)
        for function, operands in self._code.among_scalars:
            self._scalars.append(function(*[self._scalars[i - first] for i in operands]))
        self._temporaries = [np.empty(size, bool if is_bool else dtype) for is_bool in self._code.temporaries]

    def __call__(self, *arrays: Any) -> list[Any]:
        """Return the new parameter and slots of a block of the gradient, the parameter and the slots.

        They are arrays of the block's size or scalars, and hold until the next call; one may be an input.
        """
        n, dtype = arrays[0].size, self._dtype
        values = [x if x.dtype == dtype else x.astype(dtype) for x in arrays]
        values += self._scalars
        values += [x if x.size == n else x[:n] for x in self._temporaries]
        for function, operands, result in self._code.operations:
            function(*[values[i] for i in operands], out=values[result])
        return [values[i] for i in self._code.outputs]


class _Code(NamedTuple):
    """A program whose values have places in one list: arrays, scalars, what is made of them, temporaries."""

    among_scalars: list[tuple[Callable[..., Any], list[int]]]
    operations: list[tuple[Callable[..., Any], list[int], int]]
    temporaries: list[bool]
    """Which hold comparisons."""
    outputs: list[int]


@functools.lru_cache(maxsize=256)
def _scheduled(program: Program) -> _Code:
    """Give every value a place; a temporary's is free again after its last use."""
    place = {name: i for i, name in enumerate((*(name for name, _ in program.arrays), *program.scalars))}
    scalars = {*program.scalars}
    among_scalars, others = [], []
    for x in program.operations:
        if scalars.issuperset(x.operands):
            among_scalars.append((OF_SCALARS[x.name], [place[y] for y in x.operands]))
            scalars.add(x.result)
            place[x.result] = len(place)
        else:
            others.append(x)
    last = {y: i for i, x in enumerate(others) for y in x.operands} | dict.fromkeys(program.outputs, len(others))
    first = len(place)
    temporaries: list[bool] = []
    free: list[int] = []
    operations = []
    for i, x in enumerate(others):
        operands, is_bool = [place[y] for y in x.operands], x.name in COMPARISONS
        dead = {place[y] for y in x.operands if last[y] == i and place[y] >= first}
        if x.name != "where":  # which is written in two parts, and may not overwrite what it reads
            free += dead
        spare = [k for k in free if temporaries[k - first] == is_bool]
        if spare:
            place[x.result] = spare[-1]
            free.remove(spare[-1])
        else:
            place[x.result] = first + len(temporaries)
            temporaries.append(is_bool)
        if x.name == "where":
            free += dead
        operations.append((_OF_ARRAYS[x.name], operands, place[x.result]))
    return _Code(among_scalars, operations, temporaries, [place[y] for y in program.outputs])


def _where(condition: Any, a: Any, b: Any, out: Any) -> None:
    np.copyto(out, b)
    np.copyto(out, a, where=condition)


_OF_ARRAYS: dict[str, Callable[..., Any]] = {
    "add": np.add,
    "sub": np.subtract,
    "mul": np.multiply,
    "div": np.divide,
    "neg": np.negative,
    "abs": np.abs,
    "sqrt": np.sqrt,
    "exp": np.exp,
    "minimum": np.minimum,
    "maximum": np.maximum,
    "lt": np.less,
    "le": np.less_equal,
    "gt": np.greater,
    "ge": np.greater_equal,
    "eq": np.equal,
    "ne": np.not_equal,
    "where": _where,
}
OF_SCALARS = _OF_ARRAYS | {"where": np.where}
