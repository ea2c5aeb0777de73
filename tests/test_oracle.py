"""Every method and option against the 50-digit oracle, on the backend under test."""

from __future__ import annotations

import dataclasses
import zlib
from collections.abc import Callable
from typing import Any

import numpy as np
import optree
import pytest

from adamod_array import Adam, AdaMod, Method, RAdam, State, init, schedules, step
from tests import oracle
from tests.backend import Backend
from tests.compare import assert_close

# (dtype, method, lr, t, g): where roundings add up, found by a search over thousands of hyperparameters and millions of
# gradients. At each, a rule with three or four roundings more than it needs, or a coefficient of step t that is off by
# its last bits, goes past 5 ulp.
HARD: list[tuple[str, Method, float, int, float]] = [
    ("float32", Adam(0.9, 0.9999, 1e-3), 1e-3, 1, -0.04054165259003639),
    ("float32", Adam(0.999, 0.99, 0, 1e-6), 2e-3, 1, -0.0038564058486372232),
    ("float32", Adam(0.999, 0.99999, 1e-5, 1e-5**2), 1e-3, 1, -0.00024710394791327417),
    ("float32", AdaMod(0.999, 0.9, 0.999, 1e-4), 2e-3, 5, 55.709964752197266),
    (
        "float32",
        AdaMod(0.5956577769433351, 0.9996736714008433, 0.9539971554812132, 1.3687778421448109e-06),
        5.203437722263483e-06,
        1,
        -7.900722266640514e-05,
    ),
    ("float32", RAdam(0.9, 0.999, 0, 1e-8), 1e-4, 5, 0.0011925643775612116),
    (
        "float64",
        Adam(0.4453203866643312, 0.9866780426533657, 2.1723321587952294e-11),
        1.382072588949385e-05,
        1,
        0.0010827068546011983,
    ),
    (
        "float64",
        Adam(0.4453203866643312, 0.9866780426533657, 0, 2.1723321587952294e-11),
        1.382072588949385e-05,
        1,
        -6.776425392812779e-05,
    ),
    (
        "float64",
        AdaMod(0.4453203866643312, 0.9866780426533657, 0.9994935018637071, 2.1723321587952294e-11),
        1.382072588949385e-05,
        1,
        -6.776425392812779e-05,
    ),
    # rho_6 = 4.0009: what is left of it above 4 has lost three digits
    (
        "float64",
        RAdam(0.2213686612784019, 0.7050872470021146, 0, 6.213498230782627e-08),
        0.002488793082533604,
        6,
        3.73370413147729e-05,
    ),
]

WARM = 0.02 * schedules.untuned_linear(0.99) * schedules.cosine_decay(40)


def fresh(backend: Backend, method: Method, n: int, dtype: str, lr: Any, t: int) -> State:
    """A state of zeros about to take step ``t``: a parameter of size 1 would hide all but 7 digits of the update."""
    return dataclasses.replace(init(method, backend.array(np.zeros(n), dtype), lr), step=t - 1)


def cancelled(method: Method, t: int) -> float:
    """What RAdam's omega loses where rho is just above 4, in ulp of float64; float32 does not notice.

    As a double, rho is known to four ulp, and omega goes with the root of rho - 4.
    """
    if not isinstance(method, RAdam):
        return 0.0
    rho = oracle.rho(t, oracle.mpf(method.beta2))
    return float(2 * rho / (rho - 4)) if 4 < rho < 5 else 0.0


def assert_step(backend: Backend, method: Method, dtype: str, lr: Any, t: int, g: np.ndarray[Any, Any]) -> None:
    """Step ``t`` from a state of zeros: parameters and slots against the oracle."""
    state = step(fresh(backend, method, len(g), dtype, lr, t), backend.array(g, dtype))
    (expected,) = oracle.trajectory(method, np.zeros_like(g), [g], lr, start=t)
    update = backend.numpy(state.params)
    assert update.dtype == g.dtype
    bound = oracle.allowed(backend, dtype, method) + (cancelled(method, t) if dtype == "float64" else 0)
    assert_close(update, oracle.rounded(expected["params"], dtype), ulp=bound)
    for name in method.slots:
        slot = backend.numpy(state.slots[name])
        assert_close(slot, expected[name], ulp=oracle.allowed(backend, slot.dtype.name))


@pytest.mark.slow("jax")
@pytest.mark.parametrize("name", oracle.METHODS)
def test_a_step_from_zero_is_the_papers(backend: Backend, dtype: str, name: str) -> None:
    for t in (1, 2, 5, 6, 100, 20_000):
        assert_step(backend, oracle.METHODS[name], dtype, 1e-3, t, oracle.gradients(f"{name} {t}", dtype, 50))


@pytest.mark.parametrize(("precision", "method", "lr", "t", "g"), HARD)
def test_a_step_from_zero_is_the_papers_where_roundings_add_up(
    backend: Backend, precision: str, method: Method, lr: float, t: int, g: float
) -> None:
    others = oracle.gradients(f"{method} {t}", precision, 100)
    assert_step(backend, method, precision, lr, t, np.append(others, others.dtype.type(g)))


