"""Heavy-ball momentum: the baseline (SGDM) of the AdaMod paper."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from adamod_array._method import Array, Method, explained_class


@explained_class
@dataclass(frozen=True)
class Momentum(Method):
    r"""Stochastic gradient descent with heavy-ball momentum (Polyak 1964), or Nesterov's.

    .. math::
        m_t &= \beta m_{t-1} + g_t \\
        \theta_t &= \theta_{t-1} - \alpha_t m_t
        \quad\text{or, with nesterov,}\quad \theta_{t-1} - \alpha_t (g_t + \beta m_t)

    Parameters
    ----------
    beta : float
        Decay of the velocity, in [0, 1); 0 is plain gradient descent.
    nesterov : bool
        Look ahead along the new velocity (Sutskever et al. 2013, as in PyTorch).

    Raises
    ------
    ValueError
        A hyperparameter is out of range.

    Examples
    --------
    >>> import numpy as np
    >>> from adamod_array import Momentum, init, step
    >>> state = init(Momentum(beta=0.5), np.asarray([1.0]), lr=0.1)
    >>> for _ in range(2):
    ...     state = step(state, np.asarray([2.0]))
    >>> print(state.params)
    [0.5]
    """

    beta: float = 0.9
    nesterov: bool = False

    slots = ("m",)

    def rule(self, xp: Any, lr: Array, c: Any, g: Array, p: Array, m: Array) -> tuple[Array, ...]:
        """Take the velocity, then the step along it."""
        m = self.beta * m + g
        p = p - lr * (g + self.beta * m if self.nesterov else m)
        return p, m

    def rates(self, xp: Any, lr: Array, c: Any, m: Array) -> tuple[Array, Array]:
        """Return the learning rate itself."""
        return lr, lr
