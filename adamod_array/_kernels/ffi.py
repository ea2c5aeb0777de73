"""JAX on the CPU through Numba: the kernel of a rule, called by XLA as a foreign function.

XLA writes each output in a loop of its own and reads its inputs again for each: 11 arrays move for
Adam where the rule needs 7. As a foreign function the rule is one pass over memory, in the donated
buffers themselves. The structs read here are those of xla/ffi/api/c_api.h, a stable binary interface.
"""

from __future__ import annotations

import ctypes
import functools
import itertools
import platform
import sys
from typing import Any

import numba
import numpy as np
from llvmlite import ir
from numba.core import cgutils
from numba.core.typing import signature
from numba.np.ufunc.parallel import _launch_threads

from adamod_array._kernels import Result, Work
from adamod_array._kernels.loop import BLOCK, SERIAL, STORAGE, compiled_kernel, source
from adamod_array._kernels.memory import memory, peek
from adamod_array._kernels.trace import trace
from adamod_array._namespace import COMPUTE_DTYPE, dtype_name, is_tracer

_EXTENSION, _ARGS, _RETS = 8, 72, 112
"""Where a call frame (XLA_FFI_CallFrame) keeps its extensions, arguments and results."""
_DATA, _RANK, _DIMS = 24, 32, 40
"""Where a buffer (XLA_FFI_Buffer) keeps its data and shape."""
_METADATA, _VERSION = 24, 24
"""Where a metadata extension keeps its struct, and that the version of the interface: major, minor."""
_API_VERSION = 0 | 1 << 32

_count = itertools.count()


def takes(work: Work) -> bool:
    """Whether every leaf lies on one CPU device, is known, and has a storage dtype that kernels take."""
    if not all(isinstance(x, float) for pair in work.pairs for x in pair if x is not None):
        return False
    if work.plan is None:
        leaves = zip(work.params, work.grads, work.slots, strict=True)
        work.plan = _HAS_MODE and all(_fits(p, g, kept) for p, g, kept in leaves)
    return bool(work.plan)


_HAS_MODE = platform.machine().lower() in ("x86_64", "amd64")
"""Whether :func:`_swap_mode` can be compiled: elsewhere denormals would be kept by some threads only."""


def _fits(p: Any, g: Any, slots: Any) -> bool:
    storage = dtype_name(p)
    compute = COMPUTE_DTYPE[storage]
    if storage not in STORAGE or any(dtype_name(x) != compute for x in slots):
        return False
    if COMPUTE_DTYPE[dtype_name(g)] != compute or any(map(is_tracer, (p, g, *slots))):
        return False
    devices = set().union(*(x.devices() for x in (p, g, *slots)))
    return len(devices) == 1 and devices.pop().platform == "cpu"


def run(work: Work, donate: bool) -> Result:
    """Step every leaf, those of one storage dtype in one call."""
    decay = any(factor is not None for _, factor in work.pairs)
    groups: dict[tuple[str, str], list[int]] = {}
    for i, (p, g) in enumerate(zip(work.params, work.grads, strict=True)):
        groups.setdefault((dtype_name(p), dtype_name(g)), []).append(i)
    params, slots = [*work.params], [[*kept] for kept in work.slots]
    for key, leaves in groups.items():
        program, constants = _program(work.method, key, decay, donate, len(leaves))
        rows = [
            (lr, *((1.0 if factor is None else factor,) if decay else ()), *work.c, *constants)
            for lr, factor in work.pairs
        ]
        new = program(
            np.asarray(rows, COMPUTE_DTYPE[key[0]]),
            np.asarray([work.which[i] for i in leaves], np.int32),
            [work.grads[i] for i in leaves],
            [[params[i], *slots[i]] for i in leaves],
        )
        for i, arrays in zip(leaves, new, strict=True):
            params[i], *slots[i] = arrays
    return params, slots


@functools.lru_cache(maxsize=1024)
def _program(method: Any, key: tuple[str, str], decay: bool, donate: bool, leaves: int) -> tuple[Any, Any]:
    """A jitted function of scalars, rows, gradients and old arrays, and the constants that end a row of scalars."""
    jax = sys.modules["jax"]
    line = trace(method, decay=decay)
    (serial, constants), (threaded, _) = (source(line, *key, donate=donate, threads=x) for x in (False, True))

    def step(scalars: Any, rows: Any, grads: Any, old: Any) -> Any:
        threads = sum(p.size for p, *_ in old) > SERIAL and _may_nest()
        target = _target(threaded if threads else serial, COMPUTE_DTYPE[key[0]], len(line.outputs), donate, threads)
        results = [jax.ShapeDtypeStruct(x.shape, x.dtype) for arrays in old for x in arrays]
        inputs = [x for g, arrays in zip(grads, old, strict=True) for x in (g, *arrays)]
        written = [i for i in range(len(inputs)) if i % (1 + len(line.outputs))]
        aliases = {2 + i: k for k, i in enumerate(written)} if donate else None
        flat = iter(jax.ffi.ffi_call(target, results, input_output_aliases=aliases)(scalars, rows, *inputs))
        return [list(itertools.islice(flat, len(arrays))) for arrays in old]

    return jax.jit(step, donate_argnums=(3,) if donate else ()), constants


