"""The algorithms in 50 digits, one coordinate at a time, typed from the papers and not from our rules.

Every function below reads beside its source: the papers' letters, a line a line, textbook forms
(``1 - beta**t``), no rearrangement. Numbers are mpmath's; :func:`trajectory` goes to them from a
:class:`~adamod_array.Method`'s hyperparameters and arrays of doubles, and comes back in long double.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict
from typing import Any

import mpmath
import numpy as np

from adamod_array import Adam, AdaMod, DiffGrad, DiffMod, Method, Momentum, RAdam
from tests.backend import Backend, numpy_dtype

mp = mpmath.MPContext()
mp.dps = 50
mpf, sqrt, exp = mp.mpf, mp.sqrt, mp.exp

Real = Any  # mpf
Number = Any  # mpf, or mpc where the gradient is complex
Row = tuple[Number, ...]  # theta and the slots
Rate = Callable[[int], Real]

METHODS: dict[str, Method] = {
    "Adam": Adam(),
    "Adam eps_root": Adam(eps=0, eps_root=1e-8),
    "Adam amsgrad": Adam(amsgrad=True),
    "AdaMod": AdaMod(),
    "AdaMod reference": AdaMod(variant="reference"),
    "AdaMod hold_idle": AdaMod(hold_idle=True),
    "RAdam": RAdam(),
    "RAdam eps_root": RAdam(eps=0, eps_root=1e-8),
    "RAdam skip": RAdam(below="skip"),
    "RAdam reference": RAdam(variant="reference"),
    "Momentum": Momentum(),
    "Momentum nesterov": Momentum(nesterov=True),
    "DiffGrad": DiffGrad(),
    "DiffMod": DiffMod(),
    "DiffMod hold_idle": DiffMod(hold_idle=True),
}
"""Every method and option, with its default hyperparameters."""


def square(g: Number) -> Real:
    """``g**2``; of a complex number ``|g|**2``, as AdaMod's rates must be real (no paper says so)."""
    return g.real**2 + g.imag**2


def adam(
    theta: Number,
    gradients: Iterable[tuple[int, Number]],
    alpha: Rate,
    *,
    beta1: Real,
    beta2: Real,
    eps: Real,
    eps_root: Real,
    amsgrad: bool,
    weight_decay: Real,
) -> Iterator[Row]:
    """Ding et al. 2019, Algorithm 1. With ``eps_root`` Ma & Yarats, equation 4; with ``amsgrad`` Reddi et al. 2018."""
    m = v = v_max = mpf(0)
    for t, g in gradients:
        theta = theta - alpha(t) * weight_decay * theta  # Loshchilov & Hutter 2019
        m = beta1 * m + (1 - beta1) * g  # line 4
        v = beta2 * v + (1 - beta2) * square(g)  # line 5
        v_max = max(v_max, v)  # Reddi et al., Algorithm 2: before any bias correction
        m_hat = m / (1 - beta1**t)  # line 6
        v_hat = (v_max if amsgrad else v) / (1 - beta2**t)  # line 7
        eta = alpha(t) / (sqrt(v_hat + eps_root) + eps)  # line 8
        theta = theta - eta * m_hat  # line 9
        yield (theta, m, v, v_max) if amsgrad else (theta, m, v)


def adamod(
    theta: Number,
    gradients: Iterable[tuple[int, Number]],
    alpha: Rate,
    *,
    beta1: Real,
    beta2: Real,
    beta3: Real,
    eps: Real,
    hold_idle: bool,
    weight_decay: Real,
) -> Iterator[Row]:
    """Ding et al. 2019, Algorithm 2; ``hold_idle`` is ours: s waits for the first gradient that is not zero."""
    m = v = s = mpf(0)
    for t, g in gradients:
        theta = theta - alpha(t) * weight_decay * theta
        m = beta1 * m + (1 - beta1) * g  # line 4
        v = beta2 * v + (1 - beta2) * square(g)  # line 5
        m_hat = m / (1 - beta1**t)  # line 6
        v_hat = v / (1 - beta2**t)  # line 7
        eta = alpha(t) / (sqrt(v_hat) + eps)  # line 8
        if not (hold_idle and v == 0):
            s = beta3 * s + (1 - beta3) * eta  # line 9
        eta_hat = min(eta, s)  # line 10
        theta = theta - eta_hat * m_hat  # line 11
        yield theta, m, v, s


