"""The papers' scalar formulas, in forms without cancellation, and the few that rules share."""

from __future__ import annotations

import functools
import math as _math
import struct
from typing import Any

from adamod_array._method import Array


def bias_correction(beta: float, t: Any, math: Any) -> Any:
    r"""Return ``1 / (1 - beta**t)``: what a zero-initialised moving average is multiplied by (Kingma & Ba, section 3).

    A reciprocal, because dividing an array by a scalar is rewritten by some compilers and costs
    the last bit. In float32 the textbook form loses five digits, and ``expm1`` is off by four ulp
    in XLA; with :math:`y = -t\ln\beta`, :math:`1/y + 1/2 + L(y/2)/2` has positive terms only.

    Examples
    --------
    >>> from adamod_array import bias_correction, host_math
    >>> bias_correction(0.5, 2, host_math)
    1.3333333333333333
    """
    if beta == 0:
        return 1.0
    x, high, low = _logarithm(beta)
    y = t * x
    if isinstance(y, float):
        return _early(t, y, high, low) if y < 2 else 1 / (1 - math.exp(-y))
    return math.where(y < 2, _early(t, math.minimum(y, 2.0), high, low), 1 / (1 - math.exp(-y)))


def _early(t: Any, y: Any, high: float, low: float) -> Any:
    """Return ``1/y + 1/2 + L(y/2)/2``; the reciprocal of ``-log(beta)`` is the sum of ``high`` and ``low``."""
    return high / t + (0.5 + (low / t + 0.5 * langevin(y / 2)))


def corrected_weights(beta: float, t: Any, math: Any) -> tuple[Any, Any]:
    """Return the weights ``beta/(1 - beta**t)`` of the last average and ``(1 - beta)/(1 - beta**t)`` of the new value.

    ``m_hat = b * m + a * g`` rounds twice less than ``m = beta * m + (1 - beta) * g`` times the
    correction, and not at all in the first step, where ``a`` is 1.

    Examples
    --------
    >>> from adamod_array import corrected_weights, host_math
    >>> corrected_weights(0.5, 1, host_math)
    (1.0, 1.0)
    """
    c = bias_correction(beta, t, math)
    return beta * c, (1 - beta) * c


def corrected_update(last: Array, new: Array, b: Any, a: Any) -> Array:
    """Return a bias-corrected average that takes in a new value, by :func:`corrected_weights`: ``b * last + a * new``.

    Examples
    --------
    >>> from adamod_array import corrected_update, corrected_weights, host_math
    >>> corrected_update(1.5, 5.0, *corrected_weights(0.5, 2, host_math))
    4.333333333333333
    """
    return b * last + a * new


def corrected_average(average: Array, b: Any, a: Any) -> Array:
    """Return the same of an average that has taken in the value; it is rounded twice more.

    Examples
    --------
    >>> from adamod_array import corrected_average, corrected_weights, host_math
    >>> corrected_average(3.25, *corrected_weights(0.5, 2, host_math))
    4.333333333333333
    """
    return average * (b + a)


def langevin(y: Any) -> Any:
    """Return ``coth(y) - 1/y`` for 0 <= y <= 1, to double precision: y/(3 + y²/(5 + y²/(7 + ...)))."""
    q = y * y
    return y / (3 + q / (5 + q / (7 + q / (9 + q / (11 + q / (13 + q / (15 + q / (17 + q / 19))))))))


@functools.cache
def _logarithm(beta: float) -> tuple[float, float, float]:
    """Return ``x = -ln(beta)``, and ``1/x`` in two parts of which the first is exact in float32."""
    x = -_math.log(beta)
    high = struct.unpack("f", struct.pack("f", 1 / x))[0]
    return x, high, 1 / x - high


def abs_sq(xp: Any, g: Array) -> Array:
    """Return ``|g|**2`` of a real or complex array, as a real array, with correctly rounded operations only.

    Examples
    --------
    >>> import numpy as np
    >>> from adamod_array import abs_sq
    >>> print(abs_sq(np, np.asarray([3 + 4j])))
    [25.]
    """
    if xp.isdtype(g.dtype, "complex floating"):
        re, im = xp.real(g), xp.imag(g)
        return re * re + im * im
    return g * g


def rho_infinity(beta2: float) -> float:
    """Return equation 6 of Ma & Yarats: the length that the simple moving average tends to."""
    return 2 / (1 - beta2) - 1


def rho(t: Any, beta2: float, math: Any) -> Any:
    r"""Return equation 7 of Ma & Yarats, :math:`\rho_\infty - 2t\beta_2^t/(1-\beta_2^t)`, without its cancellation.

    In float32 the two terms of equation 7 are near 20,000 for ``beta2 = 0.9999`` and their
    difference near 1: the textbook form is wrong in the first digit and picks the wrong branch.
    With :math:`x = -\ln\beta_2` and Langevin's function :math:`L(y) = \coth y - 1/y`, it is
    :math:`t + L(x/2) - t L(xt/2)`, whose terms are small where the result is.
    """
    if beta2 == 0:
        return 1.0
    x = -_math.log(beta2)
    y = t * (x / 2)
    early = t + langevin(x / 2) - t * langevin(math.minimum(y, 1.0))
    z = math.maximum(y, 1.0)  # or t = 0 would divide by zero
    late = rho_infinity(beta2) + 2 * t * math.exp(-2 * z) / math.expm1(-2 * z)
    return math.where(y < 1, early, late)


def rectification(t: Any, beta2: float, math: Any, threshold: float = 4.0) -> Any:
    """Return equation 8 of Ma & Yarats: the warmup factor, and 0 where ``rho`` is at most ``threshold``."""
    r_inf = rho_infinity(beta2)
    if r_inf <= threshold:
        return 0.0
    r_t = rho(t, beta2, math)
    r = math.maximum(r_t, threshold)
    square = (r - 4) * (r - 2) / r * (r_inf / ((r_inf - 4) * (r_inf - 2)))
    return math.where(r_t > threshold, math.sqrt(square), 0.0)


def friction(xp: Any, g_last: Array, g: Array) -> Array:
    """Return DiffGrad's friction coefficient (Dubey et al. 2020, arXiv:1909.11015): a sigmoid of the change, AbsSig.

    1/2 where the gradient stays as it was, near 1 where it changes much; real also for complex gradients.
    """
    return 1 / (1 + xp.exp(-xp.abs(g_last - g)))
