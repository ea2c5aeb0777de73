"""PyTorch: leaves stepped together, as lists of tensors, without a compiler or, where that is chosen, by torch.compile.

A GPU's leaves are compiled all at once; the CPU's, where the compiler's time grows with the square
of their number and calls cost less, one flat leaf of any size.
"""

from __future__ import annotations

import functools
import importlib.util
import sys
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from adamod_array._engines import Columns, StepInputs, put
from adamod_array._engines.eager import HELD, disjoint_unless
from adamod_array._engines.plan import Plan
from adamod_array._engines.torch_program import fresh, functions, write
from adamod_array._late import late
from adamod_array._namespace import COMPUTE_DTYPE, REAL_DTYPE, dtype_name
from adamod_array._program.program import Program
from adamod_array._scalars import Scalars

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
    counters: list[int]
    """The first of each leaf, where something is rounded stochastically."""
    flat: bool
    """Whether ``fused`` takes leaves without their shape."""


@dataclass(kw_only=True)
class ListsPlan(Plan):
    """How a tree is stepped, as long as arrays and gradients stay in layout; it knows no arrays again."""

    groups: list[_Group]
    disjoint: list[int] | None = None
    """Addresses of all tensors for which the overlap check passed; while they do not change it is skipped."""

    @staticmethod
    def key_of(scalars: Scalars, donate: bool) -> tuple[Any, ...]:
        return donate, scalars.rate_index, tuple([factor is not None for _, factor in scalars.rates]), scalars.names


def run(inputs: StepInputs, donate: bool, *, fuse: bool) -> Columns:
    """Step every leaf, by torch.compile where that is asked for and can be."""
    plan: ListsPlan = inputs.plan
    if plan is None or not plan.fits(inputs.scalars, donate):
        key = ListsPlan.key_of(inputs.scalars, donate)
        plan = inputs.plan = ListsPlan(key=key, groups=_groups(inputs, donate, fuse))
    grads = inputs.grads
    if donate:
        addresses = [x.data_ptr() for x in (*inputs.grads, *inputs.written)]
        grads, plan.disjoint = disjoint_unless(plan.disjoint, addresses, inputs)
    calls = _calls(inputs, plan, grads)
    if donate:
        _write(calls, inputs.claim)
        return inputs.columns
    leaf_indices: list[int] = []
    columns: Columns = [[] for _ in inputs.columns]
    for group, scalars, arrays in calls:
        old, new = arrays[1:], _computed(group, scalars, arrays)
        leaf_indices += group.leaves
        for xs, results in zip(columns, new if group.fused else fresh(old, new), strict=True):
            xs += results
    return put(columns, leaf_indices, inputs.columns)


def _calls(inputs: StepInputs, plan: ListsPlan, grads: list[Any]) -> list[tuple[_Group, Any, list[Any]]]:
    """Return the groups with their scalars, rounded once for all that share them, and with their arrays."""
    prepared: dict[Any, Any] = {}
    calls = []
    for group in plan.groups:
        at = group.leaves
        rates = tuple([inputs.scalars.rate_index[i] for i in at])
        key = group.prepare, group.compute, inputs.params[at[0]].device, rates
        if key not in prepared:
            prepared[key] = _prepared(inputs, group)
        calls.append((group, prepared[key], [[xs[i] for i in at] for xs in (grads, *inputs.columns)]))
    return calls


def _write(calls: list[tuple[_Group, Any, list[Any]]], claim: Callable[[], None]) -> None:
    """Compute what fits into little memory, claim the state, then write: what fails before that does no harm."""
    held: list[tuple[Any, Any]] = []
    room = HELD
    for group, scalars, arrays in calls:
        if group.fused is not None or room < 0:
            claim()
        old, new = arrays[1:], _computed(group, scalars, arrays)
        if group.fused is None:
            held.append((old, new))
            room -= sum(x.numel() for x in old[0])
        if room < 0:
            claim()
            while held:
                write(*held.pop())
    claim()
    for old, new in held:
        write(old, new)


def _groups(inputs: StepInputs, donate: bool, fuse: bool) -> list[_Group]:
    leaves: dict[Any, list[int]] = {}
    for i, (g, p, *slots) in enumerate(zip(inputs.grads, *inputs.columns, strict=True)):
        fused = p.dtype.is_floating_point and fuse and not missing_compiler(p.device.type)
        if fused and p.device.type == "cpu":
            fused = all(x.is_contiguous() for x in (p, g, *slots))
        dtypes = g.dtype, *(x.dtype for x in slots)  # which a user may keep in others
        leaves.setdefault((p.device, dtype_name(p), dtypes, inputs.scalars.decays(i), fused), []).append(i)
    groups = []
    for (device, storage, _, decay, fused), every in leaves.items():
        compute = COMPUTE_DTYPE[storage]
        program = inputs.program(decay=decay, complex_parameter=compute in REAL_DTYPE, storage=storage)
        prepare, step = _functions(program, compute)
        on_host = device.type == "cpu"
        for at in _chunks(inputs, every, 0 if fused else CHUNK) if on_host else [every]:
            compiled = None
            if fused:
                arrays = [xs[i] for i in at for xs in (inputs.grads, *inputs.columns)]
                alike = [x.dtype for x in arrays] if on_host else [*map(inputs.namespace.layout, arrays)]
                rates = [] if on_host else [inputs.scalars.rate_index[i] for i in at]
                compiled = _fused(program, compute, donate, (*alike, *rates), dynamic=on_host)
            counters = [] if inputs.scalars.counters is None else [inputs.scalars.counters[i] for i in at]
            groups.append(_Group(at, compute, prepare, step, compiled, counters, on_host))
    return groups


