"""The part of a tree that a step takes, where some leaves are None or have no gradient."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from adamod_array import _aliasing, _engines
from adamod_array._engines import Columns
from adamod_array._namespace import Namespace

Spans = tuple[Any, Any]
"""Where some memory begins, and how many bytes it has; two arrays of int64."""


@dataclass
class Part:
    """The leaves that have a gradient, and those that the step leaves untouched; places of None are in neither."""

    stepped: list[int]
    untouched: list[int]
    _recorded: Any = field(default=None, compare=False)
    """Signatures of the untouched arrays, and where their memory begins and ends relative to their addresses."""

    @staticmethod
    def of(params: list[Any], stepped: list[int]) -> Part | None:
        """Return the part of a tree; None of all of it."""
        if len(stepped) == len(params):
            return None
        rest = sorted({*range(len(params))}.difference(stepped))
        return Part(stepped, [i for i in rest if params[i] is not None])

    def columns(self, whole: Columns) -> Columns:
        """Return the columns of the leaves that are stepped."""
        return [[xs[i] for i in self.stepped] for xs in whole]

    def put(self, new: Columns, whole: Columns) -> Columns:
        """Return the whole columns, with new arrays in the places of those that were stepped."""
        return _engines.put(new, self.stepped, whole)

    def remember(self, namespace: Namespace, whole: Columns) -> None:
        """Record signatures and memory spans of the leaves that are not stepped."""
        arrays = self._untouched_arrays(whole)
        if arrays and namespace.name in ("numpy", "torch"):
            addresses = _engines.addresses_of(namespace.name, arrays)
            pairs = [_aliasing.span(namespace, x) or (a, a) for x, a in zip(arrays, addresses, strict=True)]
            starts, ends = np.asarray(pairs, np.int64).T
            signatures = _engines.signatures_of(arrays, ends - addresses)
            self._recorded = None if signatures is None else (signatures, starts - addresses, ends - starts)

    def spans_if_alike(self, namespace: Namespace, gradients: list[Any], whole: Columns) -> Spans | None:
        """Return the memory spans of the untouched arrays; None where other leaves have a gradient, or one changed."""
        if [i for i, g in enumerate(gradients) if g is not None] != self.stepped:
            return None
        arrays = self._untouched_arrays(whole)
        if namespace.name == "jax":
            return None if any(x.is_deleted() for x in arrays) else _NOWHERE
        if not arrays:
            return _NOWHERE
        if self._recorded is None:
            return None
        signatures, offsets, nbytes = self._recorded
        addresses = signatures.match(arrays, False)
        return None if addresses is None else (addresses + offsets, nbytes)

    def _untouched_arrays(self, whole: Columns) -> list[Any]:
        return [xs[i] for xs in whole for i in self.untouched]


_NOWHERE: Spans = np.zeros(0, np.int64), np.zeros(0, np.int64)
