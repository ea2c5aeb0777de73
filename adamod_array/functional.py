"""The functional front door: an ``init`` and a ``step`` of every method, with every hyperparameter spelt out."""

from __future__ import annotations

import inspect
import math
import numbers
from typing import Any, Never

from adamod_array._options import explained, refuses
from adamod_array._scalars import Options
from adamod_array._state import State
from adamod_array._step import init, take_step
from adamod_array._tree import P, Tree
from adamod_array.adam import Adam
from adamod_array.adamod import AdaMod
from adamod_array.diffgrad import DiffGrad, DiffMod
from adamod_array.momentum import Momentum
from adamod_array.radam import RAdam


@explained
def adam_init(
    params: P,
    lr: Any = 1e-3,
    *,
    weight_decay: Any = 0.0,
    slot_dtype: Any = None,
    param_rounding: Any = None,
    beta1: float = 0.9,
    beta2: float = 0.999,
    eps: float = 1e-8,
    eps_root: float = 0.0,
    amsgrad: bool = False,
) -> State[P]:
    """Return the state before the first step of :class:`Adam`; arguments and errors as :func:`adamod_array.init`.

    Examples
    --------
    >>> import numpy as np
    >>> from adamod_array import adam_init
    >>> adam_init({"w": np.zeros(2, np.float32)}, lr=0.1, amsgrad=True).method.slots
    ('m', 'v', 'v_max')
    """
    method = Adam(beta1=beta1, beta2=beta2, eps=eps, eps_root=eps_root, amsgrad=amsgrad)
    return init(method, params, lr, weight_decay=weight_decay, slot_dtype=slot_dtype, param_rounding=param_rounding)


@refuses
def adam_step(
    state: State[P],
    grads: Tree,
    *,
    lr: Any = None,
    weight_decay: Any = None,
    max_norm: Any = None,
    where: Any = True,
    donate: bool = False,
    **unknown: Never,
) -> State[P]:
    """Take one step of :class:`Adam` and return a new state; arguments and errors as :func:`adamod_array.step`.

    Examples
    --------
    >>> import numpy as np
    >>> from adamod_array import adam_init, adam_step
    >>> state = adam_step(adam_init(np.zeros(2), lr=0.1), np.asarray([3.0, -4.0]))
    >>> print(state.params, state.step)
    [-0.1  0.1] 1
    """
    return take_step(Adam, state, grads, Options(lr, weight_decay, max_norm, where), donate, unknown)


@explained
def adamod_init(
    params: P,
    lr: Any = 1e-3,
    *,
    weight_decay: Any = 0.0,
    slot_dtype: Any = None,
    param_rounding: Any = None,
    beta1: float = 0.9,
    beta2: float = 0.999,
    beta3: float = 0.999,
    eps: float = 1e-8,
    variant: str = "paper",
    hold_idle: bool = False,
    len_memory: float | None = None,
) -> State[P]:
    """Return the state before the first step of :class:`AdaMod`; arguments and errors as :func:`adamod_array.init`.

    ``len_memory=N`` says ``beta3 = 1 - 1/N``: the number of steps that the bound remembers.

    Examples
    --------
    >>> import numpy as np
    >>> from adamod_array import adamod_init
    >>> adamod_init(np.zeros(2), len_memory=10_000).method.beta3
    0.9999
    """
    if len_memory is not None:
        beta3 = decay_of(len_memory, beta3, adamod_init)
    method = AdaMod(beta1=beta1, beta2=beta2, beta3=beta3, eps=eps, variant=variant, hold_idle=hold_idle)
    return init(method, params, lr, weight_decay=weight_decay, slot_dtype=slot_dtype, param_rounding=param_rounding)