def _chunks(inputs: StepInputs, leaves: list[int], size: int) -> list[list[int]]:
    """Group neighbours of up to ``size`` elements together, at least a leaf each."""
    chunks: list[list[int]] = []
    room = 0
    for i in leaves:
        n = inputs.params[i].numel()
        if room <= 0 or n > room:
            chunks.append([])
            room = size
        chunks[-1].append(i)
        room -= n
    return chunks


def _prepared(inputs: StepInputs, group: _Group) -> Any:
    """Return the scalars of a group, rounded once; lists of them where leaves differ."""
    device, scalars = inputs.params[group.leaves[0]].device, inputs.scalars
    rows = [scalars.arguments(i, inputs.namespace, group.compute, device) for i in group.leaves]
    if all(row is rows[0] for row in rows):
        return group.prepare(*rows[0])
    columns = zip(*rows, strict=True)
    return group.prepare(*(xs[0] if all(x is xs[0] for x in xs) else [*xs] for xs in columns))


def _computed(group: _Group, scalars: Any, arrays: list[Any]) -> Any:
    """Return the new parameters and slots, in the compute dtype; what is compiled has them stored already."""
    named = {"counters": group.counters} if group.counters else {}
    if group.fused is not None:
        try:
            if not group.flat:
                return group.fused(scalars, *arrays, **named)
            new = group.fused(scalars, *([_flat(x) for x in xs] for xs in arrays), **named)
            return [
                [y.resize_(x.shape) for x, y in zip(*each, strict=True)] for each in zip(arrays[1:], new, strict=True)
            ]
        except _compiler_errors() as error:  # nothing has been written yet
            device = arrays[1][0].device.type
            _broken[device] = f"torch.compile failed: {' '.join(str(error).splitlines()[:2])}"
            message = f"adamod_array steps tensors on {device} without a compiler: {_broken[device]}"
            warnings.warn(message, RuntimeWarning, stacklevel=2)
            group.fused = None
    # a number of the host's goes into kernels as an argument; one on a device would have to be waited for
    numbers = [x.item() if hasattr(x, "item") and x.device.type == "cpu" else x for x in scalars]
    return group.step(numbers, *arrays, **named)


def _compiler_errors() -> tuple[type[Exception], ...]:
    """Return what torch.compile may raise: errors of its own, of a file system, of names that are gone."""
    errors = getattr(getattr(sys.modules["torch"], "_dynamo", None), "exc", None)
    return getattr(errors, "TorchDynamoException", ImportError), OSError, ImportError, AttributeError


def _flat(x: Any) -> Any:
    """Return a contiguous tensor's memory without its shape; not as a view, whose base's shape would be compiled in."""
    flat = sys.modules["torch"].empty(0, dtype=x.dtype, device="cpu")
    return flat.set_(x.untyped_storage(), x.storage_offset(), (x.numel(),))


_functions = functools.lru_cache(maxsize=256)(functions)

_LIKE_IEEE = ("emulate_precision_casts", "eager_numerics.division_rounding", "eager_numerics.disable_ftz")
"""On a GPU: no contracted multiply-adds, divisions rounded correctly, denormals kept. The CPU's code is so anyway."""


@functools.lru_cache(maxsize=256)
def _fused(program: Program, compute: str, donate: bool, arrays: Any, *, dynamic: bool) -> Any:
    """Return a function of its own for these arrays: PyTorch counts compilations of each, and gives up after eight."""
    torch = sys.modules["torch"]
    _, step = functions(program, compute, write if donate else fresh)
    known = torch._inductor.list_options() if hasattr(torch, "_inductor") else ()
    options = {name: True for name in _LIKE_IEEE if name in known}
    compiled = torch.compile(step, fullgraph=True, dynamic=dynamic, options=options)
    tried = False

    def call(*args: Any, **named: Any) -> Any:
        nonlocal tried
        if tried:
            return compiled(*args, **named)
        tried = True
        with warnings.catch_warnings():  # of PyTorch about PyTorch: it imports deprecated parts of its own
            warnings.simplefilter("ignore", DeprecationWarning)
            return compiled(*args, **named)

    return call


_broken: dict[str, str] = {}
"""Devices that torch.compile failed for, and how."""


def missing_compiler(device: str) -> str:
    """Return why torch.compile does not serve a kind of device here; nothing where it does."""
    return _broken.get(device) or _missing_compiler(device)


@functools.cache
def _missing_compiler(device: str) -> str:
    if device == "cpu":
        try:
            late("torch._inductor.cpp_builder").get_cpp_compiler()
        except Exception as error:  # of InvalidCxxCompiler and what else it may raise
            return f"no C++ compiler: {str(error).partition(chr(10))[0]}"
        return ""
    if device in ("cuda", "xpu"):
        return "" if importlib.util.find_spec("triton") else "Triton is not installed"
    return f"torch.compile is not used on {device}"