@pytest.mark.parametrize("name", oracle.METHODS)
def test_a_step_from_zero_is_the_papers_whatever_the_hyperparameters(backend: Backend, name: str) -> None:
    rng = np.random.default_rng(zlib.crc32(name.encode()))
    method = oracle.METHODS[name]
    for precision in ("float32", "float64"):
        drawn: dict[str, Any] = {
            field.name: 1 - 10 ** rng.uniform(-5, -0.5)
            for field in dataclasses.fields(method)
            if field.name.startswith("beta")
        }
        for eps in ("eps", "eps_root"):
            if getattr(method, eps, 0):
                drawn[eps] = 10 ** rng.uniform(-12, 0)
        changed = dataclasses.replace(method, **drawn)
        for t in (1, 2, 10, 1_000_000):
            assert_step(
                backend, changed, precision, 10 ** rng.uniform(-6, 0), t, oracle.gradients(f"{name} {t}", precision, 50)
            )


@pytest.mark.parametrize("name", oracle.METHODS)
def test_a_step_of_a_schedule_is_the_papers(backend: Backend, name: str) -> None:
    # the oracle takes the schedule's own double: how exact that is, is a question for test_schedules
    for t in (1, 7):
        assert_step(backend, oracle.METHODS[name], "float64", WARM, t, oracle.gradients(f"{name} {t}", "float64", 20))


@pytest.mark.slow("jax")
@pytest.mark.parametrize(("precision", "lr"), [("float32", 0.01), ("float64", WARM), ("complex128", WARM)])
@pytest.mark.parametrize("name", oracle.METHODS)
def test_a_trajectory_is_the_papers(
    backend: Backend, name: str, lr: float | Callable[[int], float], precision: str
) -> None:
    method, n, weight_decay = oracle.METHODS[name], 6, 0.1
    steps = 12 if backend.name == "dask" else 30  # it plans a graph for each; the arithmetic is NumPy's own
    rng = np.random.default_rng(steps)
    g: Any = rng.normal(size=(steps, n)) * 10.0 ** np.arange(-4, n - 4)
    g[:5, ::3] = 0  # coordinates that wake late
    g[3::7] = 0
    theta: Any = rng.normal(size=n)
    if precision == "complex128":
        g, theta = g * (0.6 - 0.8j), theta * (1 + 2j)
    g, theta = g.astype(precision), theta.astype(precision)

    state: Any = init(method, backend.array(theta, precision), lr, weight_decay=weight_decay)
    for each in g:
        state = step(state, backend.array(each, precision))
        if backend.name == "dask":
            # else all steps are one graph, which Dask takes seconds to plan
            state = optree.tree_map(lambda x: x.persist() if hasattr(x, "persist") else x, state)
    exact = oracle.trajectory(method, theta, list(g), lr, weight_decay)

    # A step is wrong by some eps of its own length and of the parameter: after T steps by at most the sum of these,
    # eps * (lr * T * reach + T * |theta|), reach being the longest step in units of lr. Where m has cancelled,
    # no bound in ulps of the result could hold.
    eps = float(np.finfo(precision).eps)
    path = np.abs(np.diff([theta, *(row["params"] for row in exact)], axis=0))
    for i in range(n):
        atol = eps * steps * float(2 * path[:, i].max() + abs(theta[i]))
        assert_close(backend.numpy(state.params)[i], exact[-1]["params"][i], atol=atol)
        largest = max(abs(row["m"][i]) for row in exact)
        assert_close(backend.numpy(state.slots["m"])[i], exact[-1]["m"][i], atol=2 * eps * steps * float(largest))
    for slot in method.slots[1:]:
        # averages of what is not negative cannot cancel: two roundings a step on top of those of one step
        assert_close(backend.numpy(state.slots[slot]), exact[-1][slot], ulp=oracle.allowed(backend, precision) + steps)


@pytest.mark.parametrize("beta2", [0.9, 0.98, 0.999, 0.9999])
def test_the_warmups_are_the_papers(beta2: float) -> None:
    exact = oracle.mpf(beta2)
    pairs: list[tuple[Callable[[int], float], Callable[[int], Any]]] = [
        (schedules.linear_warmup(300), lambda t: oracle.linear_warmup(t, 300)),
        (schedules.exponential_warmup(300), lambda t: oracle.exponential_warmup(t, 300)),
        (schedules.untuned_linear(beta2), lambda t: oracle.linear_warmup(t, 2 / (1 - exact))),
        (schedules.untuned_exponential(beta2), lambda t: oracle.exponential_warmup(t, 1 / (1 - exact))),
        (schedules.radam_warmup(beta2), lambda t: oracle.radam_warmup(t, exact)),
    ]
    steps = (1, 4, 5, 6, 10, 299, 300, 1999, 2000, 2001, 100_000)
    for ours, paper in pairs:
        # a few roundings of doubles each
        assert_close([ours(t) for t in steps], [float(paper(t)) for t in steps], ulp=4)
