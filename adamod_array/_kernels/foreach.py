"""PyTorch: a rule's straight line over lists of tensors, every operation once for all leaves.

One text, written from the traced rule, is either run as it stands, where ``torch._foreach_*``
launches few kernels for many tensors, or given to ``torch.compile``, which fuses it.
"""

from __future__ import annotations

import functools
import importlib.util
import math
import sys
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from adamod_array._check import overlapping
from adamod_array._kernels import Result, Work
from adamod_array._kernels.trace import Line, trace
from adamod_array._method import Method
from adamod_array._namespace import COMPUTE_DTYPE, REAL_DTYPE, dtype_name

_LISTS = ("add", "sub", "mul", "div", "minimum", "maximum", "neg", "sqrt", "exp", "abs")
"""What PyTorch has for lists; the rest goes tensor by tensor."""
_COMMUTE = ("add", "mul", "minimum", "maximum")


def source(line: Line) -> str:
    """Two functions: ``prepare`` does the arithmetic among scalars, ``step`` takes lists to new lists."""
    arrays = [name for name, _ in line.arrays]
    scalars = [*line.scalars]
    prepare, body = [], []
    for x in line.operations:
        statement = f"{x.result} = {x.name}({', '.join(map(str, x.operands))})"
        if all(operand in scalars or isinstance(operand, float) for operand in x.operands):
            scalars.append(x.result)
            prepare.append(statement)
        else:
            body.append(([operand for operand in x.operands if operand not in scalars], x.result, statement))
    last = {operand: i for i, (operands, _, _) in enumerate(body) for operand in operands}
    temporaries = {result for _, result, _ in body} - {*line.outputs}
    statements = []
    for i, (operands, _, statement) in enumerate(body):
        statements.append(statement)
        if dead := [x for x in dict.fromkeys(operands) if x in temporaries and last[x] == i]:
            statements.append(f"del {', '.join(dead)}")
    outputs = [
        f"copy({x})" if passed or x in line.outputs[:i] else str(x)
        for i, (x, passed) in enumerate(zip(line.outputs, line.passed_on, strict=True))
    ]
    every = ", ".join(scalars) + ","
    return "\n".join(
        [
            f"def prepare({', '.join(line.scalars)}):",
            *(f"    {each}" for each in prepare),
            f"    return {every}",
            "",
            f"def step(scalars, {', '.join(arrays)}):",
            f"    {every} = scalars",
            f"    old = {', '.join(arrays[1:])},",
            "    g, p = cast(g), cast(p)",
            *(f"    {each}" for each in statements),
            f"    return finish(old, ({', '.join(outputs)},))",
            "",
        ]
    )


def _is_list(x: Any) -> bool:
    return isinstance(x, (list, tuple))


def _operation(name: str, real: Any) -> Callable[..., Any]:
    """The operation on any mix of lists of tensors, tensors of no dimensions, and numbers.

    A number takes part as a tensor of dtype ``real`` where PyTorch has no form of the operation for it.
    """
    torch = sys.modules["torch"]
    one = getattr(torch, name)
    many = getattr(torch, f"_foreach_{name}") if name in _LISTS else None

    def tensor(x: Any) -> Any:
        return torch.tensor(x, dtype=real, device="cpu") if isinstance(x, float) else x

    def apply(*operands: Any) -> Any:
        lists = [x for x in operands if _is_list(x)]
        if not lists:
            return one(*map(tensor, operands))
        if name == "where" and isinstance(operands[0], bool):
            return _like(lists[0], operands[1 if operands[0] else 2])
        if many is not None:
            if name in _COMMUTE and not _is_list(operands[0]):
                operands = operands[::-1]
            if _is_list(operands[0]) and all(_is_list(x) or isinstance(x, float) for x in operands[1:]):
                return many(*operands)
        full = [x if _is_list(x) else [tensor(x)] * len(lists[0]) for x in operands]
        return many(*full) if many is not None else [one(*each) for each in zip(*full, strict=True)]

    return apply


def _like(old: Any, new: Any) -> Any:
    """A number, in every place of a list of tensors; a list as it is."""
    return new if _is_list(new) else [sys.modules["torch"].full_like(x, new) for x in old]


