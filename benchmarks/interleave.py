"""Time the contenders of a heat in turn, in this process: ``python -m benchmarks.interleave HEAT SECONDS PROBLEM...``.

Prints a line of JSON for each problem: seconds a step, of every contender in every round.
"""

from __future__ import annotations

import argparse
import gc
import json
import time
from collections.abc import Sequence

import numpy as np

from benchmarks.contenders import Contender, Run, heat
from benchmarks.problem import WARMUP, Problem

TURN = 4e-3
"""Seconds of steps that make a turn, at least one step."""
REST = 2e-3
"""Seconds between turns: a thread pool that still spins for work would slow the next contender's."""


def start(contender: Contender, problem: Problem) -> Run:
    """Warm up, and check that the result is right."""
    run = contender.build(problem)
    for _ in range(WARMUP):
        run.step()
    if contender.expected is not None:
        problem.check([np.asarray(p) for p in run.params()], contender.expected, WARMUP, contender.rtol)
    return run


def turn(run: Run, calls: int) -> float:
    """Seconds a step, after one step that wakes threads and fills caches."""
    time.sleep(REST)
    run.step()
    begin = time.perf_counter()
    for _ in range(calls):
        run.step()
    return (time.perf_counter() - begin) / calls


def race(contenders: Sequence[Contender], problem: Problem, seconds: float) -> dict[str, list[float]]:
    """Rounds in which each has one turn, in an order drawn anew each round, for about so many seconds."""
    runs = {each.key: start(each, problem) for each in contenders}
    calls = {key: max(1, round(TURN / min(turn(run, 1) for _ in range(3)))) for key, run in runs.items()}
    times: dict[str, list[float]] = {key: [] for key in runs}
    rng = np.random.default_rng(0)
    gc.collect()
    gc.disable()
    end = time.perf_counter() + seconds
    rounds = 0
    while rounds < 7 or time.perf_counter() < end:
        for key in rng.permutation(list(runs)):
            times[key].append(turn(runs[key], calls[key]))
        rounds += 1
    gc.enable()
    return times


def main() -> None:
    """Read the arguments, print the times."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("heat")
    parser.add_argument("seconds", type=float)
    parser.add_argument("problems", nargs="+", type=Problem.parse)
    arguments = parser.parse_args()
    for problem in arguments.problems:
        times = race(heat(arguments.heat), problem, arguments.seconds)
        print(json.dumps({"heat": arguments.heat, "problem": str(problem), "times": times}), flush=True)


if __name__ == "__main__":
    main()
