"""The coefficients of step t: the host's, also where t is traced by JAX."""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable
from typing import Any

import numpy as np

from adamod_array._math import host_math, number
from adamod_array._method import Method
from adamod_array._namespace import Namespace, full_width, namespace_of

LONGEST = 2**16
"""Steps that a table may hold: 0.999 saturates after 17,000 steps in float32 and after 37,000 in float64."""


def next_step(step: Any) -> Any:
    """Return the count after ``step``; that of a JAX array ends at the largest number of its dtype, as in optax."""
    namespace = None if type(step) is int else namespace_of(step)
    if namespace is None or namespace.name != "jax":
        return step + 1
    with full_width((step,)):
        after = namespace.xp.maximum(step, step + 1)  # past its end an integer of XLA's is its least one
    return namespace.cast(after, step.dtype)  # else a count of no certain width has 64 bits beside wide parameters


def coefficients_at(method: Method, t: Any) -> tuple[Any, ...]:
    """Return ``method.coefficients`` of step ``t``.

    Of an int, in double precision. Of an array, out of a table of the host's numbers, so that a step
    in a user's jit, or one that a device counts, has the bits of any other; past the table's end by
    the formula, which is then within an ulp or so.
    """
    if type(t) is int:
        return method.coefficients(float(t), host_math)
    namespace = namespace_of(t)
    if namespace is None:
        return tuple(method.coefficients(*number(t)))
    if namespace.name != "jax":
        return _looked_up(method, t, namespace)
    with full_width((t,)):
        found: tuple[Any, ...] = _lookup(method)(t)
    return found


def _looked_up(method: Method, t: Any, namespace: Namespace) -> tuple[Any, ...]:
    """Return the coefficients of a step that a device counts, in double precision."""
    xp, (x, _) = namespace.xp, number(t)
    with namespace.on_device(t):
        columns = _columns(method, namespace, str(namespace.device(t)))
        formula = method.coefficients(x, xp)
        found = []
        for (column, n), c in zip(columns, formula, strict=True):
            is_known = t <= n
            row = xp.reshape(xp.where(is_known, t - 1, 0), (1,))  # array-api-compat's clip would wait for the device
            found.append(xp.where(is_known, xp.reshape(xp.take(column, row), ()), c))
        return tuple(found)


@functools.lru_cache(maxsize=256)
def _columns(method: Method, namespace: Namespace, device: str) -> tuple[tuple[Any, int], ...]:
    """Return the columns of :func:`table` on a device, CuPy's current one, and their lengths."""
    where = {} if namespace.name == "cupy" else {"device": device}
    return tuple((namespace.xp.asarray(column, **where), len(column)) for column in table(method, "float64"))


@functools.lru_cache(maxsize=256)
def _lookup(method: Method) -> Any:
    """Return a jitted function of the step; one a method, so that what was compiled for a method goes with it."""
    jax = sys.modules["jax"]
    jnp = jax.numpy

    def coefficients(t: Any) -> tuple[Any, ...]:
        dtype = jnp.result_type(float)
        columns = table(method, dtype.name)
        integral = jnp.issubdtype(t.dtype, jnp.integer)
        end = min(LONGEST + 1, jnp.iinfo(t.dtype).max) if integral else LONGEST + 1
        row = jnp.minimum(t, end).astype("int32") - 1  # int32 does not hold every step
        return tuple(
            jnp.where(row < len(column), jnp.asarray(column).at[row].get(mode="clip"), jnp.asarray(c, dtype))
            for column, c in zip(columns, method.coefficients(*number(t)), strict=True)
        )

    return jax.jit(coefficients)


@functools.lru_cache(maxsize=256)
def table(method: Method, dtype: str) -> tuple[np.ndarray[Any, Any], ...]:
    """Return each coefficient of steps 1, 2, ..., rounded once, until it changes no more."""

    def row(t: float) -> tuple[Any, ...]:
        return tuple(method.coefficients(float(t), host_math))

    def is_last(t: int) -> bool:
        return all(np.array_equal(rounded, np.asarray(row(t * 2**k), dtype)) for k in (0, 1, 3, 7))

    rounded = np.asarray(row(2**31), dtype)
    # coefficients settle: all that bisection does where they do not is to end a column early
    end, longest = 0, LONGEST
    while longest - end > 1:
        middle = (end + longest) // 2
        end, longest = (end, middle) if is_last(middle) else (middle, longest)
    if dtype == "float32":
        rows = _rows_at_once(method, row, longest)
    else:
        rows = np.asarray([row(t) for t in range(1, longest + 1)], dtype).reshape(longest, -1)
    columns = rows.astype(dtype).T
    return tuple(np.ascontiguousarray(column[: _settled(column)]) for column in columns)


def _rows_at_once(method: Method, row: Callable[[float], tuple[Any, ...]], longest: int) -> np.ndarray[Any, Any]:
    """Compute all rows by NumPy's functions, not the C library's; rows that could round otherwise are the host's."""
    steps = np.arange(1.0, longest + 1)
    with np.errstate(all="ignore"):
        columns = [np.broadcast_to(np.asarray(c, np.float64), steps.shape) for c in method.coefficients(steps, np)]
        rows = np.stack(columns, axis=1) if columns else np.empty((longest, 0))
        slack = np.abs(rows) * 1e-13
        doubtful = (rows - slack).astype(np.float32) != (rows + slack).astype(np.float32)
    for i in np.flatnonzero(doubtful.any(axis=1)):
        rows[i] = row(steps[i])
    return rows


def _settled(column: np.ndarray[Any, Any]) -> int:
    """Return how many numbers there are up to the first of the equal ones at the end."""
    changes = np.flatnonzero(column[:-1] != column[1:])
    return int(changes[-1]) + 2 if changes.size else 1
