"""The rule as written, one operation after the other, in any namespace."""

from __future__ import annotations

from typing import Any

import numpy as np

from adamod_array._check import WRITABLE, overlapping
from adamod_array._kernels import Result, Work, apply_rule
from adamod_array._kernels.trace import trace
from adamod_array._namespace import COMPUTE_DTYPE, REAL_DTYPE, Namespace, dtype_name

BLOCK = 1 << 14
"""Elements of a NumPy array that are stepped at a time: with the rule's temporaries they stay in a core's cache."""


def run(work: Work, donate: bool) -> Result:
    """Step every leaf; with ``donate``, write the results into the old arrays."""
    params, slots = [], []
    scalars: dict[Any, Any] = {}
    in_place = donate and work.kind.name in WRITABLE
    grads = apart(work) if in_place else work.grads
    with np.errstate(all="ignore"):  # IEEE's infinities and NaNs, silently, as in every other framework
        for which, p, g, kept in zip(work.which, work.params, grads, work.slots, strict=True):
            dtype = COMPUTE_DTYPE[dtype_name(p)]
            device = work.kind.device(p)
            key = (which, dtype, str(device))
            if key not in scalars:
                scalars[key] = _scalars(work, which, REAL_DTYPE.get(dtype, dtype), device)
            old, decay = (p, *kept), scalars[key][1]
            passed_on = trace(work.method, decay=decay is not None, complex_parameter=dtype in REAL_DTYPE).passed_on
            if work.kind.name == "numpy" and p.size > BLOCK and _is_contiguous((g, *old)):
                new = old if in_place else tuple(np.empty_like(x, subok=False) for x in old)
                flat_old, flat_new = [x.ravel("K") for x in (g, *old)], [x.ravel("K") for x in new]
                for start in range(0, p.size, BLOCK):
                    block = slice(start, start + BLOCK)
                    results = _new(work, scalars[key], dtype, passed_on, *(x[block] for x in flat_old))
                    for x, result in zip(flat_new, results, strict=True):
                        x[block] = result
            else:
                with work.kind.on_device(p):
                    results = _new(work, scalars[key], dtype, passed_on, g, *old)
                    new = tuple(_finish(work.kind, x, y, in_place) for x, y in zip(results, old, strict=True))
            params.append(new[0])
            slots.append(new[1:])
    return params, slots


def _new(work: Work, scalars: Any, dtype: str, passed_on: tuple[bool, ...], g: Any, p: Any, *kept: Any) -> list[Any]:
    """The rule's results, each an array of its own, also where the rule only passes an input on."""
    lr, decay, c = scalars
    compute = work.kind.dtype(dtype)
    g, p = cast(work.kind, g, compute), cast(work.kind, p, compute)
    new = apply_rule(work.method, work.kind.xp, lr, decay, c, g, p, kept)
    copied = [passed and work.kind.name in WRITABLE for passed in passed_on]
    return [work.kind.xp.asarray(x, copy=True) if copy else x for x, copy in zip(new, copied, strict=True)]


def _is_contiguous(arrays: tuple[Any, ...]) -> bool:
    return all(x.flags.c_contiguous for x in arrays) or all(x.flags.f_contiguous for x in arrays)


def apart(work: Work) -> list[Any]:
    """The gradients, copied where they share memory with an array that is written before they are read."""
    written = [x for p, kept in zip(work.params, work.slots, strict=True) for x in (p, *kept)]
    clashes = overlapping(work.kind, work.grads, work.params, written)
    return [_copy(work.kind, g) if i in clashes else g for i, g in enumerate(work.grads)]


def _copy(kind: Namespace, x: Any) -> Any:
    with kind.on_device(x):
        return kind.xp.asarray(x, copy=True)


def _scalars(work: Work, which: int, dtype: str, device: Any) -> tuple[Any, Any, tuple[Any, ...]]:
    """Rate, decay and coefficients, rounded once to a real dtype."""
    lr, decay = work.pairs[which]
    scalar = work.kind.scalar
    return (
        scalar(lr, dtype, device),
        None if decay is None else scalar(decay, dtype, device),
        tuple(scalar(c, dtype, device) for c in work.c),
    )


def cast(kind: Namespace, x: Any, dtype: Any) -> Any:
    """``x`` as that dtype, itself where it has it."""
    return x if x.dtype == dtype else kind.xp.astype(x, dtype)


def _finish(kind: Namespace, new: Any, old: Any, in_place: bool) -> Any:
    """The result in the old array's dtype, written into it where it was donated and can be."""
    if kind.name == "numpy":
        new = np.asarray(new)  # NumPy makes scalars of arrays of no dimensions
    if in_place:
        old[...] = new
        return old
    return cast(kind, new, old.dtype)
