"""Methods, schedules and rates as data for JSON, and back: names from a fixed table and fields, nothing that runs."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from typing import Any

from adamod_array._compact import stored_as
from adamod_array._method import PARAMS, Method
from adamod_array._namespace import namespace_of
from adamod_array._rate import PerLeaf
from adamod_array._registration import METHODS, SCHEDULES
from adamod_array.checkpoint._error import CheckpointError
from adamod_array.schedules import Schedule

KNOWN = {cls.__name__.lstrip("_"): cls for cls in (*METHODS, *SCHEDULES) if cls is not Schedule}
"""The classes that a file may name; another has a dot in its name, and is the user's."""

_NOT_FINITE = ("inf", "-inf", "nan")
"""Numbers that JSON has no words for."""


def name_of(cls: type) -> str:
    """Return the name of a class in a file: the qualified one of a user's own."""
    short = cls.__name__.lstrip("_")
    return short if KNOWN.get(short) is cls else f"{cls.__module__}.{cls.__qualname__}"


def one_of(values: Any) -> Any:
    """Return one of the values: of a method, one that has the class and the slots of all."""
    return next(iter(values.values())) if isinstance(values, dict) else values


def by_path(value: Any, names: list[str]) -> Any:
    """Return one value as it is, and one a leaf by path."""
    return dict(zip(names, value, strict=True)) if isinstance(value, PerLeaf) else value


def data_of(value: Any, what: str) -> Any:
    """Return a method, a rate or a field of one of them as data.

    Raises
    ------
    TypeError
        It is a function, or anything else that is no number, word, flag, None, schedule, or sequence of them.
    """
    if isinstance(value, (Method, Schedule)):
        fields = {name: getattr(value, name) for name in _fields(type(value))}
        data = {
            "class": name_of(type(value)),
            "fields": {name: data_of(x, f"{what}: {name} of {type(value).__name__}") for name, x in fields.items()},
        }
        compact = isinstance(value, Method) and value.compact
        return data | ({"compact": [*compact]} if compact else {})
    if isinstance(value, dict):
        return {"leaves": {path: data_of(x, f"{what}{path}") for path, x in value.items()}}
    if isinstance(value, (tuple, list)):
        return [data_of(x, what) for x in value]
    if value is None or isinstance(value, (bool, int, str)):
        return value
    if isinstance(value, float) or (namespace_of(value) is not None and value.shape == ()):
        number = float(value)
        return number if math.isfinite(number) else {"float": repr(number)}
    raise TypeError(
        f"{what} cannot be saved: {value!r} is no number, word or schedule, and a file holds no functions."
        + (
            " Save state.replace(lr=0.0) in its place, and give the function to load(..., lr=...) again; or write it as"
            " a class of adamod_array.schedules.Schedule"
            if what.startswith("lr")
            else ""
        )
    )


def value_of(data: Any, what: str) -> Any:
    """Return what :func:`data_of` was given, one value or one a leaf by path.

    Raises
    ------
    CheckpointError
        The data name a class that is not known here, or fields that it does not take.
    """
    if isinstance(data, dict):
        if data.keys() == {"leaves"}:
            return {path: value_of(x, f"{what}{path}") for path, x in mapping(data["leaves"], what).items()}
        if data.keys() == {"float"} and data["float"] in _NOT_FINITE:
            return float(data["float"])
        return _instance(data, what, KNOWN)
    if isinstance(data, list):
        return tuple(value_of(x, what) for x in data)
    return data


def _fields(cls: type) -> list[str]:
    """Return the names of what an object of a class is made of; how slots are stored has a place of its own."""
    elsewhere = {"compact"} if issubclass(cls, Method) else set()
    return [each.name for each in dataclasses.fields(cls) if each.init and each.name not in elsewhere]