def _copy(x: Any) -> Any:
    return [each.clone() for each in x] if _is_list(x) else x


def _write(old: Any, new: Any) -> Any:
    for x, y in zip(old, new, strict=True):
        sys.modules["torch"]._foreach_copy_(x, _like(x, y))
    return old


def _fresh(old: Any, new: Any) -> Any:
    return [_cast(_like(x, y), x[0].dtype) for x, y in zip(old, new, strict=True)]


def _cast(xs: Any, dtype: Any) -> Any:
    return [x if x.dtype == dtype else x.to(dtype) for x in xs]


def program(line: Line, compute: str, donate: bool) -> tuple[Callable[..., Any], Callable[..., Any]]:
    """``prepare`` and ``step`` of :func:`source`, as functions."""
    torch = sys.modules["torch"]
    dtype, real = getattr(torch, compute), getattr(torch, REAL_DTYPE.get(compute, compute))
    scope: dict[str, Any] = {x.name: _operation(x.name, real) for x in line.operations}
    scope |= {"inf": math.inf, "nan": math.nan, "copy": _copy, "finish": _write if donate else _fresh}
    scope["cast"] = functools.partial(_cast, dtype=dtype)
    exec(compile(source(line), "<a rule over lists of tensors>", "exec"), scope)
    return scope["prepare"], scope["step"]


@dataclass
class _Group:
    """Leaves of one device and one set of dtypes, stepped by one call."""

    leaves: list[int]
    compute: str
    prepare: Callable[..., Any]
    step: Callable[..., Any]
    fused: Callable[..., Any] | None
    tried: bool = False


@dataclass
class Plan:
    """How a tree is stepped, as long as arrays and gradients stay in layout."""

    donate: bool
    which: tuple[int, ...]
    decay: tuple[bool, ...]
    groups: list[_Group]
    apart: list[int] | None = None
    """Addresses of gradients that were seen to share no memory with what a donated step writes."""


def run(work: Work, donate: bool, *, fuse: bool) -> Result:
    """Step every leaf, in one call for each device and dtype; ``fuse`` them by torch.compile, where it can be."""
    decay = tuple([factor is not None for _, factor in work.pairs])
    plan: Plan = work.plan
    if plan is None or (plan.donate, plan.which, plan.decay) != (donate, work.which, decay):
        plan = work.plan = Plan(donate, work.which, decay, _groups(work, donate, fuse))
    grads = _apart(work, plan) if donate else work.grads
    params: list[Any] = [*work.params]
    slots: list[Any] = [*work.slots]
    for group in plan.groups:
        at = group.leaves
        arrays = [[grads[i] for i in at], [work.params[i] for i in at]]
        arrays += ([work.slots[i][k] for i in at] for k in range(len(work.method.slots)))
        new_params, *new_slots = _step(group, _scalars(work, group), arrays)
        for k, i in enumerate(at):
            params[i], slots[i] = new_params[k], [slot[k] for slot in new_slots]
    return params, slots


def _groups(work: Work, donate: bool, fuse: bool) -> list[_Group]:
    leaves: dict[Any, list[int]] = {}
    for i, (p, g, which) in enumerate(zip(work.params, work.grads, work.which, strict=True)):
        key = p.device, dtype_name(p), g.dtype, work.pairs[which][1] is not None
        leaves.setdefault(key, []).append(i)
    groups = []
    for (device, storage, _, decay), at in leaves.items():
        compute = COMPUTE_DTYPE[storage]
        key = work.method, compute, decay, donate
        fused = None
        if fuse and compute not in REAL_DTYPE and not missing_compiler(device.type):
            arrays = [x for i in at for x in (work.grads[i], work.params[i], *work.slots[i])]
            fused = _fused(*key, tuple([work.which[i] for i in at]), tuple(map(work.kind.layout, arrays)))
        prepare, step = _program(*key)
        groups.append(_Group(at, compute, prepare, step, fused))
    return groups


