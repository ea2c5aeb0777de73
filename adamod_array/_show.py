"""What serves what on this machine."""

from __future__ import annotations

import importlib
import importlib.metadata
import importlib.util
from typing import Any

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
    return name, module.__version__, devices, *_engine(name, module)


def _engine(name: str, module: Any) -> tuple[str, str]:
    """The engine that auto takes for a framework, and why no faster one."""
    numba = importlib.util.find_spec("numba") is not None
    get = "" if numba else "; numba is not installed (pip install 'adamod_array[numba]')"
    if name == "numpy":
        return ("numba", "one pass over memory") if numba else ("eager", f"in blocks that fit the cache{get}")
    if name == "torch":
        foreach = importlib.import_module("adamod_array._kernels.foreach")
        devices = ["cpu", *(["cuda"] if module.cuda.is_available() else [])]
        missing = {device: foreach.missing_compiler(device) for device in devices}
        engines = {device: "foreach" if missing[device] else "compile" for device in devices}
        if numba:
            engines["cpu"], missing["cpu"] = "numba", ""
        reasons = [get.removeprefix("; "), *missing.values()]
        return ", ".join(f"{k}: {v}" for k, v in engines.items()), "; ".join(
            filter(None, reasons)
        ) or "one pass over memory"
    if name == "jax":
        on_cpu = (
            module.default_backend() == "cpu" and importlib.import_module("adamod_array._kernels.jax").CALLS_KERNELS
        )
        if numba and on_cpu:
            return "numba", "one pass over memory, called by XLA"
        return "jit", "one compiled call for the whole tree" + (get if on_cpu else "")
    if name == "cupy":
        return "cupy", "one launch a leaf"
    return "eager", "the rule as written; the framework may fuse it"


def _devices(name: str, module: Any) -> str:
    if name == "jax":
        return ", ".join(str(device) for device in module.devices())
    if name == "torch":
        return ", ".join(["cpu", *(f"cuda:{i}" for i in range(module.cuda.device_count()))])
    if name == "cupy":
        return ", ".join(f"cuda:{i}" for i in range(module.cuda.runtime.getDeviceCount()))
    return "cpu"
