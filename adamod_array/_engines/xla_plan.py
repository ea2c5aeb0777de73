"""JAX: how known arrays are stepped by the library's own program, and whether the next ones are like them."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from operator import attrgetter, methodcaller
from typing import Any

import numpy as np

from adamod_array._engines import Columns
from adamod_array._engines.plan import Plan
from adamod_array._namespace import namespace_of
from adamod_array._scalars import Scalars

_aval, _sharding = attrgetter("aval"), attrgetter("sharding")
_is_deleted = methodcaller("is_deleted")


@dataclass(kw_only=True)
class XlaPlan(Plan):
    """How a tree is stepped. Its signatures are the classes, avals and shardings of the last gradients.

    What one program returns has the very same objects at every step, which are then compared by identity.
    """

    program: Callable[..., Columns] | None = None
    """None where no kernel takes these arrays."""
    computes: tuple[str, ...] = ()
    """The dtypes of the tables of scalars; without a key, the program makes them of rows."""
    constants: tuple[tuple[float, ...], ...] = ()
    """Those of each method, which end its rows of scalars."""

    @staticmethod
    def key_of(scalars: Scalars, donate: bool) -> tuple[Any, ...] | None:
        """Return the key; None where a scalar is an array of JAX's, known or traced."""
        if not scalars.rates_are_known or _any_is_jax(itertools.chain.from_iterable(scalars.coefficients)):
            return None
        return donate, scalars.has_decay  # which leaf has which rate is an argument

    def match(self, signatures: Any, arrays: list[Any], donate: bool, untouched: Any) -> Any:
        """Return something where the gradients are like those of the last step, and no array stands in two places.

        JAX's arrays do not change, and the others are what the program returned: they may only have been deleted.
        Nobody needs addresses, for XLA has them.
        """
        classes, avals, shardings = signatures
        grads = arrays[: len(avals)]
        alike = (
            {*map(type, grads)} == classes  # of known arrays, so that none is a tracer
            and [*map(_aval, grads)] == avals
            and [*map(_sharding, grads)] == shardings
            and not any(map(_is_deleted, arrays))
            and (not donate or len({*map(id, arrays)}) == len(arrays))
        )
        return () if alike else None

    def signatures_for(self, arrays: list[Any]) -> Any:
        return {*map(type, arrays)}, [*map(_aval, arrays)], [*map(_sharding, arrays)]

    def step(
        self, _: Any, grads: list[Any], columns: Columns, __: Any, scalars: Scalars, claim: Callable[[], None]
    ) -> Columns:
        """Call the program, which gives buffers away last of all."""
        assert self.program is not None
        if self.key is None:
            tables: Any = scalars.rows(scalars.has_decay, self.constants)
        else:
            tables = [scalars.table(self.key[1], self.constants, compute) for compute in self.computes]
        index = index_of(scalars)
        claim()
        return self.program(tables, index, grads, columns)


def index_of(scalars: Scalars) -> np.ndarray[Any, Any]:
    """Return the row of each leaf; where something is rounded stochastically, the first counters below."""
    if scalars.counters is None:
        return np.asarray(scalars.rate_index, np.int32)
    return np.asarray((scalars.rate_index, scalars.counters), np.uint32).view(np.int32)


def _any_is_jax(numbers: Iterable[Any]) -> bool:
    return any(type(x) is not float and (space := namespace_of(x)) is not None and space.name == "jax" for x in numbers)
