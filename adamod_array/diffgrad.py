"""Methods with friction, which slows a coordinate whose gradient does not change: DiffGrad, and DiffMod."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from adamod_array._formulas import abs_sq, corrected_average, corrected_update, corrected_weights, friction
from adamod_array._method import Array, Method, explained_class


@explained_class
@dataclass(frozen=True)
class DiffGrad(Method):
    r"""Adam times a friction coefficient (Dubey et al. 2020, IEEE TNNLS 31(11), arXiv:1909.11015).

    .. math::
        m_t &= \beta_1 m_{t-1} + (1 - \beta_1) g_t, \qquad \hat m_t = m_t / (1 - \beta_1^t) \\
        v_t &= \beta_2 v_{t-1} + (1 - \beta_2) |g_t|^2, \qquad \hat v_t = v_t / (1 - \beta_2^t) \\
        \xi_t &= 1 / (1 + e^{-|g_{t-1} - g_t|}) \\
        \theta_t &= \theta_{t-1} - \alpha_t \xi_t \hat m_t / (\sqrt{\hat v_t} + \epsilon)

    with :math:`g_0 = 0`. The friction depends on the scale of the gradients, as nothing else in Adam does:
    for small ones it is 1/2 everywhere.

    Parameters
    ----------
    beta1, beta2 : float
        Decay of the first and second moment, in [0, 1).
    eps : float
        Added to the root, in units of a gradient.

    Raises
    ------
    ValueError
        A hyperparameter is out of range.

    Examples
    --------
    >>> import numpy as np
    >>> from adamod_array import DiffGrad, init, step
    >>> state = step(init(DiffGrad(), np.zeros(2), lr=0.1), np.asarray([50.0, -1e-9]))
    >>> print(state.params, state.slots["g_last"])
    [-0.1         0.00454545] [ 5.e+01 -1.e-09]
    """

    beta1: float = 0.9
    beta2: float = 0.999
    eps: float = 1e-8

    slots = ("m", "v", "g_last")

    def coefficients(self, t: Any, math: Any) -> tuple[Any, ...]:
        """Return the corrected weights of m and v."""
        return *corrected_weights(self.beta1, t, math), *corrected_weights(self.beta2, t, math)

    def rule(
        self, xp: Any, lr: Array, c: Any, g: Array, p: Array, m: Array, v: Array, g_last: Array
    ) -> tuple[Array, ...]:
        """Take Adam's step times the friction."""
        b1, a1, b2, a2 = c
        g_sq, m_last, v_last = abs_sq(xp, g), m, v
        m = self.beta1 * m + (1 - self.beta1) * g
        v = self.beta2 * v + (1 - self.beta2) * g_sq
        m_hat = corrected_update(m_last, g, b1, a1)
        v_hat = corrected_update(v_last, g_sq, b2, a2)
        eta = self._eta(xp, lr, v_hat)
        xi = friction(xp, g_last, g)
        p = p - xi * eta * m_hat
        return p, m, v, g

    def _eta(self, xp: Any, lr: Array, v_hat: Array) -> Array:
        return lr / (xp.sqrt(v_hat) + self.eps)

    def rates(self, xp: Any, lr: Array, c: Any, m: Array, v: Array, g_last: Array) -> tuple[Array, Array]:
        """Return Adam's rate, before the friction: a state has only one of the two gradients that it is made of."""
        _, _, b2, a2 = c
        eta = self._eta(xp, lr, corrected_average(v, b2, a2))
        return eta, eta


@explained_class
@dataclass(frozen=True)
class DiffMod(Method):
    r"""AdaMod times DiffGrad's friction coefficient: the combination that the article "Meet AdaMod" proposes.

    .. math::
        \theta_t = \theta_{t-1} - \xi_t \hat\eta_t \hat m_t

    with :math:`\hat\eta_t` and :math:`\hat m_t` of :class:`AdaMod` (Algorithm 2) and :math:`\xi_t` of
    :class:`DiffGrad`. The friction does not enter the average of the rates.

    Parameters
    ----------
    beta1, beta2, beta3 : float
        Decay of the first moment, of the second and of the rates, in [0, 1).
    eps : float
        Added to the root, in units of a gradient.
    hold_idle : bool
        Let ``s`` wait while ``v`` is 0, as in :class:`AdaMod`.

    Raises
    ------
    ValueError
        A hyperparameter is out of range.

    Examples
    --------
    >>> import numpy as np
    >>> from adamod_array import DiffMod, init, step
    >>> state = init(DiffMod(beta3=0.5), np.asarray([1.0, 1.0]), lr=0.1)
    >>> for g in ([2.0, 2.0], [2.0, -2.0]):
    ...     state = step(state, np.asarray(g))
    >>> print(state.params)
    [0.91846015 0.95983652]
    """

    beta1: float = 0.9
    beta2: float = 0.999
    beta3: float = 0.999
    eps: float = 1e-8
    hold_idle: bool = False

    slots = ("m", "v", "s", "g_last")

    def coefficients(self, t: Any, math: Any) -> tuple[Any, ...]:
        """Return the corrected weights of m and v."""
        return *corrected_weights(self.beta1, t, math), *corrected_weights(self.beta2, t, math)

    def rule(
        self, xp: Any, lr: Array, c: Any, g: Array, p: Array, m: Array, v: Array, s: Array, g_last: Array
    ) -> tuple[Array, ...]:
        """Take AdaMod's step times the friction."""
        b1, a1, b2, a2 = c
        g_sq, m_last, v_last = abs_sq(xp, g), m, v
        m = self.beta1 * m + (1 - self.beta1) * g
        v = self.beta2 * v + (1 - self.beta2) * g_sq
        m_hat = corrected_update(m_last, g, b1, a1)
        v_hat = corrected_update(v_last, g_sq, b2, a2)
        eta = self._eta(xp, lr, v_hat)
        s_next = self.beta3 * s + (1 - self.beta3) * eta
        s = xp.where(v == 0, s, s_next) if self.hold_idle else s_next
        eta_hat = self._bounded(xp, eta, s)
        xi = friction(xp, g_last, g)
        p = p - xi * eta_hat * m_hat
        return p, m, v, s, g

    def _eta(self, xp: Any, lr: Array, v_hat: Array) -> Array:
        return lr / (xp.sqrt(v_hat) + self.eps)

    def _bounded(self, xp: Any, eta: Array, s: Array) -> Array:
        return xp.minimum(eta, s)

    def rates(self, xp: Any, lr: Array, c: Any, m: Array, v: Array, s: Array, g_last: Array) -> tuple[Array, Array]:
        """Return AdaMod's rates, before the friction: a state has only one of the two gradients that it is made of."""
        _, _, b2, a2 = c
        eta = self._eta(xp, lr, corrected_average(v, b2, a2))
        return eta, self._bounded(xp, eta, s)
