"""A method as a gradient transformation of optax."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from adamod_array import _tree
from adamod_array._coefficients import next_step
from adamod_array._compact import compacted
from adamod_array._method import Method
from adamod_array._methods import methods_of
from adamod_array._namespace import is_complex, namespace_of
from adamod_array._program.trace import trace
from adamod_array._rate import PerLeaf, as_rate, checked_schedule, is_schedule
from adamod_array._state import State
from adamod_array._step import init, step
from adamod_array._tree import Tree
from adamod_array.schedules import Schedule


class MethodState(NamedTuple):
    """What :func:`as_optax` keeps: the steps taken, an int32, and the slots of the method by name."""

    count: Any
    slots: dict[str, Tree]


def as_optax(
    method: Any, learning_rate: Any, weight_decay: Any = 0.0, mask: Any = None, *, slot_dtype: Any = None
) -> Any:
    """Return a method as a gradient transformation of optax, the learning rate and its sign included.

    Parameters
    ----------
    method : Method or a tree prefix of methods
        As for :func:`adamod_array.init`.
    learning_rate : float, 0-d array, or schedule
        This package's schedules are called with 1 for the first step; any other function is taken for one of optax's,
        which count from 0. An array may be traced, as that of ``optax.inject_hyperparams`` is.
    weight_decay : float, 0-d array, or schedule
        Decoupled, times the learning rate, as in ``optax.adamw``.
    mask : tree of bool, or function of the parameters that returns one, optional
        What decays, as in ``optax.adamw``: a tree prefix of the parameters. By default everything.
    slot_dtype : "bfloat16" or a mapping of slots to it, optional
        As of :func:`adamod_array.init`.

    Returns
    -------
    optax.GradientTransformationExtraArgs
        Its state is a :class:`MethodState`, with slots as :func:`adamod_array.init` makes them: float32 for 16-bit
        parameters, bfloat16 where ``slot_dtype`` says so. An update has the dtype of its gradient, and is None where
        the gradient is. Parameters may be left out of ``update`` unless there is weight decay, or a method of your own
        whose rule reads them. Other arguments are ignored. Gradients are used as they are given: of complex parameters
        give ``jnp.conj`` of what ``jax.grad`` returns, as to optax's own.

    Raises
    ------
    TypeError, ValueError
        Not a method; a rate that is no number, negative or not finite; in ``init`` a leaf that is not a floating array;
        in ``update`` no parameters where they are needed, or gradients that do not fit them.

    Notes
    -----
    ``optax.apply_updates`` gives the bits of :func:`adamod_array.step` in float32 and float64. Without weight decay the
    step is taken from -0.0, which changes nothing that is added to it. With decay the update is the difference of the
    parameters, exact unless one step halves or doubles them (Sterbenz 1974): there the last bit may differ.

    Examples
    --------
    >>> import jax.numpy as jnp
    >>> import optax
    >>> from adamod_array import Adam, schedules
    >>> from adamod_array.optax import as_optax
    >>> optimizer = as_optax(Adam(), 1e-3 * schedules.untuned_linear(0.999), weight_decay=0.01)
    >>> state = optimizer.init(jnp.ones(3))
    >>> updates, state = optimizer.update(jnp.ones(3), state, jnp.ones(3))
    >>> state.count, updates.dtype
    (Array(1, dtype=int32), dtype('float32'))
    """
    method = compacted(method, slot_dtype)
    methods = _methods_in(method)
    reads = not all(trace(each).translates for each in methods)
    rate, decay = _rate(learning_rate, "learning_rate"), _rate(weight_decay, "weight_decay")
    decays = not (isinstance(decay, float) and decay == 0)

    def start(params: Tree) -> MethodState:
        params = jax.tree.map(as_array, params)
        if jax.tree.leaves(params):
            slots = init(method, params).slots
        else:  # all is masked, or optax asks where a state has parameters
            slots = dict.fromkeys(methods[0].slots, params)
        return MethodState(jnp.zeros([], jnp.int32), slots)

    def update(updates: Tree, state: MethodState, params: Tree = None, **extra_args: Any) -> tuple[Tree, MethodState]:
        del extra_args
        if params is None and (reads or decays):
            optax.add_decayed_weights(0.0).update(updates, optax.EmptyState(), None)  # raises optax's own error
        grads, params = jax.tree.map(as_array, (updates, params))
        t = next_step(state.count)
        lr, decay_now = _at(rate, state.count, t), _at(decay, state.count, t)
        leaves, spec = _tree.flatten(next(iter(state.slots.values()), grads) if params is None else params)
        gradients = _tree.leaves_like(spec, grads, "grads")
        shrinks = _decaying(mask, spec, params) if decays else [False] * len(leaves)
        origins = [
            _origin(x, g, params is not None, reads or each)
            for x, g, each in zip(leaves, gradients, shrinks, strict=True)
        ]
        before = State(_tree.unflatten(spec, origins), dict(state.slots), state.count, method)
        after = step(before, grads, lr=lr, weight_decay=PerLeaf(decay_now if each else 0.0 for each in shrinks))
        new = zip(after.resolved()[0].params, origins, gradients, shrinks, strict=True)
        moved = [_difference(x, origin, g, reads or each) for x, origin, g, each in new]
        return _tree.unflatten(spec, moved), MethodState(after.step, after.slots)

    return optax.GradientTransformationExtraArgs(start, update)


def _methods_in(method: Any) -> list[Method]:
    """Return the methods of a tree prefix of them.

    Raises
    ------
    TypeError
        There is none.
    """
    found = [x for x in _tree.flatten(method)[0] if isinstance(x, Method)]
    if not found:
        methods_of(method, None, (), "; the order is as_optax(method, learning_rate)")
    return found


def _rate(value: Any, what: str) -> Any:
    """Return a rate, checked as far as it is known."""
    return checked_schedule(value, lambda: what) if is_schedule(value) else as_rate(value, lambda: what, "jax")


def _at(rate: Any, count: Any, t: Any) -> Any:
    """Return a rate at step ``t``, which is 1 where optax's ``count`` is 0."""
    if isinstance(rate, Schedule):
        return rate(t)
    return rate(count) if is_schedule(rate) else rate


