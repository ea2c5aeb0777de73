"""Everything put in place, once, before CuPy is imported."""

from __future__ import annotations

import contextlib
import importlib
import importlib.metadata
import os
import platform
import sys
from collections.abc import Iterator
from typing import Any

from cupy_on_cpu import compiler, devices, entry_points, graphs, host_compiler, kernels, memory, streams
from cupy_on_cpu.errors import unavailable

KNOWN = ("14.0.1", "14.1.1", "14.2.0")
"""Releases of CuPy that this was tested with: it exchanges what is private to CuPy."""

WHEELS = ("cupy-cuda13x", "cupy-cuda12x")

COMPILED_FOR_GPUS = {
    "cupy.cuda.thrust": "sorting",
    "cupy.cuda.cub": "CUB",
}
"""Modules of CuPy whose kernels are in the wheel as machine code."""


def cupy_version() -> str:
    """The installed release, one of those that are known."""
    for wheel in WHEELS:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            version = importlib.metadata.version(wheel)
            if version not in KNOWN:
                raise ImportError(
                    f"cupy_on_cpu uses private names of CuPy and knows those of {', '.join(KNOWN)};"
                    f" {wheel} {version} is installed"
                )
            return version
    raise ImportError(f"cupy_on_cpu needs one of the wheels {', '.join(WHEELS)}")


def install() -> None:
    """Import CuPy so that it runs on the CPU."""
    if "cupy" in sys.modules:
        raise ImportError("import cupy_on_cpu before cupy")
    if sys.platform != "linux" or platform.machine() != "x86_64":
        raise ImportError(f"cupy_on_cpu runs on Linux on x86-64, not on {sys.platform} on {platform.machine()}")
    cupy_version()
    host_compiler.version()
    os.environ["CUPY_ACCELERATORS"] = ""  # CUB's kernels need NVIDIA's headers

    from cupy_backends.cuda.api import driver, runtime
    from cupy_backends.cuda.libs import nvrtc

    entry_points.exchange(runtime, {**devices.RUNTIME, **graphs.RUNTIME, **memory.RUNTIME, **streams.RUNTIME})
    entry_points.exchange(driver, {**devices.DRIVER, **streams.DRIVER, **kernels.DRIVER})
    entry_points.exchange(nvrtc, {"getVersion": lambda: (12, 9)}, refuse_others=False)

    with _cuda_headers():
        import cupy
        from cupy._core import core
        from cupy.cuda import compiler as cupy_compiler

        core.assemble_cupy_compiler_options(())  # which looks for CUDA's headers, once

    cupy_compiler._compile_module_with_cache = compiler.compile_module
    memory.fill_what_pools_give()
    for name, what in COMPILED_FOR_GPUS.items():
        _refuse_all(name, what)
    for name in ("default_rng", "Generator"):
        setattr(cupy.random, name, _refusal(f"cupy.random.{name}"))


@contextlib.contextmanager
def _cuda_headers() -> Iterator[None]:
    """CuPy wants a folder of CUDA's headers; none is read here."""
    pathfinder: Any = importlib.import_module("cuda.pathfinder")
    find = pathfinder.find_nvidia_header_directory
    pathfinder.find_nvidia_header_directory = lambda *_, **__: str(compiler.INCLUDE)
    try:
        yield
    finally:
        pathfinder.find_nvidia_header_directory = find


def _refuse_all(module_name: str, what: str) -> None:
    """Have every function of a module say that it is not here: the wheel's own would end the process."""
    with contextlib.suppress(ImportError):
        module = importlib.import_module(module_name)
        for name, value in list(vars(module).items()):
            if not name.startswith("_") and callable(value) and not isinstance(value, type):
                setattr(module, name, _refusal(f"{module_name}.{name}", f"{what} is compiled for GPUs in the wheel"))


def _refusal(name: str, why: str = "compiled for GPUs in the wheel") -> Any:
    def refuse(*_: Any, **__: Any) -> Any:
        raise unavailable(name, why)

    return refuse
