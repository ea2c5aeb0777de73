"""The CUDA sources that CuPy has compiled while the CuPy engine steps, without a GPU.

``python -m tests.cuda.capture FILE NAME...`` steps these cases on CuPy on the CPU and writes, by their names, the
whole source of each kernel and the options that CuPy gave with it. It is a process of its own: a CuPy that runs on the
CPU has no compiler for GPUs.
"""

from __future__ import annotations

import importlib
import json
import sys
from pathlib import Path
from typing import Any

import cupy_on_cpu  # before CuPy

from adamod_array import init, step
from adamod_array._program.cuda_table_source import FEW
from tests.backend import numpy_dtype
from tests.cuda.cases import CASES, Case


def _array(dtype: str, layout: str) -> Any:
    """An array whose numbers do not matter."""
    cupy, kept = importlib.import_module("cupy"), numpy_dtype(dtype)
    return cupy.empty((4, 4), kept)[:, ::2] if layout == "gaps" else cupy.empty(4, kept)


def capture(case: Case) -> dict[str, Any]:
    """Source and options of the one kernel of the engine that a step needs."""
    count = FEW + 1 if case.layout == "many" else 1
    params, grads = ([_array(dtype, case.layout) for _ in range(count)] for dtype in (case.dtype, case.gradient))
    before = len(cupy_on_cpu.sources)
    step(init(case.method, params, weight_decay=0.1 if case.decay else 0.0), grads)
    (kernel,) = (each for each in cupy_on_cpu.sources[before:] if case.kernel in each.kernels)
    return {"source": kernel.code, "options": kernel.options, "kernel": case.kernel}


if __name__ == "__main__":
    _, path, *names = sys.argv
    found = {case.name: capture(case) for case in CASES if case.name in names}
    Path(path).write_text(json.dumps(found), encoding="utf-8")
