"""Unit runs, stored as soon as they end: a run that was stopped continues where it was."""

from __future__ import annotations

import hashlib
import importlib.metadata
import io
import json
import os
import platform
import signal
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from multiprocessing import get_context
from pathlib import Path

import numpy as np
from tqdm import tqdm

import adamod_array
from reproduction.digest import digest_of
from reproduction.frame import Experiment, Result, Results, Run

PACKAGES = ("numpy", "torch", "jax", "numba", "scikit-learn")
"""What can change a result."""


def versions() -> dict[str, str]:
    """Of Python and of the packages that are here."""
    found = {"Python": platform.python_version(), "adamod_array": adamod_array.__version__}
    for name in PACKAGES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def key(run: Run) -> str:
    """A name for the stored result: it changes with the arguments, with what they compute, and with the versions."""
    text = json.dumps([repr(run), digest_of(run.function, run.config), versions()], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def execute(run: Run, path: Path) -> None:
    """Run it and store what it returns: the file is there in full or not at all."""
    start = time.process_time()  # a run has one core, which other programs may take in turns
    values = run.function(**run.config)
    about = {"run": repr(run), "seconds": time.process_time() - start, "versions": versions()}
    buffer = io.BytesIO()
    np.savez_compressed(buffer, about=np.asarray(json.dumps(about)), **{f"value_{k}": v for k, v in values.items()})
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_suffix(f".{os.getpid()}.part")
    part.write_bytes(buffer.getvalue())
    part.replace(path)


def read(run: Run, path: Path) -> Result:
    """A stored result."""
    with np.load(path, allow_pickle=False) as stored:
        about = json.loads(str(stored["about"]))
        values = {name.removeprefix("value_"): stored[name] for name in stored.files if name.startswith("value_")}
    return Result(run.config, values, about["seconds"], about["versions"])


class Store:
    """A folder of results."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def path(self, run: Run) -> Path:
        """Where the result of a run is, or will be: the same for every experiment that lists it."""
        return self.folder / run.function.__module__ / f"{key(run)}.npz"

    def forget(self, runs: list[Run]) -> None:
        """Throw away their results."""
        for run in runs:
            self.path(run).unlink(missing_ok=True)

    def complete(self, experiments: list[tuple[Experiment, list[Run]]], jobs: int) -> Iterator[Results]:
        """Run what is not stored yet, ``jobs`` at a time; give each experiment's results once all are there."""
        # spawned: a fork would lose the threads of PyTorch and JAX; Ctrl-C ends such a process at once
        interrupt = signal.SIGINT, signal.SIG_DFL
        pool = ProcessPoolExecutor(jobs, get_context("spawn"), initializer=signal.signal, initargs=interrupt)
        try:
            ahead, begun = [], {}
            for experiment, runs in experiments:
                # the paths once: a module that is edited meanwhile must not change them
                stored = [(run, self.path(run)) for run in runs]
                missing = {path: run for run, path in stored if not path.exists()}
                for path, run in missing.items():
                    if path not in begun:  # another experiment may have listed it
                        begun[path] = pool.submit(execute, run, path)
                ahead.append((experiment.name, stored, [begun[path] for path in missing]))
            for name, stored, futures in ahead:
                with tqdm(desc=name, total=len(stored), initial=len(stored) - len(futures), unit=" runs") as bar:
                    for future in as_completed(futures):
                        future.result()
                        bar.update()
                yield Results([read(run, path) for run, path in stored])
        finally:
            pool.shutdown(cancel_futures=True)
