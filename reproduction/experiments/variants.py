"""AdaMod as its paper states it beside AdaMod as its authors programmed it."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np

from adamod_array import AdaMod
from reproduction import differences
from reproduction.equivalence import Grid, compare, compare_grid, verdict
from reproduction.experiments import robustness
from reproduction.frame import Check, Claim, Experiment, Picture, Report, Results, Run
from reproduction.style import BLUE, VERMILION, panels
from reproduction.tasks import DIGITS, TASKS, TRANSFORMER, Task
from reproduction.train_transformer import WINDOW
from reproduction.transformer_runs import ADAMOD, CONFIGS, MIDDLE, RATES, STEEP, steps

ABOUT = r"""
The paper's Algorithm 2 corrects $m$ and $v$; the authors' code puts both corrections into the rate that is averaged,
and takes longer steps for about $1/(1-\beta_3)$ steps ([methods](../methods.md), `variant="reference"`). Both, from the
same five seeds: on digits with $\beta_3$ of 0.999 and 0.9999 over three rates and of 0.9 and 0.99 at the rate 0.001, in
the trainings of [robustness](#robustness-to-the-learning-rate-and-to-beta3); with the Transformer $\beta_3 = 0.999$,
three rates. Margins and tests are those of the [warmups](#are-untuned-warmups-interchangeable), one point of accuracy
and 0.02 nats of held-out loss, set before anything ran.
"""

PAPER: AdaMod = CONFIGS[ADAMOD]["method"]


def grid(task: Task, quick: bool) -> list[tuple[float, AdaMod]]:
    """Rates, and the paper's method at each."""
    if task is TRANSFORMER:
        return [(rate, PAPER) for rate in ((STEEP,) if quick else RATES)]
    if quick:
        return [(0.01, AdaMod(beta3=0.9999))]
    both = [(rate, AdaMod(beta3=beta3)) for beta3 in (0.999, 0.9999) for rate in robustness.RATES]
    return [*both, *((robustness.SLOW, AdaMod(beta3=beta3)) for beta3 in (0.99, 0.9))]


def settings(task: Task, quick: bool) -> dict[str, Any]:
    return robustness.settings(quick) if task is DIGITS else {"steps": steps(quick)}


def variants(method: AdaMod) -> tuple[AdaMod, AdaMod]:
    return method, dataclasses.replace(method, variant="reference")


def runs(quick: bool) -> list[Run]:
    return [
        Run(task.run, method=method, rate=rate, seed=seed, **settings(task, quick))
        for task in TASKS
        for rate, paper in grid(task, quick)
        for method in variants(paper)
        for seed in range(1 if quick else 5)
    ]


def trained(results: Results, task: Task, rate: float, method: AdaMod, quick: bool) -> Results:
    return results.where(rate=rate, method=method, **settings(task, quick))


def measured(results: Results, task: Task) -> np.ndarray:
    """By variant, setting and seed."""
    return np.asarray(
        [
            [[task.measure(r.values) for r in trained(results, task, rate, paper, False)] for rate, paper in chosen]
            for chosen in zip(*([(rate, m) for m in variants(paper)] for rate, paper in grid(task, False)), strict=True)
        ]
    )


def tests_of(values: np.ndarray, task: Task) -> Grid:
    failed = np.any(np.vectorize(task.failed)(values), axis=(0, 2))
    return compare_grid([values[1] - values[0]], task.margin, ~failed)


def early(results: Results) -> tuple[np.ndarray, np.ndarray]:
    """The Transformer's training losses at the middle rate, of the paper's form and of the code."""
    paper, code = (
        np.asarray([r.values["loss"] for r in trained(results, TRANSFORMER, MIDDLE, method, False)])
        for method in variants(PAPER)
    )
    return paper, code


def figure_of(tests: dict[str, Grid], losses: tuple[np.ndarray, np.ndarray]) -> Any:
    figure, axes = panels(1, 3, width=4.4, height=4.0)
    for ax, task in zip(axes, TASKS, strict=False):
        settings_of = [rf"{rate:g}, $\beta_3$ = {method.beta3:g}" for rate, method in grid(task, False)]
        differences.draw(ax, {"code - paper": tests[task.title].single[0]}, settings_of, task)
        ax.set_title(f"{task.title}: rate and $\\beta_3$")
    ax = axes[2]
    for loss, name, color, line in zip(losses, ("paper", "code"), (BLUE, VERMILION), ("-", "--"), strict=True):
        at = WINDOW * (np.arange(loss.shape[1]) + 0.5)
        ax.plot(at, loss.mean(axis=0), line, color=color, label=name)
        ax.fill_between(at, loss.min(axis=0), loss.max(axis=0), color=color, alpha=0.15, linewidth=0)
    ax.set(xlabel="step", ylabel="training loss (nats a character)", xscale="log")
    ax.xaxis.set_major_formatter("{x:g}")
    ax.set_title(f"Transformer at the rate {MIDDLE:g}")
    ax.legend()
    return figure


def table(values: np.ndarray, tests: Grid, task: Task) -> list[str]:
    digits = 2 if task is DIGITS else 3
    return [
        f"| {task.title} | {rate:g} | {method.beta3:g} | {paper.mean():.{digits}f} ± {paper.std(ddof=1):.{digits}f} |"
        f" {code.mean():.{digits}f} ± {code.std(ddof=1):.{digits}f} | {test.mean:+.{digits}f} | {verdict(test)} |"
        for (rate, method), paper, code, test in zip(grid(task, False), *values, tests.single[0], strict=True)
    ]


def in_words(tests: Grid, task: Task) -> str:
    (overall,), (single,) = tests
    return (
        f"{task.title}: {overall.mean:+.3f} ± {overall.standard_error:.3f} {task.unit} over the grid"
        f" ({verdict(overall)}, p = {overall.p_equivalent:.2g} and {overall.p_different:.2g}); of {len(single)}"
        f" settings {sum(t.p_equivalent < 0.05 for t in single)} equivalent,"
        f" {sum(t.p_different < 0.05 for t in single)} different"
    )


def report(results: Results, quick: bool) -> Report:
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
    values = {task.title: measured(results, task) for task in TASKS}
    tests = {task.title: tests_of(values[task.title], task) for task in TASKS}
    losses = early(results)
    fourth = compare((losses[1] - losses[0])[:, 3], TRANSFORMER.margin)  # steps 76 to 100
    same = all(each.overall[0].p_equivalent < 0.05 for each in tests.values())
    apart = any(
        test.p_different < 0.05 and abs(test.mean) > task.margin
        for task in TASKS
        for test in tests[task.title].single[0]
    )
    claims = [
        Claim(
            "AdaMod, Algorithm 2 and the code that the paper links to",
            "the published code is the published algorithm: in results, if not in its steps",
            "no difference is mentioned",
            "; ".join(in_words(tests[task.title], task) for task in TASKS),
            "does not hold" if apart else "holds" if same else "not shown",
            "code less paper, p of equivalence and of difference; holds where both tasks are equivalent over the grid"
            " and no setting differs, with a mean beyond the margin",
        ),
        Claim(
            "the same",
            "early in training the code is ahead: its steps are longer (2.2 times at step 10, 1.3 times at step 100)",
            "not published",
            f"training loss of steps 76 to 100: {fourth.mean:+.3f} ± {fourth.standard_error:.3f} nats"
            f" (p = {fourth.p_different:.2g})",
            "holds" if fourth.mean < 0 and fourth.p_different < 0.05 else "does not hold",
            f"Transformer at the rate {MIDDLE:g}, code less paper",
        ),
    ]
    head = ["| task | rate | beta3 | paper | code | code - paper | |", "| --- | --- | --- |" + " ---: |" * 3 + " --- |"]
    lines = [line for task in TASKS for line in table(values[task.title], tests[task.title], task)]
    text = (
        "Test accuracy in points, held-out loss in nats a character; mean ± standard deviation of five seeds; the last"
        " column after Holm's correction for the settings of a task:\n\n" + "\n".join([*head, *lines])
    )
    picture = Picture(
        "differences",
        figure_of(tests, losses),
        "Differences between the variants for each rate and beta3, on digits and on the Transformer, and its losses.",
        "Left and middle: code less paper, means of five paired differences ± two standard errors; grey is the"
        " margin, the scale linear in it and logarithmic beyond. Right: means and ranges of five seeds.",
    )
    return Report(claims, checks, [picture], text)


EXPERIMENT = Experiment("variants", "AdaMod's paper and its authors' code", ABOUT, runs, report)
