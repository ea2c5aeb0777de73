"""Trees of arrays: flattened by optree, or by jax.tree_util where JAX alone knows a container."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Any

import optree

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
    jax = _jax_of(spec)
    _, got = jax.tree_flatten(tree, is_leaf=_none) if jax else optree.tree_flatten(tree, none_is_leaf=True)
    if got != spec:
        raise ValueError(f"{root} must have the structure of params: {_mismatch(spec, got, root)}")


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


def _mismatch(expected: Any, got: Any, root: str) -> str:
    """Return where the structure ``got`` first differs from that of the parameters."""
    wanted, there = paths(expected, root), paths(got, root)
    for want, have in itertools.zip_longest(wanted, there):
        if want is not None and want not in there:
            return f"{want} is missing" + (f" (there is {have})" if have else "")
        if have is not None and have not in wanted:
            return f"{have} has no parameter beside it"
    found = _other_container(leaf_indices(expected), leaf_indices(got), root, _jax_of(expected))
    return found or f"expected {expected}, got {got}"


def _other_container(want: Tree, have: Tree, path: str, jax: Any) -> str:
    """Return where two trees of the same leaves have different containers, and which; empty if nowhere."""
    if not jax and isinstance(want, dict) and isinstance(have, dict):
        want, have = dict(want), dict(have)  # optree's mappings are matched by their keys
    if type(want) is not type(have):
        return f"{path} must be a {_name(want)}, got a {_name(have)}"

    def children(tree: Tree) -> tuple[list[str], list[Tree], Any]:
        def below(x: Any) -> bool:
            return x is not tree

        if jax:
            keyed, spec = jax.tree_flatten_with_path(tree, is_leaf=below)
            return [path + jax.keystr(key) for key, _ in keyed], [child for _, child in keyed], spec
        accessors, found, spec = optree.tree_flatten_with_accessor(tree, is_leaf=below, none_is_leaf=True)
        return [accessor.codify(path) for accessor in accessors], found, spec

    names, wanted, shape = children(want)
    _, there, other = children(have)
    if shape != other:
        return f"{path} must be {shape}, got {other}"
    if names == [path]:  # a leaf
        return ""
    pairs = zip(wanted, there, names, strict=True)
    return next(filter(None, (_other_container(a, b, name, jax) for a, b, name in pairs)), "")


def _name(x: Any) -> str:
    return f"{type(x).__module__}.{type(x).__qualname__}".removeprefix("builtins.")


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
        raise ValueError(f"{what} is neither one value nor a tree prefix of params: {error}") from None
    return values
