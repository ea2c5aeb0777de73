"""Numba: a rule's straight line as one loop over memory, for NumPy arrays and PyTorch's on the CPU.

One call steps every leaf of a tree: the kernel gets addresses, not arrays, so that a leaf costs
nanoseconds and PyTorch's tensors need no view. Loads and stores carry LLVM's alias scopes (two
arrays never overlap, each may be rewritten in place), without which the loop does not vectorise.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import math
import os
import sys
import threading
import types
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numba
import numpy as np
from llvmlite import ir
from numba.extending import intrinsic

from adamod_array._check import overlapping
from adamod_array._kernels import Result, Work, eager
from adamod_array._kernels.trace import Line, trace
from adamod_array._namespace import COMPUTE_DTYPE, dtype_name

STORAGE = ("float16", "bfloat16", "float32", "float64")
"""Dtypes of parameters that kernels take; complex arrays are stepped eagerly."""
BLOCK = 8192
"""Elements that a thread takes at a time: small enough to share out, large enough to forget the cost."""
SERIAL = 1 << 17
"""Up to so many elements, waking other threads costs more than they save, and on a busy machine far more."""

_HALF, _WORD = ir.IntType(16), ir.IntType(32)
_ELEMENT = {"float16": ir.HalfType(), "bfloat16": _HALF, "float32": ir.FloatType(), "float64": ir.DoubleType()}
_SIZE = {"float16": 2, "bfloat16": 2, "float32": 4, "float64": 8}


@functools.cache
def memory(storage: str, array: int, arrays: int) -> tuple[Any, Any]:
    """``load(address, i)`` and ``store(address, i, x)`` for one of a kernel's arrays.

    ``x`` is in the compute dtype: 16-bit floats widen exactly when loaded and are rounded to nearest
    even when stored. ``array`` of ``arrays`` numbers the alias scope.
    """
    number = getattr(numba.types, COMPUTE_DTYPE[storage])
    int64 = numba.types.int64

    def pointer(builder: Any, address: Any, i: Any) -> Any:
        return builder.gep(builder.inttoptr(address, _ELEMENT[storage].as_pointer()), [i])

    def scoped(builder: Any, instruction: Any) -> Any:
        module = builder.module
        domain = module.add_metadata(["adamod_array"])
        scopes = [module.add_metadata([f"array {k}", domain]) for k in range(arrays)]
        instruction.set_metadata("alias.scope", module.add_metadata([scopes[array]]))
        instruction.set_metadata("noalias", module.add_metadata([s for k, s in enumerate(scopes) if k != array]))
        return instruction

    def load(typing: Any, address: Any, i: Any) -> Any:
        def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            x = scoped(builder, builder.load(pointer(builder, *args), align=_SIZE[storage]))
            if storage == "float16":
                return builder.fpext(x, ir.FloatType())
            return _from_bfloat16(builder, x) if storage == "bfloat16" else x

        return number(int64, int64), generate

    def store(typing: Any, address: Any, i: Any, x: Any) -> Any:
        def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            address, i, x = args
            if storage == "float16":
                x = builder.fptrunc(x, ir.HalfType())
            elif storage == "bfloat16":
                x = _to_bfloat16(builder, x)
            scoped(builder, builder.store(x, pointer(builder, address, i), align=_SIZE[storage]))
            return context.get_dummy_value()

        return numba.types.void(int64, int64, number), generate

    return intrinsic(load), intrinsic(store)


def _from_bfloat16(builder: Any, x: Any) -> Any:
    """The upper half of a float32."""
    return builder.bitcast(builder.shl(builder.zext(x, _WORD), _WORD(16)), ir.FloatType())


def _to_bfloat16(builder: Any, x: Any) -> Any:
    """Round to nearest even; a NaN stays a NaN."""
    bits = builder.bitcast(x, _WORD)
    odd = builder.and_(builder.lshr(bits, _WORD(16)), _WORD(1))
    rounded = builder.lshr(builder.add(bits, builder.add(odd, _WORD(0x7FFF))), _WORD(16))
    quiet = builder.or_(builder.lshr(bits, _WORD(16)), _WORD(0x40))
    return builder.trunc(builder.select(builder.fcmp_unordered("uno", x, x), quiet, rounded), _HALF)


@numba.njit(inline="always")
def minimum(a: Any, b: Any) -> Any:  # pragma: no cover - compiled
    """The array API's minimum: NaN where either is."""
    return a if a < b or a != a else b


