"""A rule run once on symbols: its Program, and the constants of it."""

from __future__ import annotations

import copy
import dataclasses
import functools
from collections.abc import Mapping
from typing import Any

from adamod_array._math import number
from adamod_array._method import PARAMS, Method, apply_rule, chosen
from adamod_array._program.program import Operand, Operation, Program
from adamod_array._program.rounding import STEP, with_rounding
from adamod_array._program.symbols import Hyperparameter, Recorder, Symbol, namespace


def slot_is_complex(method: Method, k: int) -> bool:
    """Return whether a method's slot ``k`` is complex where the parameter is."""
    return trace(method, complex_parameter=True).arrays[2 + k][1] == "complex"


CLIP, OK = ("clip0", "clip1"), "ok"
"""Scalars that a step may have for all leaves: what gradients are multiplied by, and 1 where it is taken, 0 if not."""


def trace(
    method: Method,
    *,
    decay: bool = False,
    complex_parameter: bool = False,
    common: tuple[str, ...] = (),
    storage: str = "float32",
) -> Program:
    """Return the straight line of a method's rule, for real or complex parameters, which are stored in ``storage``.

    ``common`` are names of :data:`CLIP`, :data:`OK` and :data:`STEP`, in this order.

    Raises
    ------
    TypeError
        The rule uses something outside of :data:`FUNCTIONS`; the message names it.
    """
    program = _trace(method, decay, complex_parameter, common)[0]
    if not method.compact or not {*STEP} <= {*common} or complex_parameter:
        return program
    return _rounded(program, rounded_places(method, storage))


def rounded_places(method: Method, storage: str) -> tuple[int, ...]:
    """Return which outputs are rounded stochastically: slots, then the parameter, where that has bfloat16."""
    slots = tuple([k for k, name in enumerate(method.slots, 1) if name in method.compact])
    return (*slots, 0) if PARAMS in method.compact and storage == "bfloat16" else slots


_rounded = functools.lru_cache(maxsize=1024)(with_rounding)


def constants(method: Method, *, complex_parameter: bool = False, common: tuple[str, ...] = ()) -> tuple[float, ...]:
    """Return the constants of :func:`trace`, which end its scalars, in double precision: with decay, the same."""
    return _trace(method, False, complex_parameter, common)[1]


@functools.lru_cache(maxsize=1024)
def _trace(
    method: Method, decay: bool, complex_parameter: bool, common: tuple[str, ...]
) -> tuple[Program, tuple[float, ...]]:
    domain = "complex" if complex_parameter else "real"
    slots = dict.fromkeys([f"slot_{i}" for i in range(len(method.slots))], "real")
    coefficients = tuple([f"c{i}" for i in range(_coefficients(method))])
    scalars = ("lr", *(["decay"] if decay else []), *common, *coefficients)
    remembering = _remembering(method)
    while True:  # a slot is complex where the rule makes it so, perhaps through another slot
        recorder = Recorder(complex_parameter)
        arrays = {"g": domain, "p": domain, **slots}
        symbols = {name: Symbol(recorder, name, "real") for name in scalars}
        symbols |= {name: Symbol(recorder, name, arrays[name]) for name in arrays}
        try:
            new = apply_rule(
                remembering,
                namespace(recorder),
                symbols["lr"],
                symbols.get("decay"),
                tuple(symbols[name] for name in coefficients),
                symbols["g"],
                symbols["p"],
                [symbols[name] for name in slots],
                [symbols[name] for name in CLIP if name in common],
            )
            old = [symbols[name] for name in ("p", *slots)]
            new = tuple(chosen(namespace(recorder), symbols.get(OK), [_as_number(recorder, x) for x in new], old))
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
            object.__setattr__(twin, field.name, Hyperparameter(value, f"self.{field.name}"))  # no operand's name
    return twin


def _numbered(program: Program, values: Mapping[str, float]) -> tuple[Program, tuple[float, ...]]:
    """Return the program with its constants among the scalars, in the order of their use, and the constants."""
    names: dict[str, str] = {}
    for x in (*(y for each in program.operations for y in each.operands), *program.outputs):
        if x in values:
            names.setdefault(x, f"k{len(names)}")

    def named(operands: tuple[Operand, ...]) -> tuple[Operand, ...]:
        return tuple([names.get(x, x) for x in operands])

    operations = tuple([Operation(x.result, x.name, named(x.operands), x.domain) for x in program.operations])
    numbered = Program((*program.scalars, *names.values()), program.arrays, operations, named(program.outputs))
    return numbered, tuple([values[x] for x in names])


def _as_number(recorder: Recorder, x: Any) -> Any:
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
