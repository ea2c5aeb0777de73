"""Methods for ``scipy.optimize.minimize``: Adam, AdaMod, RAdam and friends, for whatever SciPy or others minimize.

Give one as ``method``; every hyperparameter, ``lr`` and ``weight_decay`` of :func:`adamod_array.adam_init` and its
like is one of ``options``, beside those of SciPy's own gradient methods:

======================== ==================================================================================
option                   meaning
======================== ==================================================================================
``lr``                   the learning rate, a float or a schedule; 0.01
``maxiter``              the most iterations; 1,000 for each variable
``gtol``                 stop where the norm of the gradient is at most this; ``tol`` of ``minimize``, or 1e-5
``norm``                 the order of that norm; infinity, the largest absolute value
``disp``                 print what came of it, or warn
``return_all``           keep all iterates, as ``allvecs``
``finite_diff_method``   where no ``jac`` is given: ``"2-point"``, ``"3-point"`` or ``"cs"``
``finite_diff_rel_step`` their relative step
``finite_diff_abs_step`` their absolute step (``eps`` of BFGS: here ``eps`` is the method's); 1.5e-8 by default
======================== ==================================================================================

The result is the iterate with the lowest value of all. ``status`` is 0 where the gradient was within ``gtol``, 1 after
``maxiter`` iterations, 2 where the objective or its gradient was not finite, 99 where the callback raised
StopIteration.

Examples
--------
>>> from scipy.optimize import minimize, rosen, rosen_der
>>> from adamod_array.scipy import adam
>>> result = minimize(rosen, [-1.0, 1.5], jac=rosen_der, method=adam, options={"lr": 0.02, "maxiter": 20_000})
>>> result.success, result.x.round(3)
(True, array([1., 1.]))
"""

from __future__ import annotations

import inspect
import math
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np

from adamod_array._late import needed
from adamod_array._step import step
from adamod_array.functional import adam_init, adamod_init, diffgrad_init, diffmod_init, momentum_init, radam_init

try:
    from scipy.optimize import OptimizeResult, OptimizeWarning, approx_fprime
except ModuleNotFoundError as error:
    raise needed("scipy", error) from None

__all__ = ["adam", "adamod", "diffgrad", "diffmod", "momentum", "radam"]

_MESSAGES = {
    0: "Optimization terminated successfully.",
    1: "Maximum number of iterations has been exceeded.",
    2: "The objective or its gradient is not finite.",
    99: "`callback` raised `StopIteration`.",
}
_PATIENCE = 100
"""Iterations in a row within gtol after which none needs to be the lowest of all."""


def adam(fun: Callable[..., Any], x0: Any, **arguments: Any) -> Any:
    """Minimize by :class:`adamod_array.Adam`, as ``method=adam`` of ``scipy.optimize.minimize``."""
    return _minimize("adam", adam_init, fun, x0, **arguments)


def adamod(fun: Callable[..., Any], x0: Any, **arguments: Any) -> Any:
    """Minimize by :class:`adamod_array.AdaMod`, as ``method=adamod`` of ``scipy.optimize.minimize``."""
    return _minimize("adamod", adamod_init, fun, x0, **arguments)


def radam(fun: Callable[..., Any], x0: Any, **arguments: Any) -> Any:
    """Minimize by :class:`adamod_array.RAdam`, as ``method=radam`` of ``scipy.optimize.minimize``."""
    return _minimize("radam", radam_init, fun, x0, **arguments)


def momentum(fun: Callable[..., Any], x0: Any, **arguments: Any) -> Any:
    """Minimize by :class:`adamod_array.Momentum`, as ``method=momentum`` of ``scipy.optimize.minimize``."""
    return _minimize("momentum", momentum_init, fun, x0, **arguments)


def diffgrad(fun: Callable[..., Any], x0: Any, **arguments: Any) -> Any:
    """Minimize by :class:`adamod_array.DiffGrad`, as ``method=diffgrad`` of ``scipy.optimize.minimize``."""
    return _minimize("diffgrad", diffgrad_init, fun, x0, **arguments)


def diffmod(fun: Callable[..., Any], x0: Any, **arguments: Any) -> Any:
    """Minimize by :class:`adamod_array.DiffMod`, as ``method=diffmod`` of ``scipy.optimize.minimize``."""
    return _minimize("diffmod", diffmod_init, fun, x0, **arguments)


