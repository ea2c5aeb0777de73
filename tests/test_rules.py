"""What a rule's text may contain, so that every engine and compiler can take it: DESIGN's short list."""

from __future__ import annotations

import ast
import dataclasses
import inspect
import textwrap
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from adamod_array import Adam, AdaMod, DiffGrad, DiffMod, Method, Momentum, RAdam, host_math
from adamod_array._namespace import namespace_of
from adamod_array._program.trace import trace
from tests.backend import Backend
from tests.compare import assert_close
from tests.trees import METHODS, values

CLASSES = (Adam, AdaMod, RAdam, Momentum, DiffGrad, DiffMod)
ELEMENTWISE = {"sqrt", "minimum", "maximum", "where", "abs", "exp"}
OF_ABS_SQ = {"isdtype", "real", "imag"}
SCALAR = {"exp", "expm1", "log", "sqrt", "minimum", "maximum", "where"}

methods = pytest.mark.parametrize("method", METHODS.values(), ids=METHODS)


class Only:
    """A namespace that has some of another's functions and refuses the rest."""

    def __init__(self, xp: Any, names: set[str]) -> None:
        self._xp, self._names = xp, names

    def __getattr__(self, name: str) -> Any:
        assert name in self._names, f"{name} is not on the list"
        return getattr(self._xp, name)


@methods
def test_a_rule_needs_elementwise_functions_alone(backend: Backend, method: Method) -> None:
    """Run as written, with real and with complex numbers."""
    c = method.coefficients(7, host_math)
    for dtype in ("float32", "complex64"):
        p, g = backend.array(values(4), dtype), backend.array(values(4, seed=1), dtype)
        kind = namespace_of(p)
        assert kind is not None
        xp = Only(kind.xp, ELEMENTWISE | OF_ABS_SQ)
        slots = [backend.array(np.zeros(4), dtype if name in ("m", "g_last") else "float32") for name in method.slots]
        lr, *scalars = (kind.scalar(x, "float32", kind.device(p)) for x in (0.1, *c))
        new = method.rule(xp, lr, tuple(scalars), g, p, *slots)
        assert len(new) == 1 + len(slots)
        for old, result in zip((p, *slots), new, strict=True):
            assert result.dtype == old.dtype
            assert result.shape == old.shape
        assert np.isfinite(backend.numpy(new[0])).all()


@methods
def test_coefficients_need_scalar_functions_alone(backend: Backend, method: Method) -> None:
    math = Only(host_math, SCALAR)
    for t in (1, 2, 5, 6, 1000):
        c = method.coefficients(float(t), math)
        assert all(isinstance(x, float) for x in c)
        array = method.coefficients(backend.array(float(t), "float64"), Only(backend_namespace(backend), SCALAR))
        for x, y in zip(c, array, strict=True):
            # the C library's expm1 and the framework's: a unit or two each, and RAdam takes twenty operations
            y = y if isinstance(y, float) else backend.numpy(y)
            assert_close(np.asarray(y, np.float64), np.float64(x), ulp=32)


def backend_namespace(backend: Backend) -> Any:
    """The namespace that the package uses for these arrays."""
    kind = namespace_of(backend.array(0.0))
    assert kind is not None
    return kind.xp


# coefficients and rates meet arrays only


class Scalar:
    """A coefficient that refuses to meet a literal or another coefficient, except to be compared."""

    __array_ufunc__ = None

    def __init__(self, value: float) -> None:
        self.value = value

    def _meet(self, other: Any) -> float:
        assert isinstance(other, np.ndarray), f"a coefficient meets {other!r}: that belongs in coefficients()"
        return self.value

    def __add__(self, other: Any) -> Any:
        return self._meet(other) + other

    def __sub__(self, other: Any) -> Any:
        return self._meet(other) - other

    def __rsub__(self, other: Any) -> Any:
        return other - self._meet(other)

    def __mul__(self, other: Any) -> Any:
        return self._meet(other) * other

    def __truediv__(self, other: Any) -> Any:
        return self._meet(other) / other

    def __gt__(self, other: Any) -> Any:
        return self.value > other

    __radd__, __rmul__ = __add__, __mul__


@methods
def test_coefficients_meet_arrays_alone(method: Method) -> None:
    """An array is never divided by one either (Scalar has no __rtruediv__): compilers rewrite x/c."""
    g, p = values(4), values(4, seed=1)
    c = method.coefficients(7, host_math)
    slots = [np.zeros(4) for _ in method.slots]
    with_scalars = method.rule(np, Scalar(0.1), tuple(Scalar(x) for x in c), g, p, *slots)
    for a, b in zip(with_scalars, method.rule(np, 0.1, c, g, p, *slots), strict=True):
        assert_close(a, b)


# the text


def text_of(function: Any) -> ast.FunctionDef:
    """The syntax tree of a function, without its docstring."""
    (tree,) = ast.parse(textwrap.dedent(inspect.getsource(function))).body
    assert isinstance(tree, ast.FunctionDef)
    return tree


SHARED = {"_eta", "_bounded", "_r"}
"""The lines that a rule shares with ``rates``."""

TEXTS = [
    text for cls in CLASSES for name, text in vars(cls).items() if name in {"rule", "coefficients", "rates", *SHARED}
]
texts = pytest.mark.parametrize("function", TEXTS, ids=lambda f: f.__qualname__)

