"""What a beginner writes by mistake: the error says what to write instead, and a state is as it was."""

from __future__ import annotations

import dataclasses
import pickle
import warnings
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pytest

import adamod_array as aa
from adamod_array import AdaMod, init, schedules, step
from tests.backend import Backend
from tests.trees import assert_same, bits

Mistakes = Mapping[str, tuple[Callable[[], Any], tuple[str, ...]]]
"""What was done; how, and which words the message must have."""


def assert_said(mistakes: Mistakes) -> None:
    """Each mistake is an error with these words."""
    for name, (make, words) in mistakes.items():
        with pytest.raises((TypeError, ValueError, AttributeError)) as caught:
            make()
        for word in words:
            assert word in str(caught.value), f"{name}: {caught.value}"


def parameters(backend: Backend) -> dict[str, Any]:
    return {"w": backend.array([1.0, 2.0, 3.0]), "b": backend.array([1.0])}


def call(function: Callable[..., Any], *args: Any, **options: Any) -> Callable[[], Any]:
    """What a type checker would have refused."""
    return lambda: function(*args, **options)


def test_options_of_other_libraries(backend: Backend) -> None:
    params = parameters(backend)
    state = aa.adamod_init(params)
    meant = {
        "betas": "write beta1= and beta2=; options are lr, weight_decay",
        "learning_rate": "write lr=",
        "step_size": "write lr=",
        "momentum": "write beta1=",
        "beta_1": "write beta1=",
        "b2": "write beta2=",
        "epsilon": "write eps=",
        "wd": "write weight_decay=",
        "decay": "write weight_decay=",
        "beat3": "write beta3=",
        "amsgrad": "amsgrad is an option of Adam, adam_init",
        "nesterov": "nesterov is an option of Momentum",
        "clipnorm": "max_norm is an option of adamod_step",
        "mu_dtype": "write slot_dtype=",
        "fused": "leave it out",
        "maximize": "with the other sign",
        "warmup_steps": "schedules.linear_warmup(steps)",
        "mask": "weight_decay takes a tree of numbers",
    }
    assert_said({f"adamod_init {x}": (call(aa.adamod_init, params, **{x: 0.9}), (x, y)) for x, y in meant.items()})
    assert_said(
        {
            "momentum of momentum": (call(aa.momentum_init, params, momentum=0.9), ("write beta=",)),
            "a class": (call(AdaMod, betas=(0.9, 0.99)), ("AdaMod()", "write beta1= and beta2=")),
            "lr of a method": (call(AdaMod, lr=0.1), ("lr is an option of adamod_init", "init")),
            "beta3 of init": (call(init, AdaMod(), params, beta3=0.9), ("beta3 is an option of AdaMod",)),
            "lr of a step": (call(aa.adamod_step, state, params, learning_rate=0.1), ("adamod_step()", "write lr=")),
            "clipping": (call(step, state, params, clip_norm=0.1), ("step()", "write max_norm=")),
            "in place": (call(step, state, params, inplace=True), ("write donate=",)),
            "the opposite": (call(step, state, params, skip=True), ("where= says whether the step is taken",)),
            "another momentum": (call(aa.momentum_init, params, beta1=0.9), ("write beta=",)),
            "what is compact": (call(aa.adam_init, params, compact=("m",)), ("write slot_dtype=",)),
            "a memory": (call(AdaMod, beta3=1e7), (f"write {1 - 1e-7!r}",)),
            "two numbers": (call(AdaMod, eps=(1e-8, 1e-8)), ("eps must be a number, got (1e-08, 1e-08)",)),
            "replace": (call(state.replace, learning_rate=0.1), ("no field 'learning_rate'", "write lr=")),
            "by position": (call(aa.adamod_init, params, 0.1, 0.9), ("adamod_init(params, lr)", "by name: ", "beta1")),
            "no method": (call(init, params), ("init(method, params",)),
            "no gradients": (call(aa.adamod_step, state), ("'grads'",)),
        }
    )


