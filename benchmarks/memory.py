"""Peak memory of a contender's step, in this process: ``python -m benchmarks.memory KEY PROBLEM``.

Prints a line of JSON: bytes that the resident set grew by during three steps, above what it was before
them with the state in place (Linux: its high-water mark, reset before), and the bytes of that state.
"""

from __future__ import annotations

import argparse
import ctypes
import gc
import json
from pathlib import Path

import adamod_array
from benchmarks.contender import ARRAYS, start
from benchmarks.contenders import find
from benchmarks.problem import Problem


def resident(which: str) -> int:
    """``VmRSS``, or its peak ``VmHWM``, in bytes."""
    (line,) = (x for x in Path("/proc/self/status").read_text().splitlines() if x.startswith(which + ":"))
    return int(line.split()[1]) * 1024


def main() -> None:
    """Read the arguments, print the bytes."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("key")
    parser.add_argument("problem", type=Problem)
    arguments = parser.parse_args()
    contender, problem = find(arguments.key), arguments.problem
    small, run = start(contender, Problem("1x1000")), start(contender, problem)
    gc.collect()
    adamod_array.release_memory()
    ctypes.CDLL(None).malloc_trim(0)  # what the warm-up freed is not there to be used again unseen
    small.step(small.backward())  # but what the framework needs of it anyway: JAX takes 25 MB, whatever the size
    before = resident("VmRSS")
    Path("/proc/self/clear_refs").write_text("5")
    for _ in range(3):
        run.step(run.backward())
    state = (ARRAYS[contender.method] // 2) * problem.elements * 4
    print(json.dumps({"key": contender.key, "extra": max(0, resident("VmHWM") - before), "state": state}))


if __name__ == "__main__":
    main()