def adamod_reference(
    theta: Number,
    gradients: Iterable[tuple[int, Number]],
    alpha: Rate,
    *,
    beta1: Real,
    beta2: Real,
    beta3: Real,
    eps: Real,
    hold_idle: bool,
    weight_decay: Real,
) -> Iterator[Row]:
    """The authors' package ``adamod`` 0.0.3, ``AdaMod.step``, in its own names."""
    exp_avg = exp_avg_sq = exp_avg_lr = mpf(0)
    for step, grad in gradients:
        lr = alpha(step)
        exp_avg = exp_avg * beta1 + (1 - beta1) * grad
        exp_avg_sq = exp_avg_sq * beta2 + (1 - beta2) * square(grad)
        denom = sqrt(exp_avg_sq) + eps
        bias_correction1 = 1 - beta1**step
        bias_correction2 = 1 - beta2**step
        step_size = lr * sqrt(bias_correction2) / bias_correction1
        theta = theta - weight_decay * lr * theta
        step_size = step_size / denom
        if not (hold_idle and exp_avg_sq == 0):
            exp_avg_lr = exp_avg_lr * beta3 + (1 - beta3) * step_size
        step_size = min(step_size, exp_avg_lr)
        theta = theta - step_size * exp_avg
        yield theta, exp_avg, exp_avg_sq, exp_avg_lr


def rho(t: int, beta2: Real) -> Real:
    """Ma & Yarats, equations 6 and 7."""
    rho_inf = 2 / (1 - beta2) - 1
    return rho_inf - 2 * t * beta2**t / (1 - beta2**t)


def omega(t: int, beta2: Real) -> Real:
    """Ma & Yarats, equation 8."""
    rho_inf, rho_t = rho_infinity(beta2), rho(t, beta2)
    return sqrt((rho_t - 4) * (rho_t - 2) * rho_inf / ((rho_inf - 4) * (rho_inf - 2) * rho_t))


def rho_infinity(beta2: Real) -> Real:
    """Ma & Yarats, equation 6."""
    return 2 / (1 - beta2) - 1


def radam(
    theta: Number,
    gradients: Iterable[tuple[int, Number]],
    alpha: Rate,
    *,
    beta1: Real,
    beta2: Real,
    eps: Real,
    eps_root: Real,
    threshold: Real,
    below: str,
    weight_decay: Real,
) -> Iterator[Row]:
    """Ma & Yarats, equations 9 to 11, whose epsilon is ``eps_root``, with ``eps`` where Adam has it.

    ``below="skip"`` is ``degenerated_to_sgd=False`` of Liu et al.'s code.
    """
    m = v = mpf(0)
    for t, g in gradients:
        theta = theta - alpha(t) * weight_decay * theta
        m = beta1 * m + (1 - beta1) * g  # equation 9
        v = beta2 * v + (1 - beta2) * square(g)  # equation 10
        if rho(t, beta2) > threshold:  # equation 11
            m_hat, v_hat = m / (1 - beta1**t), v / (1 - beta2**t)
            theta = theta - alpha(t) * omega(t, beta2) * m_hat / (sqrt(v_hat + eps_root) + eps)
        elif below == "momentum":
            theta = theta - alpha(t) * m / (1 - beta1**t)
        yield theta, m, v


