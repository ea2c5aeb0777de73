"""What a training's steps looked like: the rates in force, how often they were bounded, how far parameters moved.

Pure functions of states and arrays of any framework, which also run inside ``jax.jit``. The figures of the papers are
made of them: the AdaMod paper's of rates (Figures 2 and 3), Ma & Yarats' of update magnitudes (Figures 1c and 2).

>>> import numpy as np
>>> from adamod_array import adamod_init, adamod_step, diagnostics
>>> state = adamod_step(adamod_init(np.zeros(3), lr=1.0, beta3=0.5), np.asarray([1.0, -2.0, 4.0]))
>>> print(diagnostics.effective_rates(state), diagnostics.bounded_fraction(state))
[0.5   0.25  0.125] 1.0
"""

from __future__ import annotations

import functools
import math
from typing import Any

import numpy as np

from adamod_array import _check, _tree
from adamod_array._dtensor import check_alike, combined
from adamod_array._histogram import Histogram, histogram
from adamod_array._leaves import Leaves
from adamod_array._method import Array
from adamod_array._modes import contained
from adamod_array._namespace import COMPUTE_DTYPE, REAL_DTYPE, dtype_name
from adamod_array._scalars import Options, Scalars
from adamod_array._state import State
from adamod_array._tree import Tree

__all__ = ["Histogram", "bounded_fraction", "effective_rates", "histogram", "update_magnitudes"]


@contained
def effective_rates(state: State, *, lr: Any = None) -> Tree:
    r"""Return the rate of every coordinate in the state's last step: what multiplied its bias-corrected momentum.

    .. math::
        \text{Adam:}\quad & \eta_t = \alpha_t / (\sqrt{\hat v_t + \epsilon_\text{root}} + \epsilon) \\
        \text{AdaMod:}\quad & \hat\eta_t = \min(\eta_t, s_t) \\
        \text{RAdam:}\quad & \alpha_t \omega_t / (\sqrt{\hat v_t + \epsilon_\text{root}} + \epsilon)
        \ \text{ or, up to the threshold, }\ \alpha_t \ \text{(momentum) or 0 (skip)} \\
        \text{Momentum:}\quad & \alpha_t

    by the functions of which each method's rule is made. The authors' AdaMod (``variant="reference"``)
    multiplies the uncorrected momentum, by a rate that holds both corrections.

    Parameters
    ----------
    state : State
        After at least one step.
    lr : float, 0-d array, schedule, or a tree prefix of them, optional
        The learning rate of that step, where ``step(..., lr=...)`` had one of its own, or ``state.lr`` was
        changed since: a state does not keep it.

    Returns
    -------
    tree
        Like ``state.params``: real arrays of the parameters' shapes and devices, float32 for 16 bits.
        Within a few ulp of what the step used, whose corrected ``v`` was rounded less. Infinite where
        a rate divides by zero. What had no gradient in the last step has the rates of one with its averages.

    Raises
    ------
    TypeError
        Not a state; a method of your own without :meth:`~adamod_array.Method.rates`.
    ValueError
        No step has been taken; the state is spent; ``lr`` is out of range.

    Examples
    --------
    >>> import numpy as np
    >>> from adamod_array import adam_init, adam_step, diagnostics
    >>> state = adam_step(adam_init({"w": np.zeros(2)}, lr=0.1, eps=0), {"w": np.asarray([4.0, -0.5])})
    >>> print(diagnostics.effective_rates(state)["w"].round(4))
    [0.025 0.2  ]
    """
    leaves, rates = _rates(state, lr)
    return leaves.whole_tree([None if pair is None else pair[1] for pair in rates])


@contained
def bounded_fraction(state: State, *, lr: Any = None) -> Any:
    r"""Return the share of all coordinates whose rate the method's bound lowered in the last step.

    For AdaMod, where :math:`s_t < \eta_t`; 0 for the methods that have no bound.

    Parameters
    ----------
    state, lr
        As in :func:`effective_rates`.

    Returns
    -------
    0-d array
        In [0, 1], in the namespace's widest real dtype.

    Raises
    ------
    TypeError, ValueError
        As :func:`effective_rates`; the parameters hold no numbers.

    Examples
    --------
    >>> import numpy as np
    >>> from adamod_array import adamod_init, adamod_step, diagnostics
    >>> state = adamod_init(np.zeros(4), beta3=0.5)
    >>> state = adamod_step(adamod_step(state, np.ones(4)), np.asarray([1.0, 1.0, 8.0, 8.0]))
    >>> print(diagnostics.bounded_fraction(state))  # where the gradient grew, the average is above the rate
    0.5
    """
    leaves, rates = _rates(state, lr)
    namespace, pairs = leaves.namespace, [pair for pair in rates if pair is not None]
    size = sum(math.prod(p.shape) for p in leaves.arrays(0) if p is not None)
    if namespace is None or size == 0:
        raise ValueError("the parameters hold no numbers, of which there could be a share")
    lowered = [namespace.xp.sum(namespace.xp.astype(eta_hat < eta, namespace.widest_float)) for eta, eta_hat in pairs]
    placings = leaves.placings and [at for at, pair in zip(leaves.placings, rates, strict=True) if pair is not None]
    return combined(lowered, placings, "sum", namespace.xp.add) / size


