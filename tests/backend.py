"""A backend under test, as its backends/NAME.toml describes it."""

from __future__ import annotations

import contextlib
import functools
import importlib
import importlib.util
import sys
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

FOLDER = Path(__file__).parent.parent / "backends"
NAMES = sorted(path.stem for path in FOLDER.glob("*.toml"))


@functools.cache
def describe(name: str) -> dict[str, Any]:
    """The table of one backend."""
    return tomllib.loads((FOLDER / f"{name}.toml").read_text())


def backends(name: str, *, on_gpu: bool = False) -> list[Backend]:
    """A backend on each of its devices, by each engine that every test runs with.

    Numba's where it is installed, so that the same tests run without it; JAX's other engine only where it is not: its
    programs take seconds to compile, and are the same with it. On the CPU, ``foreach`` and ``compile`` have their own
    tests, in test_torch_engines.py, and columns in ``nox -s agree``; so has the rule as written over Dask's arrays, in
    test_dask.py: its graph of a few steps takes seconds to compute.
    """
    table = describe(name)
    left_out = {"foreach", "compile"}
    if on_gpu:
        table = table | table["cuda"]
        left_out = set()
    if not importlib.util.find_spec("numba"):
        left_out.add("numba")
    elif not on_gpu:
        left_out |= {"jax": {"jit"}, "dask": {"eager"}}.get(name, set())
    engines = [engine for engine in table["engines"] if engine not in left_out]
    return [Backend(name, device, engine) for device in table["devices"] for engine in engines]


def is_here(name: str) -> bool:
    """Whether the framework is installed, and its device here or stood in for."""
    module: str = describe(name)["module"]
    if importlib.util.find_spec(module.partition(".")[0]) is None:
        return False
    return name != "cupy" or bool(importlib.import_module(module).is_available())


def stands_in(name: str) -> bool:
    """Whether these tests run without the backend's device: ``pytest -p cupy_on_cpu``."""
    return describe(name)["stand_in"] in sys.modules


@dataclass(frozen=True)
class Backend:
    """Arrays of one framework on one device, stepped by one engine."""

    name: str
    device: str
    engine: str

    @property
    def table(self) -> dict[str, Any]:
        """backends/NAME.toml."""
        return describe(self.name)

    @property
    def xp(self) -> Any:
        """The framework's own module."""
        return importlib.import_module("jax.numpy" if self.name == "jax" else self.table["module"])

    def array(self, values: Any, dtype: str = "float32") -> Any:
        """An array of these values, rounded once, on the backend's device."""
        if self.name == "torch":
            # through float64: PyTorch reads nested lists in float32
            wide = np.asarray(values, np.complex128 if "complex" in dtype else np.float64)
            return self.xp.from_numpy(wide.copy()).to(getattr(self.xp, dtype)).to(self.device)
        host = np.asarray(values).astype(numpy_dtype(dtype))
        if self.name == "dask":
            return self.xp.from_array(host, chunks=max(1, -(-max(host.shape, default=1) // 2)))
        if self.name == "strict":
            return self.xp.asarray(host, device=self.xp.Device(self.device))
        return self.xp.asarray(host)

    def default_device(self) -> contextlib.AbstractContextManager[Any]:
        """Where the framework makes arrays for which nobody names a device."""
        if self.device == "cpu" or self.name not in ("torch", "jax"):
            return contextlib.nullcontext()
        framework = importlib.import_module(self.name)
        context: contextlib.AbstractContextManager[Any]
        if self.name == "torch":
            context = framework.device(self.device)
        else:
            platform, _, number = self.device.partition(":")
            context = framework.default_device(framework.devices(platform)[int(number)])
        return context

    def numpy(self, x: Any) -> np.ndarray[Any, Any]:
        """The values as a NumPy array of the same dtype, through the shortest exact way."""
        if self.name == "torch":
            x = x.detach().cpu()
            wide = x.float() if x.dtype == self.xp.bfloat16 else x  # PyTorch gives NumPy no bfloat16
            return np.asarray(wide.numpy()).astype(numpy_dtype(str(x.dtype).removeprefix("torch.")))
        if self.name == "cupy":
            return np.asarray(x.get())
        if self.name == "dask":
            with np.errstate(all="ignore"):  # the step is computed only now
                return np.asarray(x.compute())
        if self.name == "strict":
            return np.from_dlpack(self.xp.asarray(x, device=self.xp.Device("CPU_DEVICE"))).copy()
        return np.asarray(x)


def numpy_dtype(name: str) -> np.dtype[Any]:
    """NumPy's dtype of that name; bfloat16 is ml_dtypes'."""
    if name == "bfloat16":
        import ml_dtypes

        name = ml_dtypes.bfloat16
    return np.dtype(name)
