"""AdaMod beside Adam wherever both are trained here: on digits and with the character Transformer, at three rates."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from adamod_array import Adam, AdaMod
from reproduction.frame import Results
from reproduction.grids import digits_runs, transformer_runs
from reproduction.grids.digits_runs import lost
from reproduction.statistics import Test, corrected, difference, plus_minus, sign
from reproduction.tasks import DIGITS, TRANSFORMER, Task

MEMORIES = (0.999, 0.9999)
"""The values of beta3 that the paper recommends."""


class Both:
    """The trainings of both tasks: measures of a method at a rate, a number a seed."""

    def __init__(self, results: Results) -> None:
        self.digits = digits_runs.Trainings(results)
        self.transformer = transformer_runs.Trainings(Results([r for r in results if "steps" in r.config]))

    def adamod(self, task: Task, rate: float, beta3: float) -> np.ndarray:
        if task is DIGITS:
            return self.digits.points(AdaMod(beta3=beta3), rate)
        return self.transformer.valid(rate, transformer_runs.memory_config(beta3))

    def adam(self, task: Task, rate: float) -> np.ndarray:
        if task is DIGITS:
            return self.digits.points(Adam(), rate)
        return self.transformer.valid(rate, transformer_runs.CONFIGS["Adam"])


class Row(NamedTuple):
    """One setting."""

    task: Task
    rate: float
    beta3: float
    adamod: np.ndarray
    adam: np.ndarray
    test: Test

    @property
    def gain(self) -> float:
        """Return how much better AdaMod is, in margins of the task."""
        return self.task.better * float(np.mean(self.adamod - self.adam)) / self.task.margin

    @property
    def outcome(self) -> str:
        """Return which is better by more than the margin."""
        return "better" if self.gain > 1 else "worse" if self.gain < -1 else "matched"


def rates(task: Task) -> tuple[float, ...]:
    return digits_runs.RATES if task is DIGITS else transformer_runs.RATES


def rows(both: Both) -> list[Row]:
    """Return all settings; where digits are lost the test is of signs."""
    found = []
    for task in (DIGITS, TRANSFORMER):
        for rate in rates(task):
            for beta3 in MEMORIES:
                adamod, adam = both.adamod(task, rate, beta3), both.adam(task, rate)
                scattered = task is DIGITS and lost(adamod) + lost(adam) > 0
                test = (sign if scattered else difference)(
                    f"{task.title}, rate {rate:g}: AdaMod, beta3 = {beta3:g}, less Adam", adamod - adam
                )
                found.append(Row(task, rate, beta3, adamod, adam, test))
    tests = corrected([row.test for row in found])
    return [row._replace(test=test) for row, test in zip(found, tests, strict=True)]


def table(found: list[Row]) -> str:
    """Return the settings as Markdown."""
    lines = [
        "| task | rate | $\\beta_3$ | AdaMod | Adam | AdaMod is | test |",
        "| --- | --- | --- | ---: | ---: | --- | --- |",
    ]
    lines += [
        f"| {row.task.title} | {row.rate:g} | {row.beta3:g} | {plus_minus(row.adamod)} | {plus_minus(row.adam)} |"
        f" {row.outcome} | {row.test} |"
        for row in found
    ]
    return "\n".join(lines)
