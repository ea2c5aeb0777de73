"""RAdam beside Adam without a warmup: what the README of RAdam says of the two."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from reproduction.frame import Finding, Verdict, wherever
from reproduction.grids import warmup_grid
from reproduction.statistics import LEVEL, Test, corrected, difference, sign
from reproduction.tasks import Task
from reproduction.verdicts import ahead, everywhere


def radam_findings(values: Sequence[tuple[Task, np.ndarray, np.ndarray]]) -> tuple[list[Finding], list[Test]]:
    """Judge the ends of RAdam and of Adam on each task, a row a setting and a column a seed."""
    better = {
        f"{task.title} {at}": task.better * row
        for task, radam, adam in values
        for at, row in zip(warmup_grid.names(task), radam - adam, strict=True)
    }
    tests = corrected([difference(f"{place}: RAdam better than Adam by", row) for place, row in better.items()])
    means = sign("settings: mean by which RAdam is better than Adam", [row.mean() for row in better.values()])
    lost = sign(
        "trainings: lost with Adam less lost with RAdam",
        np.concatenate([_lost(task, adam) - _lost(task, radam) for task, radam, adam in values]),
    )
    scatter = sign(
        "settings: deviation over the seeds with Adam less that with RAdam",
        np.concatenate([adam.std(axis=1, ddof=1) - radam.std(axis=1, ddof=1) for _, radam, adam in values]),
    )
    lost, scatter = corrected([lost, scatter])
    found = [_consistent(better, tests), _usual(means), _stable(lost, scatter, values)]
    return found, [*tests, means, lost, scatter]


def _lost(task: Task, ends: np.ndarray) -> np.ndarray:
    return np.asarray([float(task.failed(x)) for x in ends.ravel()])


def _consistent(better: dict[str, np.ndarray], tests: list[Test]) -> Finding:
    held = {place: test.rejects and test.mean > 0 for place, test in zip(better, tests, strict=True)}
    worse = [place for place, test in zip(better, tests, strict=True) if test.rejects and test.mean < 0]
    verdict, extent = wherever(held, "settings")
    same = sum(not np.any(row) for row in better.values())
    return Finding(
        "radam/consistent-improvements",
        f"of {len(better)} rates and $\\beta_2$ on digits and the Transformer significantly better in"
        f" {sum(held.values())}, significantly worse in {len(worse)}, every training the same in {same}",
        f"a setting holds where RAdam ends better (paired t, n = 5, own deviation, Holm over {len(better)})",
        verdict,
        extent,
    )


def _usual(means: Test) -> Finding:
    x = np.asarray(means.data["differences"])
    more, less = int(np.sum(x > 0)), int(np.sum(x < 0))
    verdict: Verdict = "does not hold" if more <= less else "holds" if means.rejects else "not shown"
    return Finding(
        "radam/usually-better",
        f"of {len(x)} settings the mean is better in {more}, worse in {less}, the same in {len(x) - more - less};"
        f" p = {means.p:.2g}",
        f"holds where it is better in more settings than worse, and a sign test rejects at {LEVEL}; not shown where the"
        " test does not",
        verdict,
    )


def _stable(lost: Test, scatter: Test, values: Sequence[tuple[Task, np.ndarray, np.ndarray]]) -> Finding:
    verdict, extent = everywhere({"fewer trainings lost": ahead(lost), "less scatter": ahead(scatter)}, "measures")
    counts = [int(sum(_lost(task, each[i]).sum() for task, *each in values)) for i in (1, 0)]
    x = np.asarray(scatter.data["differences"])
    return Finding(
        "radam/more-stable",
        f"lost with Adam {counts[0]} trainings, with RAdam {counts[1]}, of {len(lost.data['differences'])} each (p ="
        f" {lost.corrected:.2g}); the seeds scatter less with RAdam in {int(np.sum(x > 0))} settings, more in"
        f" {int(np.sum(x < 0))} (p = {scatter.corrected:.2g})",
        f"a measure holds where RAdam has the advantage, does not hold where Adam has it (sign tests, Holm over 2, at"
        f" {LEVEL}); not shown where neither has",
        verdict,
        extent,
    )
