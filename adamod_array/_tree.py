"""Trees of arrays: flattened by optree, or by jax.tree_util where JAX alone knows a container."""

from __future__ import annotations

import itertools
import sys
from typing import Any

import optree

from adamod_array._namespace import namespace_of

Tree = Any
"""An array, or a nest of dicts, lists, tuples, namedtuples and registered classes of arrays."""


def _none(x: Any) -> bool:
    return x is None


def flatten(tree: Tree) -> tuple[list[Any], Any]:
    """Leaves and structure; None is a leaf, so that a gradient may be missing."""
    leaves, spec = optree.tree_flatten(tree, none_is_leaf=True)
    jax = sys.modules.get("jax")
    if jax is not None and not all(x is None or namespace_of(x) or jax.tree_util.all_leaves([x]) for x in leaves):
        leaves, spec = jax.tree_util.tree_flatten(tree, is_leaf=_none)
    return leaves, spec


def flatten_like(spec: Any, tree: Tree) -> tuple[list[Any], Any]:
    """Flatten by the library that made ``spec``."""
    if isinstance(spec, optree.PyTreeSpec):
        return optree.tree_flatten(tree, none_is_leaf=True)
    flat: tuple[list[Any], Any] = sys.modules["jax"].tree_util.tree_flatten(tree, is_leaf=_none)
    return flat


def unflatten(spec: Any, leaves: Any) -> Tree:
    """The tree of ``spec`` with these leaves."""
    return spec.unflatten(leaves)


def paths(spec: Any, root: str) -> list[str]:
    """What a user would type to reach each leaf: ``params['layers'][0]['w']``."""
    if isinstance(spec, optree.PyTreeSpec):
        return [accessor.codify(root) for accessor in spec.accessors()]
    tree_util = sys.modules["jax"].tree_util
    keyed, _ = tree_util.tree_flatten_with_path(spec.unflatten([0] * spec.num_leaves))
    return [root + tree_util.keystr(path) for path, _ in keyed]


def mismatch(expected: Any, got: Any, root: str) -> str:
    """Where the structure ``got`` first differs from that of the parameters."""
    for want, have in itertools.zip_longest(paths(expected, root), paths(got, root)):
        if want != have:
            there = set(paths(got, root))
            if want is not None and want not in there:
                return f"{want} is missing" + (f" (there is {have})" if have else "")
            return f"{have} has no parameter beside it"
    return f"{root} has the leaves of params in other containers: expected {expected}, got {got}"


def broadcast_prefix(prefix: Tree, spec: Any, what: str) -> list[Any]:
    """One value a leaf of ``spec`` from a tree prefix of them.

    Raises
    ------
    ValueError
        ``prefix`` is not a prefix of the parameters' tree.
    """
    full = unflatten(spec, range(spec.num_leaves))
    try:
        if isinstance(spec, optree.PyTreeSpec):
            return optree.broadcast_prefix(prefix, full, none_is_leaf=True)
        tree = sys.modules["jax"].tree
        values: list[Any] = []
        tree.map(lambda value, below: values.extend([value] * len(tree.leaves(below))), prefix, full)
        return values
    except ValueError as error:
        raise ValueError(f"{what} is neither one value nor a tree prefix of params: {error}") from None
