"""Coefficients of a traced step: the host's numbers out of a table, and the formula past its end."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest

from adamod_array import Adam, AdaMod, Method, Momentum, RAdam, host_math
from adamod_array._coefficients import LONGEST, coefficients_at, table
from tests.compare import assert_close

pytestmark = pytest.mark.only("jax")
jax = pytest.importorskip("jax")
jnp = jax.numpy

METHODS = [
    Adam(),
    Adam(beta1=0.0),
    Adam(beta2=0.9999, amsgrad=True),
    AdaMod(variant="reference"),
    RAdam(),
    RAdam(beta2=0.7),
    RAdam(variant="reference"),
]
STEPS = [*range(1, 40), 159, 160, 161, 999, 1000, 9999, 16_000, 16_990, 17_500, 19_600, 19_700, 36_000, 41_000]


def of_host(method: Method, t: float) -> tuple[Any, ...]:
    return method.coefficients(float(t), host_math)


@dataclasses.dataclass(frozen=True)
class Parity(Method):
    """Coefficients that never settle."""

    def coefficients(self, t: Any, math: Any) -> tuple[Any, ...]:
        return t, math.where(t % 2 == 0, 1.0, 2.0)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("method", METHODS, ids=repr)
def test_a_table_holds_the_hosts_numbers(method: Method, dtype: str) -> None:
    columns = table(method, dtype)
    steps = np.unique(np.geomspace(1, LONGEST, 2000).astype(int))
    for k, column in enumerate(columns):
        exact = np.asarray([of_host(method, t)[k] for t in steps], dtype)
        assert_close(column[np.minimum(steps, column.size) - 1], exact)


def test_columns_end_where_they_settle() -> None:
    (b1, a1, b2, a2), ends = table(Adam(), "float32"), of_host(Adam(), 1e9)
    for column, end in zip((b1, a1, b2, a2), ends, strict=True):
        assert column[-1] == np.float32(end) != column[-2]
    assert b1.size < 200
    assert 10_000 < b2.size < 20_000
    assert table(Momentum(), "float32") == ()


def test_what_never_settles_is_cut_off() -> None:
    t, parity = table(Parity(), "float32")
    assert t.size == LONGEST
    assert parity.size == LONGEST
    for at in (1, 2, LONGEST, LONGEST + 1, LONGEST + 2):
        assert coefficients_at(Parity(), jnp.asarray(at)) == of_host(Parity(), at)


@pytest.mark.parametrize("x64", [False, True])
@pytest.mark.parametrize("method", METHODS, ids=repr)
def test_a_traced_step_has_the_hosts_coefficients(method: Method, x64: bool) -> None:
    """To the bit within the table; past its end everything has settled and XLA's formula is as good as its exp."""
    dtype = "float64" if x64 else "float32"
    with jax.enable_x64(x64):
        found = jax.jit(lambda t: coefficients_at(method, t))
        for t in STEPS:
            for column, c, exact in zip(table(method, dtype), found(jnp.asarray(t)), of_host(method, t), strict=True):
                assert c.dtype == dtype
                if t <= column.size:
                    assert_close(c, np.asarray(exact, dtype))
                else:
                    assert_close(c, np.asarray(exact, dtype), ulp=64 if "RAdam" in repr(method) else 2)


def test_a_step_count_that_came_back_from_a_jit() -> None:
    """An array outside of jit is looked up too: the host does not wait for it."""
    for t in (1, 7, 1000):
        for c, exact in zip(coefficients_at(Adam(), jnp.asarray(t)), of_host(Adam(), t), strict=True):
            assert isinstance(c, jax.Array)
            assert_close(c, np.asarray(exact))


def test_batched_steps() -> None:
    steps = jnp.asarray([1, 5, 100_000])
    found = jax.vmap(lambda t: coefficients_at(Adam(), t))(steps)
    for k, column in enumerate(found):
        assert_close(column, np.asarray([of_host(Adam(), int(t))[k] for t in steps]), ulp=2)


def test_an_int_stays_on_the_host() -> None:
    assert coefficients_at(RAdam(), 5) == of_host(RAdam(), 5)
    assert all(isinstance(c, float) for c in coefficients_at(RAdam(), 5))
