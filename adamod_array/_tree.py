"""Trees of arrays: flattened by optree, or by jax.tree_util where JAX alone knows a container."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import optree

from adamod_array import _instead
from adamod_array._difference import children, difference
from adamod_array._namespace import framework, namespace_of

Tree = Any
"""An array, or a nest of dicts, lists, tuples, namedtuples and registered classes of arrays."""

if TYPE_CHECKING:
    from typing_extensions import TypeVar

    P = TypeVar("P", default=Any)  # State alone means State[Any]
else:
    from typing import TypeVar

    P = TypeVar("P")
"""The type of a caller's tree of parameters."""


def _none(x: Any) -> bool:
    return x is None


def flatten(tree: Tree) -> tuple[list[Any], Any]:
    """Return leaves and structure; None is a leaf, so that a gradient may be missing."""
    leaves, spec = optree.tree_flatten(tree, none_is_leaf=True)
    jax = framework("jax")
    if jax is not None and not all(x is None or namespace_of(x) or jax.tree_util.all_leaves([x]) for x in leaves):
        leaves, spec = jax.tree_util.tree_flatten(tree, is_leaf=_none)
    return leaves, spec


def _jax_of(spec: Any) -> Any:
    """Return jax.tree_util where it made ``spec``; None where optree did, or its stand-in inside torch.compile."""
    jax = framework("jax")
    return jax.tree_util if jax is not None and isinstance(spec, jax.tree_util.PyTreeDef) else None


def leaves_like(spec: Any, tree: Tree, root: str) -> list[Any]:
    """Return the leaves of a tree, in the order of ``spec``: ten times faster than to flatten it and compare.

    What stands where ``spec`` has a leaf is not looked into; :func:`check_structure` does.

    Raises
    ------
    ValueError
        The tree has another structure.
    """
    try:
        return spec.flatten_up_to(tree)  # type: ignore[no-any-return]
    except (ValueError, TypeError):
        check_structure(spec, tree, root)
        raise


def check_structure(spec: Any, tree: Tree, root: str) -> None:
    """Raise a ValueError that says where a tree first differs from the parameters'."""
    _, got = _flatten_as(spec, tree)
    if got != spec:
        found = difference(leaf_indices(spec), tree, root, _jax_of(spec), hint=_instead.of_no_array)
        is_pair = root == "grads" and isinstance(tree, tuple) and len(tree) == 2
        if is_pair and getattr(tree[0], "shape", ()) == () and _flatten_as(spec, tree[1])[1] == spec:
            found = f"write {root}[1] (value_and_grad returns the value, too)"
        if _instead.is_state(tree):
            found = "got a state: write the gradients of state.params"
        raise ValueError(f"{root} must have the structure of params: {found or f'expected {spec}, got {got}'}")


def _flatten_as(spec: Any, tree: Tree) -> Any:
    """Return leaves and structure of a tree by whom ``spec`` is of."""
    jax = _jax_of(spec)
    return jax.tree_flatten(tree, is_leaf=_none) if jax else optree.tree_flatten(tree, none_is_leaf=True)


def unflatten(spec: Any, leaves: Any) -> Tree:
    """Return the tree of ``spec`` with these leaves."""
    return spec.unflatten(leaves)


def root_type(spec: Any) -> Any:
    """Return the class of the outermost container; None of a bare leaf."""
    if _jax_of(spec):
        return (spec.node_data() or (None,))[0]
    return spec.type


def paths(spec: Any, root: str) -> list[str]:
    """Return what a user would type to reach each leaf: ``params['layers'][0]['w']``."""
    if jax := _jax_of(spec):
        keyed, _ = jax.tree_flatten_with_path(leaf_indices(spec))
        return [root + jax.keystr(path) for path, _ in keyed]
    return [accessor.codify(root) for accessor in spec.accessors()]


def path(spec: Any, root: str, i: int) -> str:
    """Return the path of leaf i."""
    return paths(spec, root)[i]


def leaf_indices(spec: Any) -> Tree:
    """Return the tree of ``spec`` with the numbers of its leaves."""
    return unflatten(spec, range(spec.num_leaves))


def broadcast_prefix(prefix: Tree, spec: Any, what: str) -> list[Any]:
    """Spread a tree prefix of values over the leaves of ``spec``, one a leaf.

    Raises
    ------
    ValueError
        ``prefix`` is not a prefix of the parameters' tree.
    """
    full = leaf_indices(spec)
    values: list[Any] = []
    try:
        if jax := _jax_of(spec):

            def spread(value: Any, below: Tree) -> None:
                values.extend([value] * len(jax.tree_leaves(below)))

            jax.tree_map(spread, prefix, full, is_leaf=_none)
        else:
            # not broadcast_prefix, whose order is that of the prefix's own keys
            values = spec.flatten_up_to(optree.tree_broadcast_prefix(prefix, full, none_is_leaf=True))
    except ValueError as error:
        found = difference(full, prefix, what, _jax_of(spec), may_end=True) or error
        raise ValueError(f"{what} is neither one value nor a tree prefix of params: {found}") from None
    return values


def smallest_prefix(spec: Any, values: Sequence[Any], are_none: Sequence[bool], at: Callable[[Any], Any]) -> Tree:
    """Return ``at`` of values, one a leaf, as a tree prefix: a branch whose leaves share it has one, but not the root.

    Leaves of which ``are_none`` holds share any, and alone have None.
    """
    jax = _jax_of(spec)

    def collapsed(tree: Tree, is_root: bool) -> Tree:
        indices = _flatten_as(spec, tree)[0]
        own = [values[i] for i in indices if not are_none[i]]
        if indices and not own:
            return None
        if own and not is_root and all(_alike(x, own[0]) for x in own):
            return at(own[0])
        names, below, shape = children(tree, "", jax)
        return at(own[0]) if names == [""] else unflatten(shape, [collapsed(x, False) for x in below])

    return collapsed(leaf_indices(spec), True)


def _alike(x: Any, y: Any) -> bool:
    try:
        return x is y or bool(x == y)
    except Exception:  # a user's schedules may hold arrays, which have no one answer
        return False