@numba.njit(inline="always")
def maximum(a: Any, b: Any) -> Any:  # pragma: no cover - compiled
    """The array API's maximum: NaN where either is."""
    return a if a > b or a != a else b


_TEXT = {
    "add": "{} + {}",
    "sub": "{} - {}",
    "mul": "{} * {}",
    "div": "{} / {}",
    "neg": "-{}",
    "abs": "abs({})",
    "sqrt": "np.sqrt({})",
    "exp": "np.exp({})",
    "minimum": "minimum({}, {})",
    "maximum": "maximum({}, {})",
    "where": "{1} if {0} else {2}",
    "lt": "{} < {}",
    "le": "{} <= {}",
    "gt": "{} > {}",
    "ge": "{} >= {}",
    "eq": "{} == {}",
    "ne": "{} != {}",
}


def source(line: Line, storage: str, gradient_storage: str, *, donate: bool) -> tuple[str, tuple[float, ...]]:
    """The kernel as a Python module, and the constants that follow its scalars.

    Constants are arguments: methods that differ in hyperparameters alone share a kernel.
    """
    arrays = [name for name, _ in line.arrays]
    written = ["p", *arrays[2:]]
    columns = arrays if donate else [*arrays, *(f"{name}_new" for name in written)]
    constants: dict[str, str] = {}  # by repr: 0.0 and -0.0 are two

    def text(x: str | float) -> str:
        return x if isinstance(x, str) else constants.setdefault(repr(x), f"k{len(constants)}")

    body = [f"{x.result} = {_TEXT[x.name].format(*map(text, x.operands))}" for x in line.operations]
    stores = [
        f"store_{name}(at_{name if donate else name + '_new'}, i, {text(x)})"
        for name, x in zip(written, line.outputs, strict=True)
    ]
    head = [
        "import numpy as np",
        "from numba import prange",
        "from adamod_array._kernels.numba import maximum, memory, minimum",
    ]
    for j, column in enumerate(columns):
        name = column.removesuffix("_new")
        dtype = {"g": gradient_storage, "p": storage}.get(name, COMPUTE_DTYPE[storage])
        load, store = f"load_{column}", f"store_{name}"
        if donate:
            head.append(f"{load}, {store} = memory({dtype!r}, {j}, {len(columns)})")
        else:
            head.append(
                f"{load if column == name else store} = memory({dtype!r}, {j}, {len(columns)})[{int(column != name)}]"
            )
    scalars = [*line.scalars, *constants.values()]
    lines = [
        "for b in prange(leaf_of.size):",
        "    leaf = leaf_of[b]",
        "    row = scalars[row_of[leaf]]",
        *(f"    at_{column} = addresses[leaf, {j}]" for j, column in enumerate(columns)),
        *(f"    {name} = row[{j}]" for j, name in enumerate(scalars)),
        f"    for i in range(start_of[b], min(start_of[b] + {BLOCK}, sizes[leaf])):",
        *(f"        {name} = load_{name}(at_{name}, i)" for name in arrays),
        *(f"        {statement}" for statement in [*body, *stores]),
    ]
    kernel = ["def kernel(addresses, sizes, row_of, leaf_of, start_of, scalars):", *("    " + each for each in lines)]
    return "\n".join([*head, "", "", *kernel, ""]), tuple(map(float, constants))


_VERSION = numba.__version__.encode() + Path(__file__).read_bytes()


@functools.cache
def _kernel(text: str, compute: str, threads: bool) -> Any:
    """Compiled once per source text in a process, and kept on disk for the next one where that is allowed."""
    stamp = hashlib.sha256(_VERSION + text.encode()).hexdigest()
    path = _cache_folder() / f"kernel_{stamp[:20]}{'' if threads else '_serial'}.py"
    cached = True
    try:
        if not path.exists():  # rewriting it would make Numba compile again
            path.parent.mkdir(parents=True, exist_ok=True)
            draft = path.with_suffix(f".{os.getpid()}.{threading.get_ident()}")
            draft.write_text(text)
            draft.replace(path)
    except OSError:
        cached = False
    module = types.ModuleType(f"{__package__}.{path.stem}")
    sys.modules[module.__name__] = module  # Numba looks there when it reads its cache
    exec(compile(text, str(path), "exec"), module.__dict__)
    vector, number = numba.types.int64[::1], getattr(numba.types, compute)
    signature = numba.types.void(numba.types.int64[:, ::1], vector, vector, vector, vector, number[:, ::1])
    compiler = numba.njit(signature, parallel=threads, error_model="numpy", nogil=True, boundscheck=False, cache=cached)
    return compiler(module.kernel)


