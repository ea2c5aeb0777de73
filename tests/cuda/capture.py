"""The CUDA sources that CuPy hands to its compiler while the CuPy engine steps, without a GPU.

``python -m tests.cuda.capture FILE`` steps every case on CuPy on the CPU and writes, by the case's name, the whole
source of its kernel and the options that CuPy was given with it: in a process of its own, since a CuPy that runs on the
CPU has no compiler for GPUs.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import cupy_on_cpu  # noqa: F401, I001  (before CuPy)
import cupy
from cupy.cuda import compiler

from adamod_array import init, step
from tests.backend import numpy_dtype
from tests.cuda.cases import CASES, KERNEL, Case

_compiled: list[dict[str, Any]] = []


def _array(dtype: str, layout: str) -> Any:
    """An array whose numbers do not matter."""
    kept = numpy_dtype(dtype)
    return cupy.empty((4, 4), kept)[:, ::2] if layout == "gaps" else cupy.empty(4, kept)


def capture(case: Case) -> dict[str, Any]:
    """Source and options of the one kernel of the engine that a step compiles."""
    state = init(case.method, _array(case.dtype, case.layout), weight_decay=0.1 if case.decay else 0.0)
    _compiled.clear()
    step(state, _array(case.gradient, case.layout))
    (kernel,) = (each for each in _compiled if KERNEL in each["source"])
    return kernel


def _record() -> None:
    original = compiler._compile_module_with_cache

    def compile_and_record(source: str, options: tuple[str, ...] = (), **others: Any) -> Any:
        _compiled.append({"source": source, "options": options})
        return original(source, options, **others)

    compiler._compile_module_with_cache = compile_and_record


if __name__ == "__main__":
    _record()
    Path(sys.argv[1]).write_text(json.dumps({case.name: capture(case) for case in CASES}), encoding="utf-8")
