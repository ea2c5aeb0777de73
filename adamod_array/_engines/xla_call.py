"""JAX on the CPU: what all of Numba's kernels need to be called by XLA as foreign functions."""

from __future__ import annotations

import contextlib
import functools
import sys
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numba

from adamod_array._engines.xla import KEPT
from adamod_array._namespace import full_width


class UnavailableError(Exception):
    """No kernel can be built here, or none that XLA calls; the reason in one line."""


@contextlib.contextmanager
def building() -> Iterator[None]:
    """Raise what fails within as UnavailableError: the fault is the machine's or JAX's, and nothing is computed yet."""
    try:
        yield
    except FloatingPointError:
        raise  # a NaN, for which the user has JAX look (jax_debug_nans)
    except Exception as error:
        raise (
            error
            if isinstance(error, UnavailableError)
            else UnavailableError(f"{type(error).__name__}: {error}".partition("\n")[0])
        ) from error


def registered(name: str, handler: Callable[[], Any]) -> str:
    """Register a C function with XLA, made once a process; returns its name there.

    The name tells what it computes: JAX may keep compiled programs on disk for other processes.
    """
    ffi = sys.modules["jax"].ffi
    name = f"adamod_array_{name}"
    if name not in KEPT:
        KEPT.setdefault(name, handler())
    # XLA refuses a second function of one name, and takes the same one as often as it is told
    ffi.register_ffi_target(name, ffi.pycapsule(KEPT[name].ctypes), platform="cpu")
    return name


@functools.cache
def may_nest() -> bool:
    """Return whether Numba's threads may be woken by any thread of XLA's."""
    numba.get_num_threads()  # starts them
    return numba.threading_layer() in ("omp", "tbb")


def in_program(kernel: Callable[..., Any], xla: Callable[..., Any]) -> Callable[..., Any]:
    """Return a function that is ``kernel``, a part of the program under way, where that is compiled for the CPU.

    For another platform, and under ``vmap`` and derivatives, which know nothing of kernels, ``xla`` computes the same.
    """
    jax = sys.modules["jax"]

    def wide(function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*x: Any) -> Any:
            with full_width(x):
                return function(*x)

        return call

    with building():

        @jax.custom_batching.custom_vmap
        def switch(*x: Any) -> Any:
            return jax.lax.platform_dependent(*x, cpu=wide(kernel), default=wide(xla))

        @switch.def_vmap
        def _(size: int, batched: Sequence[bool], *x: Any) -> Any:
            with full_width(x):
                new = jax.vmap(wide(xla), [0 if each else None for each in batched])(*x)
            return new, jax.tree.map(lambda _: True, new)

        switch = jax.custom_jvp(switch)

        @switch.defjvp
        def _(x: Any, tangents: Any) -> Any:
            with full_width(x):
                return jax.jvp(wide(xla), x, tangents)

    def call(*x: Any) -> Any:
        with building():
            return switch(*x)

    return call
