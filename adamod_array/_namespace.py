"""Whose arrays are these: the namespace of an array, its dtypes, devices and scalars."""

from __future__ import annotations

import contextlib
import importlib
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import array_api_compat
import numpy as np

from adamod_array._late import late

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


def real_compute_dtype(name: str) -> str:
    """Return the dtype of the real numbers that parameters of a dtype are computed in."""
    compute = COMPUTE_DTYPE[name]
    return REAL_DTYPE.get(compute, compute)


SQUARE_ROOT = {"float32": 2.0**64, "float64": 2.0**512}
"""The smallest number whose square, rounded, is infinite."""

SIZE = {"float16": 2, "bfloat16": 2, "float32": 4, "float64": 8}
"""Bytes of an element of the real dtypes."""


def framework(name: str) -> Any:
    """Return a framework's module if its import is complete, else None.

    While another thread imports it, ``sys.modules`` holds a module of which half is missing.
    """
    module = sys.modules.get(name)
    if module is None or module is _imported.get(name):
        return module
    if _is_initializing(module):
        return None
    _imported[name] = module
    return module


_imported: dict[str, Any] = {}
"""Modules whose import was seen to be complete."""


def _is_initializing(module: Any) -> bool:
    return getattr(getattr(module, "__spec__", None), "_initializing", False) is True


def dtype_name(x: Any) -> str:
    """Return ``"float32"``, ``"bfloat16"``, ...: one name for a dtype in every framework."""
    dtype = x.dtype
    key = (type(dtype), dtype)  # the class too: array-api-strict warns when its dtypes meet NumPy's
    name = _dtype_names.get(key)
    if name is None:
        name = _dtype_names[key] = str(getattr(dtype, "name", None) or dtype).rpartition(".")[2]
    return name


_dtype_names: dict[tuple[type, Any], str] = {}


def is_complex(x: Any) -> bool:
    """Return whether an array's numbers are complex."""
    return dtype_name(x).startswith("complex")


@dataclass(frozen=True)
class Namespace:
    """The array namespace of one framework, and the few questions whose answers differ between them."""

    name: str
    xp: Any

    def dtype(self, name: str) -> Any:
        """Return the namespace's dtype of that name; bfloat16 of NumPy is that of ml_dtypes.

        Raises
        ------
        ImportError
            It is not installed.
        """
        if name == "bfloat16" and self.name in ("numpy", "cupy"):
            try:
                return np.dtype(importlib.import_module("ml_dtypes").bfloat16)
            except ImportError as error:
                raise ImportError(
                    f"bfloat16 in {self.name} needs ml_dtypes: pip install 'adamod_array[{self.name}]'"
                ) from error
        return getattr(self.xp, name)

    @property
    def widest_float(self) -> Any:
        """Return float64, or what JAX allows in its place."""
        return self.xp.result_type(float) if self.name == "jax" else self.xp.float64

    def device(self, x: Any) -> Any:
        """Return where the array is; None where that is not known until the program runs (a JAX tracer)."""
        if self.name == "numpy":
            return "cpu"
        if self.name == "jax":
            return None if is_tracer(x) else x.devices()
        if self.name == "torch":
            return x.device  # array_api_compat asks caches, of which torch.compile warns
        return array_api_compat.device(x)

    def on_device(self, x: Any) -> Any:
        """Return a context in which new arrays are made as ``x`` is: on its device (CuPy), with all its bits (JAX)."""
        if self.name == "jax":
            return full_width((x,))
        return x.device if self.name == "cupy" else contextlib.nullcontext()

    def cast(self, x: Any, dtype: Any) -> Any:
        """Return ``x`` in a dtype, itself where it has it."""
        return x if x.dtype == dtype else self.xp.astype(x, dtype)

    def copy(self, x: Any) -> Any:
        """Return a copy on the device of ``x``; PyTorch's is part of what autograd sees."""
        if self.name == "torch":
            return x.clone()
        with self.on_device(x):
            return self.xp.asarray(x, copy=True)

    def layout(self, x: Any) -> Any:
        """Return what is equal for arrays that lie alike in memory, of one dtype, shape and device; None if unknown."""
        if isinstance(x, np.ndarray):
            return x.shape, x.dtype, x.strides, x.flags.aligned
        if self.name == "torch" and x.layout is self.xp.strided:
            return x.shape, x.dtype, x.stride(), x.device
        if self.name == "cupy":
            return x.shape, x.dtype, x.strides, x.device.id
        if self.name == "jax" and not is_tracer(x) and not x.is_deleted():
            return x.shape, x.dtype, x.sharding
        return None

    def scalar(self, value: Any, dtype: str, device: Any) -> Any:
        """Return ``value`` as a scalar of ``dtype`` for arrays on ``device``; nothing is copied from the host.

        Host numbers are rounded once, here. 0-d arrays are cast where they are, CuPy's on ``device``.
        """
        if isinstance(value, (int, float)):
            if self.name == "torch":  # on the host, for it will be a kernel's argument
                return self.xp.asarray(float(value), dtype=self.xp.float64, device="cpu").to(self.dtype(dtype))
            with np.errstate(all="ignore"):  # 1e39 is infinite in float32, whatever the caller wants to hear of it
                number = np.dtype(dtype).type(value)
            if self.name in ("numpy", "cupy", "dask", "jax"):
                return number
            return self.xp.asarray(float(number), dtype=self.dtype(dtype), device=device)
        if self.name == "torch" and value.device.type != "cpu":  # the CPU's may stay: they are kernels' arguments
            return value.to(device=device, dtype=self.dtype(dtype))
        if self.name != "cupy":
            return self.xp.astype(value, self.dtype(dtype))
        with device:  # one device's kernels may not be able to read another's memory
            return self.xp.astype(value if value.device == device else value.copy(), self.dtype(dtype), copy=False)