def _cache_folder() -> Path:
    """Where kernels are kept: $ADAMOD_ARRAY_CACHE, or adamod_array in the user's cache folder."""
    if chosen := os.environ.get("ADAMOD_ARRAY_CACHE"):
        return Path(chosen)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "adamod_array"


@functools.lru_cache(maxsize=256)
def _blocks(sizes: tuple[int, ...]) -> tuple[Any, Any, Any]:
    """The sizes as an array; leaf and first element of every block."""
    counts = [-(-size // BLOCK) for size in sizes]
    leaf_of = np.repeat(np.arange(len(sizes)), counts)
    start_of = np.concatenate([np.arange(count) for count in counts] or [np.arange(0)]) * BLOCK
    return np.asarray(sizes, np.int64), leaf_of, start_of


class _Pool:
    """One caller at a time: Numba's fallback thread pool may not be entered twice."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        if hasattr(os, "register_at_fork"):
            os.register_at_fork(after_in_child=self._renew)

    def _renew(self) -> None:
        self._lock = threading.Lock()

    def __enter__(self) -> None:
        self._lock.acquire()

    def __exit__(self, *_: object) -> None:
        self._lock.release()


_pool = _Pool()


@dataclass
class _Group:
    """Leaves of one storage dtype, and all that stays the same from step to step."""

    leaves: list[int]
    kernel: Any
    constants: tuple[float, ...]
    compute: str
    layout: tuple[Any, ...]
    """The kernel's arguments from ``sizes`` to ``start_of``."""
    lock: Any
    apart: bytes = b""
    """Addresses of gradients that were seen to share no memory with what a donated step writes."""


@dataclass
class Plan:
    """How a tree is stepped; handed from state to state while arrays and gradients stay in layout."""

    donate: bool
    decay: bool
    which: tuple[int, ...]
    groups: list[_Group]
    rest: list[int]


def run(work: Work, donate: bool) -> Result:
    """Step every leaf: those that a kernel takes in one call a storage dtype, the rest eagerly."""
    decay = any(factor is not None for _, factor in work.pairs)
    plan: Plan = work.plan
    if plan is None or (plan.donate, plan.decay, plan.which) != (donate, decay, work.which):
        plan = work.plan = _plan(work, donate, decay)
    params: list[Any] = [*work.params]
    slots: list[Any] = [[*kept] for kept in work.slots]
    for group in plan.groups:
        arrays: list[Any] = []
        for i in group.leaves:
            arrays += (work.grads[i], params[i], *slots[i])
            if not donate:
                params[i], *slots[i] = new = [_empty_like(x) for x in (params[i], *slots[i])]
                arrays += new
        addresses = _addresses(work.kind.name, arrays).reshape(len(group.leaves), -1)
        copies = _copies(work, group, addresses) if donate else ()  # named, to live until the kernel is done
        rows = [
            (lr, 1.0 if factor is None else factor, *work.c, *group.constants)
            if decay
            else (lr, *work.c, *group.constants)
            for lr, factor in work.pairs
        ]
        with group.lock:
            group.kernel(addresses, *group.layout, np.asarray(rows, group.compute))
        del copies
    if plan.rest:
        for i, p, kept in zip(plan.rest, *eager.run(work.subset(plan.rest), donate), strict=True):
            params[i], slots[i] = p, kept
    return params, slots


def _copies(work: Work, group: _Group, addresses: Any) -> list[Any]:
    """Copies, put in their place, of gradients that share memory with what may be written before they are read."""
    seen = addresses[:, 0].tobytes()
    if seen == group.apart:
        return []
    grads, params = [work.grads[i] for i in group.leaves], [work.params[i] for i in group.leaves]
    written = [x for p, kept in zip(work.params, work.slots, strict=True) for x in (p, *kept)]
    clashes = sorted(overlapping(work.kind, grads, params, written))
    copies = [work.kind.xp.asarray(grads[k], copy=True) for k in clashes]
    if clashes:
        addresses[clashes, 0] = _addresses(work.kind.name, copies)
    group.apart = b"" if clashes else seen
    return copies


def _plan(work: Work, donate: bool, decay: bool) -> Plan:
    """Sort the leaves by what can be done with them."""
    by_dtype: dict[tuple[str, str], list[int]] = {}
    rest: list[int] = []
    for i, (p, g, kept) in enumerate(zip(work.params, work.grads, work.slots, strict=True)):
        key = _storage(p, g, kept)
        (rest if key is None else by_dtype.setdefault(key, [])).append(i)
    groups = [_group(work, donate, decay, key, leaves) for key, leaves in by_dtype.items()]
    return Plan(donate, decay, work.which, groups, rest)


def _group(work: Work, donate: bool, decay: bool, key: tuple[str, str], leaves: list[int]) -> _Group:
    text, constants = source(trace(work.method, decay=decay), *key, donate=donate)
    sizes, leaf_of, start_of = _blocks(tuple([math.prod(work.params[i].shape) for i in leaves]))
    row_of = np.asarray([work.which[i] for i in leaves], np.int64)
    threads = bool(sizes.sum() > SERIAL)
    compute = COMPUTE_DTYPE[key[0]]
    return _Group(
        leaves,
        _kernel(text, compute, threads),
        constants,
        compute,
        (sizes, row_of, leaf_of, start_of),
        _pool if threads else contextlib.nullcontext(),
    )


def _empty_like(x: Any) -> Any:
    return np.empty_like(x, subok=False) if isinstance(x, np.ndarray) else sys.modules["torch"].empty_like(x)


def _storage(p: Any, g: Any, slots: Sequence[Any]) -> tuple[str, str] | None:
    """The storage dtypes of a parameter and gradient that a kernel can take with these slots, or None."""
    storage, gradient_storage = dtype_name(p), dtype_name(g)
    compute = COMPUTE_DTYPE[storage]
    if storage not in STORAGE or any(dtype_name(x) != compute for x in slots):
        return None
    fits = COMPUTE_DTYPE[gradient_storage] == compute and all(_alike(p, x) for x in (p, g, *slots))
    return (storage, gradient_storage) if fits else None


def _alike(p: Any, x: Any) -> bool:
    """Whether ``x`` lies in memory without gaps, element beside element with ``p``."""
    if isinstance(x, np.ndarray):
        flags = x.flags
        if not flags.aligned or not x.dtype.isnative:
            return False
        return (flags.c_contiguous and p.flags.c_contiguous) or (flags.f_contiguous and p.flags.f_contiguous)
    if x.is_contiguous():
        return p.is_contiguous()  # type: ignore[no-any-return]
    return x.stride() == p.stride() and _is_dense(x.shape, x.stride())


def _is_dense(shape: Sequence[int], strides: Sequence[int]) -> bool:
    expected = 1
    for stride, n in sorted((stride, n) for stride, n in zip(strides, shape, strict=True) if n != 1):
        if stride != expected:
            return False
        expected *= n
    return True


@intrinsic
def _peek(typing: Any, address: Any) -> Any:
    """The pointer stored at an address."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.load(builder.inttoptr(args[0], ir.IntType(64).as_pointer()))

    return numba.types.int64(numba.types.int64), generate


_AFTER_HEADER = object.__basicsize__
"""NumPy's C ABI: the pointer to an array's data follows the object header."""


@numba.njit("int64[::1](int64[::1])", cache=True)
def _data_of(objects: Any) -> Any:  # pragma: no cover - compiled
    addresses = np.empty_like(objects)
    for i in range(objects.size):
        addresses[i] = _peek(objects[i] + _AFTER_HEADER)
    return addresses


def _addresses(framework: str, arrays: list[Any]) -> Any:
    """Where the data of each array is: ten times faster than ``ndarray.ctypes``, which costs more than a small step."""
    if framework == "torch":
        return np.asarray([x.data_ptr() for x in arrays], np.int64)
    return _data_of(np.fromiter(map(id, arrays), np.int64, len(arrays)))


_probe = np.zeros(1)
if _addresses("numpy", [_probe])[0] != _probe.ctypes.data:  # pragma: no cover - no such NumPy is known
    raise ImportError("NumPy keeps the data of its arrays where this version of adamod_array does not expect it")