def _instance(data: Mapping[str, Any], what: str, known: Mapping[str, type]) -> Any:
    name = data.get("class")
    cls = known.get(name) if isinstance(name, str) else None
    if cls is None:
        word = "lr" if what.startswith("lr") else "method"
        raise CheckpointError(
            f"{what} is of the class {name!r:.200}, and a file makes objects of adamod_array's own classes alone: give"
            f" yours to load(..., {word}=...)"
        )
    takes = _fields(cls)
    fields = mapping(data.get("fields"), what)
    for field in fields:
        if field not in takes:
            raise CheckpointError(f"{what} has the field {field!r:.200}, which {name} of this release does not take")
    try:
        return cls(**{field: value_of(x, f"{what}: {field} of {name}") for field, x in fields.items()})
    except (TypeError, ValueError, ArithmeticError) as error:
        raise CheckpointError(f"{what} cannot be made: {error}") from None


def method_of_data(data: Any, given: Any, cls: type[Method] | None) -> Any:
    """Return the method of a file, or one a leaf by path.

    Parameters
    ----------
    data
        What :func:`data_of` returned.
    given : Method, dict by path, or None
        What the method must be.
    cls : type, optional
        A class of the user's that it may be of.

    Raises
    ------
    CheckpointError
        As :func:`value_of`; it is no method, of several classes, or another than the one given.
    """
    data = mapping(data, "method")
    is_tree = data.keys() == {"leaves"}
    each = mapping(data["leaves"], "method") if is_tree else {"": data}
    leaves = {f"method{path}": x for path, x in each.items()}
    wanted: dict[str, Any] = {}
    if given is not None:
        if is_tree != isinstance(given, dict):
            kinds = "one method for all leaves", "one for each"
            raise CheckpointError(f"the file has {kinds[is_tree]}, method= {kinds[not is_tree]}")
        wanted = {f"method{path}": x for path, x in (given if is_tree else {"": given}).items()}
    known: dict[str, type] = {name: each for name, each in KNOWN.items() if issubclass(each, Method)}
    if cls is not None:
        known[name_of(cls)] = cls
    found = {what: _method(mapping(x, what), what, wanted.get(what), known) for what, x in leaves.items()}
    if len({(type(x), x.slots, x.compact) for x in found.values()}) > 1:
        raise CheckpointError(
            "method is damaged: the methods of one state are of one class and keep the same slots, stored alike"
        )
    return {what.removeprefix("method"): x for what, x in found.items()} if is_tree else found["method"]


def _method(data: dict[str, Any], what: str, wanted: Method | None, known: Mapping[str, type]) -> Any:
    """Return a method of a file, the one that is wanted."""
    if wanted is None:
        return _compact(_instance(data, what, known), data, what)
    want = data_of(wanted, what)
    if data.get("class") != want["class"]:
        raise CheckpointError(f"{what} is {data.get('class')!s:.200} in the file, {want['class']} in method=")
    found = _instance(data, what, known)  # which has the fields that a file of an earlier release lacks
    have = data_of(found, what)
    for name, here in want["fields"].items():
        if have["fields"][name] != here:
            raise CheckpointError(
                f"{what}: {name} is {have['fields'][name]!r} in the file, {here!r} in method=. To go on with other"
                " hyperparameters, load what was saved, then state.replace(method=...)"
            )
    stored = _compact(wanted, data, what)
    if wanted.compact and wanted.compact != stored.compact:
        raise CheckpointError(
            f"{what} stores {', '.join(stored.compact) or 'nothing'} in bfloat16 in the file,"
            f" {', '.join(wanted.compact)} in method=. Load what was saved, then state.replace(slot_dtype=...)"
        )
    return stored


def _compact(method: Method, data: dict[str, Any], what: str) -> Method:
    """Return a method that stores its slots as that of a file does."""
    compact = data.get("compact", [])
    if not isinstance(compact, list) or compact != [x for x in (*method.slots, PARAMS) if x in compact]:
        raise CheckpointError(f"{what} is damaged: it stores {compact!r:.200} in bfloat16")
    return stored_as(method, tuple(compact))


def mapping(x: Any, what: str) -> dict[str, Any]:
    """Return a JSON object; anything else is a CheckpointError."""
    if not isinstance(x, dict):
        raise CheckpointError(f"{what} is damaged: expected an object with names, got {x!r:.80}")
    return x