def radam_reference(
    theta: Number,
    gradients: Iterable[tuple[int, Number]],
    gamma: Rate,
    *,
    beta1: Real,
    beta2: Real,
    eps: Real,
    eps_root: Real,
    threshold: Real,
    below: str,
    weight_decay: Real,
) -> Iterator[Row]:
    """The pseudo-code box in the documentation of ``torch.optim.RAdam``, with decoupled weight decay."""
    assert eps_root == 0, "there is none in it"
    m = v = mpf(0)
    rho_inf = 2 / (1 - beta2) - 1
    for t, g in gradients:
        theta = theta - gamma(t) * weight_decay * theta
        m = beta1 * m + (1 - beta1) * g
        v = beta2 * v + (1 - beta2) * square(g)
        m_hat = m / (1 - beta1**t)
        rho_t = rho_inf - 2 * t * beta2**t / (1 - beta2**t)
        if rho_t > threshold:
            l_t = sqrt(1 - beta2**t) / (sqrt(v) + eps)
            r_t = sqrt((rho_t - 4) * (rho_t - 2) * rho_inf / ((rho_inf - 4) * (rho_inf - 2) * rho_t))
            theta = theta - gamma(t) * m_hat * r_t * l_t
        elif below == "momentum":
            theta = theta - gamma(t) * m_hat
        yield theta, m, v


def momentum(
    theta: Number,
    gradients: Iterable[tuple[int, Number]],
    alpha: Rate,
    *,
    beta: Real,
    nesterov: bool,
    weight_decay: Real,
) -> Iterator[Row]:
    """Heavy ball (Polyak 1964); Nesterov's as in the pseudo-code of ``torch.optim.SGD``."""
    m = mpf(0)
    for t, g in gradients:
        theta = theta - alpha(t) * weight_decay * theta
        m = beta * m + g
        theta = theta - alpha(t) * (g + beta * m if nesterov else m)
        yield theta, m


def friction(g_before: Number, g: Number) -> Real:
    """Dubey et al. 2020: AbsSig of the change of the gradient."""
    return 1 / (1 + exp(-abs(g_before - g)))


def diffgrad(
    theta: Number,
    gradients: Iterable[tuple[int, Number]],
    alpha: Rate,
    *,
    beta1: Real,
    beta2: Real,
    eps: Real,
    weight_decay: Real,
) -> Iterator[Row]:
    """Dubey et al. 2020, their algorithm: Adam's step times the friction coefficient xi."""
    m = v = g_before = mpf(0)
    for t, g in gradients:
        theta = theta - alpha(t) * weight_decay * theta
        m = beta1 * m + (1 - beta1) * g
        v = beta2 * v + (1 - beta2) * square(g)
        m_hat = m / (1 - beta1**t)
        v_hat = v / (1 - beta2**t)
        xi = friction(g_before, g)
        theta = theta - alpha(t) * xi * m_hat / (sqrt(v_hat) + eps)
        g_before = g
        yield theta, m, v, g_before


def diffmod(
    theta: Number,
    gradients: Iterable[tuple[int, Number]],
    alpha: Rate,
    *,
    beta1: Real,
    beta2: Real,
    beta3: Real,
    eps: Real,
    hold_idle: bool,
    weight_decay: Real,
) -> Iterator[Row]:
    """AdaMod's Algorithm 2, its step (line 11) times DiffGrad's friction coefficient."""
    m = v = s = g_before = mpf(0)
    for t, g in gradients:
        theta = theta - alpha(t) * weight_decay * theta
        m = beta1 * m + (1 - beta1) * g
        v = beta2 * v + (1 - beta2) * square(g)
        m_hat = m / (1 - beta1**t)
        v_hat = v / (1 - beta2**t)
        eta = alpha(t) / (sqrt(v_hat) + eps)
        if not (hold_idle and v == 0):
            s = beta3 * s + (1 - beta3) * eta
        theta = theta - friction(g_before, g) * min(eta, s) * m_hat
        g_before = g
        yield theta, m, v, s, g_before


def linear_warmup(t: int, tau: Real) -> Real:
    """Ma & Yarats, equation 5; with ``tau = 2/(1 - beta2)`` equation 14."""
    return min(mpf(1), t / mpf(tau))


def exponential_warmup(t: int, tau: Real) -> Real:
    """Ma & Yarats, equation 12; with ``tau = 1/(1 - beta2)`` equation 13."""
    return 1 - exp(-t / mpf(tau))


def radam_warmup(t: int, beta2: Real) -> Real:
    """Ma & Yarats, equation 8, "defined to be zero" where equation 11 takes the other branch (footnote 7)."""
    return omega(t, beta2) if rho(t, beta2) > 4 else mpf(0)