def namespace_of(x: Any) -> Namespace | None:
    """Return the namespace of an array, or None of anything else."""
    cls = type(x)
    namespace = _namespaces.get(cls)
    if namespace is None and cls not in _namespaces:
        namespace = _namespace_of_type(cls)
        if namespace is not None or not any(
            _is_initializing(m) for name in _FRAMEWORKS if (m := sys.modules.get(name))
        ):
            _namespaces[cls] = namespace
    return namespace or _namespace_by_protocol(x)


_namespaces: dict[type, Namespace | None] = {}


def know(module: str, *classes: type) -> None:
    """Remember the namespace of a framework's own classes: Dynamo cannot follow how it is found."""
    _namespaces.update(dict.fromkeys(classes, _namespace(module)))


_FRAMEWORKS = ("torch", "jax", "cupy", "dask.array")


def _namespace_of_type(cls: type) -> Namespace | None:
    """Return the namespace of a scalar of NumPy's, or of a class of arrays that compute as their numbers do."""
    if issubclass(cls, np.generic):
        return _namespace("numpy")
    module, base = _framework_of(cls)
    return None if base is None or has_own_arithmetic(cls, base) else _namespace(module)


def _framework_of(cls: type) -> tuple[str, type | None]:
    """Return an array's framework and the class that it derives from; both exist only once the framework does."""
    if issubclass(cls, np.ndarray):
        return "numpy", np.ndarray
    if (torch := framework("torch")) and issubclass(cls, torch.Tensor):
        return "torch", torch.Tensor
    if (jax := framework("jax")) and issubclass(cls, (jax.Array, getattr(jax.core, "Tracer", ()))):
        return "jax", cls
    if (cupy := framework("cupy")) and issubclass(cls, cupy.ndarray):
        return "cupy", cupy.ndarray
    if (dask := framework("dask.array")) and issubclass(cls, dask.Array):
        return "dask.array", dask.Array
    return "", None


def is_derived_array(x: Any) -> bool:
    """Return whether the class of ``x`` derives from a framework's arrays, but computes otherwise."""
    return _framework_of(type(x))[1] is not None


_found: dict[Any, Namespace] = {}
"""One object a framework, also where threads meet it at the same time: they are compared by identity."""


def _namespace(module: str) -> Namespace:
    """Return the one namespace object of a framework, whichever of its classes an array has."""
    if module not in _found:
        xp = sys.modules["jax"].numpy if module == "jax" else _compat(module)
        _found.setdefault(module, Namespace(module.partition(".")[0], xp))
    return _found[module]


