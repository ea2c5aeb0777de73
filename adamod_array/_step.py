"""The state of any method, and one step of it over a tree of arrays."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import numpy as np

from adamod_array import _check, _kernels, _tree
from adamod_array._math import number
from adamod_array._method import Method
from adamod_array._namespace import COMPUTE_DTYPE, REAL_DTYPE, Namespace, dtype_name, namespace_of
from adamod_array._rate import constant_rate, decay_rate, rates_at
from adamod_array._state import State
from adamod_array._tree import Tree


def init(method: Method, params: Tree, lr: Any = 1e-3, *, weight_decay: Any = 0.0) -> State:
    """The state before the first step of any method.

    Parameters
    ----------
    method : Method
        ``Adam()``, ``AdaMod(beta3=0.9999)``, or one of your own.
    params : array or tree of arrays
        float16, bfloat16, float32, float64, complex64 or complex128 arrays of any shape, all of
        one framework, on any devices, in dicts, lists, tuples, namedtuples, or any container known
        to optree or JAX. Kept as they are, not copied; None marks what is not to be optimized.
    lr : float, schedule, or a tree prefix of them
        The learning rate; a schedule is called with t = 1 for the first step.
    weight_decay : float or a tree prefix of floats
        Decoupled (Loshchilov & Hutter 2019): parameters shrink by ``1 - lr * weight_decay`` a step.

    Raises
    ------
    TypeError
        Not a method; a leaf that is not a floating array; frameworks mixed; a rate that is no number.
    ValueError
        A rate that is negative or not finite, or no prefix of the tree.

    Examples
    --------
    >>> import numpy as np
    >>> from adamod_array import AdaMod, init
    >>> state = init(AdaMod(beta3=0.9999), {"w": np.zeros(3), "b": np.zeros(1)}, lr={"w": 1e-3, "b": 1e-2})
    >>> state.step, state.slots["s"]["w"]
    (0, array([0., 0., 0.]))
    """
    if not isinstance(method, Method):
        raise TypeError(f"init: expected a method such as AdaMod(), got {method!r}; the order is init(method, params)")
    leaves, spec = _tree.flatten(params)
    kind = _check.params(leaves, lambda i: _tree.paths(spec, "params")[i])
    lr, weight_decay = constant_rate(lr, spec, "lr"), decay_rate(weight_decay, spec)
    if any(isinstance(p, np.generic) for p in leaves):
        leaves = [np.asarray(p) if isinstance(p, np.generic) else p for p in leaves]
        params = _tree.unflatten(spec, leaves)
    slots = {
        name: _tree.unflatten(spec, [None if p is None else _zeros(method, kind, p, i) for p in leaves])
        for i, name in enumerate(method.slots)
    }
    return State(params, slots, 0, method, lr, weight_decay)


def _zeros(method: Method, kind: Namespace | None, p: Any, i: int) -> Any:
    """Slot ``i`` of a parameter before the first step."""
    assert kind is not None
    dtype = COMPUTE_DTYPE[dtype_name(p)]
    if dtype in REAL_DTYPE and not _complex_slots(method)[i]:
        dtype = REAL_DTYPE[dtype]
        p = kind.xp.real(p)
    return kind.xp.zeros_like(p, dtype=kind.dtype(dtype))


@functools.cache
def _complex_slots(method: Method) -> tuple[bool, ...]:
    """Which slots a complex parameter makes complex: those that the rule itself does, from real zeros."""
    kind = namespace_of(np.empty(0))
    assert kind is not None
    one = np.ones(1, np.complex128)
    slots = [np.zeros(1) for _ in method.slots]
    c = method.coefficients(*number(1))
    for _ in range(len(slots) + 1):  # a slot may become complex through another
        with np.errstate(all="ignore"):
            slots = list(_kernels.apply_rule(method, kind.xp, 1.0, None, c, one, one, slots)[1:])
    return tuple(np.iscomplexobj(slot) for slot in slots)


def step(state: State, grads: Tree, *, lr: Any = None, donate: bool = False) -> State:
    """One step of the state's method: a new state; the old one still stands.

    Parameters
    ----------
    state : State
        From :func:`init` or an earlier step.
    grads : array or tree of arrays
        Gradients in the tree of ``state.params``, each with its parameter's shape and device. A
        leaf may be None: that parameter and its slots stay as they are, the same arrays.
    lr : float, array of no dimensions, schedule, or a tree prefix of them, optional
        Overrides the state's learning rate for this step. A traced value is fine, and no new value
        compiles anything again.
    donate : bool
        Write into the arrays of ``state`` (NumPy, CuPy, PyTorch) or give their buffers to the
        result (JAX). The old state is spent. Any other framework makes new arrays all the same.

    Returns
    -------
    State
        Every array has the dtype, device and namespace of the one it replaces.

    Raises
    ------
    TypeError
        ``state`` is not a state; a gradient is not a floating array of its parameter's framework.
    ValueError
        Another tree, shape or device; a rate that is negative or not finite; a state that is spent;
        with ``donate``, memory that is read-only or that two leaves share. The state is unharmed.

    Examples
    --------
    >>> import numpy as np
    >>> from adamod_array import Momentum, init, step
    >>> state = init(Momentum(), {"w": np.zeros(2), "b": np.zeros(1)}, lr=0.1)
    >>> state = step(state, {"w": np.ones(2), "b": None})
    >>> print(state.params)
    {'w': array([-0.1, -0.1]), 'b': array([0.])}
    """
    return take_step(Method, state, grads, lr, donate)


def take_step(method: type[Method], state: State, grads: Tree, lr: Any, donate: bool) -> State:
    """:func:`step`, for a state of one method only."""
    if not isinstance(state, State):
        raise TypeError(
            f"step: expected a State from init, got {type(state).__name__}; the order is step(state, grads)"
        )
    if not isinstance(state.method, method):
        raise TypeError(f"the state is one of {type(state.method).__name__}, expected {method.__name__}")
    if state._spent:
        raise ValueError(
            f"this state is spent: it was donated to step {state._spent[0]}; use the state that step returned"
        )
    leaves, spec = _tree.flatten(state.params)
    gradients, slots = _checked(state, leaves, spec, grads, donate)
    at = [i for i, g in enumerate(gradients) if g is not None]
    if at:
        kind = namespace_of(leaves[at[0]])
        assert kind is not None
        t, math = number(state.step + 1)
        pairs, which = rates_at(state.step + 1, state.lr, lr, state.weight_decay, spec, kind.name)
        work = _kernels.Work(
            state.method,
            kind,
            state.method.coefficients(t, math),
            pairs,
            tuple(which[i] for i in at),
            [leaves[i] for i in at],
            [gradients[i] for i in at],
            [[slot[i] for slot in slots] for i in at],
        )
        new_params, new_slots = _kernels.run(work, donate)
        for i, p, kept in zip(at, new_params, new_slots, strict=True):
            leaves[i] = p
            for slot, array in zip(slots, kept, strict=True):
                slot[i] = array
    new = State(
        _tree.unflatten(spec, leaves),
        {name: _tree.unflatten(spec, slot) for name, slot in zip(state.method.slots, slots, strict=True)},
        state.step + 1,
        state.method,
        state.lr,
        state.weight_decay,
    )
    if donate:
        state._spent.append(new.step)
    return new


def _checked(
    state: State, leaves: list[Any], spec: Any, grads: Tree, donate: bool
) -> tuple[list[Any], list[list[Any]]]:
    """Gradients and slots as lists beside the parameters' leaves, once everything is known to fit."""

    def path(root: str, i: int) -> str:
        return _tree.paths(spec, root)[i]

    names = state.method.slots  # their order decides; JAX sorts the keys of a dict
    if set(state.slots) != set(names):
        raise TypeError(f"the state keeps {tuple(state.slots)} and is not one of {state.method}")
    kind = _check.params(leaves, functools.partial(path, "params"))
    gradients, grad_spec = _tree.flatten_like(spec, grads)
    _check.structure(spec, grad_spec, "grads")
    slots = []
    for name in names:
        slot, slot_spec = _tree.flatten_like(spec, state.slots[name])
        _check.structure(spec, slot_spec, f"slots[{name!r}]")
        slots.append(slot)
    written: list[tuple[Any, Callable[[], str]]] = []
    for i, (p, g) in enumerate(zip(leaves, gradients, strict=True)):
        if p is None:
            if g is not None:
                raise ValueError(f"{path('grads', i)} must be None like its parameter")
            continue
        assert kind is not None
        for name, slot in zip(names, slots, strict=True):
            _check.beside(kind, p, slot[i], functools.partial(path, f"slots[{name!r}]", i))
        if g is not None:
            _check.beside(kind, p, g, functools.partial(path, "grads", i))
            if donate:
                written.append((p, functools.partial(path, "params", i)))
                written += [
                    (slot[i], functools.partial(path, f"slots[{name!r}]", i))
                    for name, slot in zip(names, slots, strict=True)
                ]
    if donate and kind is not None:
        _check.writable(kind, written)
    return gradients, slots
