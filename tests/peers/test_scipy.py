"""Methods for ``scipy.optimize.minimize``: SciPy's tests of its own gradient methods, and what it documents of them."""

from __future__ import annotations

import contextlib
import inspect
import io
import itertools
import math
import pickle
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from scipy import optimize
from scipy.optimize import Bounds, OptimizeResult, OptimizeWarning, minimize, rosen, rosen_der, rosen_hess
from scipy.optimize.tests import test_optimize as suite

import adamod_array.scipy
from adamod_array import schedules
from adamod_array.scipy import adam, adamod, diffgrad, diffmod, momentum, radam
from tests.compare import assert_close
from tests.peers.compare import RTOL

METHODS = [adam, adamod, radam, momentum, diffgrad, diffmod]
METHODS_BY_NAME = pytest.mark.parametrize("method", METHODS, ids=lambda method: method.__name__)
X0 = np.asarray([2.0, -1.0, 0.5])


def bowl(x: Any) -> Any:
    """Its minimum is 1, at 0, 1, 2 ..."""
    return 1 + np.sum((x - np.arange(len(x))) ** 2)


def bowl_der(x: Any) -> Any:
    return 2 * (x - np.arange(len(x)))


# SciPy's own tests, with BFGS and CG replaced


def case(owner: Any, name: str, **arguments: Any) -> Any:
    """A test of SciPy's, with the warnings that it lets pass."""
    function = getattr(owner, name)
    marks = [mark for mark in getattr(function, "pytestmark", []) if mark.name == "filterwarnings"]
    return pytest.param(owner, name, arguments, marks=marks, id="-".join([name, *map(str, arguments.values())]))


SIMPLE = suite.TestOptimizeSimple
EITHER = (
    "test_minimize_callback_copies_array",
    "test_no_increase",
    "test_respect_maxiter",
    "test_nan_values",
    "test_duplicate_evaluations",
    "test_minimize_warnings_gh1953",
)
CASES = [
    case(SIMPLE, "test_bfgs_nan"),
    case(SIMPLE, "test_bfgs_numerical_jacobian"),
    case(SIMPLE, "test_bfgs_gh_2169"),
    case(SIMPLE, "test_bfgs_double_evaluations"),
    case(SIMPLE, "test_finite_differences_jac"),
    case(SIMPLE, "test_minimize_coerce_args_param"),
    case(SIMPLE, "test_ndim_error"),
    *(case(SIMPLE, name, method=method) for name in EITHER for method in ("bfgs", "cg")),
    case(SIMPLE, "test_minimize_callback_copies_array", method="fmin_bfgs"),
    *(case(SIMPLE, "test_callback_stopiteration", method="bfgs", new_cb_interface=k) for k in range(3)),
    case(suite.TestOptimizeResultAttributes, "test_attributes_present"),
    case(suite, "test_obj_func_returns_scalar"),
    case(suite, "test_result_x_shape_when_len_x_is_one"),
    case(suite, "test_minimize_maxiter_noninteger", method="bfgs"),
    case(suite, "test_x_overwritten_user_function"),
]
"""All but those of one algorithm alone (a Hessian, a line search, ``workers``), those written anew below, and
``test_bfgs_nan_return``, which wants NaN where the objective became NaN: here the best iterate is the result."""


