"""States of optax's optimizers as this package's."""

from __future__ import annotations

from typing import Any

import jax
import optax

from adamod_array import _tree
from adamod_array._namespace import has_tracers, is_complex
from adamod_array._state import State
from adamod_array._step import init
from adamod_array._tree import P
from adamod_array.optax._transformation import MethodState, as_array

_SLOTS: dict[Any, Any] = {
    MethodState: lambda x: x.slots,
    optax.ScaleByAdamState: lambda x: {"m": x.mu, "v": x.nu},
    optax.TraceState: lambda x: {"m": x.trace},
}
"""What states of transformations keep, by the names of slots."""

_COUNTS = (
    (optax.ScaleByScheduleState, "count"),
    (optax.MultiStepsState, "gradient_step"),
    (optax.InjectStatefulHyperparamsState, "count"),
)
"""Who counts the steps of a transformation that does not."""


def state_from_optax(method: Any, params: P, opt_state: Any, lr: Any = 1e-3, *, weight_decay: Any = 0.0) -> State[P]:
    """Return the state with which :func:`adamod_array.step` goes on where an optimizer of optax's stands.

    Parameters
    ----------
    method : Method or a tree prefix of methods
        What goes on: ``Adam`` after ``optax.adam`` and ``optax.adamw``, ``RAdam`` after ``optax.radam``
        (``threshold=5`` is its default), ``Momentum`` after ``optax.sgd`` with momentum, any after :func:`as_optax`.
    params : tree of arrays
        The parameters that ``opt_state`` belongs to.
    opt_state : tree
        The state of the optimizer, alone or inside of others: ``optax.chain``, ``optax.inject_hyperparams``,
        ``optax.MultiSteps``, ``optax.masked``, and so on.
    lr, weight_decay
        As for :func:`adamod_array.init`: a state of optax's does not have them.

    Returns
    -------
    State
        Its arrays are those of ``params`` and ``opt_state``, but for slots of another dtype than
        :func:`adamod_array.init` makes, which are cast (bfloat16 to float32; ``state.replace(slot_dtype=...)`` casts
        them back). ``optax.sgd`` counts no steps: the count is that of its schedule, of MultiSteps or of
        inject_hyperparams, 0 without: ``state.replace(step=...)`` sets it.

    Raises
    ------
    ValueError
        ``opt_state`` has no state with the slots of the method, or several; one of another tree, or other shapes, than
        ``params``; or gradients that MultiSteps has accumulated, which would be lost.
    TypeError
        As for :func:`adamod_array.init`.

    Examples
    --------
    >>> import jax.numpy as jnp
    >>> import optax
    >>> from adamod_array import Adam, step
    >>> from adamod_array.optax import state_from_optax
    >>> params = jnp.ones(3)
    >>> optimizer = optax.adam(1e-3)
    >>> updates, opt_state = optimizer.update(jnp.ones(3), optimizer.init(params), params)
    >>> params = optax.apply_updates(params, updates)
    >>> state = state_from_optax(Adam(), params, opt_state, lr=1e-3)
    >>> step(state, jnp.ones(3)).step
    2
    """
    fresh = init(method, jax.tree.map(as_array, params), lr, weight_decay=weight_decay)
    kept = [(type(x).__name__, _SLOTS[type(x)](x), x) for x in _inside(opt_state, *_SLOTS)]
    fitting = [(slots, x) for _, slots, x in kept if slots.keys() == fresh.slots.keys()]
    if len(fitting) != 1:
        there = "; ".join(f"{name} with {', '.join(slots)}" for name, slots, _ in kept) or "none that is known"
        raise ValueError(
            f"opt_state must contain one state with the slots of {method}, which are {', '.join(fresh.slots)}"
            f" (optax's mu or trace is m, its nu v); there is {there}"
        )
    for each in _inside(opt_state, optax.MultiStepsState):
        if not has_tracers([each.mini_step]) and int(each.mini_step):
            raise ValueError(
                f"MultiSteps has accumulated the gradients of {int(each.mini_step)} steps, which would be lost:"
                " take the state right after an update of the parameters"
            )
    ((slots, node),) = fitting
    spec, new = fresh.resolved()[0].spec, {}
    for name, tree in fresh.slots.items():
        root = f"slots[{name!r}]"
        pairs = zip(_tree.flatten(tree)[0], _tree.leaves_like(spec, slots[name], root), strict=True)
        new[name] = _tree.unflatten(spec, [_like_slot(x, like) for like, x in pairs])
        _tree.check_structure(spec, new[name], root)
    count = _count(node, opt_state)
    return fresh.replace(slots=new, step=count if has_tracers([count]) else int(count))


def _inside(opt_state: Any, *kinds: Any) -> list[Any]:
    """Return the states of some kinds, wherever they are."""

    def is_one(x: Any) -> bool:
        return isinstance(x, kinds)

    return [x for x in jax.tree.leaves(opt_state, is_leaf=is_one) if is_one(x)]


def _count(node: Any, opt_state: Any) -> Any:
    """Return the steps that a transformation has taken."""
    if not isinstance(node, optax.TraceState):
        return node.count
    counts = [getattr(x, name) for kind, name in _COUNTS for x in _inside(opt_state, kind)]
    return counts[0] if counts else 0


def _like_slot(x: Any, like: Any) -> Any:
    """Return an average in the dtype of a slot; what is no array as it is, for the checks."""
    x = as_array(x)
    if like is None or not isinstance(x, jax.Array):
        return x
    return (x.real if is_complex(x) and not is_complex(like) else x).astype(like.dtype)
