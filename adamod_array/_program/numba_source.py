"""A Program as a loop over memory, in the Python that Numba compiles.

The kernel gets addresses, not arrays, and takes every leaf of a tree in one call. Loads and stores
carry LLVM's alias scopes (two arrays never overlap, each may be rewritten in place), without which
the loop does not vectorise.
"""

from __future__ import annotations

from typing import ClassVar

from adamod_array._namespace import COMPUTE_DTYPE, SIZE
from adamod_array._program.program import INDEX, Program
from adamod_array._program.render import Renderer
from adamod_array._program.rounding import WORDS

BLOCK = 8192
"""Elements that a thread takes at a time: small enough to share out, large enough to forget the cost."""

LINE = 64
"""Bytes of a cache line."""
_PIECE, _AHEAD = 4, 16
"""Lines of each array stepped before the next ones are asked for, and how far ahead those are. A processor fetches a
loop's arrays by itself, but not early enough beside a division and a root: that cost an eighth of the limit's speed."""


_WORD_OPERANDS = {name: 1 if name in ("word", "bits", "unbits") else 2 for name in WORDS}


class _Numba(Renderer):
    operations: ClassVar = Renderer.operations | {
        "sqrt": "np.sqrt({})",
        "exp": "np.exp({})",
        "minimum": "minimum({}, {})",
        "maximum": "maximum({}, {})",
        "where": "{1} if {0} else {2}",
        **{name: f"{name}({', '.join(['{}'] * n)})" for name, n in _WORD_OPERANDS.items()},
    }


def source(program: Program, storage: str, gradient_storage: str, *, donate: bool, threads: bool) -> str:
    """Return the kernel as a Python module.

    Of a program that rounds stochastically, the last row of ``addresses`` holds the first counter of each leaf.
    Arrays that are worth threads are too large for the caches, and are asked for ahead of time.
    """
    compute = COMPUTE_DTYPE[storage]
    arrays = [name for name, _ in program.arrays]
    dtypes = dict.fromkeys(arrays, compute) | {"g": gradient_storage, "p": storage}
    dtypes |= {name: dtype for name, dtype in zip(arrays[2:], program.slot_dtypes, strict=True) if dtype}
    written = ["p", *arrays[2:]]
    columns = arrays if donate else [*arrays, *(f"{name}_new" for name in written)]
    write = _Numba()
    body = [f"{x.result} = {write.expression(x)}" for x in program.operations]
    stores = [
        f"store_{name}(at_{name if donate else name + '_new'}, i, {write.name(x)})"
        for name, x in zip(written, program.outputs, strict=True)
    ]
    cut = {written[k] for k in program.rounded}
    head = [
        "import numpy as np",
        "from numba import prange",
        "from adamod_array._engines.numba_memory import maximum, memory, minimum, prefetch",
        f"fetch_g, fetch = prefetch(False), prefetch({donate})",
    ]
    if program.rounded:
        head.insert(3, f"from adamod_array._engines.numba_words import {', '.join(sorted(WORDS))}, use_widest_vectors")
    for j, column in enumerate(columns):
        name = column.removesuffix("_new")
        load, store = f"load_{column}", f"store_{name}"
        at = f"memory({dtypes[name]!r}, {j}, {len(columns)}{', cut=True' if name in cut else ''})"
        if donate:
            head.append(f"{load}, {store} = {at}")
        else:
            head.append(f"{load if column == name else store} = {at}[{int(column != name)}]")
    n = LINE // SIZE[compute]
    ahead = [
        f"for i in range(start + {_AHEAD * n}, start + {(_AHEAD + _PIECE) * n}, {n}):",
        *(f"    {'fetch_g' if name == 'g' else 'fetch'}(at_{name} + i * {SIZE[dtypes[name]]})" for name in arrays),
    ]
    lines = [
        "for b in prange(leaf_of.size):",
        "    leaf = leaf_of[b]",
        "    row = scalars[row_of[leaf]]",
        *(f"    at_{column} = addresses[{j}, leaf]" for j, column in enumerate(columns)),
        *(f"    {name} = row[{j}]" for j, name in enumerate(program.scalars)),
        *([f"    first = addresses[{len(columns)}, leaf]"] if program.rounded else []),
        f"    stop = min(start_of[b] + {BLOCK}, sizes[leaf])",
        f"    for start in range(start_of[b], stop, {_PIECE * n if threads else BLOCK}):",
        *(f"        {statement}" for statement in (ahead if threads else [])),
        f"        for i in range(start, min(start + {_PIECE * n}, stop)):"
        if threads
        else "        for i in range(start, stop):",
        *(f"            {name} = load_{name}(at_{name}, i)" for name in arrays),
        *([f"            {INDEX} = add32(first, i)"] if program.rounded else []),
        *(f"            {statement}" for statement in [*body, *stores]),
    ]
    if program.rounded:
        lines.insert(0, "use_widest_vectors()")
    kernel = ["def kernel(addresses, sizes, row_of, leaf_of, start_of, scalars):", *("    " + each for each in lines)]
    return "\n".join([*head, "", "", *kernel, ""])