@pytest.mark.parametrize(("owner", "name", "arguments"), CASES)
@pytest.mark.parametrize("method", [adam, adamod], ids=lambda method: method.__name__)
def test_scipys_own_test(
    monkeypatch: pytest.MonkeyPatch, method: Any, owner: Any, name: str, arguments: dict[str, Any]
) -> None:
    """As it stands, at a learning rate of 0.1, and for AdaMod a short memory."""
    calls = []
    rates = {"lr": 0.1, "beta3": 0.9} if method is adamod else {"lr": 0.1}

    def replaced(fun: Any, x0: Any, *args: Any, method: Any = "bfgs", options: Any = None, **rest: Any) -> Any:
        if method.lower() in ("bfgs", "cg"):
            calls.append(method)
            method, options = chosen, {**rates, **(options or {})}
        return minimize(fun, x0, *args, method=method, options=options, **rest)

    def fmin(f: Any, x0: Any, fprime: Any = None, *, callback: Any = None, epsilon: Any = None, **rest: Any) -> Any:
        options = {key: value for key, value in rest.items() if key != "args"}
        options["finite_diff_abs_step"] = epsilon
        return replaced(f, x0, rest.get("args", ()), jac=fprime, callback=callback, options=options).x

    chosen = method
    monkeypatch.setattr(optimize, "minimize", replaced)
    monkeypatch.setattr(optimize, "fmin_bfgs", fmin)
    monkeypatch.setattr(suite, "MINIMIZE_METHODS", ["bfgs", "cg"])
    if inspect.isclass(owner):
        owner = owner()
        owner.setup_method()
    getattr(owner, name)(**arguments)
    assert calls


@METHODS_BY_NAME
def test_scipys_entropy_problem(method: Any) -> None:
    """``test_bfgs`` and ``test_cg``, without the counts."""
    problem = SIMPLE()
    problem.setup_method()
    options = {"lr": 0.1, "maxiter": 2500}
    result = minimize(problem.func, problem.startparams, jac=problem.grad, method=method, options=options)
    assert result.success
    assert problem.func(result.x) == pytest.approx(problem.func(problem.solution), abs=1e-6)


def test_a_minimum_of_minus_infinity() -> None:
    """``test_bfgs_infinite``."""
    with np.errstate(over="ignore"):
        result = minimize(
            lambda x: -(np.e ** (-x)), [0.0], jac=lambda x: np.e ** (-x), method=momentum, options={"lr": 1.0}
        )
    assert result.fun == -math.inf and result.status == 2 and not result.success


def test_tol_does_something() -> None:
    """``test_minimize_tol_parameter``; and ``gtol`` goes first."""
    found = [minimize(bowl, X0, jac=bowl_der, tol=tol, method=adam, options={"lr": 0.1}) for tol in (1e-8, 1.0)]
    assert found[0].fun < found[1].fun
    for result, tol in zip(found, (1e-8, 1.0), strict=True):
        assert result.success and np.max(abs(result.jac)) <= tol
    both = minimize(bowl, X0, jac=bowl_der, tol=1e-8, method=adam, options={"lr": 0.1, "gtol": 1.0})
    assert both.nit == found[1].nit


@pytest.mark.parametrize("scale", [1e-50, 1.0, 1e50])
def test_steps_do_not_grow_with_the_gradient(scale: float) -> None:
    """``test_initial_step_scaling``: eps is in units of a gradient, so that it goes where those are tiny."""
    options = {"lr": 0.1, "eps": 0.0, "gtol": scale * 1e-8}
    result = minimize(
        lambda x: scale * (x[0] - 1) ** 2, [-1.0], jac=lambda x: scale * (x - 1), method=adam, options=options
    )
    assert result.success
    assert_close(result.x, [1.0], atol=1e-7)


def test_a_flat_region() -> None:
    """``test_cg_cornercase``, of some of its points."""
    for x0 in np.linspace(-0.75, 3, 6):
        result = minimize(lambda r: 2.5 * (1 - np.exp(-1.5 * (r - 0.5))) ** 2, [x0], method=adam, options={"lr": 0.1})
        assert result.success
        assert_close(result.x, [0.5], atol=5e-6)


# What is documented


