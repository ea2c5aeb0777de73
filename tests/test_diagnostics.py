"""adamod_array.diagnostics: rates, bounds, update magnitudes and histograms of a training."""

from __future__ import annotations

import dataclasses
import math
import pickle
from typing import Any

import numpy as np
import pytest

from adamod_array import (
    Adam,
    AdaMod,
    DiffGrad,
    Method,
    Momentum,
    RAdam,
    adam_init,
    adam_step,
    init,
    schedules,
    step,
)
from adamod_array.diagnostics import bounded_fraction, effective_rates, histogram, update_magnitudes
from tests import oracle
from tests.backend import Backend
from tests.compare import assert_close
from tests.trees import METHODS, assert_same, bits, tree, values

pytestmark = pytest.mark.slow("jax")  # which compiles each method anew

REAL = {"float16": "float32", "bfloat16": "float32", "complex64": "float32", "complex128": "float64"}
STEPS = 6  # RAdam's threshold of 4 is passed after four of them, that of 5 after five


def taken(method: Method, gradients: Any, backend: Backend, dtype: str, lr: Any, **options: Any) -> list[Any]:
    """The states from zero parameters, the first one included."""
    states = [init(method, backend.array(np.zeros(gradients[0].shape), dtype), lr, **options)]
    for g in gradients:
        states.append(step(states[-1], backend.array(g, dtype)))
    return states


def gradients(dtype: str, n: int = 8) -> list[Any]:
    return [oracle.gradients(f"diagnostics {t}", dtype, n) for t in range(STEPS)]


def rate(method: Any, t: int, row: dict[str, Any], alpha: float) -> Any:
    """The papers' rate of step t from the slots after it, in long double."""
    if isinstance(method, Momentum):
        return np.full(row["m"].shape, np.longdouble(alpha))
    c1, c2 = (1 - np.longdouble(beta) ** t for beta in (method.beta1, method.beta2))
    v, eps = row.get("v_max", row["v"]), np.longdouble(method.eps)
    if isinstance(method, RAdam):
        assert method.threshold is not None
        if not oracle.rho(t, oracle.mpf(method.beta2)) > method.threshold:
            return np.full(v.shape, np.longdouble(alpha if method.below == "momentum" else 0))
        rectified = alpha * np.longdouble(float(oracle.omega(t, oracle.mpf(method.beta2))))
        if method.variant == "reference":  # the box in torch.optim.RAdam's documentation
            return rectified / ((np.sqrt(v) + eps) / np.sqrt(c2))
        return rectified / (np.sqrt(v / c2 + np.longdouble(method.eps_root)) + eps)  # equation 11
    if isinstance(method, DiffGrad):
        return alpha / (np.sqrt(v / c2) + eps)  # before the friction
    if isinstance(method, Adam):
        return alpha / (np.sqrt(v / c2 + np.longdouble(method.eps_root)) + eps)  # Algorithm 1, line 8
    if getattr(method, "variant", "paper") == "reference":
        eta = alpha * np.sqrt(c2) / c1 / (np.sqrt(v) + eps)
    else:
        eta = alpha / (np.sqrt(v / c2) + eps)  # Algorithm 2, line 8
    return np.minimum(eta, row["s"])  # line 10


def check_rates(backend: Backend, method: Method, dtype: str) -> None:
    """Against those of the oracle's slots, of 50 digits."""
    lr, g = 0.25 * schedules.linear_warmup(4), gradients(dtype)
    rows = oracle.trajectory(method, np.zeros(8), g, lr)
    for t, (row, state) in enumerate(zip(rows, taken(method, g, backend, dtype, lr)[1:], strict=True), start=1):
        rates = effective_rates(state)
        assert rates.dtype == backend.array(0, REAL.get(dtype, dtype)).dtype
        # v and s gather up to 2 ulp a step; of v's the root keeps half, and adds to them c, itself and a division
        assert_close(backend.numpy(rates), rate(method, t, row, lr(t)), ulp=2 * STEPS + 2)


@pytest.mark.parametrize("name", METHODS)
def test_rates_are_the_papers(backend: Backend, name: str) -> None:
    check_rates(backend, METHODS[name], "float32")


