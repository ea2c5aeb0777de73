"""Whether arrays fill their memory, and lie alike in it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any


def is_dense(shape: Sequence[int], strides: Sequence[int]) -> bool:
    """Return whether an array of such strides, in elements, lies in memory without gaps, in any order."""
    expected = 1
    for stride, n in sorted((stride, n) for stride, n in zip(strides, shape, strict=True) if n != 1):
        if stride != expected:
            return False
        expected *= n
    return True


def are_beside(p: Any, x: Any) -> bool:
    """Return whether two tensors of PyTorch's, of one shape, lie without gaps, element beside element."""
    if x.is_contiguous():
        return bool(p.is_contiguous())
    return bool(x.stride() == p.stride() and is_dense(x.shape, x.stride()))
