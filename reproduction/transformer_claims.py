"""What the papers say of Transformers without warmup, beside the character Transformer's trainings."""

from __future__ import annotations

import numpy as np

from reproduction.frame import Claim, Verdict
from reproduction.transformer_runs import (
    ADAMOD,
    CONFIGS,
    LAST,
    MEMORIES,
    MIDDLE,
    OWN_WARMUP,
    PICTURED,
    STEEP,
    WARM,
    Trainings,
    memory_config,
    plus_minus,
)


def claims_of(trainings: Trainings, stuck: float) -> list[Claim]:
    """What the papers say, beside the final losses."""
    rates = trainings.rates
    final = {(rate, name): trainings.final(rate, CONFIGS[name]) for rate in rates for name in CONFIGS}
    others = ("Adam-2k", "Adam, eps = 1e-4", "RAdam", "RAdam, beta2 = 0.999")

    def at_rates(name: str) -> str:
        return ", ".join(plus_minus(final[rate, name]) for rate in rates)

    def lost(rate: float, name: str) -> bool:
        return bool(np.all(final[rate, name] > stuck - 0.15))

    def learn(name: str) -> str:
        return f"{np.sum(final[STEEP, name] < stuck - 0.3)} of {len(final[STEEP, name])} seeds by {name}"

    def better(a: str, b: str) -> tuple[list[float], list[float]]:
        """Rates at which every seed is better by one than by the other."""
        return [r for r in rates if np.all(final[r, a] < final[r, b])], [
            r for r in rates if np.all(final[r, a] > final[r, b])
        ]

    def listed(found: list[float]) -> str:
        return " and ".join(f"{r:g}" for r in found) or "none"

    def of_memories(rate: float) -> list[float]:
        return [float(trainings.final(rate, memory_config(beta3)).mean()) for beta3 in MEMORIES]

    def of_two(found: tuple[list[float], list[float]]) -> Verdict:
        ahead, behind = found
        return "not shown" if ahead and behind else "holds" if ahead else "does not hold"

    order = "at the rates " + ", ".join(f"{rate:g}" for rate in rates)
    seen = {name: trainings.pictured(name) for name in PICTURED}
    huge = {name: int(np.max(values["huge"] - values["huge_idle"])) for name, values in seen.items()}
    numbers, idle = int(seen["Adam"]["numbers"]), int(seen["Adam"]["huge_idle"].max())
    soon = {
        name: int(np.max((values["huge"] - values["huge_idle"])[values["at"] <= 10])) for name, values in seen.items()
    }
    largest = {name: float(values["largest"].max()) for name, values in seen.items()}
    warmed, bounded = better(ADAMOD, WARM), better(ADAMOD, OWN_WARMUP)
    by_memory = [trainings.final(STEEP, memory_config(beta3)) for beta3 in MEMORIES]
    saved = [name for name in others if np.all(final[STEEP, name] < stuck - 0.3)]
    return [
        Claim(
            "AdaMod, Figure 1a",
            "a Transformer does not converge by Adam without warmup, and does with it",
            "loss about 9.5 without, below 3.5 with warmup",
            f"{order}: {at_rates('Adam')} without, {at_rates(WARM)} with; single characters have {stuck:.2f}",
            "holds" if lost(STEEP, "Adam") and np.all(final[STEEP, WARM] < stuck - 0.3) else "does not hold",
            f"mean training loss of the last {LAST} of {trainings.steps} steps, 3 seeds, mean ± standard deviation; at"
            f" {STEEP:g}, that is: where the rate is smaller, it learns without",
        ),
        Claim(
            "AdaMod, Figure 1b and 1c",
            "without warmup lots of rates soar over 10,000, in the first 10 updates already",
            "seen in the histograms",
            f"of {numbers:,} parameters, in one of the first 10 steps up to {soon['Adam']:,} that have had a"
            f" gradient ({soon[WARM]:,} with warmup) and {idle:,} that have had none and do not move; later up to"
            f" {huge['Adam']:,} ({huge[WARM]:,} with warmup)",
            "holds" if soon["Adam"] > 10 * soon[WARM] and huge["Adam"] > 10 * huge[WARM] else "does not hold",
            f"rate {STEEP:g}, seed 0; the many come after the loss has stopped falling: gradients vanish and rates"
            " grow, so that they follow from what they are to explain",
        ),
        Claim(
            "AdaMod, Figure 3",
            "AdaMod properly restrains extremely large rates throughout the training",
            "seen in the histograms",
            f"largest rate of a parameter that has had a gradient, of all steps: {largest['Adam']:.0e} by Adam,"
            f" {largest[WARM]:.0e} with warmup, {largest[ADAMOD]:.0e} by AdaMod, with up to"
            f" {huge[ADAMOD]:,} above 10,000",
            "holds" if largest[ADAMOD] < 0.1 * largest["Adam"] else "does not hold",
            f"rate {STEEP:g}, seed 0",
        ),
        Claim(
            "AdaMod, Figure 2 and Table 2",
            "AdaMod without warmup converges faster and better than Adam with warmup",
            "27.22, 28.15, 28.47 BLEU against 26.81 and, where it diverges, nothing",
            f"{order}: {at_rates(ADAMOD)} for AdaMod, {at_rates(WARM)} for Adam with warmup",
            of_two(warmed),
            f"training loss; every seed better at {listed(warmed[0])}, every seed worse at {listed(warmed[1])}. The"
            r" training is as long as one memory of $\beta_3 = 0.999$; the paper's are many",
        ),
        Claim(
            "AdaMod, Figure 9",
            r"with a small $\beta_3$ the loss converges to a poor result like Adam without warmup; larger is better",
            r"$\beta_3 = 0.9999$ best",
            ", ".join(f"{plus_minus(x)} at {b:g}" for b, x in zip(MEMORIES, by_memory, strict=True)),
            "holds" if by_memory[0].min() > stuck - 0.15 and np.argmin(of_memories(STEEP)) == 3 else "does not hold",
            f"rate {STEEP:g}; at {MIDDLE:g}, where Adam is held up but not lost, "
            + ", ".join(f"{x:.2f} at {b:g}" for b, x in zip(MEMORIES, of_memories(MIDDLE), strict=True)),
        ),
        Claim(
            "RAdam README, Figure 2",
            "RAdam, Adam-2k and a larger eps avoid the convergence problem",
            "about 500 perplexity for Adam, below 10 with warmup",
            f"{order}: " + "; ".join(f"{name} {at_rates(name)}" for name in others),
            "holds" if len(saved) == len(others) else "does not hold",
            f"at {STEEP:g} learn {', '.join(learn(name) for name in others)}; at {MIDDLE:g} every seed is better than"
            f" by Adam with {', '.join(name for name in others if MIDDLE in better(name, 'Adam')[0]) or 'none'}",
        ),
        Claim(
            "in no paper",
            r"AdaMod's bound does more than the warmup $1 - \beta_3^t$ that is in it",
            "",
            f"{order}: {at_rates(ADAMOD)} for AdaMod, {at_rates(OWN_WARMUP)} for Adam with that warmup",
            of_two(bounded),
            f"training loss; every seed better at {listed(bounded[0])}, every seed worse at {listed(bounded[1])}",
        ),
    ]
