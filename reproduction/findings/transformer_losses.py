"""What the AdaMod paper says of the losses of its Transformers, without and with a warmup: Figures 1 and 2."""

from __future__ import annotations

import numpy as np

from reproduction.findings.transformer_histograms import share
from reproduction.findings.transformer_verdicts import (
    DECIDES,
    FINAL,
    LEARNED,
    LOST,
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
    CLIPPED,
    CONFIGS,
    STEEP,
    WARM,
)
from reproduction.runs.train_transformer import WINDOW


def losses_of(judged: Judged) -> list[Finding]:
    """Return what became of the claims about losses."""
    return [*convergence(judged), cause(judged), *comparison(judged)]


def convergence(judged: Judged) -> list[Finding]:
    """Judge Figure 1a, and what its caption says of AdaMod."""
    return [
        Finding(
            "adamod/figure-1a-without-warmup",
            f"{judged.at_all()}: {judged.losses('Adam')}; single characters have {judged.stuck:.2f}",
            f"*lost*: every seed's {FINAL} is above the entropy of single characters less {LOST}. The value is of"
            " another text; what is lost does not diverge, as Table 2 says: it stays where it is",
            *judged.where(lambda rate: judged.lost(rate, "Adam")),
        ),
        Finding(
            "adamod/figure-1a-with-warmup",
            f"{judged.at_all()}: {judged.losses(WARM)}",
            f"*learned*: every seed's {FINAL} is below the entropy of single characters less {LEARNED}; the value is"
            " of another text",
            *judged.where(lambda rate: judged.learns(rate, WARM)),
        ),
        Finding(
            "adamod/figure-1-fixed",
            f"at the rates {listed(judged.troubled)}: {judged.losses(ADAMOD, judged.troubled)}, Adam without warmup"
            f" {judged.losses('Adam', judged.troubled)}",
            f"every seed ends at most {NEAR} nats above Adam with warmup, at the rates at which Adam without ends"
            " farther above",
            *judged.where(lambda rate: judged.avoids(rate, ADAMOD), judged.troubled),
        ),
    ]


def cause(judged: Judged) -> Finding:
    """Judge Figure 1's *due to*: if it is so, Adam learns as soon as no rate is extremely large."""
    falls = stops_falling(judged)
    seen = judged.trainings.of(STEEP, CONFIGS["Adam"])
    shares = [100 * share(r.values)[np.searchsorted(r.values["at"], falls)] for r in seen]
    half = [int(r.values["at"][np.argmax(share(r.values) > 0.5)]) for r in seen if share(r.values).max() > 0.5]
    later = f"; more than half are from step {min(half)} on" if half else ""
    return Finding(
        "adamod/figure-1-cause",
        f"with every rate clipped at 10,000, at the rates {listed(judged.troubled)}:"
        f" {judged.losses(CLIPPED, judged.troubled)}, without clipping {judged.losses('Adam', judged.troubled)}. At"
        f" {STEEP:g} the loss has stopped falling by step {falls}, when {min(shares):.1f} to {max(shares):.1f} % of the"
        f" rates are above 10,000{later}",
        f"with the rates clipped every seed ends at most {NEAR} nats above Adam with warmup, at the rates at which Adam"
        " ends farther above",
        *judged.where(lambda rate: judged.avoids(rate, CLIPPED), judged.troubled),
    )


def stops_falling(judged: Judged) -> int:
    """Return the step from which on Adam, at the largest rate, stays about what single characters give."""
    losses = judged.trainings.losses(STEEP, CONFIGS["Adam"]).mean(axis=0)
    return WINDOW * (1 + int(np.argmax(losses < judged.stuck + LOST)))


def comparison(judged: Judged) -> list[Finding]:
    """Judge Figure 2, and Figure 1's *perform better*: AdaMod without a warmup beside Adam with one."""
    rates, trainings = judged.rates, judged.trainings
    a, b = CONFIGS[ADAMOD], CONFIGS[WARM]
    final = judged.compared("training loss, AdaMod less Adam with warmup", trainings.final, a, b)
    valid = judged.compared("held-out loss, AdaMod less Adam with warmup", trainings.valid, a, b)
    ahead = {r: trainings.losses(r, a).mean(axis=0) < trainings.losses(r, b).mean(axis=0) for r in rates}
    windows = len(ahead[rates[0]])
    rows = [
        ("figure-1-better", FINAL, final),
        ("figure-2-training", FINAL, final),
        ("figure-2-valid", "loss on the text held out", valid),
    ]
    return [
        Finding(
            "adamod/figure-2-faster",
            f"{judged.at_all()} AdaMod is ahead in "
            + ", ".join(f"{each.sum()} (of the first half {each[: windows // 2].sum()})" for each in ahead.values())
            + f" of {windows} windows of {WINDOW} steps",
            "the mean training loss of the seeds is lower than by Adam with warmup in every window",
            *judged.where(lambda rate: bool(ahead[rate].all())),
        ),
        *(
            Finding(
                f"adamod/{claim}",
                f"AdaMod less Adam with warmup, nats: {differences_in_words(rates, tests)}",
                f"{what}: {DECIDES.format(test=paired_t(tests, 'rates'))}",
                *lower(rates, tests),
            )
            for claim, what, tests in rows
        ),
    ]