@pytest.mark.parametrize(("method", "options"), [(adam, {}), (adamod, {"len_memory": 10}), (diffgrad, {})])
def test_rosenbrock(method: Any, options: dict[str, Any]) -> None:
    x0 = np.asarray([0.5, 0.5])
    options = {"lr": 0.05, "maxiter": 5000, "gtol": 1e-4, **options}
    result = minimize(rosen, x0, jac=rosen_der, method=method, options=options)
    assert (result.success, result.status, result.message) == (True, 0, "Optimization terminated successfully.")
    assert_close(result.x, [1.0, 1.0], atol=1e-3)
    assert result.fun == rosen(result.x) and isinstance(result.fun, float)
    assert_close(result.jac, rosen_der(result.x))
    assert np.max(abs(result.jac)) <= 1e-4
    assert result.nfev == result.njev == result.nit + 1
    assert_close(x0, [0.5, 0.5])


def test_the_steps_are_those_of_torch() -> None:
    lr = 0.01 * schedules.untuned_linear(0.99)
    options = {"lr": lr, "beta2": 0.99, "eps": 1e-6, "weight_decay": 0.1, "maxiter": 30, "return_all": True}
    result = minimize(rosen, X0, jac=rosen_der, method=adam, options=options)
    p = torch.nn.Parameter(torch.from_numpy(X0.copy()))
    optimizer = torch.optim.AdamW([p], betas=(0.9, 0.99), eps=1e-6, weight_decay=0.1)
    path = [X0]
    for t in range(1, 31):
        optimizer.param_groups[0]["lr"] = lr(t)
        p.grad = torch.from_numpy(rosen_der(path[-1]))
        optimizer.step()
        path.append(p.detach().numpy().copy())
    assert_close(result.allvecs, path, ulp=RTOL, atol=1e-13)


def test_every_hyperparameter_is_an_option() -> None:
    changed: dict[Any, dict[str, Any]] = {
        adam: {"beta1": 0.5, "beta2": 0.5, "eps": 0.1, "eps_root": 0.1, "amsgrad": True, "weight_decay": 0.1},
        adamod: {"beta3": 0.5, "variant": "reference", "hold_idle": True, "len_memory": 7},
        radam: {"threshold": 6.0, "below": "skip"},
        momentum: {"beta": 0.5, "nesterov": True},
        diffgrad: {"beta1": 0.5},
        diffmod: {"beta3": 0.5},
    }
    pulses = [[3.0, 0.0, 1.0], [0.0, 0.0, 1.0], [2.0, 0.0, 1.0], [0.1, 1.0, 1.0]]

    def after(method: Any, **options: Any) -> Any:
        pulse = itertools.cycle(pulses)
        settings = {"lr": 1e-2, "maxiter": 8, "return_all": True, **options}
        return minimize(bowl, X0, jac=lambda x: next(pulse), method=method, options=settings).allvecs[-1]

    for method, options in changed.items():
        for name, value in options.items():
            assert (after(method) != after(method, **{name: value})).any(), (method, name)
    assert_close(after(adamod, len_memory=10), after(adamod, beta3=0.9))


@pytest.mark.parametrize("x0", [[3, 4], 5, np.ones(2, np.float32), (1.0,), np.arange(3, dtype=np.int8), [True, False]])
def test_any_x0(x0: Any) -> None:
    seen = []

    def fun(x: Any) -> Any:
        seen.append((x.dtype, x.shape))
        return bowl(x)

    before = np.copy(x0)
    result = minimize(fun, x0, jac=bowl_der, method=adam, options={"lr": 0.1})
    assert result.success and {*seen} == {(np.dtype(float), (np.size(x0),))}
    assert result.x.dtype == float and result.x.shape == (np.size(x0),)
    assert_close(np.asarray(x0), before)


def test_any_shape_where_minimize_is_not_asked() -> None:
    result = adam(bowl, np.ones((2, 3), np.float32), jac=bowl_der, lr=0.1)
    assert result.success
    assert_close(result.x, np.arange(6.0), atol=1e-5)


def test_args() -> None:
    def fun(x: Any, a: float, b: float) -> Any:
        return np.sum(a * (x - b) ** 2)

    def jac(x: Any, a: float, b: float) -> Any:
        return 2 * a * (x - b)

    for given in (jac, None):
        result = minimize(fun, [1.0, 2.0], args=(3.0, 4.0), jac=given, method=adam, options={"lr": 0.1})
        assert_close(result.x, [4.0, 4.0], atol=1e-5)


