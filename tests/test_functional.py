"""The functional front door says what the methods say, to editors and to type checkers too."""

from __future__ import annotations

import dataclasses
import inspect
from typing import Any, assert_type

import numpy as np
import pytest

import adamod_array as aa
from adamod_array import Adam, AdaMod, DiffGrad, DiffMod, Method, Momentum, RAdam, State, functional

pytestmark = pytest.mark.only("numpy")

METHODS: dict[str, type[Method]] = {
    "adam": Adam,
    "adamod": AdaMod,
    "radam": RAdam,
    "momentum": Momentum,
    "diffgrad": DiffGrad,
    "diffmod": DiffMod,
}


def test_every_hyperparameter_is_spelt_out() -> None:
    for name, method in METHODS.items():
        parameters = [*inspect.signature(getattr(functional, f"{name}_init")).parameters.values()]
        common = ["params", "lr", "weight_decay", "slot_dtype", "param_rounding"]
        assert [x.name for x in parameters[:5]] == common
        given = [(x.name, x.annotation, x.default) for x in parameters[5:] if x.name != "len_memory"]
        defaults = method()
        fields = [(x.name, x.type, x.default) for x in dataclasses.fields(method) if x.name != "compact"]
        assert given == fields, name
        assert all(x.kind is x.KEYWORD_ONLY for x in parameters[2:])
        assert getattr(functional, f"{name}_init")(np.zeros(2)).method == defaults


def test_every_hyperparameter_arrives() -> None:
    other = {"variant": "reference", "below": "skip", "threshold": 5.5}
    for name, method in METHODS.items():
        for field in (x for x in dataclasses.fields(method) if x.name != "compact"):
            value = other.get(field.name, True if field.default is False else 0.25)
            given: dict[str, Any] = {field.name: value}
            state = getattr(functional, f"{name}_init")(np.zeros(2), **given)
            assert state.method == method(**given), (name, field.name)


def test_a_checker_knows_the_callers_types() -> None:
    """mypy reads this; here it runs."""
    params = {"w": np.zeros(2)}
    state = aa.adamod_init(params, lr=0.1, beta3=0.99)
    assert_type(state, State[dict[str, np.ndarray[tuple[int], np.dtype[np.float64]]]])
    state = aa.adamod_step(state, {"w": np.ones(2)})
    assert_type(state.params, dict[str, np.ndarray[tuple[int], np.dtype[np.float64]]])
    assert_type(aa.step(state, params).replace(lr=0.2).params["w"].ndim, int)
    pair = aa.init(Momentum(), (np.zeros(2), [np.zeros(3)]))
    assert_type(pair.params[1], list[np.ndarray[tuple[int], np.dtype[np.float64]]])
    with pytest.raises(TypeError, match="beat3"):
        aa.adamod_init(params, beat3=0.99)  # type: ignore[call-arg]
    with pytest.raises(TypeError, match="beta1"):
        aa.radam_init(params, beta1="0.9")  # type: ignore[arg-type]
    with pytest.raises(AttributeError):
        assert state.params["w"].no_such_thing  # type: ignore[attr-defined]


def test_a_memory_stands_for_beta3() -> None:
    assert aa.adamod_init(np.zeros(1), len_memory=1000).method == AdaMod(beta3=0.999)
    with pytest.raises(TypeError, match="not both"):
        aa.adamod_init(np.zeros(1), len_memory=1000, beta3=0.9)
