"""The wait for the first step of Adam, in this process: ``python -m benchmarks.first_step NAME PROBLEM``, on JAX.

Prints a line of JSON: seconds from arrays in NumPy to the end of one step, with JAX imported and started before. All
that is imported, traced and compiled beyond that counts; no kernel of an earlier process is found.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
import time

from benchmarks.bars import FIRST
from benchmarks.contender import host
from benchmarks.contenders import find
from benchmarks.problem import Problem


def main() -> None:
    """Read the arguments, print the seconds."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("name")
    parser.add_argument("problem", type=Problem)
    arguments = parser.parse_args()
    contender, problem = find(f"Adam | {arguments.name}"), arguments.problem
    import jax

    jax.numpy.zeros(1).block_until_ready()
    with tempfile.TemporaryDirectory() as empty:
        os.environ["ADAMOD_ARRAY_CACHE"] = empty
        begin = time.perf_counter()
        run = contender.build(problem)
        run.step(run.backward())
        seconds = time.perf_counter() - begin
    assert contender.expected is not None
    problem.check([host(p) for p in run.params()], contender.expected, 1, contender.rtol)
    print(json.dumps({"key": f"{FIRST} | {contender.name}", "problem": problem.name, "seconds": seconds}))


if __name__ == "__main__":
    main()
