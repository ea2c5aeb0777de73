"""The state of parameters of which only shape, dtype and sharding are known yet: ``jax.ShapeDtypeStruct``."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from adamod_array import _tree
from adamod_array._namespace import framework
from adamod_array._state import State


def are_shapes(params: Sequence[Any]) -> bool:
    """Return whether any parameter is a shape without an array."""
    return framework("jax") is not None and any(map(_is_shape, params))


def _is_shape(p: Any) -> bool:
    return isinstance(p, getattr(framework("jax"), "ShapeDtypeStruct", ()))


def state_of_shapes(params: Sequence[Any], spec: Any, init: Callable[[Any], State[Any]]) -> State[Any]:
    """Return what ``init`` makes of parameters, in shapes: slots are sharded as parameters are, counts on every device.

    Raises
    ------
    TypeError, ValueError
        As ``init``.
    """
    jax: Any = framework("jax")
    made: list[State[Any]] = []

    def slots(traced: list[Any]) -> list[list[Any]]:
        given = [p if x is None else x for p, x in zip(params, traced, strict=True)]
        made.append(init(_tree.unflatten(spec, given)))
        return [_tree.flatten(slot)[0] for slot in made[0].slots.values()]

    columns = jax.eval_shape(slots, [p if _is_shape(p) else None for p in params])
    shardings = [getattr(p, "sharding", None) for p in params]
    of_jax = jax.sharding
    meshes = [each.mesh for each in shardings if isinstance(each, of_jax.NamedSharding)]
    whole = of_jax.NamedSharding(meshes[0], of_jax.PartitionSpec()) if meshes else None
    # as JAX takes an int, and as a state on a mesh has it
    count = jax.ShapeDtypeStruct((), "int32" if meshes else jax.numpy.result_type(int), sharding=whole)

    def placed(column: Sequence[Any]) -> Any:
        pairs = zip(column, shardings, strict=True)
        return _tree.unflatten(
            spec, [None if x is None else jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=each) for x, each in pairs]
        )

    (state,) = made
    params, slots_of = _tree.unflatten(spec, [*params]), dict(zip(state.slots, map(placed, columns), strict=True))
    return State.unchecked(params, slots_of, count, count, state.method, state.lr, state.weight_decay)
