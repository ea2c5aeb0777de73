"""What is held, in a file or in memory, compared with what it is to become; then made, an array at a time."""

from __future__ import annotations

import functools
from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Any

from adamod_array import _check, _tree
from adamod_array._method import Method
from adamod_array._methods import Methods, first, method_of
from adamod_array._namespace import (
    COMPUTE_DTYPE,
    Namespace,
    dtype_name,
    framework,
    is_complex,
    is_tracer,
    narrows,
)
from adamod_array._program.trace import slot_is_complex
from adamod_array._rate import PerLeaf
from adamod_array._state import COUNTS, State
from adamod_array.checkpoint._arrays import Host, made, shape_of, stored
from adamod_array.checkpoint._data import by_path, one_of
from adamod_array.checkpoint._error import CheckpointError
from adamod_array.diagnostics import current_leaves

STATE = "the state"
"""The name of a source that is no file."""


@dataclass(frozen=True)
class Held:
    """A state wherever it lies: its arrays by name, ``params['w']`` or ``m['w']``, and all else as objects."""

    source: str
    """Its name in messages."""
    dtypes: dict[str, str]
    shapes: dict[str, tuple[int, ...]]
    """As stored: of complex arrays with an axis of two at the end."""
    read: Callable[[str], Host]
    """Return the numbers of an array as they are stored; they may be shared with others."""
    counts: dict[str, Any]
    method: Any
    lr: Any
    weight_decay: Any
    """One for all, or one a leaf: in leaf order, or a dict by the leaf's path below the parameters."""
    is_shared: bool = True
    """Whether what is read is somebody else's too."""

    @staticmethod
    def of(state: State[Any]) -> Held:
        """Return what a state holds.

        Raises
        ------
        ValueError
            The state is spent; two leaves have the same name.
        """
        leaves = current_leaves(state)
        names = _tree.paths(leaves.spec, "")
        roots = ("params", *leaves.method.slots)
        arrays: dict[str, Any] = {}
        for k, root in enumerate(roots):
            for name, x in zip(names, leaves.arrays(k), strict=True):
                if x is None:
                    continue
                if root + name in arrays:
                    raise ValueError(f"two arrays of the state have the same path, {root}{name}")
                arrays[root + name] = x
        counts = {name: getattr(state, name) for name in COUNTS}
        if traced := [name for name, count in counts.items() if is_tracer(count)]:
            raise ValueError(f"{traced[0]} is traced by JAX: save and convert states outside of jit")
        return Held(
            STATE,
            {name: dtype_name(x) for name, x in arrays.items()},
            {name: shape_of(x) for name, x in arrays.items()},
            lambda name: stored(arrays[name], lambda: name),
            {name: int(count) for name, count in counts.items()},
            *(by_path(x, names) for x in (leaves.method, state.lr, state.weight_decay)),
        )


@dataclass(frozen=True)
class Template:
    """Parameters, and perhaps slots, of which containers, framework, dtypes, devices and shardings are wanted."""

    spec: Any
    params: list[Any]
    slots: dict[str, list[Any]] | None
    method: Any
    namespace: Namespace | None

    @staticmethod
    def of(like: Any) -> Template:
        """Return the template of parameters or of a state.

        Raises
        ------
        TypeError
            A leaf is no floating array, or of another framework than the first.
        ValueError
            A leaf is on PyTorch's meta device.
        """
        if isinstance(like, State):
            leaves = current_leaves(like)
            params, *columns = [leaves.arrays(k) for k in range(len(leaves.columns))]
            slots = dict(zip(leaves.method.slots, columns, strict=True))
            return Template(leaves.spec, params, slots, first(leaves.method), leaves.namespace)
        params, spec = _tree.flatten(like)
        namespace = _check.params(params, functools.partial(_tree.path, spec, "like"), "like")
        for i, x in enumerate(params):
            if namespace is not None and namespace.name == "torch" and x is not None and x.device.type == "meta":
                raise ValueError(f"{_tree.path(spec, 'like', i)} is on the meta device, where no numbers can be")
        return Template(spec, params, None, None, namespace)

    @property
    def names(self) -> list[str]:
        """Return the path of each leaf below the parameters."""
        return _tree.paths(self.spec, "")

    def arrays(self, root: str) -> list[Any]:
        """Return the arrays that the parameters, or a slot, are to be like."""
        return self.params if root == "params" or self.slots is None else self.slots[root]

    def in_order(self, values: Any, what: str, source: str) -> Any:
        """Return one value for all as it is, and values by path in leaf order.

        Raises
        ------
        CheckpointError
            A leaf has none.
        """
        if not isinstance(values, dict):
            return values
        for name, p in zip(self.names, self.params, strict=True):
            if p is not None and name not in values:
                raise CheckpointError(f"{source} has no {what}{name}")
        filler = next(iter(values.values()), None)  # in the place of a parameter that is None
        found = [values.get(name, filler) for name in self.names]
        return (Methods if what == "method" else PerLeaf)(found)


