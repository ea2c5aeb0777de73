"""JAX on the CPU through Numba: the kernel of a rule, called by XLA as a foreign function.

XLA writes each output in a loop of its own and reads its inputs again for each: 11 arrays move for
Adam where the rule needs 7. As a foreign function the rule is one pass over memory, in the donated
buffers themselves, in a program of the user's as in one of the library's.
"""

from __future__ import annotations

import dataclasses
import functools
import itertools
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from adamod_array._engines import Columns, StepInputs, put
from adamod_array._engines.numba_compile import SERIAL, Storage, compiled_kernel, digest, storages
from adamod_array._engines.xla_call import UnavailableError as UnavailableError
from adamod_array._engines.xla_call import building, in_program, may_nest, registered
from adamod_array._engines.xla_ffi_handler import handler_of
from adamod_array._engines.xla_mesh import Place, as_varying, place_in_program, place_of, varying
from adamod_array._engines.xla_plan import XlaPlan, index_of
from adamod_array._namespace import COMPUTE_DTYPE, REAL_DTYPE, dtype_name, has_tracers, have_wide, real_compute_dtype
from adamod_array._program.numba_source import source
from adamod_array._program.program import Program

LEAVES = 176
"""At most so many are one call, which wakes threads: those of ViT-Tiny, ResNet-50 and GPT-2."""
OF_MANY = 64
"""So many a call where there are more: the time that XLA takes to compile a call grows with the square of its
operands."""


def plan_of(inputs: StepInputs, donate: bool) -> XlaPlan:
    """Return how the step is taken, if every leaf lies on CPUs, is known, and a kernel takes its storage."""
    key, plan = XlaPlan.key_of(inputs.scalars, donate), inputs.plan
    if plan is not None and key is not None and plan.key == key:
        return plan  # type: ignore[no-any-return]
    place = None
    if _fit(inputs) and not has_tracers([*inputs.grads, *inputs.written]):
        place = place_of(zip(*inputs.columns, inputs.grads, strict=True))
    counts = inputs.scalars.counters is not None
    if place is None or (counts and not place.counts([p.shape for p in inputs.params])):
        return XlaPlan(key=key)
    with building():
        kernels = _kernels(_programs(inputs), in_place=donate)
    program, computes = _jitted(kernels, donate, key is not None, place), _computes(kernels)
    constants = inputs.scalars.constants({compute in REAL_DTYPE for compute in computes})
    is_narrow = not have_wide([*inputs.grads, *inputs.written])
    return XlaPlan(key=key, program=program, computes=computes, constants=constants, is_narrow=is_narrow)


def _programs(inputs: StepInputs) -> tuple[tuple[Storage, Program], ...]:
    """Return the Program of the leaves of each storage."""
    found = dict.fromkeys(map(_storage, inputs.params, inputs.grads))
    program_of = functools.partial(inputs.program, decay=inputs.scalars.has_decay)
    return tuple([(x, program_of(complex_parameter=x[0] in REAL_DTYPE, storage=x[0])) for x in found])


def _storage(p: Any, g: Any) -> Storage:
    return dtype_name(p), dtype_name(g)


def _fit(inputs: StepInputs) -> bool:
    leaves = zip(inputs.grads, *inputs.columns, strict=True)
    storage_of = storages(functools.partial(inputs.program, decay=inputs.scalars.has_decay))
    return all(storage_of(p, g, slots) is not None for g, p, *slots in leaves)


def run_traced(inputs: StepInputs, opaque: Any, by_xla: Callable[..., Columns]) -> Columns:
    """Take the step as a part of the user's program; where that may call no kernel, by ``by_xla(inputs, opaque)``."""
    jax, scalars, arrays = sys.modules["jax"], inputs.scalars, [*inputs.grads, *inputs.written]
    place = place_in_program(inputs.params, arrays, scalars.all) if _fit(inputs) else None
    if place is None or (scalars.counters is not None and not place.counts([p.shape for p in inputs.params])):
        return by_xla(inputs, opaque)
    numbers = scalars.coefficients, scalars.rates, dict(scalars.common)
    arrays, tree = jax.tree.flatten((opaque, *numbers, inputs.grads, inputs.columns))
    # JAX keeps these functions, and they no arrays
    bare = dataclasses.replace(inputs, scalars=scalars.with_numbers((), (), common={}), grads=[], columns=[])

    def given(x: Sequence[Any]) -> tuple[StepInputs, Any]:
        opaque, coefficients, rates, common, grads, columns = jax.tree.unflatten(tree, x)
        scalars = bare.scalars.with_numbers(rates, coefficients, common=common)
        return dataclasses.replace(bare, scalars=scalars, grads=grads, columns=columns), opaque

    def xla(*x: Any) -> Any:
        return by_xla(*given(x))

    def kernel(*x: Any) -> Any:
        inputs, _ = given(x)
        kernels = _kernels(_programs(inputs), in_place=True)
        domains = [compute in REAL_DTYPE for compute in _computes(kernels)]
        constants = inputs.scalars.constants(domains)
        rows = [inputs.scalars.rows(inputs.scalars.has_decay, constants[each]) for each in domains]
        tables = _tables(kernels, rows)
        index = index_of(inputs.scalars)
        return place.program(functools.partial(_step, kernels))(tables, index, inputs.grads, inputs.columns)

    result: Columns = in_program(kernel, xla)(*arrays)
    return result


