"""Run the benchmark: ``python -m benchmarks``; two minutes of it: ``python -m benchmarks --quick``.

Each heat, first step and peak of memory is taken in a process of its own, started here with the same
threads for everyone. Writes performance.png and performance_table.md, and prints the tables. GPT-2
needs 19 GB of free memory and runs by name: ``python -m benchmarks --models GPT-2``.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from tqdm import tqdm

from benchmarks import picture, report
from benchmarks.bars import FIRST, FIRST_STEPS, LEAVES, MANY, MEMORY_BARS, PAIRS
from benchmarks.contender import ARRAYS, THREADS
from benchmarks.contenders import ALL, heat
from benchmarks.models import MODELS
from benchmarks.problem import SETS, Problem

ROOT = Path(__file__).parent.parent
RAW = ROOT / ".benchmarks"
"""Where the times of a run stay, to be drawn again: not in the repository."""

SIZES = (1_000, 10_000, 100_000, 1_000_000, 10_000_000, 20_000_000, 50_000_000)
QUICK_SIZES = (1_000, 2_000_000)
LARGE, QUICK_LARGE = "1x20000000", "1x2000000"
SECONDS, QUICK_SECONDS = 20.0, 0.5
"""Of rounds, for each heat and problem; three times as many for the large one of a full run, which most bars are of."""
USUAL_MODELS, QUICK_MODELS = ("MLP", "ViT-Tiny", "ResNet-50"), ("MLP", "ViT-Tiny")
FIRST_ROUNDS = 3

Job = tuple[str, ...]
"""A module of this package, which prints what it measures in a line of JSON, and its arguments."""


def environment() -> dict[str, str]:
    """The same for every contender: the threads, and no variable that chooses a BLAS for this machine."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("OPENBLAS_")}
    threads = ("NUMBA_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS", "ADAMOD_ARRAY_BENCH_THREADS")
    return kept | dict.fromkeys(threads, str(THREADS)) | {"PYTHONWARNINGS": "ignore"}


def worker(*arguments: str) -> Iterator[Any]:
    """The lines of JSON that a fresh process prints."""
    command = [sys.executable, "-m", *arguments]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT, env=environment()) as process:
        assert process.stdout is not None
        for line in process.stdout:
            yield json.loads(line)
    if process.returncode:
        raise SystemExit(f"{' '.join(command)} failed with exit code {process.returncode}")


def fits(method: str, problem: Problem) -> bool:
    """Tell whether the arrays of a whole heat fit into the memory that is free now; print it where they do not."""
    pages = Path("/proc/meminfo").read_text()
    free = int(next(line.split()[1] for line in pages.splitlines() if line.startswith("MemAvailable"))) * 1024
    arrays = len(heat(method, problem)) * (ARRAYS[method] // 2 + SETS) + 8  # and temporaries
    fit = problem.elements * (8 if problem.is_complex else 4) * arrays < free
    if not fit:
        print(f"left out for want of memory: {method}, {problem}")
    return fit


def jobs(quick: bool, models: Sequence[str] | None, seconds: float | None) -> list[Job]:
    """List all that a run measures, or these models alone."""
    heats = [("Adam", Problem(name)) for name in models or (QUICK_MODELS if quick else USUAL_MODELS)]
    if not models:
        problems = [f"1x{size}" for size in (QUICK_SIZES if quick else SIZES)] + [LEAVES]
        heats = [(method, Problem(name)) for method in ARRAYS for name in problems] + heats
        heats += [] if quick else [(method, Problem(PAIRS)) for method in ("AdaMod", "Adam")]
    seconds = seconds or (QUICK_SECONDS if quick else SECONDS)
    found: list[Job] = [
        ("interleave", method, str(seconds * (3 if problem.name == LARGE else 1)), problem.name)
        for method, problem in heats
        if fits(method, problem)
    ]
    if not models:
        first = [LEAVES] if quick else [MANY] * FIRST_ROUNDS
        found += [("first_step", name, problem) for problem in first for name in FIRST_STEPS]
        keys = MEMORY_BARS if quick else [x.key for x in ALL if x.expected is not None]
        found += [("memory", key, QUICK_LARGE if quick else LARGE) for key in keys]
    return found


def measure(jobs: list[Job], result: dict[str, Any], raw: Path) -> None:
    """Add what each job finds to the result, which is written every time."""
    with tqdm(jobs, unit="case", smoothing=0) as progress:
        for module, *arguments in progress:
            progress.set_description(f"{module} {' '.join(arguments)}")
            result[module] += worker(f"benchmarks.{module}", *arguments)
            raw.write_text(json.dumps(result))


def main() -> None:
    """Measure or read, then print, write and draw."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="small sizes and few rounds; writes to .benchmarks/")
    parser.add_argument("--seconds", type=float, help="of rounds, for each method and size")
    parser.add_argument("--models", nargs="+", choices=MODELS, help="only these; they join the last run's table")
    parser.add_argument("--again", action="store_true", help="print and draw the last run's times, as far as it came")
    parser.add_argument("--out", type=Path, help="folder for the picture and the table (default: docs)")
    arguments = parser.parse_args()
    RAW.mkdir(exist_ok=True)
    raw = RAW / ("quick.json" if arguments.quick else "performance.json")
    out = arguments.out or (RAW if arguments.quick else ROOT / "docs")
    large = QUICK_LARGE if arguments.quick else LARGE

    result: dict[str, Any] = {"interleave": [], "first_step": [], "memory": []}
    if arguments.again or (arguments.models and raw.exists()):
        result = json.loads(raw.read_text())
    if not arguments.again:
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:THREADS])  # the processes started here inherit it
        measure(jobs(arguments.quick, arguments.models, arguments.seconds), result, raw)

    races = {(each["heat"], each["problem"]): each for each in result["interleave"]}
    if not races:
        raise SystemExit("nothing was measured")
    quiet = sum(each["quiet"] for each in races.values()) / len(races)
    times = {which: each["times"] for which, each in races.items()}
    for each in result["first_step"]:
        times.setdefault((FIRST, each["problem"]), {}).setdefault(each["key"], []).append(each["seconds"])
    memory = {each["key"]: each["extra"] / each["state"] for each in result["memory"]}
    text = report.page(times, memory, large, quiet)
    print(text)
    if not report.curve_problems(times):
        return  # models alone are no page
    (out / "performance_table.md").write_text(text + "\n", encoding="utf-8")
    picture.draw(out / "performance.png", times)
    print(f"\nwritten: {out}/performance_table.md, {out}/performance.png")


if __name__ == "__main__":
    main()
