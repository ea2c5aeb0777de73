"""What the papers say of Transformers without warmup, beside the character Transformer's trainings."""

from __future__ import annotations

from reproduction.findings.transformer_bound import bound_of
from reproduction.findings.transformer_losses import losses_of
from reproduction.findings.transformer_rates import rates_of
from reproduction.findings.transformer_readme import readme_of
from reproduction.findings.transformer_verdicts import Judged
from reproduction.frame import Finding
from reproduction.grids.transformer_runs import Trainings
from reproduction.statistics import Test


def findings_of(trainings: Trainings, stuck: float) -> tuple[list[Finding], list[Test]]:
    """Return what became of every claim, and the tests on which that rests; ``stuck`` is the loss without context."""
    judged = Judged(trainings, stuck)
    findings = [each for part in (losses_of, rates_of, bound_of, readme_of) for each in part(judged)]
    last = [each for each in findings if each.claim.startswith("library/")]
    return [each for each in findings if each not in last] + last, judged.tests