def test_rates_in_every_dtype(backend: Backend, dtype: str) -> None:
    check_rates(backend, AdaMod(beta3=0.5), dtype)


def test_rates_are_what_the_momentum_was_multiplied_by(backend: Backend) -> None:
    """Two steps, from parameters that are zero."""
    g = np.asarray([3.0, -0.5, 1e-3])
    for name in ("adam", "adamod", "radam"):
        method: Any = METHODS[name]
        states = taken(method, [g, 2 * g], backend, "float64", 0.25)
        moved = [backend.numpy(state.params) for state in states]
        for t in (1, 2):
            m_hat = backend.numpy(states[t].slots["m"]) / (1 - method.beta1**t)
            # the difference of two parameters of one size has one more rounding, the product two, c and m_hat four
            update = backend.numpy(effective_rates(states[t])) * m_hat
            assert_close(moved[t - 1] - moved[t], update, atol=16 * 2**-53 * float(np.max(np.abs(moved[2]))))


def test_rates_of_nesterov_and_of_a_tree_of_learning_rates(backend: Backend) -> None:
    state = init(Momentum(nesterov=True), tree(backend), lr={"layers": 0.5, "b": 2.0})
    rates = effective_rates(step(state, tree(backend)))
    assert_close(backend.numpy(rates["layers"][0]["w"]), np.full((2, 3), 0.5, np.float32))
    assert_close(backend.numpy(rates["b"]), np.full(2, 2, np.float32))


def test_the_learning_rate_of_a_step_that_had_its_own(backend: Backend) -> None:
    g = backend.array(values(3))
    state = adam_init(backend.array(np.zeros(3)), lr=schedules.untuned_linear(0.999))
    constant = dataclasses.replace(state, lr=0.25)
    own, same = adam_step(state, g, lr=0.25), adam_step(constant, g)
    assert_same(backend, effective_rates(own, lr=0.25), effective_rates(same))
    assert_same(backend, update_magnitudes(state, own, lr=0.25), update_magnitudes(constant, same))


def test_a_rate_changed_after_the_step_is_not_the_steps(backend: Backend) -> None:
    old = adam_init(backend.array(np.zeros(3)), lr=0.5)
    new = adam_step(old, backend.array(values(3)))
    changed = dataclasses.replace(new, lr=4.0, weight_decay=0.5)
    assert_same(backend, update_magnitudes(old, changed), update_magnitudes(old, new))


def test_parameters_and_gradients_that_are_none(backend: Backend) -> None:
    params = {"w": backend.array(values(3)), "frozen": None, "idle": backend.array(values(2))}
    old = init(AdaMod(beta3=0.5), params, lr=0.5)
    new = step(old, {"w": backend.array(np.ones(3)), "frozen": None, "idle": None})
    assert effective_rates(new)["frozen"] is None
    moved = update_magnitudes(old, new)
    assert moved["frozen"] is None
    assert_close(backend.numpy(moved["idle"]), np.zeros(2, np.float32))
    # idle: v and s are 0, eta is lr/eps and the bound 0
    assert_close(backend.numpy(effective_rates(new)["idle"]), np.zeros(2, np.float32))
    assert float(bounded_fraction(new)) == 1


def test_a_rate_that_divides_by_zero_is_infinite(backend: Backend) -> None:
    state = adam_step(adam_init(backend.array(np.zeros(2)), eps=0), backend.array([0.0, 1.0]))
    with np.errstate(divide="ignore"):  # Dask divides now
        rates = backend.numpy(effective_rates(state))
    assert_close(rates, np.asarray([np.inf, 1e-3], np.float32), ulp=2)


def test_states_are_left_as_they_are(backend: Backend) -> None:
    old = init(AdaMod(), tree(backend), weight_decay=0.5)
    new = step(old, tree(backend, seed=3))
    kept = bits(backend, (old, new))
    histogram(effective_rates(new))
    bounded_fraction(new)
    histogram(update_magnitudes(old, new))
    assert bits(backend, (old, new)) == kept


def test_a_state_put_together_elsewhere(backend: Backend) -> None:
    state = step(init(AdaMod(), tree(backend)), tree(backend, seed=3))
    assert_same(backend, effective_rates(pickle.loads(pickle.dumps(state))), effective_rates(state))


