"""JAX: where the arrays of a step lie, and kernels that every device calls for its own parts of them."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from adamod_array._engines import Columns, put
from adamod_array._engines.xla import resharded
from adamod_array._engines.xla_call import building
from adamod_array._namespace import is_tracer

LEAVES = 64
"""At most so many of a call whose partition XLA decides: it looks at every one of their dimensions."""

Step = Callable[..., Columns]
"""What takes tables of scalars, the row of each leaf, gradients and columns, and whether threads may be woken."""


@dataclass(frozen=True)
class Place:
    """Where the arrays of a step lie, for all that their program can know: on one device, if nothing else is said."""

    mesh: Any = None
    specs: tuple[Any, ...] | None = None
    """How each parameter is sharded over the mesh."""
    are_parts: bool = False
    """Whether each array is what one device has of a larger one, inside of ``shard_map``."""
    by_xla: bool = False
    """Whether XLA decides how they are sharded, once it compiles the program."""

    def program(self, step: Step) -> Step:
        """Return a function of tables, rows, gradients and columns in which each device takes the step of its parts."""
        if self.specs is not None:
            return self._by_specs(step)
        if self.by_xla:
            return _by_xla(step)
        return lambda *x: step(*x, not self.are_parts)

    def counts(self, shapes: Sequence[tuple[int, ...]]) -> bool:
        """Return whether each device can tell by its place alone which elements of every leaf it has, one range."""
        if self.specs is None:
            return not self.by_xla
        pairs = zip(self.specs, shapes, strict=True)
        return all(_split(spec, self.mesh, shape) is not None for spec, shape in pairs)

    def _by_specs(self, step: Step) -> Step:
        jax = sys.modules["jax"]
        whole, specs, alone = jax.sharding.PartitionSpec(), [*(self.specs or ())], self.mesh.size == 1

        def call(tables: Any, rows: Any, grads: Any, columns: Columns) -> Columns:
            placed = [*map(resharded, grads, columns[0])]
            kept = [specs] * len(columns)
            parts = jax.shard_map(
                lambda tables, rows, *x: step(tables, _counted(rows, specs, self.mesh, x[0]), *x, alone),
                mesh=self.mesh,
                in_specs=(whole, whole, specs, kept),
                out_specs=kept,
                check_vma=False,
            )
            result: Columns = parts(tables, rows, placed, columns)
            return result

        return call


def _split(spec: Any, mesh: Any, shape: Sequence[int]) -> tuple[str, ...] | None:
    """Return the axes of a mesh over which an array is split into ranges in C order; None where parts are none."""
    names = [each if isinstance(each, tuple) else (each,) for each in spec if each is not None]
    axes = [tuple([name for name in each if mesh.shape[name] > 1]) for each in names]
    places = [k for k, each in enumerate(x for x in spec) if each is not None]
    split = [(k, each) for k, each in zip(places, axes, strict=True) if each]
    if not split:
        return ()
    if len(split) > 1 or any(n != 1 for n in shape[: split[0][0]]):
        return None
    return split[0][1]


def _counted(rows: Any, specs: Sequence[Any], mesh: Any, parts: Sequence[Any]) -> Any:
    """Return rows and first counters of leaves, the latter of the parts that this device has."""
    if rows.ndim == 1:
        return rows
    jax = sys.modules["jax"]
    begun = []
    for spec, part in zip(specs, parts, strict=True):
        axes = _split(spec, mesh, (1,) * part.ndim)
        place = jax.lax.axis_index(axes).astype("uint32") if axes else np.uint32(0)
        begun.append(jax.numpy.uint32(place * np.uint32(part.size % 2**32)))
    return rows.at[1].add(jax.lax.bitcast_convert_type(jax.numpy.stack(begun), "int32"))


ALONE = Place()


def place_of(leaves: Iterable[tuple[Any, ...]]) -> Place | None:
    """Return where known leaves (the parameter first) lie; None where kernels cannot be called: not on CPUs alone."""
    jax = sys.modules["jax"]
    leaves = [*leaves]
    devices = {device for leaf in leaves for x in leaf for device in x.devices()}
    if {device.platform for device in devices} != {"cpu"}:
        return None
    with building():
        shardings = [p.sharding for p, *_ in leaves]
        if len(devices) == 1 and all(jax.typeof(x).sharding.mesh.empty for leaf in leaves for x in leaf):
            return ALONE
        if not all(isinstance(each, jax.sharding.NamedSharding) for each in shardings):
            return None
        mesh, specs = shardings[0].mesh, tuple([each.spec for each in shardings])
        one = all(each.mesh == mesh and each.memory_kind == shardings[0].memory_kind for each in shardings)
        alike = all(x.sharding.is_equivalent_to(p.sharding, p.ndim) for p, *slots in leaves for x in slots)
        return Place(mesh, specs) if one and alike and not any(map(_is_sum, specs)) else None


def place_in_program(params: Sequence[Any], arrays: Sequence[Any], numbers: Iterable[Any]) -> Place | None:
    """Return where the arrays of the program under way lie; None where kernels cannot be called."""
    jax = sys.modules["jax"]
    if jax.default_backend() != "cpu" or not all(isinstance(n, int) for p in params for n in p.shape):
        return None
    numbers, axis = [*numbers], jax.sharding.AxisType
    with building():
        meshes = {mesh for x in arrays if not (mesh := jax.typeof(x).sharding.mesh).empty}
        kinds = {kind for mesh in meshes for kind in mesh.axis_types}
        if len(meshes) > 1 or len(kinds) > 1:
            return None
        if axis.Manual in kinds:
            axes, *others = {*map(varying, arrays)}
            return Place(are_parts=True) if not others and all(axes >= varying(x) for x in numbers) else None
        if not meshes and jax.device_count() == 1:
            return ALONE
        if len(meshes | _meshes_around(next(filter(is_tracer, (*arrays, *numbers)), None))) > 1:
            return None
        if axis.Explicit not in kinds:  # of a program for one device, nothing is partitioned
            return Place(by_xla=True)
        specs = tuple([jax.typeof(p).sharding.spec for p in params])
        return None if any(map(_is_sum, specs)) else Place(meshes.pop(), specs)


def _meshes_around(tracer: Any) -> set[Any]:
    """Return the meshes of what is given to the programs that are being traced; JAX partitions for one mesh a program.

    No public name tells; without these, two meshes in one program are JAX's error.
    """
    meshes, trace = set(), getattr(tracer, "_trace", None)
    while trace is not None:
        for x in getattr(getattr(trace, "frame", None), "invars", ()):
            mesh = getattr(getattr(getattr(x, "aval", None), "sharding", None), "mesh", None)
            if mesh is not None and not mesh.empty:
                meshes.add(mesh)
        trace = getattr(trace, "parent_trace", None)
    return meshes


def varying(x: Any) -> frozenset[Any]:
    """Return the manual axes of a mesh along which devices have different numbers in an array."""
    kind = sys.modules["jax"].typeof(x)
    found = getattr(kind, "vma", getattr(kind, "manual_axis_type", None))  # before JAX 0.10, and since
    return frozenset(getattr(found, "varying", found) or ())


def as_varying(x: Any, axes: frozenset[Any]) -> Any:
    """Return an array of which every device has its own, for all that its type says."""
    jax = sys.modules["jax"]
    x = jax.numpy.asarray(x)
    missing = tuple(axes - varying(x))
    if not missing:
        return x
    return jax.lax.pcast(x, missing, to="varying") if hasattr(jax.lax, "pcast") else jax.lax.pvary(x, missing)


def _is_sum(spec: Any) -> bool:
    """Return whether what is sharded so is a sum that has not been taken yet."""
    return bool(getattr(spec, "unreduced", None))


def _by_xla(step: Step) -> Step:
    """Return a function of the step whose partition XLA decides: of each leaf, by its parameter's sharding."""

    def call(tables: Any, rows: Any, grads: Any, columns: Columns) -> Columns:
        new = columns
        for start in range(0, len(grads), LEAVES):
            some = range(start, min(start + LEAVES, len(grads)))
            part = [[xs[i] for i in some] for xs in columns]
            taken = _partitioned(step, tables, rows[np.asarray(some)], [grads[i] for i in some], part)
            new = put(taken, some, new)
        return new

    return call


