"""JAX on the CPU through Numba: gradients read once, by a kernel that XLA calls."""

from __future__ import annotations

import functools
import sys
from collections.abc import Sequence
from typing import Any

import numpy as np

from adamod_array._engines.numba_compile import SERIAL, digest
from adamod_array._engines.numba_read import by_dtype, compiled_read, is_loaded, source
from adamod_array._engines.xla_call import UnavailableError as UnavailableError
from adamod_array._engines.xla_call import in_program, may_nest, registered
from adamod_array._engines.xla_ffi_handler import reader_of
from adamod_array._engines.xla_mesh import ALONE, place_in_program, place_of
from adamod_array._namespace import has_tracers

LEAVES = 1024
"""At most so many of a call: see :data:`xla_ffi.LEAVES`; here each is one operand."""


def takes(arrays: Sequence[Any]) -> bool:
    """Return whether kernels may read the arrays, all on one CPU, in a program of the library's or of the user's."""
    if not all(map(is_loaded, arrays)):
        return False
    known = not has_tracers(arrays)
    return (place_of([(x,) for x in arrays]) if known else place_in_program(arrays, arrays, ())) == ALONE


def ask(question: Any, arrays: Sequence[Any]) -> Any:
    """Return the answer to a question as a part of the program under way.

    All but its first number are constants to derivatives: a zero that is computed would be NaN beside infinity.
    """
    jax = sys.modules["jax"]

    def by_operations(*x: Any) -> Any:
        return question.of_arrays(x)

    def by_kernel(*x: Any) -> Any:
        with jax.enable_x64(True):
            found = _total(question.found, x)
            is_enough = question.is_enough(found)
            if is_enough is True:
                return question.of_kernel(jax.numpy, found)
            return jax.lax.cond(
                is_enough,
                lambda found, *_: question.of_kernel(jax.numpy, found),
                lambda _, *x: question.of_arrays(x),
                found,
                *x,
            )

    first, *others = in_program(by_kernel, by_operations)(*arrays)
    return first, *map(jax.lax.stop_gradient, others)


def _total(what: str, arrays: Sequence[Any]) -> Any:
    """Return what is found in all arrays, in float64: a call for each dtype."""
    jax = sys.modules["jax"]
    result = jax.ShapeDtypeStruct((), np.float64)
    total = 0.0
    for bound, parts, storage, some in by_dtype(arrays):
        for start in range(0, len(some), LEAVES):
            leaves = some[start : start + LEAVES]
            threads = parts * sum(x.size for x in leaves) > SERIAL and may_nest()
            total = total + jax.ffi.ffi_call(_target(what, storage, bound, parts, threads), result)(*leaves)
    return total


@functools.cache
def _target(what: str, storage: str, bound: Any, parts: int, threads: bool) -> str:
    """Register a loop with XLA; returns the name it has there."""
    text = source(what, storage)
    name = f"{digest(text)}_{parts}{'' if threads else '_serial'}"
    return registered(name, lambda: reader_of(compiled_read(what, storage, threads), f"{name} {text}", bound, parts))
