"""Arrays of every framework as they are stored, and back: C order, complex numbers as pairs, bits unchanged."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

import numpy as np

from adamod_array._namespace import REAL_DTYPE, dtype_name, full_width, is_complex, is_tracer, namespace_of

Host = np.ndarray[Any, Any]
"""Numbers as they are stored: little-endian reals in C order, bfloat16 as uint16, complex with a last axis of two."""

CODES = {"float16": "F16", "bfloat16": "BF16", "float32": "F32", "float64": "F64"}
"""What safetensors calls a dtype."""

_RAW = {"bfloat16": "uint16"}


def real_dtype(name: str) -> str:
    """Return the dtype of the numbers that are stored for those of a dtype."""
    return REAL_DTYPE.get(name, name)


def shape_of(x: Any) -> tuple[int, ...]:
    """Return the shape that an array is stored in."""
    return (*x.shape, 2) if is_complex(x) else tuple(x.shape)


def stored(x: Any, path: Callable[[], str]) -> Host:
    """Return an array's numbers as they are stored; they may share its memory.

    Raises
    ------
    ValueError
        Not all of them are in reach.
    """
    name = dtype_name(x)
    host = np.asarray(_on_host(x, path))
    shape = host.shape
    host = np.ascontiguousarray(host).reshape(shape)  # which alone would give a 0-d array a dimension
    if name in _RAW:
        return host.view(_RAW[name])
    if name in REAL_DTYPE:
        host = host.reshape(*shape, 1).view(host.real.dtype)
    return host.astype(host.dtype.newbyteorder("<"), copy=False)


def _on_host(x: Any, path: Callable[[], str]) -> Any:
    namespace = namespace_of(x)
    assert namespace is not None
    if namespace.name == "torch":
        return _tensor_on_host(x, path)
    if namespace.name == "jax":
        if is_tracer(x):
            raise ValueError(f"{path()} is traced by JAX: save and convert states outside of jit")
        if not (x.is_fully_addressable or x.is_fully_replicated):
            raise ValueError(
                f"{path()} lies with other processes in part (sharding {x.sharding}): gather it first, by"
                " jax.experimental.multihost_utils.process_allgather, or use orbax"
            )
        return np.asarray(x)
    if namespace.name == "cupy":
        return x.get()
    if namespace.name == "dask":
        return x.compute()
    return x if namespace.name == "numpy" else np.from_dlpack(x)


def _tensor_on_host(x: Any, path: Callable[[], str]) -> Any:
    torch: Any = sys.modules["torch"]
    if hasattr(x, "full_tensor"):  # a DTensor
        raise ValueError(
            f"{path()} is a DTensor, of which other processes may hold a part: gather it first (full_tensor()), or use"
            " torch.distributed.checkpoint"
        )
    if x.device.type == "meta":
        raise ValueError(f"{path()} is on the meta device and holds no numbers")
    x = x.detach().cpu().resolve_conj().resolve_neg()
    return (x.view(torch.int16) if x.dtype == torch.bfloat16 else x).numpy()


def made(host: Host, name: str, like: Any) -> Any:
    """Return an array of dtype ``name`` in the framework, sharding and memory order, and on the device, of ``like``.

    ``host`` holds its numbers as they are stored, and is given away.
    """
    namespace = namespace_of(like)
    assert namespace is not None
    if namespace.name == "torch":
        return _tensor(host, name, like)
    x = _typed(host, name).reshape(like.shape)
    if namespace.name == "numpy":
        return _laid_out(x, np.asarray(like))
    if namespace.name == "jax":
        with full_width((like,)):
            return _sharded(x, like)
    if namespace.name == "cupy":
        with like.device:
            return namespace.xp.array(x, order="F" if like.flags.f_contiguous and not like.flags.c_contiguous else "C")
    if namespace.name == "dask":
        return namespace.xp.from_array(x, chunks=like.chunks)
    return namespace.xp.asarray(x, device=like.device)


def _typed(host: Host, name: str) -> Host:
    """Return the numbers in a dtype of NumPy's."""
    host = host.astype(host.dtype.newbyteorder("="), copy=False)
    if name != "bfloat16":
        return host.view(name) if host.dtype != name else host
    import ml_dtypes

    return host.view(ml_dtypes.bfloat16)


def _laid_out(x: Host, like: Host) -> Host:
    """Return the numbers in the memory order of an array, and in its byte order."""
    dtype = like.dtype if dtype_name(x) == dtype_name(like) else x.dtype
    if like.flags.c_contiguous and dtype == x.dtype:
        return x
    out = np.empty_like(like, dtype, subok=False)
    out[...] = x
    return out


def _sharded(x: Host, like: Any) -> Any:
    jax: Any = sys.modules["jax"]
    if not getattr(like, "committed", True):
        return jax.numpy.asarray(x)  # to the default device: nobody chose one
    if len(like.sharding.device_set) == 1:
        return jax.device_put(x, like.sharding)
    return jax.make_array_from_callback(x.shape, like.sharding, lambda index: x[index])


def _tensor(host: Host, name: str, like: Any) -> Any:
    torch: Any = sys.modules["torch"]
    x = torch.from_numpy(host.view("int16") if name == "bfloat16" else _typed(host, name))
    x = (x.view(torch.bfloat16) if name == "bfloat16" else x).reshape(like.shape)
    if hasattr(like, "full_tensor"):
        from torch.distributed.tensor import distribute_tensor

        mesh = like.device_mesh
        return distribute_tensor(x.to(mesh.device_type), mesh, like.placements, src_data_rank=None)
    with torch.no_grad():
        return torch.empty_like(like, dtype=x.dtype, requires_grad=False).copy_(x)