def test_fun_may_return_the_gradient_too() -> None:
    calls = []

    def both(x: Any) -> Any:
        calls.append(x)
        return bowl(x), bowl_der(x)

    result = minimize(both, X0, jac=True, method=adam, options={"lr": 0.1})
    alone = minimize(bowl, X0, jac=bowl_der, method=adam, options={"lr": 0.1})
    assert_close(result.x, alone.x)
    assert len(calls) == result.nfev == result.njev == alone.nfev


@pytest.mark.parametrize(
    ("options", "calls", "error"),
    [
        ({}, 3, 1e-7),
        ({"finite_diff_abs_step": 1e-4}, 3, 1e-3),
        ({"finite_diff_abs_step": [1e-8, 1e-7, 1e-6]}, 3, 1e-5),
        ({"finite_diff_rel_step": 1e-7}, 3, 1e-5),
        ({"finite_diff_method": "2-point"}, 3, 1e-6),
        ({"finite_diff_method": "3-point"}, 6, 1e-9),
        ({"finite_diff_method": "cs"}, 3, 1e-15),
    ],
    ids=str,
)
def test_finite_differences(options: dict[str, Any], calls: int, error: float) -> None:
    """No call of fun at a point that it was called at before; each counted."""
    points: list[Any] = []

    def fun(x: Any) -> Any:
        points.append(x.tobytes())
        return np.sum((x - np.arange(3)) ** 2)

    result = minimize(fun, X0, method=adam, options={"lr": 0.1, "maxiter": 5, **options})
    assert result.nfev == len(points) == len({*points}) == 6 * (1 + calls)
    assert result.njev == result.nit + 1 == 6
    assert 0 <= np.max(abs(result.jac - bowl_der(result.x))) < error * 4
    if error > 1e-15:
        assert np.max(abs(result.jac - bowl_der(result.x))) > 0


def test_a_word_for_jac_where_minimize_is_not_asked() -> None:
    """Which hands the words to its own methods alone."""
    by_word = adam(bowl, X0, jac="3-point", maxiter=3)
    by_option = minimize(bowl, X0, method=adam, options={"maxiter": 3, "finite_diff_method": "3-point"})
    assert_close(by_word.jac, by_option.jac)
    with pytest.raises(ValueError, match="Unknown method '4-point'"):
        minimize(bowl, X0, method=adam, options={"finite_diff_method": "4-point"})


def callbacks(seen: list[Any]) -> dict[str, Callable[..., Any]]:
    """Both forms, as functions, methods and objects."""

    class Both:
        def __call__(self, intermediate_result: OptimizeResult) -> None:
            seen.append(intermediate_result)

        def of_x(self, xk: Any) -> None:
            seen.append(OptimizeResult(x=xk))

    def keyword(*, intermediate_result: Any) -> None:
        seen.append(intermediate_result)

    def another_name(result: Any) -> None:
        seen.append(OptimizeResult(x=result))

    def more(xk: Any, *rest: Any) -> None:
        seen.append(OptimizeResult(x=xk))

    return {"object": Both(), "keyword": keyword, "method": Both().of_x, "any name": another_name, "more": more}


@pytest.mark.parametrize("form", callbacks([]))
def test_callback(form: str) -> None:
    seen: list[Any] = []
    options = {"maxiter": 4, "return_all": True}
    result = minimize(bowl, X0, jac=bowl_der, method=adamod, callback=callbacks(seen)[form], options=options)
    assert len(seen) == result.nit == 4
    assert_close([each.x for each in seen], result.allvecs[1:])
    assert not any(np.may_share_memory(a.x, b.x) for a, b in itertools.combinations([*seen, result], 2))
    if form in ("object", "keyword"):
        assert [each.fun for each in seen] == [bowl(each.x) for each in seen]


