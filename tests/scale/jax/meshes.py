"""Meshes of 8 devices, trees laid over them, and what the devices of this process have of them."""

from __future__ import annotations

from typing import Any

import jax
import numpy as np
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from tests.trees import values

P = PartitionSpec
SHAPES: dict[str, tuple[int, ...]] = {"w": (16, 8), "b": (8,), "layers": (8, 2, 4), "scale": ()}
LAYOUTS: dict[str, tuple[dict[str, int], dict[str, Any]]] = {
    "sharded": ({"x": 8}, {"w": P("x"), "b": P("x"), "layers": P("x"), "scale": P()}),
    "replicated": ({"x": 8}, dict.fromkeys(SHAPES, P())),
    "2-d": ({"x": 4, "y": 2}, {"w": P("x", "y"), "b": P(("x", "y")), "layers": P(None, "y", "x"), "scale": P()}),
    "partly sharded": ({"x": 4, "y": 2}, {"w": P(None, "y"), "b": P("x"), "layers": P("y"), "scale": P()}),
}


def mesh_of(layout: str, kind: AxisType = AxisType.Auto) -> Any:
    """The mesh of a layout, of the devices of all processes."""
    axes = LAYOUTS[layout][0]
    return jax.make_mesh((*axes.values(),), (*axes,), (kind,) * len(axes))


def placed(tree: dict[str, Any], layout: str, mesh: Any) -> dict[str, Any]:
    """Arrays of NumPy's as each process has its part of them."""
    specs = LAYOUTS[layout][1]
    return {name: put(x, NamedSharding(mesh, specs[name])) for name, x in tree.items()}


def shapes(layout: str, mesh: Any) -> dict[str, Any]:
    """What is known of such arrays before they are there."""
    specs = LAYOUTS[layout][1]
    return {
        name: jax.ShapeDtypeStruct(shape, np.float32, sharding=NamedSharding(mesh, specs[name]))
        for name, shape in SHAPES.items()
    }


def put(x: Any, sharding: Any) -> Any:
    return jax.make_array_from_callback(x.shape, sharding, lambda index: x[index])


def numbers(seed: int, dtype: Any = "float32") -> dict[str, Any]:
    return {name: np.asarray(values(*shape, seed=seed + k), dtype) for k, (name, shape) in enumerate(SHAPES.items())}


def assert_same(actual: Any, expected: Any, what: Any) -> None:
    """Each device of this process has the bits of its part of an array that one device computed."""
    host = np.asarray(expected)
    assert actual.dtype == host.dtype and actual.shape == host.shape, (what, actual.dtype, host.dtype)
    for shard in actual.addressable_shards:
        part = np.asarray(shard.data)
        assert part.tobytes() == np.ascontiguousarray(host[shard.index]).tobytes(), (what, shard.index, part)


def assert_state(state: Any, expected: Any, layout: str, mesh: Any, what: Any) -> None:
    """The bits of one device, laid over the mesh as the parameters were."""
    columns = {"params": (state.params, expected.params)}
    columns |= {slot: (tree, expected.slots[slot]) for slot, tree in state.slots.items()}
    for column, (actual, wanted) in columns.items():
        for name, spec in LAYOUTS[layout][1].items():
            x = actual[name]
            assert_same(x, wanted[name], (what, column, name))
            assert x.sharding.is_equivalent_to(NamedSharding(mesh, spec), x.ndim), (what, column, name, x.sharding)
    assert int(state.step) == int(expected.step)
