"""Where two trees differ, in the words of whoever wrote them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import optree

Leaf = Callable[[Any, str], str]
"""What to write instead of something that is no container, where ``str`` is its path."""


def difference(want: Any, have: Any, path: str, jax: Any, *, may_end: bool = False, hint: Leaf | None = None) -> str:
    """Return where the tree ``have`` first differs from ``want``, and how; empty where it does not.

    ``jax`` is ``jax.tree_util`` where that alone knows the containers. With ``may_end``, a leaf may stand for a branch.
    """
    if not jax and isinstance(want, dict) and isinstance(have, dict):
        want, have = dict(want), dict(have)  # optree's mappings are matched by their keys
    names, wanted, shape = children(want, path, jax)
    others, there, other = children(have, path, jax)
    if names == [path] or others == [path]:  # a leaf
        return _of_leaf(want, have, path, names == [path], others == [path], may_end, hint)
    if type(want) is not type(have):
        order = ""
        if isinstance(want, dict) and isinstance(have, (list, tuple)) and len(want) == len(have):
            order = f": write {{{', '.join(f'{key!r}: ...' for key in want)}}}"
        return f"{path} must be {_name(want)}, got {_name(have)}{order}"
    known, found_there = {*names}, {*others}
    missing = [name for name in names if name not in found_there]
    extra = [name for name in others if name not in known]
    if missing:
        return f"{missing[0]} is missing" + (f" (there is {extra[0]})" if extra else "")
    if extra:
        return f"{extra[0]} has no parameter beside it"
    if shape != other:
        return f"{path} must be {shape}, got {other}"
    pairs = zip(wanted, there, names, strict=True)
    found = (difference(a, b, name, jax, may_end=may_end, hint=hint) for a, b, name in pairs)
    return next(filter(None, found), "")


def _of_leaf(want: Any, have: Any, path: str, ends: bool, has_ended: bool, may_end: bool, hint: Leaf | None) -> str:
    if ends:
        are_numbers = isinstance(have, (list, tuple)) and all(isinstance(x, (int, float)) for x in have)
        whole = ": write one array, as np.asarray makes of a list" if hint is not None and are_numbers else ""
        return "" if has_ended else f"{path} must be one value like its parameter, got {_name(have)}{whole}"
    if may_end:
        return ""
    instead = hint(have, path) if hint is not None else ""
    if have is None and not path.isidentifier():  # of a branch, not of the whole tree
        below = f", {{{next(iter(want))!r}: None, ...}}" if isinstance(want, dict) and want else ""
        instead = f"None is written at each leaf{below}"
    got = "None" if have is None else _name(have)
    return f"{path} must be {_name(want)}, got {got}" + (f": {instead}" if instead else "")


def children(tree: Any, path: str, jax: Any) -> tuple[list[str], Sequence[Any], Any]:
    """Return the paths and the values of what stands in a container, and its structure; of a leaf, itself."""

    def below(x: Any) -> bool:
        return x is not tree

    if tree is None:
        return [path], [tree], None
    if jax:
        keyed, spec = jax.tree_flatten_with_path(tree, is_leaf=below)
        return [path + jax.keystr(key) for key, _ in keyed], [child for _, child in keyed], spec
    accessors, found, spec = optree.tree_flatten_with_accessor(tree, is_leaf=below, none_is_leaf=True)
    return [accessor.codify(path) for accessor in accessors], found, spec


def class_name(x: Any) -> str:
    """Return the class of ``x`` as a user would write it."""
    return f"{type(x).__module__}.{type(x).__qualname__}".removeprefix("builtins.")


def _name(x: Any) -> str:
    name = class_name(x)
    return f"an {name}" if name[0] in "aeiou" else f"a {name}"
