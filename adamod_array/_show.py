"""What serves what on this machine."""

from __future__ import annotations

import importlib
import importlib.metadata
import importlib.util
from typing import Any

from adamod_array import _kernels
from adamod_array._kernels import cache

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
    """Return the engine that auto takes for a framework, and why no faster one."""
    if name == "cupy":
        return "cupy", "; ".join(["one launch a leaf", *_reasons("cupy", "CuPy")])
    if name not in ("numpy", "torch", "jax"):
        return "eager", "the rule as written; the framework may fuse it"
    jax = importlib.import_module("adamod_array._kernels.jax")
    on_cpu = name != "jax" or (module.default_backend() == "cpu" and jax.CALLS_KERNELS)
    kernels = on_cpu and _kernels.numba_kernels() is not None
    reasons = _reasons("numba", "kernel", "look", {"numpy": "NumPy", "torch": "PyTorch", "jax": "JAX"}[name])
    if kernels:
        reasons.append(f"kernels: {cache.status()}")
    elif on_cpu and "numba" not in _kernels.passed_over:
        reasons.append("numba is not installed (pip install 'adamod_array[numba]')")
    if name == "torch":
        return _torch_engines(module, kernels, reasons)
    engine, why = {
        ("numpy", True): ("numba", "one pass over memory"),
        ("numpy", False): ("eager", "in blocks that fit the cache"),
        ("jax", True): ("numba", "one pass over memory, called by XLA"),
        ("jax", False): ("jit", "one compiled call for the whole tree"),
    }[name, kernels]
    return engine, "; ".join([why, *reasons])


def _torch_engines(torch: Any, kernels: bool, reasons: list[str]) -> tuple[str, str]:
    """Return the engine of each kind of device, and what ``engine("compile")`` would take."""
    foreach = importlib.import_module("adamod_array._kernels.foreach")
    devices = ["cpu", *(["cuda"] if torch.cuda.is_available() else [])]
    engines = {device: "numba" if kernels and device == "cpu" else "foreach" for device in devices}
    for device, engine in engines.items():
        if engine == "foreach":
            missing = foreach.missing_compiler(device)
            can = f"cannot compile ({missing})" if missing else "compiles, for seconds to a minute at the first step"
            reasons.append(f"on {device}, engine('compile') {can}")
    why = "one pass over memory" if kernels else "every operation once for all tensors"
    return ", ".join(f"{k}: {v}" for k, v in engines.items()), "; ".join([why, *reasons])


def _reasons(*words: str) -> list[str]:
    """Return what does not work here, of the things in whose names one of the words is."""
    found = [(name, why) for name, why in _kernels.passed_over.items() if any(word in name for word in words)]
    return [f"without {name} ({why})" for name, why in found]


def _devices(name: str, module: Any) -> str:
    if name == "jax":
        return ", ".join(str(device) for device in module.devices())
    if name == "torch":
        return ", ".join(["cpu", *(f"cuda:{i}" for i in range(module.cuda.device_count()))])
    if name == "cupy":
        return ", ".join(f"cuda:{i}" for i in range(module.cuda.runtime.getDeviceCount()))
    return "cpu"
