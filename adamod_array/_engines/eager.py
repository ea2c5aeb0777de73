"""The rule as written, one operation after the other, in any namespace."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from adamod_array._aliasing import WRITABLE, overlapping
from adamod_array._check import has_unknown_sizes
from adamod_array._engines import Columns, StepInputs, words
from adamod_array._method import Method, apply_rule, chosen
from adamod_array._namespace import COMPUTE_DTYPE, REAL_DTYPE, Namespace, dtype_name, namespace_of
from adamod_array._program.evaluate import Evaluation
from adamod_array._program.program import Program
from adamod_array._program.rounding import STEP, round_outputs
from adamod_array._program.trace import CLIP, OK, trace
from adamod_array._scalars import Row

SMALL = 1 << 14
"""Up to so many elements, a NumPy array is stepped at once, as the rule is written."""
BLOCK = 1 << 16
"""Elements of a larger one that are stepped at a time: with the temporaries they stay in the caches."""

HELD = 1 << 18
"""Elements of which a donated step may hold results back until all are computed; more would cost memory."""


@dataclass
class _Leaf:
    """One leaf, and all that its step needs."""

    g: Any
    old: tuple[Any, ...]
    """The parameter and its slots."""
    method: Method
    scalars: Row
    arguments: tuple[Any, ...]
    """The same and the constants: what ``program`` is given; of large leaves alone."""
    dtype: str
    slot_dtypes: list[str]
    """What the slots are computed in: a user may keep them in another dtype."""
    program: Program
    first: int
    """The counter of the first element."""
    in_blocks: bool


def run(inputs: StepInputs, donate: bool) -> Columns:
    """Step every leaf; with ``donate``, write the results into the old arrays."""
    return begin(inputs, donate)()


def begin(inputs: StepInputs, donate: bool) -> Callable[[], Columns]:
    """Do what can fail without harm, and return what does the rest of the step.

    A rule is the user's, and may raise; memory may be short. A donated step of small leaves is
    computed before any of them is written. Large ones are computed as they are written, after a
    rehearsal on the first numbers.
    """
    in_place = donate and inputs.namespace.name in WRITABLE
    leaves = _leaves(inputs, disjoint(inputs) if in_place else inputs.grads)
    held: list[list[Any]] = []
    if in_place:
        room = HELD
        for leaf in leaves:
            if leaf.in_blocks or room < 0:
                _rehearse(inputs, leaf)
                break
            held.append(_computed(inputs, leaf))
            room -= math.prod(leaf.old[0].shape)

    def finish() -> Columns:
        if in_place:
            inputs.claim()
        new = [_stored(inputs, leaf, results, in_place) for leaf, results in zip(leaves, held, strict=False)]
        new += [_step(inputs, leaf, in_place) for leaf in leaves[len(held) :]]
        return [[arrays[k] for arrays in new] for k in range(len(inputs.columns))]

    return finish


def _leaves(inputs: StepInputs, grads: Sequence[Any]) -> list[_Leaf]:
    """Return the leaves with their scalars."""
    namespace, leaves = inputs.namespace, []
    for i, (g, *old) in enumerate(zip(grads, *inputs.columns, strict=True)):
        dtype = COMPUTE_DTYPE[dtype_name(old[0])]
        real = REAL_DTYPE.get(dtype, dtype)
        scalars = inputs.scalars.rounded(i, namespace, real, namespace.device(old[0]))
        method = inputs.scalars.method(i)
        decay, common = scalars[1] is not None, inputs.scalars.names
        storage = dtype_name(old[0])
        program = trace(method, decay=decay, complex_parameter=dtype in REAL_DTYPE, common=common, storage=storage)
        slot_dtypes = [dtype if domain == "complex" else real for _, domain in program.arrays[2:]]
        in_order = bool(program.rounded)  # an element's place in a block is then its place in the array, too
        in_blocks = namespace.name == "numpy" and old[0].size > SMALL and _is_contiguous((g, *old), in_order)
        row = inputs.scalars.arguments(i, namespace, dtype, namespace.device(old[0])) if in_blocks else ()
        first = 0
        if program.rounded:
            assert inputs.scalars.counters is not None
            first = inputs.scalars.counters[i]
        leaves.append(_Leaf(g, tuple(old), method, scalars, row, dtype, slot_dtypes, program, first, in_blocks))
    return leaves


def _step(inputs: StepInputs, leaf: _Leaf, in_place: bool) -> tuple[Any, ...]:
    """Return the new parameter and slots of a leaf; NumPy's large arrays a block at a time."""
    if not leaf.in_blocks:
        return _stored(inputs, leaf, _computed(inputs, leaf), in_place)
    new = leaf.old if in_place else tuple(np.empty_like(x, subok=False) for x in leaf.old)
    flat_old, flat_new = [x.ravel("K") for x in (leaf.g, *leaf.old)], [x.ravel("K") for x in new]
    with np.errstate(all="ignore"):
        results_of, size = _block_step(inputs, leaf)
        for start in range(0, flat_old[0].size, size):
            block = slice(start, start + size)
            results = results_of(*(x[block] for x in flat_old), first=leaf.first + start)
            for x, result in zip(flat_new, results, strict=True):
                x[block] = result
    return new


def _block_step(inputs: StepInputs, leaf: _Leaf) -> tuple[Callable[..., list[Any]], int]:
    """Return what computes a block, and its size: of real numbers the Program, of complex ones the rule."""
    if not leaf.program.is_real:
        # its temporaries are new at every operation
        return lambda *arrays, first: _new(inputs, leaf, *arrays), SMALL
    size = min(BLOCK, leaf.old[0].size)
    evaluation = Evaluation(leaf.program, leaf.arguments, np.dtype(leaf.dtype), size)

    def results(*arrays: Any, first: int) -> list[Any]:
        new = evaluation(*arrays, first=first)
        return [x.copy() if aliases else x for x, aliases in zip(new, leaf.program.aliases_input, strict=True)]

    return results, size


