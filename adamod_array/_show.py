"""What serves what on this machine."""

from __future__ import annotations

import importlib
import importlib.metadata
import importlib.util
from typing import Any

from adamod_array import _engines

_FRAMEWORKS = ("numpy", "cupy", "torch", "jax", "dask")


def show() -> None:
    """Print the frameworks found here, their versions and devices, and the engine that serves each.

    Examples
    --------
    >>> from adamod_array import show
    >>> show()  # doctest: +ELLIPSIS
    framework ...
    """
    rows = [("framework", "version", "devices", "engine", "why")]
    rows += [_row(name) for name in _FRAMEWORKS]
    rows.append(("others", "", "any", "eager", "any namespace of the array API standard"))
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    for row in rows:
        print("  ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)).rstrip())


def _row(name: str) -> tuple[str, str, str, str, str]:
    if importlib.util.find_spec(name) is None:
        return name, "not found", "", "", ""
    try:
        module = importlib.import_module(name)
        devices = _devices(name, module)
    except Exception as error:
        return (name, "broken", "", "", f"{type(error).__name__}: {error}".splitlines()[0])
    return name, module.__version__, devices, *_engines.serving(name, module)


def _devices(name: str, module: Any) -> str:
    if name == "jax":
        return ", ".join(str(device) for device in module.devices())
    if name == "torch":
        return ", ".join(["cpu", *(f"cuda:{i}" for i in range(module.cuda.device_count()))])
    if name == "cupy":
        return ", ".join(f"cuda:{i}" for i in range(module.cuda.runtime.getDeviceCount()))
    return "cpu"