def _partitioned(step: Step, tables: Any, rows: Any, grads: Any, columns: Columns) -> Columns:
    from jax.experimental.custom_partitioning import ArrayMapping, SdyShardingRule, custom_partitioning

    jax = sys.modules["jax"]
    leaves, width, heads = len(grads), len(columns), len(tables) + 1

    def taken(x: Sequence[Any], alone: bool) -> tuple[Any, ...]:
        *tables, rows = x[:heads]
        *columns, grads = ([*x[i : i + leaves]] for i in range(heads, len(x), leaves))
        return tuple([x for xs in step(tables, rows, grads, columns, alone) for x in xs])

    @custom_partitioning
    def every(*x: Any) -> Any:  # of a program for one device
        return taken(x, True)

    def arranged(args: Sequence[Any]) -> tuple[list[Any], list[Any]]:
        """Return the shardings of what is taken, and of what is returned: a leaf's arrays lie as its parameter does."""
        shardings = [x.sharding for x in args]
        params = shardings[heads : heads + leaves]
        return shardings[:heads] + params * (1 + width), params * width

    def partition(mesh: Any, args: Any, _: Any) -> Any:
        given, results = arranged(args)
        return mesh, lambda *x: taken(x, False), tuple(results), tuple(given)

    ranks = [2] * len(tables) + [1]
    whole = [[f"w{i}d{j}" for j in range(rank)] for i, rank in enumerate(ranks)]
    factors = [ArrayMapping(*[f"l{i}d{j}" for j in range(g.ndim)]) for i, g in enumerate(grads)]
    rule = SdyShardingRule(
        (*[ArrayMapping(*each) for each in whole], *factors * (1 + width)),
        (*factors * width,),
        need_replication_factors=tuple([name for each in whole for name in each]),
    )
    every.def_partition(
        partition=partition,
        infer_sharding_from_operands=lambda mesh, args, result: tuple(arranged(args)[1]),
        sharding_rule=rule,
    )
    new = every(*map(jax.numpy.asarray, (*tables, rows)), *(x for xs in columns for x in xs), *grads)  # parameters lead
    return [[*new[k * leaves : (k + 1) * leaves]] for k in range(width)]