def assembled(held: Held, template: Template) -> State[Any]:
    """Return the state that is held in arrays like the template's; all is compared before the first is made.

    Raises
    ------
    CheckpointError
        Something differs.
    """
    names = template.names
    one = first(one_of(held.method))
    roots = ("params", *one.slots)
    check_names(held.source, held.dtypes, template, one)
    method, lr, weight_decay = (
        template.in_order(getattr(held, what), what, held.source) for what in ("method", "lr", "weight_decay")
    )
    for root in roots:
        for i, like in enumerate(template.arrays(root)):
            if like is not None:
                _check_array(held, template, root, i, names[i], method)
    trees = {root: _tree.unflatten(template.spec, _made(held, template, root, names)) for root in roots}
    state = State(
        params=trees.pop("params"), slots=trees, method=method, lr=lr, weight_decay=weight_decay, **held.counts
    )
    state.resolved()
    return state


def _made(held: Held, template: Template, root: str, names: list[str]) -> list[Any]:
    """Return the arrays of the parameters or of a slot."""
    arrays: list[Any] = []
    for name, like in zip(names, template.arrays(root), strict=True):
        if like is None:
            arrays.append(None)
            continue
        host = held.read(root + name)
        arrays.append(made(host.copy() if held.is_shared else host, held.dtypes[root + name], like))
        if root == "params" and getattr(like, "requires_grad", False) is True:
            arrays[-1].requires_grad_()
    return arrays


def check_names(source: str, held: Collection[str], template: Template, method: Method) -> None:
    """Check that the method is that of the template, and that the same arrays are held.

    Raises
    ------
    CheckpointError
        One is missing, or has no place.
    """
    like = template.method
    if like is not None and type(like) is not type(method):
        raise _unlike(source, f"{source} is of {type(method).__name__}, like of {type(like).__name__}")
    if like is not None and like.slots != method.slots:
        raise CheckpointError(f"{source} keeps the slots {method.slots}, like {like.slots}")
    places = [name for name, p in zip(template.names, template.params, strict=True) if p is not None]
    wanted = {f"{root}{name}": None for root in ("params", *method.slots) for name in places}
    missing = [name for name in wanted if name not in held]
    others = [name for name in held if name not in wanted]
    if missing:
        instead = f"; it has {', '.join(others[:3]):.200}, which like has not" if others else ""
        raise _unlike(source, f"{source} has no {missing[0]}{instead}")
    if others:
        raise _unlike(source, f"{source} has {others[0]:.200}, which like has not")


def _unlike(source: str, text: str) -> CheckpointError:
    """Return the error of what is held, perhaps a file of another run."""
    of_file = "" if source == STATE else "; to begin anew where it is a file of another run, delete it or write another"
    return CheckpointError(text + of_file)


def _check_array(held: Held, template: Template, root: str, i: int, name: str, method: Any) -> None:
    key, p, like = root + name, template.params[i], template.arrays(root)[i]
    dtype = held.dtypes[key]
    if root == "params" or template.slots is not None:
        if dtype != dtype_name(like):
            raise CheckpointError(
                f"{key} is {dtype} in {held.source}, {dtype_name(like)} in like{_hint(template, dtype)}"
            )
    else:
        one = method_of(method, i)
        as_complex = is_complex(p) and slot_is_complex(one, one.slots.index(root))
        if dtype not in COMPUTE_DTYPE or dtype.startswith("complex") != as_complex:
            raise CheckpointError(f"{key} is {dtype} in {held.source}, where a slot of {dtype_name(p)} is kept")
    is_compact = root in method_of(method, i).compact
    if root != "params" and is_compact != (dtype == "bfloat16") and dtype in ("float32", "bfloat16"):
        stores = "bfloat16" if is_compact else "float32"
        raise CheckpointError(f"{key} is {dtype} in {held.source}, whose method stores {root} in {stores}")
    shape = tuple(p.shape)
    found = held.shapes[key][:-1] if dtype.startswith("complex") else held.shapes[key]
    if found != shape:
        raise _unlike(held.source, f"{key} has the shape {found} in {held.source}, {shape} in like")
    if (hint := _hint(template, dtype)) and not narrows((like,)):  # of an array that is wide JAX makes others so
        raise CheckpointError(f"{key} is {dtype} in {held.source}{hint}")


def _hint(template: Template, dtype: str) -> str:
    """Return what to do for numbers that JAX would halve."""
    halved = template.namespace is not None and template.namespace.name == "jax" and dtype in ("float64", "complex128")
    if not halved or framework("jax").config.jax_enable_x64:
        return ""
    return ": JAX would halve its numbers; jax.config.update('jax_enable_x64', True) lets it keep them"
