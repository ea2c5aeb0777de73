"""The scalars of one step: the distinct rows of them, which row each leaf has, and how they are rounded: once."""

from __future__ import annotations

import functools
import itertools
import math
from array import array
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from adamod_array._coefficients import coefficients_at
from adamod_array._leaves import Leaves
from adamod_array._method import Method
from adamod_array._namespace import Namespace
from adamod_array._rate import as_rate, is_schedule, is_single, spread
from adamod_array._tree import Tree, path

Row = tuple[Any, Any, tuple[Any, ...]]
"""Learning rate, decay factor (None where there is no decay), and the coefficients of the step."""

_CODE = {"float32": "f", "float64": "d"}
"""What Python's arrays call the compute dtypes."""


def arguments(lr: Any, decay: Any, coefficients: Sequence[Any]) -> tuple[Any, ...]:
    """Return a row as the arguments of a Program, in the order of its scalars."""
    return (lr, *coefficients) if decay is None else (lr, decay, *coefficients)


class Scalars:
    """Rates, decay factors and coefficients of one step, in double precision until an engine asks for them rounded.

    Parameters
    ----------
    rates : sequence of (learning rate, decay factor or None)
        The distinct ones.
    rate_index : tuple of int
        Which of them each leaf has.
    coefficients : tuple
        Those of the method, the same for every leaf.
    """

    def __init__(
        self, rates: Sequence[tuple[Any, Any]], rate_index: tuple[int, ...], coefficients: tuple[Any, ...]
    ) -> None:
        self.rates, self.rate_index, self.coefficients = rates, rate_index, coefficients
        self._rounded: dict[Any, Row] = {}

    @classmethod
    def at(cls, t: Any, method: Method, lr: Any, override: Tree | None, weight_decay: Any, leaves: Leaves) -> Scalars:
        """Return the scalars of step ``t``; ``lr`` and ``weight_decay`` are a state's, ``override`` a step's own rate.

        The decay factor is ``1 - lr * weight_decay``, or None where there is no decay.

        Raises
        ------
        TypeError, ValueError
            A rate is no number, negative or not finite, or ``override`` is no tree prefix of the parameters.
        """
        spec, beside = leaves.spec, "" if leaves.namespace is None else leaves.namespace.name
        if override is not None:
            lr = override if is_single(override, spec) else spread(override, spec, leaves.params, "lr")
        coefficients = coefficients_at(method, t)
        n = spec.num_leaves
        if not isinstance(lr, tuple) and not isinstance(weight_decay, tuple):
            return cls([_with_decay(_read(lr, t, lambda: "lr", beside), weight_decay)], (0,) * n, coefficients)
        lrs = lr if isinstance(lr, tuple) else (lr,) * n
        decays = weight_decay if isinstance(weight_decay, tuple) else (weight_decay,) * n
        rows: dict[tuple[int, float], int] = {}
        rates: list[tuple[Any, Any]] = []
        rate_index: list[int] = []
        for i, (each, decay) in enumerate(zip(lrs, decays, strict=True)):
            key = (id(each), decay)
            if key not in rows:
                rows[key] = len(rates)
                rates.append(_with_decay(_read(each, t, functools.partial(path, spec, "lr", i), beside), decay))
            rate_index.append(rows[key])
        return cls(rates, tuple(rate_index), coefficients)

    @property
    def all(self) -> tuple[Any, ...]:
        """Return every scalar, once."""
        return *self.coefficients, *(x for pair in self.rates for x in pair if x is not None)

    @property
    def has_decay(self) -> bool:
        """Return whether any leaf decays."""
        return any(decay is not None for _, decay in self.rates)

    def decays(self, leaf: int) -> bool:
        """Return whether a leaf decays."""
        return self.rates[self.rate_index[leaf]][1] is not None

    def subset(self, leaf_indices: Sequence[int]) -> Scalars:
        """Return the scalars of some of the leaves."""
        return Scalars(self.rates, tuple([self.rate_index[i] for i in leaf_indices]), self.coefficients)

    def rounded(self, leaf: int, namespace: Namespace, dtype: str, device: Any) -> Row:
        """Return the row of a leaf, rounded to a real dtype for arrays on a device; once for all that share it."""
        key = self.rate_index[leaf], dtype, str(device)
        row = self._rounded.get(key)
        if row is None:
            lr, decay = self.rates[key[0]]
            scalar = functools.partial(namespace.scalar, dtype=dtype, device=device)
            coefficients = tuple([scalar(c) for c in self.coefficients])
            row = scalar(lr), None if decay is None else scalar(decay), coefficients
            self._rounded[key] = row
        return row

    def rows(self, decay: bool, constants: tuple[float, ...]) -> list[tuple[Any, ...]]:
        """Return a kernel's arguments for each of the rates, unrounded: rate, ``decay``, coefficients, constants."""
        rest = (*self.coefficients, *constants)
        if not decay:
            return [arguments(lr, None, rest) for lr, _ in self.rates]
        return [arguments(lr, 1.0 if factor is None else factor, rest) for lr, factor in self.rates]

    def table(self, decay: bool, constants: tuple[float, ...], dtype: str) -> np.ndarray[Any, Any]:
        """Return :meth:`rows` as a table, rounded once; C makes what is too large for float32 infinite, in silence."""
        rows = self.rows(decay, constants)
        rounded = array(_CODE[dtype], itertools.chain.from_iterable(rows))
        return np.frombuffer(rounded, dtype).reshape(len(rows), -1)


def _read(rate: Any, t: Any, what: Callable[[], str], beside: str) -> Any:
    if type(rate) is float and 0 <= rate < math.inf:
        return rate
    if is_schedule(rate):
        return as_rate(rate(t), lambda: f"lr {rate!r} at step {t}", beside)
    return as_rate(rate, what, beside)


def _with_decay(rate: Any, weight_decay: float) -> tuple[Any, Any]:
    return rate, None if weight_decay == 0 else 1 - rate * weight_decay
