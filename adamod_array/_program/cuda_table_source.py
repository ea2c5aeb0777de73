"""A Program as a CUDA kernel that steps all leaves of a table in one launch, 16 bytes at a time.

Its one parameter is a structure of 8-byte words and numbers, :class:`Form`, which the host fills. Leaves are cut into
blocks of :data:`BLOCK` elements, numbered through; blocks of threads take them in turn, and find the leaf of each.
"""

from __future__ import annotations

from dataclasses import dataclass

from adamod_array._namespace import SIZE, real_compute_dtype
from adamod_array._program.cuda_source import C_TYPE, statements
from adamod_array._program.lower import stored_dtypes
from adamod_array._program.program import Program

BLOCK = 8192
"""Elements of a leaf that a block of threads takes at a time."""

THREADS = 256
"""Of a block."""

FEW = 16
"""So many leaves have their addresses among the arguments; of more, they are in the device's memory."""

LIMIT = 4096
"""Bytes of arguments that every device and driver takes."""

SENT = 500
"""Words that one launch of :data:`SEND` puts into the device's memory."""

KERNEL, SENDER = "adamod_array_tree", "adamod_array_send"

HEADERS = {
    "float16": "cupy/float16.cuh",
    "bfloat16": "cupy/bfloat16.cuh",
    "complex64": "cupy/complex.cuh",
    "complex128": "cupy/complex.cuh",
}

SEND = f"""\
struct Words {{ long long at[{SENT}]; }};

extern "C" __global__ void {SENDER}(long long *to, const int n, const __grid_constant__ Words words) {{
  for (int i = threadIdx.x; i < n; i += blockDim.x) to[i] = words.at[i];
}}
"""
"""A kernel whose arguments are what it writes: nothing of the host's has to outlive the launch, or is read by it."""


