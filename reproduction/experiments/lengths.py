"""How long a warmup must be, and whether AdaMod makes it dispensable."""

from __future__ import annotations

from typing import Any

import numpy as np

from reproduction.frame import Check, Experiment, Finding, Picture, Report, Results, Verdict, wherever
from reproduction.grids.transformer_grid import late, learned, lost, values
from reproduction.grids.transformer_runs import ADAMOD, CONFIGS, RATES, STEEP, WARM, steps
from reproduction.grids.warmup_lengths import (
    ADAMODS,
    FEW_HUNDRED,
    LENGTHS,
    MARGIN,
    TROUBLED,
    UNTUNED,
    Lengths,
    both,
    effectively_longer,
    few_hundred,
    listed,
    one_step,
    runs,
    titled,
    untuned,
)
from reproduction.statistics import Test, corrected, difference, plus_minus
from reproduction.style import BLUE, SKY, VERMILION, curve, panels

ABOUT = r"""
The AdaMod paper calls the tuning of warmups costly and AdaMod the way out. So the character Transformer is trained by
Adam with linear warmups of several lengths at three rates, and by AdaMod without one, for 1,000 steps, which are one
memory of $\beta_3 = 0.999$ and a tenth of one of 0.9999: $\beta_3$ takes the warmup's place if one value of it is as
good at every rate as the length that is best there. AdaMod is trained with a warmup over 400 steps, too, at the two
rates at which Adam does badly without one, to see whether that still helps it (training loss of the last 100 of 600
steps).

Ma & Yarats ask how long a warmup must be: update magnitudes settle within about 40 steps, so a few hundred would
suffice if these were all that matters. That is tried at 0.01 with $\beta_2 = 0.999$, for which the rules of thumb say
1,000 to 2,000 steps. And the untuned warmups of $\beta_2 = 0.98$ are held to a longer one at that rate (600 steps).
"""


def tuning(lengths: Lengths) -> Finding:
    """Judge whether no one length of a warmup is good at every rate."""
    good = {n: [rate for rate in RATES if lengths.cost(n, rate) <= MARGIN] for n in LENGTHS}
    verdict: Verdict = "does not hold" if any(len(rates) == len(RATES) for rates in good.values()) else "holds"
    measured = "; ".join(f"{n} steps: {', '.join(f'{lengths.cost(n, rate):+.3f}' for rate in RATES)}" for n in LENGTHS)
    best = ", ".join(f"{lengths.best(rate)} at {rate:g}" for rate in RATES)
    return Finding(
        "adamod/warmup-needs-tuning",
        f"held-out loss above that of the best length ({best}), in nats at the rates"
        f" {', '.join(f'{rate:g}' for rate in RATES)}: {measured}",
        f"no one length of those tried is within {MARGIN} nats of the best at every rate; means of three seeds. Rates"
        " of one network only, no other networks or tasks",
        verdict,
    )


def saved(lengths: Lengths) -> tuple[Finding, list[Test]]:
    """Judge whether one beta3 is as good at every rate as the best warmup there."""
    places = [(name, rate) for name in ADAMODS for rate in RATES]
    tests = corrected(
        [
            difference(f"Transformer, rate {rate:g}: {name} less Adam with the best warmup", lengths.behind(name, rate))
            for name, rate in places
        ]
    )
    within = {
        name: {f"{rate:g}": bool(lengths.behind(name, rate).mean() <= MARGIN) for rate in RATES} for name in ADAMODS
    }
    best = max(ADAMODS, key=lambda name: sum(within[name].values()))
    verdict, extent = wherever(within[best], "rates")
    measured = "; ".join(
        f"{titled(name)} at {rate:g} {lengths.behind(name, rate).mean():+.3f} ({test})"
        for (name, rate), test in zip(places, tests, strict=True)
    )
    of_rate = {rate: min(ADAMODS, key=lambda name: lengths.behind(name, rate).mean()) for rate in RATES}
    chosen = ", ".join(f"{titled(name)} at {rate:g}" for rate, name in of_rate.items())
    return Finding(
        "adamod/saves-tuning",
        f"held-out loss above Adam's with the warmup that is best at the rate, in nats: {measured}; best are {chosen}",
        f"one $\\beta_3$ is at every rate no more than {MARGIN} nats above the best of the lengths"
        f" {', '.join(map(str, (0, *LENGTHS)))}; judged for that with which it is so at most rates, {titled(best)}",
        verdict,
        extent,
    ), tests


def independent(results: Results) -> tuple[Finding, list[Test]]:
    """Judge whether AdaMod gains nothing by a warmup."""
    gains = {rate: late(results, listed(CONFIGS[ADAMOD], rate)) - late(results, both(rate)) for rate in TROUBLED}
    tests = corrected(
        [difference(f"Transformer, rate {rate:g}: AdaMod, gain by a warmup", x) for rate, x in gains.items()]
    )
    verdict, extent = wherever({f"{rate:g}": bool(x.mean() <= MARGIN) for rate, x in gains.items()}, "rates")
    measured = "; ".join(
        f"at {rate:g} {x.mean():+.3f} ({test})" for (rate, x), test in zip(gains.items(), tests, strict=True)
    )
    return Finding(
        "adamod/independent-of-warmup",
        f"what AdaMod ($\\beta_3 = 0.999$) gains by a warmup over 400 steps, in nats: {measured}",
        f"the warmup gains no more than {MARGIN} nats on average of three seeds",
        verdict,
        extent,
    ), tests


