"""PyTorch: a rule's straight line as a program over lists of tensors, every operation once for all leaves.

It runs as it stands, where ``torch._foreach_*`` launches few kernels for many tensors, or is given
to ``torch.compile``, which fuses it.
"""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable
from typing import Any

from adamod_array._namespace import REAL_DTYPE
from adamod_array._program.trace import Program

_LISTS = ("add", "sub", "mul", "div", "minimum", "maximum", "neg", "sqrt", "exp", "abs")
"""What PyTorch has for lists; the rest goes tensor by tensor."""
_COMMUTE = ("add", "mul", "minimum", "maximum")


def source(program: Program) -> str:
    """Return two functions: ``prepare`` does the arithmetic among scalars, ``step`` takes lists to new lists."""
    arrays = [name for name, _ in program.arrays]
    casts = program.arrays  # a user may keep slots in another dtype
    scalars = [*program.scalars]
    prepare, body = [], []
    for x in program.operations:
        statement = f"{x.result} = {x.name}({', '.join(x.operands)})"
        if all(operand in scalars for operand in x.operands):
            scalars.append(x.result)
            prepare.append(statement)
        else:
            body.append(([operand for operand in x.operands if operand not in scalars], x.result, statement))
    last = {operand: i for i, (operands, _, _) in enumerate(body) for operand in operands}
    temporaries = {result for _, result, _ in body} - {*program.outputs}
    statements = []
    for i, (operands, _, statement) in enumerate(body):
        statements.append(statement)
        if dead := [x for x in dict.fromkeys(operands) if x in temporaries and last[x] == i]:
            statements.append(f"del {', '.join(dead)}")
    pairs = zip(program.outputs, program.aliases_input, strict=True)
    outputs = [f"copy({x})" if passed else x for x, passed in pairs]
    every = ", ".join(scalars) + ","
    lines = [
        f"def prepare({', '.join(program.scalars)}):",
        *(f"    {each}" for each in prepare),
        f"    return {every}",
        "",
        f"def step(scalars, {', '.join(arrays)}):",
        f"    {every} = scalars",
        *(f"    {name} = {'cast' if kind == 'complex' else 'cast_real'}({name})" for name, kind in casts),
        *(f"    {each}" for each in statements),
        f"    return {', '.join(outputs)},",
        "",
    ]
    return "\n".join(lines)


def is_list(x: Any) -> bool:
    return isinstance(x, (list, tuple))


def _operation(name: str, real: Any) -> Callable[..., Any]:
    """Return the operation on any mix of lists of tensors, 0-d tensors, and numbers.

    A number takes part as a tensor of dtype ``real`` where PyTorch has no form of the operation for it.
    """
    torch = sys.modules["torch"]
    one = getattr(torch, name)
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
    """Return ``prepare`` and ``step`` of :func:`source`, as functions; ``store`` takes what ``step`` returns.

    Their code is nobody else's: PyTorch counts how often code was compiled, and gives up after eight times.
    """
    torch = sys.modules["torch"]
    dtype, real = getattr(torch, compute), getattr(torch, REAL_DTYPE.get(compute, compute))
    scope: dict[str, Any] = {x.name: _operation(x.name, real) for x in program.operations}
    scope |= {"copy": _copy, "cast": functools.partial(_cast, dtype=dtype)}
    scope["cast_real"] = functools.partial(_cast, dtype=real)
    text = source(program)
    if store is not None:
        scope["store"] = store
        text += "\ndef stored(scalars, *arrays):\n    return store(arrays[1:], step(scalars, *arrays))\n"
    exec(compile(text, "<a rule over lists of tensors>", "exec"), scope)
    return scope["prepare"], scope["step" if store is None else "stored"]