def _tables(kernels: Kernels, rows: Sequence[Sequence[Sequence[Any]]]) -> list[Any]:
    """Return the rows of scalars for each compute dtype, some of them traced, as tables, rounded once."""
    jnp = sys.modules["jax"].numpy
    reals = map(real_compute_dtype, _computes(kernels))
    return [
        jnp.stack([jnp.stack([jnp.asarray(x, real) for x in row]) for row in each])
        for real, each in zip(reals, rows, strict=True)
    ]


@dataclass(frozen=True)
class _Kernel:
    """A kernel for leaves of one storage, whatever their number and sizes."""

    compute: str
    outputs: int
    in_place: bool
    """XLA copies first what is read once more."""
    counts: bool
    """Whether it takes the first counter of each leaf, too."""
    small: str
    """Its source for few numbers."""
    large: str
    """That for many, which threads may share."""

    def call(self, scalars: Any, rows: Any, grads: Any, old: Any, alone: bool) -> list[Any]:
        """Return the new arrays of each leaf, as a part of a program; ``alone`` on its machine, it may wake threads."""
        jax = sys.modules["jax"]
        inputs = [x for g, arrays in zip(grads, old, strict=True) for x in (g, *arrays)]
        written = [i for i in range(len(inputs)) if i % (1 + self.outputs)]
        aliases = {2 + i: k for k, i in enumerate(written)} if self.in_place else None
        results = [jax.ShapeDtypeStruct(x.shape, x.dtype) for arrays in old for x in arrays]
        if axes := varying(inputs[0]):
            results = [jax.typeof(x) for arrays in old for x in arrays]
            scalars, rows = (as_varying(x, axes) for x in (scalars, rows))
        with building():
            large = sum(p.size for p, *_ in old) > SERIAL
            text = self.large if large else self.small
            threads = large and alone and may_nest()
            target = _target(text, self.compute, self.outputs, self.in_place, self.counts, threads)
            new = iter(jax.ffi.ffi_call(target, results, input_output_aliases=aliases)(scalars, rows, *inputs))
        return [list(itertools.islice(new, self.outputs)) for _ in old]


Kernels = tuple[tuple[Storage, _Kernel], ...]


@functools.lru_cache(maxsize=256)
def _jitted(kernels: Kernels, donate: bool, known: bool, place: Place) -> Any:
    """Return a jitted step that is given tables of scalars or, where some are JAX's arrays, rows of them."""
    take = place.program(functools.partial(_step, kernels))

    def step(scalars: Any, rate_index: Any, grads: Any, columns: Columns) -> Columns:
        return take(scalars if known else _tables(kernels, scalars), rate_index, grads, columns)

    return sys.modules["jax"].jit(step, donate_argnums=3 if donate else ())


@functools.lru_cache(maxsize=1024)
def _kernels(programs: tuple[tuple[Storage, Program], ...], *, in_place: bool) -> Kernels:
    """Return a kernel for each storage."""
    kernels = []
    for storage, program in programs:
        small, large = (source(program, *storage, donate=in_place, threads=each) for each in (False, True))
        own = COMPUTE_DTYPE[storage[0]], len(program.outputs), in_place, bool(program.rounded)
        kernels.append((storage, _Kernel(*own, small, large)))
    return tuple(kernels)


def _computes(kernels: Kernels) -> tuple[str, ...]:
    return tuple(dict.fromkeys(kernel.compute for _, kernel in kernels))


def _step(kernels: Kernels, tables: Any, rate_index: Any, grads: Any, columns: Columns, alone: bool) -> Columns:
    """Step every leaf, a few of one storage in one call."""
    table = dict(zip(_computes(kernels), tables, strict=True))
    leaf_indices: list[int] = []
    new: list[list[Any]] = []
    for storage, kernel in kernels:
        leaves = [i for i, (p, g) in enumerate(zip(columns[0], grads, strict=True)) if _storage(p, g) == storage]
        at_once = LEAVES if len(leaves) <= LEAVES else OF_MANY
        for start in range(0, len(leaves), at_once):
            some = leaves[start : start + at_once]
            rows = rate_index if len(some) == len(grads) else rate_index[..., np.asarray(some)]
            rows = rows[0] if rows.ndim > 1 and not kernel.counts else rows
            old = [[xs[i] for xs in columns] for i in some]
            new += kernel.call(table[kernel.compute], rows, [grads[i] for i in some], old, alone)
            leaf_indices += some
    return put([[arrays[k] for arrays in new] for k in range(len(columns))], leaf_indices, columns)


@functools.cache
def _target(text: str, compute: str, outputs: int, in_place: bool, counts: bool, threads: bool) -> str:
    """Register a kernel with XLA; returns the name it has there."""
    name, real = f"{digest(text)}{'' if threads else '_serial'}", real_compute_dtype(compute)
    return registered(name, lambda: handler_of(compiled_kernel(text, real, threads), real, outputs, in_place, counts))