def test_a_callback_without_a_signature() -> None:
    seen: set[float] = set()
    with pytest.raises(ValueError, match="no signature found"):
        inspect.signature(seen.update)
    result = minimize(bowl, X0, jac=bowl_der, method=adam, callback=seen.update, options={"maxiter": 1})
    assert seen == {*result.x}


def test_stop_iteration() -> None:
    def stop(intermediate_result: OptimizeResult) -> None:
        if intermediate_result.fun < 3:
            raise StopIteration

    result = minimize(bowl, X0, jac=bowl_der, method=adam, callback=stop, options={"lr": 0.1})
    assert (result.status, result.success, result.message) == (99, False, "`callback` raised `StopIteration`.")
    assert result.fun == bowl(result.x) < 3 and result.nit > 1


def test_what_others_write_into_is_theirs() -> None:
    def spoil(x: Any) -> None:
        x[:] = np.nan

    def fun(x: Any) -> Any:
        value = bowl(x)
        spoil(x)
        return value

    gradient = np.empty(3)

    def jac(x: Any) -> Any:
        gradient[:] = bowl_der(x)  # the same array every time
        spoil(x)
        return gradient

    def callback(intermediate_result: OptimizeResult) -> None:
        spoil(intermediate_result.x)

    options = {"lr": 0.1, "return_all": True}
    expected = minimize(bowl, X0, jac=bowl_der, method=adamod, options=options)
    for each in (callback, spoil):
        found = minimize(fun, X0, jac=jac, method=adamod, callback=each, options=options)
        assert_close(found.allvecs, expected.allvecs)
        assert_close(found.x, expected.x)
        assert_close(found.jac, expected.jac)


def test_the_best_iterate_is_returned() -> None:
    """At a rate that is too large the last one is not; ``jac`` returns the same array every time."""
    gradient = np.empty(3)

    def jac(x: Any) -> Any:
        gradient[:] = rosen_der(x)
        return gradient

    for method in (adam, adamod, diffgrad, diffmod):
        options = {"lr": 3.0, "maxiter": 9, "return_all": True}
        result = minimize(rosen, [1.2, 1.1, 1.4], jac=jac, method=method, options=options)
        values = [rosen(x) for x in result.allvecs]
        assert result.status == 1 and len(values) == 10
        assert result.fun == min(values) == rosen(result.x) < values[-1]
        assert_close(result.jac, rosen_der(result.x))


def test_success_is_of_the_best_iterate() -> None:
    """Where the first iterate within gtol is not the lowest, it goes on until one is both."""
    longest = 0
    for seed in (1, 18, 29):
        q = np.linalg.qr(np.random.default_rng(seed).normal(size=(4, 4)))[0]
        a = q @ np.diag(10.0 ** np.arange(4)) @ q.T
        options = {"lr": 0.5, "return_all": True}
        result = minimize(lambda x, a: x @ a @ x / 2 + 3, q[0] * 2, (a,), adam, lambda x, a: a @ x, options=options)
        within = [bool(np.max(abs(a @ x)) <= 1e-5) for x in result.allvecs]
        assert result.success and np.max(abs(result.jac)) <= 1e-5
        assert result.fun == min(x @ a @ x / 2 + 3 for x in result.allvecs)
        longest = max(longest, sum(within))
    assert 1 < longest < 100


def test_settling_beside_the_lowest_value_ends_too() -> None:
    """A narrow pit is jumped over; what is returned is the point in it."""

    def fun(x: Any) -> Any:
        return x[0] ** 2 - 10 * (abs(x[0] - 0.5) < 0.001)

    result = minimize(fun, [0.6], jac=lambda x: 2 * x, method=adam, options={"lr": 0.1})
    assert (result.x, result.fun, result.status) == (pytest.approx([0.5]), pytest.approx(-9.75), 0)
    assert result.nit < 2000


