"""PyTorch: a rule's straight line as a program over lists of tensors, every operation once for all leaves.

It runs operation by operation, where ``torch._foreach_*`` launches few kernels for many tensors, or is given
to ``torch.compile``, which fuses it.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from types import FunctionType
from typing import Any

from adamod_array._engines.words import counted_by_torch as counted
from adamod_array._engines.words import table_of
from adamod_array._namespace import REAL_DTYPE
from adamod_array._program.program import INDEX, Program
from adamod_array._program.rounding import WORDS

_LISTS = ("add", "sub", "mul", "div", "minimum", "maximum", "neg", "sqrt", "exp", "abs")
"""What PyTorch has for lists; the rest goes tensor by tensor."""
_COMMUTE = ("add", "mul", "minimum", "maximum")

_Call = tuple[str, Callable[..., Any], tuple[str, ...]]
"""The name of a result, the operation, and the names of what it is given."""


def is_list(x: Any) -> bool:
    return isinstance(x, (list, tuple))


def _operation(name: str, real: Any) -> Callable[..., Any]:
    """Return the operation on any mix of lists of tensors, 0-d tensors, and numbers.

    A number takes part as a tensor of dtype ``real`` where PyTorch has no form of the operation for it.
    """
    torch = sys.modules["torch"]
    one = table_of("torch")[name] if name in WORDS else getattr(torch, name)
    many = getattr(torch, f"_foreach_{name}", None) if name in _LISTS else None  # no name of these is public

    def tensor(x: Any) -> Any:
        return torch.tensor(x, dtype=real, device="cpu") if isinstance(x, float) else x

    def apply(*operands: Any) -> Any:
        lists = [x for x in operands if is_list(x)]
        if not lists:
            return one(*map(tensor, operands))
        if name == "where" and isinstance(operands[0], bool):
            return _like(lists[0], operands[1 if operands[0] else 2])
        if many is not None:
            if name in _COMMUTE and not is_list(operands[0]):
                operands = operands[::-1]
            if is_list(operands[0]) and all(is_list(x) or isinstance(x, float) for x in operands[1:]):
                return many(*operands)
        full = [x if is_list(x) else [tensor(x)] * len(lists[0]) for x in operands]
        return many(*full) if many is not None else [one(*each) for each in zip(*full, strict=True)]

    return apply


def _like(old: Any, new: Any) -> Any:
    """Return a list of tensors in the shapes of others, from a number for each or for all, or tensors."""
    if isinstance(new, float):
        return [sys.modules["torch"].full_like(x, new) for x in old]
    pairs = zip(old, new if is_list(new) else [new] * len(old), strict=True)
    return [y if y.shape == x.shape else y.to(x.device).expand(x.shape).clone() for x, y in pairs]


def _copy(x: Any) -> Any:
    return [each.clone() for each in x] if is_list(x) else x


def write(old: Any, new: Any) -> Any:
    """Write the results of a step, one list an output, into the old tensors."""
    copy = getattr(sys.modules["torch"], "_foreach_copy_", None)
    for x, y in zip(old, new, strict=True):
        if copy is not None:
            copy(x, _like(x, y))
        else:
            for one, other in zip(x, _like(x, y), strict=True):
                one.copy_(other)
    return old


def fresh(old: Any, new: Any) -> Any:
    """Return the results of a step in the dtypes of the old tensors."""
    return [_cast(_like(x, y), x[0].dtype) for x, y in zip(old, new, strict=True)]


def _cast(xs: Any, dtype: Any) -> Any:
    return [x if x.dtype == dtype else x.to(dtype) for x in xs]


def functions(program: Program, compute: str, store: Callable[..., Any] | None = None) -> tuple[Any, Any]:
    """Return ``prepare``, which does the arithmetic among scalars, and ``step``, which takes lists to new lists.

    ``step`` is given the first counter of each leaf, too, for a program that rounds stochastically.
    ``store`` takes what ``step`` returns. The code of ``step`` is nobody else's: PyTorch counts how often code was
    compiled, and gives up after eight times.
    """
    torch = sys.modules["torch"]
    dtype, real = getattr(torch, compute), getattr(torch, REAL_DTYPE.get(compute, compute))
    scalars = [*program.scalars, *program.words]
    among_scalars: list[_Call] = []
    among_lists: list[_Call] = []
    for x in program.operations:
        if is_scalar := {*scalars}.issuperset(x.operands):
            scalars.append(x.result)
        (among_scalars if is_scalar else among_lists).append((x.result, _operation(x.name, real), x.operands))
    temporaries = {result for result, _, _ in among_lists}.difference(program.outputs)
    last = {operand: i for i, (_, _, operands) in enumerate(among_lists) for operand in operands}
    dead = [[x for x, k in last.items() if k == i and x in temporaries] for i in range(len(among_lists))]
    arrays = [(name, dtype if domain == "complex" else real) for name, domain in program.arrays]
    outputs = [*zip(program.outputs, program.aliases_input, strict=True)]

    def prepare(*given: Any) -> list[Any]:
        values = dict(zip(program.scalars, given, strict=True)) | program.words
        for result, operation, operands in among_scalars:
            values[result] = operation(*[values[x] for x in operands])
        return [*values.values()]

    def step(prepared: Sequence[Any], *given: Any, counters: Sequence[int] = ()) -> Any:
        values = dict(zip(scalars, prepared, strict=True))
        for (name, kind), xs in zip(arrays, given, strict=True):
            values[name] = _cast(xs, kind)  # a user may keep slots in another dtype
        if program.rounded:
            values[INDEX] = [*map(counted, counters, given[0])]
        for (result, operation, operands), gone in zip(among_lists, dead, strict=True):
            values[result] = operation(*[values[x] for x in operands])
            for x in gone:
                del values[x]
        new = [_copy(values[x]) if aliases else values[x] for x, aliases in outputs]
        return new if store is None else store(given[1:], new)

    return prepare, _with_code_of_its_own(step)


def _with_code_of_its_own(function: Any) -> Any:
    code = function.__code__
    twin = FunctionType(code.replace(), function.__globals__, code.co_name, None, function.__closure__)
    twin.__kwdefaults__ = function.__kwdefaults__
    return twin
