"""A rule run once on symbols: the straight line of operations that every compiler is given."""

from __future__ import annotations

import copy
import dataclasses
import functools
import operator
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

from adamod_array._math import number
from adamod_array._method import Method, apply_rule

BINARY = ("add", "sub", "mul", "div", "minimum", "maximum")
UNARY = ("neg", "sqrt", "exp", "abs", "real", "imag")
COMPARISONS = ("lt", "le", "gt", "ge", "eq", "ne")
FUNCTIONS = ("sqrt", "minimum", "maximum", "where", "abs", "exp", "real", "imag")
"""What a rule may use of its namespace, beside arithmetic, comparisons and ``x**2``."""

Operand = str
"""The name of an array, a scalar or an earlier value."""


@dataclass(frozen=True)
class Operation:
    """``result = name(*operands)``."""

    result: str
    name: str
    operands: tuple[Operand, ...]
    domain: str
    """"real", "complex" or "bool"."""


@dataclass(frozen=True)
class Program:
    """A rule as a straight line: equal subexpressions shared, dead ones gone.

    Its constants are scalars, so that methods which differ in them alone have one Program.
    """

    scalars: tuple[str, ...]
    """``lr``, ``decay`` where there is one, the coefficients ``c0``, ``c1``, ..., and the constants ``k0``, ..."""
    arrays: tuple[tuple[str, str], ...]
    """``g``, ``p`` and the slots (``slot_0``, ...: a user's names cannot meet generated ones), each with its domain."""
    operations: tuple[Operation, ...]
    outputs: tuple[Operand, ...]
    """The new ``p`` and slots."""

    @functools.cached_property
    def aliases_input(self) -> tuple[bool, ...]:
        """Return which outputs are an input, an earlier output, or part of one, under another name."""
        inputs = {name for name, _ in self.arrays}
        parts: set[Operand] = set(inputs)
        for operation in self.operations:
            if operation.name in ("real", "imag") and operation.operands[0] in {*parts, *self.outputs}:
                parts.add(operation.result)
        pairs = enumerate(self.outputs)
        return tuple([x in parts or (isinstance(x, str) and x in self.outputs[:i]) for i, x in pairs])


class _Recorder:
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
        origin = x.origin if isinstance(x, _Hyperparameter) else _literal(x)
        self.constants[origin] = float(x)
        return origin


def _literal(x: float) -> str:
    return f"={float(x)!r}"  # 0.0 and -0.0 are two constants


class _Hyperparameter(float):
    """A number that remembers which hyperparameters it is made of, and how."""

    origin: str

    def __new__(cls, value: float, origin: str) -> _Hyperparameter:
        self = super().__new__(cls, value)
        self.origin = origin
        return self

    def __neg__(self) -> _Hyperparameter:
        return _Hyperparameter(-float(self), f"(-{self.origin})")

    def __reduce__(self) -> Any:
        return float, (float(self),)


def _folded(sign: str, function: Callable[[float, float], float], *, swapped: bool = False) -> Any:
    def method(self: _Hyperparameter, other: Any) -> Any:
        if isinstance(other, bool) or not isinstance(other, (int, float)):
            return NotImplemented
        pair = (other, self) if swapped else (self, other)
        a, b = (x.origin if isinstance(x, _Hyperparameter) else _literal(x) for x in pair)
        return _Hyperparameter(function(float(pair[0]), float(pair[1])), f"({a} {sign} {b})")

    return method


for _name, _sign in (("add", "+"), ("sub", "-"), ("mul", "*"), ("truediv", "/")):
    _function = getattr(operator, _name)
    setattr(_Hyperparameter, f"__{_name}__", _folded(_sign, _function))
    setattr(_Hyperparameter, f"__r{_name}__", _folded(_sign, _function, swapped=True))


class Symbol:
    """A value of the rule that is not known yet. Python's operators record what they would have done."""

    def __array_ufunc__(self, ufunc: Any, *_: Any, **__: Any) -> Any:
        raise TypeError(f"a rule may use {', '.join(FUNCTIONS)} of its namespace xp, not numpy.{ufunc.__name__}")

    def __init__(self, recorder: _Recorder, name: str, domain: str) -> None:
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


def _namespace(recorder: _Recorder) -> _Namespace:
    functions = {name: functools.partial(recorder.apply, name) for name in FUNCTIONS}
    return _Namespace(**functions, isdtype=lambda dtype, domain: dtype == domain.removesuffix(" floating"))