@pytest.mark.parametrize("wrong", [math.nan, math.inf])
@pytest.mark.parametrize("of", ["fun", "jac"])
@pytest.mark.parametrize("call", [1, 5])
def test_what_is_not_finite_ends_it(wrong: float, of: str, call: int) -> None:
    calls = {"fun": 0, "jac": 0}

    def value(name: str, right: Any) -> Any:
        calls[name] += 1
        return wrong * np.ones_like(right) if name == of and calls[name] == call else right

    seen: list[Any] = []
    result = minimize(
        lambda x: value("fun", bowl(x)),
        X0,
        jac=lambda x: value("jac", bowl_der(x)),
        method=adam,
        callback=lambda x: seen.append(x),
        options={"lr": 0.1, "return_all": True},
    )
    assert (result.status, result.success) == (2, False)
    assert result.message == "The objective or its gradient is not finite."
    assert result.nit == len(seen) == call - 1
    assert_close(result.x, result.allvecs[-1 if of == "jac" or call == 1 else -2])
    assert result.fun == bowl(result.x) or (call == 1 and of == "fun")


def test_nan_in_finite_differences_gives_no_warning() -> None:
    for wrong in (math.nan, math.inf):
        result = minimize(lambda x, wrong=wrong: wrong, X0, method=adam)
        assert result.status == 2 and result.nfev == 1 and result.njev == 0
        assert_close(result.x, X0)


def test_x0_may_be_the_minimum_and_maxiter_none() -> None:
    result = minimize(bowl, np.arange(4.0), jac=bowl_der, method=adam)
    assert (result.nit, result.nfev, result.success) == (0, 1, True)
    result = minimize(bowl, X0, jac=bowl_der, method=adam, options={"maxiter": 0})
    assert (result.nit, result.nfev, result.success) == (0, 1, False)
    assert result.message == "Maximum number of iterations has been exceeded."


def test_norm() -> None:
    for order in (1, 2, np.inf, -np.inf):
        options = {"lr": 0.1, "norm": order, "gtol": 1e-2, "return_all": True}
        result = minimize(bowl, X0, jac=bowl_der, method=adam, options=options)
        within = [np.linalg.norm(bowl_der(x), order) <= 1e-2 for x in result.allvecs]
        assert result.success and within[-1], order


ASKED: list[tuple[dict[str, Any], type[Warning], str]] = [
    ({"bounds": [(0, 1)] * 3}, RuntimeWarning, "Method adamod cannot handle bounds."),
    ({"bounds": Bounds([0] * 3, [1] * 3)}, RuntimeWarning, "Method adamod cannot handle bounds."),
    ({"constraints": {"type": "eq", "fun": bowl}}, RuntimeWarning, "Method adamod cannot handle constraints."),
    ({"hess": rosen_hess}, RuntimeWarning, "Method adamod does not use Hessian information (hess)."),
    (
        {"hessp": lambda x, p: p},
        RuntimeWarning,
        "Method adamod does not use Hessian-vector product information (hessp).",
    ),
    (
        {"options": {"maxiter": 3, "beat3": 0.9, "xatol": 1, "params": 0}},
        OptimizeWarning,
        "Unknown solver options: beat3, xatol, params",
    ),
    ({"options": {"maxiter": 3, "disp": True}}, OptimizeWarning, "Maximum number of iterations has been exceeded."),
]


@pytest.mark.parametrize(("asked", "category", "message"), ASKED, ids=[each[2] for each in ASKED])
def test_warnings_are_scipys_and_of_the_callers_line(
    asked: dict[str, Any], category: type[Warning], message: str
) -> None:
    with warnings.catch_warnings(record=True) as caught, contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("always")
        result = minimize(bowl, X0, jac=bowl_der, method=adamod, **{"options": {"maxiter": 3}, **asked})
    (warning,) = caught
    assert (warning.category, str(warning.message), warning.filename) == (category, message, __file__)
    assert result.nit == 3