@refuses
def adamod_step(
    state: State[P],
    grads: Tree,
    *,
    lr: Any = None,
    weight_decay: Any = None,
    max_norm: Any = None,
    where: Any = True,
    donate: bool = False,
    **unknown: Never,
) -> State[P]:
    """Take one step of :class:`AdaMod` and return a new state; arguments and errors as :func:`adamod_array.step`.

    Examples
    --------
    >>> import numpy as np
    >>> from adamod_array import adamod_init, adamod_step
    >>> state = adamod_init({"w": np.zeros(2)}, lr=1.0, beta3=0.5)
    >>> state = adamod_step(state, {"w": np.asarray([3.0, -4.0])})
    >>> print(state.params["w"], state.step)
    [-0.5  0.5] 1
    """
    return take_step(AdaMod, state, grads, Options(lr, weight_decay, max_norm, where), donate, unknown)


@explained
def radam_init(
    params: P,
    lr: Any = 1e-3,
    *,
    weight_decay: Any = 0.0,
    slot_dtype: Any = None,
    param_rounding: Any = None,
    beta1: float = 0.9,
    beta2: float = 0.999,
    eps: float = 1e-8,
    eps_root: float = 0.0,
    threshold: float | None = None,
    below: str = "momentum",
    variant: str = "paper",
) -> State[P]:
    """Return the state before the first step of :class:`RAdam`; arguments and errors as :func:`adamod_array.init`.

    Examples
    --------
    >>> import numpy as np
    >>> from adamod_array import radam_init
    >>> radam_init(np.zeros(2), variant="reference").method.threshold
    5.0
    """
    method = RAdam(
        beta1=beta1, beta2=beta2, eps=eps, eps_root=eps_root, threshold=threshold, below=below, variant=variant
    )
    return init(method, params, lr, weight_decay=weight_decay, slot_dtype=slot_dtype, param_rounding=param_rounding)


@refuses
def radam_step(
    state: State[P],
    grads: Tree,
    *,
    lr: Any = None,
    weight_decay: Any = None,
    max_norm: Any = None,
    where: Any = True,
    donate: bool = False,
    **unknown: Never,
) -> State[P]:
    """Take one step of :class:`RAdam` and return a new state; arguments and errors as :func:`adamod_array.step`.

    Examples
    --------
    >>> import numpy as np
    >>> from adamod_array import radam_init, radam_step
    >>> print(radam_step(radam_init(np.zeros(1), lr=0.5), np.ones(1)).params)
    [-0.5]
    """
    return take_step(RAdam, state, grads, Options(lr, weight_decay, max_norm, where), donate, unknown)


@explained
def momentum_init(
    params: P,
    lr: Any = 1e-3,
    *,
    weight_decay: Any = 0.0,
    slot_dtype: Any = None,
    param_rounding: Any = None,
    beta: float = 0.9,
    nesterov: bool = False,
) -> State[P]:
    """Return the state before the first step of :class:`Momentum`; arguments and errors as :func:`adamod_array.init`.

    Examples
    --------
    >>> import numpy as np
    >>> from adamod_array import momentum_init
    >>> momentum_init(np.zeros(2), nesterov=True).method
    Momentum(beta=0.9, nesterov=True)
    """
    method = Momentum(beta=beta, nesterov=nesterov)
    return init(method, params, lr, weight_decay=weight_decay, slot_dtype=slot_dtype, param_rounding=param_rounding)


@refuses
def momentum_step(
    state: State[P],
    grads: Tree,
    *,
    lr: Any = None,
    weight_decay: Any = None,
    max_norm: Any = None,
    where: Any = True,
    donate: bool = False,
    **unknown: Never,
) -> State[P]:
    """Take one step of :class:`Momentum` and return a new state; arguments and errors as :func:`adamod_array.step`.

    Examples
    --------
    >>> import numpy as np
    >>> from adamod_array import momentum_init, momentum_step
    >>> print(momentum_step(momentum_init(np.zeros(1), lr=0.5), np.ones(1)).params)
    [-0.5]
    """
    return take_step(Momentum, state, grads, Options(lr, weight_decay, max_norm, where), donate, unknown)


