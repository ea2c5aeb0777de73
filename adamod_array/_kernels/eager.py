"""The rule as written, one operation after the other, in any namespace."""

from __future__ import annotations

from typing import Any

import numpy as np

from adamod_array._kernels import Result, Work, apply_rule
from adamod_array._namespace import COMPUTE_DTYPE, REAL_DTYPE, Namespace, dtype_name


def run(work: Work, donate: bool) -> Result:
    """Step every leaf; with ``donate``, write the results into the old arrays."""
    params, slots = [], []
    scalars: dict[Any, Any] = {}
    with np.errstate(all="ignore"):  # IEEE's infinities and NaNs, silently, as in every other framework
        for which, p, g, kept in zip(work.which, work.params, work.grads, work.slots, strict=True):
            dtype = COMPUTE_DTYPE[dtype_name(p)]
            device = work.kind.device(p)
            key = (which, dtype, str(device))
            if key not in scalars:
                scalars[key] = _scalars(work, which, REAL_DTYPE.get(dtype, dtype), device)
            lr, decay, c = scalars[key]
            compute = work.kind.dtype(dtype)
            new = apply_rule(
                work.method, work.kind.xp, lr, decay, c, cast(work.kind, g, compute), cast(work.kind, p, compute), kept
            )
            p_new, *kept_new = (_finish(work.kind, x, old, donate) for x, old in zip(new, (p, *kept), strict=True))
            params.append(p_new)
            slots.append(kept_new)
    return params, slots


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


def _finish(kind: Namespace, new: Any, old: Any, donate: bool) -> Any:
    """The result in the old array's dtype, written into it where it was donated and can be."""
    if kind.name == "numpy":
        new = np.asarray(new)  # NumPy makes scalars of arrays of no dimensions
    if donate and kind.name in ("numpy", "cupy", "torch"):
        old[...] = new
        return old
    return cast(kind, new, old.dtype)
