"""JAX: by a kernel that XLA calls, or by a program for XLA; as the library's own, or as a part of the user's."""

from __future__ import annotations

import contextlib
import functools
import platform
import sys
from typing import Any

import numpy as np

from adamod_array._engines import READ, Columns, StepInputs, compiled, eager, pass_over, passed_over, xla
from adamod_array._engines.xla import KEPT
from adamod_array._engines.xla_fence import NOT_TRACED
from adamod_array._late import late
from adamod_array._namespace import full_width, has_tracers, is_tracer

KERNEL, PROGRAM = "JAX's kernel", "JAX's compiler"
"""What is passed over where it cannot be built: what XLA calls, and what it compiles."""


@np.errstate(all="ignore")  # of numbers that are infinite in float32
def run(inputs: StepInputs, donate: bool) -> Columns:
    """Compile the rule over all leaves once, for every step, rate and coefficient to come."""
    opaque = _opaque_numbers(inputs)
    if opaque is not None:
        return _run_traced(inputs, opaque)  # as a part of the user's program
    if donate:
        spent = set(map(id, inputs.written))
        copy = functools.partial(inputs.namespace.xp.array, copy=True)
        inputs.grads = [copy(g) if id(g) in spent else g for g in inputs.grads]
    kernels = _kernels("xla_ffi", KERNEL)
    if kernels is not None:
        try:
            known, plan = inputs.plan, kernels.plan_of(inputs, donate)
            inputs.plan = plan
            if plan.program is not None:
                new: Columns = plan.step(
                    inputs.namespace, inputs.grads, inputs.columns, None, inputs.scalars, inputs.claim
                )
                if plan is known:
                    plan.remember(inputs.grads)
                return new
        except kernels.UnavailableError as error:
            pass_over(KERNEL, error.__cause__ or error)
    if PROGRAM not in passed_over:
        try:
            with _outside_programs():
                program, arguments = xla.program_of(inputs, NOT_TRACED, donate)
                inputs.claim()  # the one call that donates, made once a step, after all that can fail
                return program(*arguments)
        except MISSING as error:
            pass_over(PROGRAM, error)
    return eager.run(inputs, donate)


def _run_traced(inputs: StepInputs, opaque: Any) -> Columns:
    kernels = _kernels("xla_ffi", KERNEL)
    if kernels is not None:
        try:
            result: Columns = kernels.run_traced(inputs, opaque, _by_xla)
            return result
        except kernels.UnavailableError as error:
            pass_over(KERNEL, error.__cause__ or error)
    return _by_xla(inputs, opaque)


def ask(question: Any, arrays: list[Any]) -> Any:
    """Return the answer to a question about gradients; of known arrays, by one program."""
    with full_width(arrays):
        kernels = _kernels("xla_read", READ)
        if kernels is not None:
            try:
                if kernels.takes(arrays):
                    return _asked(kernels.ask, question, arrays)
            except kernels.UnavailableError as error:
                pass_over(READ, error.__cause__ or error)
        return at_once(question, arrays)


def at_once(question: Any, arrays: list[Any]) -> Any:
    """Return the answer by the arrays: of known ones, by one program."""
    return _asked(_of_arrays, question, arrays)


def _asked(way: Any, question: Any, arrays: list[Any]) -> Any:
    """Return the answer by a program of the library's, or as a part of the user's."""
    return way(question, arrays) if has_tracers(arrays) else _program(way, question)(arrays)


@functools.lru_cache(maxsize=64)
def _program(way: Any, question: Any) -> Any:
    return sys.modules["jax"].jit(functools.partial(way, question))


def _of_arrays(question: Any, arrays: list[Any]) -> Any:
    return question.of_arrays(arrays)


def _by_xla(inputs: StepInputs, opaque: Any) -> Columns:
    """Run XLA's program as a part of the user's."""
    if PROGRAM not in passed_over:
        try:
            program, arguments = xla.program_of(inputs, opaque, donate=False)
            result: Columns = program(*arguments)
            return result
        except MISSING as error:
            pass_over(PROGRAM, error)
    return eager.run(inputs, donate=False)


MISSING = (AttributeError, ImportError, NotImplementedError)
"""What is raised where a JAX has no longer, or not yet, what is asked of it."""


def _outside_programs() -> Any:
    """Return a context that computes with arrays that are known, also while JAX traces a program of the user's."""
    jax = sys.modules["jax"]
    if is_tracer(jax.lax.bitwise_not(NOT_TRACED)):
        return jax.ensure_compile_time_eval()  # constants of that program
    return contextlib.nullcontext()


def _kernels(name: str, what: str) -> Any:
    """Return a module of kernels that XLA calls, where they are in force and can be built, else None.

    ``what`` they do is passed over where the module cannot be imported.
    """
    if not CALLS_KERNELS or {KERNEL, what} & passed_over.keys() or not compiled():
        return None
    try:
        return late(f"adamod_array._engines.{name}")
    except Exception as error:  # whatever a compiler raises that is installed and does not work
        pass_over(what, error.__cause__ or error)
        return None


CALLS_KERNELS = platform.machine().lower() in ("x86_64", "amd64")
"""Where a kernel can have every thread keep denormals, which XLA's own threads flush and Numba's do not."""


def programs_of(engine: str) -> Any:
    """Return a context in which a function that was jitted under another engine is traced anew."""
    jax = sys.modules["jax"]
    if not hasattr(jax, "make_user_context"):
        return contextlib.nullcontext()
    if "engine" not in KEPT:
        KEPT.setdefault("engine", jax.make_user_context())
    return KEPT["engine"](None if engine in ("auto", "numba") else engine)


def _opaque_numbers(inputs: StepInputs) -> Any:
    """Return numbers of a user's program that XLA cannot know, for zeros to be made from; None outside of one.

    All scalars that are traced, such as coefficients; where none is, the traced arrays of each leaf.
    """
    scalars = [x for x in inputs.scalars.all if is_tracer(x)]
    if scalars:
        return tuple(scalars)
    if not has_tracers([*inputs.grads, *inputs.written]):
        return None
    leaves = zip(inputs.grads, *inputs.columns, strict=True)
    return [tuple([x for x in (p, g, *slots) if is_tracer(x)]) for g, p, *slots in leaves]