def slot_is_complex(method: Method, k: int) -> bool:
    """Return whether a method's slot ``k`` is complex where the parameter is."""
    return trace(method, complex_parameter=True).arrays[2 + k][1] == "complex"


def trace(method: Method, *, decay: bool = False, complex_parameter: bool = False) -> Program:
    """Return the straight line of a method's rule, for real or complex parameters.

    Raises
    ------
    TypeError
        The rule uses something outside of :data:`FUNCTIONS`; the message names it.
    """
    return _trace(method, decay, complex_parameter)[0]


def constants(method: Method, *, decay: bool = False, complex_parameter: bool = False) -> tuple[float, ...]:
    """Return the constants of :func:`trace`, which end its scalars, in double precision."""
    return _trace(method, decay, complex_parameter)[1]


@functools.lru_cache(maxsize=1024)
def _trace(method: Method, decay: bool, complex_parameter: bool) -> tuple[Program, tuple[float, ...]]:
    domain = "complex" if complex_parameter else "real"
    slots = dict.fromkeys([f"slot_{i}" for i in range(len(method.slots))], "real")
    scalars = ("lr", *(["decay"] if decay else []), *(f"c{i}" for i in range(_coefficients(method))))
    remembering = _remembering(method)
    while True:  # a slot is complex where the rule makes it so, perhaps through another slot
        recorder = _Recorder(complex_parameter)
        arrays = {"g": domain, "p": domain, **slots}
        symbols = {name: Symbol(recorder, name, "real") for name in scalars}
        symbols |= {name: Symbol(recorder, name, arrays[name]) for name in arrays}
        try:
            new = apply_rule(
                remembering,
                _namespace(recorder),
                symbols["lr"],
                symbols.get("decay"),
                tuple(symbols[name] for name in scalars if name.startswith("c")),
                symbols["g"],
                symbols["p"],
                [symbols[name] for name in slots],
            )
            new = tuple([_as_number(recorder, x) for x in new])
            domains = [x.domain if isinstance(x, Symbol) else "real" for x in new]
            outputs = tuple(x.name if isinstance(x, Symbol) else recorder.constant("return", x) for x in new)
        except TypeError as error:
            raise TypeError(f"{type(method).__name__}.rule: {error}") from None
        found = dict(zip(slots, domains[1:], strict=True))
        if found == slots:
            operations = _live(tuple(recorder.operations.values()), outputs)
            return _numbered(Program(scalars, tuple(arrays.items()), operations, outputs), recorder.constants)
        slots = {name: "complex" if "complex" in (slots[name], found[name]) else "real" for name in slots}


def _remembering(method: Method) -> Method:
    """Return the method with hyperparameters that remember what they are."""
    twin = copy.copy(method)
    for field in dataclasses.fields(method):
        value = getattr(method, field.name)
        if type(value) is float:
            object.__setattr__(twin, field.name, _Hyperparameter(value, field.name))
    return twin


def _numbered(program: Program, values: Mapping[str, float]) -> tuple[Program, tuple[float, ...]]:
    """Return the program with its constants among the scalars, in the order of their use, and the constants."""
    names: dict[str, str] = {}
    for x in (*(y for each in program.operations for y in each.operands), *program.outputs):
        if x in values:
            names.setdefault(x, f"k{len(names)}")

    def named(operands: tuple[Operand, ...]) -> tuple[Operand, ...]:
        return tuple([names.get(x, x) for x in operands])

    operations = tuple([dataclasses.replace(x, operands=named(x.operands)) for x in program.operations])
    numbered = Program((*program.scalars, *names.values()), program.arrays, operations, named(program.outputs))
    return numbered, tuple([values[x] for x in names])


def _as_number(recorder: _Recorder, x: Any) -> Any:
    """Return a comparison as the numbers that are stored of it, 1 and 0; anything else as it is."""
    return recorder.apply("where", x, 1.0, 0.0) if isinstance(x, Symbol) and x.domain == "bool" else x


def _coefficients(method: Method) -> int:
    return len(method.coefficients(*number(1)))


def _live(operations: tuple[Operation, ...], outputs: tuple[Operand, ...]) -> tuple[Operation, ...]:
    """Return the operations that some output depends on."""
    needed = set(outputs)
    kept = []
    for operation in reversed(operations):
        if operation.result in needed:
            needed.update(operation.operands)
            kept.append(operation)
    return tuple(reversed(kept))
