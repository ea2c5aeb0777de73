"""AdaMod: Algorithm 2 of its paper, and the different algorithm of its authors' code."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from adamod_array._formulas import abs_sq, bias_correction, corrected_average, corrected_update, corrected_weights
from adamod_array._method import Array, Method, explained_class, one_of


@explained_class
@dataclass(frozen=True)
class AdaMod(Method):
    r"""Adaptive and momental bound (Ding, Ren, Luo & Sun 2019, arXiv:1910.12249, Algorithm 2).

    Adam's rates :math:`\eta_t` are averaged over about :math:`1/(1-\beta_3)` steps, and no rate may
    exceed its average:

    .. math::
        m_t &= \beta_1 m_{t-1} + (1 - \beta_1) g_t, \qquad \hat m_t = m_t / (1 - \beta_1^t) \\
        v_t &= \beta_2 v_{t-1} + (1 - \beta_2) |g_t|^2, \qquad \hat v_t = v_t / (1 - \beta_2^t) \\
        \eta_t &= \alpha_t / (\sqrt{\hat v_t} + \epsilon) \\
        s_t &= \beta_3 s_{t-1} + (1 - \beta_3) \eta_t, \qquad \hat\eta_t = \min(\eta_t, s_t) \\
        \theta_t &= \theta_{t-1} - \hat\eta_t \hat m_t

    with :math:`m_0 = v_0 = s_0 = 0` and no bias correction of :math:`s`. With ``beta3=0`` this is Adam.

    Parameters
    ----------
    beta1, beta2, beta3 : float
        Decay of the first moment, of the second and of the rates, in [0, 1). The paper recommends
        ``beta3`` in {0.999, 0.9999}.
    eps : float
        Added to the root, in units of a gradient.
    variant : "paper" or "reference"
        The authors' code is another algorithm: there :math:`\eta_t = \alpha_t \sqrt{1-\beta_2^t} /
        (1-\beta_1^t) / (\sqrt{v_t} + \epsilon)` enters ``s`` and multiplies the uncorrected ``m``.
        The two agree at t = 1 and differ 2.16 times in step size at t = 10, 1.26 times at t = 100.
    hold_idle : bool
        Let ``s`` wait while ``v`` is 0. In the paper's form every step with a zero gradient since
        the start adds ``lr/eps`` to ``s``'s average, so that a coordinate that wakes after 50 such
        steps is unbounded for about ``14 / (1 - beta3)`` more.

    Raises
    ------
    ValueError
        A hyperparameter is out of range.

    Examples
    --------
    >>> import numpy as np
    >>> from adamod_array import AdaMod, init, step
    >>> state = step(init(AdaMod(beta3=0.9), np.zeros(2), lr=1.0), np.asarray([4.0, -0.5]))
    >>> print(state.params, state.slots["s"])
    [-0.1  0.1] [0.025 0.2  ]
    """

    beta1: float = 0.9
    beta2: float = 0.999
    beta3: float = 0.999
    eps: float = 1e-8
    variant: str = "paper"
    hold_idle: bool = False

    slots = ("m", "v", "s")

    def __post_init__(self) -> None:
        super().__post_init__()
        one_of(self, "variant", "paper", "reference")

    def coefficients(self, t: Any, math: Any) -> tuple[Any, ...]:
        """Return the corrected weights of m and v; of the reference, ``(1 - beta1**t) / sqrt(1 - beta2**t)``."""
        if self.variant == "paper":
            return *corrected_weights(self.beta1, t, math), *corrected_weights(self.beta2, t, math)
        return (math.sqrt(bias_correction(self.beta2, t, math)) / bias_correction(self.beta1, t, math),)

    def rule(self, xp: Any, lr: Array, c: Any, g: Array, p: Array, m: Array, v: Array, s: Array) -> tuple[Array, ...]:
        """Take Algorithm 2's lines 4 to 11."""
        g_sq, m_last, v_last = abs_sq(xp, g), m, v
        m = self.beta1 * m + (1 - self.beta1) * g
        v = self.beta2 * v + (1 - self.beta2) * g_sq
        if self.variant == "paper":
            b1, a1, b2, a2 = c
            m_hat = corrected_update(m_last, g, b1, a1)
            v_hat = corrected_update(v_last, g_sq, b2, a2)
        else:
            m_hat, v_hat = m, v
        eta = self._eta(xp, lr, c, v_hat)
        s_next = self.beta3 * s + (1 - self.beta3) * eta
        s = xp.where(v == 0, s, s_next) if self.hold_idle else s_next
        eta_hat = self._bounded(xp, eta, s)
        p = p - eta_hat * m_hat
        return p, m, v, s

    def _eta(self, xp: Any, lr: Array, c: Any, v_hat: Array) -> Array:
        root = xp.sqrt(v_hat) + self.eps
        return lr / (root if self.variant == "paper" else c[0] * root)

    def _bounded(self, xp: Any, eta: Array, s: Array) -> Array:
        return xp.minimum(eta, s)

    def rates(self, xp: Any, lr: Array, c: Any, m: Array, v: Array, s: Array) -> tuple[Array, Array]:
        """Return the rates of lines 8 and 10."""
        if self.variant == "paper":
            _, _, b2, a2 = c
            v = corrected_average(v, b2, a2)
        eta = self._eta(xp, lr, c, v)
        return eta, self._bounded(xp, eta, s)