def _apart(work: Work, plan: Plan) -> list[Any]:
    """The gradients, copied where they share memory with a tensor that may be written before they are read."""
    addresses = [g.data_ptr() for g in work.grads]
    if addresses == plan.apart:
        return work.grads
    written = [x for p, kept in zip(work.params, work.slots, strict=True) for x in (p, *kept)]
    clashes = overlapping(work.kind, work.grads, work.params, written)
    plan.apart = None if clashes else addresses
    return [g.clone() if i in clashes else g for i, g in enumerate(work.grads)]


def _scalars(work: Work, group: _Group) -> Any:
    """Rate, decay where there is one, and coefficients, rounded once; lists of them where leaves differ."""
    real = REAL_DTYPE.get(group.compute, group.compute)
    device = work.params[group.leaves[0]].device
    used = dict.fromkeys([work.which[i] for i in group.leaves])
    pairs = {which: [work.kind.scalar(x, real, device) for x in work.pairs[which] if x is not None] for which in used}
    if len(used) == 1:
        (pair,) = pairs.values()
    else:
        pair = [list(column) for column in zip(*(pairs[work.which[i]] for i in group.leaves), strict=True)]
    return group.prepare(*pair, *(work.kind.scalar(c, real, device) for c in work.c))


def _step(group: _Group, scalars: Any, arrays: list[Any]) -> Any:
    """The new parameters and slots."""
    if group.fused is not None:
        torch = sys.modules["torch"]
        try:
            if group.tried:
                return group.fused(scalars, *arrays)
            group.tried = True
            with warnings.catch_warnings():  # of PyTorch about PyTorch: it imports deprecated parts of its own
                warnings.simplefilter("ignore", DeprecationWarning)
                return group.fused(scalars, *arrays)
        except torch._dynamo.exc.TorchDynamoException as error:  # nothing has been written yet
            device = arrays[1][0].device.type
            _broken[device] = f"torch.compile failed: {' '.join(str(error).splitlines()[:2])}"
            message = f"adamod_array steps tensors on {device} without a compiler: {_broken[device]}"
            warnings.warn(message, RuntimeWarning, stacklevel=2)
            group.fused = None
    # a number of the host's goes into kernels as an argument; one on a device would have to be waited for
    numbers = [x.item() if not _is_list(x) and x.device.type == "cpu" else x for x in scalars]
    return group.step(numbers, *arrays)


@functools.lru_cache(maxsize=256)
def _program(method: Method, compute: str, decay: bool, donate: bool) -> Any:
    return program(trace(method, decay=decay, complex_parameter=compute in REAL_DTYPE), compute, donate)


_LIKE_IEEE = ("emulate_precision_casts", "eager_numerics.division_rounding", "eager_numerics.disable_ftz")
"""On a GPU: no contracted multiply-adds, divisions rounded correctly, denormals kept. The CPU's code is so anyway."""


@functools.lru_cache(maxsize=256)
def _fused(
    method: Method, compute: str, decay: bool, donate: bool, which: tuple[int, ...], layouts: tuple[Any, ...]
) -> Any:
    """``step`` compiled for one tree. PyTorch counts compilations by function and gives up after eight."""
    torch = sys.modules["torch"]
    _, step = program(trace(method, decay=decay), compute, donate)
    options = {name: True for name in _LIKE_IEEE if name in torch._inductor.list_options()}
    return torch.compile(step, fullgraph=True, dynamic=False, options=options)


_broken: dict[str, str] = {}
"""Devices that torch.compile failed for, and how."""


def missing_compiler(device: str) -> str:
    """Why torch.compile does not serve a kind of device here; nothing where it does."""
    return _broken.get(device) or _missing_compiler(device)


@functools.cache
def _missing_compiler(device: str) -> str:
    if device == "cpu":
        from torch._inductor import cpp_builder, exc

        try:
            cpp_builder.get_cpp_compiler()
        except (exc.InvalidCxxCompiler, RuntimeError) as error:
            return f"no C++ compiler: {str(error).partition(chr(10))[0]}"
        return ""
    if device in ("cuda", "xpu"):
        return "" if importlib.util.find_spec("triton") else "Triton is not installed"
    return f"torch.compile is not used on {device}"
