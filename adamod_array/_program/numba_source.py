"""A Program as a loop over memory, in the Python that Numba compiles.

The kernel gets addresses, not arrays, and takes every leaf of a tree in one call. Loads and stores
carry LLVM's alias scopes (two arrays never overlap, each may be rewritten in place), without which
the loop does not vectorise. A complex array is one of pairs, whose parts are loaded one by one.
"""

from __future__ import annotations

from typing import ClassVar

from adamod_array._namespace import REAL_DTYPE, SIZE, real_compute_dtype
from adamod_array._program.lower import ONE, ZERO, lowered, stored_dtypes
from adamod_array._program.program import INDEX, Operand, Program
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
        "hypot": "hypot({}, {})",
        "and": "{} and {}",
        "or": "{} or {}",
        **{name: f"{name}({', '.join(['{}'] * n)})" for name, n in _WORD_OPERANDS.items()},
    }

    def name(self, value: Operand) -> str:
        return {ZERO: "zero", ONE: "one"}.get(value, value)  # Python's own would be float64


def source(program: Program, storage: str, gradient_storage: str, *, donate: bool, threads: bool) -> str:
    """Return the kernel as a Python module.

    Arrays that are worth threads are too large for the caches, and are asked for ahead of time. New ones are then
    written past the caches, by way of a buffer for each, where all of a leaf's begin with a cache line. Of a program
    that rounds stochastically, the last row of ``addresses`` holds the first counter of each leaf.
    """
    compute, of_reals = real_compute_dtype(storage), lowered(program)
    arrays = [name for name, _ in program.arrays]
    dtypes = stored_dtypes(program, storage) | {"g": gradient_storage}
    parts = {name: _parts(name, domain, dtypes[name]) for name, domain in program.arrays}
    written = ["p", *arrays[2:]]
    columns = arrays if donate else [*arrays, *(f"{name}_new" for name in written)]
    streams = threads and not donate
    write = _Numba()
    body = [f"{x.result} = {write.expression(x)}" for x in of_reals.operations]
    where = "at_{}, i" if donate else "to_{}, i - start" if streams else "at_{}_new, i"
    places = [(part, where.format(name)) for name in written for part in parts[name]]
    stores = [f"store_{part}({at}, {write.name(x)})" for (part, at), x in zip(places, of_reals.outputs, strict=True)]
    loads = [f"{part} = load_{part}(at_{name}, i)" for name in arrays for part in parts[name]]
    loads += [f"{INDEX} = add32(first, i)"] if program.rounded else []
    names = "maximum, memory, minimum, prefetch" if program.is_real else "hypot, maximum, memory, minimum, prefetch"
    cut = {written[k] for k in program.rounded}
    head = [
        "import numpy as np",
        "from numba import prange",
        f"from adamod_array._engines.numba_memory import {names}",
        f"fetch_g, fetch = prefetch(False), prefetch({donate})",
    ]
    if program.rounded:
        head.insert(3, f"from adamod_array._engines.numba_words import {', '.join(sorted(WORDS))}, use_widest_vectors")
    if not program.is_real:
        head.append(f"zero, one = np.{compute}(0), np.{compute}(1)")
        loads += [
            f"{name}_im = zero" for name, domain in program.arrays if domain == "complex" and len(parts[name]) < 2
        ]
    for j, column in enumerate(columns):
        name = column.removesuffix("_new")
        number, how = REAL_DTYPE.get(dtypes[name], dtypes[name]), ", cut=True" if name in cut else ""
        for part, which in parts[name].items():
            load, store = f"load_{part}", f"store_{part}"
            at = f"memory({number!r}, {j}, {len(columns)}{which}{how})"
            if donate:
                head.append(f"{load}, {store} = {at}")
            else:
                head.append(f"{load if column == name else store} = {at}[{int(column != name)}]")
    n = LINE // SIZE[compute]
    piece, far = (n * lines // (1 if program.is_real else 2) for lines in (_PIECE, _AHEAD))
    size = {name: _size(dtypes[name]) for name in written}
    before, after = _streamed(size, piece) if streams else ([], [])
    if streams:
        head.append("from adamod_array._engines.numba_stream import fence, stream")
        head += [f"buffer_{x}, flush_{x}, copy_{x} = stream({piece * size[x]})" for x in written]
    ahead = [
        f"for i in range(start + {far}, start + {far + piece}, {n}):",
        *(f"    {each}" for name in arrays for each in _fetches(name, dtypes[name])),
    ]
    lines = [
        "for b in prange(leaf_of.size):",
        "    leaf = leaf_of[b]",
        "    row = scalars[row_of[leaf]]",
        *(f"    at_{column} = addresses[{j}, leaf]" for j, column in enumerate(columns)),
        *(f"    {name} = row[{j}]" for j, name in enumerate(program.scalars)),
        *([f"    first = addresses[{len(columns)}, leaf]"] if program.rounded else []),
        f"    stop = min(start_of[b] + {BLOCK}, sizes[leaf])",
        *(f"    {statement}" for statement in before),
        f"    for start in range(start_of[b], stop, {piece if threads else BLOCK}):",
        *(f"        {statement}" for statement in (ahead if threads else [])),
        f"        for i in range(start, min(start + {piece}, stop)):"
        if threads
        else "        for i in range(start, stop):",
        *(f"            {statement}" for statement in [*loads, *body, *stores]),
        *(f"        {statement}" for statement in after),
        *(["    fence()"] if streams else []),
    ]
    if program.rounded:
        lines.insert(1, "    use_widest_vectors()")  # the loop is a function of its own
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


def _parts(name: str, domain: str, dtype: str) -> dict[str, str]:
    """Return the values that are loaded of an array's element, and which part of it ``memory`` is to take for each."""
    if domain == "real":
        return {name: ""}
    if dtype in REAL_DTYPE:
        return {f"{name}_re": ", 0", f"{name}_im": ", 1"}
    return {f"{name}_re": ""}  # the real gradient of a complex parameter


def _fetches(name: str, dtype: str) -> list[str]:
    """Return what asks for the memory of as many elements as a line has of those computed in."""
    fetch = "fetch_g" if name == "g" else "fetch"
    at = f"at_{name} + i * {_size(dtype)}"
    return [f"{fetch}({at})", f"{fetch}({at} + {LINE})"] if dtype in REAL_DTYPE else [f"{fetch}({at})"]


def _size(dtype: str) -> int:
    """Return the bytes of an element."""
    return 2 * SIZE[REAL_DTYPE[dtype]] if dtype in REAL_DTYPE else SIZE[dtype]
