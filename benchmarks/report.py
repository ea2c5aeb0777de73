"""The table of a run, its bars, and the machine it ran on."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import median

from benchmarks.bars import FIRST, LEAVES, LIMIT, PEERS, SMALL, Ratio, Times, verdicts
from benchmarks.contender import ARRAYS, THREADS
from benchmarks.contenders import ALL
from benchmarks.models import MODELS
from benchmarks.problem import Problem

PACKAGES = ("numpy", "numba", "torch", "jax", "optax", "adamod", "pytorch_optimizer")

QUIET_ENOUGH = 0.9
BUSY = " **The machine was busy: these figures are preliminary and say little.**"


def machine() -> str:
    """Cores, processor, memory and versions, in a sentence or two."""
    cpu = re.search(r"model name\s*:\s*(.*)", Path("/proc/cpuinfo").read_text())
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    versions = ", ".join(f"{name} {importlib.metadata.version(name)}" for name in PACKAGES)
    return (
        f"{cpu[1] if cpu else platform.processor()}, {THREADS} of {os.cpu_count()} cores, {memory:.0f} GiB of memory;"
        f" Python {platform.python_version()}, {versions}."
    )


def share(times: Mapping[str, list[float]], key: str, method: str) -> Ratio:
    """Bytes a second of a contender over those of the limit, for the bytes that the method must move."""
    return Ratio.of(times[f"{method} | {LIMIT}"], times[key])


def curve_problems(times: Times) -> list[str]:
    """The problems of one leaf that every method was timed on, by size."""
    found = {problem for _, problem in times if problem.startswith("1x")}
    found = {problem for problem in found if all((method, problem) in times for method in ARRAYS)}
    return sorted(found, key=lambda problem: Problem(problem).elements)


def _duration(seconds: float) -> str:
    if seconds < 1e-3:
        return f"{seconds * 1e6:.0f} µs"
    return f"{seconds * 1e3:.1f} ms" if seconds < 1 else f"{seconds:.1f} s"


def _power(size: int) -> str:
    mantissa, _, exponent = f"{size:.0e}".partition("e+")
    return f"{mantissa}e{int(exponent)}"


def _markdown(rows: Sequence[Sequence[str]]) -> str:
    """Lay out the rows of a table."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join(
        "| " + " | ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) + " |" for row in rows
    )


def table(times: Times, memory: Mapping[str, float], large: str) -> str:
    """Share of the limit in percent by size, ± half the distance of the quartiles; times; memory."""
    problems = curve_problems(times)
    head = ["method", "contender", *(_power(Problem(x).elements) for x in problems)]
    head += [f"time of {_power(Problem(large).elements)}", "time of 1e3", "time of 100 of 1e3", "memory"]
    rows = [head, ["---", "---", *["--:"] * (len(head) - 2)]]
    for method in ARRAYS:
        for contender in (x for x in ALL if x.method == method):
            name = f"**{contender.name}**" if contender.ours else contender.name
            row = [method, name]
            for problem in problems:
                ratio = share(times[method, problem], contender.key, method)
                spread = 50 * (ratio.high - ratio.low)
                row.append(f"{100 * ratio.median:.0f}" + (f" ±{spread:.0f}" if spread >= 0.5 else ""))
            for problem in (large, SMALL, LEAVES):
                found = times.get((method, problem))
                row.append("" if found is None else _duration(median(found[contender.key])))
            row.append(f"{100 * memory[contender.key]:.1f}" if contender.key in memory else "")
            rows.append(row)
    return _markdown(rows)


def models(times: Times) -> str:
    """Lay out the time of Adam's step for each model, and of first steps; in brackets, times as fast as the peer."""
    races = [race for race in times if race[1] in MODELS or race[0] == FIRST]
    head = ["contender"]
    for heat, name in races:
        problem = Problem(name)
        size = f"{len(problem.shapes)} leaves, {problem.elements / 1e6:.1f} M"
        head.append(f"{heat}: {size}" if heat == FIRST else f"{name}: {size}")
    rows = [head, ["---", *["--:"] * len(races)]]
    for name in (*PEERS, *dict.fromkeys(PEERS.values())):
        row = [f"**{name}**" if name in PEERS else name]
        for race in races:
            found = times[race]
            step = found.get(f"{race[0]} | {name}")
            row.append("" if step is None else _duration(median(step)))
            if step is not None and name in PEERS:
                row[-1] += f" ({Ratio.of(found[f'{race[0]} | {PEERS[name]}'], step).median:.2f})"
        rows.append(row)
    return _markdown(rows)


def bars(times: Times, memory: Mapping[str, float], large: str) -> str:
    """A line a bar."""
    rows = [("what", "bar", "measured", "met"), ("---", "---", "---", "---")]
    rows += [
        (text, bar, measured, "yes" if met else "**no**") for text, bar, measured, met in verdicts(times, memory, large)
    ]
    return _markdown(rows)


def page(times: Times, memory: Mapping[str, float], large: str, quiet: float) -> str:
    """What docs/performance.md includes: machine, tables, bars."""
    rounds = {len(next(iter(found.values()))) for (heat, _), found in times.items() if heat != FIRST}
    taken = (
        f"Taken on {machine()} Medians of {min(rounds)} to {max(rounds)} rounds;"
        f" {quiet:.0%} of the turns were not disturbed by another program."
    )
    return "\n\n".join(
        [
            taken + (BUSY if quiet < QUIET_ENOUGH else ""),
            *([table(times, memory, large)] if curve_problems(times) else []),
            "Adam on whole models, time of a step; last, the wait for a first step. In brackets, how many times as fast"
            " as its peer: torch's fused Adam is NumPy's and PyTorch's, optax's is JAX's.",
            models(times),
            "The ratios that the library is held to, "
            f"for {Problem(large).elements:,} parameters unless said; median, and quartiles in brackets:",
            bars(times, memory, large),
        ]
    )
