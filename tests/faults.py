"""Exceptions put in at any line that Python runs in a call."""

from __future__ import annotations

import contextlib
import os
import sys
import types
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from adamod_array import _engines, _late

Point = tuple[types.CodeType, int]
"""A place in a program: its code, and the offset of the instruction that is about to run."""

EVERY = os.environ.get("ADAMOD_ARRAY_FAULTS") == "every"
"""Take each line, at one of the times that it runs, which takes minutes; else only some of them, always the same."""
SOME = 80

ERRORS = (KeyboardInterrupt, MemoryError)


def trace(do: Callable[[], Any], visit: Callable[[Point], None]) -> Any:
    """Call ``do``, and ``visit`` before each line that Python runs in it, in any file; what it raises is raised there.

    Nothing is raised in what stands in for a device: an interrupt of Python's comes after a lock is released, but a
    line begins before.
    """

    def tracer(frame: types.FrameType, event: str, _: Any) -> Any:
        if "cupy_on_cpu" in frame.f_code.co_filename:
            return None
        if event in ("call", "line"):
            visit((frame.f_code, frame.f_lasti))
        return tracer

    with _undisturbed():
        sys.settrace(tracer)
        return do()


@contextlib.contextmanager
def _undisturbed() -> Iterator[None]:
    """Undo what an exception may leave behind; be silent about those that are raised where nobody can catch them."""
    tracer, hook, passed_over = sys.gettrace(), sys.unraisablehook, dict(_engines.passed_over)
    sys.unraisablehook = lambda _: None
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", RuntimeWarning)  # an engine is passed over that has no memory
            yield
    finally:
        sys.settrace(tracer)
        _release_locks()
        sys.unraisablehook = hook
        _engines.passed_over.clear()
        _engines.passed_over.update(passed_over)


def _release_locks() -> None:
    """Release what an exception left locked, put in where a `with` ends: no interrupt of Python comes there."""
    numba = sys.modules.get("adamod_array._engines.numba")
    for lock in (_late.lock, *([numba.pool.lock] if numba else [])):
        with contextlib.suppress(RuntimeError):  # it is nobody's
            while True:
                lock.release()


def modes() -> list[Any]:
    """Return what a step sets for the time that it takes: it is the caller's again, whatever happens."""
    found: list[Any] = [np.geterr()]
    if "torch" in sys.modules:
        import torch

        found += [torch.is_grad_enabled(), torch.is_inference_mode_enabled()]
    if "jax" in sys.modules:
        import jax

        found += [jax.config.jax_enable_x64, jax.enable_x64.get_local(), jax.config.jax_default_device]
    return found


def points(do: Callable[[], Any]) -> list[tuple[Point, int]]:
    """Return where exceptions are to be put in: points that the call visits, and at which visit of each."""
    visits: Counter[Point] = Counter()
    trace(do, lambda point: visits.update((point,)))
    rng = np.random.default_rng(0)
    found = [(point, int(rng.choice((1, n, int(rng.integers(n)) + 1)))) for point, n in visits.items()]
    return found if EVERY or len(found) < SOME else [found[i] for i in rng.choice(len(found), SOME, replace=False)]


def raise_at(do: Callable[[], Any], point: Point, visit: int, error: type[BaseException]) -> Any:
    """Call ``do``, and raise at one visit of a point."""
    left = visit

    def count(at: Point) -> None:
        nonlocal left
        left -= at == point
        if at == point and left == 0:
            raise error(f"put in at line {point[0].co_filename}:{point[0].co_firstlineno}")

    return trace(do, count)
