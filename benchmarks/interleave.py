"""Time the contenders of a heat in turn, in this process: ``python -m benchmarks.interleave HEAT SECONDS PROBLEM``.

Prints a line of JSON: seconds a step, of every contender in every round.
"""

from __future__ import annotations

import argparse
import gc
import json
import resource
import statistics
import time
from collections.abc import Sequence

import numpy as np

from benchmarks.contender import Contender, Run, start
from benchmarks.contenders import heat
from benchmarks.problem import Problem

TURN = 4e-3
"""Seconds of steps that make a turn, at least one step."""
REST = 30e-3
"""Seconds between turns. OpenMP's threads spin for new work before they sleep, GNU's for 20 ms where a pause takes 140
cycles; PyTorch and Numba bring a pool each, and one that still spins would take a core from the next contender."""
RETRIES = 4
"""A turn in which threads were taken off their cores more often than this contender's are by one another (XLA has more
threads than there are cores) was disturbed by some other program, and is taken again, so often at most."""
SPELL = 0.1
"""Seconds in which one such interruption, of some milliseconds, is nothing to speak of."""


def preemptions() -> int:
    """Times that a thread of this process has lost its core before it gave it up."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_nivcsw


def turn(run: Run, calls: int) -> tuple[int, float]:
    """Preemptions that count, and the median seconds of so many steps, after one that wakes threads, fills caches."""
    time.sleep(REST)
    run.step(run.backward())
    before = preemptions()
    seconds: list[float] = []
    end = time.perf_counter() + 10 * TURN  # where others load the machine, a call may take a thousand times as long
    while len(seconds) < calls and (not seconds or time.perf_counter() < end):
        grads = run.backward()
        begin = time.perf_counter()
        run.step(grads)
        seconds.append(time.perf_counter() - begin)
    return max(0, preemptions() - before - int(sum(seconds) / SPELL)), statistics.median(seconds)


def quiet_turn(run: Run, calls: int, usual: int) -> tuple[bool, float]:
    """The least disturbed of a few turns, the first with no more preemptions than usual; whether it is such a one."""
    turns = []
    for _ in range(1 + RETRIES):
        turns.append(turn(run, calls))
        if turns[-1][0] <= usual:
            break
    disturbed, time_of_step = min(turns)
    return disturbed <= usual, time_of_step


def race(contenders: Sequence[Contender], problem: Problem, seconds: float) -> tuple[dict[str, list[float]], float]:
    """Rounds in which each has one turn, in an order drawn anew each round, for about so many seconds.

    Returns the times, and the share of turns that were not disturbed.
    """
    runs = {each.key: start(each, problem) for each in contenders}
    calls = {key: max(1, round(TURN / min(turn(run, 1)[1] for _ in range(3)))) for key, run in runs.items()}
    usual = {key: min(turn(run, calls[key])[0] for _ in range(3)) for key, run in runs.items()}
    times: dict[str, list[float]] = {key: [] for key in runs}
    rng = np.random.default_rng(0)
    gc.collect()
    gc.disable()
    begin = time.perf_counter()
    rounds, quiet = 0, 0
    while (spent := time.perf_counter() - begin) < seconds or rounds < (7 if spent < 3 * seconds else 3):
        for key in rng.permutation(list(runs)):
            undisturbed, time_of_step = quiet_turn(runs[key], calls[key], usual[key])
            times[key].append(time_of_step)
            quiet += undisturbed
        rounds += 1
    gc.enable()
    return times, quiet / (rounds * len(runs))


def main() -> None:
    """Read the arguments, print the times."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("heat")
    parser.add_argument("seconds", type=float)
    parser.add_argument("problem", type=Problem)
    arguments = parser.parse_args()
    times, quiet = race(heat(arguments.heat, arguments.problem), arguments.problem, arguments.seconds)
    print(json.dumps({"heat": arguments.heat, "problem": arguments.problem.name, "times": times, "quiet": quiet}))


if __name__ == "__main__":
    main()
