"""Run the benchmark: ``python -m benchmarks``; a minute of it: ``python -m benchmarks --quick``.

Each heat is timed in a process of its own and each peak of memory in another, both started here with
the same threads for everyone. Writes performance.png and performance_table.md, and prints the tables.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tqdm import tqdm

from benchmarks import picture, report
from benchmarks.bars import MEMORY_BARS
from benchmarks.contender import ARRAYS, THREADS
from benchmarks.contenders import ALL
from benchmarks.problem import Problem

ROOT = Path(__file__).parent.parent
RAW = ROOT / ".benchmarks"
"""Where the times of a run stay, to be drawn again: not in the repository."""

SIZES = (1_000, 10_000, 100_000, 1_000_000, 10_000_000, 20_000_000, 50_000_000)
LARGE = "1x20000000"
QUICK_SIZES = (1_000, 100_000, 2_000_000)
QUICK_LARGE = "1x2000000"
SECONDS, QUICK_SECONDS = 20.0, 1.5
"""Of rounds, for each heat and problem; three times as many for the large one, where most of the bars are."""


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


def fits(problem: Problem) -> bool:
    """Whether the arrays of a whole heat fit into the memory that is free now."""
    pages = Path("/proc/meminfo").read_text()
    free = int(next(line.split()[1] for line in pages.splitlines() if line.startswith("MemAvailable"))) * 1024
    return problem.elements * 4 * 60 < free  # ten contenders of five arrays, and the largest's temporaries


def measure(raw: Path, problems: list[Problem], large: str, seconds: float, keys: list[str]) -> None:
    """All heats, then all peaks of memory, each written as soon as it is known."""
    races: list[Any] = []
    memory: list[Any] = []
    with tqdm(total=len(ARRAYS) * len(problems) + len(keys), unit="case", smoothing=0) as progress:
        for method in ARRAYS:
            progress.set_description(f"{method}, timed in turn")
            for problem in problems:
                spell = seconds * (3 if str(problem) == large else 1)
                races += worker("benchmarks.interleave", method, str(spell), str(problem))
                raw.write_text(json.dumps({"large": large, "races": races, "memory": memory}))
                progress.update()
        progress.set_description("peak memory")
        for key in keys:
            memory += worker("benchmarks.memory", key, large)
            raw.write_text(json.dumps({"large": large, "races": races, "memory": memory}))
            progress.update()


def main() -> None:
    """Measure or read, then print, write and draw."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="small sizes and few rounds; writes to .benchmarks/")
    parser.add_argument("--seconds", type=float, help="of rounds, for each method and size")
    parser.add_argument("--again", action="store_true", help="print and draw the last run's times, as far as it came")
    parser.add_argument("--out", type=Path, help="folder for the picture and the table (default: docs)")
    arguments = parser.parse_args()
    RAW.mkdir(exist_ok=True)
    raw = RAW / ("quick.json" if arguments.quick else "performance.json")
    out = arguments.out or (RAW if arguments.quick else ROOT / "docs")

    if not arguments.again:
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:THREADS])  # the processes started here inherit it
        problems = [Problem(1, size) for size in (QUICK_SIZES if arguments.quick else SIZES)] + [Problem(100, 1_000)]
        if too_large := [str(x) for x in problems if not fits(x)]:
            print(f"left out for want of memory: {', '.join(too_large)}")
        problems = [x for x in problems if str(x) not in too_large]
        large = QUICK_LARGE if arguments.quick else LARGE
        seconds = arguments.seconds or (QUICK_SECONDS if arguments.quick else SECONDS)
        keys = [x.key for x in ALL if x.expected is not None]
        if arguments.quick:
            keys = [key for key in keys if key in MEMORY_BARS]
        measure(raw, problems, large, seconds, keys)

    result = json.loads(raw.read_text())
    times = {(each["heat"], each["problem"]): each["times"] for each in result["races"]}
    memory = {each["key"]: each["extra"] / each["state"] for each in result["memory"]}
    quiet = sum(each["quiet"] for each in result["races"]) / len(result["races"])
    text = report.page(times, memory, result["large"], quiet)
    print(text)
    (out / "performance_table.md").write_text(text + "\n", encoding="utf-8")
    picture.draw(out / "performance.png", times)
    print(f"\nwritten: {out}/performance_table.md, {out}/performance.png")


if __name__ == "__main__":
    main()