@functools.cache
def _target(text: str, compute: str, outputs: int, donate: bool, threads: bool) -> str:
    """Register a kernel with XLA; returns the name it has there."""
    jax = sys.modules["jax"]
    handler = _handler(compiled_kernel(text, compute, threads), compute, outputs, donate)
    name = f"adamod_array_{next(_count)}"
    capsule = ctypes.pythonapi.PyCapsule_New
    capsule.restype, capsule.argtypes = ctypes.py_object, [ctypes.c_void_p, ctypes.c_char_p, ctypes.c_void_p]
    jax.ffi.register_ffi_target(name, capsule(handler.address, None, None), platform="cpu")
    _handlers.append(handler)
    return name


_handlers: list[Any] = []  # XLA keeps their addresses


@functools.cache
def _may_nest() -> bool:
    """Whether Numba's threads may be woken by any thread of XLA's."""
    _launch_threads()
    return numba.threading_layer() in ("omp", "tbb")


def _handler(kernel: Any, compute: str, outputs: int, donate: bool) -> Any:
    """The C function that XLA calls: it gathers addresses and calls the kernel."""
    load = memory(compute, 0, 1)[0]
    poke = _poke
    columns = 1 + outputs if donate else 1 + 2 * outputs
    block = BLOCK
    number = np.float32 if compute == "float32" else np.float64

    @numba.njit(error_model="numpy")
    def step(frame: int) -> int:  # pragma: no cover - compiled
        extension = peek(frame + _EXTENSION)
        if extension != 0:  # XLA asks which version of the interface this is
            poke(peek(extension + _METADATA) + _VERSION, _API_VERSION)
            return 0
        args, results = peek(frame + _ARGS), peek(frame + _RETS)
        leaves = _size(peek(args + 8))
        scalars_at, rows_at = peek(peek(args) + _DATA), peek(peek(args + 8) + _DATA)
        dims = peek(peek(args) + _DIMS)
        scalars = np.empty((peek(dims), peek(dims + 8)), number)
        for i in range(scalars.size):
            scalars.flat[i] = load(scalars_at, i)
        row_of = np.empty(leaves, np.int64)
        sizes = np.empty(leaves, np.int64)
        addresses = np.empty((leaves, columns), np.int64)
        blocks = 0
        for k in range(leaves):
            row_of[k] = (peek(rows_at + 8 * (k // 2)) >> (32 * (k % 2))) & 0x7FFFFFFF
            inputs = args + 8 * (2 + k * (1 + outputs))
            sizes[k] = _size(peek(inputs))
            blocks += (sizes[k] + block - 1) // block
            for j in range(1 + outputs):
                addresses[k, j] = peek(peek(inputs + 8 * j) + _DATA)
            for j in range(outputs):
                addresses[k, columns - outputs + j] = peek(peek(results + 8 * (k * outputs + j)) + _DATA)
        leaf_of = np.empty(blocks, np.int64)
        start_of = np.empty(blocks, np.int64)
        b = 0
        for k in range(leaves):
            for start in range(0, sizes[k], block):
                leaf_of[b], start_of[b] = k, start
                b += 1
        mode = _swap_mode(_IEEE)  # XLA's threads flush denormals, Numba's do not
        kernel(addresses, sizes, row_of, leaf_of, start_of, scalars)
        _swap_mode(mode)
        return 0

    @numba.cfunc(numba.types.int64(numba.types.int64))
    def handler(frame: int) -> int:  # pragma: no cover - compiled
        result: int = step(frame)
        return result

    return handler


@numba.njit
def _size(buffer: int) -> int:  # pragma: no cover - compiled
    """How many elements a buffer has."""
    n = 1
    for i in range(peek(buffer + _RANK)):
        n *= peek(peek(buffer + _DIMS) + 8 * i)
    return n


@numba.extending.intrinsic
def _swap_mode(typing: Any, mode: Any) -> Any:
    """Set the processor's floating-point mode (x86's MXCSR) and return what it was."""

    def generate(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        word, pointer = ir.IntType(32), ir.IntType(8).as_pointer()
        function = ir.FunctionType(ir.VoidType(), [pointer])
        old, new = builder.alloca(word), builder.alloca(word)
        builder.store(builder.trunc(args[0], word), new)
        for name, place in (("stmxcsr", old), ("ldmxcsr", new)):
            code = cgutils.get_or_insert_function(builder.module, function, f"llvm.x86.sse.{name}")
            builder.call(code, [builder.bitcast(place, pointer)])
        return builder.zext(builder.load(old), ir.IntType(64))

    return signature(numba.types.int64, numba.types.int64), generate


_IEEE = 0x1F80
"""Round to nearest, keep denormals, raise nothing."""


@numba.extending.intrinsic
def _poke(typing: Any, address: Any, value: Any) -> Any:
    """Store 64 bits at an address."""
    int64 = numba.types.int64

    def generate(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        word = context.get_value_type(int64)
        builder.store(args[1], builder.inttoptr(args[0], word.as_pointer()))
        return context.get_dummy_value()

    return signature(numba.types.void, int64, int64), generate
