"""A Program of real numbers run over NumPy's arrays, a block at a time, in temporaries that are used again.

The operations are the rule's, in its order, and give its bits. What is saved is memory: an expression allocates an
array for every operation, and what the last ones left in the cache is lost.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from adamod_array._program.program import INDEX, Program


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
        self._scalars = [*scalars, *map(np.uint32, program.words.values())]
        first = len(program.arrays) + (1 if program.rounded else 0)
        for function, operands in self._code.among_scalars:
            self._scalars.append(function(*[self._scalars[i - first] for i in operands]))
        kinds = {"bool": bool, "word": np.uint32, "real": dtype}
        self._temporaries = [np.empty(size, kinds[kind]) for kind in self._code.temporaries]
        self._counts = np.arange(size, dtype=np.uint32) if program.rounded else None

    def __call__(self, *arrays: Any, first: int = 0) -> list[Any]:
        """Return the new parameter and slots of a block of the gradient, the parameter and the slots.

        ``first`` is the counter of the block's first element. Results are arrays of the block's size or scalars, and
        hold until the next call; one may be an input.
        """
        n, dtype = arrays[0].size, self._dtype
        values = [x if x.dtype == dtype else x.astype(dtype) for x in arrays]
        if self._counts is not None:
            values.append(self._counts[:n] + np.uint32(first % 2**32))
        values += self._scalars
        values += [x if x.size == n else x[:n] for x in self._temporaries]
        for function, operands, result in self._code.operations:
            function(*[values[i] for i in operands], out=values[result])
        return [values[i] for i in self._code.outputs]


class _Code(NamedTuple):
    """A program whose values have places in one list: arrays, scalars, what is made of them, temporaries."""

    among_scalars: list[tuple[Callable[..., Any], list[int]]]
    operations: list[tuple[Callable[..., Any], list[int], int]]
    temporaries: list[str]
    """The domain of what each holds."""
    outputs: list[int]


@functools.lru_cache(maxsize=256)
def _scheduled(program: Program) -> _Code:
    """Give every value a place; a temporary's is free again after its last use."""
    arrays = (*(name for name, _ in program.arrays), *([INDEX] if program.rounded else []))
    place = {name: i for i, name in enumerate((*arrays, *program.scalars, *program.words))}
    scalars = {*program.scalars, *program.words}
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
    temporaries: list[str] = []
    free: list[int] = []
    operations = []
    for i, x in enumerate(others):
        operands = [place[y] for y in x.operands]
        dead = {place[y] for y in x.operands if last[y] == i and place[y] >= first}
        if x.name != "where":  # which is written in two parts, and may not overwrite what it reads
            free += dead
        spare = [k for k in free if temporaries[k - first] == x.domain]
        if spare:
            place[x.result] = spare[-1]
            free.remove(spare[-1])
        else:
            place[x.result] = first + len(temporaries)
            temporaries.append(x.domain)
        if x.name == "where":
            free += dead
        operations.append((_OF_ARRAYS[x.name], operands, place[x.result]))
    return _Code(among_scalars, operations, temporaries, [place[y] for y in program.outputs])


def _where(condition: Any, a: Any, b: Any, out: Any) -> None:
    np.copyto(out, b)
    np.copyto(out, a, where=condition)


def _bits(x: Any, out: Any) -> None:
    np.copyto(out, x.view(np.uint32))


def _unbits(x: Any, out: Any) -> None:
    np.copyto(out, x.view(np.float32))


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
    "bits": _bits,
    "unbits": _unbits,
    "add32": np.add,
    "mul32": np.multiply,
    "xor32": np.bitwise_xor,
    "and32": np.bitwise_and,
    "or32": np.bitwise_or,
    "shr32": np.right_shift,
    "lt32": np.less,
}
OF_SCALARS = _OF_ARRAYS | {
    "where": np.where,
    "word": np.uint32,
    "bits": lambda x: np.float32(x).view(np.uint32),
    "unbits": lambda x: np.uint32(x).view(np.float32),
}
