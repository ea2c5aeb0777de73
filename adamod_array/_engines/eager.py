"""The rule as written, one operation after the other, in any namespace."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from adamod_array._aliasing import WRITABLE, overlapping
from adamod_array._engines import Result, Work
from adamod_array._method import apply_rule
from adamod_array._namespace import COMPUTE_DTYPE, REAL_DTYPE, Namespace, dtype_name, namespace_of
from adamod_array._program.trace import trace

BLOCK = 1 << 14
"""Elements of a NumPy array that are stepped at a time: with the rule's temporaries they stay in a core's cache."""

HELD = 1 << 18
"""Elements of which a donated step may hold results back until all are computed; more would cost memory."""


@dataclass
class _Leaf:
    """One leaf, and all that its step needs."""

    g: Any
    old: tuple[Any, ...]
    """The parameter and its slots."""
    scalars: tuple[Any, Any, tuple[Any, ...]]
    dtype: str
    slot_dtypes: list[str]
    """What the slots are computed in: a user may keep them in another dtype."""
    passed_on: tuple[bool, ...]
    in_blocks: bool


def run(work: Work, donate: bool) -> Result:
    """Step every leaf; with ``donate``, write the results into the old arrays."""
    return begin(work, donate)()


def begin(work: Work, donate: bool) -> Callable[[], Result]:
    """Do what can fail without harm, and return what does the rest of the step.

    A rule is the user's, and may raise; memory may be short. A donated step of small leaves is
    computed before any of them is written. Large ones are computed as they are written, after a
    rehearsal on the first numbers.
    """
    in_place = donate and work.kind.name in WRITABLE
    leaves = _leaves(work, apart(work) if in_place else work.grads)
    held: list[list[Any]] = []
    if in_place:
        room = HELD
        for leaf in leaves:
            if leaf.in_blocks or room < 0:
                _rehearse(work, leaf)
                break
            held.append(_computed(work, leaf))
            room -= math.prod(leaf.old[0].shape)

    def finish() -> Result:
        if in_place:
            work.claim()
        new = [_stored(work, leaf, results, in_place) for leaf, results in zip(leaves, held, strict=False)]
        new += [_step(work, leaf, in_place) for leaf in leaves[len(held) :]]
        return [arrays[0] for arrays in new], [arrays[1:] for arrays in new]

    return finish


def _leaves(work: Work, grads: Sequence[Any]) -> list[_Leaf]:
    """Return the leaves with their scalars, rounded once for all that share them."""
    leaves = []
    scalars: dict[Any, Any] = {}
    for which, p, g, kept in zip(work.which, work.params, grads, work.slots, strict=True):
        dtype, device, old = COMPUTE_DTYPE[dtype_name(p)], work.kind.device(p), (p, *kept)
        key = (which, dtype, str(device))
        if key not in scalars:
            scalars[key] = _scalars(work, which, REAL_DTYPE.get(dtype, dtype), device)
        line = trace(work.method, decay=scalars[key][1] is not None, complex_parameter=dtype in REAL_DTYPE)
        slot_dtypes = [dtype if kind == "complex" else REAL_DTYPE.get(dtype, dtype) for _, kind in line.arrays[2:]]
        in_blocks = work.kind.name == "numpy" and p.size > BLOCK and _is_contiguous((g, *old))
        leaves.append(_Leaf(g, old, scalars[key], dtype, slot_dtypes, line.passed_on, in_blocks))
    return leaves


def _step(work: Work, leaf: _Leaf, in_place: bool) -> tuple[Any, ...]:
    """Return the new parameter and slots of a leaf; NumPy's large arrays a block at a time."""
    if not leaf.in_blocks:
        return _stored(work, leaf, _computed(work, leaf), in_place)
    new = leaf.old if in_place else tuple(np.empty_like(x, subok=False) for x in leaf.old)
    flat_old, flat_new = [x.ravel("K") for x in (leaf.g, *leaf.old)], [x.ravel("K") for x in new]
    with np.errstate(all="ignore"):
        for start in range(0, flat_old[0].size, BLOCK):
            block = slice(start, start + BLOCK)
            results = _new(work, leaf, *(x[block] for x in flat_old))
            for x, result in zip(flat_new, results, strict=True):
                x[block] = result
    return new


