"""What the papers say of Transformers without warmup, beside the character Transformer's trainings."""

from __future__ import annotations

from reproduction.frame import Finding
from reproduction.statistics import Test
from reproduction.transformer_bound import bound_of
from reproduction.transformer_losses import losses_of
from reproduction.transformer_rates import rates_of
from reproduction.transformer_readme import readme_of
from reproduction.transformer_runs import Trainings
from reproduction.transformer_verdicts import Judged


def findings_of(trainings: Trainings, stuck: float) -> tuple[list[Finding], list[Test]]:
    """Return what became of every claim, and the tests on which that rests; ``stuck`` is the loss without context."""
    judged = Judged(trainings, stuck)
    findings = [each for part in (losses_of, rates_of, bound_of, readme_of) for each in part(judged)]
    last = [each for each in findings if each.claim.startswith("library/")]
    return [each for each in findings if each not in last] + last, judged.tests
