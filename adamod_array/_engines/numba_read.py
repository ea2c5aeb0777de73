"""What is asked of gradients on the CPU before a step, in one read of memory: sums of squares, and a bound."""

from __future__ import annotations

import functools
import math
from collections.abc import Iterator, Sequence
from typing import Any

import numba
import numpy as np

from adamod_array._engines.dense import is_dense
from adamod_array._engines.numba import has_threads, pool
from adamod_array._engines.numba_compile import SERIAL, STORAGE, blocks, compiled_loop
from adamod_array._engines.signatures import addresses_of
from adamod_array._late import lock
from adamod_array._namespace import COMPUTE_DTYPE, REAL_DTYPE, SIZE, SQUARE_ROOT, dtype_name
from adamod_array._program.numba_source import BLOCK, LINE


def total(what: str, framework: str, arrays: list[Any]) -> Any:
    """Return what is found in all numbers of the arrays, added in float64.

    ``"squares"``: their squares, right for float32 of whatever size. ``"outside"``: blocks in which a square is not
    finite in the dtype computed in; of complex numbers the square of the modulus, or a part is so near the bound that
    it is not sure.
    """
    with np.errstate(all="ignore"):
        return np.float64(sum(out.sum() for out in _read(what, framework, arrays)))


def is_readable(x: Any) -> bool:
    """Return whether an array has a dtype that kernels load, and lies in memory without gaps, in any order."""
    if not is_loaded(x):
        return False
    if isinstance(x, np.ndarray):
        return bool((x.flags.c_contiguous or x.flags.f_contiguous) and x.flags.aligned and x.dtype.isnative)
    return bool(x.is_contiguous() or is_dense(x.shape, x.stride()))


def is_loaded(x: Any) -> bool:
    """Return whether an array has a dtype that kernels load."""
    name = dtype_name(x)
    return REAL_DTYPE.get(name, name) in STORAGE


def by_dtype(arrays: Sequence[Any]) -> Iterator[tuple[Any, int, str, list[Any]]]:
    """Yield the arrays of each dtype: the bound of a number, how many numbers an element has, and their dtype."""
    alike: dict[str, list[Any]] = {}
    for x in arrays:
        alike.setdefault(dtype_name(x), []).append(x)
    for name, some in alike.items():
        storage = REAL_DTYPE.get(name, name)
        parts = 2 if storage != name else 1
        compute = np.dtype(COMPUTE_DTYPE[storage])
        yield compute.type(SQUARE_ROOT[compute.name] / parts), parts, storage, some


def _read(what: str, framework: str, arrays: list[Any]) -> Iterator[Any]:
    """Return one number for each block of the arrays of each dtype."""
    for bound, parts, storage, some in by_dtype(arrays):
        sizes = tuple([parts * math.prod(x.shape) for x in some])
        where = blocks(sizes)
        threads = sum(sizes) > SERIAL and not pool.forks and has_threads()
        with lock:
            kernel = compiled_read(what, storage, threads)
        out = np.empty(where[1].size, np.float64)
        if threads:
            with pool.lock:
                kernel(addresses_of(framework, some), *where, bound, out)
        else:
            kernel(addresses_of(framework, some), *where, bound, out)
        yield out


@functools.cache
def compiled_read(what: str, storage: str, threads: bool) -> Any:
    """Return the compiled loop for one dtype; a sum may be taken in any order, which lets it use whole vectors."""
    vector, number = numba.types.int64[::1], getattr(numba.types, COMPUTE_DTYPE[storage])
    signature = numba.types.void(vector, vector, vector, vector, number, numba.types.float64[::1])
    return compiled_loop(source(what, storage), signature, threads, fastmath={"reassoc"})


STREAMS = 8
"""Parts of a block that are read side by side: a processor waits less for one line where it asks for several."""
_PIECE, _AHEAD = 8, 32
"""Lines of each part read before the next ones are asked for, and how far ahead those are."""


@functools.cache
def source(what: str, storage: str) -> str:
    """Return the loop as a Python module."""
    begin, add = _LOOPS[what]
    size = SIZE[storage]
    n, part = LINE // size, BLOCK // STREAMS
    at = [f"i + {k * part}" for k in range(STREAMS)]
    return _SOURCE.format(
        storage=storage,
        block=BLOCK,
        begin=begin,
        part=part,
        piece=_PIECE * n,
        ahead=_AHEAD * n,
        line=n,
        fetches="; ".join(f"fetch(at + ({i}) * {size})" for i in at),
        adds="; ".join(add.format(f"load(at, {i})") for i in at),
        add=add.format("load(at, i)"),
    )


_LOOPS = {
    "squares": ("found = 0.0", "x = np.float64({}); found += x * x"),
    "outside": ("found = False", "found |= not (abs({}) < bound)"),
}
_SOURCE = """\
import numpy as np
from numba import prange
from adamod_array._engines.numba_memory import memory, prefetch

load, fetch = memory({storage!r}, 0, 1)[0], prefetch(False)


def kernel(addresses, sizes, leaf_of, start_of, bound, out):
    for b in prange(leaf_of.size):
        at, first = addresses[leaf_of[b]], start_of[b]
        stop = min(first + {block}, sizes[leaf_of[b]])
        {begin}
        if stop - first == {block}:
            for start in range(first, first + {part}, {piece}):
                next = start + {ahead}
                if next >= first + {part}:  # the same part of the next block
                    next += {block} - {part}
                for i in range(next, next + {piece}, {line}):
                    {fetches}
                for i in range(start, start + {piece}):
                    {adds}
        else:
            for i in range(first, stop):
                {add}
        out[b] = found
"""
