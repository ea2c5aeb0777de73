"""Adam: Algorithm 1 of the AdaMod paper."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from adamod_array._formulas import abs_sq, bias_correction, corrected_average, corrected_update, corrected_weights
from adamod_array._method import Array, Method, explained_class


@explained_class
@dataclass(frozen=True)
class Adam(Method):
    r"""Adam with the stabiliser outside the root (Ding et al. 2019, Algorithm 1; Kingma & Ba 2015).

    .. math::
        m_t &= \beta_1 m_{t-1} + (1 - \beta_1) g_t, \qquad \hat m_t = m_t / (1 - \beta_1^t) \\
        v_t &= \beta_2 v_{t-1} + (1 - \beta_2) |g_t|^2, \qquad \hat v_t = v_t / (1 - \beta_2^t) \\
        \eta_t &= \alpha_t / (\sqrt{\hat v_t + \epsilon_\text{root}} + \epsilon) \\
        \theta_t &= \theta_{t-1} - \eta_t \hat m_t

    Parameters
    ----------
    beta1, beta2 : float
        Decay of the first and second moment, in [0, 1).
    eps : float
        Added to the root, in units of a gradient.
    eps_root : float
        Added inside the root, in units of a squared gradient: Ma & Yarats 2021, equation 4, is
        ``Adam(eps=0, eps_root=1e-8)``.
    amsgrad : bool
        Divide by the largest ``v`` so far (Reddi et al. 2018), kept in the slot ``v_max``; the
        maximum is taken before the bias correction, as in PyTorch.

    Raises
    ------
    ValueError
        A hyperparameter is out of range.

    Examples
    --------
    >>> import numpy as np
    >>> from adamod_array import Adam, init, step
    >>> state = init(Adam(eps_root=1e-12), np.asarray([1.0, -2.0]), lr=0.1)
    >>> print(step(state, np.asarray([0.5, -0.25])).params)
    [ 0.9 -1.9]
    """

    beta1: float = 0.9
    beta2: float = 0.999
    eps: float = 1e-8
    eps_root: float = 0.0
    amsgrad: bool = False

    @property
    def slots(self) -> tuple[str, ...]:  # type: ignore[override]
        """Return ``m``, ``v`` and, with ``amsgrad``, ``v_max``."""
        return ("m", "v", "v_max") if self.amsgrad else ("m", "v")

    def coefficients(self, t: Any, math: Any) -> tuple[Any, ...]:
        """Return the corrected weights of m and v; with ``amsgrad``, ``1 / (1 - beta2**t)`` in place of v's."""
        weights = corrected_weights(self.beta1, t, math)
        if self.amsgrad:
            return *weights, bias_correction(self.beta2, t, math)
        return *weights, *corrected_weights(self.beta2, t, math)

    def rule(
        self, xp: Any, lr: Array, c: Any, g: Array, p: Array, m: Array, v: Array, v_max: Array = None
    ) -> tuple[Array, ...]:
        """Take Algorithm 1's lines 4 to 9."""
        g_sq, m_last, v_last = abs_sq(xp, g), m, v
        m = self.beta1 * m + (1 - self.beta1) * g
        v = self.beta2 * v + (1 - self.beta2) * g_sq
        if self.amsgrad:
            b1, a1, correction = c
            m_hat = corrected_update(m_last, g, b1, a1)
            v_max = xp.maximum(v_max, v)
            v_hat = v_max * correction
        else:
            b1, a1, b2, a2 = c
            m_hat = corrected_update(m_last, g, b1, a1)
            v_hat = corrected_update(v_last, g_sq, b2, a2)
        eta = self._eta(xp, lr, v_hat)
        p = p - eta * m_hat
        return (p, m, v, v_max) if self.amsgrad else (p, m, v)

    def _eta(self, xp: Any, lr: Array, v_hat: Array) -> Array:
        root = xp.sqrt(v_hat + self.eps_root if self.eps_root else v_hat)
        return lr / (root + self.eps)

    def rates(self, xp: Any, lr: Array, c: Any, m: Array, v: Array, v_max: Array = None) -> tuple[Array, Array]:
        """Return line 8's rate, which has no bound."""
        if self.amsgrad:
            _, _, correction = c
            eta = self._eta(xp, lr, v_max * correction)
        else:
            _, _, b2, a2 = c
            eta = self._eta(xp, lr, corrected_average(v, b2, a2))
        return eta, eta