ALLOWED = (
    ast.FunctionDef, ast.arguments, ast.arg, ast.Expr, ast.Constant, ast.Assign, ast.Return, ast.If, ast.Assert,
    ast.Name, ast.Load, ast.Store, ast.Attribute, ast.Subscript, ast.Tuple, ast.List, ast.Starred, ast.Call, ast.IfExp,
    ast.BinOp, ast.Add, ast.Sub, ast.Mult, ast.Div, ast.UnaryOp, ast.USub,
    ast.Slice, ast.Compare, ast.Eq, ast.Gt, ast.GtE, ast.Lt, ast.LtE, ast.IsNot, ast.BoolOp, ast.And, ast.Or, ast.Not,
)  # fmt: skip
"""Assignments and arithmetic: no loop, no in-place operator, no lambda, nothing imported, nothing deleted."""


@texts
def test_only_assignments_and_arithmetic(function: Any) -> None:
    for node in ast.walk(text_of(function)):
        assert isinstance(node, ALLOWED), f"line {getattr(node, 'lineno', '?')}: {type(node).__name__}"
        if isinstance(node, ast.Assign):
            for target in node.targets:
                assert not isinstance(target, (ast.Subscript, ast.Attribute)), (
                    f"line {node.lineno} writes into something"
                )


@texts
def test_attributes_are_functions_or_hyperparameters(function: Any) -> None:
    """No dtype, no shape, no method of an array."""
    fields = {name for cls in CLASSES for name in cls.__dataclass_fields__}
    allowed = {"self": fields | SHARED, "xp": ELEMENTWISE, "math": SCALAR}
    for node in ast.walk(text_of(function)):
        if isinstance(node, ast.Attribute):
            assert isinstance(node.value, ast.Name), f"line {node.lineno}: an attribute of an expression"
            assert node.attr in allowed.get(node.value.id, ()), f"line {node.lineno}: {node.value.id}.{node.attr}"


@pytest.mark.parametrize("cls", CLASSES)
def test_a_rule_calls_the_namespace_and_shared_formulas(cls: type[Method]) -> None:
    for node in ast.walk(text_of(cls.rule)):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            formulas = {"abs_sq", "corrected_update", "friction"}
            assert node.func.id in formulas, f"line {node.lineno} calls {node.func.id}"


@texts
def test_if_looks_at_hyperparameters_only(function: Any) -> None:
    for node in ast.walk(text_of(function)):
        if isinstance(node, (ast.If, ast.IfExp, ast.Assert)):
            names = {n.id for n in ast.walk(node.test) if isinstance(n, ast.Name)}
            assert names == {"self"}, f"line {node.lineno} looks at {names}"


@pytest.mark.parametrize("cls", CLASSES)
def test_coefficients_and_rule_are_the_only_text(cls: type[Method]) -> None:
    (tree,) = ast.parse(textwrap.dedent(inspect.getsource(cls))).body
    defined = {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)}
    assert defined <= {"__post_init__", "slots", "coefficients", "rule", "rates", *SHARED}
    assert {"rule", "rates"} <= defined


@pytest.mark.parametrize("cls", CLASSES)
def test_rates_are_made_of_what_the_rule_is_made_of(cls: type[Method]) -> None:
    """No formula of their own: they call lines that the rule calls too, and correct an average or take the rate in."""

    def shared(function: Any) -> set[str]:
        return {n.attr for n in ast.walk(text_of(function)) if isinstance(n, ast.Attribute)} & SHARED

    rates = text_of(cls.rates)
    assert shared(cls.rates) == shared(cls.rule) == SHARED & set(vars(cls))
    for node in ast.walk(rates):
        assert not (isinstance(node, ast.BinOp) and not isinstance(node.op, ast.Mult)), f"line {node.lineno}"
        if isinstance(node, ast.Attribute):
            assert not isinstance(node.value, ast.Name) or node.value.id != "xp", f"line {node.lineno}"


def test_the_lists_bite() -> None:
    """A rule with a function that is not listed is caught, and so is arithmetic among scalars."""
    with pytest.raises(AssertionError, match="tanh is not on the list"):
        Only(np, ELEMENTWISE).tanh(1.0)
    with pytest.raises(AssertionError, match="belongs in coefficients"):
        Scalar(1.0) * 2.0
    with pytest.raises(AssertionError, match="belongs in coefficients"):
        Scalar(1.0) * Scalar(2.0)
    with pytest.raises(TypeError):
        values(2) / Scalar(2.0)
    assert Only(SimpleNamespace(sqrt=abs), {"sqrt"}).sqrt(-1) == 1


@pytest.mark.only("numpy")
def test_which_rules_move_a_parameter_by_what_does_not_depend_on_it() -> None:
    for method in METHODS.values():
        for complex_parameter in (False, True):
            assert trace(method, complex_parameter=complex_parameter).translates, method
        assert not trace(method, decay=True).translates, method

    @dataclasses.dataclass(frozen=True)
    class Rule(Method):
        slots = ("m",)
        text: str = ""

        def rule(self, xp: Any, lr: Any, c: Any, g: Any, p: Any, m: Any) -> tuple[Any, ...]:
            new: tuple[Any, ...] = eval(self.text, {"xp": xp, "lr": lr, "g": g, "p": p, "m": m})
            return new

    for text in ("p - lr * g, m", "p + g, g", "g + p, m", "p, g", "p - m, m + g"):
        assert trace(Rule(text)).translates, text
    for text in (
        "lr * g - p, m",
        "p - lr * g, p",
        "p - lr * p, m",
        "p + p, m",
        "p * g, m",
        "g, m",
        "p - g - m, m",
        "p - g, (p - g) * m",
        "p - g, p - g",
        "p, p * g",
        "p, p",
        "xp.maximum(p, g), m",
    ):
        assert not trace(Rule(text)).translates, text
