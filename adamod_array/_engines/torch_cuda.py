"""PyTorch on a GPU, where CuPy is installed: a device's leaves in one launch (cuda_table), those with gaps as lists.

Everything is queued on PyTorch's current stream, where PyTorch's own kernels for these tensors would be: its allocator,
which knows the stream, may give their memory away as soon as they are gone, and ``record_stream`` has nothing to add.
"""

from __future__ import annotations

import contextlib
import functools
import importlib.util
import sys
from collections.abc import Callable, Iterator
from typing import Any

from adamod_array._engines import Columns, StepInputs, cuda_launch, cuda_table, pass_over, passed_over, torch_lists
from adamod_array._engines.dense import are_beside
from adamod_array._late import late
from adamod_array._namespace import namespace_of

NAME = "CuPy beside PyTorch"
"""What is passed over where it does not work."""


class TorchMemory:
    """Tensors on GPUs, for the kernels of all leaves."""

    kind = "cuda"
    """Of a device, whose memory kernels reach."""

    def stream(self, device: int) -> int:
        """Return CUDA's handle of the current stream of a device."""
        handle: int = sys.modules["torch"].cuda.current_stream(device).cuda_stream
        return handle

    def device(self, x: Any) -> int:
        return x.device.index or 0

    def address(self, x: Any) -> int:
        where: int = x.data_ptr()
        return where

    def is_beside(self, p: Any, x: Any) -> bool:
        return are_beside(p, x)

    def is_in_order(self, x: Any) -> bool:
        in_c: bool = x.is_contiguous()
        return in_c

    @contextlib.contextmanager
    def at(self, device: int) -> Iterator[Any]:
        stream = _stream(self.stream(device))
        with sys.modules["cupy"].cuda.Device(device), stream:
            yield stream

    def empty_like(self, x: Any) -> Any:
        return sys.modules["torch"].empty_like(x)

    def words(self, count: int, device: int) -> Any:
        torch = sys.modules["torch"]
        return torch.empty(count, dtype=torch.int64, device=torch.device(self.kind, device))

    def scalar(self, value: Any, real: str, p: Any) -> Any:
        namespace = namespace_of(p)
        assert namespace is not None
        number = namespace.scalar(value, real, p.device)
        return number if number.device == p.device else float(number)  # which is on the CPU

    def full(self, value: float, real: str, p: Any) -> Any:
        torch = sys.modules["torch"]
        return torch.full((), value, dtype=getattr(torch, real), device=p.device)


memory = TorchMemory()
"""Replaced by tests where no GPU is, and CuPy's memory is the CPU's."""


class _Handle:
    """A stream of PyTorch's, in the protocol by which CuPy takes it."""

    def __init__(self, handle: int) -> None:
        self._handle = handle

    def __cuda_stream__(self) -> tuple[int, int]:
        return 0, self._handle


@functools.lru_cache(maxsize=64)
def _stream(handle: int) -> Any:
    """Return CuPy's object for a stream of PyTorch's, which lives as long as the process or is one of its pool."""
    return sys.modules["cupy"].cuda.Stream.from_external(_Handle(handle))


def serves(tensors: list[Any]) -> bool:
    """Return whether the kernels take tensors: those on GPUs, where CuPy is installed and works."""
    return {x.device.type for x in tensors} == {memory.kind} and not missing()


def missing() -> str:
    """Return why CuPy's kernels do not serve PyTorch here; nothing where they do."""
    if not _is_installed():
        return "CuPy is not installed"
    found = [passed_over[name] for name in (NAME, cuda_launch.NAME) if name in passed_over]
    if found:
        return found[0]
    try:
        cupy = late("cupy")
        if not hasattr(cupy.cuda.Stream, "from_external"):
            return f"CuPy 14 or later takes streams of PyTorch's, and this is {cupy.__version__}"
        return "" if cupy.is_available() else "CuPy finds no GPU"
    except Exception as error:  # whatever an installation may raise
        pass_over(NAME, error)
        return passed_over[NAME]


@functools.cache
def _is_installed() -> bool:
    try:
        return importlib.util.find_spec("cupy") is not None
    except (ImportError, ValueError):  # half removed
        return False


def run(inputs: StepInputs, donate: bool) -> Columns:
    """Step every leaf."""
    return cuda_table.run(inputs, donate, memory, _lists)


def _lists(inputs: StepInputs, donate: bool) -> Callable[[], Columns]:
    """Step leaves with gaps, or slots in another dtype, as lists, which claims the state before it writes."""
    columns = torch_lists.run(inputs, donate, fuse=False)
    return lambda: columns