def test_what_is_no_parameter(backend: Backend) -> None:
    w = backend.array([1.0])
    state = aa.adamod_init({"w": w})
    mistakes: Mistakes = {
        "None": (call(aa.adamod_init, None), ("params must be a tree of arrays, got None",)),
        "a float": (call(aa.adamod_init, {"w": 1.5}), ("params['w']", "got float", "np.asarray(1.5)")),
        "an int": (
            call(aa.adamod_init, [2]),
            ("params[0]", "np.asarray(2, dtype=float)", "np.asarray of the whole list"),
        ),
        "lists": (call(aa.adamod_init, {"w": [[1.0]]}), ("params['w'][0][0]", "of the whole list")),
        "a generator": (call(aa.adamod_init, (x for x in [w])), ("got generator", "write list(...) of it")),
        "values": (call(aa.adamod_init, {"w": w}.values()), ("got dict_values", "write list(...) of it")),
        "items": (call(aa.adamod_init, {"w": w}.items()), ("got dict_items", "write dict(x)")),
        "a set": (call(aa.adamod_init, {1.0, 2.0}), ("a set has no order", "a dict or a list")),
        "pairs": (call(aa.adamod_init, [("w", w)]), ("params[0][0]", "got str", "dict(pairs)")),
        "a state": (call(init, AdaMod(), state), ("got a State", "state.replace(...)")),
        "a method first": (call(aa.adamod_init, AdaMod(), {"w": w}), ("init(method, params)",)),
        "parameters of a method": (call(AdaMod, {"w": w}), ("beta1 must be a number", "init(method, params)")),
        "groups": (call(aa.adamod_init, [{"w": w, "lr": 0.1}]), ("params[0]['lr']", "lr={'body': 1e-4")),
        "integers": (call(aa.adamod_init, [backend.array([1], "int32")]), ("params[0]", "int32", "float")),
        "a class": (call(init, AdaMod, w), ("AdaMod, a class: write AdaMod()",)),
        "a name": (call(init, "adamod", w), ("a method such as AdaMod(), got str",)),
        "objects": (call(aa.adamod_init, [np.array([None], object)]), ("dtype=float", "list of arrays")),
    }
    assert_said(mistakes)

    class Table:
        """As pandas and polars have them."""

        def to_numpy(self) -> None: ...

    assert_said({"a table": (call(aa.adamod_init, {"w": Table()}), ("Table", "write x.to_numpy()"))})


def test_rates_and_hyperparameters(backend: Backend) -> None:
    params = parameters(backend)
    deep = {"layers": [params, params["w"]]}
    grads = params

    def of(lr: Any, tree: Any = params, name: str = "lr") -> Callable[[], Any]:
        return call(aa.adamod_init, tree, **{name: lr})

    def stepped(lr: Any) -> Callable[[], Any]:
        return lambda: step(aa.adamod_init(params), grads, lr=lr)

    mistakes: Mistakes = {
        "a key lacks": (of({"w": 0.1}), ("lr['b'] is missing",)),
        "a key too many": (of({"w": 0.1, "b": 0.1, "c": 0.1}), ("lr['c'] has no parameter beside it",)),
        "a key lacks below": (of({"layers": [{"w": 0.1}, 0.1]}, deep), ("lr['layers'][0]['b'] is missing",)),
        "a decay lacks": (of({"w": 0.1}, name="weight_decay"), ("weight_decay['b'] is missing",)),
        "a list": (of([0.1, 0.2]), ("lr must be a dict, got a list: write {'w': ..., 'b': ...}",)),
        "a longer list": (of([0.1, 0.2], [params["w"]]), ("lr[1] has no parameter beside it",)),
        "below a leaf": (of({"w": {"x": 0.1}, "b": 0.1}), ("lr['w'] must be one value", "got a dict")),
        "beyond a branch": (
            of({"layers": 0.1, "z": {"x": 0.1}}, {"layers": [params], "z": params["w"]}),
            ("lr['z'] must be one value",),
        ),
        "at a step": (stepped({"w": 0.1}), ("lr['b'] is missing",)),
        "a mask": (of({"w": True, "b": 0.1}, name="weight_decay"), ("weight_decay['w']", "0.0 for False")),
        "a class": (of(schedules.untuned_linear), ("a class: call it, untuned_linear(beta2=0.999)",)),
        "a class below": (of({"w": schedules.constant, "b": 0.1}), ("lr['w']", "constant(value)")),
        "a class at a step": (stepped(schedules.untuned_linear), ("call it, untuned_linear(",)),
        "no argument": (of(lambda: 0.1), ("a function of the step t", "lambda t: ...")),
        "not called": (of(lambda peak, steps: 0.1), ("call it first",)),
        "an array of rates": (
            lambda: step(aa.adamod_init(params, lr=lambda t: np.ones(3)), grads),
            ("at step 1 must be one number", "shape (3,)"),
        ),
        "a tree of rates": (
            lambda: step(aa.adamod_init(params, lr=lambda t: {"w": 0.1}), grads),
            ("at step 1 must be a number", "a tree of schedules"),
        ),
        "negative": (of(-0.1), ("lr must not be negative, got -0.1",)),
        "a string": (of("1e-3"), ("got '1e-3', a string: write float('1e-3')",)),
        "a tuple for beta1": (call(AdaMod, beta1=(0.9, 0.99)), ("write beta1=0.9, beta2=0.99",)),
        "steps for beta3": (call(AdaMod, beta3=1000), ("[0, 1)", "write 0.999")),
        "a word for a flag": (
            call(step, aa.adamod_init(params), grads, donate="yes"),
            ("donate must be True or False",),
        ),
    }
    assert_said(mistakes)