def test_disp_prints_what_bfgs_prints() -> None:
    printed = []
    for method in ("BFGS", adam):
        with contextlib.redirect_stdout(io.StringIO()) as out:
            minimize(bowl, np.arange(3.0), jac=bowl_der, method=method, options={"disp": True})
        printed.append(out.getvalue())
    assert printed[1] == printed[0] and "Current function value: 1.000000" in printed[1]


def test_bad_input_says_what_is_wrong() -> None:
    def run(fun: Any = bowl, x0: Any = X0, jac: Any = bowl_der, **options: Any) -> None:
        minimize(fun, x0, jac=jac, method=adam, options=options)

    for arguments, error, message in [
        ({"fun": lambda x: x}, ValueError, r"must return a scalar value, got shape \(3,\)"),
        ({"fun": lambda x: None}, ValueError, "must return a scalar value, got None"),
        ({"fun": lambda x: 1j}, ValueError, "must return a real number, got 1j"),
        ({"jac": lambda x: x[:2]}, ValueError, r"jac: expected the shape of x, \(3,\), got \(2,\)"),
        ({"x0": X0 * 1j}, TypeError, "x0: expected real numbers, got complex128"),
        ({"lr": -1.0}, ValueError, "lr"),
        ({"beta1": 1.5}, ValueError, "beta1"),
    ]:
        with pytest.raises(error, match=message):
            run(**arguments)  # type: ignore[arg-type]


@METHODS_BY_NAME
def test_a_method_is_a_name_that_pickles(method: Any) -> None:
    assert pickle.loads(pickle.dumps(method)) is method
    assert method.__name__ in adamod_array.scipy.__all__


# Where methods are called from


def test_basinhopping() -> None:
    def bumps(x: Any) -> Any:
        return np.cos(14.5 * x[0] - 0.3) + (x[0] + 0.2) * x[0], np.asarray(
            [-14.5 * np.sin(14.5 * x[0] - 0.3) + 2 * x[0] + 0.2]
        )

    local = {"method": adam, "jac": True, "options": {"lr": 0.01}}
    result = optimize.basinhopping(bumps, [1.0], minimizer_kwargs=local, niter=30, rng=1)
    assert result.lowest_optimization_result.success
    assert_close(result.x, [-0.195], atol=1e-3)  # as SciPy's documentation says of this function


def test_dual_annealing() -> None:
    """Its local search hands on the minimizer's counts, and keeps within its bounds itself."""

    def rastrigin(x: Any) -> Any:
        return np.sum(x * x - 10 * np.cos(2 * np.pi * x)) + 10 * len(x)

    def der(x: Any) -> Any:
        return 2 * x + 20 * np.pi * np.sin(2 * np.pi * x)

    local = {"method": adamod, "jac": der, "options": {"lr": 0.01}}
    result = optimize.dual_annealing(rastrigin, [(-5.12, 5.12)] * 2, minimizer_kwargs=local, rng=1, maxiter=50)
    assert result.fun < 1e-8 and result.njev > 0


def test_a_gaussian_process_by_scikit_learn() -> None:
    from sklearn.gaussian_process import GaussianProcessRegressor
    from sklearn.gaussian_process.kernels import RBF, WhiteKernel

    def optimizer(fun: Any, theta: Any, bounds: Any) -> tuple[Any, float]:
        result = minimize(fun, theta, jac=True, method=adam, options={"lr": 0.1})
        assert result.success
        return result.x, result.fun

    rng = np.random.default_rng(0)
    x = rng.uniform(0, 5, (30, 1))
    y = np.sin(x[:, 0]) + 0.1 * rng.normal(size=30)
    kernel = RBF() + WhiteKernel()
    ours, scikit = (GaussianProcessRegressor(kernel, optimizer=each).fit(x, y) for each in (optimizer, "fmin_l_bfgs_b"))
    assert_close(ours.kernel_.theta, scikit.kernel_.theta, atol=1e-3)
