"""JAX: how known arrays are stepped by the library's own program, and whether the next ones are like them."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass
from operator import attrgetter, methodcaller
from typing import Any

import numpy as np

from adamod_array._engines import Columns
from adamod_array._namespace import is_tracer
from adamod_array._scalars import Scalars

_PATIENCE = 8
"""After so many misses in a row arrays are not remembered any more."""

_aval, _sharding = attrgetter("aval"), attrgetter("sharding")
_is_deleted = methodcaller("is_deleted")


@dataclass
class Plan:
    """How a tree is stepped; handed from state to state while arrays and gradients stay alike.

    Arrays are listed as gradients, parameters, and the slots one after the other.
    """

    key: tuple[Any, ...] | None
    """What the program depends on beside the arrays: see :func:`key_of`."""
    program: Callable[..., Columns] | None = None
    """None where no kernel takes these arrays."""
    computes: tuple[str, ...] = ()
    """The dtypes of the tables of scalars."""
    constants: tuple[tuple[float, ...], ...] = ()
    """Those of each method, which end its rows of scalars."""
    signatures: tuple[set[type], list[Any], list[Any]] | None = None
    """The classes, avals and shardings of the last gradients. What one program returns has the very same objects at
    every step, which are then compared by identity."""
    misses: int = 0
    """Steps in a row that found other arrays: where that goes on, remembering them is lost time."""

    def fits(self, scalars: Scalars, donate: bool) -> bool:
        """Return whether it is the plan for these scalars."""
        return self.key is not None and self.key == key_of(scalars, donate)

    def match(self, arrays: list[Any], donate: bool, others: Any = None) -> Any:
        """Return something where the gradients are like those of the last step, and no array stands in two places.

        JAX's arrays do not change, and the others are what the program returned: they may only have been deleted.
        Nobody needs addresses, for XLA has them.
        """
        assert self.signatures is not None
        classes, avals, shardings = self.signatures
        grads = arrays[: len(avals)]
        alike = (
            {*map(type, grads)} == classes  # of known arrays, so that none is a tracer
            and [*map(_aval, grads)] == avals
            and [*map(_sharding, grads)] == shardings
            and not any(map(_is_deleted, arrays))
            and (not donate or len({*map(id, arrays)}) == len(arrays))
        )
        self.misses = 0 if alike else self.misses + 1
        return () if alike else None

    def remember(self, grads: list[Any]) -> None:
        """Take gradients for those that the next step will find."""
        self.signatures = None
        if self.misses < _PATIENCE:
            self.signatures = {*map(type, grads)}, [*map(_aval, grads)], [*map(_sharding, grads)]

    def step(
        self, _: Any, grads: list[Any], columns: Columns, __: Any, scalars: Scalars, claim: Callable[[], None]
    ) -> Columns:
        """Call the program, which gives buffers away last of all."""
        assert self.program is not None and self.key is not None
        tables = [scalars.table(self.key[1], self.constants, compute) for compute in self.computes]
        index = np.asarray(scalars.rate_index, np.int32)
        claim()
        return self.program(tables, index, grads, columns)


def key_of(scalars: Scalars, donate: bool) -> tuple[Any, ...] | None:
    """Return what a program depends on beside the arrays; None where a rate is an array, or a scalar is traced."""
    rates_are_known = all(isinstance(x, float) for pair in scalars.rates for x in pair if x is not None)
    if not rates_are_known or any(map(is_tracer, itertools.chain.from_iterable(scalars.coefficients))):
        return None
    return donate, scalars.has_decay  # which leaf has which rate is an argument
