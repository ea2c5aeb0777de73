"""JAX on the CPU through Numba: the kernel of a rule, called by XLA as a foreign function.

XLA writes each output in a loop of its own and reads its inputs again for each: 11 arrays move for
Adam where the rule needs 7. As a foreign function the rule is one pass over memory, in the donated
buffers themselves, in a program of the user's as in one of the library's.
"""

from __future__ import annotations

import ctypes
import dataclasses
import functools
import itertools
import sys
from collections.abc import Callable, Sequence
from typing import Any

import numba
import numpy as np
from numba.np.ufunc.parallel import _launch_threads

from adamod_array._kernels import Result, Work
from adamod_array._kernels.handler import handler_of
from adamod_array._kernels.loop import SERIAL, STORAGE, compiled_kernel, rows_of, source, stamp
from adamod_array._kernels.trace import trace
from adamod_array._kernels.xla import on_one_cpu
from adamod_array._namespace import COMPUTE_DTYPE, dtype_name, is_tracer


def takes(work: Work) -> bool:
    """Whether every leaf lies on one CPU device, is known, and has a storage dtype that kernels take."""
    if not all(isinstance(x, float) for pair in work.pairs for x in pair if x is not None):
        return False
    if work.plan is None:
        leaves = zip(work.params, work.grads, work.slots, strict=True)
        work.plan = all(_fits(p, g, kept) and _is_here(p, g, *kept) for p, g, kept in leaves)
    return bool(work.plan)


def takes_traced(work: Work) -> bool:
    """Whether a program of the user's may call the kernel: it is for one CPU device, and knows every size."""
    if not on_one_cpu():
        return False
    leaves = zip(work.params, work.grads, work.slots, strict=True)
    return all(_fits(p, g, kept) and all(isinstance(n, int) for n in p.shape) for p, g, kept in leaves)


def _fits(p: Any, g: Any, slots: Any) -> bool:
    storage = dtype_name(p)
    compute = COMPUTE_DTYPE[storage]
    if storage not in STORAGE or any(dtype_name(x) != compute for x in slots):
        return False
    typeof = sys.modules["jax"].typeof  # of what is spread over a mesh it says how; XLA would gather the parts
    return COMPUTE_DTYPE[dtype_name(g)] == compute and all(typeof(x).sharding.mesh.empty for x in (p, g, *slots))


def _is_here(*arrays: Any) -> bool:
    if any(map(is_tracer, arrays)):
        return False
    devices = set().union(*(x.devices() for x in arrays))
    return len(devices) == 1 and devices.pop().platform == "cpu"


def run(work: Work, donate: bool) -> Result:
    """Step every leaf, those of one storage dtype in one call."""
    return _step_groups(work, np.asarray, lambda *what: _program(*what, donate=donate))


def run_traced(work: Work, secret: Any, by_xla: Callable[..., Result]) -> Result:
    """The same as a part of the user's program.

    Where that is compiled for another platform, and under ``vmap`` and derivatives, which know
    nothing of the kernel, ``by_xla(work, secret)`` computes it.
    """
    jax = sys.modules["jax"]
    arrays, tree = jax.tree.flatten((secret, work.c, work.pairs, work.params, work.grads, work.slots))

    def given(x: Sequence[Any]) -> tuple[Work, Any]:
        secret, c, pairs, params, grads, slots = jax.tree.unflatten(tree, x)
        return dataclasses.replace(work, c=c, pairs=pairs, params=params, grads=grads, slots=slots), secret

    def xla(*x: Any) -> Any:
        return by_xla(*given(x))

    def kernel(*x: Any) -> Any:
        return _step_groups(given(x)[0], _stacked, _call)

    @jax.custom_batching.custom_vmap
    def step(*x: Any) -> Any:
        return jax.lax.platform_dependent(*x, cpu=kernel, default=xla)

    @step.def_vmap
    def _(size: int, batched: Sequence[bool], *x: Any) -> Any:
        new = jax.vmap(xla, [0 if each else None for each in batched])(*x)
        return new, jax.tree.map(lambda _: True, new)

    step = jax.custom_jvp(step)
    step.defjvp(lambda x, tangents: jax.jvp(xla, x, tangents))
    result: Result = step(*arrays)
    return result


