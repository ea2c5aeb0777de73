"""JAX: by a kernel that XLA calls, or by a program for XLA; as the library's own, or as a part of the user's."""

from __future__ import annotations

import contextlib
import functools
import platform
import sys
from collections.abc import Callable
from typing import Any

import numpy as np

from adamod_array._engines import Result, Work, compiled, eager, pass_over, passed_over, xla
from adamod_array._engines.xla import KEPT
from adamod_array._engines.xla_fence import NOT_TRACED
from adamod_array._late import late
from adamod_array._namespace import is_tracer

KERNEL, PROGRAM = "JAX's kernel", "JAX's compiler"
"""What is passed over where it cannot be built: what XLA calls, and what it compiles."""


@np.errstate(all="ignore")  # of numbers that are infinite in float32
def run(work: Work, donate: bool) -> Result:
    """Compile the rule over all leaves once, for every step, rate and coefficient to come."""
    secret = _secret(work)
    if secret is not None:
        return _run_traced(work, secret)  # as a part of the user's program
    if donate:
        spent = {id(x) for p, kept in zip(work.params, work.slots, strict=True) for x in (p, *kept)}
        copy = functools.partial(work.kind.xp.array, copy=True)
        work.grads = [copy(g) if id(g) in spent else g for g in work.grads]
    kernels = _kernels()
    if kernels is not None:
        try:
            if kernels.takes(work):
                return _dispatch(work, donate, *kernels.program_of(work, donate))
        except kernels.UnavailableError as error:
            pass_over(KERNEL, error.__cause__ or error)
    if PROGRAM not in passed_over:
        try:
            with _outside_programs():
                return _dispatch(work, donate, *xla.program_of(work, NOT_TRACED, donate))
        except MISSING as error:
            pass_over(PROGRAM, error)
    return eager.run(work, donate)


def _dispatch(work: Work, donate: bool, program: Callable[..., Result], arguments: tuple[Any, ...]) -> Result:
    """Call a jitted program of the library's: the one call that donates, made once a step, after all that can fail."""
    if donate:
        work.claim()
    return program(*arguments)


def _run_traced(work: Work, secret: Any) -> Result:
    kernels = _kernels()
    if kernels is not None:
        try:
            if kernels.takes_traced(work):
                result: Result = kernels.run_traced(work, secret, _by_xla)
                return result
        except kernels.UnavailableError as error:
            pass_over(KERNEL, error.__cause__ or error)
    return _by_xla(work, secret)


def _by_xla(work: Work, secret: Any) -> Result:
    """XLA's program as a part of the user's."""
    if PROGRAM not in passed_over:
        try:
            program, arguments = xla.program_of(work, secret, donate=False)
            result: Result = program(*arguments)
            return result
        except MISSING as error:
            pass_over(PROGRAM, error)
    return eager.run(work, donate=False)


MISSING = (AttributeError, ImportError, NotImplementedError)
"""What is raised where a JAX has no longer, or not yet, what is asked of it."""


def _outside_programs() -> Any:
    """A context in which arrays that are known are computed with, also while JAX traces a program of the user's."""
    jax = sys.modules["jax"]
    if is_tracer(jax.lax.bitwise_not(NOT_TRACED)):
        return jax.ensure_compile_time_eval()  # constants of that program
    return contextlib.nullcontext()


def _kernels() -> Any:
    """The module of kernels that XLA calls, where they are in force and can be built, else None."""
    if not CALLS_KERNELS or KERNEL in passed_over or not compiled():
        return None
    try:
        return late("adamod_array._engines.xla_ffi")
    except Exception as error:  # whatever a compiler raises that is installed and does not work
        pass_over(KERNEL, error.__cause__ or error)
        return None


CALLS_KERNELS = platform.machine().lower() in ("x86_64", "amd64")
"""Where a kernel can have every thread keep denormals, which XLA's own threads flush and Numba's do not."""


def programs_of(engine: str) -> Any:
    """A context in which a function that was jitted under another engine is traced anew."""
    jax = sys.modules["jax"]
    if not hasattr(jax, "make_user_context"):
        return contextlib.nullcontext()
    if "engine" not in KEPT:
        KEPT.setdefault("engine", jax.make_user_context())
    return KEPT["engine"](None if engine in ("auto", "numba") else engine)


def _secret(work: Work) -> Any:
    """Numbers of a user's program that XLA cannot know, for zeros to be made from; None outside of one.

    All scalars that are traced, such as coefficients; where none is, the traced arrays of each leaf.
    """
    scalars = [x for x in (*work.c, *(x for pair in work.pairs for x in pair)) if is_tracer(x)]
    if scalars:
        return tuple(scalars)
    leaves = zip(work.params, work.grads, work.slots, strict=True)
    arrays = [tuple([x for x in (p, g, *kept) if is_tracer(x)]) for p, g, kept in leaves]
    return arrays if any(arrays) else None
