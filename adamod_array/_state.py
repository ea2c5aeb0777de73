"""The state of an optimization: parameters, slots and the number of steps taken."""

from __future__ import annotations

import sys
from dataclasses import dataclass, field
from typing import Any, cast

import optree

from adamod_array._method import Method
from adamod_array._namespace import Namespace, dtype_name, namespace_of
from adamod_array._tree import Tree, unflatten


@dataclass
class Flat:
    """The arrays of a state as lists, known to fit together; the next step looks at its gradients alone."""

    spec: Any
    leaves: list[Any]
    slots: list[list[Any]]
    """In the order of ``method.slots``."""
    kind: Namespace | None
    layouts: list[Any]
    """``kind.layout`` of each parameter, to compare its gradient's with."""
    numbered: Tree = None
    """Of PyTorch's, the tree of leaf numbers: its compiler can walk through that, and not through ``spec``."""
    plan: Any = None
    """What the engine worked out about them."""
    apart: bool = False
    """Whether they are known to be writable and to share no memory."""

    def tree(self, leaves: list[Any]) -> Tree:
        """The tree with these leaves."""
        torch = sys.modules.get("torch")
        if torch is not None and torch.compiler.is_compiling() and self.numbered is not None:
            return torch.utils._pytree.tree_map(lambda i: leaves[i], self.numbered)
        return unflatten(self.spec, leaves)


@dataclass(frozen=True, eq=False, repr=False)
class State:
    """Parameters, slots and step count, with the method that moves them; made by :func:`adamod_array.init`.

    Immutable, picklable, deep-copyable, and a pytree for optree, JAX and torch.utils._pytree:
    ``params``, ``slots`` and ``step`` hold the leaves, the rest is static. ``dataclasses.replace``
    makes a changed copy (another ``lr``, say).

    Attributes
    ----------
    params : array or tree of arrays
        The parameters, in the caller's own containers.
    slots : dict of str to tree
        What the method keeps beside each parameter, zero at first: real where the rule makes it
        real, float32 where the parameter has 16 bits, on the parameter's device.
    step : int
        Steps taken so far; an int on the host until a user's ``jax.jit`` traces it.
    method : Method
        Hyperparameters and rule.
    lr : float, schedule, or a tuple of one a leaf
        As given to ``init``; ``state.lr(state.step)`` is the rate of the last step where it is a schedule.
    weight_decay : float or a tuple of one a leaf
        As given to ``init``.

    Examples
    --------
    >>> import numpy as np
    >>> from adamod_array import momentum_init
    >>> momentum_init({"w": np.zeros((2, 3)), "b": np.zeros(3, np.float32)})
    State(Momentum(beta=0.9, nesterov=False), step=0, lr=0.001,
      params={'w': float64[2, 3], 'b': float32[3]},
      slots: m)
    """

    params: Tree
    slots: dict[str, Tree]
    step: Any
    method: Method
    lr: Any = 1e-3
    weight_decay: Any = 0.0
    _spent: list[int] = field(default_factory=list)  # the step that the arrays were donated to
    _flat: Flat | None = field(default=None, init=False)

    def __post_init__(self) -> None:
        _register()

    @classmethod
    def of(cls, flat: Flat, step: Any, method: Method, lr: Any, weight_decay: Any) -> State:
        """A state whose trees are built when they are asked for: most steps never do."""
        self = object.__new__(cls)
        self.__dict__.update(step=step, method=method, lr=lr, weight_decay=weight_decay, _spent=[], _flat=flat)
        _register()
        return self

    def __getattr__(self, name: str) -> Any:
        flat = self._flat
        if flat is not None and name == "params":
            return flat.tree(flat.leaves)
        if flat is not None and name == "slots":
            return {name: flat.tree(slot) for name, slot in zip(self.method.slots, flat.slots, strict=True)}
        raise AttributeError(f"State has no attribute {name!r}")

    def __getstate__(self) -> dict[str, Any]:
        return {
            name: getattr(self, name) for name in ("params", "slots", "step", "method", "lr", "weight_decay", "_spent")
        }

    def __setstate__(self, fields: dict[str, Any]) -> None:
        self.__dict__.update(fields)
        _register()

    def __repr__(self) -> str:
        decay = "" if self.weight_decay == 0.0 else f", weight_decay={self.weight_decay}"
        params = optree.tree_map(_Summary, self.params)
        slots = ", ".join(self.slots) or "none"
        spent = f" (donated to step {self._spent[0]})" if self._spent else ""
        head = f"State({self.method}, step={self.step}, lr={self.lr}{decay},"
        return f"{head}\n  params={params}{spent},\n  slots: {slots})"


class _Summary:
    """dtype[shape] in place of an array's numbers."""

    def __init__(self, x: Any) -> None:
        self.text = f"{dtype_name(x)}{list(x.shape)}" if namespace_of(x) else type(x).__name__

    def __repr__(self) -> str:
        return self.text


_FIELDS = ("params", "slots", "step")


def _flatten(state: Any) -> tuple[tuple[Any, ...], tuple[Any, ...]]:
    return (state.params, state.slots, state.step), (state.method, state.lr, state.weight_decay)


def _unflatten(static: Any, children: Any) -> Any:
    return State(*children, *static)


optree.register_pytree_node(
    cast("type[Any]", State),
    lambda state: (*_flatten(state), _FIELDS),
    _unflatten,
    path_entry_type=optree.GetAttrEntry,
    namespace=optree.registry.__GLOBAL_NAMESPACE,
)
_registered: set[str] = set()


def _register() -> None:
    """Make State a pytree of whichever framework has been imported since the last state was made."""
    if len(_registered) == 2:
        return
    if "jax" not in _registered and (jax := sys.modules.get("jax")) and hasattr(jax, "tree_util"):
        _registered.add("jax")
        keys = [jax.tree_util.GetAttrKey(name) for name in _FIELDS]

        def with_keys(state: State) -> Any:
            children, static = _flatten(state)
            return list(zip(keys, children, strict=True)), static

        jax.tree_util.register_pytree_with_keys(State, with_keys, _unflatten, _flatten)
    if "torch" not in _registered and (pytree := sys.modules.get("torch.utils._pytree")):
        _registered.add("torch")

        def as_lists(state: Any) -> Any:
            children, static = _flatten(state)
            return list(children), static

        pytree.register_pytree_node(
            State,
            as_lists,
            lambda children, static: _unflatten(static, children),
            serialized_type_name="adamod_array.State",
        )