@explained
def diffgrad_init(
    params: P,
    lr: Any = 1e-3,
    *,
    weight_decay: Any = 0.0,
    slot_dtype: Any = None,
    param_rounding: Any = None,
    beta1: float = 0.9,
    beta2: float = 0.999,
    eps: float = 1e-8,
) -> State[P]:
    """Return the state before the first step of :class:`DiffGrad`; arguments and errors as :func:`adamod_array.init`.

    Examples
    --------
    >>> import numpy as np
    >>> from adamod_array import diffgrad_init
    >>> tuple(diffgrad_init(np.zeros(2)).slots)
    ('m', 'v', 'g_last')
    """
    method = DiffGrad(beta1=beta1, beta2=beta2, eps=eps)
    return init(method, params, lr, weight_decay=weight_decay, slot_dtype=slot_dtype, param_rounding=param_rounding)


@refuses
def diffgrad_step(
    state: State[P],
    grads: Tree,
    *,
    lr: Any = None,
    weight_decay: Any = None,
    max_norm: Any = None,
    where: Any = True,
    donate: bool = False,
    **unknown: Never,
) -> State[P]:
    """Take one step of :class:`DiffGrad` and return a new state; arguments and errors as :func:`adamod_array.step`.

    Examples
    --------
    >>> import numpy as np
    >>> from adamod_array import diffgrad_init, diffgrad_step
    >>> print(diffgrad_step(diffgrad_init(np.zeros(1), lr=0.5), np.asarray([50.0])).params)
    [-0.5]
    """
    return take_step(DiffGrad, state, grads, Options(lr, weight_decay, max_norm, where), donate, unknown)


@explained
def diffmod_init(
    params: P,
    lr: Any = 1e-3,
    *,
    weight_decay: Any = 0.0,
    slot_dtype: Any = None,
    param_rounding: Any = None,
    beta1: float = 0.9,
    beta2: float = 0.999,
    beta3: float = 0.999,
    eps: float = 1e-8,
    hold_idle: bool = False,
    len_memory: float | None = None,
) -> State[P]:
    """Return the state before the first step of :class:`DiffMod`; arguments and errors as :func:`adamod_array.init`.

    ``len_memory=N`` says ``beta3 = 1 - 1/N``: the number of steps that the bound remembers.

    Examples
    --------
    >>> import numpy as np
    >>> from adamod_array import diffmod_init
    >>> diffmod_init(np.zeros(2), len_memory=5_000).method.beta3
    0.9998
    """
    if len_memory is not None:
        beta3 = decay_of(len_memory, beta3, diffmod_init)
    method = DiffMod(beta1=beta1, beta2=beta2, beta3=beta3, eps=eps, hold_idle=hold_idle)
    return init(method, params, lr, weight_decay=weight_decay, slot_dtype=slot_dtype, param_rounding=param_rounding)


@refuses
def diffmod_step(
    state: State[P],
    grads: Tree,
    *,
    lr: Any = None,
    weight_decay: Any = None,
    max_norm: Any = None,
    where: Any = True,
    donate: bool = False,
    **unknown: Never,
) -> State[P]:
    """Take one step of :class:`DiffMod` and return a new state; arguments and errors as :func:`adamod_array.step`.

    Examples
    --------
    >>> import numpy as np
    >>> from adamod_array import diffmod_init, diffmod_step
    >>> print(diffmod_step(diffmod_init(np.zeros(1), lr=0.5, beta3=0.5), np.asarray([50.0])).params)
    [-0.25]
    """
    return take_step(DiffMod, state, grads, Options(lr, weight_decay, max_norm, where), donate, unknown)


def decay_of(len_memory: float, beta3: float, front_door: Any) -> float:
    """Return the ``beta3`` of a memory of so many steps.

    Raises
    ------
    TypeError, ValueError
        ``beta3`` was given as well, or the memory is no number of steps.
    """
    who = front_door.__name__
    default = inspect.signature(front_door).parameters["beta3"].default
    if beta3 is not default:  # the very object: a caller may have given the same number
        raise TypeError(f"{who}: give beta3 or len_memory, not both")
    if isinstance(len_memory, bool) or not isinstance(len_memory, numbers.Real):
        raise TypeError(f"{who}: len_memory must be a number of steps, got {len_memory!r}")
    if not 1 <= float(len_memory) < math.inf:
        raise ValueError(f"{who}: len_memory must be at least 1 step and finite, got {len_memory}")
    return 1 - 1 / len_memory
