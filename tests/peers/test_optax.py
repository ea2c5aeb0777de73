"""optax's optimizers and schedules, each beside the option that matches it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from adamod_array import Adam, Method, Momentum, RAdam, init, schedules, step
from tests import oracle
from tests.compare import assert_close
from tests.peers.compare import RTOL, assert_same, of_optax, ours


@pytest.mark.parametrize(
    ("method", "peer"),
    [
        (Adam(), optax.adam(0.01)),
        (Adam(0.8, 0.99, 1e-3), optax.adam(0.01, b1=0.8, b2=0.99, eps=1e-3)),
        (Adam(eps=1e-6, eps_root=1e-8), optax.adam(0.01, eps=1e-6, eps_root=1e-8)),
        (RAdam(threshold=5), optax.radam(0.01)),
        (RAdam(), optax.radam(0.01, threshold=4.0)),
        (RAdam(0.8, 0.99, 1e-3, 1e-5), optax.radam(0.01, 0.8, 0.99, 1e-3, 1e-5, threshold=4.0)),
        # equation 4 of Ma & Yarats, and RAdam with it
        (Adam(eps=0, eps_root=1e-8), optax.adam(0.01, eps=0, eps_root=1e-8)),
        (RAdam(eps=0, eps_root=1e-8), optax.radam(0.01, eps=0, eps_root=1e-8, threshold=4.0)),
        # optax adds eps to the corrected root, the authors' RAdam to the uncorrected: without it they are one
        (RAdam(eps=0, variant="reference"), optax.radam(0.01, eps=0)),
        (Momentum(0.9), optax.sgd(0.01, momentum=0.9)),
        (Momentum(0.9, nesterov=True), optax.sgd(0.01, momentum=0.9, nesterov=True)),
    ],
    ids=lambda x: str(x) if isinstance(x, Method) else "",
)
def test_optax(method: Method, peer: optax.GradientTransformation) -> None:
    assert_same(ours(method, 0.01), of_optax(peer))


def test_optax_adamw() -> None:
    assert_same(ours(Adam(), 0.01, weight_decay=0.1), of_optax(optax.adamw(0.01, weight_decay=0.1)))


def test_optax_adam_with_a_schedule() -> None:
    # optax counts from 0
    ours_, theirs = schedules.cosine_decay(30, final=0.1), optax.cosine_decay_schedule(0.01, 30, alpha=0.1)
    assert_same(ours(Adam(), 0.01 * ours_), of_optax(optax.adam(theirs)))


def test_optax_amsgrad_takes_the_maximum_after_the_bias_correction() -> None:
    # so it is ours, PyTorch's and Reddi et al.'s only while the corrected v grows, and no option of it is always
    def last(gradients: list[float]) -> tuple[float, float]:
        with jax.enable_x64(True):
            params, peer = jnp.zeros(()), optax.amsgrad(1.0)
            kept = peer.init(params)
            state = init(Adam(amsgrad=True), np.zeros(()), lr=1.0)
            for g in gradients:
                updates, kept = peer.update(jnp.asarray(g), kept)
                params = optax.apply_updates(params, updates)
                state = step(state, np.asarray(g))
            return float(state.params), float(params)

    assert_close(*last([1.0, 2.0, 4.0, 8.0]), ulp=RTOL)
    mine, theirs = last([8.0, 1.0, 1.0, 1.0])
    assert abs(mine - theirs) > 0.1


@pytest.mark.parametrize(
    ("ours_", "theirs"),
    [
        (schedules.cosine_decay(20), optax.cosine_decay_schedule(1.0, 20)),
        (schedules.cosine_decay(20, final=0.1), optax.cosine_decay_schedule(1.0, 20, alpha=0.1)),
        (schedules.linear_decay(20), optax.linear_schedule(1.0, 0.0, 20)),
        (schedules.linear_decay(20, final=0.25), optax.linear_schedule(1.0, 0.25, 20)),
        (schedules.exponential_decay(0.5, steps=7), optax.exponential_decay(1.0, 7, 0.5)),
        (schedules.step_decay((10, 20), 0.5), optax.piecewise_constant_schedule(1.0, {10: 0.5, 20: 0.5})),
        (
            schedules.join((schedules.constant(0.5), schedules.linear_decay(10), schedules.cosine_decay(9)), (8, 18)),
            optax.join_schedules(
                [optax.constant_schedule(0.5), optax.linear_schedule(1, 0, 10), optax.cosine_decay_schedule(1, 9)],
                [8, 18],
            ),
        ),
    ],
    ids=lambda x: str(x) if isinstance(x, schedules.Schedule) else "",
)
def test_optax_schedules_of_the_step_before(ours_: schedules.Schedule, theirs: Callable[[Any], Any]) -> None:
    steps = range(1, 41)
    with jax.enable_x64(True):
        expected = [float(theirs(jnp.asarray(t - 1))) for t in steps]
    assert_close([ours_(t) for t in steps], expected, ulp=RTOL, atol=1e-15)  # cosine ends in 1 + cos(pi)


def test_optax_warmup_wastes_its_first_step_and_ours_does_not() -> None:
    ours_, theirs = schedules.linear_warmup(10), optax.linear_schedule(0.0, 1.0, 10)
    assert float(theirs(0)) == 0
    with jax.enable_x64(True):
        expected = [float(theirs(t)) for t in range(1, 15)]
    assert_close([ours_(t) for t in range(1, 15)], expected, ulp=RTOL)


def test_optax_radam_takes_the_wrong_branch_in_float32_and_ours_does_not() -> None:
    def rectifies(update: Callable[[int], float]) -> list[bool]:
        return [update(t) < 0.5 for t in range(1, 9)]

    with jax.enable_x64(False):
        g = jnp.ones((), jnp.float32)
        peer = optax.radam(1.0, b2=0.9999)

        @jax.jit
        def theirs(t: Any) -> Any:
            # m and v as constant gradients leave them, so that each update is lr * r
            mu, nu = (1 - 0.9 ** (t - 1)) * g, -jnp.expm1((t - 1) * np.log(0.9999)) * g
            kept = (optax.ScaleByAdamState(count=t.astype(jnp.int32) - 1, mu=mu, nu=nu), optax.EmptyState())
            return -peer.update(g, kept)[0]

        method = RAdam(beta2=0.9999, threshold=5)
        omega = jax.jit(lambda t: method.coefficients(t, jnp)[-1])
        wrong = rectifies(lambda t: float(theirs(jnp.asarray(t, jnp.float32))))
        right = rectifies(lambda t: float(omega(jnp.asarray(t, jnp.float32))) or 1.0)
    exact = rectifies(lambda t: 0.0 if oracle.rho(t, oracle.mpf(0.9999)) > 5 else 1.0)
    assert right == exact
    assert wrong != exact


def test_optax_adam_divides_zero_by_zero_in_float16_and_ours_does_not() -> None:
    params = jnp.ones(3, jnp.float16)
    peer = optax.adam(1e-3)
    updates, _ = peer.update(jnp.zeros_like(params), peer.init(params))
    assert bool(jnp.isnan(updates).all())
    assert bool((step(init(Adam(), params), jnp.zeros_like(params)).params == 1).all())
