"""g++, and the folder that keeps what it made."""

from __future__ import annotations

import functools
import hashlib
import os
import shutil
import subprocess
import threading
from collections.abc import Sequence
from pathlib import Path

from cupy_on_cpu.settings import CACHE, COMPILER

FLAGS = ("-std=c++17", "-O1", "-fPIC", "-ffp-contract=off", "-fno-exceptions", "-fno-rtti", "-w")
"""No contracted multiply-adds, no fast mathematics: every operation is rounded as it is written."""

LINK = ("-shared", "-nostdlib", "-lm", "-lc", "-lgcc")
"""Kernels need no C++ library; leaving it out saves a quarter of the time."""


class CompileError(Exception):
    """What g++ said."""


@functools.cache
def version() -> str:
    """The compiler's own description; ImportError where there is none."""
    if shutil.which(COMPILER[0]) is None:
        raise ImportError(f"cupy_on_cpu needs g++ 12 or later, and there is no {COMPILER[0]!r} on PATH")
    done = subprocess.run([*COMPILER, "--version"], capture_output=True, text=True, check=True)
    return done.stdout.partition("\n")[0]


def shared_library(code: str, flags: Sequence[str] = (), keyed_by: str = "") -> Path:
    """The library of that C++, compiled unless the cache has it.

    ``keyed_by`` stands for what the code includes.
    """
    path = CACHE / f"{_digest('library', code, flags, keyed_by)}.so"
    if not path.exists():
        CACHE.mkdir(parents=True, exist_ok=True)
        _compile([*flags, "-x", "c++", "-"], LINK, path, code)
    return path


def precompiled_header(code: str, flags: Sequence[str], keyed_by: str) -> Path:
    """A header to be named by ``-include``; g++ reads the compiled one beside it. 0.1 s a kernel in place of 1 s."""
    header = CACHE / f"{_digest('header', code, flags, keyed_by)}.h"
    compiled = header.with_suffix(".h.gch")
    if not compiled.exists():
        CACHE.mkdir(parents=True, exist_ok=True)
        temporary = _temporary(header)
        temporary.write_text(code, encoding="utf-8")
        temporary.replace(header)
        _compile([*flags, "-x", "c++-header", str(header)], (), compiled)
    return header


def _digest(kind: str, code: str, flags: Sequence[str], keyed_by: str) -> str:
    parts = (kind, version(), COMPILER, FLAGS, LINK, list(flags), keyed_by, code)
    return hashlib.sha256(repr(parts).encode()).hexdigest()[:40]


def _compile(what: Sequence[str], libraries: Sequence[str], path: Path, code: str = "") -> None:
    temporary = _temporary(path)
    command = [*COMPILER, *FLAGS, *what, "-o", str(temporary), *libraries]
    done = subprocess.run(command, input=code, capture_output=True, text=True, check=False)
    if done.returncode:
        raise CompileError(done.stderr)
    temporary.replace(path)


def _temporary(path: Path) -> Path:
    """A name that no other process or thread writes to."""
    return path.with_name(f"{path.name}.{os.getpid()}.{threading.get_ident()}")
