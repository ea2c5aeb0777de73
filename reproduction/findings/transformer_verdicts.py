"""What the losses of the character Transformer say: lost or learned, in trouble or out of it, better or worse."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from reproduction.frame import Verdict, wherever
from reproduction.grids.transformer_runs import CONFIGS, LAST, REMEDIES, WARM, Trainings
from reproduction.statistics import Test, corrected, difference, plus_minus

LOST, LEARNED = 0.15, 0.3
"""Below the entropy of single characters: a training that ends above the first is lost, one below the second learns."""
NEAR = 0.1
"""Nats: so far above Adam with a warmup a training has trouble."""

FINAL = f"mean training loss of the last {LAST} steps"


Config = dict[str, Any]
Measure = Callable[[float, Config], np.ndarray]


class Judged:
    """The trainings, and the loss of a model that sees no context."""

    def __init__(self, trainings: Trainings, stuck: float) -> None:
        self.trainings, self.stuck = trainings, stuck
        self.rates = trainings.rates
        self.tests: list[Test] = []
        """Those that were asked for, in this order."""
        self.troubled = [rate for rate in self.rates if self.has_trouble(rate)]
        """The rates at which Adam without a warmup has trouble."""

    def final(self, rate: float, name: str) -> np.ndarray:
        """Return the final training losses, a number a seed."""
        return self.trainings.final(rate, {**CONFIGS, **REMEDIES}[name])

    def has_trouble(self, rate: float) -> bool:
        """Return whether Adam without a warmup ends well above Adam with one, in the mean of the seeds."""
        return bool(np.mean(self.final(rate, "Adam") - self.final(rate, WARM)) > NEAR)

    def lost(self, rate: float, name: str) -> bool:
        """Return whether no seed gets below what single characters give."""
        return bool(np.all(self.final(rate, name) > self.stuck - LOST))

    def learns(self, rate: float, name: str) -> bool:
        """Return whether every seed does."""
        return bool(np.all(self.final(rate, name) < self.stuck - LEARNED))

    def avoids(self, rate: float, name: str) -> bool:
        """Return whether every seed ends about where it does with a warmup, or below."""
        return bool(np.all(self.final(rate, name) < self.final(rate, WARM) + NEAR))

    def relieves(self, rate: float, name: str) -> bool:
        """Return whether every seed ends below Adam without a warmup, well below in the mean."""
        gain = self.final(rate, "Adam") - self.final(rate, name)
        return bool(np.all(gain > 0) and gain.mean() > NEAR)

    def losses(self, name: str, rates: Sequence[float] | None = None, of: Callable[[Any], Any] = lambda x: x) -> str:
        """Return the final losses, or what is made of them, at some rates or all."""
        return ", ".join(plus_minus(of(self.final(rate, name))) for rate in (self.rates if rates is None else rates))

    def at_all(self) -> str:
        """Say of which rates numbers are."""
        return f"at the rates {listed(self.rates)}"

    def where(self, held: Callable[[float], bool], rates: Sequence[float] | None = None) -> tuple[Verdict, str]:
        """Return verdict and extent of a claim that is tried at some rates, or at all."""
        tried = self.rates if rates is None else rates
        return wherever({f"{rate:g}": held(rate) for rate in tried}, "rates") if tried else ("not shown", "")

    def compared(self, name: str, measure: Measure, a: Config, b: Config) -> list[Test]:
        """Test the paired differences of two configurations at each rate, corrected for all rates, and keep the tests.

        ``measure`` is :meth:`Trainings.final` or :meth:`Trainings.valid`.
        """
        tests = corrected(
            [difference(f"{name}, rate {rate:g}", measure(rate, a) - measure(rate, b)) for rate in self.rates]
        )
        self.tests += tests
        return tests


def paired_t(tests: Sequence[Test], over: str) -> str:
    """Say what decides: the tests and what they are corrected for."""
    n, family = len(tests[0].data["differences"]), tests[0].family
    return f"a paired t test, n = {n}, own deviation, Holm over the {family} {over}"


def listed(numbers: Sequence[float]) -> str:
    """Return numbers as a page gives them."""
    return ", ".join(f"{x:g}" for x in numbers) or "none"


DECIDES = (
    "the difference is negative by {test}. Where that is so at no rate, it is not shown if no test rejects or, at a"
    " rate where the test does not, the mean is negative (the last rule was chosen afterwards)"
)
"""What :func:`lower` judges by."""


def lower(rates: Sequence[float], tests: Sequence[Test]) -> tuple[Verdict, str]:
    """Return verdict and extent of *the first has the lower loss*: where the test rejects, in that direction.

    What leans in that direction at some rate, with too few seeds to tell, is not refuted by other rates.
    """
    held = {f"{rate:g}": test.rejects and test.mean < 0 for rate, test in zip(rates, tests, strict=True)}
    leans = any(test.mean < 0 and not test.rejects for test in tests)
    if not any(held.values()) and (leans or not any(test.rejects for test in tests)):
        return "not shown", ""
    return wherever(held, "rates")


def differences_in_words(rates: Sequence[float], tests: Sequence[Test]) -> str:
    """Return mean differences with their probabilities, by rate."""
    pairs = zip(rates, tests, strict=True)
    return ", ".join(f"{test.mean:+.3f} (p = {test.corrected:.2g}) at {rate:g}" for rate, test in pairs)
