"""JAX: how known arrays are stepped by the library's own program, and whether the next ones are like them."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from operator import attrgetter, methodcaller
from typing import Any

import numpy as np

from adamod_array._engines import Columns, UnlikeError
from adamod_array._engines.plan import PATIENCE, Plan
from adamod_array._namespace import REAL_DTYPE, namespace_of
from adamod_array._scalars import Constants, Scalars

try:
    from adamod_array._engines.numba_distinct import are_distinct
except Exception:  # whatever a compiler may raise

    def are_distinct(objects: list[Any]) -> bool:
        """Return whether no object stands twice in a list."""
        return len({*map(id, objects)}) == len(objects)


_aval, _sharding = attrgetter("aval"), attrgetter("sharding")
_is_deleted = methodcaller("is_deleted")


KINDS = 8
"""Of gradients, for which a plan keeps what it knows: they may alternate."""


@dataclass
class _Known:
    """Gradients of one kind, and the program as it is compiled for them: it refuses others, and deleted ones."""

    classes: set[type]
    avals: list[Any]
    shardings: list[Any]
    program: Any = None

    def are(self, grads: list[Any], arrays: list[Any]) -> bool:
        """Return whether gradients are of this kind, as far as the program does not see to it."""
        if {*map(type, grads)} != self.classes or [*map(_aval, grads)] != self.avals:  # no tracer is of a known class
            return False
        if self.program is not None:
            return True
        return [*map(_sharding, grads)] == self.shardings and not any(map(_is_deleted, arrays))


@dataclass(kw_only=True)
class XlaPlan(Plan):
    """How a tree is stepped.

    What one program returns has the very same avals and shardings at every step, which are then compared by identity.
    """

    program: Any = None
    """A jitted function; None where no kernel takes these arrays."""
    computes: tuple[str, ...] = ()
    """The dtypes that tables of scalars are for; without a key, the program makes the tables of rows."""
    constants: Constants = field(default_factory=dict)
    """Those which end the rows of scalars."""
    is_narrow: bool = False
    """Whether no array has numbers of 64 bits."""
    refused: int = 0
    """How often in a row a compiled program refused what was taken for more of the same."""
    _kinds: dict[Any, _Known] = field(default_factory=dict)
    _index: tuple[Any, Any] = None, None
    """The row of each leaf, and the same as an array."""

    @staticmethod
    def key_of(scalars: Scalars, donate: bool) -> tuple[Any, ...] | None:
        """Return the key; None where a scalar is an array of JAX's, known or traced."""
        if not scalars.rates_are_known or _any_is_jax(itertools.chain.from_iterable(scalars.coefficients)):
            return None
        return donate, scalars.has_decay, scalars.names  # which leaf has which rate is an argument

    def match(self, signatures: Any, arrays: list[Any], donate: bool, untouched: Any) -> Any:
        """Return what is known of gradients like those of the last step, if no array stands in two places.

        JAX's arrays do not change, and the others are what the program returned: they may only have been deleted.
        Nobody needs addresses, for XLA has them.
        """
        known: _Known = signatures
        alike = known.are(arrays[: len(known.avals)], arrays) and (not donate or are_distinct(arrays))
        return known if alike and not arrays[-1].is_deleted() else None

    def signatures_for(self, arrays: list[Any]) -> Any:
        if self.refused > PATIENCE:
            return None
        avals, shardings = [*map(_aval, arrays)], [*map(_sharding, arrays)]
        known = _Known({*map(type, arrays)}, avals, shardings)
        return self._kinds.setdefault((*avals, *shardings), known) if len(self._kinds) < KINDS else known

    def step(
        self, _: Any, grads: list[Any], columns: Columns, known: Any, scalars: Scalars, claim: Callable[[], None]
    ) -> Columns:
        """Call the program, which gives buffers away last of all; ``known`` are arrays like those of the last step."""
        if self.key is None:
            decay = scalars.has_decay
            tables: Any = [scalars.rows(decay, self.constants[x in REAL_DTYPE]) for x in self.computes]
        else:
            tables = [scalars.table(self.key[1], self.constants, compute) for compute in self.computes]
        index, leaves = self._index, (scalars.rate_index, scalars.counters)  # once: another thread may replace it
        if index[0] != leaves:
            self._index = index = leaves, index_of(scalars)
        arguments = tables, index[1], grads, columns
        program = self.program
        if known is not None:
            if known.program is None:
                known.program = program.lower(*arguments).compile()  # which JAX finds compiled
            program = known.program
        claim()
        try:
            new: Columns = program(*arguments)
            self.refused = 0
            return new
        except Exception as error:
            if known is None or all(map(_is_deleted, itertools.chain(*columns))):
                raise  # at work, for the last one was not deleted before
            self.refused += 1
            raise UnlikeError from error


def index_of(scalars: Scalars) -> np.ndarray[Any, Any]:
    """Return the row of each leaf; where something is rounded stochastically, the first counters below."""
    if scalars.counters is None:
        return np.asarray(scalars.rate_index, np.int32)
    return np.asarray((scalars.rate_index, scalars.counters), np.uint32).view(np.int32)


def _any_is_jax(numbers: Iterable[Any]) -> bool:
    return any(type(x) is not float and (space := namespace_of(x)) is not None and space.name == "jax" for x in numbers)
