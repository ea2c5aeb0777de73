"""What a rule may return: an array, an input, a number, a scalar, a comparison; the same in every engine."""

from __future__ import annotations

import dataclasses
import functools
import itertools
import math
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
    "numbers on the left": method(lambda self, xp, lr, c, g, p, m: (2.0 - lr * g, 0.25 - (1.0 - g) * c[0]), "m"),
    "zeros of both signs": method(
        lambda self, xp, lr, c, g, p, m, n, o: (
            p - lr * g,
            *(xp.where(g > 0, 0.0 * lr, -0.0), xp.where(g > 0, -0.0, 0.0 * lr), -0.0),
        ),
        *("m", "n", "o"),
    ),
    "zeros of either sign beside an array": method(
        lambda self, xp, lr, c, g, p, m, n: (p - lr * g, xp.where(g > 0, g, 0.0), xp.where(g > 0, g, -0.0)), "m", "n"
    ),
    "comparisons of equal numbers": method(
        lambda self, xp, lr, c, g, p, m: (
            p - lr * g,
            xp.where(g < g, 1.0, 0.0 * lr)
            + xp.where(g <= g, 2.0, 0.0 * lr)
            + xp.where(g > g, 4.0, 0.0 * lr)
            + xp.where(g >= g, 8.0, 0.0 * lr)
            + xp.where(g == g, 16.0, 0.0 * lr)
            + xp.where(g != g, 32.0, 0.0 * lr),
        ),
        "m",
    ),
    "names like those that are generated": method(
        lambda self, xp, lr, c, g, p, *s: (p - lr * g, *(x + k for k, x in enumerate(s, 1))),
        *("m", "m_new", "p", "g", "lr", "decay", "c0", "x0", "k0", "slot_0", "out_m", "in_m", "at_m"),
    ),
    "names that are no ASCII": method(lambda self, xp, lr, c, g, p, a, b: (p - lr * g, a + g, b + 1.0), "ß", "größe"),
}


def taken(backend: Backend, how: str, rule: Method, dtype: str, donate: bool) -> list[np.ndarray[Any, Any]]:
    shapes = {"matrix": (3, 4), "number": (), "nothing": (0, 2), "large": (70_000,)}
    params = {name: backend.array(values(*shape), dtype) for name, shape in shapes.items()}
    with engine(how):
        state = init(rule, params, lr={"matrix": 0.5, "number": 0.25, "nothing": 0.5, "large": 0.5})
        for seed in (1, 2, 3):
            grads = {name: backend.array(values(*shape, seed=seed), dtype) for name, shape in shapes.items()}
            state = step(state, grads, donate=donate)
    for p, *slots in zip(*(tree.values() for tree in (state.params, *state.slots.values())), strict=True):
        assert all(x.shape == p.shape for x in slots)
    return [backend.numpy(x) for tree in (state.params, *state.slots.values()) for x in tree.values()]


@pytest.mark.slow("torch", "jax", "dask", "cupy")
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
                    assert np.array_equal(np.signbit(actual), np.signbit(e))


PASSED_ON: dict[str, Method] = {
    **{name: RULES[name] for name in ("inputs, in other places", "one array twice", "the rate", "a number for a slot")},
    "one result twice": method(lambda self, xp, lr, c, g, p, m: (p - lr * g,) * 2, "m"),
    "the slot as it was": method(lambda self, xp, lr, c, g, p, m: (p - lr * g, m), "m"),
    "the parameter as it was": method(lambda self, xp, lr, c, g, p, m: (p, m + g), "m"),
    "a part of another result": method(
        lambda self, xp, lr, c, g, p, m: (
            new := p - lr * g,
            xp.real(new) if is_complex(xp, g) else new,
        ),
        "m",
    ),
    "parts of complex numbers": method(
        lambda self, xp, lr, c, g, p, m, n: (p - lr * g, *((xp.real(g), xp.imag(p)) if is_complex(xp, g) else (g, p))),
        *("m", "n"),
    ),
}


def is_complex(xp: Any, x: Any) -> bool:
    return bool(xp.isdtype(x.dtype, "complex floating"))


def span(backend: Backend, x: Any) -> tuple[int, int]:
    """First and last address of an array with gaps or without, whatever of it is used."""
    if backend.name == "torch":
        steps = [n * x.itemsize for n in x.stride()]
        low = x.data_ptr()
    else:
        steps, low = x.strides, (x.data.ptr if backend.name == "cupy" else x.ctypes.data)
    return low, low + sum((n - 1) * step for n, step in zip(x.shape, steps, strict=True)) + x.itemsize


@pytest.mark.slow("torch", "cupy")
@pytest.mark.only("numpy", "torch", "cupy")
@pytest.mark.parametrize("rule", PASSED_ON.values(), ids=PASSED_ON)
def test_every_result_is_memory_of_its_own(backend: Backend, rule: Method) -> None:
    """Neither a gradient's, nor an input's or another's, or a later change of one would be a change of the state."""
    for how in (backend.engine, *(["foreach"] if backend.name == "torch" else [])):
        for dtype in [x for x in ("float16", "float32", "complex64") if x in backend.table["dtypes"]]:
            for shape in ((), (5,), (70_000,)):
                for donate in (False, True):
                    state = init(rule, backend.array(values(*shape), dtype))
                    for seed in (1, 2, 3):
                        g = backend.array(values(*shape, seed=seed), dtype)
                        old = [] if donate else [state.params, *state.slots.values()]
                        with engine(how):
                            state = step(state, g, donate=donate)
                        new = [state.params, *state.slots.values()]
                        spans = sorted(span(backend, x) for x in (*new, g, *old))
                        assert [high - low for low, high in map(functools.partial(span, backend), new)] == [
                            math.prod(shape) * x.itemsize for x in new
                        ]
                        assert all(end <= start for (_, end), (start, _) in itertools.pairwise(spans))


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


@pytest.mark.parametrize("part", ["real", "imag"])
def test_no_parts_of_real_numbers(backend: Backend, part: str) -> None:
    """The standard has them for complex numbers alone; a rule for both asks first."""
    rule = method(lambda self, xp, lr, c, g, p: (p - lr * getattr(xp, part)(g),))
    with pytest.raises(TypeError, match=f"xp.{part} is of complex values alone"):
        init(rule, backend.array(values(3)))


@pytest.mark.parametrize("power", [3, 0.5, -1, 1, 0])
def test_no_powers_but_squares(backend: Backend, power: float) -> None:
    with pytest.raises(TypeError, match=r"Odd\.rule: .* square with \*\*2"):
        init(method(lambda self, xp, lr, c, g, p: (p - lr * g**power,)), backend.array([1.0]))


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
