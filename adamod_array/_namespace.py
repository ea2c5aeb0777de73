"""Whose arrays are these: the namespace of an array, its dtypes, devices and scalars."""

from __future__ import annotations

import contextlib
import importlib
import sys
from dataclasses import dataclass
from typing import Any

import array_api_compat
import numpy as np

COMPUTE_DTYPE = {
    "float16": "float32",  # 16 bits are too few to average in: 1 - beta2 or eps would vanish
    "bfloat16": "float32",
    "float32": "float32",
    "float64": "float64",
    "complex64": "complex64",
    "complex128": "complex128",
}
"""The dtypes that parameters may have, and the dtype each is computed in."""

REAL_DTYPE = {"complex64": "float32", "complex128": "float64"}


def dtype_name(x: Any) -> str:
    """``"float32"``, ``"bfloat16"``, ...: one name for a dtype in every framework."""
    dtype = x.dtype
    key = (type(dtype), dtype)  # the class too: array-api-strict warns when its dtypes meet NumPy's
    name = _dtype_names.get(key)
    if name is None:
        name = _dtype_names[key] = str(getattr(dtype, "name", None) or dtype).rpartition(".")[2]
    return name


_dtype_names: dict[tuple[type, Any], str] = {}


@dataclass(frozen=True)
class Namespace:
    """The array namespace of one framework, and the few questions whose answers differ between them."""

    name: str
    xp: Any

    def dtype(self, name: str) -> Any:
        """The namespace's dtype of that name."""
        return getattr(self.xp, name)

    @property
    def widest_float(self) -> Any:
        """float64, or what JAX allows in its place."""
        return self.xp.result_type(float) if self.name == "jax" else self.xp.float64

    def device(self, x: Any) -> Any:
        """Where the array is; None where that is not known until the program runs (a JAX tracer)."""
        if self.name == "numpy":
            return "cpu"
        if self.name == "jax":
            return None if is_tracer(x) else x.devices()
        return array_api_compat.device(x)

    def on_device(self, x: Any) -> Any:
        """A context in which new arrays are made on the device of ``x``: CuPy's are made on the current one."""
        return x.device if self.name == "cupy" else contextlib.nullcontext()

    def layout(self, x: Any) -> Any:
        """Equal for arrays that lie alike in memory, of one dtype, shape and device; None where that costs too much."""
        if type(x) is np.ndarray:
            return x.shape, x.dtype, x.strides
        if self.name == "torch" and x.layout is self.xp.strided:
            return x.shape, x.dtype, x.stride(), x.device
        if self.name == "cupy":
            return x.shape, x.dtype, x.strides, x.device.id
        if self.name == "jax" and not is_tracer(x) and not x.is_deleted():
            return x.shape, x.dtype, x.sharding
        return None

    def scalar(self, value: Any, dtype: str, device: Any) -> Any:
        """``value`` as a scalar of ``dtype``, ready to meet arrays on ``device``; nothing is copied from the host.

        Host numbers are rounded once, here. Arrays of no dimensions are cast where they are, CuPy's on ``device``.
        """
        if isinstance(value, (int, float)):
            if self.name in ("numpy", "cupy", "dask", "jax"):
                return np.dtype(dtype).type(value)
            if self.name == "torch":
                return self.xp.asarray(value, dtype=self.dtype(dtype), device="cpu")  # a kernel's argument
            return self.xp.asarray(value, dtype=self.dtype(dtype), device=device)
        if self.name != "cupy":
            return self.xp.astype(value, self.dtype(dtype))
        with device:  # one device's kernels may not be able to read another's memory
            return self.xp.astype(value if value.device == device else value.copy(), self.dtype(dtype), copy=False)


def namespace_of(x: Any) -> Namespace | None:
    """The namespace of an array, or None of anything else."""
    cls = type(x)
    kind = _namespaces.get(cls)
    if kind is None and cls not in _namespaces:
        kind = _namespaces[cls] = _namespace_of_type(cls)
    return kind or _namespace_by_protocol(x)


_namespaces: dict[type, Namespace | None] = {}


def _namespace_of_type(cls: type) -> Namespace | None:
    """The frameworks that array-api-compat wraps; an array's type exists only once its framework is imported."""
    if issubclass(cls, (np.ndarray, np.generic)):
        if issubclass(cls, (np.ma.MaskedArray, np.matrix)):
            return None  # their operators mean something else
        return Namespace("numpy", _compat("numpy"))
    if (torch := sys.modules.get("torch")) and issubclass(cls, torch.Tensor):
        return Namespace("torch", _compat("torch"))
    if (jax := sys.modules.get("jax")) and issubclass(cls, (jax.Array, jax.core.Tracer)):
        return Namespace("jax", jax.numpy)
    if (cupy := sys.modules.get("cupy")) and issubclass(cls, cupy.ndarray):
        return Namespace("cupy", _compat("cupy"))
    if (dask := sys.modules.get("dask.array")) and issubclass(cls, dask.Array):
        return Namespace("dask", _compat("dask.array"))
    return None


def _compat(name: str) -> Any:
    """array-api-compat's wrapper, imported only once its framework is."""
    return importlib.import_module(f"array_api_compat.{name}")


def _namespace_by_protocol(x: Any) -> Namespace | None:
    """Any other array of the standard."""
    if isinstance(x, (type, np.ndarray)) or not hasattr(x, "__array_namespace__"):
        return None
    xp = x.__array_namespace__()
    return Namespace(xp.__name__.partition(".")[0], xp)


def is_tracer(x: Any) -> bool:
    """Whether the value of a JAX array is unknown, inside jit, vmap, grad or scan."""
    jax = sys.modules.get("jax")
    return jax is not None and isinstance(x, jax.core.Tracer)
