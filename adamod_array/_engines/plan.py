"""A plan: what an engine worked out for a tree, kept from step to step while arrays stay as they were."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from adamod_array._scalars import Scalars

PATIENCE = 8
"""After so many misses in a row nothing is recorded any more: it would cost more than it saves."""


@dataclass(kw_only=True)
class Plan:
    """What all plans have: a key, and the arrays of the last step. Lists of arrays begin with the gradients."""

    key: Any
    """What the plan depends on besides the arrays: see :meth:`key_of`."""
    signatures: Any = None
    """Recognises arrays like those of the last step; None where the next must be checked one by one."""
    misses: int = 0
    """Steps in a row that found other arrays."""

    @staticmethod
    def key_of(scalars: Scalars, donate: bool) -> Any:
        """Return the key for these scalars; None where no plan may be kept."""
        raise NotImplementedError

    def fits(self, scalars: Scalars, donate: bool) -> bool:
        """Return whether it is the plan for these scalars."""
        return self.key is not None and self.key == self.key_of(scalars, donate)

    def addresses_if_alike(self, arrays: list[Any], donate: bool, untouched: Any = None) -> Any:
        """Return the addresses of arrays like those of the last step; None where one is not, or may not be written.

        ``untouched`` are the addresses and sizes of what a donated step may not touch.
        """
        signatures = self.signatures  # once: another thread may drop them meanwhile
        found = None if signatures is None else self.match(signatures, arrays, donate, untouched)
        self.misses = 0 if found is not None else self.misses + 1
        return found

    def match(self, signatures: Any, arrays: list[Any], donate: bool, untouched: Any) -> Any:
        """Return the addresses where the arrays match the signatures, else None; every engine that records has one."""
        raise NotImplementedError

    def remember(self, arrays: list[Any]) -> None:
        """Record signatures for the next step; stop after too many misses in a row."""
        self.signatures = self.signatures_for(arrays) if self.misses < PATIENCE else None

    def signatures_for(self, arrays: list[Any]) -> Any:
        """Return what recognises arrays like these; None where nothing can."""
        raise NotImplementedError
