"""AdaMod as its paper states it beside AdaMod as its authors programmed it."""

from __future__ import annotations

import dataclasses
import functools
from typing import Any

import numpy as np

from adamod_array import AdaMod, init, step
from reproduction import differences
from reproduction.comparisons import Comparisons, criterion
from reproduction.frame import Check, Experiment, Finding, Picture, Report, Results, Run
from reproduction.grids import digits_runs
from reproduction.grids.transformer_runs import ADAMOD, CONFIGS, MIDDLE, RATES, STEEP, steps
from reproduction.runs.train_transformer import WINDOW
from reproduction.statistics import Test, difference, plus_minus
from reproduction.style import BLUE, VERMILION, curve, panels
from reproduction.tasks import DIGITS, TASKS, TRANSFORMER, Task
from reproduction.verdicts import everywhere

ABOUT = r"""
The paper's Algorithm 2 corrects $m$ and $v$; the authors' code puts both corrections into the rate that is averaged,
multiplies it with $m$ itself, and takes longer steps for about $1/(1-\beta_3)$ steps ([methods](../methods.md),
`variant="reference"`). The paper contradicts itself there, too: "we use $\hat\eta_t$ and $m_t$ to make a parameter
update" in the text, $\hat m_t$ in line 11 of Algorithm 2. Both, from the same five seeds: on digits with $\beta_3$ of
0.999 and 0.9999 over three rates and of 0.9 and 0.99 at the rate 0.001, in the trainings of
[robustness](#robustness-to-the-learning-rate-and-to-beta3); with the Transformer $\beta_3 = 0.999$, three rates.
Margins and tests are those of the [warmups](#are-untuned-warmups-interchangeable), one point of accuracy and 0.02 nats
of held-out loss, set before anything ran; over the grid count the settings in which every training learned.
"""

PAPER: AdaMod = CONFIGS[ADAMOD]["method"]
KIND = "code - paper"
MOMENTS = (1, 10, 100, 1000, 10_000)
"""Steps whose lengths are told; the lengths of all up to the last are compared."""


def grid(task: Task, quick: bool) -> list[tuple[float, AdaMod]]:
    """Rates, and the paper's method at each."""
    if task is TRANSFORMER:
        return [(rate, PAPER) for rate in ((STEEP,) if quick else RATES)]
    if quick:
        return [(0.01, AdaMod(beta3=0.9999))]
    both = [(rate, AdaMod(beta3=beta3)) for beta3 in (0.999, 0.9999) for rate in digits_runs.RATES]
    return [*both, *((digits_runs.SLOW, AdaMod(beta3=beta3)) for beta3 in (0.99, 0.9))]


def settings(task: Task, quick: bool) -> dict[str, Any]:
    """How long it is trained, and with what."""
    return digits_runs.settings(quick) if task is DIGITS else {"steps": 50 if quick else steps(quick)}


def variants(method: AdaMod) -> tuple[AdaMod, AdaMod]:
    """The paper's, and the code's."""
    return method, dataclasses.replace(method, variant="reference")


def runs(quick: bool) -> list[Run]:
    """Both in every setting."""
    return [
        Run(task.run, method=method, rate=rate, seed=seed, **settings(task, quick))
        for task in TASKS
        for rate, paper in grid(task, quick)
        for method in variants(paper)
        for seed in range(1 if quick else 5)
    ]


def trained(results: Results, task: Task, rate: float, method: AdaMod, quick: bool) -> Results:
    """The trainings of one variant in one setting."""
    return results.where(rate=rate, method=method, **settings(task, quick))


def measured(results: Results, task: Task) -> np.ndarray:
    """By variant, setting and seed."""
    return np.asarray(
        [
            [[task.measure(r.values) for r in trained(results, task, rate, paper, False)] for rate, paper in chosen]
            for chosen in zip(*([(rate, m) for m in variants(paper)] for rate, paper in grid(task, False)), strict=True)
        ]
    )


def compared(values: np.ndarray, task: Task) -> Comparisons:
    """The code less the paper; over the grid where every training learned."""
    learned = ~np.any(np.vectorize(task.failed)(values), axis=(0, 2))
    settings_of = [f"{rate:g} / {method.beta3:g}" for rate, method in grid(task, False)]
    return Comparisons(task, {KIND: values[1] - values[0]}, settings_of, learned)


@functools.cache
def lengths(method: AdaMod) -> np.ndarray:
    """Return how long the steps are for gradients that stay the same, in units of the rate, from the first on."""
    state, found = init(method, np.zeros(1), lr=1.0), []
    for _ in range(MOMENTS[-1]):
        last, state = state.params, step(state, np.ones(1))
        found.append(abs(float(state.params[0] - last[0])))
    return np.asarray(found)


def early(results: Results) -> tuple[np.ndarray, np.ndarray]:
    """The Transformer's training losses at the middle rate, of the paper's form and of the code."""
    paper, code = (
        np.asarray([r.values["loss"] for r in trained(results, TRANSFORMER, MIDDLE, method, False)])
        for method in variants(PAPER)
    )
    return paper, code