_BINARY = ("add", "sub", "mul", "truediv", "floordiv", "mod", "pow", "matmul", "and", "or", "xor", "lshift", "rshift")
_OTHERS = ("neg", "pos", "abs", "invert", "lt", "le", "gt", "ge", "eq", "ne", "bool", "getitem", "setitem")
_HOOKS = ("array_ufunc", "array_function", "array_wrap", "torch_function", "torch_dispatch")
_ARITHMETIC = [f"__{prefix}{name}__" for name in _BINARY for prefix in ("", "r", "i")]
_ARITHMETIC += [f"__{name}__" for name in (*_OTHERS, *_HOOKS)]

_PLAIN = {
    "numpy.memmap",
    "numpy.recarray",
    "numpy.rec.recarray",
    "torch.nn.parameter.Parameter",
    "torch.nn.parameter.Buffer",
    "torch.distributed.tensor.DTensor",
    "torch.distributed._functional_collectives.AsyncCollectiveTensor",
    "torch._subclasses.fake_tensor.FakeTensor",
    "torch._subclasses.functional_tensor.FunctionalTensor",
}
"""Subclasses whose arithmetic is that of the numbers that they hold, wherever those are."""


def has_own_arithmetic(cls: type, base: type) -> bool:
    """Return whether a subclass of a framework's array class has operators or ufuncs of its own.

    Units and masks live there, and a kernel would pass over them in silence.
    """
    definers = ((name, next((each for each in cls.__mro__ if name in vars(each)), base)) for name in _ARITHMETIC)
    return any(
        not issubclass(base, definer)
        and f"{definer.__module__}.{definer.__qualname__}" not in _PLAIN
        and getattr(vars(definer)[name], "__name__", "") not in _SWITCHED_OFF
        for name, definer in definers
    )


_SWITCHED_OFF = ("_disabled_torch_function_impl", "_disabled_torch_dispatch_impl")
"""Names of what stands in a tensor's class in place of a hook that it does without."""


def _compat(name: str) -> Any:
    """Return array-api-compat's wrapper, imported only once its framework is."""
    return late(f"array_api_compat.{name}")


def _namespace_by_protocol(x: Any) -> Namespace | None:
    """Return the namespace of any other array of the standard."""
    if isinstance(x, (type, np.ndarray)) or not hasattr(x, "__array_namespace__"):
        return None
    xp = x.__array_namespace__()
    return _found.get(xp) or _found.setdefault(xp, Namespace(xp.__name__.partition(".")[0], xp))


def is_tracer(x: Any) -> bool:
    """Return whether the value of a JAX array is unknown, inside jit, vmap, grad or scan."""
    return _is_tracer_class(type(x))


def has_tracers(arrays: Iterable[Any]) -> bool:
    """Return whether any of them is a tracer."""
    return any(map(_is_tracer_class, set(map(type, arrays))))


def _is_tracer_class(cls: type) -> bool:
    known = _tracer_classes.get(cls)
    if known is not None:
        return known
    jax: Any = framework("jax")
    if jax is None:  # which may yet be imported
        return False
    try:
        known = issubclass(cls, jax.core.Tracer)
    except AttributeError:  # JAX promises no place for it
        known = any(base.__name__ == "Tracer" and base.__module__.startswith("jax") for base in cls.__mro__)
    _tracer_classes[cls] = known
    return known


_tracer_classes: dict[type, bool] = {}
"""Which classes are tracers', of those seen since JAX was imported."""


def narrows(arrays: Iterable[Any]) -> bool:
    """Return whether JAX would halve one of its arrays: they outlive its flag ``jax_enable_x64``, one a thread."""
    return not sys.modules["jax"].config.jax_enable_x64 and have_wide(arrays)


def have_wide(arrays: Iterable[Any]) -> bool:
    """Return whether numbers of some array have 64 bits."""
    return not _WIDE.isdisjoint([getattr(x, "dtype", None) for x in arrays])


_WIDE = frozenset(map(np.dtype, ("float64", "complex128", "int64", "uint64")))


def full_width(arrays: Iterable[Any]) -> contextlib.AbstractContextManager[Any]:
    """Return a context in which JAX computes with arrays of its own as they are, whatever its flag says."""
    return sys.modules["jax"].enable_x64(True) if narrows(arrays) else contextlib.nullcontext()
