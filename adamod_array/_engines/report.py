"""Which engine serves a framework here, and why no faster one: what ``show()`` prints."""

from __future__ import annotations

from typing import Any

from adamod_array._engines import jax, numba_cache, numba_kernels, passed_over, torch_cuda, torch_lists


def serving(name: str, module: Any) -> tuple[str, str]:
    """Return the engine that auto takes for a framework, and why no faster one."""
    if name == "cupy":
        return "cupy", "; ".join(["one launch a device and dtype", *_reasons("cupy", "CuPy")])
    if name == "dask":
        engine, why = serving("numpy", module)
        return engine, f"one task a chunk, by NumPy's engine: {why}"
    if name not in ("numpy", "torch", "jax"):
        return "eager", "the rule as written; the framework may fuse it"
    on_cpu = name != "jax" or (module.default_backend() == "cpu" and jax.CALLS_KERNELS)
    kernels = on_cpu and numba_kernels() is not None
    reasons = _reasons("numba", "kernel", "look", {"numpy": "NumPy", "torch": "PyTorch", "jax": "JAX"}[name])
    if kernels:
        reasons.append(f"kernels: {numba_cache.status()}")
    elif on_cpu and "numba" not in passed_over:
        reasons.append("numba is not installed (pip install 'adamod_array[numba]')")
    if name == "torch":
        return _torch_engines(module, kernels, reasons)
    engine, why = {
        ("numpy", True): ("numba", "one pass over memory"),
        ("numpy", False): ("eager", "in blocks that fit the cache"),
        ("jax", True): ("numba", "one pass over memory, called by XLA; meshes: each device's parts, in the same way"),
        ("jax", False): ("jit", "one compiled call for the whole tree, or for each device's parts"),
    }[name, kernels]
    return engine, "; ".join([why, *reasons])


def _torch_engines(torch: Any, kernels: bool, reasons: list[str]) -> tuple[str, str]:
    """Return the engine of each kind of device, and what ``engine("compile")`` would take."""
    devices = ["cpu", *(["cuda"] if torch.cuda.is_available() else [])]
    engines = {device: "numba" if kernels and device == "cpu" else "foreach" for device in devices}
    if "cuda" in engines:
        without = torch_cuda.missing()
        engines["cuda"] = "foreach" if without else "cupy"
        reasons.append(
            f"on cuda without CuPy's kernel ({without})" if without else "on cuda, one launch for all tensors"
        )
    for device, engine in engines.items():
        if engine == "foreach":
            missing = torch_lists.missing_compiler(device)
            can = f"cannot compile ({missing})" if missing else "compiles, for seconds to a minute at the first step"
            reasons.append(f"on {device}, engine('compile') {can}")
    reasons.append("DTensors: the local tensors of each process, in the same way")
    why = "one pass over memory" if kernels else "every operation once for all tensors"
    return ", ".join(f"{k}: {v}" for k, v in engines.items()), "; ".join([why, *reasons])


def _reasons(*words: str) -> list[str]:
    """Return what does not work here, of the things in whose names one of the words is."""
    found = [(name, why) for name, why in passed_over.items() if any(word in name for word in words)]
    return [f"without {name} ({why})" for name, why in found]