def test_gradients(backend: Backend) -> None:
    params = parameters(backend)
    grads = {"w": params["w"] * 0 + 1, "b": params["b"]}
    state = aa.adamod_init(params)
    before = bits(backend, state)
    mistakes: Mistakes = {
        "swapped": (call(step, grads, state), ("the order is step(state, grads)",)),
        "parameters for a state": (call(step, params, grads), ("expected a State from init, got dict",)),
        "a state": (call(step, state, state), ("write the gradients of state.params",)),
        "a list": (call(step, state, [*grads.values()]), ("grads must be a dict, got a list: write {'w': ..., 'b'",)),
        "with the loss": (call(step, state, (1.0, grads)), ("write grads[1]", "value_and_grad")),
        "a function": (call(step, state, lambda p: p), ("call it with the parameters",)),
        "None": (call(step, state, None), ("grads must be a dict, got None",)),
        "a key lacks": (call(step, state, {"w": grads["w"]}), ("grads['b'] is missing",)),
        "a number": (call(step, state, {**grads, "b": 1.0}), ("grads['b']", "as", "(1.0)")),
        "integers": (call(step, state, {**grads, "b": backend.array([1], "int32")}), ("grads['b']", "int32", "float")),
        "a column": (
            call(step, state, {**grads, "w": backend.array([[1.0], [1.0], [1.0]])}),
            ("grads['w']", "shape (3,), got (3, 1): write x.reshape((3,))"),
        ),
        "another method": (call(aa.adam_step, state, grads), ("one of AdaMod", "write step(state, grads)")),
        "a slot": (lambda: state.m, ("write state.slots['m']",)),
        "a field": (call(setattr, state, "lr", 0.1), ("write state = state.replace(lr=...)",)),
    }
    assert_said(mistakes)
    assert bits(backend, state) == before
    after = step(state, grads, donate=True)
    assert after.step == 1
    if backend.name in ("numpy", "torch", "jax", "cupy"):
        assert_said({"spent": (call(step, state, grads), ("donated to step 1", "state = step(state, ...)"))})


def test_the_rate_of_the_next_step(backend: Backend) -> None:
    params = {"layers": [parameters(backend), backend.array([1.0])], "none": None}
    grads = {"layers": [parameters(backend), backend.array([1.0])], "none": None}
    warmup = 0.1 * schedules.linear_warmup(4)
    assert aa.adam_init(params, lr=0.25).learning_rate() == 0.25
    assert aa.adam_init(params, lr=np.float32(0.25)).learning_rate() == 0.25
    state = aa.adam_init(params, lr=warmup)
    for t in (1, 2, 3):
        assert state.learning_rate() == warmup(t)
        expected = step(state, grads, lr=state.learning_rate())
        state = step(state, grads)
        assert_same(backend, state.params, expected.params)
    prefix = {"layers": [{"w": 0.5, "b": warmup}, 0.1], "none": None}
    for whole, rates in ((prefix, prefix), ({"layers": 0.5, "none": 0.5}, {"layers": 0.5, "none": None})):
        state = aa.adam_init(params, lr=whole)
        expected_rates = {**rates, "layers": rates["layers"]}
        if isinstance(rates["layers"], list):
            expected_rates["layers"] = [{"w": 0.5, "b": warmup(1)}, 0.1]
        for each in (state, pickle.loads(pickle.dumps(state)), dataclasses.replace(state, lr=whole)):
            assert each.learning_rate() == expected_rates
        spent = aa.adam_init(params, lr=whole)
        step(spent, grads)
        assert spent.learning_rate() == expected_rates
    bare = aa.adam_init(backend.array([1.0]), lr=warmup)
    assert bare.learning_rate() == warmup(1)


def test_repr_shows_rates_by_branch(backend: Backend) -> None:
    params = {"body": [*parameters(backend).values()], "head": backend.array([1.0])}
    state = aa.adam_init(params, lr={"body": 0.1, "head": 1.0})
    assert "lr={'body': 0.1, 'head': 1.0}" in repr(state)
    methods = init({"body": aa.Adam(beta1=0.5), "head": aa.Adam()}, state.params, weight_decay={"body": 0.5, "head": 0})
    assert "State({'body': Adam(beta1=0.5" in repr(methods)
    assert "weight_decay={'body': 0.5, 'head': 0.0}" in repr(methods)


@pytest.mark.only("numpy")
def test_a_step_without_gradients_is_silent_where_it_is_meant(backend: Backend) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        step(aa.adamod_init(parameters(backend)), {"w": None, "b": None})