def _rehearse(inputs: StepInputs, leaf: _Leaf) -> None:
    """Run the rule on the first numbers of a leaf, for its errors."""
    if leaf.in_blocks:
        with np.errstate(all="ignore"):
            _new(inputs, leaf, *(x.ravel("K")[:SMALL] for x in (leaf.g, *leaf.old)))


def _computed(inputs: StepInputs, leaf: _Leaf) -> list[Any]:
    """Return the rule's results for a leaf."""
    # infinities and NaNs are silent, as elsewhere
    with np.errstate(all="ignore"), inputs.namespace.on_device(leaf.old[0]):
        return _new(inputs, leaf, leaf.g, *leaf.old)


def _stored(inputs: StepInputs, leaf: _Leaf, results: list[Any], in_place: bool) -> tuple[Any, ...]:
    """Return results in the dtypes of the old arrays, or the old arrays with results written into them."""
    with np.errstate(all="ignore"), inputs.namespace.on_device(leaf.old[0]):
        return tuple(_finish(inputs.namespace, x, y, in_place) for x, y in zip(results, leaf.old, strict=True))


def _new(inputs: StepInputs, leaf: _Leaf, g: Any, p: Any, *kept: Any) -> list[Any]:
    """Return the rule's results, each an array of its own, also where the rule passes an input on or gives a number."""
    lr, decay, c = leaf.scalars
    namespace, compute = inputs.namespace, inputs.namespace.dtype(leaf.dtype)
    slots = [namespace.cast(x, namespace.dtype(dtype)) for x, dtype in zip(kept, leaf.slot_dtypes, strict=True)]
    real = REAL_DTYPE.get(leaf.dtype, leaf.dtype)
    clip, ok = (inputs.scalars.shared(names, namespace, real, namespace.device(p)) for names in (CLIP, (OK,)))
    old = [namespace.cast(p, compute), *slots]
    new = apply_rule(leaf.method, namespace.xp, lr, decay, c, namespace.cast(g, compute), old[0], slots, clip)
    copied = [passed and namespace.name in WRITABLE for passed in leaf.program.aliases_input]
    results = [_broadcast(namespace, x, leaf.dtype, p) for x in new]
    results = chosen(namespace.xp, ok[0] if ok else None, results, old)
    if leaf.program.rounded:
        step = inputs.scalars.shared(STEP, namespace, real, namespace.device(p))
        index = words.counted(namespace, leaf.first, p)
        results = [namespace.cast(x, compute) for x in results]  # a comparison is 1 or 0
        results = round_outputs(words.doing(namespace), results, leaf.program.rounded, step, index)
    return [namespace.copy(x) if copy else x for x, copy in zip(results, copied, strict=True)]


def _broadcast(namespace: Namespace, x: Any, dtype: str, p: Any) -> Any:
    """Return a rule's result in the shape of the parameter: a rule may give one number for all elements."""
    if namespace_of(x) is not namespace:  # Python's number, or the NumPy scalar that stands for one in a namespace
        real = REAL_DTYPE.get(dtype, dtype)
        number = float(namespace.scalar(float(x), real, namespace.device(p)))
        there = {"device": namespace.device(p)} if namespace.name in ("torch", "array_api_strict") else {}
        # CuPy's asarray would lose the sign of -0.0
        return namespace.xp.full(p.shape, number, dtype=namespace.dtype(real), **there)
    if x.shape == p.shape or (x.ndim == p.ndim and has_unknown_sizes(p.shape)):
        return x
    return namespace.copy(namespace.xp.broadcast_to(x.to(p.device) if namespace.name == "torch" else x, p.shape))


def _is_contiguous(arrays: tuple[Any, ...], in_c_order: bool) -> bool:
    in_c = all(x.flags.c_contiguous for x in arrays)
    return in_c or (not in_c_order and all(x.flags.f_contiguous for x in arrays))


def disjoint(inputs: StepInputs) -> list[Any]:
    """Return the gradients, copied where they share memory with an array that is written before they are read."""
    clashes = overlapping(inputs.namespace, inputs.grads, inputs.params, inputs.written)
    return [inputs.namespace.copy(g) if i in clashes else g for i, g in enumerate(inputs.grads)]


def disjoint_unless(
    apart: list[int] | None, addresses: list[int], inputs: StepInputs
) -> tuple[list[Any], list[int] | None]:
    """Return the gradients of :func:`disjoint`, and these addresses of all arrays if none was copied.

    Nobody looks where they are ``apart``, those of an earlier step that copied none.
    """
    if addresses == apart:
        return inputs.grads, addresses
    grads = disjoint(inputs)
    return grads, None if any(x is not y for x, y in zip(grads, inputs.grads, strict=True)) else addresses


def _finish(namespace: Namespace, new: Any, old: Any, in_place: bool) -> Any:
    """Return the result in the old array's dtype, written into it where it was donated and can be."""
    if namespace.name == "numpy":
        new = np.asarray(new)  # NumPy makes scalars of 0-d arrays
    if in_place:
        is_negative = namespace.name == "torch" and old.is_neg()  # in PyTorch 2.13, a copy that casts loses the sign
        old[...] = namespace.cast(new, old.dtype) if is_negative else new
        return old
    return namespace.cast(new, old.dtype)