def figure_of(every: list[Comparisons], losses: tuple[np.ndarray, np.ndarray]) -> Any:
    """Differences of each setting, and the losses of one."""
    figure, axes = panels(2, 2, width=3.8, height=3.2)
    for ax, one in zip(axes[0], every, strict=True):
        differences.draw(ax, one.single, one.settings, one.task)
        ax.set_title(f"{one.task.title}: rate / $\\beta_3$")
    left, right = axes[1]
    for loss, name, color, line in zip(losses, ("paper", "code"), (BLUE, VERMILION), ("-", "--"), strict=True):
        at = WINDOW * (np.arange(loss.shape[1]) + 0.5)
        curve(left, at, loss, line, color=color, label=name)
    left.set(xlabel="step", ylabel="training loss (nats a character)", xscale="log")
    left.xaxis.set_major_formatter("{x:g}")
    left.set_title(f"Transformer at the rate {MIDDLE:g}")
    left.legend()
    paper, code = (lengths(method) for method in variants(PAPER))
    right.plot(1 + np.arange(MOMENTS[-1]), code / paper, color=VERMILION)
    right.set(xlabel="step", ylabel="length of the step, code / paper", xscale="log")
    right.xaxis.set_major_formatter("{x:g}")
    right.set_title(rf"The same gradients, $\beta_3$ = {PAPER.beta3:g}")
    return figure


def table(values: np.ndarray, one: Comparisons) -> list[str]:
    """The ends by setting."""
    digits = 2 if one.task is DIGITS else 3
    return [
        f"| {one.task.title} | {rate:g} | {method.beta3:g} | {plus_minus(paper, digits)} | {plus_minus(code, digits)} |"
        f" {each.differs.mean:+.{digits}f} | {each.differs.corrected:.2g} | {each} |"
        for (rate, method), paper, code, each in zip(grid(one.task, False), *values, one.single[KIND], strict=True)
    ]


def findings(every: list[Comparisons], ahead: Test) -> list[Finding]:
    """Judge the steps, the results, and the beginning."""
    paper, code = (lengths(method) for method in variants(PAPER))
    ratios = {f"step {t:,}": float(code[t - 1] / paper[t - 1]) for t in MOMENTS}
    same = bool(np.all(np.abs(code / paper - 1) < 1e-6))
    return [
        Finding(
            "adamod/footnote-1-and-algorithm-2",
            "the code's steps are longer by the factors "
            + ", ".join(f"{ratio:.3g} at {at}" for at, ratio in ratios.items())
            + rf" (gradients that stay the same, $\beta_3$ = {PAPER.beta3:g})",
            "holds where both are as long at every step, to 1e-6",
            "holds" if same else "does not hold",
        ),
        Finding(
            "library/variants-results",
            "; ".join(one.words([KIND]) for one in every),
            f"code less paper; {criterion(every)}",
            *everywhere({one.task.title: one.verdict([KIND]) for one in every}, "tasks"),
        ),
        Finding(
            "library/variants-early",
            f"training loss of steps 76 to 100: {ahead.mean:+.3f} nats, code less paper ({ahead})",
            f"holds where the code's is lower, Transformer at the rate {MIDDLE:g}",
            "not shown" if not ahead.rejects else "holds" if ahead.mean < 0 else "does not hold",
        ),
    ]


def report(results: Results, quick: bool) -> Report:
    """Findings, in the full version; the check in both."""
    paper, code = (
        trained(results, TRANSFORMER, STEEP, method, quick).where(seed=0)[0].values["first_losses"]
        for method in variants(PAPER)
    )
    gaps = np.abs(np.asarray(paper) - np.asarray(code))
    checks = [
        Check(
            "the two take the same first step, and not the same second one",
            bool(gaps[0] == 0 and gaps[1] < 1e-6 and gaps[2] > 1e-5),
            "losses before the first, second and third step differ by " + ", ".join(f"{gap:.1e}" for gap in gaps[:3]),
        )
    ]
    if quick:
        return Report([], checks)
    values = [measured(results, task) for task in TASKS]
    every = [compared(ends, task) for ends, task in zip(values, TASKS, strict=True)]
    losses = early(results)
    ahead = difference("Transformer, steps 76 to 100: code - paper", (losses[1] - losses[0])[:, 3])
    head = [
        "| task | rate | beta3 | paper | code | code - paper | p, difference | |",
        "| --- | --- | --- |" + " ---: |" * 4 + " --- |",
    ]
    text = (
        "Test accuracy in points, held-out loss in nats a character; mean ± standard deviation of five seeds; the last"
        " columns after Holm's correction for the settings of a task:\n\n"
        + "\n".join([*head, *(line for each in zip(values, every, strict=True) for line in table(*each))])
    )
    picture = Picture(
        "differences",
        figure_of(every, losses),
        "Differences between the variants for each rate and beta3 on digits and on the Transformer, the Transformer's"
        " losses, and the lengths of the steps.",
        "Above: code less paper, means of five paired differences ± two standard errors; grey is the margin, and a"
        " logarithmic scale is linear within it. Below, left: means and ranges of five seeds.",
    )
    tests = [t for one in every for t in one.tests()] + [ahead]
    return Report(findings(every, ahead), checks, [picture], text, tests)


EXPERIMENT = Experiment("variants", "AdaMod's paper and its authors' code", ABOUT, runs, report)
