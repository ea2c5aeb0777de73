"""The kernels of numba_source, compiled by Numba."""

from __future__ import annotations

import functools
import hashlib
import sys
import types
from collections.abc import Sequence
from typing import Any

import numba
import numpy as np

from adamod_array import __version__
from adamod_array._engines.numba_cache import SOURCES, compiled
from adamod_array._engines.numba_memory import converts_float16
from adamod_array._method import Method
from adamod_array._namespace import COMPUTE_DTYPE, dtype_name
from adamod_array._program.numba_source import BLOCK

STORAGE = ("float16", "bfloat16", "float32", "float64")[0 if converts_float16() else 1 :]
"""Dtypes of parameters that kernels take; complex arrays are stepped eagerly."""
SERIAL = 1 << 17
"""Up to so many elements, waking other threads costs more than they save, and on a busy machine far more."""


def storage_of(p: Any, g: Any, slots: Sequence[Any], method: Method) -> tuple[str, str] | None:
    """Return the dtypes of a parameter and its gradient if a kernel takes them with these slots.

    Slots have the compute dtype, or bfloat16 where the method says so.
    """
    storage, gradient_storage = dtype_name(p), dtype_name(g)
    compute = COMPUTE_DTYPE[storage]
    stored = [("bfloat16" if each else compute) for each in method.compact_slots]
    if storage not in STORAGE or [*map(dtype_name, slots)] != stored:
        return None
    return (storage, gradient_storage) if COMPUTE_DTYPE[gradient_storage] == compute else None


def digest(text: str) -> str:
    """Return a name for a kernel's source, with all that it is compiled with."""
    versions = f"{numba.__version__} {__version__} ".encode()
    return hashlib.sha256(versions + SOURCES + text.encode()).hexdigest()[:20]


@functools.cache
def compiled_kernel(text: str, compute: str, threads: bool) -> Any:
    """Compile a kernel of numba_source, once per source text in a process."""
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