# bounded_fraction


def test_the_share_of_bounded_coordinates(backend: Backend, dtype: str) -> None:
    """The gradient of two coordinates in eight grows: their average of rates is above the new one."""
    first, second = np.ones((2, 4)), np.ones((2, 4))
    second[:, 1] = 64
    states = taken(AdaMod(beta3=0.5), [first, second], backend, dtype, 0.5)
    share = bounded_fraction(states[2])
    assert tuple(share.shape) == () and float(share) == 0.75
    assert float(bounded_fraction(states[1])) == 1


def test_the_share_is_of_coordinates_and_not_of_leaves(backend: Backend) -> None:
    state = init(AdaMod(beta3=0.5), {"w": backend.array(np.zeros(7)), "b": [backend.array(0.0)]})
    state = step(state, {"w": backend.array(np.ones(7)), "b": [backend.array(1.0)]})
    state = step(state, {"w": backend.array(np.full(7, 64.0)), "b": [backend.array(1.0)]})
    assert float(bounded_fraction(state)) == 1 / 8


@pytest.mark.parametrize("name", ["adam", "radam", "momentum"])
def test_what_has_no_bound_is_never_bounded(backend: Backend, name: str) -> None:
    state = step(init(METHODS[name], tree(backend)), tree(backend))
    assert float(bounded_fraction(state)) == 0


# update_magnitudes


def test_the_first_step_of_adam_has_magnitude_one(backend: Backend, dtype: str) -> None:
    g = values(5) * (1 + 1j if "complex" in dtype else 1)
    old, new = taken(METHODS["adam"], [g], backend, dtype, 0.25)
    moved = update_magnitudes(old, new)
    assert moved.dtype == backend.array(0, REAL.get(dtype, dtype)).dtype
    # eps beside gradients of 0.06 and more: 2e-7; a complex number's parts have five roundings
    assert_close(backend.numpy(moved), np.ones(5), atol=1e-6)


@pytest.mark.parametrize("name", ["adam", "adamod", "radam", "momentum-nesterov"])
def test_magnitudes_are_the_papers(backend: Backend, name: str) -> None:
    lr, g = 0.25 * schedules.linear_warmup(4), gradients("float64")
    theta = values(8)
    rows = oracle.trajectory(METHODS[name], theta, g, lr, weight_decay=0.5)
    before = np.asarray(theta, np.longdouble)
    old = init(METHODS[name], backend.array(theta, "float64"), lr, weight_decay=0.5)
    for t, row in enumerate(rows, start=1):
        new = step(old, backend.array(g[t - 1], "float64"))
        expected = abs(row["params"] - (1 - np.longdouble(lr(t)) / 2) * before) / lr(t)
        # three roundings of the parameters' size, 16 times as large where the rate is 1/16, and some of the update's
        size = float(np.max(np.abs(before)) + np.max(expected))
        assert_close(backend.numpy(update_magnitudes(old, new)), expected, atol=64 * 2**-53 * size)
        before, old = row["params"], new


# histogram


def test_bins_are_closed_on_the_left(backend: Backend, real_dtype: str) -> None:
    x = backend.array([0.0, -3.0, 0.125, 1.0, 2.0, 9.5, 10.0, 99.0, 100.0, math.inf, math.nan], real_dtype)
    counts, edges = histogram(x, decades=(0, 2), per_decade=1)
    assert edges.tolist() == [1, 10, 100]
    assert backend.numpy(counts).tolist() == [3, 3, 2, 2]


def test_a_histogram_counts_what_numpy_counts(backend: Backend) -> None:
    x = 10 ** np.random.default_rng(0).uniform(-9, 9, (40, 50))
    counts, edges = histogram({"w": backend.array(x, "float64"), "none": None, "b": [backend.array(1.0, "float64")]})
    expected, _ = np.histogram(np.append(x, 1.0), edges)
    assert len(edges) == 161 and edges[80] == 1 and edges[0] == 1e-8 and edges[-1] == 1e8
    found = backend.numpy(counts)
    assert found[1:-1].tolist() == expected.tolist()
    assert found[0] == (x < 1e-8).sum() and found[-1] == (x >= 1e8).sum()


