"""What makes a state known to frameworks: a pytree, loadable by ``torch.load`` at its default, serialised by Flax."""

from __future__ import annotations

import contextlib
import functools
from typing import Any, cast

import numpy as np
import optree

from adamod_array import schedules
from adamod_array._method import Method
from adamod_array._methods import Methods
from adamod_array._namespace import is_tracer, know
from adamod_array._on_import import on_import
from adamod_array._rate import PerLeaf, is_settled
from adamod_array._state import CHILDREN, STATIC, State
from adamod_array.adam import Adam
from adamod_array.adamod import AdaMod
from adamod_array.diffgrad import DiffGrad, DiffMod
from adamod_array.momentum import Momentum
from adamod_array.radam import RAdam

METHODS: tuple[type[Method], ...] = (Adam, AdaMod, RAdam, Momentum, DiffGrad, DiffMod)
SCHEDULES: tuple[type[schedules.Schedule], ...] = tuple(
    x for x in vars(schedules).values() if isinstance(x, type) and issubclass(x, schedules.Schedule)
)


def _children(state: State) -> tuple[Any, ...]:
    return tuple([getattr(state, name) for name in CHILDREN])


def _static(state: State) -> tuple[Any, ...]:
    if not (is_settled(state.lr) and is_settled(state.weight_decay) and isinstance(state.method, (Method, Methods))):
        state.resolved()  # a tree of rates cannot be hashed
    return state.method, state.lr, state.weight_decay


def _int32(count: int, _: Any) -> Any:
    return np.int32(count)


def _unflatten(static: Any, children: Any) -> State:
    return State.unchecked(*children, *static)


with contextlib.suppress(AttributeError):  # the name of everybody's namespace is not public
    optree.register_pytree_node(
        cast("type[Any]", State),
        lambda state: (_children(state), _static(state), CHILDREN),
        _unflatten,
        path_entry_type=optree.GetAttrEntry,
        namespace=optree.registry.__GLOBAL_NAMESPACE,
    )


def _with_jax(jax: Any) -> None:
    keys = [jax.tree_util.GetAttrKey(name) for name in CHILDREN]

    def children(state: State) -> tuple[Any, ...]:
        """Return the children, with counts of Python's where a mesh has the parameters: one program does every step."""
        known = state.__dict__["_known"]
        sharding = known and next((x.sharding for x in known[0].params if is_on_mesh(x)), None)
        if sharding is None:
            return _children(state)
        whole = jax.sharding.NamedSharding(sharding.mesh, jax.sharding.PartitionSpec())
        make = functools.partial(jax.make_array_from_callback, (), whole)  # in every process, unasked
        return tuple([make(functools.partial(_int32, x)) if type(x) is int else x for x in _children(state)])

    def is_on_mesh(x: Any) -> bool:
        return isinstance(x, jax.Array) and not is_tracer(x) and isinstance(x.sharding, jax.sharding.NamedSharding)

    def with_keys(state: State) -> Any:
        return [*zip(keys, children(state), strict=True)], _static(state)

    def flatten(state: State) -> Any:
        return children(state), _static(state)

    jax.tree_util.register_pytree_with_keys(State, with_keys, _unflatten, flatten)


def _with_torch(torch: Any) -> None:
    def flatten(state: Any) -> Any:
        return [*_children(state)], _static(state)

    def unflatten(children: Any, static: Any) -> State:
        return _unflatten(static, children)

    name = "adamod_array.State"
    know("torch", torch.Tensor, torch.nn.Parameter)
    with contextlib.suppress(AttributeError):  # not a public module
        torch.utils._pytree.register_pytree_node(State, flatten, unflatten, serialized_type_name=name)
    if hasattr(torch.serialization, "add_safe_globals"):
        torch.serialization.add_safe_globals([State, PerLeaf, Methods, *METHODS, *SCHEDULES])


def _with_flax(serialization: Any) -> None:
    def to_dict(state: State) -> dict[str, Any]:
        return {name: serialization.to_state_dict(getattr(state, name)) for name in CHILDREN}

    def from_dict(state: State, fields: dict[str, Any]) -> State:
        fields = {"skipped": 0} | fields  # which older releases did not keep
        children = (serialization.from_state_dict(getattr(state, name), fields[name], name) for name in CHILDREN)
        return State.unchecked(*children, *(getattr(state, name) for name in STATIC))

    serialization.register_serialization_state(State, to_dict, from_dict)


on_import("jax", _with_jax)
on_import("torch", _with_torch)
on_import("flax.serialization", _with_flax)
