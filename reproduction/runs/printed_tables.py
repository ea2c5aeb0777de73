"""The papers' tables as they are printed, Welch's tests of their pairs, and what rounding leaves of these."""

from __future__ import annotations

import functools
import hashlib
import itertools
import re
import tomllib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from scipy import stats

from reproduction.frame import Values
from reproduction.statistics import LEVEL, Test, corrected, holm, welch

PATH = Path(__file__).with_suffix(".toml")


@dataclass(frozen=True)
class Cell:
    """What is printed of some seeds; numbers as they are printed."""

    mean: float
    deviation: float
    step: float
    """The last printed digit: a number is within half of it."""
    median: float | None = None


@dataclass(frozen=True)
class Table:
    """A printed table: cells by setting and method."""

    id: str
    title: str
    unit: str
    better: str
    seeds: int
    setting: str
    methods: tuple[str, ...]
    cells: dict[str, dict[str, Cell]]

    @property
    def pairs(self) -> list[tuple[str, str, str]]:
        """Setting, and two methods: every pair within a setting."""
        return [(at, a, b) for at in self.cells for a, b in itertools.combinations(self.methods, 2)]

    def welch(self) -> list[Test]:
        """Test every pair, corrected for all of the table.

        A deviation printed as 0.0 is taken for the largest that is printed so.
        """
        tests = []
        for at, a, b in self.pairs:
            cells = [self.cells[at][name] for name in (a, b)]
            deviations = [each.deviation or round(each.step / 2, 4) for each in cells]
            name = f"{self.title}, {at}: {a} - {b}"
            tests.append(welch(name, [each.mean for each in cells], deviations, [self.seeds] * 2))
        return corrected(tests)


def cell(text: str) -> Cell:
    """Read ``mean ± deviation``, or ``median (mean ± deviation)``."""
    found = re.fullmatch(r"(?:([\d.]+) \()?([\d.]+) ± ([\d.]+)\)?", text)
    if found is None:
        raise ValueError(f"not a printed cell: {text!r}")
    median, mean, deviation = found.groups()
    step = 10.0 ** -len(mean.partition(".")[2])
    return Cell(float(mean), float(deviation), step, float(median) if median else None)


@functools.cache
def tables() -> dict[str, Table]:
    """Return the tables by their id."""
    found = {}
    for each in tomllib.loads(PATH.read_text(encoding="utf-8"))["tables"]:
        methods, rows = tuple(each.pop("methods")), each.pop("rows")
        cells = {at: {m: cell(text) for m, text in zip(methods, row, strict=True)} for at, *row in rows}
        found[each["id"]] = Table(methods=methods, cells=cells, **each)
    return found


def data_digest() -> str:
    """Return the digest of the numbers, under which results are kept."""
    return hashlib.sha256(PATH.read_bytes()).hexdigest()[:12]


def unrounded(*, table: str, draws: int, seed: int) -> Values:
    """Test tables that would be printed as this one is: every number drawn evenly from those that are rounded to it.

    ``differ``: in which of the tables (rows) which pairs (columns) are told apart; ``worst``: which pairs are where
    every number is rounded against it, the means as near as can be and each deviation at its less favourable end.
    """
    one = tables()[table]
    cells = [[one.cells[at][name] for name in (a, b)] for at, a, b in one.pairs]
    mean, deviation, step = (np.asarray([[getattr(c, x) for c in row] for row in cells]) for x in PRINTED)
    places, names = list(one.cells), list(one.methods)
    rng = np.random.default_rng(seed)
    shape = (draws, len(places), len(names))
    off = rng.uniform(-0.5, 0.5, shape), rng.uniform(-0.5, 0.5, shape)
    index = [[(places.index(at), names.index(name)) for name in (a, b)] for at, a, b in one.pairs]
    i, j = (np.asarray(index)[..., k] for k in (0, 1))  # a cell is drawn once, whatever pairs it is in
    means = mean + off[0][:, i, j] * step
    deviations = np.abs(deviation + off[1][:, i, j] * step)
    nearer = np.minimum(step[:, 0] / 2, np.abs(mean[:, 0] - mean[:, 1]) / 2) * np.sign(mean[:, 0] - mean[:, 1])
    nearest = mean + np.stack([-nearer, nearer], axis=-1)
    # a larger deviation makes the error larger, a smaller one leaves fewer degrees of freedom
    ends = [np.maximum(deviation + np.asarray(end) * step / 2, 0) for end in itertools.product((-1, 1), repeat=2)]
    worst = np.max([_p(nearest, end, one.seeds) for end in ends], axis=0)
    differ = [holm(_p(x, s, one.seeds)) < LEVEL for x, s in zip(means, deviations, strict=True)]
    return {"differ": np.asarray(differ), "worst": holm(worst) < LEVEL}


PRINTED = ("mean", "deviation", "step")


def _p(means: Any, deviations: Any, n: int) -> Any:
    """Return Welch's probabilities, a row a pair; 0 where nothing scatters."""
    (a, b), (s, t) = means.T, deviations.T
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.nan_to_num(stats.ttest_ind_from_stats(a, s, n, b, t, n, equal_var=False).pvalue)


def smallest_seen(n: int, deviation: float, tests: int) -> float:
    """Return how far two means must be apart for Holm's first step to tell them apart, each of n seeds."""
    return float(stats.t.isf(LEVEL / tests / 2, 2 * n - 2) * deviation * (2 / n) ** 0.5)


def largest(tests: Sequence[Test]) -> Test:
    """Return the test with the largest difference of means."""
    return max(tests, key=lambda each: abs(each.mean))