def _minimize(
    name: str,
    init: Callable[..., Any],
    fun: Callable[..., Any],
    x0: Any,
    args: tuple[Any, ...] = (),
    jac: Any = None,
    hess: Any = None,
    hessp: Any = None,
    bounds: Any = None,
    constraints: Any = (),
    callback: Callable[..., Any] | None = None,
    *,
    maxiter: float | None = None,
    gtol: float | None = None,
    tol: float | None = None,
    norm: float = np.inf,
    disp: bool = False,
    return_all: bool = False,
    finite_diff_method: str | None = None,
    finite_diff_rel_step: Any = None,
    finite_diff_abs_step: Any = None,
    **options: Any,
) -> Any:
    """Do what ``minimize`` asks a method for; warnings are of the line that called ``minimize``, four frames up."""
    for given, cannot in (
        (hess is not None, "does not use Hessian information (hess)"),
        (hessp is not None, "does not use Hessian-vector product information (hessp)"),
        (np.any(constraints), "cannot handle constraints"),
        (bounds is not None, "cannot handle bounds"),
    ):
        if given:
            warnings.warn(f"Method {name} {cannot}.", RuntimeWarning, stacklevel=4)
    unknown = [each for each in options if each not in inspect.signature(init).parameters or each == "params"]
    if unknown:
        warnings.warn(f"Unknown solver options: {', '.join(unknown)}", OptimizeWarning, stacklevel=4)
    if np.iscomplexobj(x0):
        raise TypeError(f"x0: expected real numbers, got {np.asarray(x0).dtype}; take x.view(float) for the variables")
    known = {each: value for each, value in options.items() if each not in unknown}
    state = init(np.ravel(x0).astype(np.float64), **{"lr": 1e-2, **known})
    gtol = next(each for each in (gtol, tol, 1e-5) if each is not None)
    maxiter = 1000 * state.params.size if maxiter is None else maxiter
    differences = (jac or finite_diff_method, finite_diff_rel_step, finite_diff_abs_step)
    objective = _Objective(fun, args, jac if callable(jac) else None, differences)
    notify = _notifier(callback)
    best = OptimizeResult(fun=math.inf, x=np.copy(state.params), jac=np.copy(state.params))
    every, within = [], 0
    while True:
        x = state.params  # the state's own array, which a donated step writes into: others get copies
        f, g = objective(x)
        lowest = f <= best.fun or state.step == 0
        if lowest:
            best.fun = f
            np.copyto(best.x, x)
            np.copyto(best.jac, g)
        if return_all:
            every.append(np.copy(x))
        if state.step and notify(x, f):
            status = 99
            break
        if not (math.isfinite(f) and np.isfinite(g).all()):
            status = 2
            break
        # The gradient may be within gtol a few iterations before the value is the lowest of all, or where it never will
        # be: beside a valley that momentum has left again.
        within = within + 1 if np.linalg.norm(g, norm) <= gtol else 0
        if within >= (1 if lowest else _PATIENCE):
            status = 0
            break
        if state.step >= maxiter:
            status = 1
            break
        state = step(state, g, donate=True)
    best.update(nit=state.step, nfev=objective.nfev, njev=objective.njev)
    best.update(status=status, success=status == 0, message=_MESSAGES[status])
    if return_all:
        best.allvecs = every
    if disp:
        _display(best)
    return best


class _Objective:
    """The value and the gradient of ``fun`` at x, both of copies of x, counted."""

    def __init__(self, fun: Any, args: tuple[Any, ...], jac: Any, differences: tuple[Any, Any, Any]) -> None:
        self.fun, self.args, self.jac, self.differences = fun, args, jac, differences
        self.nfev = self.njev = 0

    def value(self, x: Any) -> Any:
        """Return a scalar, complex where x is."""
        self.nfev += 1
        f = self.fun(np.copy(x), *self.args)
        if np.size(f) != 1 or f is None:
            got = "None" if f is None else f"shape {np.shape(f)}"
            raise ValueError(f"The user-provided objective function must return a scalar value, got {got}")
        return f if np.isscalar(f) else np.asarray(f).item()

    def __call__(self, x: Any) -> tuple[float, Any]:
        """Return the value, and the gradient where the value is finite: elsewhere nobody needs it."""
        f = self.value(x)
        if np.iscomplexobj(f):
            raise ValueError(f"The user-provided objective function must return a real number, got {f!r}")
        f = float(f)
        if not math.isfinite(f):
            return f, np.full_like(x, np.nan)
        self.njev += 1
        g = self.difference(x, f) if self.jac is None else self.jac(np.copy(x), *self.args)
        g = np.asarray(g, x.dtype)
        if g.size != x.size:
            raise ValueError(f"jac: expected the shape of x, {x.shape}, got {g.shape}")
        return f, g.reshape(x.shape)

    def difference(self, x: Any, f: float) -> Any:
        """Return the gradient by finite differences, without calling ``fun`` at x again."""
        method, rel_step, abs_step = self.differences
        if method is None and rel_step is None:
            abs_step = math.sqrt(np.finfo(float).eps) if abs_step is None else abs_step
            return approx_fprime(x, lambda z: f if np.array_equal(z, x) else self.value(z), abs_step)
        from scipy.optimize._numdiff import approx_derivative  # the public one has one method only

        return approx_derivative(
            self.value, x, method=method or "2-point", rel_step=rel_step, abs_step=abs_step, f0=np.atleast_1d(f)
        )


def _notifier(callback: Callable[..., Any] | None) -> Callable[[Any, float], bool]:
    """Return what calls the callback in the form that its signature asks for, and says whether it wants to stop."""
    if callback is None:
        return lambda x, f: False
    try:
        modern = {*inspect.signature(callback).parameters} == {"intermediate_result"}
    except ValueError:  # some written in C have none
        modern = False

    def notify(x: Any, f: float) -> bool:
        try:
            if modern:
                callback(intermediate_result=OptimizeResult(x=np.copy(x), fun=f))
            else:
                callback(np.copy(x))
        except StopIteration:
            return True
        return False

    return notify


def _display(result: Any) -> None:
    """Print what SciPy's gradient methods print, and warn where they do."""
    if result.success:
        print(result.message)
    else:
        warnings.warn(result.message, OptimizeWarning, stacklevel=5)
    print(f"         Current function value: {result.fun:f}\n         Iterations: {result.nit:d}")
    print(f"         Function evaluations: {result.nfev:d}\n         Gradient evaluations: {result.njev:d}")
