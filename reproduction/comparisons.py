"""Ways to train that are held to each other: tests of paired differences in each setting and over all of them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from reproduction.frame import Verdict
from reproduction.statistics import Test, corrected, difference, equivalence
from reproduction.tasks import Task


class Compared(NamedTuple):
    """What paired differences say of their mean, in one setting or over several."""

    differs: Test
    """That the mean is 0 is what it rejects."""
    equals: Test
    """That the mean lies outside of the margin is what it rejects."""

    @property
    def identical(self) -> bool:
        """Return whether every difference is 0: there is nothing to test."""
        return not np.any(self.differs.data["differences"])

    @property
    def equivalent(self) -> bool:
        """Return whether the two are the same, or are shown to be the same within the margin."""
        return self.identical or self.equals.rejects

    @property
    def beyond(self) -> bool:
        """Return whether there is a difference, with a mean beyond the margin."""
        return self.differs.rejects and abs(self.differs.mean) > self.equals.data["margin"]

    @property
    def standard_error(self) -> float:
        """Return that of the mean, by the deviation of these differences alone."""
        x = np.asarray(self.differs.data["differences"])
        return float(x.std(ddof=1) / len(x) ** 0.5)

    def __str__(self) -> str:
        """Return the verdict in words."""
        if self.identical:
            return "identical"
        words = [w for w, test in (("equivalent", self.equals), ("different", self.differs)) if test.rejects]
        return " and ".join(words) or "undecided"


def compare(differences: Mapping[str, Any], margin: float) -> list[Compared]:
    """Test differences, a number a seed, by what they are of; each corrected for all of them together."""
    differ = corrected([difference(name, each) for name, each in differences.items()])
    equal = corrected([equivalence(name, each, margin) for name, each in differences.items()])
    return [Compared(*tests) for tests in zip(differ, equal, strict=True)]


def count(compared: Iterable[Compared]) -> str:
    """Say how many single settings came out how."""
    found = [*compared]
    same = sum(each.identical for each in found)
    return (
        f"{same} identical, {sum(each.equivalent for each in found) - same} equivalent,"
        f" {sum(each.differs.rejects for each in found)} different,"
        f" {sum(each.beyond for each in found)} by more than the margin"
    )


class Comparisons:
    """Differences of several kinds on one task, in each setting and over those settings that count."""

    def __init__(
        self, task: Task, rows: Mapping[str, np.ndarray], settings: Sequence[str], counted: np.ndarray | None = None
    ) -> None:
        """Test the differences of each kind: a row a setting, a column a seed."""
        self.task, self.settings = task, [*settings]
        self.counted = np.ones(len(settings), bool) if counted is None else counted
        over = {f"{task.title}, over the grid: {kind}": x[self.counted].mean(axis=0) for kind, x in rows.items()}
        single = {
            f"{task.title}, {at}: {kind}": row for kind, x in rows.items() for at, row in zip(settings, x, strict=True)
        }
        self.overall = dict(zip(rows, compare(over, task.margin), strict=True))
        found, n = compare(single, task.margin), len(settings)
        self.single = {kind: found[i * n : (i + 1) * n] for i, kind in enumerate(rows)}

    def tests(self) -> list[Test]:
        """Return all tests, a family after the other."""
        families = [[*self.overall.values()], [each for found in self.single.values() for each in found]]
        return [test for family in families for tests in zip(*family, strict=True) for test in tests]

    def chosen(self, kinds: Sequence[str], which: np.ndarray) -> list[Compared]:
        """Return the single settings of these kinds that are marked."""
        return [each for kind in kinds for each, one in zip(self.single[kind], which, strict=True) if one]

    def verdict(self, kinds: Sequence[str]) -> Verdict:
        """Judge that these kinds are equivalent: see :func:`criterion`."""
        if any(each.beyond for each in self.chosen(kinds, self.counted)):
            return "does not hold"
        return "holds" if all(self.overall[kind].equivalent for kind in kinds) else "not shown"

    def apart(self, kinds: Sequence[str]) -> bool:
        """Return whether one of these kinds differs by more than the margin where the settings do not count."""
        return any(each.beyond for each in self.chosen(kinds, ~self.counted))

    def words(self, kinds: Sequence[str]) -> str:
        """Say what was found of these kinds."""
        overall, single = [self.overall[kind] for kind in kinds], self.chosen(kinds, self.counted)
        if len(overall) == 1:
            (one,) = overall
            head = f"{one.differs.mean:+.3f} ± {one.standard_error:.3f} {self.task.unit} over the grid ({one}"
            head += ")" if one.identical else f", p = {one.equals.corrected:.2g} and {one.differs.corrected:.2g})"
        else:
            worst = max(each.equals.corrected for each in overall)
            head = f"over the grid {sum(each.equivalent for each in overall)} of {len(overall)} pairs equivalent"
            head += f" (p at most {worst:.2g})"
        far = max(abs(each.differs.mean) for each in single)
        words = f"{self.task.title}: {head}; of {len(single)} single settings {count(single)}"
        return f"{words}; means at most {far:.2g} {self.task.unit} apart"


def criterion(every: Sequence[Comparisons]) -> str:
    """Say what decides, of all tasks."""
    n = {len(each.differs.data["differences"]) for one in every for each in one.overall.values()}
    kinds = {len(one.overall) for one in every}
    families = " and ".join(str(sum(map(len, one.single.values()))) for one in every)
    margins = " and ".join(f"{one.task.margin:g} ({one.task.unit})" for one in every)
    (seeds,), (kind,) = n, kinds
    holm = f", Holm over {kind}" if kind > 1 else ""
    return (
        "a task holds where the means over the grid are equivalent (two one-sided paired t tests,"
        f" n = {seeds}{holm}) and no single setting differs by more than the margin (paired t, n = {seeds}, own"
        f" deviation, Holm over {families}); margins: {margins}"
    )
