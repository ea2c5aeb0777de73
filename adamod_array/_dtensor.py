"""PyTorch's DTensors, tensors that several processes hold: each process steps its local tensors.

A rule is elementwise: of what is replicated or sharded no process needs another's part. So the leaves of a state are
local tensors, which any engine takes, and DTensors are made of them where a user asks for arrays.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from adamod_array import _check
from adamod_array._namespace import framework


class Placing(NamedTuple):
    """How a DTensor is laid over a mesh of processes, and what else is to be known to make one of its local tensor."""

    mesh: Any
    placements: tuple[Any, ...]
    shape: Any
    stride: Any
    requires_grad: bool

    @staticmethod
    def of(x: Any) -> Placing | None:
        """Return that of a DTensor; None of any other array."""
        if not is_dtensor(x):
            return None
        return Placing(x.device_mesh, tuple(x.placements), x.shape, x.stride(), x.requires_grad)

    @property
    def is_sharded(self) -> tuple[bool, ...]:
        """Return along which dimensions of the mesh the processes have different parts."""
        return tuple([not each.is_replicate() for each in self.placements])

    def start(self, path: Callable[[], str]) -> int:
        """Return the place, in C order, of the first element that this process has of the whole.

        Raises
        ------
        TypeError
            Its part is no range of them.
        """
        try:
            from torch.distributed.tensor._utils import compute_local_shape_and_global_offset as found
        except ImportError:
            raise TypeError(f"{path()} is a DTensor, and this PyTorch does not tell where its parts begin") from None
        size, offset = found(self.shape, self.mesh, self.placements)
        first = next((k for k, n in enumerate(self.shape) if n > 1), 0)
        if tuple(size[first + 1 :]) != tuple(self.shape[first + 1 :]):
            raise TypeError(
                f"{path()} must be sharded along its first axis, or replicated, for numbers to be rounded"
                f" stochastically; got the placements {self.placements}"
            )
        return offset[first] * math.prod(self.shape[first + 1 :]) if self.shape else 0

    def is_shared_with(self, x: Any) -> bool:
        """Return whether a DTensor is laid over the same processes in the same way."""
        return tuple(x.placements) == self.placements and self.is_on_mesh_of(x)

    def is_on_mesh_of(self, x: Any) -> bool:
        """Return whether a DTensor is laid over the same processes."""
        return x.device_mesh is self.mesh or bool(x.device_mesh == self.mesh)

    def whole(self, part: Any, requires_grad: bool = False) -> Any:
        """Return the DTensor of which this process has a part; differentiable where the part is."""
        torch = framework("torch")
        tracked = part.requires_grad and not part.is_leaf
        with torch.set_grad_enabled(tracked):
            x = framework("torch.distributed.tensor").DTensor.from_local(
                part, self.mesh, self.placements, run_check=False, shape=self.shape, stride=self.stride
            )
        return x if tracked else x.requires_grad_(requires_grad)


Placings = list[Placing | None] | None
"""Of each leaf; None of leaves of which none is a DTensor."""


def _dtensor() -> Any:
    """Return the class; None where PyTorch has not imported it, and in graphs, which take DTensors as they are."""
    module = framework("torch.distributed.tensor")
    return None if module is None or framework("torch").compiler.is_compiling() else module.DTensor


def is_dtensor(x: Any) -> bool:
    """Return whether an array is a DTensor."""
    cls = _dtensor()
    return cls is not None and isinstance(x, cls)


def has_dtensors(arrays: Sequence[Any]) -> bool:
    """Return whether any of the arrays is a DTensor."""
    cls = _dtensor()
    return cls is not None and any(isinstance(x, cls) for x in arrays)


def placings_of(params: Sequence[Any], path: _check.Paths) -> Placings:
    """Return how parameters are laid over processes.

    Raises
    ------
    ValueError
        One is Partial: the sum of what the processes hold, of which a rule cannot see any number.
    """
    if not has_dtensors(params):
        return None
    for i, p in enumerate(params):
        if is_dtensor(p) and any(placement.is_partial() for placement in p.placements):
            raise ValueError(
                f"{path(i)} must be replicated or sharded, got a DTensor with the placements {tuple(p.placements)}:"
                " reduce it first, p.redistribute(placements=...)"
            )
    return [Placing.of(p) for p in params]


def split(
    columns: list[list[Any]], paths: Sequence[_check.Paths]
) -> tuple[Placings, list[dict[int, Any]], list[list[Any]]]:
    """Return how parameters and slots are laid over processes, the DTensors among them, and columns of local tensors.

    Raises
    ------
    ValueError
        A parameter is Partial, a slot is not laid out as its parameter, or a local tensor has lost its memory.
    """
    placings = placings_of(columns[0], paths[0])
    for xs, path in zip(columns[1:], paths[1:], strict=True):
        check_alike(placings, xs, path)
    if placings is None:
        return None, [], columns
    dtensors = [{i: x for i, x in enumerate(xs) if is_dtensor(x)} for xs in columns]
    columns = [[local(x, is_param=k == 0) for x in xs] for k, xs in enumerate(columns)]
    for xs, made, path in zip(columns, dtensors, paths, strict=True):
        for i in made:
            _check.backed(xs[i], functools.partial(path, i))
    return placings, dtensors, columns


def check_alike(placings: Placings, arrays: Sequence[Any], path: _check.Paths) -> None:
    """Check that arrays beside parameters, their slots, are laid over processes as these are.

    Raises
    ------
    ValueError
        One is not.
    """
    for i, x in enumerate(arrays):
        placing = None if placings is None else placings[i]
        if is_dtensor(x) != (placing is not None):
            raise _mixed(placing, path(i))
        if placing is not None and not placing.is_shared_with(x):
            raise ValueError(
                f"{path(i)} must be laid over the processes as its parameter is, with the placements"
                f" {placing.placements}, got {tuple(x.placements)}: redistribute it"
            )


def _mixed(placing: Placing | None, path: str) -> ValueError:
    if placing is None:
        return ValueError(f"{path} is a DTensor, and its parameter is not: gather it first, full_tensor()")
    return ValueError(
        f"{path} must be a DTensor like its parameter, got a tensor of one process:"
        " torch.distributed.tensor.distribute_tensor(x, p.device_mesh, p.placements) makes one of a whole tensor"
    )


def local(x: Any, *, is_param: bool = False) -> Any:
    """Return this process's part of a DTensor, one object unless autograd tracks it; other arrays as they are."""
    if not is_dtensor(x):
        return x
    torch = framework("torch")
    if x.requires_grad and torch.is_grad_enabled() and not (is_param and x.is_leaf):
        part = x.to_local()
    else:
        part = getattr(x, "_local_tensor", None)  # to_local() may return a new view of it
        if part is None:
            with torch.no_grad():
                part = x.to_local()
    return part if type(part) is torch.Tensor or not hasattr(part, "wait") else part.wait()


