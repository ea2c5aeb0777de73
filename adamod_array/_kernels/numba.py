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

from adamod_array._check import overlapping
from adamod_array._kernels import Result, Work, eager
from adamod_array._kernels.memory import addresses_of
from adamod_array._kernels.trace import Line, trace
from adamod_array._namespace import COMPUTE_DTYPE, dtype_name

STORAGE = ("float16", "bfloat16", "float32", "float64")
"""Dtypes of parameters that kernels take; complex arrays are stepped eagerly."""
BLOCK = 8192
"""Elements that a thread takes at a time: small enough to share out, large enough to forget the cost."""
SERIAL = 1 << 17
"""Up to so many elements, waking other threads costs more than they save, and on a busy machine far more."""

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
        "from adamod_array._kernels.memory import maximum, memory, minimum",
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


_VERSION = numba.__version__.encode() + b"".join(
    Path(__file__).with_name(name).read_bytes() for name in ("numba.py", "memory.py")
)


@functools.cache
def compiled_kernel(text: str, compute: str, threads: bool) -> Any:
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

    forks = 0
    """A child of a process that used OpenMP may not use it: it steps without threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        if hasattr(os, "register_at_fork"):
            os.register_at_fork(after_in_child=self._renew)

    def _renew(self) -> None:
        self._lock = threading.Lock()
        self.forks += 1

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
    forks: int


def run(work: Work, donate: bool) -> Result:
    """Step every leaf: those that a kernel takes in one call a storage dtype, the rest eagerly."""
    decay = any(factor is not None for _, factor in work.pairs)
    plan: Plan = work.plan
    if plan is None or (plan.donate, plan.decay, plan.which, plan.forks) != (donate, decay, work.which, _pool.forks):
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
        addresses = addresses_of(work.kind.name, arrays).reshape(len(group.leaves), -1)
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
        addresses[clashes, 0] = addresses_of(work.kind.name, copies)
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
    return Plan(donate, decay, work.which, groups, rest, _pool.forks)


def _group(work: Work, donate: bool, decay: bool, key: tuple[str, str], leaves: list[int]) -> _Group:
    text, constants = source(trace(work.method, decay=decay), *key, donate=donate)
    sizes, leaf_of, start_of = _blocks(tuple([math.prod(work.params[i].shape) for i in leaves]))
    row_of = np.asarray([work.which[i] for i in leaves], np.int64)
    threads = bool(sizes.sum() > SERIAL) and not _pool.forks
    compute = COMPUTE_DTYPE[key[0]]
    return _Group(
        leaves,
        compiled_kernel(text, compute, threads),
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
