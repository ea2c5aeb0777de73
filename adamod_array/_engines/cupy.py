"""CuPy: arrays without gaps in one launch a device (cuda_table), the others each in one of an ``ElementwiseKernel``.

Compiled with ``--fmad=false``, so that products are rounded as NumPy rounds them; division and
square root are correctly rounded by default. What remains of CuPy's own is ``-ftz=true``, which it
gives every kernel, also its ufuncs: float32 denormals count as zero.
"""

from __future__ import annotations

import contextlib
import functools
import sys
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from adamod_array._engines import Columns, StepInputs, cuda_launch, cuda_table, eager, put
from adamod_array._method import Method
from adamod_array._namespace import COMPUTE_DTYPE, dtype_name, namespace_of
from adamod_array._program.cuda_source import Source, source
from adamod_array._program.lower import can_be_lowered, stored_dtypes
from adamod_array._program.trace import trace


class _Memory:
    """CuPy's arrays, for the kernels of all leaves."""

    def device(self, x: Any) -> int:
        number: int = x.data.device_id
        return number

    def address(self, x: Any) -> int:
        where: int = x.data.ptr
        return where

    def is_beside(self, p: Any, x: Any) -> bool:
        mine, other = p.flags, x.flags
        return bool((mine.c_contiguous and other.c_contiguous) or (mine.f_contiguous and other.f_contiguous))

    def is_in_order(self, x: Any) -> bool:
        return bool(x.flags.c_contiguous)

    @contextlib.contextmanager
    def at(self, device: int) -> Iterator[Any]:
        cuda = sys.modules["cupy"].cuda
        with cuda.Device(device):
            yield cuda.get_current_stream()

    def empty_like(self, x: Any) -> Any:
        with x.device:
            return sys.modules["cupy"].empty_like(x)

    def words(self, count: int, device: int) -> Any:
        return sys.modules["cupy"].empty(count, "int64")

    def scalar(self, value: Any, real: str, p: Any) -> Any:
        namespace = namespace_of(p)
        assert namespace is not None
        return namespace.scalar(value, real, p.device)

    def full(self, value: float, real: str, p: Any) -> Any:
        return sys.modules["cupy"].full((), value, real)


_MEMORY = _Memory()


@functools.lru_cache(maxsize=1024)
def _kernel(
    method: Method, storage: str, gradient_storage: str, decay: bool, common: tuple[str, ...]
) -> tuple[Any, Any, bool]:
    """Return the kernel of a method (None where there is none), the dtypes of slots it takes, and whether it counts."""
    is_complex = storage.startswith("complex")
    program = trace(method, decay=decay, complex_parameter=is_complex, common=common, storage=storage)
    stored = stored_dtypes(program, storage)
    slots = [stored[name] for name, _ in program.arrays[2:]]
    if not can_be_lowered(program):
        return None, slots, False
    return _compiled(source(program, storage, gradient_storage)), slots, bool(program.rounded)


@functools.cache
def _compiled(text: Source) -> Any:
    """Return the kernel of a source text; CuPy compiles it at the first launch and keeps it on disk."""
    return sys.modules["cupy"].ElementwiseKernel(
        text.inputs, text.outputs, text.operation, "adamod_array_step", options=cuda_launch.OPTIONS, no_return=True
    )


def run(inputs: StepInputs, donate: bool) -> Columns:
    """Step every leaf on its own device and that device's current stream."""
    return cuda_table.run(inputs, donate, _MEMORY, begin)


def begin(inputs: StepInputs, donate: bool) -> Callable[[], Columns]:
    """Prepare to step every leaf by a launch of its own, or eagerly, and return what does it."""
    launches: dict[int, Any] = {}
    fallback: list[int] = []
    for i, (g, *old) in enumerate(zip(inputs.grads, *inputs.columns, strict=True)):
        p, *slots = old
        storage = dtype_name(p)
        scalars = inputs.scalars
        kernel, dtypes, counts = _kernel(scalars.method(i), storage, dtype_name(g), scalars.decays(i), scalars.names)
        if kernel is None or [dtype_name(x) for x in slots] != dtypes:
            fallback.append(i)
            continue
        with p.device:
            row = scalars.arguments(i, inputs.namespace, COMPUTE_DTYPE[storage], p.device)
            new = old if donate else [sys.modules["cupy"].empty_like(x) for x in old]
        if counts:
            assert scalars.counters is not None
            row = (*row, np.uint32(scalars.counters[i]))
        launches[i] = kernel, g, old, new, row, counts
    finish_eagerly = eager.begin(inputs.subset(fallback), donate) if fallback else None

    def finish() -> Columns:
        if donate:
            inputs.claim()
        for kernel, g, old, new, numbers, counts in launches.values():
            with old[0].device:
                _launch(kernel, g, old, new, numbers, counts)
        launched = [[new[k] for _, _, _, new, _, _ in launches.values()] for k in range(len(inputs.columns))]
        columns = put(launched, [*launches], inputs.columns)
        return columns if finish_eagerly is None else put(finish_eagerly(), fallback, columns)

    return finish


def _launch(kernel: Any, g: Any, old: Sequence[Any], new: Sequence[Any], scalars: Sequence[Any], counts: bool) -> None:
    """Write the new arrays, which may be the old ones; ``counts`` where elements are counted in C order."""
    inputs, outputs = (g, *old), new
    flags = old[0].flags
    if flags.f_contiguous and not flags.c_contiguous and not counts:  # CuPy walks through memory in C order
        inputs = (g.T, *(x.T for x in old))
        outputs = inputs[1:] if new is old else [x.T for x in new]
    kernel(*inputs, *scalars, *outputs)
