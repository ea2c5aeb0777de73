"""The kernels of numba_source, compiled by Numba."""

from __future__ import annotations

import functools
import hashlib
import sys
import types
from collections.abc import Callable, Sequence
from typing import Any

import numba
import numpy as np

from adamod_array import __version__
from adamod_array._engines.numba_cache import SOURCES, compiled
from adamod_array._engines.numba_memory import converts_float16
from adamod_array._namespace import REAL_DTYPE, dtype_name, real_compute_dtype
from adamod_array._program.lower import can_be_lowered, stored_dtypes
from adamod_array._program.numba_source import BLOCK
from adamod_array._program.program import Program

STORAGE = ("float16", "bfloat16", "float32", "float64")[0 if converts_float16() else 1 :]
"""Dtypes of numbers that kernels load and store; complex ones are pairs of them."""
SERIAL = 1 << 17
"""Up to so many elements, waking other threads costs more than they save, and on a busy machine far more."""


Storage = tuple[str, str]
"""The storage dtypes of a parameter and its gradient."""


def storages(program_of: Callable[..., Program]) -> Callable[[Any, Any, Sequence[Any]], Storage | None]:
    """Return a function that says of a leaf in which dtypes a kernel takes it, if one does: its slots as stored.

    ``program_of`` takes ``complex_parameter`` and ``storage``, as :func:`adamod_array._program.trace.trace` does.
    """

    @functools.cache
    def slot_dtypes(storage: str) -> list[str] | None:
        program = program_of(complex_parameter=storage in REAL_DTYPE, storage=storage)
        return [*stored_dtypes(program, storage).values()][2:] if can_be_lowered(program) else None

    def storage_of(p: Any, g: Any, slots: Sequence[Any]) -> Storage | None:
        storage = dtype_name(p), dtype_name(g)
        if not {REAL_DTYPE.get(x, x) for x in storage} <= {*STORAGE} or len({*map(real_compute_dtype, storage)}) > 1:
            return None
        return storage if [*map(dtype_name, slots)] == slot_dtypes(storage[0]) else None

    return storage_of


def digest(text: str) -> str:
    """Return a name for a kernel's source, with all that it is compiled with."""
    versions = f"{numba.__version__} {__version__} ".encode()
    return hashlib.sha256(versions + SOURCES + text.encode()).hexdigest()[:20]


@functools.cache
def compiled_kernel(text: str, compute: str, threads: bool) -> Any:
    """Compile a kernel of numba_source that computes in a real dtype, once per source text in a process."""
    vector, number = numba.types.int64[::1], getattr(numba.types, compute)
    signature = numba.types.void(numba.types.int64[:, ::1], vector, vector, vector, vector, number[:, ::1])
    return compiled_loop(text, signature, threads)


def compiled_loop(text: str, signature: Any, threads: bool, **options: Any) -> Any:
    """Compile the function ``kernel`` of a module's text, and keep it on disk for the next process where allowed."""
    module = types.ModuleType(f"{__package__}.kernel_{digest(text)}{'' if threads else '_serial'}")
    sys.modules[module.__name__] = module  # Numba looks there when it loads a kernel
    exec(compile(text, f"<{module.__name__}>", "exec"), module.__dict__)
    how = {"parallel": threads, "error_model": "numpy", "nogil": True, "boundscheck": False} | options
    return compiled(signature, text, **how)(module.kernel)


@functools.lru_cache(maxsize=256)
def blocks(sizes: tuple[int, ...]) -> tuple[Any, Any, Any]:
    """Return the sizes as an array, and the leaf and first element of every block."""
    counts = [-(-size // BLOCK) for size in sizes]
    leaf_of = np.repeat(np.arange(len(sizes)), counts)
    start_of = np.concatenate([np.arange(count) for count in counts] or [np.arange(0)]) * BLOCK
    return np.asarray(sizes, np.int64), leaf_of, start_of