def test_an_array_without_numbers_is_counted(backend: Backend) -> None:
    counts, _ = histogram([backend.array(np.zeros(0))], decades=(0, 1), per_decade=2)
    assert backend.numpy(counts).tolist() == [0, 0, 0, 0]


# under a compiler


@pytest.mark.only("jax")
def test_under_jit(backend: Backend) -> None:
    import jax

    def looked_at(state: Any, grads: Any) -> Any:
        new = step(state, grads)
        moved = update_magnitudes(state, new)
        return effective_rates(new), moved, new, bounded_fraction(new), histogram(moved).counts

    state = init(AdaMod(beta3=0.9), tree(backend), lr=0.5)
    jitted = jax.jit(looked_at)
    for t in range(3):
        grads = tree(backend, seed=t)
        plain, inside = looked_at(state, grads), jitted(state, grads)
        # XLA may contract the product with c and the sum in it: the bits of the step itself are held elsewhere
        assert_same(backend, inside[:2], plain[:2], ulp=2)
        assert float(inside[3]) == float(plain[3])
        assert sum(backend.numpy(inside[4])) == 11
        state = plain[2]


# errors


@dataclasses.dataclass(frozen=True)
class Plain(Method):
    """A method that does not say its rates."""

    def rule(self, xp: Any, lr: Any, c: Any, g: Any, p: Any, *slots: Any) -> Any:
        return (p - lr * g,)


def test_errors_of_states(backend: Backend) -> None:
    zeros = backend.array(np.zeros(3))
    old = init(RAdam(), zeros)
    new = step(old, zeros)
    with pytest.raises(ValueError, match="no step has been taken"):
        effective_rates(old)
    with pytest.raises(TypeError, match="expected a State, got"):
        effective_rates(zeros)
    with pytest.raises(TypeError, match=r"Plain does not define rates"):
        effective_rates(step(init(Plain(), zeros), zeros))
    with pytest.raises(ValueError, match="one step after old, of step 0, got one of step 2"):
        update_magnitudes(old, step(new, zeros))
    with pytest.raises(ValueError, match=r"new\.params must have its parameter's shape \(3,\), got \(2,\)"):
        update_magnitudes(old, step(init(RAdam(), zeros[:2]), zeros[:2]))
    with pytest.raises(ValueError, match=r"new\.params must have the structure of params"):
        update_magnitudes(old, step(init(RAdam(), [zeros]), [zeros]))
    with pytest.raises(ValueError, match="lr must not be negative"):
        effective_rates(new, lr=-1.0)
    with pytest.raises(ValueError, match="no numbers"):
        bounded_fraction(step(init(RAdam(), {"w": None}), {"w": None}))
    assert effective_rates(step(init(RAdam(), {"w": None}), {"w": None})) == {"w": None}


def test_a_donated_state_is_spent(backend: Backend) -> None:
    old = step(init(AdaMod(), tree(backend)), tree(backend))
    new = step(old, tree(backend), donate=True)
    with pytest.raises(ValueError, match="spent"):
        effective_rates(old)
    with pytest.raises(ValueError, match="spent"):
        update_magnitudes(old, new)
    assert_close(backend.numpy(bounded_fraction(new)), np.asarray(1.0, backend.numpy(bounded_fraction(new)).dtype))


def test_errors_of_histograms(backend: Backend) -> None:
    with pytest.raises(ValueError, match="no arrays"):
        histogram({"w": None})
    with pytest.raises(TypeError, match=r"rates\['w'\]\[0\] must be real, got complex64"):
        histogram({"w": [backend.array([1j], "complex64")]})
    for decades, per_decade in (((2, 2), 1), ((0, 1), 0)):
        with pytest.raises(ValueError, match="two ascending decades"):
            histogram(backend.array([1.0]), decades=decades, per_decade=per_decade)


@pytest.mark.only("torch")
def test_parameters_that_require_grad(backend: Backend) -> None:
    import torch

    weights = torch.zeros(3, requires_grad=True)
    old = adam_init(weights, lr=0.5, eps=0)
    new = adam_step(old, torch.ones(3))
    assert not effective_rates(new).requires_grad
    assert_close(backend.numpy(update_magnitudes(old, new)), np.ones(3, np.float32))