def _rehearse(work: Work, leaf: _Leaf) -> None:
    """Run the rule on the first numbers of a leaf, for its errors."""
    if leaf.in_blocks:
        with np.errstate(all="ignore"):
            _new(work, leaf, *(x.ravel("K")[:BLOCK] for x in (leaf.g, *leaf.old)))


def _computed(work: Work, leaf: _Leaf) -> list[Any]:
    """Return the rule's results for a leaf."""
    with np.errstate(all="ignore"), work.kind.on_device(leaf.old[0]):  # infinities and NaNs are silent, as elsewhere
        return _new(work, leaf, leaf.g, *leaf.old)


def _stored(work: Work, leaf: _Leaf, results: list[Any], in_place: bool) -> tuple[Any, ...]:
    """Return results in the dtypes of the old arrays, or the old arrays with results written into them."""
    with np.errstate(all="ignore"), work.kind.on_device(leaf.old[0]):
        return tuple(_finish(work.kind, x, y, in_place) for x, y in zip(results, leaf.old, strict=True))


def _new(work: Work, leaf: _Leaf, g: Any, p: Any, *kept: Any) -> list[Any]:
    """Return the rule's results, each an array of its own, also where the rule passes an input on or gives a number."""
    lr, decay, c = leaf.scalars
    kind, compute = work.kind, work.kind.dtype(leaf.dtype)
    slots = [kind.cast(x, kind.dtype(dtype)) for x, dtype in zip(kept, leaf.slot_dtypes, strict=True)]
    new = apply_rule(work.method, kind.xp, lr, decay, c, kind.cast(g, compute), kind.cast(p, compute), slots)
    copied = [passed and kind.name in WRITABLE for passed in leaf.passed_on]
    results = [_broadcast(kind, x, leaf.dtype, p) for x in new]
    return [kind.copy(x) if copy else x for x, copy in zip(results, copied, strict=True)]


def _broadcast(kind: Namespace, x: Any, dtype: str, p: Any) -> Any:
    """Return a rule's result in the shape of the parameter: a rule may give one number for all elements."""
    if namespace_of(x) is not kind:  # Python's number, or the NumPy scalar that stands for one in a namespace
        real = REAL_DTYPE.get(dtype, dtype)
        number = float(kind.scalar(float(x), real, kind.device(p)))
        there = {"device": kind.device(p)} if kind.name in ("torch", "array_api_strict") else {}
        return kind.xp.full(
            p.shape, number, dtype=kind.dtype(real), **there
        )  # CuPy's asarray would lose the sign of -0.0
    return (
        x
        if x.shape == p.shape
        else kind.copy(kind.xp.broadcast_to(x.to(p.device) if kind.name == "torch" else x, p.shape))
    )


def _is_contiguous(arrays: tuple[Any, ...]) -> bool:
    return all(x.flags.c_contiguous for x in arrays) or all(x.flags.f_contiguous for x in arrays)


def apart(work: Work) -> list[Any]:
    """Return the gradients, copied where they share memory with an array that is written before they are read."""
    written = [x for p, kept in zip(work.params, work.slots, strict=True) for x in (p, *kept)]
    clashes = overlapping(work.kind, work.grads, work.params, written)
    return [work.kind.copy(g) if i in clashes else g for i, g in enumerate(work.grads)]


def _scalars(work: Work, which: int, dtype: str, device: Any) -> tuple[Any, Any, tuple[Any, ...]]:
    """Return rate, decay and coefficients, rounded once to a real dtype."""
    lr, decay = work.pairs[which]
    scalar = work.kind.scalar
    return (
        scalar(lr, dtype, device),
        None if decay is None else scalar(decay, dtype, device),
        tuple(scalar(c, dtype, device) for c in work.c),
    )


def _finish(kind: Namespace, new: Any, old: Any, in_place: bool) -> Any:
    """Return the result in the old array's dtype, written into it where it was donated and can be."""
    if kind.name == "numpy":
        new = np.asarray(new)  # NumPy makes scalars of 0-d arrays
    if in_place:
        old[...] = new
        return old
    return kind.cast(new, old.dtype)
