"""What a rule may return: an array, an input, a number, a scalar, a comparison; the same in every engine."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from adamod_array import Method, engine, init, step
from tests.backend import Backend
from tests.compare import assert_close
from tests.trees import values

Rule = Callable[..., tuple[Any, ...]]


def method(rule: Rule, *slots: str) -> Method:
    """A method without hyperparameters; its one coefficient is 1/t."""

    def coefficients(self: Any, t: Any, math: Any) -> tuple[Any, ...]:
        return (1 / t,)

    fields = {"slots": slots, "rule": rule, "coefficients": coefficients}
    made: Method = dataclasses.make_dataclass("Odd", [], bases=(Method,), frozen=True, namespace=fields)()
    return made


RULES: dict[str, Method] = {
    "a number for a slot": method(lambda self, xp, lr, c, g, p, m: (p - lr * g, 0.0), "m"),
    "an int for a slot": method(lambda self, xp, lr, c, g, p, m: (p - lr * g, 3), "m"),
    "a number for the parameter": method(lambda self, xp, lr, c, g, p, m: (0.75, m + g), "m"),
    "nothing but numbers": method(lambda self, xp, lr, c, g, p, m: (1.5, -0.0), "m"),
    "the rate": method(lambda self, xp, lr, c, g, p, m: (p - lr * g, lr), "m"),
    "a coefficient": method(lambda self, xp, lr, c, g, p, m: (p - lr * g, c[0]), "m"),
    "arithmetic among scalars": method(lambda self, xp, lr, c, g, p, m: (p - lr * g, lr * 2.0 + c[0]), "m"),
    "a comparison": method(lambda self, xp, lr, c, g, p, m: (p - lr * g, xp.abs(g) > 0.5), "m"),
    "a comparison of scalars": method(lambda self, xp, lr, c, g, p, m: (p - lr * g, c[0] < 0.75), "m"),
    "inputs, in other places": method(lambda self, xp, lr, c, g, p, m, n: (p - lr * g, n, g), "m", "n"),
    "one array twice": method(lambda self, xp, lr, c, g, p, m, n: (p - lr * g, p, p), "m", "n"),
    "a constant beyond float32": method(lambda self, xp, lr, c, g, p, m: (p - lr * g, m + 1e300), "m"),
    "names like those that are generated": method(
        lambda self, xp, lr, c, g, p, *s: (p - lr * g, *(x + k for k, x in enumerate(s, 1))),
        *("m", "m_new", "p", "g", "lr", "decay", "c0", "x0", "k0", "slot_0", "out_m", "in_m", "at_m"),
    ),
    "names that are no ASCII": method(lambda self, xp, lr, c, g, p, a, b: (p - lr * g, a + g, b + 1.0), "ß", "größe"),
}


def taken(backend: Backend, how: str, rule: Method, dtype: str, donate: bool) -> list[np.ndarray[Any, Any]]:
    shapes = {"matrix": (3, 4), "number": (), "nothing": (0, 2), "large": (20_000,)}
    params = {name: backend.array(values(*shape), dtype) for name, shape in shapes.items()}
    with engine(how):
        state = init(rule, params, lr={"matrix": 0.5, "number": 0.25, "nothing": 0.5, "large": 0.5})
        for seed in (1, 2, 3):
            grads = {name: backend.array(values(*shape, seed=seed), dtype) for name, shape in shapes.items()}
            state = step(state, grads, donate=donate)
    for p, *slots in zip(*(tree.values() for tree in (state.params, *state.slots.values())), strict=True):
        assert all(x.shape == p.shape for x in slots)
    return [backend.numpy(x) for tree in (state.params, *state.slots.values()) for x in tree.values()]


@pytest.mark.filterwarnings("ignore:overflow encountered in cast:RuntimeWarning:dask")
@pytest.mark.parametrize("rule", RULES.values(), ids=RULES)
def test_whatever_a_rule_returns_is_spread_over_the_leaf(backend: Backend, rule: Method) -> None:
    engines = {backend.engine, *({"foreach"} if backend.name == "torch" else ())}
    for dtype in [x for x in ("float16", "float32", "float64") if x in backend.table["dtypes"]]:
        expected = taken(Backend("numpy", "cpu", "eager"), "eager", rule, dtype, donate=False)
        for how in engines:
            for donate in (False, True):
                for actual, e in zip(taken(backend, how, rule, dtype, donate), expected, strict=True):
                    assert actual.dtype == e.dtype
                    assert_close(actual, e)


@pytest.mark.parametrize("slots", [("m", "m"), ("\ufb01", "fi"), ("m", "\uff4d"), ("a", "b", "a")], ids=ascii)
def test_slots_of_one_name_are_refused(backend: Backend, slots: tuple[str, ...]) -> None:
    """The ligature of f and i, and a wide m, are fi and m to Python."""
    with pytest.raises(ValueError, match="slots must have different names"):
        method(lambda self, xp, lr, c, g, p, *s: (p, *s), *slots)


def test_slots_are_looked_at_where_a_class_of_its_own_does_not(backend: Backend) -> None:
    class Careless(Method):
        slots = ("m", "m")

        def __post_init__(self) -> None:
            """Not the base class's."""

        def rule(self, xp: Any, lr: Any, c: Any, g: Any, p: Any, *slots: Any) -> tuple[Any, ...]:
            return p, *slots

    with pytest.raises(ValueError, match="slots must have different names"):
        init(Careless(), backend.array([1.0]))


ARITHMETIC: dict[str, Rule] = {
    "times": lambda self, xp, lr, c, g, p: (p - lr * (g > 0),),
    "minus": lambda self, xp, lr, c, g, p: (-(g > 0),),
    "branch": lambda self, xp, lr, c, g, p: (p - xp.where(g > 0, p > 0, g),),
    "root": lambda self, xp, lr, c, g, p: (p - xp.sqrt(g > 0),),
}


@pytest.mark.parametrize("rule", ARITHMETIC.values(), ids=ARITHMETIC)
def test_no_arithmetic_with_comparisons(backend: Backend, rule: Rule) -> None:
    """float64 in NumPy, an error in the standard: each framework has another answer."""
    with pytest.raises(TypeError, match=r"Odd\.rule: .* use xp\.where"):
        init(method(rule), backend.array([1.0]))
