"""A look at the arrays of a step: whether they are like those of the last one, and where their memory is.

A kernel is given addresses. None is that of an array whose dtype, shape, strides and memory were not
looked at in that very step, for a user may have changed them in place: ``m.data = m.data.double()``,
``m.resize(10)``. All arrays are looked at in one compiled call; Python's attributes cost more than a step.
"""

from __future__ import annotations

import functools
import sys
import weakref
from array import array
from typing import Any

import numpy as np

from adamod_array._engines import pass_over, passed_over
from adamod_array._late import late

try:
    from adamod_array._engines import numpy_abi
except Exception as error:  # no struct as expected, or no compiler: addresses are asked for one by one
    pass_over("a fast look at NumPy's arrays", error)
    numpy_abi = None  # type: ignore[assignment]


def signatures_of(arrays: list[Any], count: int, nbytes: Any, *, stay: bool = False) -> Any:
    """Return what recognises arrays like these; None where nothing can.

    Parameters
    ----------
    arrays : list of array
        Gradients, then what a donated step writes.
    count : int
        How many of them are gradients.
    nbytes : array
        Bytes of each.
    stay : bool
        Whether what is written is expected to be the same arrays at every step.
    """
    if isinstance(arrays[0], np.ndarray):
        return NumpySignatures(arrays, count) if numpy_abi is not None else None
    try:
        modes = Modes(arrays[0])
        abi = _tensors() if COMPILED_LOOK not in passed_over and {*map(type, arrays)} <= _plain_tensors() else None
        if abi is not None:
            return TorchSignatures(modes, abi, arrays, nbytes)
        return GuardedSignatures(modes, arrays, count if stay else len(arrays), nbytes)
    except (ImportError, AttributeError, TypeError) as error:  # names of PyTorch that are not public
        pass_over("a fast look at PyTorch's tensors", error)
        return None


COMPILED_LOOK = "a compiled look at PyTorch's tensors"


@functools.cache
def _tensors() -> Any:
    """Return what reads PyTorch's tensors by their structs; None where these are not as expected."""
    try:
        return late("adamod_array._engines.numba_tensors")
    except Exception as error:  # whatever a search, or a compiler, may raise
        pass_over(COMPILED_LOOK, error)
        return None


def _plain_tensors() -> set[type]:
    """Return the classes whose structs are known."""
    torch = sys.modules["torch"]
    return {torch.Tensor, torch.nn.Parameter}


class NumpySignatures:
    """Of NumPy's arrays: type, dtype, shape, strides and flags, from their C structs."""

    def __init__(self, arrays: list[Any], count: int) -> None:
        self._known = {*map(type, arrays)}, [x.dtype for x in arrays]  # kept alive, being known by their addresses
        self._signatures = numpy_abi.signatures_of(arrays)
        self._is_writable = all(x.flags.writeable for x in arrays[count:])

    def match(self, arrays: list[Any], donate: bool) -> Any:
        """Return the arrays' addresses, or None where one has changed, or is locked and would be written."""
        return numpy_abi.match(arrays, self._signatures) if self._is_writable or not donate else None


class Modes:
    """What this thread's modes make of a tensor (inference mode, functorch, dispatch modes), by a guard of one.

    They are the same for all tensors.
    """

    def __init__(self, x: Any) -> None:
        from torch._C import _functorch

        self._guard = guards_of([x])
        self._interpreters = _functorch.peek_interpreter_stack

    def are_as_before(self, x: Any) -> bool:
        """Return whether they are those of the last step, and this tensor like the one there."""
        return self._interpreters() is None and bool(self._guard.check(x))


def guards_of(arrays: list[Any]) -> Any:
    """Return what PyTorch guards compiled graphs with: class, dtype, shape, strides, gradients, dispatch keys."""
    from torch._C._dynamo.guards import TensorGuards

    return TensorGuards(*arrays, dynamic_dims_sizes=None, dynamic_dims_strides=None)


class TorchSignatures:
    """Of tensors: class, dtype, shape, strides and dispatch keys, from their C++ structs; and ``requires_grad``."""

    def __init__(self, modes: Modes, abi: Any, arrays: list[Any], nbytes: Any) -> None:
        self._modes, self._abi = modes, abi
        self._signatures = abi.signatures_of(arrays, nbytes)
        self._requires_grad = [x.requires_grad for x in arrays]

    def match(self, arrays: list[Any], donate: bool) -> Any:
        """Return the tensors' addresses, or None where one has changed or has lost its memory."""
        found = self._abi.match(arrays, self._signatures) if self._modes.are_as_before(arrays[0]) else None
        if found is None or donate:  # which has no derivative
            return found
        return found if [x.requires_grad for x in arrays] == self._requires_grad else None


class GuardedSignatures:
    """Of tensors whose structs are not known: the same by what guards compiled graphs.

    The storages of those after the first ``count`` are remembered, and not kept alive: while one lives nothing else can
    come to its address, and to ask it for its size is all that is left to do.
    """

    def __init__(self, modes: Modes, arrays: list[Any], count: int, nbytes: Any) -> None:
        self._modes, self._guards = modes, guards_of(arrays)
        self._count, self._nbytes = count, nbytes.tolist()
        self._memory = _memory([x.untyped_storage() for x in arrays[count:]], [x.data_ptr() for x in arrays[count:]])

    def match(self, arrays: list[Any], donate: bool) -> Any:
        """Return the tensors' addresses, or None where one has changed or has lost its memory."""
        if not self._modes.are_as_before(arrays[0]) or not self._guards.check(*arrays):
            return None
        addresses, n = [x.data_ptr() for x in arrays], self._count
        known, references, sizes = self._memory
        stay = addresses[n:] == known and [(x := r()) is not None and x.nbytes() for r in references] == sizes
        storages = [x.untyped_storage() for x in (arrays[:n] if stay else arrays)]
        places = zip(addresses, self._nbytes, storages)  # noqa: B905 - of those that may have moved
        if False in [start + nbytes <= x.data_ptr() + x.nbytes() for start, nbytes, x in places]:
            return None
        if not stay:
            self._memory = _memory(storages[n:], addresses[n:])
        return _integers(addresses)


def _memory(storages: list[Any], addresses: list[int]) -> tuple[list[int], list[Any], list[int]]:
    """Return addresses of tensors, and weak references to their storages with the sizes of these."""
    return addresses, [weakref.ref(x) for x in storages], [x.nbytes() for x in storages]


def addresses_of(framework: str, arrays: list[Any]) -> Any:
    """Return where the data of each array is."""
    if framework == "torch":
        return _integers([x.data_ptr() for x in arrays])  # which makes what was only promised
    if numpy_abi is None:
        return np.asarray([x.ctypes.data for x in arrays], np.int64)
    return numpy_abi.addresses_of(arrays)


def _integers(numbers: list[int]) -> Any:
    """Return an array of 64 bits; NumPy takes three times as long to make one of a list."""
    return np.frombuffer(array("q", numbers), np.int64)
