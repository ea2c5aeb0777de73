"""A Program as a loop over memory, in the Python that Numba compiles.

The kernel gets addresses, not arrays, and takes every leaf of a tree in one call. Loads and stores
carry LLVM's alias scopes (two arrays never overlap, each may be rewritten in place), without which
the loop does not vectorise. A complex array is one of pairs, whose parts are loaded one by one.
"""

from __future__ import annotations

from typing import ClassVar

from adamod_array._namespace import REAL_DTYPE, SIZE, real_compute_dtype
from adamod_array._program.lower import ONE, ZERO, lowered, stored_dtypes
from adamod_array._program.program import Operand, Program
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
        "hypot": "hypot({}, {})",
        "and": "{} and {}",
        "or": "{} or {}",
    }

    def name(self, value: Operand) -> str:
        return {ZERO: "zero", ONE: "one"}.get(value, value)  # Python's own would be float64


def source(program: Program, storage: str, gradient_storage: str, *, donate: bool, threads: bool) -> str:
    """Return the kernel as a Python module.

    Arrays that are worth threads are too large for the caches, and are asked for ahead of time.
    """
    compute, of_reals = real_compute_dtype(storage), lowered(program)
    arrays = [name for name, _ in program.arrays]
    dtypes = stored_dtypes(program, storage) | {"g": gradient_storage}
    parts = {name: _parts(name, domain, dtypes[name]) for name, domain in program.arrays}
    written = ["p", *arrays[2:]]
    columns = arrays if donate else [*arrays, *(f"{name}_new" for name in written)]
    write = _Numba()
    body = [f"{x.result} = {write.expression(x)}" for x in of_reals.operations]
    places = [(part, f"at_{name if donate else name + '_new'}") for name in written for part in parts[name]]
    stores = [f"store_{part}({at}, i, {write.name(x)})" for (part, at), x in zip(places, of_reals.outputs, strict=True)]
    loads = [f"{part} = load_{part}(at_{name}, i)" for name in arrays for part in parts[name]]
    names = "maximum, memory, minimum, prefetch" if program.is_real else "hypot, maximum, memory, minimum, prefetch"
    head = [
        "import numpy as np",
        "from numba import prange",
        f"from adamod_array._engines.numba_memory import {names}",
        f"fetch_g, fetch = prefetch(False), prefetch({donate})",
    ]
    if not program.is_real:
        head.append(f"zero, one = np.{compute}(0), np.{compute}(1)")
        loads += [
            f"{name}_im = zero" for name, domain in program.arrays if domain == "complex" and len(parts[name]) < 2
        ]
    for j, column in enumerate(columns):
        name = column.removesuffix("_new")
        number = REAL_DTYPE.get(dtypes[name], dtypes[name])
        for part, which in parts[name].items():
            load, store = f"load_{part}", f"store_{part}"
            at = f"memory({number!r}, {j}, {len(columns)}{which})"
            if donate:
                head.append(f"{load}, {store} = {at}")
            else:
                head.append(f"{load if column == name else store} = {at}[{int(column != name)}]")
    n = LINE // SIZE[compute]
    piece, far = (n * lines // (1 if program.is_real else 2) for lines in (_PIECE, _AHEAD))
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
        f"    stop = min(start_of[b] + {BLOCK}, sizes[leaf])",
        f"    for start in range(start_of[b], stop, {piece if threads else BLOCK}):",
        *(f"        {statement}" for statement in (ahead if threads else [])),
        f"        for i in range(start, min(start + {piece}, stop)):"
        if threads
        else "        for i in range(start, stop):",
        *(f"            {statement}" for statement in [*loads, *body, *stores]),
    ]
    kernel = ["def kernel(addresses, sizes, row_of, leaf_of, start_of, scalars):", *("    " + each for each in lines)]
    return "\n".join([*head, "", "", *kernel, ""])


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
    if dtype not in REAL_DTYPE:
        return [f"{fetch}(at_{name} + i * {SIZE[dtype]})"]
    at = f"at_{name} + i * {2 * SIZE[REAL_DTYPE[dtype]]}"
    return [f"{fetch}({at})", f"{fetch}({at} + {LINE})"]