@contained
def update_magnitudes(old: State, new: State, *, lr: Any = None, weight_decay: Any = None) -> Tree:
    r"""Return how far a step moved every coordinate, in units of the learning rate (Ma & Yarats 2021, section 3.3).

    .. math:: |\theta_t - (1 - \alpha_t\lambda)\,\theta_{t-1}| / \alpha_t

    with the weight decay :math:`\lambda` taken off, so that it is the method's own update that is
    measured: :math:`|\hat\eta_t \hat m_t| / \alpha_t`, 1 in Adam's first step without ``eps``.

    Parameters
    ----------
    old, new : State
        A state, not donated, and what one step made of it.
    lr : float, 0-d array, schedule, or a tree prefix of them, optional
        The learning rate of that step, where ``step(..., lr=...)`` had one of its own.
    weight_decay : float, 0-d array, or a tree prefix of them, optional
        Its weight decay, in the same way.

    Returns
    -------
    tree
        Like ``new.params``: real arrays, float32 for 16 bits. As exact as the parameters are: beside a
        parameter of size 1, float32 resolves ``6e-8 / lr``, bfloat16 ``4e-3 / lr``. NaN where the rate is 0.

    Raises
    ------
    TypeError
        Not states.
    ValueError
        ``new`` is not one step after ``old``; trees, shapes or devices differ; a state is spent.

    Examples
    --------
    >>> import numpy as np
    >>> from adamod_array import adam_init, adam_step, diagnostics
    >>> old = adam_init(np.zeros(3), lr=1e-3, eps=0)
    >>> new = adam_step(old, np.asarray([5.0, -0.1, 1e-9]))
    >>> print(diagnostics.update_magnitudes(old, new))
    [1. 1. 1.]
    """
    if isinstance(old, State) and (spent := old.spent_by()) is not None and spent[1]:
        raise ValueError(
            f"old is spent: it was donated to step {spent[0]}; leave donate out of the step that is looked at, or keep"
            " copy.deepcopy(old)"
        )
    before, after = current_leaves(old), current_leaves(new)
    _tree.check_structure(before.spec, new.params, "new.params")
    if type(old.step) is type(new.step) is int and new.step != old.step + 1:
        raise ValueError(f"new must be one step after old, of step {old.step}, got one of step {new.step}")
    namespace = after.namespace
    if namespace is None:
        return after.tree(after.params)
    check_alike(before.placings, after.arrays(0), functools.partial(_tree.path, after.spec, "new.params"))
    scalars = Scalars.at(new.step, after.method, old.lr, old.weight_decay, after, Options(lr, weight_decay))

    def magnitude(i: int) -> Array:
        p_old, p_new = before.params[i], after.params[i]
        _check.like_parameter(namespace, p_old, p_new, functools.partial(_tree.path, after.spec, "new.params", i))
        compute = namespace.dtype(COMPUTE_DTYPE[dtype_name(p_new)])
        alpha, decay, _ = scalars.rounded(i, namespace, _real_dtype(p_new), namespace.device(p_new))
        p_old, p_new = namespace.cast(p_old, compute), namespace.cast(p_new, compute)
        return namespace.xp.abs(p_new - (p_old if decay is None else decay * p_old)) / alpha

    with np.errstate(all="ignore"):
        return after.whole_tree([None if p is None else magnitude(i) for i, p in enumerate(after.params)])


def current_leaves(state: State) -> Leaves:
    """Return the leaves of a state as they are now, checked; another than a state is a TypeError."""
    if not isinstance(state, State):
        raise TypeError(f"expected a State, got {type(state).__name__}")
    leaves, _ = state.resolved()
    return leaves.checked_again() if leaves.have_changed() else leaves


def _real_dtype(p: Array) -> str:
    """Return what the rates of a parameter are computed in."""
    dtype = COMPUTE_DTYPE[dtype_name(p)]
    return REAL_DTYPE.get(dtype, dtype)


def _rates(state: State, lr: Any) -> tuple[Leaves, list[tuple[Array, Array] | None]]:
    """Return the arrays of a state, and of each parameter the rates of the last step before and after the bound."""
    leaves = current_leaves(state)
    namespace = leaves.namespace
    if type(state.step) is int and state.step < 1:
        raise ValueError("no step has been taken, so that there are no rates yet")
    if namespace is None:
        return leaves, [None] * len(leaves.params)
    scalars = Scalars.at(state.step, leaves.method, state.lr, 0.0, leaves, Options(lr))

    def of(i: int, p: Array) -> tuple[Array, Array]:
        dtype, xp = _real_dtype(p), namespace.xp
        alpha, _, c = scalars.rounded(i, namespace, dtype, namespace.device(p))
        with namespace.on_device(p):
            zeros = xp.zeros_like(xp.real(p) if dtype_name(p) in REAL_DTYPE else p, dtype=namespace.dtype(dtype))
            try:
                eta, eta_hat = scalars.method(i).rates(xp, alpha, c, *(slot[i] for slot in leaves.slots))
            except NotImplementedError as error:
                raise TypeError(str(error)) from None
            return eta + zeros, eta_hat + zeros  # a rate may be one number

    with np.errstate(all="ignore"):
        return leaves, [None if p is None else of(i, p) for i, p in enumerate(leaves.params)]
