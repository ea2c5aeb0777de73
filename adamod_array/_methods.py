"""Hyperparameters by branch: a tree prefix of methods, of one class."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any

from adamod_array._method import Method, check_slots
from adamod_array._rate import PerLeaf, spread
from adamod_array._tree import Tree, flatten, path


class Methods(PerLeaf):
    """One method per leaf, all of one class and with the same slots."""

    __getitem__ = tuple.__getitem__  # every step asks for the first

    @property
    def slots(self) -> tuple[str, ...]:
        """Return the names of their slots."""
        found: tuple[str, ...] = self[0].slots
        return found


def methods_of(value: Tree, spec: Any, params: Sequence[Any], hint: str = "") -> Method | Methods:
    """Return a method as it is, and a tree prefix of methods as one a leaf.

    ``hint`` is appended to the error for a value that contains no method.

    Raises
    ------
    TypeError
        One is no method, or of another class than the first.
    ValueError
        The prefix is none of the parameters' tree; slots have no names of their own, or differ.
    """
    if isinstance(value, Method):
        check_slots(value)
        return value
    if not isinstance(value, PerLeaf) and not any(isinstance(x, Method) for x in flatten(value)[0]):
        raise TypeError(f"expected a method such as AdaMod(), got {_described(value)}{hint}")
    given = spread(value, spec, params, "method")
    if isinstance(given, Methods):
        return given
    places = [(x, functools.partial(path, spec, "method", i)) for i, x in enumerate(given) if params[i] is not None]
    for x, place in places:
        if not isinstance(x, Method):
            raise TypeError(f"{place()} must be a method such as AdaMod(), got {_described(x)}")
        check_slots(x)
        one, its_place = places[0]
        if type(x) is not type(one):
            raise TypeError(
                f"methods of one state are of one class: {its_place()} is {type(one).__name__},"
                f" {place()} is {type(x).__name__}; take a state for each class"
            )
        if x.slots != one.slots:
            raise ValueError(
                f"methods of one state keep the same slots: {its_place()} keeps {one.slots}, {place()} {x.slots}"
            )
        if x.compact != one.compact:
            raise ValueError(f"methods of one state store slots alike: {place()} does not as {its_place()} does")
    some: Method = places[0][0] if places else next(x for x in flatten(value)[0] if isinstance(x, Method))
    if not given:
        return some
    return Methods(some if p is None else x for x, p in zip(given, params, strict=True))


def method_of(method: Method | Methods, leaf: int) -> Method:
    """Return the method of a leaf."""
    found: Method = method[leaf] if isinstance(method, Methods) else method
    return found


def first(method: Method | Methods) -> Method:
    """Return one of the methods, which all are of its class."""
    return method_of(method, 0)


def _described(x: Any) -> str:
    if not isinstance(x, type):
        return type(x).__name__
    return f"{x.__name__}, a class" + (f": write {x.__name__}()" if issubclass(x, Method) else "")