@dataclass(frozen=True)
class Form:
    """What a kernel's arguments are made of."""

    arrays: int
    """Those written: the parameter and its slots."""
    is_few: bool
    """Whether addresses are among the arguments, for :data:`FEW` leaves."""
    rows: int
    """How many rows of scalars there is room for."""
    pointers: tuple[int, ...]
    """Which scalars are on the device; of these, every row has an address."""
    numbers: int
    """How many others each row has."""
    counts: bool = False
    """Whether the program counts elements."""

    @property
    def tables(self) -> dict[str, int]:
        """Return the tables and the words of each: addresses, then of each leaf its first block, size and row.

        Of a program that counts elements, the first counter of each leaf comes last.
        """
        return {
            "gradients": FEW,
            "old": FEW * self.arrays,
            "fresh": FEW * self.arrays,
            "leaves": (4 if self.counts else 3) * FEW + 1,
        }

    @property
    def words(self) -> int:
        """Return how many words there are before the numbers: counts of blocks and leaves, tables or where they are."""
        return 2 + (sum(self.tables.values()) if self.is_few else 4) + self.rows * len(self.pointers)

    def nbytes(self, real: str) -> int:
        """Return the size of the arguments; numbers are of dtype ``real``."""
        return 8 * self.words + -(-self.rows * self.numbers * SIZE[real] // 8) * 8


def source(program: Program, storage: str, gradient_storage: str, form: Form) -> str:
    """Return the kernel for one dtype of parameters and one of gradients, and one form of arguments."""
    stored = stored_dtypes(program, storage) | {"g": gradient_storage}
    real, arrays = C_TYPE[real_compute_dtype(storage)], [name for name, _ in program.arrays]
    width = 16 // min(_size(dtype) for dtype in stored.values())
    headers = dict.fromkeys(HEADERS[dtype] for dtype in stored.values() if dtype in HEADERS)
    ins = [*(f"const {name}_type &in_{name}" for name in arrays), *(f"const number {name}" for name in program.scalars)]
    ins += ["const long long i", "const unsigned int first"] if program.rounded else []
    outs = [f"{name}_type &out_{name}" for name in arrays[1:]]
    return "\n".join(
        [
            *(f"#include <{header}>" for header in headers),
            f"typedef {real} number;",
            *(f"typedef {C_TYPE[stored[name]]} {name}_type;" for name in arrays),
            "",
            *_arguments(form),
            "",
            "template <class T, int N> struct alignas(16) Pack { T at[N]; };",
            "",
            f"__device__ __forceinline__ void step({', '.join([*ins, *outs])}) {{",
            *(f"  {line}" for line in statements(program, storage, stored)),
            "}",
            "",
            *_kernel(program, form, width),
            "",
        ]
    )


def _size(dtype: str) -> int:
    return SIZE[dtype] if dtype in SIZE else {"complex64": 8, "complex128": 16}[dtype]


def _arguments(form: Form) -> list[str]:
    """Return the structure, in the order of :meth:`Form.words`, then numbers."""
    if form.is_few:
        tables = [f"long long {name}[{n}];" for name, n in form.tables.items()]
    else:
        tables = [f"const long long *{name};" for name in form.tables]
    rows = [f"const number *pointers[{form.rows * len(form.pointers)}];"] if form.pointers else []
    rows += [f"number numbers[{form.rows * form.numbers}];"] if form.numbers else []
    return ["struct Arguments {", *(f"  {line}" for line in ["long long blocks, count;", *tables, *rows]), "};"]


_FIND_LEAF = f"""\
    long long leaf = 0;
    for (long long end = table.count; end - leaf > 1;) {{  // the last one that begins here or before
      const long long middle = (leaf + end) / 2;
      if (leaves[middle] <= b) leaf = middle; else end = middle;
    }}
    const long long start = (b - leaves[leaf]) * {BLOCK}, size = leaves[count + 1 + leaf];
    const long long stop = size - start < {BLOCK} ? size : start + {BLOCK};"""


def _kernel(program: Program, form: Form, width: int) -> list[str]:
    """Return the kernel: packs of elements where all arrays of a leaf are aligned to 16 bytes, the rest one by one."""
    arrays, scalars = [name for name, _ in program.arrays], program.scalars
    written = arrays[1:]
    at = {"g": "table.gradients[leaf]"} | {name: f"table.old[{k} * count + leaf]" for k, name in enumerate(written)}
    to = {name: f"table.fresh[{k} * count + leaf]" for k, name in enumerate(written)}
    every = " | ".join([*at.values(), *to.values()])
    values = zip(scalars, _values(scalars, form), strict=True)
    at_pack, at_element = (f"i * {width} + k, first", "i, first") if program.rounded else ("", "")
    packs = _list(*(f"{x}.at[k]" for x in arrays), *scalars, at_pack, *(f"new_{x}.at[k]" for x in written))
    elements = _list(*(f"at_{x}[i]" for x in arrays), *scalars, at_element, *(f"to_{x}[i]" for x in written))
    leaf = [
        *(["const long long row = leaves[2 * count + 1 + leaf];"] if form.rows > 1 else []),
        *(["const unsigned int first = (unsigned int)(leaves[3 * count + 1 + leaf]);"] if form.counts else []),
        *(f"const number {name} = {value};" for name, value in values),
        *(f"const {x}_type *const at_{x} = reinterpret_cast<const {x}_type *>({at[x]});" for x in arrays),
        *(f"{x}_type *const to_{x} = reinterpret_cast<{x}_type *>({to[x]});" for x in written),
        f"const bool is_aligned = (({every}) & 15) == 0;",
        f"const long long whole = is_aligned ? stop - (stop - start) % {width} : start;",
        f"for (long long i = start / {width} + threadIdx.x; i < whole / {width}; i += blockDim.x) {{",
        *(
            f"  const Pack<{x}_type, {width}> {x} = reinterpret_cast<const Pack<{x}_type, {width}> *>(at_{x})[i];"
            for x in arrays
        ),
        *(f"  Pack<{x}_type, {width}> new_{x};" for x in written),
        "#pragma unroll",
        f"  for (int k = 0; k < {width}; k++) step({packs});",
        *(line for x, domain in program.arrays[1:] for line in _store(x, domain, width)),
        "}",
        f"for (long long i = whole + threadIdx.x; i < stop; i += blockDim.x) step({elements});",
    ]
    return [
        f'extern "C" __global__ void __launch_bounds__({THREADS}, 1)',
        f"{KERNEL}(const __grid_constant__ Arguments table) {{",
        "  const long long *const leaves = table.leaves;",
        f"  const long long count = {FEW if form.is_few else 'table.count'};",
        "  for (long long b = blockIdx.x; b < table.blocks; b += gridDim.x) {",
        _FIND_LEAF,
        *(line if line.startswith("#") else f"    {line}" for line in leaf),
        "  }",
        "}",
    ]


def _list(*parts: str) -> str:
    return ", ".join(filter(None, parts))


def _store(x: str, domain: str, width: int) -> list[str]:
    """Return what writes a pack; of complex numbers as real ones, which are stored 16 bytes at a time."""
    if domain != "complex":
        return [f"  reinterpret_cast<Pack<{x}_type, {width}> *>(to_{x})[i] = new_{x};"]
    return [
        f"  Pack<number, {2 * width}> parts_{x};",
        "#pragma unroll",
        f"  for (int k = 0; k < {width}; k++)",
        f"    parts_{x}.at[2 * k] = new_{x}.at[k].real(), parts_{x}.at[2 * k + 1] = new_{x}.at[k].imag();",
        f"  reinterpret_cast<Pack<number, {2 * width}> *>(to_{x})[i] = parts_{x};",
    ]


def _values(scalars: tuple[str, ...], form: Form) -> list[str]:
    """Return where each scalar of a leaf's row is."""
    first = ("0", "0") if form.rows == 1 else (f"{len(form.pointers)} * row", f"{form.numbers} * row")
    on_device, others = iter(range(len(form.pointers))), iter(range(form.numbers))
    return [
        f"*table.pointers[{first[0]} + {next(on_device)}]"
        if k in form.pointers
        else f"table.numbers[{first[1]} + {next(others)}]"
        for k in range(len(scalars))
    ]