def as_array(x: Any) -> Any:
    """Return NumPy's arrays and Python's numbers as JAX's, as optax does; anything else as it is, for the checks."""
    return jnp.asarray(x) if isinstance(x, (np.ndarray, np.generic, float, complex)) else x


def _decaying(mask: Any, spec: Any, params: Tree) -> list[bool]:
    """Return which leaves decay."""
    if mask is None:
        return [True] * spec.num_leaves
    given = jax.tree.leaves(mask)
    if given and all(map(callable, given)):  # an Equinox module of booleans can be called, too
        mask = mask(params)
    return [bool(x) for x in _tree.broadcast_prefix(mask, spec, "mask")]


def _origin(x: Any, g: Any, is_parameter: bool, from_parameter: bool) -> Any:
    """Return what a leaf is stepped from, in the dtype that it is computed in: the parameter, or -0.0.

    ``x`` is the parameter or something like it.
    """
    if x is None or g is None:
        return None
    known = [x] if is_parameter or namespace_of(g) is None else [x, g]  # the step says what else g is
    dtype = jnp.result_type(jnp.float32, *known)
    zero = complex(-0.0, -0.0) if jnp.issubdtype(dtype, jnp.complexfloating) else -0.0
    return x.astype(dtype) if from_parameter else jnp.full_like(x, zero, dtype=dtype)


def _difference(new: Any, origin: Any, g: Any, from_parameter: bool) -> Any:
    """Return the update of a leaf in the dtype of its gradient; a complex one stays complex."""
    if new is None:
        return None
    u = new - origin if from_parameter else new
    return u if is_complex(u) and not is_complex(g) else u.astype(g.dtype)
