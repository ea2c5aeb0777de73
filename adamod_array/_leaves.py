"""The arrays of a state in leaf order, known to fit together, and whether they still are what they were."""

from __future__ import annotations

import dataclasses
import functools
import itertools
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from adamod_array import _check, _compact, _dtensor, _hold, _tree
from adamod_array._aliasing import WRITABLE, Named
from adamod_array._hold import Holds
from adamod_array._method import Method
from adamod_array._methods import Methods, first, method_of, methods_of
from adamod_array._namespace import Namespace, dtype_name, framework, has_tracers, is_complex, is_tracer, namespace_of
from adamod_array._program.rounding import first_counter
from adamod_array._program.trace import rounded_places, slot_is_complex
from adamod_array._tree import Tree

if TYPE_CHECKING:
    from adamod_array._part import Part


@dataclass
class Leaves:
    """Parameters and slots as columns; every step checks whether they have changed, and its gradients."""

    method: Method | Methods
    spec: Any
    columns: list[list[Any]]
    """The parameters, then each slot in the order of ``method.slots``; of DTensors their local tensors."""
    namespace: Namespace | None
    layouts: list[list[Any]]
    """``namespace.layout`` of every array, a column as here; a gradient's is compared with its parameter's."""
    leaf_indices: Tree = None
    """Of PyTorch's, the tree of leaf numbers: its compiler can walk through that, and not through ``spec``."""
    plan: Any = None
    """The engine's plan for the leaves in ``part``."""
    part: Part | None = None
    """The leaves of the last step; None means all."""
    tokens: _hold.Tokens = field(default_factory=dict)
    """Tokens of arrays that were handed to users."""
    placings: _dtensor.Placings = None
    """How the parameters are laid over processes, and so all columns, where some are DTensors."""
    first_counters: list[int] | None = None
    """What :meth:`counters` returns, once it was asked."""
    dtensors: list[dict[int, Any]] = field(default_factory=list)
    """Those that users have given or been given, a column as in ``columns``, by the number of the leaf."""

    @staticmethod
    def of(method: Any, params: Tree, slots: dict[str, Tree]) -> Leaves:
        """Return the leaves of trees that were put together elsewhere (by JAX, pickle or a user), checked.

        Raises
        ------
        TypeError, ValueError
            Something is no array, or does not fit its parameter.
        """
        leaves, spec = _tree.flatten(params)
        method = methods_of(method, spec, leaves)
        if set(slots) != set(method.slots):
            one = first(method)
            raise TypeError(
                f"the state keeps {tuple(slots)} and is not one of {one}, which keeps {one.slots}: begin a new state,"
                f" init({type(one).__name__}(...), state.params, lr=state.lr)"
            )
        namespace = _check.params(leaves, functools.partial(_tree.path, spec, "params"))
        columns = []
        for k, name in enumerate(method.slots):  # their order decides; JAX sorts the keys of a dict
            tree, root = slots[name], f"slots[{name!r}]"
            columns.append(_tree.leaves_like(spec, tree, root))
            for i, (p, x) in enumerate(zip(leaves, columns[-1], strict=True)):
                if p is not None and namespace is not None:
                    _check_leaf(namespace, p, x, spec, i, tree, root)
                    as_complex = is_complex(p) and slot_is_complex(method_of(method, i), k)
                    if is_complex(x) != as_complex:  # it would lose half of each number, or lack it
                        what = f"complex like its parameter ({dtype_name(p)})" if as_complex else "real"
                        raise TypeError(f"{_tree.path(spec, root, i)} must be {what}, got {dtype_name(x)}")
        _compact.check(method, namespace, leaves, columns, functools.partial(_tree.path, spec))
        return Leaves.laid_out(method, spec, [leaves, *columns], namespace)

    @staticmethod
    def laid_out(method: Method | Methods, spec: Any, columns: list[list[Any]], namespace: Any) -> Leaves:
        """Return the leaves of arrays that fit together, with their layouts as they are now.

        Raises
        ------
        ValueError
            They are not laid over processes in one way, or in one that no rule can be applied to.
        """
        placings: _dtensor.Placings = None
        dtensors: list[dict[int, Any]] = []
        if namespace is not None and namespace.name == "torch":
            paths = [functools.partial(_tree.path, spec, root) for root in _roots(method)][: len(columns)]
            placings, dtensors, columns = _dtensor.split(columns, paths)
        leaf_indices = _tree.leaf_indices(spec) if namespace is not None and namespace.name == "torch" else None
        layouts = _layouts(namespace, columns)
        return Leaves(method, spec, columns, namespace, layouts, leaf_indices, placings=placings, dtensors=dtensors)

    def with_slots(self, slots: list[list[Any]]) -> Leaves:
        """Return the leaves of these parameters with slots beside them, which lie where they do."""
        columns, dtensors = [*self.columns, *slots], [*self.dtensors, *([{} for _ in slots] if self.placings else [])]
        layouts = [*self.layouts, *_layouts(self.namespace, slots)]
        return dataclasses.replace(self, columns=columns, layouts=layouts, dtensors=dtensors)

    def are(self, other: Leaves) -> bool:
        """Return whether the leaves are the same arrays in the same tree, of the same method, and lie as they did."""
        pairs = zip(itertools.chain(*self.columns), itertools.chain(*other.columns), strict=False)
        same = self.method == other.method and self.spec == other.spec and self.layouts == other.layouts
        same = same and self.placings == other.placings
        return same and all(x is y for x, y in pairs)

    @property
    def params(self) -> list[Any]:
        """Return the parameters."""
        return self.columns[0]

    def counters(self) -> list[int]:
        """Return the counter of the first element of each leaf, or of this process's part of it.

        Raises
        ------
        TypeError
            That part is no range of elements, and something of the leaf is rounded stochastically.
        """
        if self.first_counters is None:
            begun = [*map(first_counter, range(len(self.params)))]
            for i, placing in enumerate(self.placings or ()):
                if placing is not None and rounded_places(method_of(self.method, i), dtype_name(self.params[i])):
                    begun[i] += placing.start(functools.partial(_tree.path, self.spec, "params", i))
            self.first_counters = [x % 2**32 for x in begun]
        return self.first_counters

    @property
    def slots(self) -> list[list[Any]]:
        """Return the slots, in the order of ``method.slots``, those stored in bfloat16 in what they are computed in."""
        if True not in (compact := first(self.method).compact_slots) or self.namespace is None:
            return self.columns[1:]
        widen, dtype = self.namespace.cast, self.namespace.dtype("float32")
        pairs = zip(self.columns[1:], compact, strict=True)
        return [[x if x is None else widen(x, dtype) for x in xs] if each else xs for xs, each in pairs]

    def tree(self, leaves: list[Any]) -> Tree:
        """Return the tree with these leaves."""
        if self.leaf_indices is not None and (torch := framework("torch")).compiler.is_compiling():
            return torch.utils._pytree.tree_map(lambda i: leaves[i], self.leaf_indices)
        return _tree.unflatten(self.spec, leaves)

    def renewed(self, columns: list[list[Any]], part: Part | None = None) -> Leaves:
        """Return the leaves after a step of this part, which lie as these do."""
        whole = columns if part is None else part.put(columns, self.columns)
        known = self.layouts, self.leaf_indices, self.plan, self.part
        new = Leaves(self.method, self.spec, whole, self.namespace, *known, placings=self.placings)
        new.first_counters = self.first_counters
        if self.placings is not None:
            pairs = zip(self.dtensors, self.columns, whole, strict=True)
            new.dtensors = [{i: x for i, x in each.items() if old[i] is now[i]} for each, old, now in pairs]
        return new

    def arrays(self, k: int) -> list[Any]:
        """Return a column as users see it: DTensors in the place of local tensors."""
        if self.placings is None:
            return self.columns[k]
        column, made = self.columns[k], self.dtensors[k]
        for i, placing in enumerate(self.placings):
            if placing is not None and i not in made:
                x = made.setdefault(i, placing.whole(column[i], k == 0 and placing.requires_grad))
                column[i] = _dtensor.local(x, is_param=k == 0)  # an alias, by which the DTensor is known again
        return [made.get(i, x) for i, x in enumerate(column)]

    def whole_tree(self, arrays: list[Any]) -> Tree:
        """Return the tree of arrays that were computed from local tensors, as DTensors where the parameters are."""
        if self.placings is not None:
            pairs = zip(arrays, self.placings, strict=True)
            arrays = [x if x is None or placing is None else placing.whole(x) for x, placing in pairs]
        return self.tree(arrays)

    def take_tokens(self, other: Leaves) -> None:
        """Take the tokens of the arrays that other leaves hold, too."""
        if other.tokens:
            held = {id(x) for xs in self.columns for x in xs}
            self.tokens = {key: token for key, token in other.tokens.items() if key in held}

    def checked_again(self) -> Leaves:
        """Return the leaves as they are now.

        Raises
        ------
        TypeError, ValueError
            Some do not fit together any more.
        """
        params, *slots = [self.tree(self.arrays(k)) for k in range(len(self.columns))]
        leaves = Leaves.of(self.method, params, dict(zip(self.method.slots, slots, strict=True)))
        leaves.take_tokens(self)
        return leaves

    def handed_out(self, k: int, holds: Holds) -> Tree:
        """Return the tree of a column for a user, who may put the arrays into another state."""
        arrays = self.arrays(k)
        if self.namespace is not None and self.namespace.name in WRITABLE:
            torch = framework("torch")
            if torch is None or not torch.compiler.is_compiling():
                _hold.hand_out(self.columns[k], holds, self.tokens)
        return self.tree(arrays)

    def have_changed(self) -> bool:
        """Return whether arrays were deleted (by a user's jit), or given another shape, dtype, layout or device."""
        if self.namespace is None:
            return False
        arrays = [x for x in itertools.chain(*self.columns) if x is not None]
        if self.namespace.name == "jax":
            known = itertools.filterfalse(is_tracer, arrays) if has_tracers(arrays) else arrays
            return any(x.is_deleted() for x in known)
        layout = self.namespace.layout
        return (
            self._has_moved()
            or any(
                x is not None and layout(x) != known
                for xs, each in zip(self.columns, self.layouts, strict=True)
                for x, known in zip(xs, each, strict=True)
            )
            or (self.namespace.name == "torch" and any(map(_check.lacks_memory, arrays)))
        )

    def _has_moved(self) -> bool:
        """Return whether a DTensor has another local tensor than it had."""
        return any(
            _dtensor.local(x, is_param=k == 0) is not self.columns[k][i]
            for k, made in enumerate(self.dtensors)
            for i, x in made.items()
        )

    def localized(self, gradients: list[Any]) -> tuple[Leaves, list[Any]]:
        """Return the leaves as they are now, and the gradients, of DTensors their local tensors.

        Raises
        ------
        TypeError, ValueError
            A gradient does not fit its parameter.
        """
        if self.placings is None:
            return self, gradients
        leaves = self.checked_again() if self._has_moved() else self
        return leaves, [*map(_dtensor.local, leaves.placed(gradients))]

    def placed(self, gradients: list[Any]) -> list[Any]:
        """Return the gradients laid over processes as their parameters are."""
        return _dtensor.placed(self.placings, gradients, functools.partial(_tree.path, self.spec, "grads"))

    def written(self, leaves: Iterable[int]) -> list[Any]:
        """Return the DTensors of some leaves, whose local tensors a donated step has written."""
        return [x for made in self.dtensors for i in leaves if (x := made.get(i)) is not None]

    def are_distinct(self) -> bool:
        """Return whether no array stands in two places; enough for JAX, whose distinct arrays never share memory."""
        identities = [id(x) for xs in self.columns for x in xs if x is not None]
        return len(set(identities)) == len(identities)

    def named(self, leaves: Iterable[int]) -> list[Named]:
        """Return the arrays of some leaves with their paths."""
        return [
            (xs[i], functools.partial(_tree.path, self.spec, root, i))
            for i in leaves
            for root, xs in zip(_roots(self.method), self.columns, strict=True)
            if xs[i] is not None
        ]

    def gradients(self, grads: Tree) -> list[Any]:
        """Return the gradients in leaf order, None where there is none; NumPy's scalars become 0-d arrays."""
        leaves = _tree.leaves_like(self.spec, grads, "grads")
        if not _NO_SCALARS.issuperset(map(type, leaves)):
            leaves = [np.asarray(g) if isinstance(g, np.generic) else g for g in leaves]
            _NO_SCALARS.update(map(type, leaves))
        return leaves

    def check_gradients(self, gradients: list[Any], grads: Tree) -> tuple[list[int], bool]:
        """Return the leaves that have a gradient, and whether each gradient has its parameter's layout in memory.

        Raises
        ------
        TypeError, ValueError
            One of them does not fit its parameter.
        """
        namespace, uniform, stepped = self.namespace, True, []
        for i, (p, g, layout) in enumerate(zip(self.params, gradients, self.layouts[0], strict=True)):
            if p is None:
                if g is not None:
                    _tree.check_structure(self.spec, grads, "grads")
                    raise ValueError(f"{_tree.path(self.spec, 'grads', i)} must be None like its parameter")
            elif g is not None:
                assert namespace is not None
                stepped.append(i)
                if namespace.name == "torch" and _dtensor.is_dtensor(g):
                    self.placed(gradients)  # which raises: where the parameter is one, it was localized
                if layout is None or namespace_of(g) is not namespace or namespace.layout(g) != layout:
                    uniform = False
                    _check_leaf(namespace, p, g, self.spec, i, grads, "grads")
                elif namespace.name == "torch":
                    _check.backed(g, functools.partial(_tree.path, self.spec, "grads", i))
        return stepped, uniform


_NO_SCALARS: set[type] = set()
"""Classes of gradients that are no scalars of NumPy's, of those seen."""


def _roots(method: Method | Methods) -> list[str]:
    """Return what the paths of each column begin with."""
    return ["params", *(f"slots[{name!r}]" for name in method.slots)]


def _layouts(namespace: Namespace | None, columns: list[list[Any]]) -> list[list[Any]]:
    return [[None if namespace is None or x is None else namespace.layout(x) for x in xs] for xs in columns]


def _check_leaf(namespace: Namespace, p: Any, x: Any, spec: Any, i: int, tree: Tree, root: str) -> None:
    """Check what stands in a tree where the parameters' has leaf ``i``."""
    if namespace_of(x) is None:  # a container, perhaps
        _tree.check_structure(spec, tree, root)
    _check.like_parameter(namespace, p, x, functools.partial(_tree.path, spec, root, i))
