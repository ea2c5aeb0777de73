"""CuPy: a rule's straight line as the body of one ``cupy.ElementwiseKernel``, launched once a leaf.

Compiled with ``--fmad=false``, so that products are rounded as NumPy rounds them; division and
square root are correctly rounded by default. What remains of CuPy's own is ``-ftz=true``, which it
gives every kernel, also its ufuncs: float32 denormals count as zero.
"""

from __future__ import annotations

import functools
import sys
from collections.abc import Sequence
from typing import Any

import numpy as np

from adamod_array._engines import Result, Work, eager
from adamod_array._namespace import COMPUTE_DTYPE, REAL_DTYPE, dtype_name
from adamod_array._program.cuda_source import Source, source, stored_dtypes, takes
from adamod_array._program.trace import trace


@functools.lru_cache(maxsize=1024)
def _kernel(method: Any, storage: str, gradient_storage: str, decay: bool) -> tuple[Any, tuple[float, ...], Any]:
    """The kernel of a method (None where there is none), its constants, and the dtypes of slots that it takes."""
    line = trace(method, decay=decay, complex_parameter=storage.startswith("complex"))
    stored = stored_dtypes(line, storage)
    slots = [stored[name] for name, _ in line.arrays[2:]]
    if not takes(line):
        return None, (), slots
    text, constants = source(line, storage, gradient_storage)
    return _compiled(text), tuple(_rounded(x, COMPUTE_DTYPE[storage]) for x in constants), slots


def _rounded(x: float, dtype: str) -> Any:
    """Return a constant as the kernel has it: 1e300 is infinite in float32, without a word."""
    with np.errstate(all="ignore"):
        return np.dtype(REAL_DTYPE.get(dtype, dtype)).type(x)


@functools.cache
def _compiled(text: Source) -> Any:
    """One kernel a source text; CuPy compiles it at the first launch and keeps it on disk."""
    return sys.modules["cupy"].ElementwiseKernel(
        text.inputs, text.outputs, text.operation, "adamod_array_step", options=("--fmad=false",), no_return=True
    )


def run(work: Work, donate: bool) -> Result:
    """Step every leaf in one launch on its own device and that device's current stream, or eagerly."""
    if donate:
        work.grads = eager.apart(work)
    launches: dict[int, Any] = {}
    rest: list[int] = []
    scalars: dict[Any, list[Any]] = {}
    for i, (which, p, g, kept) in enumerate(zip(work.which, work.params, work.grads, work.slots, strict=True)):
        storage = dtype_name(p)
        kernel, constants, dtypes = _kernel(work.method, storage, dtype_name(g), work.pairs[which][1] is not None)
        if kernel is None or [dtype_name(x) for x in kept] != dtypes:
            rest.append(i)
            continue
        with p.device:
            key = which, COMPUTE_DTYPE[storage], p.device.id
            if key not in scalars:
                scalars[key] = _scalars(work, which, COMPUTE_DTYPE[storage], p.device)
            old = (p, *kept)
            new = old if donate else [sys.modules["cupy"].empty_like(x) for x in old]
        launches[i] = kernel, g, old, new, (*scalars[key], *constants)
    others = eager.begin(work.subset(rest), donate) if rest else None
    if donate:
        work.claim()
    for kernel, g, old, new, numbers in launches.values():
        with old[0].device:
            _launch(kernel, g, old, new, numbers)
    arrays = {i: new for i, (_, _, _, new, _) in launches.items()}
    if others is not None:
        arrays |= {i: (p, *kept) for i, p, kept in zip(rest, *others(), strict=True)}
    return [arrays[i][0] for i in range(len(arrays))], [arrays[i][1:] for i in range(len(arrays))]


def _scalars(work: Work, which: int, dtype: str, device: Any) -> list[Any]:
    """Return rate, decay where there is one, and coefficients: numbers, or 0-d arrays on the device; rounded once."""
    numbers = [x for x in (*work.pairs[which], *work.c) if x is not None]
    return [work.kind.scalar(x, REAL_DTYPE.get(dtype, dtype), device) for x in numbers]


def _launch(kernel: Any, g: Any, old: Sequence[Any], new: Sequence[Any], scalars: Sequence[Any]) -> None:
    """Write the new arrays, which may be the old ones."""
    inputs, outputs = (g, *old), new
    flags = old[0].flags
    if flags.f_contiguous and not flags.c_contiguous:  # CuPy walks through memory in C order
        inputs = (g.T, *(x.T for x in old))
        outputs = inputs[1:] if new is old else [x.T for x in new]
    kernel(*inputs, *scalars, *outputs)
