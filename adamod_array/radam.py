"""RAdam by the equations of Ma & Yarats, and its authors' code."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from adamod_array._formulas import (
    abs_sq,
    bias_correction,
    corrected_average,
    corrected_update,
    corrected_weights,
    rectification,
)
from adamod_array._method import Array, Method, explained_class, one_of


@explained_class
@dataclass(frozen=True)
class RAdam(Method):
    r"""Rectified Adam (Liu et al. 2020) in the form of Ma & Yarats 2021 (arXiv:1910.04209), equations 6 to 11.

    .. math::
        \rho_\infty &= 2/(1-\beta_2) - 1, \qquad \rho_t = \rho_\infty - 2t\beta_2^t/(1-\beta_2^t) \\
        \omega_t &= \sqrt{\frac{(\rho_t-4)(\rho_t-2)\rho_\infty}{(\rho_\infty-4)(\rho_\infty-2)\rho_t}} \\
        m_t &= \beta_1 m_{t-1} + (1 - \beta_1) g_t, \qquad \hat m_t = m_t / (1 - \beta_1^t) \\
        v_t &= \beta_2 v_{t-1} + (1 - \beta_2) |g_t|^2, \qquad \hat v_t = v_t / (1 - \beta_2^t) \\
        \theta_t &= \theta_{t-1} - \alpha_t \hat m_t \cdot
        \begin{cases} 1 & \rho_t \le 4 \\
        \omega_t / (\sqrt{\hat v_t + \epsilon_\text{root}} + \epsilon) & \rho_t > 4 \end{cases}

    Parameters
    ----------
    beta1, beta2 : float
        Decay of the first and second moment, in [0, 1).
    eps : float
        Added to the root, in units of a gradient; in the reference, to the root of the uncorrected ``v``.
    eps_root : float
        Added inside the root, in units of a squared gradient: the literal equation 11 of Ma & Yarats is
        ``RAdam(eps=0, eps_root=1e-8)``, for which gradients below 1e-4 are small. 0 in the reference.
    threshold : float, optional
        ``rho`` above which the step is rectified, at least 4. By default 4, the papers' number;
        5 in the reference, as in the authors' code, PyTorch and optax (that moves step 5 alone).
    below : "momentum" or "skip"
        Up to the threshold, step along ``m_hat`` or leave the parameters where they are.
    variant : "paper" or "reference"
        The authors' code divides by ``(sqrt(v) + eps) / sqrt(1 - beta2**t)``.

    Raises
    ------
    ValueError
        A hyperparameter is out of range.

    Examples
    --------
    >>> import numpy as np
    >>> from adamod_array import RAdam, init, step
    >>> state = init(RAdam(), np.zeros(1), lr=1.0)
    >>> for _ in range(5):
    ...     state = step(state, np.asarray([2.0]))
    >>> print(np.round(state.params, 3))  # four steps of momentum, then a small rectified one
    [-8.017]
    """

    beta1: float = 0.9
    beta2: float = 0.999
    eps: float = 1e-8
    eps_root: float = 0.0
    threshold: float | None = None
    below: str = "momentum"
    variant: str = "paper"

    slots = ("m", "v")

    def __post_init__(self) -> None:
        super().__post_init__()
        one_of(self, "variant", "paper", "reference")
        one_of(self, "below", "momentum", "skip")
        if self.variant == "reference" and self.eps_root:
            raise ValueError(
                f"RAdam: eps_root must be 0 with variant='reference', which has nothing inside of its root,"
                f" got {self.eps_root}"
            )
        if self.threshold is None:
            object.__setattr__(self, "threshold", 4.0 if self.variant == "paper" else 5.0)
        elif self.threshold < 4:
            raise ValueError(f"RAdam: threshold must be at least 4 (below, omega is not real), got {self.threshold}")

    def coefficients(self, t: Any, math: Any) -> tuple[Any, ...]:
        """Return the weights of m and v, and omega; of the reference not v's, and ``omega / sqrt(1 - beta2**t)``."""
        assert self.threshold is not None
        omega = rectification(t, self.beta2, math, self.threshold)
        weights = corrected_weights(self.beta1, t, math)
        if self.variant == "paper":
            return (*weights, *corrected_weights(self.beta2, t, math), omega)
        return (*weights, omega / math.sqrt(bias_correction(self.beta2, t, math)))

    def rule(self, xp: Any, lr: Array, c: Any, g: Array, p: Array, m: Array, v: Array) -> tuple[Array, ...]:
        """Take equations 9 to 11."""
        g_sq, m_last, v_last = abs_sq(xp, g), m, v
        m = self.beta1 * m + (1 - self.beta1) * g
        v = self.beta2 * v + (1 - self.beta2) * g_sq
        if self.variant == "paper":
            b1, a1, b2, a2, omega = c
            m_hat = corrected_update(m_last, g, b1, a1)
            v_hat = corrected_update(v_last, g_sq, b2, a2)
        else:
            b1, a1, omega = c
            m_hat = corrected_update(m_last, g, b1, a1)
            v_hat = v
        r = self._r(xp, omega, v_hat)
        p = p - lr * (r * m_hat)
        return p, m, v

    def _r(self, xp: Any, omega: Array, v_hat: Array) -> Array:
        root = xp.sqrt(v_hat + self.eps_root if self.eps_root else v_hat)
        return xp.where(omega > 0, omega / (root + self.eps), 1.0 if self.below == "momentum" else 0.0)

    def rates(self, xp: Any, lr: Array, c: Any, m: Array, v: Array) -> tuple[Array, Array]:
        """Return equation 11 without ``m_hat``: rectified, or up to the threshold alpha or 0."""
        if self.variant == "paper":
            _, _, b2, a2, omega = c
            v = corrected_average(v, b2, a2)
        else:
            _, _, omega = c
        eta = lr * self._r(xp, omega, v)
        return eta, eta