def sufficient(results: Results) -> Finding:
    """Judge whether warmups over a few hundred steps suffice."""
    found = {n: late(results, few_hundred(n)) for n in (0, *FEW_HUNDRED)}
    radam = late(results, effectively_longer())
    verdict, extent = wherever({f"{n} steps": learned(found[n]) for n in FEW_HUNDRED}, "lengths")
    if not any(map(lost, found[0])):  # nothing had to be stabilized
        verdict, extent = "not shown", ""
    measured = ", ".join(f"{plus_minus(x)} with {n} steps" for n, x in found.items())
    return Finding(
        "untuned/few-hundred-steps",
        f"training loss at the rate {STEEP:g}, $\\beta_2 = 0.999$: {measured}; {plus_minus(radam)} by RAdam, whose"
        " warmup is effectively about 1,000 steps",
        "with a linear warmup of that length every seed learns, and not without; this is the outcome: that nothing but"
        " update magnitudes matters is not tested",
        verdict,
        extent,
    )


def brittle(results: Results) -> Finding:
    """Judge whether each fixed schedule is lost somewhere where a longer one learns."""
    found = {name: late(results, untuned(name)) for name in UNTUNED}
    longer = late(results, listed(CONFIGS[WARM], STEEP))
    verdict, extent = wherever(
        {name: bool(learned(longer) and all(map(lost, x))) for name, x in found.items()}, "schedules"
    )
    measured = ", ".join(
        f"{sum(map(lost, x))} of {len(x)} seeds lost by {name} ({plus_minus(x)})" for name, x in found.items()
    )
    return Finding(
        "untuned/brittle-schedules",
        f"at the rate {STEEP:g}, $\\beta_2 = 0.98$: {measured}; {sum(map(lost, longer))} of {len(longer)} by a linear"
        f" warmup over 400 steps ({plus_minus(longer)})",
        "there is a setting in which every seed is lost by the untuned schedule and every seed learns by a longer one:"
        " this setting, known from other experiments",
        verdict,
        extent,
    )


def figure_of(lengths: Lengths) -> Any:
    """Draw the held-out losses over the lengths, and AdaMod's beside them."""
    figure, axes = panels(1, len(RATES), width=2.5, height=3.2, sharey=True)
    at = np.arange(1 + len(LENGTHS))
    for ax, rate in zip(axes, RATES, strict=True):
        every = np.asarray([lengths.adam[n, rate] for n in (0, *LENGTHS)])
        curve(ax, at, every.T, color=VERMILION, marker="o", markersize=4, label="Adam, linear warmup")
        for name, color, line in zip(ADAMODS, (SKY, BLUE), ("-", "--"), strict=True):
            ax.axhline(lengths.adamod[name, rate].mean(), color=color, linestyle=line, label=f"AdaMod, {titled(name)}")
        ax.set_xticks(at, map(str, (0, *LENGTHS)))
        ax.set(xlabel="steps of warmup")
        ax.set_title(f"rate {rate:g}")
    axes[0].set_ylabel("held-out loss (nats a character)")
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=3)
    return figure


def table(lengths: Lengths) -> str:
    """Return the held-out losses."""
    lines = ["| | " + " | ".join(f"{rate:g}" for rate in RATES) + " |", "| --- |" + " ---: |" * len(RATES)]
    lines += [
        f"| Adam, warmup over {n} steps | " + " | ".join(plus_minus(lengths.adam[n, rate], 3) for rate in RATES) + " |"
        for n in (0, *LENGTHS)
    ]
    lines += [
        f"| AdaMod, {titled(name)} | " + " | ".join(plus_minus(lengths.adamod[name, rate], 3) for rate in RATES) + " |"
        for name in ADAMODS
    ]
    return "\n".join(lines)


def report(results: Results, quick: bool) -> Report:
    """Judge the claims, draw the losses."""
    bare, warm = (values(results, run) for run in one_step())
    checks = [
        Check(
            "a warmup over one step is none",
            bool(np.array_equal(bare["loss"], warm["loss"]) and bare["valid"] == warm["valid"]),
            f"a held-out loss of {float(bare['valid']):.4f} after 25 steps, the same to the last bit",
        )
    ]
    if quick:
        return Report([], checks)
    lengths = Lengths(results)
    of_saving, tests = saved(lengths)
    of_both, more = independent(results)
    picture = Picture(
        "lengths",
        figure_of(lengths),
        "Held-out loss of the Transformer over the length of Adam's warmup at three rates, beside that of AdaMod.",
        "Means, and ranges over three seeds of Adam's; AdaMod has no warmup.",
    )
    text = (
        f"Held-out loss after {steps(quick=False):,} steps, mean ± standard deviation of three seeds:\n\n"
        f"{table(lengths)}\n"
    )
    findings = [tuning(lengths), of_saving, of_both, sufficient(results), brittle(results)]
    return Report(findings, checks, [picture], text, [*tests, *more])


EXPERIMENT = Experiment("lengths", "How long must a warmup be?", ABOUT, runs, report)
