"""Whether untuned warmups and RAdam are interchangeable, and whether RAdam improves on Adam without a warmup."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np

from reproduction import differences
from reproduction.comparisons import Comparisons, count, criterion
from reproduction.findings import warmup_curves
from reproduction.findings.radam_adam import radam_findings
from reproduction.frame import Check, Experiment, Finding, Picture, Report, Results, Run, Verdict
from reproduction.grids import warmup_grid
from reproduction.grids.warmup_grid import NONE, WARMUPS
from reproduction.statistics import equivalence, plus_minus
from reproduction.style import panels
from reproduction.tasks import DIGITS, TASKS, TRANSFORMER, Task
from reproduction.verdicts import everywhere

ABOUT = r"""
Adam with the untuned exponential warmup, with the untuned linear one, and RAdam, over rates and $\beta_2$, five seeds
each, which all share. Beside them Adam without a warmup, as a control: where the tests do not tell it from RAdam, they
could not have told two warmups apart either. On digits the rates and the $\beta_2$ of Table 1, 100 epochs; with the
character Transformer 600 steps at rates about the edge of what it bears, with the smaller $\beta_2$ of Table 3, whose
linear warmups last 100 and 200 steps, and for the curves of Figures 5 and 6 three seeds of 2,500 steps with
$\beta_2 = 0.999$. $\epsilon$ is $10^{-8}$ and $10^{-9}$ (in RAdam its square, inside of the root).

