"""A rule's straight line as one loop over memory, compiled by Numba.

The kernel gets addresses, not arrays, and takes every leaf of a tree in one call. Loads and stores
carry LLVM's alias scopes (two arrays never overlap, each may be rewritten in place), without which
the loop does not vectorise.
"""

from __future__ import annotations

import functools
import hashlib
import sys
import types
from collections.abc import Sequence
from typing import Any

import numba
import numpy as np

from adamod_array import __version__
from adamod_array._kernels.cache import SOURCES, compiled
from adamod_array._kernels.memory import SIZE, converts_float16
from adamod_array._kernels.trace import Line
from adamod_array._namespace import COMPUTE_DTYPE

STORAGE = ("float16", "bfloat16", "float32", "float64")[0 if converts_float16() else 1 :]
"""Dtypes of parameters that kernels take; complex arrays are stepped eagerly."""
BLOCK = 8192
"""Elements that a thread takes at a time: small enough to share out, large enough to forget the cost."""
SERIAL = 1 << 17
"""Up to so many elements, waking other threads costs more than they save, and on a busy machine far more."""

_LINE = 64
"""Bytes of a cache line."""
_PIECE, _AHEAD = 4, 16
"""Lines of each array stepped before the next ones are asked for, and how far ahead those are. A processor fetches a
loop's arrays by itself, but not early enough beside a division and a root: that cost an eighth of the limit's speed."""

_TEXT = {
    "add": "{} + {}",
    "sub": "{} - {}",
    "mul": "{} * {}",
    "div": "{} / {}",
    "neg": "-{}",
    "abs": "abs({})",
    "sqrt": "np.sqrt({})",
    "exp": "np.exp({})",
    "minimum": "minimum({}, {})",
    "maximum": "maximum({}, {})",
    "where": "{1} if {0} else {2}",
    "lt": "{} < {}",
    "le": "{} <= {}",
    "gt": "{} > {}",
    "ge": "{} >= {}",
    "eq": "{} == {}",
    "ne": "{} != {}",
}


def source(
    line: Line, storage: str, gradient_storage: str, *, donate: bool, threads: bool
) -> tuple[str, tuple[float, ...]]:
    """The kernel as a Python module, and the constants that follow its scalars.

    Constants are arguments: methods that differ in hyperparameters alone share a kernel. Arrays that
    are worth threads are too large for the caches, and are asked for ahead of time.
    """
    compute = COMPUTE_DTYPE[storage]
    arrays = [name for name, _ in line.arrays]
    dtypes = dict.fromkeys(arrays, compute) | {"g": gradient_storage, "p": storage}
    written = ["p", *arrays[2:]]
    columns = arrays if donate else [*arrays, *(f"{name}_new" for name in written)]
    constants: dict[str, str] = {}  # by repr: 0.0 and -0.0 are two

    def text(x: str | float) -> str:
        return x if isinstance(x, str) else constants.setdefault(repr(x), f"k{len(constants)}")

    body = [f"{x.result} = {_TEXT[x.name].format(*map(text, x.operands))}" for x in line.operations]
    stores = [
        f"store_{name}(at_{name if donate else name + '_new'}, i, {text(x)})"
        for name, x in zip(written, line.outputs, strict=True)
    ]
    head = [
        "import numpy as np",
        "from numba import prange",
        "from adamod_array._kernels.memory import maximum, memory, minimum, prefetch",
        f"fetch_g, fetch = prefetch(False), prefetch({donate})",
    ]
    for j, column in enumerate(columns):
        name = column.removesuffix("_new")
        load, store = f"load_{column}", f"store_{name}"
        at = f"memory({dtypes[name]!r}, {j}, {len(columns)})"
        if donate:
            head.append(f"{load}, {store} = {at}")
        else:
            head.append(f"{load if column == name else store} = {at}[{int(column != name)}]")
    scalars = [*line.scalars, *constants.values()]
    n = _LINE // SIZE[compute]
    ahead = [
        f"for i in range(start + {_AHEAD * n}, start + {(_AHEAD + _PIECE) * n}, {n}):",
        *(f"    {'fetch_g' if name == 'g' else 'fetch'}(at_{name} + i * {SIZE[dtypes[name]]})" for name in arrays),
    ]
    lines = [
        "for b in prange(leaf_of.size):",
        "    leaf = leaf_of[b]",
        "    row = scalars[row_of[leaf]]",
        *(f"    at_{column} = addresses[{j}, leaf]" for j, column in enumerate(columns)),
        *(f"    {name} = row[{j}]" for j, name in enumerate(scalars)),
        f"    stop = min(start_of[b] + {BLOCK}, sizes[leaf])",
        f"    for start in range(start_of[b], stop, {_PIECE * n if threads else BLOCK}):",
        *(f"        {statement}" for statement in (ahead if threads else [])),
        f"        for i in range(start, min(start + {_PIECE * n}, stop)):"
        if threads
        else "        for i in range(start, stop):",
        *(f"            {name} = load_{name}(at_{name}, i)" for name in arrays),
        *(f"            {statement}" for statement in [*body, *stores]),
    ]
    kernel = ["def kernel(addresses, sizes, row_of, leaf_of, start_of, scalars):", *("    " + each for each in lines)]
    return "\n".join([*head, "", "", *kernel, ""]), tuple(map(float, constants))


def stamp(text: str) -> str:
    """A name for a kernel's source, with all that it is compiled with."""
    versions = f"{numba.__version__} {__version__} ".encode()
    return hashlib.sha256(versions + SOURCES + text.encode()).hexdigest()[:20]


@functools.cache
def compiled_kernel(text: str, compute: str, threads: bool) -> Any:
    """Compiled once per source text in a process, and kept on disk for the next one where that is allowed."""
    module = types.ModuleType(f"{__package__}.kernel_{stamp(text)}{'' if threads else '_serial'}")
    sys.modules[module.__name__] = module  # Numba looks there when it loads a kernel
    exec(compile(text, f"<{module.__name__}>", "exec"), module.__dict__)
    vector, number = numba.types.int64[::1], getattr(numba.types, compute)
    signature = numba.types.void(numba.types.int64[:, ::1], vector, vector, vector, vector, number[:, ::1])
    how = {"parallel": threads, "error_model": "numpy", "nogil": True, "boundscheck": False}
    return compiled(signature, text, **how)(module.kernel)


def rows_of(
    pairs: Sequence[tuple[Any, Any]], decay: bool, c: tuple[Any, ...], constants: tuple[float, ...]
) -> list[tuple[Any, ...]]:
    """A kernel's scalars for each pair of rate and decay factor, in the order of its source, unrounded."""
    return [
        (lr, 1.0 if factor is None else factor, *c, *constants) if decay else (lr, *c, *constants)
        for lr, factor in pairs
    ]


@functools.lru_cache(maxsize=256)
def blocks(sizes: tuple[int, ...]) -> tuple[Any, Any, Any]:
    """The sizes as an array; leaf and first element of every block."""
    counts = [-(-size // BLOCK) for size in sizes]
    leaf_of = np.repeat(np.arange(len(sizes)), counts)
    start_of = np.concatenate([np.arange(count) for count in counts] or [np.arange(0)]) * BLOCK
    return np.asarray(sizes, np.int64), leaf_of, start_of
