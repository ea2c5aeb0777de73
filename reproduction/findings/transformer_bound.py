"""What the bound of AdaMod does in the Transformer's second half, over its memory, and beside a mere warmup."""

from __future__ import annotations

import numpy as np

from reproduction.findings.transformer_verdicts import (
    DECIDES,
    FINAL,
    NEAR,
    Judged,
    differences_in_words,
    listed,
    lower,
    paired_t,
)
from reproduction.frame import Finding
from reproduction.grids.transformer_runs import (
    ADAMOD,
    CONFIGS,
    MEMORIES,
    OWN_WARMUP,
    UNBOUND,
    WARM,
    memory_config,
    two_phases,
)
from reproduction.statistics import corrected, difference
from reproduction.tasks import TRANSFORMER

TIE = TRANSFORMER.margin
"""Nats that count as none, as where methods are held to each other."""


def bound_of(judged: Judged) -> list[Finding]:
    """Return what became of the claims about the bound."""
    return [middle_and_late(judged), *memory(judged), own_warmup(judged)]


def middle_and_late(judged: Judged) -> Finding:
    """Compare a training with the same whose bound is dropped in the second half."""
    phases = two_phases(quick=False)[UNBOUND]
    tests = judged.compared(
        "held-out loss, AdaMod less AdaMod that goes on as Adam after half of the steps",
        judged.trainings.valid,
        CONFIGS[ADAMOD],
        phases,
    )
    return Finding(
        "adamod/middle-and-late-terms",
        f"AdaMod less the same training that goes on as Adam from step {phases['switch']} on, held out, nats:"
        f" {differences_in_words(judged.rates, tests)}",
        "*better generalization* by the bound in the second half: " + DECIDES.format(test=paired_t(tests, "rates")),
        *lower(judged.rates, tests),
    )


def memory(judged: Judged) -> list[Finding]:
    """Judge Figure 9: AdaMod over the memory of its bound."""
    rates, trainings = judged.rates, judged.trainings
    final = {rate: [trainings.final(rate, memory_config(beta3)) for beta3 in MEMORIES] for rate in rates}
    means = {rate: np.asarray([x.mean() for x in each]) for rate, each in final.items()}
    in_words = "; ".join(f"{listed_to(each)} at {rate:g}" for rate, each in means.items())
    best, others = MEMORIES[-1], MEMORIES[:-1]
    tests = {
        rate: corrected(
            [
                difference(f"training loss, rate {rate:g}, beta3 {best:g} less {beta3:g}", each[-1] - x)
                for beta3, x in zip(others, each[:-1], strict=True)
            ]
        )
        for rate, each in final.items()
    }
    judged.tests += [test for each in tests.values() for test in each]
    in_memories = f"for $\\beta_3$ = {listed(MEMORIES)}"
    return [
        Finding(
            "adamod/figure-9-small-beta3",
            f"$\\beta_3 = {MEMORIES[0]:g}$, {judged.at_all()}: "
            + ", ".join(f"{means[rate][0]:.2f}" for rate in rates)
            + f"; Adam {judged.losses('Adam')}, with warmup {judged.losses(WARM)}",
            f"{FINAL}: Adam without warmup and AdaMod with the smallest $\\beta_3$ both end more than {NEAR} nats above"
            " Adam with warmup, in the mean of the seeds",
            *judged.where(
                lambda rate: rate in judged.troubled and means[rate][0] - judged.final(rate, WARM).mean() > NEAR
            ),
        ),
        Finding(
            "adamod/figure-9-order",
            f"{in_memories}: {in_words}",
            f"{FINAL}, mean of the seeds: none is more than {TIE} nats above the one before it, and the last is below"
            " the first by more than that",
            *judged.where(
                lambda rate: bool(np.all(np.diff(means[rate]) < TIE) and means[rate][0] - means[rate][-1] > TIE)
            ),
        ),
        Finding(
            "adamod/figure-9-best",
            f"$\\beta_3 = {best:g}$ less the smaller ones, nats: "
            + "; ".join(f"at rate {rate:g} {differences_in_words(others, each)}" for rate, each in tests.items()),
            f"{FINAL}: lower than with every other $\\beta_3$ by {paired_t(tests[rates[0]], 'of a rate')}",
            *judged.where(lambda rate: all(test.rejects and test.mean < 0 for test in tests[rate])),
        ),
    ]


def own_warmup(judged: Judged) -> Finding:
    """Compare AdaMod with Adam that has the warmup which is in AdaMod's bound."""
    tests = judged.compared(
        "training loss, AdaMod less Adam with AdaMod's warmup",
        judged.trainings.final,
        CONFIGS[ADAMOD],
        CONFIGS[OWN_WARMUP],
    )
    return Finding(
        "library/bound-beyond-its-warmup",
        f"AdaMod less Adam with that warmup, nats: {differences_in_words(judged.rates, tests)}",
        f"{FINAL}: {DECIDES.format(test=paired_t(tests, 'rates'))}",
        *lower(judged.rates, tests),
    )


def listed_to(means: np.ndarray) -> str:
    """Return losses to two digits."""
    return ", ".join(f"{x:.2f}" for x in means)
