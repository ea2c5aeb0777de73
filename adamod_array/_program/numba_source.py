"""A Program as a loop over memory, in the Python that Numba compiles.

The kernel gets addresses, not arrays, and takes every leaf of a tree in one call. Loads and stores
carry LLVM's alias scopes (two arrays never overlap, each may be rewritten in place), without which
the loop does not vectorise.
"""

from __future__ import annotations

from typing import ClassVar

from adamod_array._namespace import COMPUTE_DTYPE, SIZE
from adamod_array._program.program import Program
from adamod_array._program.render import Renderer

BLOCK = 8192
"""Elements that a thread takes at a time: small enough to share out, large enough to forget the cost."""

LINE = 64
"""Bytes of a cache line."""
_PIECE, _AHEAD = 4, 16
"""Lines of each array stepped before the next ones are asked for, and how far ahead those are. A processor fetches a
loop's arrays by itself, but not early enough beside a division and a root: that cost an eighth of the limit's speed."""


class _Numba(Renderer):
    operations: ClassVar = Renderer.operations | {
        "sqrt": "np.sqrt({})",
        "exp": "np.exp({})",
        "minimum": "minimum({}, {})",
        "maximum": "maximum({}, {})",
        "where": "{1} if {0} else {2}",
    }


def source(program: Program, storage: str, gradient_storage: str, *, donate: bool, threads: bool) -> str:
    """Return the kernel as a Python module.

    Arrays that are worth threads are too large for the caches, and are asked for ahead of time. New ones are then
    written past the caches, by way of a buffer for each, where all of a leaf's begin with a cache line.
    """
    compute = COMPUTE_DTYPE[storage]
    arrays = [name for name, _ in program.arrays]
    dtypes = dict.fromkeys(arrays, compute) | {"g": gradient_storage, "p": storage}
    written = ["p", *arrays[2:]]
    columns = arrays if donate else [*arrays, *(f"{name}_new" for name in written)]
    streams = threads and not donate
    write = _Numba()
    body = [f"{x.result} = {write.expression(x)}" for x in program.operations]
    where = "at_{0}, i" if donate else "to_{0}, i - start" if streams else "at_{0}_new, i"
    stores = [
        f"store_{name}({where.format(name)}, {write.name(x)})" for name, x in zip(written, program.outputs, strict=True)
    ]
    head = [
        "import numpy as np",
        "from numba import prange",
        "from adamod_array._engines.numba_memory import maximum, memory, minimum, prefetch",
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
    n = LINE // SIZE[compute]
    size = {name: SIZE[dtypes[name]] for name in written}
    before, after = _streamed(size, _PIECE * n) if streams else ([], [])
    if streams:
        head.append("from adamod_array._engines.numba_stream import fence, stream")
        head += [f"buffer_{x}, flush_{x}, copy_{x} = stream({_PIECE * n * size[x]})" for x in written]
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
        f"    stop = min(start_of[b] + {BLOCK}, sizes[leaf])",
        *(f"    {statement}" for statement in before),
        f"    for start in range(start_of[b], stop, {_PIECE * n if threads else BLOCK}):",
        *(f"        {statement}" for statement in (ahead if threads else [])),
        f"        for i in range(start, min(start + {_PIECE * n}, stop)):"
        if threads
        else "        for i in range(start, stop):",
        *(f"            {name} = load_{name}(at_{name}, i)" for name in arrays),
        *(f"            {statement}" for statement in [*body, *stores]),
        *(f"        {statement}" for statement in after),
        *(["    fence()"] if streams else []),
    ]
    kernel = ["def kernel(addresses, sizes, row_of, leaf_of, start_of, scalars):", *("    " + each for each in lines)]
    return "\n".join([*head, "", "", *kernel, ""])


def _streamed(size: dict[str, int], piece: int) -> tuple[list[str], list[str]]:
    """Return what a block does before its pieces of so many elements, and after each; of elements of these sizes."""
    before = [f"to_{x} = buffer_{x}()" for x in size]
    before.append(f"is_aligned = ({' | '.join(f'at_{x}_new' for x in size)}) % {LINE} == 0")
    after = [
        f"if is_aligned and start + {piece} <= stop:",
        *(f"    flush_{x}(to_{x}, at_{x}_new + start * {n})" for x, n in size.items()),
        "else:",
        f"    count = min({piece}, stop - start)",
        *(f"    copy_{x}(to_{x}, at_{x}_new + start * {n}, count * {n})" for x, n in size.items()),
    ]
    return before, after