That no difference is seen does not show that there is none. So a margin was set before anything ran: **one point of
test accuracy** on digits, **0.02 nats a character** of held-out loss (2 % of perplexity). Two warmups are *equivalent*
where two one-sided t tests of their paired differences reject, at the level 0.05 after Holm's correction for all pairs
and settings of a task, that the mean lies outside of the margin; they *differ* where a t test does, likewise corrected;
where every training ends the same they are *identical*. A setting is tested with the deviation of its own five
differences. Tests over the grid are of each seed's mean over the settings in which every training with a warmup
learned; those in which some were lost scatter ten times as much, and are judged apart (decided when that was seen).
"""

PAIRS = tuple(itertools.combinations(WARMUPS, 2))
CONTROL = "RAdam - no warmup"


def runs(quick: bool) -> list[Run]:
    """The grid, and the long trainings."""
    return [*warmup_grid.runs(quick), *warmup_curves.runs(quick)]


class Ends:
    """The ends of the trainings on one task, and what the tests say of them."""

    def __init__(self, values: dict[str, np.ndarray], task: Task) -> None:
        self.values, self.task = values, task
        lost = np.vectorize(task.failed)(np.stack([values[name] for name in WARMUPS]))
        self.lost = dict(zip(WARMUPS, lost.sum(axis=2), strict=True))
        rows = {f"{a} - {b}": values[a] - values[b] for a, b in PAIRS}
        settings = warmup_grid.names(task)
        self.warmups = Comparisons(task, rows, settings, ~np.any(lost, axis=(0, 2)))
        self.control = Comparisons(task, {CONTROL: values["RAdam"] - values[NONE]}, settings)

    def lost_words(self) -> str:
        """Say which warmups lost how many trainings."""
        return ", ".join(
            f"{name} at {at} {lost[i]}"
            for i, at in enumerate(self.warmups.settings)
            for name, lost in self.lost.items()
            if lost[i]
        )


def interchangeable(claim: str, kinds: list[str], every: list[Ends]) -> Finding:
    """Judge pairs on both tasks, and where trainings are lost."""
    verdicts: dict[str, Verdict] = {}
    words = []
    for one in every:
        warmups, title = one.warmups, one.task.title
        verdicts[title] = warmups.verdict(kinds)
        (control,) = one.control.single.values()
        seen = sum(each.differs.rejects for each in control)
        words.append(f"{warmups.words(kinds)}; the control differs in {seen} of {len(control)} settings")
        if not warmups.counted.all():
            apart = warmups.chosen(kinds, ~warmups.counted)
            where = f"{title}, where trainings are lost"
            equal: Verdict = "holds" if all(each.equivalent for each in apart) else "not shown"
            verdicts[where] = "does not hold" if warmups.apart(kinds) else equal
            words.append(
                f"{where}: of {len(apart)} single settings {count(apart)}; lost, of five seeds: {one.lost_words()}"
            )
    verdict, extent = everywhere(verdicts, "parts")
    decides = f"{criterion([one.warmups for one in every])}; where trainings are lost, where each pair is equivalent"
    return Finding(claim, "; ".join(words), decides, verdict, extent)


def overall_table(every: list[Ends]) -> str:
    """The pairs, over all settings."""
    lines = ["| task | pair | difference | margin | p, equivalence | p, difference | |", "|" + " --- |" * 7]
    lines += [
        f"| {one.task.title} | {kind} | {each.differs.mean:+.3f} ± {each.standard_error:.3f} | {one.task.margin} |"
        f" {'-' if each.identical else f'{each.equals.corrected:.2g}'} | {each.differs.corrected:.2g} | {each} |"
        for one in every
        for kind, each in one.warmups.overall.items()
    ]
    return "\n".join(lines)


def table(one: Ends) -> str:
    """The settings of a task: ends, and what the tests say of the pairs."""
    names = (*WARMUPS, NONE)
    pairs = ["exp. - lin.", "exp. - RAdam", "lin. - RAdam", "RAdam - none"]
    lines = [
        f"| {one.task.title}: rate | beta2 | " + " | ".join([*names, *pairs]) + " |",
        "| --- | --- |" + " ---: |" * len(names) + " --- |" * len(pairs),
    ]
    digits = 2 if one.task is DIGITS else 3
    for i, (rate, beta2) in enumerate(warmup_grid.grid(one.task, False)):
        cells = [plus_minus(one.values[name][i], digits) for name in names]
        words = [str(compared[i]) for compared in (*one.warmups.single.values(), *one.control.single.values())]
        lines.append(f"| {rate:g} | {beta2:g} | " + " | ".join([*cells, *words]) + " |")
    return "\n".join(lines)


def control_words(one: Ends) -> str:
    """Say whether a warmup matters on this task, as far as its tests can see."""
    (control,) = one.control.single.values()
    seen = [at for at, each in zip(one.control.settings, control, strict=True) if each.differs.rejects]
    if not seen:
        return (
            f"On the task {one.task.title} Adam without a warmup is not told from RAdam in any setting: that warmups"
            " are interchangeable there says little of them."
        )
    return f"On the task {one.task.title} Adam without a warmup is told from RAdam at {', '.join(seen)}."


def figure_of(every: list[Ends]) -> Any:
    """Differences of each setting, with the margins."""
    figure, axes = panels(1, len(TASKS), width=3.8, height=5.6)
    for ax, one in zip(axes, every, strict=True):
        differences.draw(ax, one.warmups.single | one.control.single, one.warmups.settings, one.task)
        ax.set_title(f"{one.task.title}: rate / $\\beta_2$")
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=4)
    return figure


def simulated_level(seed: int, *, margin: float, n: int, repeats: int) -> float:
    """How often means that lie on the margin are called equivalent: no more often than the level, 0.05."""
    draws = np.random.default_rng(seed).normal(margin, margin / 4, (repeats, n))
    return float(np.mean([equivalence("simulated", draw, margin).rejects for draw in draws]))


def checks_of(results: Results, quick: bool) -> list[Check]:
    """What must hold of the tests and of the trainings."""
    repeats = 1000
    level = simulated_level(0, margin=1.0, n=5, repeats=repeats)
    bound = 0.05 + 3 * (0.05 * 0.95 / repeats) ** 0.5
    rate, beta2 = warmup_grid.grid(TRANSFORMER, True)[0]
    first = [
        warmup_grid.trained(results, TRANSFORMER, rate, beta2, name, quick)[0].values["first_losses"]
        for name in (*WARMUPS, NONE)
    ]
    return [
        Check(
            "warmups that lie on the margin are called equivalent no more often than the level says",
            bool(0.03 < level < bound),
            f"{level:.4f} of {repeats} simulated experiments of five seeds, where 0.05 is the level",
        ),
        Check(
            "all four start from the same parameters and batch, and have moved by the second step to the fourth",
            bool(np.ptp([x[0] for x in first]) == 0 and min(np.ptp(x) for x in first) > 0),
            f"a loss of {first[0][0]:.4f} in each",
        ),
    ]


def report(results: Results, quick: bool) -> Report:
    """Findings, in the full version; checks in both."""
    checks = checks_of(results, quick)
    if quick:
        return Report([], checks)
    every = [Ends(warmup_grid.measured(results, task), task) for task in TASKS]
    curves, picture = warmup_curves.findings(results)
    of_radam, tests = radam_findings([(one.task, one.values["RAdam"], one.values[NONE]) for one in every])
    found = [
        interchangeable("untuned/interchangeable", [f"{a} - {b}" for a, b in PAIRS], every),
        interchangeable("untuned/conclusion", ["linear - RAdam"], every),
        *curves,
        *of_radam,
    ]
    text = "\n\n".join(
        [
            "Over the whole grid (means over the settings in which every training learned, one a seed; p after Holm's"
            " correction):",
            overall_table(every),
            "Each setting, mean ± standard deviation of five seeds; test accuracy in points:",
            table(every[0]),
            "Held-out loss in nats a character:",
            table(every[1]),
            " ".join(control_words(one) for one in every),
            warmup_curves.text(),
        ]
    )
    pictures = [
        Picture(
            "differences",
            figure_of(every),
            "Differences of the warmups for each rate and beta2 on digits and on the Transformer, with the margins.",
            "Means of five paired differences ± two standard errors; grey is the margin within which two warmups count"
            " as the same. Where a scale is logarithmic, it is linear within the margin.",
        ),
        picture,
    ]
    ours = [test for one in every for each in (one.warmups, one.control) for test in each.tests()]
    return Report(found, checks, pictures, text, [*ours, *tests])


EXPERIMENT = Experiment("interchangeable", "Are untuned warmups interchangeable?", ABOUT, runs, report)
