"""What the AdaMod paper and the article say of the rates of the parameters: Figures 1 and 3."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from reproduction.findings.transformer_histograms import Values, many, median, share, spread
from reproduction.findings.transformer_verdicts import Judged
from reproduction.frame import Finding, wherever
from reproduction.grids.transformer_runs import ADAMOD, CONFIGS, WARM

SHARP, FEW, LOTS = 10.0, 0.1, 0.01
"""A sharp increase is tenfold; a tenth as many is few; one in a hundred parameters is lots."""


def between(a: float, b: float, form: str = ",.0f") -> str:
    """Return a range, or one number where it is one."""
    low, high = format(a, form), format(b, form)
    return low if low == high else f"{low} to {high}"


class Rates:
    """The rates of all trainings of some configurations."""

    def __init__(self, judged: Judged) -> None:
        self.judged = judged

    def of(self, rate: float, name: str) -> list[Values]:
        """Return what was seen of a configuration, a seed each."""
        return [r.values for r in self.judged.trainings.of(rate, CONFIGS[name])]

    def pairs(self, rate: float, a: str, b: str) -> list[tuple[Values, Values]]:
        """Return two configurations, seed by seed."""
        return list(zip(self.of(rate, a), self.of(rate, b), strict=True))

    def most(self, name: str) -> str:
        """Return the largest number above 10,000 at a step, and the largest rate, of all seeds, by rate."""
        seen = [self.of(rate, name) for rate in self.judged.rates]
        numbers = ", ".join(f"{max(int(many(values).max()) for values in each):,}" for each in seen)
        largest = ", ".join(f"{max(float(values['largest'].max()) for values in each):.0e}" for each in seen)
        return f"{numbers} (largest {largest})"

    def everywhere(self, a: str, b: str, holds: Callable[[Values, Values], Any]) -> Callable[[float], bool]:
        """Return whether something holds of two configurations in every seed, as a function of the rate."""
        return lambda rate: all(bool(holds(*pair)) for pair in self.pairs(rate, a, b))


def tenth_step(values: Values) -> int:
    """Return which of the steps looked at is the tenth of the training."""
    return int(np.flatnonzero(values["at"] == 10)[0])


def rates_of(judged: Judged) -> list[Finding]:
    """Return what became of the claims about rates."""
    rates = Rates(judged)
    return [*without_warmup(rates), *restrained(rates), *throughout(rates)]


def without_warmup(rates: Rates) -> list[Finding]:
    """Judge Figures 1b and 1c."""
    judged = rates.judged

    def growth(rate: float) -> dict[str, list[float]]:
        """Return by what factors the median and the largest rate grow from step 1 to step 10, a number a seed."""
        found: dict[str, list[float]] = {"median": [], "largest": []}
        for values in rates.of(rate, "Adam"):
            tenth = tenth_step(values)
            for name, each in (("median", median(values, values["huge_idle"])), ("largest", values["largest"])):
                found[name].append(float(each[tenth] / each[0]))
        return found

    def huge(rate: float) -> str:
        """Return how many rates are above 10,000 in the first and the tenth step, in the mean of the seeds."""
        seen = rates.of(rate, "Adam")
        first, tenth = (np.mean([many(v)[at(v)] for v in seen]) for at in (lambda _: 0, tenth_step))
        return f"{first:,.0f} and {tenth:,.0f}"

    grown = {rate: growth(rate) for rate in judged.rates}
    sharp = {
        f"the {name} at {rate:g}": min(each[name]) >= SHARP
        for name in ("median", "largest")
        for rate, each in grown.items()
    }

    def lots(adam: Values, warm: Values) -> bool:
        return bool(share(adam).max() >= LOTS and many(warm).max() <= FEW * many(adam).max())

    numbers = int(rates.of(judged.rates[0], "Adam")[0]["numbers"])
    return [
        Finding(
            "adamod/figure-1-first-10-updates",
            f"{judged.at_all()} from step 1 to 10 "
            + ", and ".join(
                f"the {name} rate grows by factors of "
                + ", ".join(between(min(each[name]), max(each[name]), ".1f") for each in grown.values())
                for name in ("median", "largest")
            )
            + "; above 10,000 are "
            + ", ".join(map(huge, judged.rates))
            + f" of {numbers:,} parameters in these two steps, mean of the seeds",
            f"of the parameters that have had a gradient, the median and the largest rate grow {SHARP:g} times, in"
            " every seed",
            *wherever(sharp, "cases"),
        ),
        Finding(
            "adamod/figure-1-over-10000",
            f"of {numbers:,} parameters at most {rates.most('Adam')} without warmup, {rates.most(WARM)} with it,"
            f" {judged.at_all()}",
            f"{100 * LOTS:g} % of the parameters have had a gradient and a rate above 10,000 at some step without"
            f" warmup, and with it never more than {FEW:g} times as many, in every seed",
            *judged.where(rates.everywhere("Adam", WARM, lots)),
        ),
    ]


def restrained(rates: Rates) -> list[Finding]:
    """Judge Figure 3, and the abstract."""
    judged = rates.judged
    steps = len(rates.of(judged.rates[0], ADAMOD)[0]["at"])
    of_both = f"at most {rates.most(ADAMOD)} by AdaMod, {rates.most('Adam')} by Adam without warmup, {judged.at_all()}"

    def fewer(adamod: Values, adam: Values) -> bool:
        return bool(np.all(many(adamod) <= FEW * many(adam)))

    return [
        Finding(
            "adamod/figure-3-restrains",
            of_both,
            f"at each of {steps} steps looked at AdaMod has at most {FEW:g} times as many rates above 10,000 as Adam"
            " without warmup, of parameters that have had a gradient, in every seed",
            *judged.where(rates.everywhere(ADAMOD, "Adam", fewer)),
        ),
        Finding(
            "adamod/abstract-eliminates",
            of_both,
            f"by AdaMod there is none above 10,000, at any of {steps} steps looked at, in any seed",
            *judged.where(rates.everywhere(ADAMOD, ADAMOD, lambda adamod, _: not many(adamod).any())),
        ),
    ]


def throughout(rates: Rates) -> list[Finding]:
    """Judge what the article says of the bound, and of RAdam beside it."""
    judged = rates.judged
    early, late = 100, 100

    def bounded(rate: float) -> np.ndarray:
        return np.asarray([values["bounded"] for values in rates.of(rate, ADAMOD)])

    def at_step(at: int) -> str:
        """Return the share of bounded rates at about that step, by rate."""
        steps = rates.of(judged.rates[0], ADAMOD)[0]["at"]
        means = [bounded(rate).mean(axis=0)[np.searchsorted(steps, at)] for rate in judged.rates]
        return ", ".join(f"{x:.2f}" for x in means)

    def calm(radam: Values, adam: Values) -> bool:
        first = radam["at"] <= early
        return bool(np.all(many(radam)[first] <= FEW * many(adam)[first]))

    def spreads(rate: float, name: str) -> np.ndarray:
        """Return the mean spread of the steps after the start, a number a seed."""
        idle = [values["huge_idle"] for values in rates.of(rate, "Adam")]
        seen = zip(rates.of(rate, name), idle, strict=True)
        return np.asarray([spread(values, still)[values["at"] > late].mean() for values, still in seen])

    def at_start(name: str) -> str:
        most = [max(int(many(v)[v["at"] <= early].max()) for v in rates.of(rate, name)) for rate in judged.rates]
        return ", ".join(f"{x:,}" for x in most)

    return [
        Finding(
            "article/how-adamod-works",
            f"share of rates that are bounded, {judged.at_all()}: {at_step(10)} at step 10, {at_step(200)} about step"
            f" 200, {at_step(judged.trainings.steps)} at the last",
            "at every step looked at some rates are bounded, in every seed; *excessive* is what is above the average",
            *judged.where(lambda rate: bool(np.all(bounded(rate) > 0))),
        ),
        Finding(
            "article/no-warm-up-needed-radam",
            f"above 10,000 in the first {early} steps, {judged.at_all()}: at most {at_start('RAdam')} by RAdam,"
            f" {at_start('Adam')} by Adam",
            f"at each step looked at of the first {early} at most {FEW:g} times as many rates above 10,000 as by Adam"
            " without warmup, of parameters that have had a gradient, in every seed",
            *judged.where(rates.everywhere("RAdam", "Adam", calm)),
        ),
        Finding(
            "article/no-warm-up-needed-throughout",
            f"spread of the rates in decades, {judged.at_all()}: "
            + ", ".join(f"{spreads(rate, ADAMOD).mean():.2f}" for rate in judged.rates)
            + " by AdaMod, "
            + ", ".join(f"{spreads(rate, 'RAdam').mean():.2f}" for rate in judged.rates)
            + f" by RAdam; above 10,000 at most {rates.most(ADAMOD)} by AdaMod, {rates.most('RAdam')} by RAdam",
            f"standard deviation of the rates' logarithms over the parameters, mean of the steps looked at after"
            f" {late}: smaller than by RAdam in every seed",
            *judged.where(lambda rate: bool(np.all(spreads(rate, ADAMOD) < spreads(rate, "RAdam")))),
        ),
    ]
