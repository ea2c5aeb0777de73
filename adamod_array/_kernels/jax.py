"""JAX: by a kernel that XLA calls, or by a program for XLA; as the library's own, or as a part of the user's."""

from __future__ import annotations

import functools
import importlib
import platform
import sys
from typing import Any

from adamod_array._kernels import Result, Work, compiled
from adamod_array._kernels.fence import NOT_TRACED
from adamod_array._kernels.xla import on_one_cpu, program


def run(work: Work, donate: bool) -> Result:
    """Compile the rule over all leaves once, for every step, rate and coefficient to come."""
    jax = sys.modules["jax"]
    secret = _secret(work, jax.core.Tracer)
    if secret is not None:
        return _run_traced(work, secret)  # as a part of the user's program
    if donate:
        spent = {id(x) for p, kept in zip(work.params, work.slots, strict=True) for x in (p, *kept)}
        work.grads = [jax.numpy.array(g, copy=True) if id(g) in spent else g for g in work.grads]
    kernels = _kernels()
    if kernels is not None and kernels.takes(work):
        result: Result = kernels.run(work, donate)
        return result
    if isinstance(jax.lax.bitwise_not(NOT_TRACED), jax.core.Tracer):
        with jax.ensure_compile_time_eval():  # constants of the user's program
            return _by_xla(work, NOT_TRACED, donate)
    return _by_xla(work, NOT_TRACED, donate)


def _run_traced(work: Work, secret: Any) -> Result:
    kernels = _kernels()
    if kernels is not None and kernels.takes_traced(work):
        result: Result = kernels.run_traced(work, secret, _by_xla)
        return result
    return _by_xla(work, secret)


def _kernels() -> Any:
    """The module of kernels that XLA calls, where they are in force, else None."""
    return importlib.import_module("adamod_array._kernels.ffi") if CALLS_KERNELS and compiled() else None


CALLS_KERNELS = platform.machine().lower() in ("x86_64", "amd64")
"""Where a kernel can have every thread keep denormals, which XLA's own threads flush and Numba's do not."""


def _by_xla(work: Work, secret: Any, donate: bool = False) -> Result:
    arrays = (work.c, work.pairs, work.params, work.grads, work.slots)
    result: Result = program(donate, on_one_cpu())(secret, work.method, work.which, *arrays)
    return result


def programs_of(engine: str) -> Any:
    """A context in which a function that was jitted under another engine is traced anew."""
    return _engine_of_programs()(None if engine in ("auto", "numba") else engine)


@functools.cache
def _engine_of_programs() -> Any:
    return sys.modules["jax"].make_user_context()


def _secret(work: Work, tracer: type) -> Any:
    """Numbers of a user's program that XLA cannot know, for zeros to be made from; None outside of one.

    All scalars that are traced, such as coefficients; where none is, the traced arrays of each leaf.
    """
    scalars = [x for x in (*work.c, *(x for pair in work.pairs for x in pair)) if isinstance(x, tracer)]
    if scalars:
        return tuple(scalars)
    leaves = zip(work.params, work.grads, work.slots, strict=True)
    arrays = [tuple([x for x in (p, g, *kept) if isinstance(x, tracer)]) for p, g, kept in leaves]
    return arrays if any(arrays) else None
