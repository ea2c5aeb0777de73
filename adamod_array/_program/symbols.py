"""What a rule is given while it is traced: values that are not known yet, and record what is done to them."""

from __future__ import annotations

import functools
import operator
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

from adamod_array._program.program import COMPARISONS, Operand, Operation

FUNCTIONS = ("sqrt", "minimum", "maximum", "where", "abs", "exp", "real", "imag")
"""What a rule may use of its namespace, besides arithmetic, comparisons and ``x**2``."""


class Recorder:
    """Operations so far, each once."""

    def __init__(self, has_complex: bool) -> None:
        self.has_complex = has_complex
        self.operations: dict[tuple[str, tuple[str, ...]], Operation] = {}
        self.constants: dict[str, float] = {}
        """By what they are made of: "=0.5" of a number, "1.0 - beta1" of a hyperparameter."""

    def apply(self, name: str, *operands: Any) -> Symbol:
        domains = [x.domain for x in operands if isinstance(x, Symbol)]
        numbers = operands[1:] if name == "where" else operands
        if any(isinstance(x, Symbol) and x.domain == "bool" for x in numbers):
            raise TypeError(f"a rule computes with numbers: use xp.where(condition, a, b), not {name} of a comparison")
        if name in ("real", "imag") and not self.has_complex:
            raise TypeError(f'xp.{name} is of complex values alone: ask xp.isdtype(g.dtype, "complex floating") first')
        names = tuple(x.name if isinstance(x, Symbol) else self.constant(name, x) for x in operands)
        if name in COMPARISONS:
            domain = "bool"
        elif name in ("abs", "real", "imag"):
            domain = "real"
        else:
            domain = "complex" if "complex" in domains else "real"
        key = name, names
        if key not in self.operations:
            self.operations[key] = Operation(f"x{len(self.operations)}", name, names, domain)
        return Symbol(self, self.operations[key].result, domain)

    def constant(self, name: str, x: Any) -> Operand:
        """Return the name of a number: what it is made of, for two hyperparameters may be equal by chance."""
        if isinstance(x, (bool, complex)) or not isinstance(x, (int, float)):
            raise TypeError(f"a rule computes with its arrays, scalars and real numbers: {name} was given {x!r}")
        origin = x.origin if isinstance(x, Hyperparameter) else _literal(x)
        self.constants[origin] = float(x)
        return origin


def _literal(x: float) -> str:
    return f"={float(x)!r}"  # 0.0 and -0.0 are two constants


_LONGEST = 200
"""Characters of an origin; what is made in a longer way is known by its value, for squares double it each time."""


class Hyperparameter(float):
    """A number that remembers which hyperparameters it is made of, and how."""

    origin: str

    def __new__(cls, value: float, origin: str) -> Hyperparameter:
        self = super().__new__(cls, value)
        self.origin = origin
        return self

    def __neg__(self) -> Hyperparameter:
        return Hyperparameter(-float(self), f"(-{self.origin})")

    def __reduce__(self) -> Any:
        return float, (float(self),)


def _folded(sign: str, function: Callable[[float, float], float], *, swapped: bool = False) -> Any:
    def method(self: Hyperparameter, other: Any) -> Any:
        if isinstance(other, bool) or not isinstance(other, (int, float)):
            return NotImplemented
        pair = (other, self) if swapped else (self, other)
        a, b = (x.origin if isinstance(x, Hyperparameter) else _literal(x) for x in pair)
        value = function(float(pair[0]), float(pair[1]))
        if len(a) + len(b) > _LONGEST:
            return value
        return Hyperparameter(value, f"({a} {sign} {b})")

    return method


for _name, _sign in (("add", "+"), ("sub", "-"), ("mul", "*"), ("truediv", "/")):
    _function = getattr(operator, _name)
    setattr(Hyperparameter, f"__{_name}__", _folded(_sign, _function))
    setattr(Hyperparameter, f"__r{_name}__", _folded(_sign, _function, swapped=True))


class Symbol:
    """A value of the rule that is not known yet. Python's operators record what they would have done."""

    def __array_ufunc__(self, ufunc: Any, *_: Any, **__: Any) -> Any:
        raise TypeError(f"a rule may use {', '.join(FUNCTIONS)} of its namespace xp, not numpy.{ufunc.__name__}")

    def __init__(self, recorder: Recorder, name: str, domain: str) -> None:
        self._recorder, self.name, self.domain = recorder, name, domain

    @property
    def dtype(self) -> str:
        """Return what ``xp.isdtype`` asks for."""
        return self.domain

    def __pow__(self, exponent: Any) -> Symbol:
        if exponent != 2:
            raise TypeError(f"a rule may square with **2; **{exponent!r} is not the same in every framework")
        return self._recorder.apply("mul", self, self)

    def __neg__(self) -> Symbol:
        return self._recorder.apply("neg", self)

    def __abs__(self) -> Symbol:
        return self._recorder.apply("abs", self)

    def __bool__(self) -> bool:
        raise TypeError("a rule may not branch on an array or scalar with `if`: use xp.where")

    def __getattr__(self, name: str) -> Any:
        raise TypeError(f"a rule may not use .{name} of an array: it is elementwise, for any shape and dtype")


def _operator(name: str, *, swapped: bool = False) -> Callable[[Symbol, Any], Symbol]:
    def method(self: Symbol, other: Any) -> Symbol:
        return self._recorder.apply(name, *((other, self) if swapped else (self, other)))

    return method


for _name, _op in (("add", "add"), ("sub", "sub"), ("mul", "mul"), ("truediv", "div")):
    setattr(Symbol, f"__{_name}__", _operator(_op))
    setattr(Symbol, f"__r{_name}__", _operator(_op, swapped=True))
for _name in COMPARISONS:
    setattr(Symbol, f"__{_name}__", _operator(_name))


def _refused(sign: str) -> Callable[..., Any]:
    def method(self: Symbol, *_: Any) -> Any:
        raise TypeError(f"a rule may use + - * /, comparisons, abs and **2 of its values, not {sign}")

    return method


_REFUSED = ("floordiv", "mod", "matmul", "and", "or", "xor", "lshift", "rshift")
for _name, _sign in zip(_REFUSED, ("//", "%", "@", "&", "|", "^", "<<", ">>"), strict=True):
    setattr(Symbol, f"__{_name}__", _refused(_sign))
    setattr(Symbol, f"__r{_name}__", _refused(_sign))
for _name, _sign in (("rpow", "an array as an exponent"), ("invert", "~"), ("pos", "unary +"), ("float", "float()")):
    setattr(Symbol, f"__{_name}__", _refused(_sign))
for _name in ("getitem", "len", "iter"):
    setattr(Symbol, f"__{_name}__", _refused("indexing"))


class _Namespace(SimpleNamespace):
    """What a rule sees as ``xp`` while it is traced."""

    def __getattr__(self, name: str) -> Any:
        raise TypeError(f"a rule may use {', '.join(FUNCTIONS)} of its namespace, not xp.{name}")


def namespace(recorder: Recorder) -> _Namespace:
    functions = {name: functools.partial(recorder.apply, name) for name in FUNCTIONS}
    return _Namespace(**functions, isdtype=lambda dtype, domain: dtype == domain.removesuffix(" floating"))