def _stacked(rows: Sequence[Sequence[Any]], dtype: str) -> Any:
    """Rows of scalars, some of them traced, each rounded once."""
    jnp = sys.modules["jax"].numpy
    return jnp.stack([jnp.stack([jnp.asarray(x, dtype) for x in row]) for row in rows])


def _step_groups(work: Work, table: Callable[..., Any], program: Callable[..., Any]) -> Result:
    """Step every leaf, with the ``program`` of those of one storage dtype and the ``table`` of their scalars."""
    decay = any(factor is not None for _, factor in work.pairs)
    groups: dict[tuple[str, str], list[int]] = {}
    for i, (p, g) in enumerate(zip(work.params, work.grads, strict=True)):
        groups.setdefault((dtype_name(p), dtype_name(g)), []).append(i)
    params, slots = [*work.params], [[*kept] for kept in work.slots]
    for key, leaves in groups.items():
        step, constants = program(work.method, key, decay)
        new = step(
            table(rows_of(work.pairs, decay, work.c, constants), COMPUTE_DTYPE[key[0]]),
            np.asarray([work.which[i] for i in leaves], np.int32),
            [work.grads[i] for i in leaves],
            [[params[i], *slots[i]] for i in leaves],
        )
        for i, arrays in zip(leaves, new, strict=True):
            params[i], *slots[i] = arrays
    return params, slots


@functools.lru_cache(maxsize=1024)
def _program(method: Any, key: tuple[str, str], decay: bool, *, donate: bool) -> tuple[Any, Any]:
    """The library's own: :func:`_call`, jitted."""
    step, constants = _call(method, key, decay, in_place=donate)
    return sys.modules["jax"].jit(step, donate_argnums=(3,) if donate else ()), constants


def _call(method: Any, key: tuple[str, str], decay: bool, *, in_place: bool = True) -> tuple[Any, Any]:
    """A function of scalars, rows, gradients and old arrays that calls the kernel, and the constants that end a row.

    What is written in place XLA copies first, where the old array is read once more.
    """
    jax = sys.modules["jax"]
    line = trace(method, decay=decay)
    compute, outputs = COMPUTE_DTYPE[key[0]], len(line.outputs)
    (serial, constants), (threaded, _) = (source(line, *key, donate=in_place, threads=x) for x in (False, True))

    def step(scalars: Any, rows: Any, grads: Any, old: Any) -> Any:
        threads = sum(p.size for p, *_ in old) > SERIAL and _may_nest()
        target = _target(threaded if threads else serial, compute, outputs, in_place, threads)
        results = [jax.ShapeDtypeStruct(x.shape, x.dtype) for arrays in old for x in arrays]
        inputs = [x for g, arrays in zip(grads, old, strict=True) for x in (g, *arrays)]
        written = [i for i in range(len(inputs)) if i % (1 + outputs)]
        aliases = {2 + i: k for k, i in enumerate(written)} if in_place else None
        flat = iter(jax.ffi.ffi_call(target, results, input_output_aliases=aliases)(scalars, rows, *inputs))
        return [list(itertools.islice(flat, len(arrays))) for arrays in old]

    return step, constants


@functools.cache
def _target(text: str, compute: str, outputs: int, in_place: bool, threads: bool) -> str:
    """Register a kernel with XLA; returns the name it has there.

    The name tells what the kernel computes: JAX may keep compiled programs on disk for other processes.
    """
    jax = sys.modules["jax"]
    handler = handler_of(compiled_kernel(text, compute, threads), compute, outputs, in_place)
    name = f"adamod_array_{stamp(text)}{'' if threads else '_serial'}"
    capsule = ctypes.pythonapi.PyCapsule_New
    capsule.restype, capsule.argtypes = ctypes.py_object, [ctypes.c_void_p, ctypes.c_char_p, ctypes.c_void_p]
    jax.ffi.register_ffi_target(name, capsule(handler.address, None, None), platform="cpu")
    _handlers.append(handler)
    return name


_handlers: list[Any] = []  # XLA keeps their addresses


@functools.cache
def _may_nest() -> bool:
    """Whether Numba's threads may be woken by any thread of XLA's."""
    _launch_threads()
    return numba.threading_layer() in ("omp", "tbb")
