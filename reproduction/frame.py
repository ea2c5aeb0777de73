"""What an experiment is made of: unit runs, and a report of their results."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from matplotlib.figure import Figure

from reproduction.statistics import Test

Values = dict[str, Any]
"""What a unit run returns: arrays and numbers by name."""

Verdict = Literal["holds", "holds in part", "does not hold", "not shown"]
"""``not shown``: what was run here is too small, or too unlike the paper's, to decide."""


class Run:
    """One call of a function with keyword arguments that have a faithful ``repr``."""

    def __init__(self, function: Callable[..., Values], **config: Any) -> None:
        self.function, self.config = function, config

    def __repr__(self) -> str:
        arguments = ", ".join(f"{name}={value!r}" for name, value in sorted(self.config.items()))
        return f"{self.function.__module__}.{self.function.__qualname__}({arguments})"


@dataclass(frozen=True)
class Result:
    """A unit run that has ended."""

    config: dict[str, Any]
    values: Values
    seconds: float
    """Of one core."""
    versions: dict[str, str]
    """Of Python, of the packages and of the machine that ran it."""


class Results(Sequence[Result]):
    """The results of an experiment, in the order of its runs."""

    def __init__(self, results: Sequence[Result]) -> None:
        self._results = list(results)

    def __getitem__(self, i: Any) -> Any:
        return self._results[i]

    def __len__(self) -> int:
        return len(self._results)

    def __iter__(self) -> Iterator[Result]:
        return iter(self._results)

    def where(self, **config: Any) -> Results:
        """Those with these arguments among theirs."""
        missing = object()
        return Results(
            [r for r in self._results if all(r.config.get(name, missing) == value for name, value in config.items())]
        )

    def one(self, **config: Any) -> Values:
        """The values of the only run with these arguments."""
        (result,) = self.where(**config)
        values: Values = result.values
        return values


@dataclass(frozen=True)
class Finding:
    """What was seen of a claim. All texts are Markdown of one line."""

    claim: str
    """Its name in reproduction/claims: ``"adamod/figure-6-adam"``."""
    measured: str
    """The result alone, in the units of the published value."""
    criterion: str
    """What decides the verdict; of a test its kind, n, deviation and correction."""
    verdict: Verdict
    extent: str = ""
    """Where it holds, if not wherever it was tried: see :func:`wherever`."""


def wherever(held: Mapping[str, bool], unit: str) -> tuple[Verdict, str]:
    """Return verdict and extent of a claim that was tried in several places: ``wherever({"0.01": True}, "rates")``.

    It *holds* only where all that was tried holds.
    """
    places = [place for place, holds in held.items() if holds]
    if len(places) == len(held):
        return "holds", ""
    if not places:
        return "does not hold", ""
    return "holds in part", f"at {len(places)} of {len(held)} {unit}: {', '.join(places)}"


@dataclass(frozen=True)
class Check:
    """What must hold, whatever the papers say."""

    what: str
    holds: bool
    seen: str = ""


@dataclass(frozen=True)
class Picture:
    """A figure, the text for those who do not see it, and what stands below it."""

    name: str
    figure: Figure
    alt: str
    caption: str = ""


@dataclass(frozen=True)
class Report:
    """What came of an experiment."""

    findings: list[Finding]
    checks: list[Check]
    pictures: list[Picture] = field(default_factory=list)
    text: str = ""
    """Markdown below the pictures: tables, and what one sees and does not see."""
    tests: list[Test] = field(default_factory=list)
    """Every statistical test that a finding rests on."""


@dataclass(frozen=True)
class Experiment:
    """A question, how it is asked, and what came of it."""

    name: str
    title: str
    about: str
    """Markdown: what is run; sizes and seeds are in the text of the report or here."""
    runs: Callable[[bool], list[Run]]
    """The unit runs, of the quick version or the full one."""
    report: Callable[[Results, bool], Report]