def placed(placings: Placings, gradients: list[Any], path: _check.Paths) -> list[Any]:
    """Return gradients laid over processes as their parameters are: sums that are still to be taken are taken.

    Raises
    ------
    ValueError
        One is a DTensor where its parameter is none, or the other way round, has another shape or another mesh; before
        any process waits for another.
    """
    if placings is None and not has_dtensors(gradients):
        return gradients
    torch = framework("torch")
    known = placings or [None] * len(gradients)
    for i, (g, placing) in enumerate(zip(gradients, known, strict=True)):
        if not isinstance(g, torch.Tensor):
            continue
        if is_dtensor(g) != (placing is not None):
            raise _mixed(placing, path(i))
        if placing is not None:
            if g.shape != placing.shape:
                raise ValueError(
                    f"{path(i)} must have its parameter's shape {tuple(placing.shape)}, got {tuple(g.shape)}"
                )
            if not placing.is_on_mesh_of(g):
                raise ValueError(f"{path(i)} must be on its parameter's mesh {placing.mesh}, got {g.device_mesh}")
    return [
        g.redistribute(placing.mesh, placing.placements)
        if placing is not None and is_dtensor(g) and not placing.is_shared_with(g)
        else g
        for g, placing in zip(gradients, known, strict=True)
    ]


def parts(arrays: Sequence[Any]) -> tuple[Placings, list[Any]]:
    """Return how arrays are laid over processes, and this process's parts; sums that are still to be taken are."""
    if not has_dtensors(arrays):
        return None, [*arrays]
    replicate = framework("torch.distributed.tensor").Replicate()
    whole = [
        x.redistribute(x.device_mesh, [replicate if each.is_partial() else each for each in x.placements])
        if is_dtensor(x) and any(each.is_partial() for each in x.placements)
        else x
        for x in arrays
    ]
    return [Placing.of(x) for x in whole], [local(x) for x in whole]


def combined(values: Sequence[Any], placings: Placings, op: str, combine: Callable[[Any, Any], Any]) -> Any:
    """Return what values, one of each leaf's local tensor, come to over all leaves and processes.

    Parameters
    ----------
    values : sequence of 0-d arrays or of arrays of one shape
    placings : Placings
        Where each leaf is.
    op : str
        How processes put their values together: "sum" or "max".
    combine : callable
        How two values are put together here.

    Returns
    -------
    array
        Plain, the same in every process.
    """
    groups: dict[Any, Any] = {}
    for x, placing in zip(values, placings or [None] * len(values), strict=True):
        key = None if placing is None else (placing.mesh, placing.is_sharded)
        groups[key] = x if key not in groups else combine(groups[key], x)
    total = None
    for key, x in groups.items():
        if key is not None and True in key[1]:
            x = _reduced(x, key[0], key[1], op)
        total = x if total is None else combine(total, x)
    return total


def _reduced(x: Any, mesh: Any, sharded: tuple[bool, ...], op: str) -> Any:
    """Return what the processes of a mesh make of a value that each has."""
    tensor = framework("torch.distributed.tensor")
    if op == "max":
        x = x.nan_to_num(nan=math.inf, posinf=math.inf)  # of NaN a collective promises nothing
    for dim in (dim for dim, each in enumerate(sharded) if each):  # one at a time, of which PyTorch warns otherwise
        placements = [tensor.Partial(op) if k == dim else tensor.Replicate() for k in range(len(sharded))]
        x = tensor.DTensor.from_local(x, mesh, placements, run_check=False).full_tensor()
    return x
