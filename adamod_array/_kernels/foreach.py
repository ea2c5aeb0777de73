"""PyTorch: leaves stepped together, as lists of tensors, by torch.compile or without a compiler.

A GPU's leaves are compiled all at once; the CPU's, where the compiler's time grows with the square
of their number and calls cost less, one flat leaf of any size.
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
from adamod_array._kernels.lists import is_list, program
from adamod_array._kernels.trace import trace
from adamod_array._method import Method
from adamod_array._namespace import COMPUTE_DTYPE, REAL_DTYPE, dtype_name

CHUNK = 1 << 16
"""Elements of the CPU's leaves that are stepped together: with the rule's temporaries they stay in its caches."""


@dataclass
class _Group:
    """Leaves of one device and one set of dtypes, stepped by one call."""

    leaves: list[int]
    compute: str
    prepare: Callable[..., Any]
    step: Callable[..., Any]
    fused: Callable[..., Any] | None
    """``step`` through torch.compile."""
    flat: bool
    """Whether ``fused`` takes leaves without their shape."""


@dataclass
class Plan:
    """How a tree is stepped, as long as arrays and gradients stay in layout."""

    donate: bool
    which: tuple[int, ...]
    decay: tuple[bool, ...]
    groups: list[_Group]
    apart: list[int] | None = None
    """Addresses of gradients that were seen to share no memory with what a donated step writes."""


def run(work: Work, donate: bool, *, fuse: float) -> Result:
    """Step every leaf, by torch.compile where it can: a GPU's, and the CPU's of at least ``fuse`` elements.

    An infinite ``fuse`` asks for no compiler at all.
    """
    decay = tuple([factor is not None for _, factor in work.pairs])
    plan: Plan = work.plan
    if plan is None or (plan.donate, plan.which, plan.decay) != (donate, work.which, decay):
        plan = work.plan = Plan(donate, work.which, decay, _groups(work, donate, fuse))
    grads = _apart(work, plan) if donate else work.grads
    params: list[Any] = [*work.params]
    slots: list[Any] = [*work.slots]
    scalars: dict[Any, Any] = {}
    for group in plan.groups:
        at = group.leaves
        key = group.prepare, group.compute, work.params[at[0]].device, tuple([work.which[i] for i in at])
        if key not in scalars:
            scalars[key] = _scalars(work, group)
        arrays = [[grads[i] for i in at], [work.params[i] for i in at]]
        arrays += ([work.slots[i][k] for i in at] for k in range(len(work.method.slots)))
        new_params, *new_slots = _step(group, scalars[key], arrays)
        if not donate:
            for k, i in enumerate(at):
                params[i], slots[i] = new_params[k], [slot[k] for slot in new_slots]
    return params, slots


def _groups(work: Work, donate: bool, fuse: float) -> list[_Group]:
    leaves: dict[Any, list[int]] = {}
    for i, (p, g, kept, which) in enumerate(zip(work.params, work.grads, work.slots, work.which, strict=True)):
        fused = p.dtype.is_floating_point and fuse < math.inf and not missing_compiler(p.device.type)
        if fused and p.device.type == "cpu":
            fused = p.numel() >= fuse and all(x.is_contiguous() for x in (p, g, *kept))
        leaves.setdefault((p.device, dtype_name(p), g.dtype, work.pairs[which][1] is not None, fused), []).append(i)
    groups = []
    for (device, storage, _, decay, fused), every in leaves.items():
        compute = COMPUTE_DTYPE[storage]
        key = work.method, compute, decay, donate
        prepare, step = _program(*key)
        on_host = device.type == "cpu"
        for at in _chunks(work, every, 0 if fused else CHUNK) if on_host else [every]:
            compiled = None
            if fused:
                arrays = [x for i in at for x in (work.grads[i], work.params[i], *work.slots[i])]
                alike = [x.dtype for x in arrays] if on_host else [*map(work.kind.layout, arrays)]
                rates = [] if on_host else [work.which[i] for i in at]
                compiled = _fused(*key, (*alike, *rates), dynamic=on_host)
            groups.append(_Group(at, compute, prepare, step, compiled, on_host))
    return groups


def _chunks(work: Work, leaves: list[int], size: int) -> list[list[int]]:
    """Neighbours of up to ``size`` elements together, at least a leaf each."""
    chunks: list[list[int]] = []
    room = 0
    for i in leaves:
        n = work.params[i].numel()
        if room <= 0 or n > room:
            chunks.append([])
            room = size
        chunks[-1].append(i)
        room -= n
    return chunks


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
            if not group.flat:
                return group.fused(scalars, *arrays)
            new = group.fused(scalars, *([_flat(x) for x in xs] for xs in arrays))
            return [
                [y.resize_(x.shape) for x, y in zip(*each, strict=True)] for each in zip(arrays[1:], new, strict=True)
            ]
        except torch._dynamo.exc.TorchDynamoException as error:  # nothing has been written yet
            device = arrays[1][0].device.type
            _broken[device] = f"torch.compile failed: {' '.join(str(error).splitlines()[:2])}"
            message = f"adamod_array steps tensors on {device} without a compiler: {_broken[device]}"
            warnings.warn(message, RuntimeWarning, stacklevel=2)
            group.fused = None
    # a number of the host's goes into kernels as an argument; one on a device would have to be waited for
    numbers = [x.item() if not is_list(x) and x.device.type == "cpu" else x for x in scalars]
    return group.step(numbers, *arrays)


def _flat(x: Any) -> Any:
    """The memory of a contiguous tensor without its shape; not as a view, whose base's shape would be compiled in."""
    flat = sys.modules["torch"].empty(0, dtype=x.dtype, device="cpu")
    return flat.set_(x.untyped_storage(), x.storage_offset(), (x.numel(),))


@functools.lru_cache(maxsize=256)
def _program(method: Method, compute: str, decay: bool, donate: bool) -> Any:
    return program(trace(method, decay=decay, complex_parameter=compute in REAL_DTYPE), compute, donate)


_LIKE_IEEE = ("emulate_precision_casts", "eager_numerics.division_rounding", "eager_numerics.disable_ftz")
"""On a GPU: no contracted multiply-adds, divisions rounded correctly, denormals kept. The CPU's code is so anyway."""


@functools.lru_cache(maxsize=256)
def _fused(method: Method, compute: str, decay: bool, donate: bool, arrays: Any, *, dynamic: bool) -> Any:
    """A function of its own for these arrays: PyTorch counts a function's compilations and gives up after eight."""
    torch = sys.modules["torch"]
    _, step = program(trace(method, decay=decay), compute, donate)
    options = {name: True for name in _LIKE_IEEE if name in torch._inductor.list_options()}
    compiled = torch.compile(step, fullgraph=True, dynamic=dynamic, options=options)
    tried = False

    def call(*args: Any) -> Any:
        nonlocal tried
        if tried:
            return compiled(*args)
        tried = True
        with warnings.catch_warnings():  # of PyTorch about PyTorch: it imports deprecated parts of its own
            warnings.simplefilter("ignore", DeprecationWarning)
            return compiled(*args)

    return call


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
