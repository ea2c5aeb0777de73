"""All leaves of a device and dtype stepped by one launch: for CuPy, and PyTorch beside it."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any

import numpy as np

from adamod_array._engines import Columns, StepInputs, passed_over, put
from adamod_array._engines.cuda_launch import NAME, ROOM, Group, Memory, NotCompiledError, prepared
from adamod_array._engines.eager import disjoint_unless
from adamod_array._engines.plan import Plan
from adamod_array._namespace import REAL_DTYPE, dtype_name, is_complex, real_compute_dtype
from adamod_array._program.cuda_table_source import BLOCK, LIMIT, Form
from adamod_array._program.lower import can_be_lowered, stored_dtypes
from adamod_array._program.program import Program
from adamod_array._scalars import Scalars


@dataclass(kw_only=True)
class TablePlan(Plan):
    """How a tree is stepped, as long as arrays and gradients stay in layout."""

    taken: list[int]
    """The leaves that kernels take."""
    others: list[int]
    groups: list[Group]
    rest: Any = None
    """The plan of the engine that steps the others."""
    apart: list[int] | None = None
    """Addresses for which no gradient had to be copied; while they do not change nobody looks again."""

    @staticmethod
    def key_of(scalars: Scalars, donate: bool) -> tuple[Any, ...]:
        return scalars.rate_index, tuple([factor is not None for _, factor in scalars.rates]), scalars.names


def run(
    inputs: StepInputs, donate: bool, memory: Memory, begin_others: Callable[[StepInputs, bool], Callable[[], Columns]]
) -> Columns:
    """Step every leaf: those that lie without gaps in one launch a device and dtype, the rest by another engine.

    ``begin_others`` does for the rest what can fail, and returns what finishes it.
    """
    plan: TablePlan = inputs.plan
    if plan is None or not plan.fits(inputs.scalars, donate):
        plan = inputs.plan = _plan(inputs, memory)
    addresses = None
    if donate:  # no address of the plan's is used, which another thread may change
        inputs.grads, addresses = disjoint_unless(plan.apart, _addresses(memory, inputs), inputs)
        plan.apart = addresses
    mine = inputs.subset(plan.taken) if plan.others else inputs
    new = mine.columns if donate else [[*map(memory.empty_like, xs)] for xs in mine.columns]
    shape = 1 + len(new), len(mine.grads)
    if addresses is None or plan.others:
        addresses = _addresses(memory, mine)
    at = np.asarray(addresses, np.int64).reshape(shape)
    to = at[1:] if donate else np.asarray([*map(memory.address, chain(*new))], np.int64).reshape(len(new), shape[1])
    try:
        launches = [
            prepared(mine.scalars, mine.params[x.leaves[0]], x, at[:, x.leaves], to[:, x.leaves], memory)
            for x in plan.groups
        ]
    except NotCompiledError:
        inputs.plan = None
        return run(inputs, donate, memory, begin_others)
    finish = None
    if plan.others:
        others = inputs.subset(plan.others)
        others.plan = plan.rest
        finish = begin_others(others, donate)
        plan.rest = others.plan
    if donate:
        inputs.claim()
    for launch in launches:
        launch(memory)
    if finish is None:
        return new
    return put(finish(), plan.others, put(new, plan.taken, inputs.columns))


def _addresses(memory: Memory, inputs: StepInputs) -> list[int]:
    return [*map(memory.address, chain(inputs.grads, *inputs.columns))]


def _plan(inputs: StepInputs, memory: Memory) -> TablePlan:
    """Group the leaves that a kernel takes."""
    taken: list[int] = []
    by_kernel: dict[Any, list[int]] = {}
    for i, (g, p, *slots) in enumerate(zip(inputs.grads, *inputs.columns, strict=True)):
        decays = inputs.scalars.decays(i)
        program = inputs.program(decay=decays, complex_parameter=is_complex(p), storage=dtype_name(p))
        if _is_taken(program, g, p, slots, memory):
            # a factor of 1 changes no real number; of a complex one it spoils the other half of an infinite one
            key = memory.device(p), dtype_name(p), dtype_name(g), decays if is_complex(p) else None
            by_kernel.setdefault(key, []).append(len(taken))
            taken.append(i)
    mine = inputs.subset(taken)
    groups = [group for key, leaves in by_kernel.items() for group in _groups(mine, leaves, key)]
    return TablePlan(
        key=TablePlan.key_of(inputs.scalars, donate=False),
        taken=taken,
        others=sorted({*range(len(inputs.params))}.difference(taken)),
        groups=groups,
    )


def _is_taken(program: Program, g: Any, p: Any, slots: Sequence[Any], memory: Memory) -> bool:
    if NAME in passed_over:
        return False
    stored = stored_dtypes(program, dtype_name(p))
    dtypes = [stored[name] for name, _ in program.arrays[2:]]
    return (
        can_be_lowered(program)
        and (not program.rounded or memory.is_in_order(p))
        and _room(program, real_compute_dtype(dtype_name(p))) > 0
        and [dtype_name(x) for x in slots] == dtypes
        and all(memory.is_beside(p, x) for x in (p, g, *slots))
    )


def _room(program: Program, real: str) -> int:
    """Return how many rows of scalars go with a launch for any number of leaves, wherever the scalars are."""
    every = tuple(range(len(program.scalars)))
    forms = (Form(len(program.arrays) - 1, False, rows, every, 0, bool(program.rounded)) for rows in ROOM)
    return max((form.rows for form in forms if form.nbytes(real) <= LIMIT), default=0)


def _groups(mine: StepInputs, leaves: list[int], key: Any) -> Iterator[Group]:
    """Yield the leaves of one device and pair of dtypes, in groups whose rows of scalars go with one launch."""
    device, storage, gradient_storage, _ = key
    scalars = mine.scalars
    decay = any(map(scalars.decays, leaves))
    program = mine.program(decay=decay, complex_parameter=storage in REAL_DTYPE, storage=storage)
    room = _room(program, real_compute_dtype(storage))
    every = [*dict.fromkeys(scalars.rate_index[i] for i in leaves)]
    for first in range(0, len(every), room):
        rows = every[first : first + room]
        some = [i for i in leaves if scalars.rate_index[i] in rows]
        sizes = [math.prod(mine.params[i].shape) for i in some]
        ends = np.cumsum([0, *(-(-size // BLOCK) for size in sizes)])
        if ends[-1]:
            own = [rows.index(scalars.rate_index[i]) for i in some]
            layout, blocks = [ends, np.asarray(sizes), np.asarray(own)], int(ends[-1])
            if program.rounded:
                assert scalars.counters is not None
                layout.append(np.asarray([scalars.counters[i] for i in some]))
            shared = program, storage, gradient_storage, decay
            yield Group(some, device, *shared, rows, layout, blocks)
