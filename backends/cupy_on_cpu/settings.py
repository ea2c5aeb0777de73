"""Settings, all of them environment variables, read when the package is imported."""

from __future__ import annotations

import os
import shlex
from pathlib import Path


def _number(name: str, default: int) -> int:
    text = os.environ.get(name, str(default))
    try:
        number = int(text)
    except ValueError:
        number = 0
    if number < 1:
        raise ImportError(f"{name} must be a positive integer, got {text!r}")
    return number


def _switch(name: str, default: bool) -> bool:
    text = os.environ.get(name, str(int(default)))
    if text not in ("0", "1"):
        raise ImportError(f"{name} must be 0 or 1, got {text!r}")
    return text == "1"


def _cache() -> Path:
    default = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "cupy_on_cpu"
    return Path(os.environ.get("CUPY_ON_CPU_CACHE") or default)


DEVICES = _number("CUPY_ON_CPU_DEVICES", 1)
"""How many devices there are; none can read another's memory."""

MEMORY = _number("CUPY_ON_CPU_MEMORY", 8 << 30)
"""Bytes of each device, beyond which ``malloc`` fails as on a GPU."""

FLUSH = _switch("CUPY_ON_CPU_FTZ", True)
"""Whether float32 denormals count as zero, as the ``-ftz=true`` that CuPy gives every kernel has it."""

CACHE = _cache()
"""Folder of compiled kernels."""

COMPILER = shlex.split(os.environ.get("CUPY_ON_CPU_CXX", "g++"))
"""The host compiler, g++ 12 or later."""