def trajectory(
    method: Method,
    theta: Any,
    gradients: Sequence[Any],
    lr: float | Callable[[int], float],
    weight_decay: float = 0.0,
    start: int = 1,
) -> list[dict[str, np.ndarray[Any, Any]]]:
    """``"params"`` and slots after each step of ``method``, in long double.

    ``theta`` and the ``gradients`` of the steps ``start, start + 1, ...`` are arrays of one shape; the
    slots are zero before. Doubles are exact: 0.999 is the double nearest to it, here as in the package.
    """
    rates = {t: mpf(lr(t) if callable(lr) else lr) for t in range(start, start + len(gradients))}
    fields = {name: x for name, x in asdict(method).items() if name != "compact"}
    options: dict[str, Any] = {name: mpf(x) if type(x) is float else x for name, x in fields.items()}
    oracle = _ORACLES[type(method), options.pop("variant", "paper")]
    theta, wide = np.asarray(theta), [np.asarray(g) for g in gradients]
    rows = []
    for i in np.ndindex(theta.shape):
        column = [(t, _exact(g[i])) for t, g in enumerate(wide, start)]
        rows.append(
            list(oracle(_exact(theta[i]), column, rates.__getitem__, weight_decay=mpf(weight_decay), **options))
        )
    names = ("params", *method.slots)
    return [
        {name: _longdouble([row[t][k] for row in rows]).reshape(theta.shape) for k, name in enumerate(names)}
        for t in range(len(wide))
    ]


_ORACLES: dict[tuple[type[Method], str], Callable[..., Iterator[Row]]] = {
    (Adam, "paper"): adam,
    (AdaMod, "paper"): adamod,
    (AdaMod, "reference"): adamod_reference,
    (RAdam, "paper"): radam,
    (RAdam, "reference"): radam_reference,
    (Momentum, "paper"): momentum,
    (DiffGrad, "paper"): diffgrad,
    (DiffMod, "paper"): diffmod,
}


def _exact(x: Any) -> Number:
    x = x.item() if x.dtype != "bfloat16" else float(x)
    return mp.mpc(x) if isinstance(x, complex) else mpf(x)


def _longdouble(numbers: list[Number]) -> np.ndarray[Any, Any]:
    """Two doubles make a long double."""
    if any(isinstance(x, mp.mpc) for x in numbers):
        return _longdouble([x.real for x in numbers]) + np.clongdouble(1j) * _longdouble([x.imag for x in numbers])
    high = [float(x) for x in numbers]
    low = [float(x - h) if mp.isfinite(x) else 0.0 for x, h in zip(numbers, high, strict=True)]
    return np.asarray(high, np.longdouble) + np.asarray(low, np.longdouble)


def gradients(seed: str, dtype: str, n: int) -> np.ndarray[Any, Any]:
    """Nine decades of either sign, five in float16, rounded to ``dtype``."""
    rng = np.random.default_rng(zlib.crc32(seed.encode()))
    low, high = (-3, 2) if dtype == "float16" else (-6, 3)

    def part() -> Any:
        return 10 ** rng.uniform(low, high, n) * rng.choice([-1, 1], n)

    values = part() + 1j * part() if "complex" in dtype else part()
    return np.asarray(values, numpy_dtype(dtype))


def rounded(exact: np.ndarray[Any, Any], dtype: str) -> np.ndarray[Any, Any]:
    """What the parameters of one step from zero are compared with: the exact ones, in 16 bits where they have 16."""
    return np.asarray(exact.astype(np.float64), numpy_dtype(dtype)) if dtype in ("float16", "bfloat16") else exact


def allowed(backend: Backend, dtype: str, method: Method | None = None) -> float:
    """The ulps that backends/NAME.toml allows between one step from zero and :func:`rounded`.

    A friction coefficient adds its own: an exponential (2, as no standard bounds it), a sum, a quotient and a product.
    """
    if dtype in ("float16", "bfloat16"):
        return 1  # computed in float32 and rounded once more: the neighbour, where float32 crossed a tie
    own = 3.5 if isinstance(method, (DiffGrad, DiffMod)) else 0.0
    return own + float(backend.table["ulp"][{"complex64": "float32", "complex128": "float64"}.get(dtype, dtype)])
