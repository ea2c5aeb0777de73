"""The same on a GPU: ``python -m benchmarks.gpu``; small sizes alone: ``python -m benchmarks.gpu --quick``.

Steps are queued, many in a turn, and the clock is read when the device has nothing left to do: launches that the
host prepares while the device works cost nothing, as in a training loop. All contenders of a method are in one process
and take turns, in an order drawn anew each round, and so does a copy between arrays of as many bytes as a step must
move: a contender's figure is the copy's time divided by its own, in the same round. Prints the table and keeps it in
.benchmarks/; what docs/performance.md says of GPUs is written by hand, with the device's name.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import time
from collections.abc import Callable, Sequence
from statistics import median
from typing import Any

import numpy as np
from tqdm import tqdm

from adamod_array import Adam, AdaMod, RAdam
from benchmarks.__main__ import RAW
from benchmarks.bars import Ratio
from benchmarks.contender import ARRAYS, Contender, Run, start
from benchmarks.contenders import EXACT, METHODS, ours, ours_in_users_jit
from benchmarks.peers import optax_optimizer, torch_optimizer
from benchmarks.problem import Problem

TURN = 20e-3
"""Seconds of queued steps that make a turn."""
PROBLEMS = tuple(map(Problem, ("1x1000000", "1x10000000", "1x50000000", "100x1000")))
QUICK = tuple(map(Problem, ("1x100000", "10x1000")))
COPY = "a copy of as many bytes"
PACKAGES = ("cupy-cuda13x", "torch", "jax", "optax", "pytorch_optimizer")

TORCH, JAX = "torch on a GPU", "jax on a GPU"
CONTENDERS: dict[str, list[Contender]] = {
    "cupy": [*map(ours("cupy on a GPU", "CuPy, donated"), METHODS)],
    "torch": [
        *map(ours(TORCH, "PyTorch by CuPy's kernel, donated", engine="cupy"), METHODS),
        *map(ours(TORCH, "torch.compile, donated", engine="compile"), METHODS),
        *map(ours(TORCH, "PyTorch foreach, donated", engine="foreach"), METHODS[:2]),
        torch_optimizer("torch Adam, fused", Adam(), "torch.optim", "Adam", fused=True, arrays=TORCH),
        torch_optimizer("torch Adam, foreach", Adam(), "torch.optim", "Adam", foreach=True, arrays=TORCH),
        torch_optimizer("torch RAdam, foreach", EXACT, "torch.optim", "RAdam", foreach=True, arrays=TORCH),
        torch_optimizer(
            "pytorch_optimizer AdaMod",
            AdaMod(variant="reference"),
            "pytorch_optimizer",
            "AdaMod",
            betas=(0.9, 0.999, 0.999),
            foreach=True,
            arrays=TORCH,
        ),
    ],
    "jax": [
        *map(ours(JAX, "JAX, donated"), METHODS),
        *(ours_in_users_jit(method, JAX) for method in METHODS),
        optax_optimizer(Adam(), "adam", arrays=JAX),
        optax_optimizer(RAdam(threshold=5), "radam", rtol=1e-2, arrays=JAX),
    ],
}
"""By the framework that each needs."""


def copy(method: str) -> Contender:
    """Bytes read and bytes written, together as many as a step of the method reads and writes."""

    def build(problem: Problem) -> Run:
        import cupy

        source = cupy.zeros(problem.elements * ARRAYS[method] // 2, np.float32)
        target = cupy.empty_like(source)
        return Run(lambda: (), lambda grads: cupy.copyto(target, source), lambda: [target])

    return Contender(COPY, method, build, None)


def wait(run: Run) -> None:
    """Until all that was queued is done: what JAX has promised, then the device as a whole."""
    import cupy

    for x in run.params():
        if hasattr(x, "block_until_ready"):
            x.block_until_ready()
    cupy.cuda.runtime.deviceSynchronize()


def turn(run: Run, calls: int) -> float:
    """Seconds a step, of so many in a row, after one that is not timed."""
    run.step(run.backward())
    wait(run)
    begin = time.perf_counter()
    for _ in range(calls):
        run.step(run.backward())
    wait(run)
    return (time.perf_counter() - begin) / calls


def race(
    contenders: Sequence[Contender], problem: Problem, rounds: int, tick: Callable[[], Any]
) -> dict[str, list[float]]:
    """The times of each in every round, by its key."""
    runs = {each.key: start(each, problem) for each in contenders}
    calls = {key: max(1, round(TURN / min(turn(run, 1) for _ in range(3)))) for key, run in runs.items()}
    times: dict[str, list[float]] = {key: [] for key in runs}
    rng = np.random.default_rng(0)
    for _ in range(rounds):
        for key in rng.permutation(list(runs)):
            times[key].append(turn(runs[key], calls[key]))
        tick()
    return times


def device() -> str:
    """The GPU's name and the versions of what runs on it."""
    import cupy

    properties = cupy.cuda.runtime.getDeviceProperties(0)
    versions = ", ".join(f"{name} {importlib.metadata.version(name)}" for name in PACKAGES if installed(name))
    return f"{properties['name'].decode()}, {properties['totalGlobalMem'] / 2**30:.0f} GiB; {versions}"


def installed(package: str) -> bool:
    """Whether the package is here."""
    try:
        importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return False
    return True


def lines(method: str, contenders: Sequence[Contender], results: dict[str, dict[str, list[float]]]) -> list[str]:
    """Rows of a Markdown table: share of the copy's bandwidth in percent, ± half the quartiles' distance, and times."""
    rows = []
    for contender in contenders:
        cells = []
        for times in results.values():
            ratio = Ratio.of(times[f"{method} | {COPY}"], times[contender.key])
            spread = 50 * (ratio.high - ratio.low)
            cells.append(f"{100 * ratio.median:.0f} ±{spread:.0f} | {1e6 * median(times[contender.key]):.1f} µs")
        name = f"**{contender.name}**" if contender.ours else contender.name
        rows.append(f"| {method} | {name} | {' | '.join(cells)} |")
    return rows


def main() -> None:
    """Measure, print, keep."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gpu", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="small sizes and few rounds")
    parser.add_argument("--rounds", type=int, help="(default: 30; 5 with --quick)")
    parser.add_argument("--frameworks", nargs="+", default=list(CONTENDERS), choices=list(CONTENDERS))
    options = parser.parse_args()
    import cupy

    rounds = options.rounds or (5 if options.quick else 30)
    free, _ = cupy.cuda.runtime.memGetInfo()
    fits = free // (4 * 72)  # ten contenders of six arrays, and the largest's temporaries
    problems = [each for each in (QUICK if options.quick else PROBLEMS) if each.elements <= fits]
    everyone = [contender for name in options.frameworks for contender in CONTENDERS[name]]
    head = ["method", "contender", *(text for each in problems for text in (f"{each}, %", f"{each}, a step"))]
    table = [f"| {' | '.join(head)} |", f"|{' --- |' * 2}{' --: |' * (len(head) - 2)}"]
    with tqdm(total=len(ARRAYS) * len(problems) * rounds, unit="round") as progress:
        for method in ARRAYS:
            contenders = [copy(method), *(each for each in everyone if each.method == method)]
            results = {}
            for problem in problems:
                progress.set_description(f"{method}, {problem}")
                results[str(problem)] = race(contenders, problem, rounds, progress.update)
            table += lines(method, contenders, results)
    text = "\n".join([f"Taken on {device()}. Medians of {rounds} rounds.", "", *table])
    print(text)
    RAW.mkdir(exist_ok=True)
    (RAW / "gpu.md").write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
