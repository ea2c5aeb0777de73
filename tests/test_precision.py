"""Coefficients of step t: on the host in double precision, and traced by JAX in float32."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from adamod_array import Adam, AdaMod, RAdam, State, bias_correction, host_math, init, step
from tests import oracle
from tests.compare import assert_close
from tests.oracle import mpf, sqrt

STEPS = [*range(1, 31), 49, 99, 100, 1000, 9999, 10_000, 12_345, 99_999, 100_000, 250_000, 999_999, 1_000_000]
BETAS = [0.9, 0.95, 0.99, 0.999, 0.9999, 0.99999]
BETAS_2 = [0.9, 0.99, 0.999, 0.9999, 0.99999]


def omegas(beta2: float, threshold: float) -> list[float]:
    """Equation 8 where rho is above the threshold, else 0: rounded from 50 digits."""
    beta = mpf(beta2)
    return [float(oracle.omega(t, beta)) if oracle.rho(t, beta) > threshold else 0.0 for t in STEPS]


@pytest.mark.parametrize("beta", BETAS)
def test_bias_corrections_on_the_host_are_exact_to_the_last_bit(beta: float) -> None:
    exact = [float(1 / (1 - mpf(beta) ** t)) for t in STEPS]
    assert_close([bias_correction(beta, t, host_math) for t in STEPS], exact, ulp=2)


@pytest.mark.parametrize("threshold", [4.0, 5.0])
@pytest.mark.parametrize("beta2", [*BETAS_2, 0.7, 0.8, 0.98])
def test_the_factor_of_radam_on_the_host_is_exact_to_the_last_bits(beta2: float, threshold: float) -> None:
    method = RAdam(beta2=beta2, threshold=threshold)
    for t, omega in zip(STEPS, omegas(beta2, threshold), strict=True):
        # rho is known to 2 ulp, and rho - 4 loses what the subtraction cancels; omega goes with its root
        cancelled = float(oracle.rho(t, mpf(beta2)) / abs(oracle.rho(t, mpf(beta2)) - 4))
        assert_close(method.coefficients(t, host_math)[-1], omega, ulp=4 + cancelled)


def test_radam_of_a_short_memory_never_rectifies() -> None:
    # rho stays below rho_inf = 2/(1 - beta2) - 1
    assert all(RAdam(beta2=0.5).coefficients(t, host_math)[-1] == 0 for t in STEPS)


Traced = Callable[[Any, Any], list[Any]]


@pytest.fixture
def by_formula() -> Callable[[Callable[[Any, Any], Any]], list[Any]]:
    """``formula(t, jnp)`` at each step under ``jax.jit``, which sees t alone, in float32."""
    import jax
    import jax.numpy as jnp

    def traced(formula: Callable[[Any, Any], Any]) -> list[Any]:
        with jax.enable_x64(False):
            compiled = jax.jit(lambda t: jnp.asarray(formula(t, jnp), jnp.float32))
            result = [np.asarray(compiled(jnp.asarray(t, jnp.float32))) for t in STEPS]
        assert all(x.dtype == np.float32 for x in result)
        return result

    return traced


@pytest.fixture
def by_steps() -> Traced:
    """Step ``t`` of a state under ``jax.jit``, from the parameter 0 and the slots given: what a user's program sees."""
    import jax
    import jax.numpy as jnp

    def traced(method: Any, slots: dict[str, float]) -> list[Any]:
        with jax.enable_x64(False):
            zero, g = jnp.zeros((), jnp.float32), jnp.ones((), jnp.float32)
            start = dataclasses.replace(
                init(method, zero, lr=1.0), slots={name: jnp.float32(slots[name]) for name in method.slots}
            )

            @jax.jit
            def update(state: State) -> Any:
                return -step(state, g).params

            states = [dataclasses.replace(start, step=jnp.asarray(t - 1, jnp.int32)) for t in STEPS]
            result = [np.asarray(update(state)) for state in states]
            assert update._cache_size() == 1
        assert all(x.dtype == np.float32 for x in result)
        return result

    return traced


@pytest.mark.only("jax")
@pytest.mark.parametrize("beta", BETAS)
def test_bias_corrections_traced_in_float32(by_formula: Any, beta: float) -> None:
    exact = np.asarray([float(1 / (1 - mpf(beta) ** t)) for t in STEPS])
    assert_close(by_formula(lambda t, math: bias_correction(beta, t, math)), exact, ulp=2)


@pytest.mark.only("jax")
@pytest.mark.parametrize("beta", BETAS)
def test_the_bias_correction_of_a_jitted_step(by_steps: Traced, beta: float) -> None:
    # beta2 = 0 and v = g**2 = 1, so that the update is m_hat alone: m = 1 stays 1 but for a rounding
    exact = np.asarray([float(1 / (1 - mpf(beta) ** t)) for t in STEPS])
    assert_close(by_steps(Adam(beta1=beta, beta2=0.0, eps=0.0), {"m": 1.0, "v": 1.0}), exact, ulp=4)


@pytest.mark.only("jax")
@pytest.mark.parametrize("threshold", [4.0, 5.0])
@pytest.mark.parametrize("beta2", BETAS_2)
def test_the_factor_of_radam_traced_in_float32(by_formula: Any, beta2: float, threshold: float) -> None:
    method = RAdam(beta2=beta2, threshold=threshold)
    actual = np.asarray(by_formula(lambda t, math: method.coefficients(t, math)[-1]))
    exact = omegas(beta2, threshold)
    assert ((actual > 0) == (np.asarray(exact) > 0)).all(), "the same branch as in 50 digits"
    assert_close(actual, exact, ulp=5e-6 * 2**23)  # 5e-6, relative


@pytest.mark.only("jax")
@pytest.mark.parametrize("variant", ["paper", "reference"])
@pytest.mark.parametrize("beta2", BETAS_2)
def test_the_branch_and_factor_of_a_jitted_step(by_steps: Traced, beta2: float, variant: str) -> None:
    # m and v of 1 stay 1, and beta1 = 0 leaves m_hat = g = 1: the update is r, or 0 below the threshold
    method = RAdam(beta1=0.0, beta2=beta2, eps=0.0, variant=variant, below="skip")
    assert method.threshold is not None
    factor = omegas(beta2, method.threshold)
    exact = [w * float(sqrt(1 - mpf(beta2) ** t)) for t, w in zip(STEPS, factor, strict=True)]
    actual = np.asarray(by_steps(method, {"m": 1.0, "v": 1.0}))
    assert ((actual > 0) == (np.asarray(factor) > 0)).all(), "the same branch as in 50 digits"
    assert_close(actual, exact, ulp=5e-6 * 2**23)  # 5e-6, relative


@pytest.mark.only("jax")
def test_the_reference_coefficient_of_adamod_traced_in_float32(by_formula: Any) -> None:
    beta1, beta2 = mpf(0.9), mpf(0.9999)
    exact = [float((1 - beta1**t) / sqrt(1 - beta2**t)) for t in STEPS]
    method = AdaMod(beta2=0.9999, variant="reference")
    assert_close(by_formula(lambda t, math: method.coefficients(t, math)[0]), exact, ulp=4)
