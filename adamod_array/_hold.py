"""Who may still use arrays that a donated step writes: states hold them, and the step claims them from all that do."""

from __future__ import annotations

import itertools
import weakref
from collections.abc import Collection, Iterable, Sequence
from typing import Any

_numbers = itertools.count(1)
"""The order of donated steps and of states put together by hand; drawing a number is atomic."""


class Hold:
    """The right to use some arrays, shared by all states that hold them, until a donated step claims it.

    ``origin`` stays the same from one donated step to the next, as the arrays do.
    """

    claim: Donation | int | None = None
    """The donated step that ended it; of one inside of a user's torch.compile, which makes no objects, its number."""

    def __init__(self, origin: Origin | None = None, after: Donation | None = None) -> None:
        self.origin, self.after = origin or Origin(), after
        self.origin.hold = self

    def take(self, donation: Donation) -> bool:
        """End the hold for a step; False where another was first. Atomic, also for signal handlers."""
        return self.__dict__.setdefault("claim", donation) is donation

    def give_back(self) -> None:
        """Undo :meth:`take`."""
        del self.__dict__["claim"]
        self.origin.hold = self


class Origin:
    """Arrays that came into a state together, and the hold on them as they are now."""

    hold: Hold


Holds = dict[Hold, frozenset[int] | None]
"""A state's holds and the leaves that each is on; None of all of them."""

Columns = Sequence[Sequence[Any]]
"""Arrays or None, one a leaf: of the parameters, then of each slot."""


class Donation:
    """A donated step and its claim on the arrays that it writes, all of them or none.

    Parameters
    ----------
    holds : Holds
        Those of the state.
    step : int
        The step that is taken.
    leaves : collection of int, optional
        Which leaves are written; all of them by default.
    """

    def __init__(self, holds: Holds, step: Any, leaves: Collection[int] | None = None) -> None:
        self.step, self.number, self.finished = step, 0, False
        self._holds, self._leaves = holds, leaves
        self._new: Holds = {}

    def claim(self) -> None:
        """Claim the arrays; to be called just before the first of them is written, more calls do nothing.

        Raises
        ------
        ValueError
            Another step has claimed some of them.
        """
        if self.number:
            return
        self.number = next(_numbers)
        for hold, on in self._holds.items():
            if on is not None and self._leaves is not None and on.isdisjoint(self._leaves):
                self._new[hold] = on
            elif hold.take(self):
                self._new[Hold(hold.origin, self)] = on
            else:
                self.give_back()
                raise_if_spent([hold])

    def finish(self) -> Holds:
        """Return the holds on the arrays as they are now."""
        self.claim()
        self.finished, new = True, self._new
        self._holds, self._new = {}, {}  # a chain of holds would keep all that went before
        return new

    def give_back(self) -> None:
        """Undo the claim of a step that has written nothing."""
        for hold in self._holds:
            if hold.claim is self:
                hold.give_back()


def spent(claim: Donation | int) -> tuple[Any, bool]:
    """Return the step that took a state's arrays, and whether it finished."""
    return (claim.step, claim.finished) if isinstance(claim, Donation) else (claim, True)


def spent_error(step: Any, finished: bool) -> ValueError:
    """Return what a state has to say whose arrays a donated step took."""
    if finished:
        reason = f"it was donated to step {step}; use the state that step returned: state = step(state, ...)"
    else:
        reason = f"step {step} wrote into it and did not finish; go on from a copy or a checkpoint"
    return ValueError(f"this state is spent: {reason}")


def raise_if_spent(holds: Iterable[Hold]) -> None:
    """Raise the error of a state that has lost some of its arrays."""
    for hold in holds:
        if hold.claim is not None:
            raise spent_error(*spent(hold.claim))


def shared(holds: Holds, stepped: Iterable[int], untouched: Collection[int]) -> Holds:
    """Return the holds of a new state: a new one on the leaves that were stepped, the old ones on the rest."""
    if not untouched:
        return {Hold(): None}
    kept = {
        h: on
        for h, old in holds.items()
        if (on := frozenset(untouched if old is None else old.intersection(untouched)))
    }
    return {Hold(): frozenset(stepped), **kept}


# arrays that users have in hand, and may put into states of their own


class Token:
    """Stands for an array in the hands of users: it lives as long as some leaves that hold the array do."""

    def __init__(self, origin: Origin) -> None:
        self.origin = origin


Tokens = dict[int, Token]
"""Those of the arrays that some leaves hold, by the identity of the array, which is nobody else's while they live."""

_tokens: weakref.WeakValueDictionary[int, Token] = weakref.WeakValueDictionary()
"""All of them. No weak references to the arrays themselves: NumPy would not resize them any more."""


def hand_out(arrays: Sequence[Any], holds: Holds, tokens: Tokens) -> None:
    """Remember where arrays come from that a user gets, one or None a leaf; ``tokens`` are those of the leaves."""
    for hold, leaves in holds.items():
        for i in range(len(arrays)) if leaves is None else leaves:
            key = id(arrays[i])
            if arrays[i] is not None and key not in tokens:
                tokens[key] = _tokens.setdefault(key, Token(hold.origin))


def holds_on(columns: Columns, known: tuple[Columns, Holds] | None, since: int | None, tokens: Tokens) -> Holds:
    """Return the holds on arrays that were put together, one list a column.

    Those that are in a known state, at the same place, are held as it holds them; others as whatever
    state has had them ``since`` then; and what is in no state yet gets a new hold. The result of a
    step whose order among the claims nobody knows (``since`` is None) has them by right.

    Raises
    ------
    ValueError
        A donated step has claimed one of them since then.
    """
    new = Hold()
    leaves: dict[Hold, set[int]] = {}
    for k, column in enumerate(columns):
        for i, x in enumerate(column):
            if x is None:
                continue
            if known is not None and i < len(known[0][k]) and known[0][k][i] is x:
                found = [hold for hold, on in known[1].items() if on is None or i in on]
            else:
                found = [_hold_on(x, since, tokens) or new]
            for hold in found:
                leaves.setdefault(hold, set()).add(i)
    if new in leaves:  # they are in a user's hands
        for column in columns:
            hand_out(column, {new: frozenset(leaves[new])}, tokens)
    count = sum(x is not None for x in columns[0])
    return {hold: None if len(on) == count else frozenset(on) for hold, on in leaves.items()}


def _hold_on(x: Any, since: int | None, tokens: Tokens) -> Hold | None:
    """Return the hold on an array that a state has had since then; None of one that is in no state yet."""
    token = _tokens.get(id(x))
    if token is None:
        return None
    tokens[id(x)] = token
    hold = token.origin.hold
    if since is None:
        return hold if hold.claim is None else None
    if hold.after is not None and hold.after.number > since:
        raise spent_error(*spent(hold.after))
    return hold


def now() -> int:
    """Return a number that lies between those of the claims before and after."""
    return next(_numbers)
