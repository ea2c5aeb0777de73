"""Whether untuned warmups and RAdam are interchangeable: Ma & Yarats 2021, Tables 1 to 3."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np

from adamod_array import Adam, RAdam, schedules
from reproduction import differences
from reproduction.equivalence import Grid, compare, compare_grid, simulated_level, verdict
from reproduction.frame import Check, Claim, Experiment, Picture, Report, Results, Run, Verdict
from reproduction.style import panels
from reproduction.tasks import DIGITS, TASKS, TRANSFORMER, Task

ABOUT = r"""
Adam with the untuned exponential warmup, with the untuned linear one, and RAdam, over rates and $\beta_2$, five seeds
each, which all three share. On digits the rates and the $\beta_2$ of Table 1, 100 epochs; with the character
Transformer 600 steps at rates about the edge of what it bears, with the smaller $\beta_2$ of Table 3, whose linear
warmups last 100 and 200 steps. $\epsilon$ is $10^{-8}$ and $10^{-9}$ (in RAdam its square, inside of the root).

That no difference is seen does not show that there is none. So a margin was set before anything ran: **one point of
test accuracy** on digits, **0.02 nats a character** of held-out loss (2 % of perplexity; differences in the paper's
tables, which it calls indistinguishable, are of that size). Two warmups are *equivalent* where two one-sided t tests of
their paired differences reject, at the level 0.05 after Holm's correction for all pairs of a task, that the mean lies
outside of the margin; they *differ* where a t test does, likewise corrected. Tests over the grid are of each seed's
mean over the settings in which every training learned; in tests of single ones of these the standard deviation is
pooled over them. Settings in which trainings were lost scatter ten times as much: that they are tested with a deviation
of their own, and judged apart, was decided when that was seen.
"""

PAIRS = tuple(itertools.combinations(("exponential", "linear", "RAdam"), 2))


def settings(task: Task, quick: bool) -> dict[str, Any]:
    """How long it is trained."""
    if task is DIGITS:
        return {"epochs": 10 if quick else 100, "weight_decay": 0.0}
    return {"steps": 150 if quick else 600}


def grid(task: Task, quick: bool) -> list[tuple[float, float]]:
    return [(rate, beta2) for rate in task.rates[1:2] if quick for beta2 in task.beta2[:1]] or list(
        itertools.product(task.rates, task.beta2)
    )


def methods(task: Task, beta2: float) -> dict[str, dict[str, Any]]:
    """The three, as arguments of a training."""
    adam = Adam(beta2=beta2, eps=task.eps)
    return {
        "exponential": {"method": adam, "warmup": schedules.untuned_exponential(beta2)},
        "linear": {"method": adam, "warmup": schedules.untuned_linear(beta2)},
        "RAdam": {"method": RAdam(beta2=beta2, eps=0, eps_root=task.eps**2)},
    }


def runs(quick: bool) -> list[Run]:
    seeds = {DIGITS.title: 3 if quick else 5, TRANSFORMER.title: 1 if quick else 5}
    return [
        Run(task.run, rate=rate, seed=seed, **each, **settings(task, quick))
        for task in TASKS
        for rate, beta2 in grid(task, quick)
        for each in methods(task, beta2).values()
        for seed in range(seeds[task.title])
    ]


def measured(results: Results, task: Task, quick: bool) -> dict[str, np.ndarray]:
    """By warmup: a row a setting, a column a seed."""
    found: dict[str, list[list[float]]] = {"exponential": [], "linear": [], "RAdam": []}
    for rate, beta2 in grid(task, quick):
        for name, each in methods(task, beta2).items():
            trained = results.where(rate=rate, **each, **settings(task, quick))
            found[name].append([task.measure(r.values) for r in trained])
    return {name: np.asarray(rows) for name, rows in found.items()}


def learned(values: dict[str, np.ndarray], task: Task) -> np.ndarray:
    """Of each setting, whether every training learned."""
    lost = np.vectorize(task.failed)(np.stack(list(values.values())))
    return np.asarray(~np.any(lost, axis=(0, 2)))


def tests_of(values: dict[str, np.ndarray], task: Task) -> Grid:
    """Of all pairs, in all settings."""
    return compare_grid([values[a] - values[b] for a, b in PAIRS], task.margin, learned(values, task))


def overall_table(tests: dict[str, Grid]) -> str:
    """The pairs, over all settings."""
    lines = ["| task | pair | difference | margin | p, equivalence | p, difference | |", "|" + " --- |" * 7]
    lines += [
        f"| {task.title} | {a} - {b} | {test.mean:+.3f} ± {test.standard_error:.3f} | {task.margin} |"
        f" {test.p_equivalent:.2g} | {test.p_different:.2g} | {verdict(test)} |"
        for task in TASKS
        for (a, b), test in zip(PAIRS, tests[task.title].overall, strict=True)
    ]
    return "\n".join(lines)


def figure_of(tests: dict[str, Grid]) -> Any:
    """Differences of each setting, with the margins."""
    figure, axes = panels(1, len(TASKS), width=5.4, height=5.0)
    for ax, task in zip(axes, TASKS, strict=True):
        names = [f"{a} - {b}" for a, b in PAIRS]
        settings_of = [rf"{rate:g}, $\beta_2$ = {beta2:g}" for rate, beta2 in grid(task, quick=False)]
        differences.draw(ax, dict(zip(names, tests[task.title].single, strict=True)), settings_of, task)
        ax.set_title(f"{task.title}: rate and $\\beta_2$")
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=3)
    return figure


def table(values: dict[str, np.ndarray], task: Task) -> str:
    lines = [
        f"| {task.title}: rate | beta2 | exponential | linear | RAdam |",
        "| --- | --- | ---: | ---: | ---: |",
    ]
    digits = 2 if task is DIGITS else 3
    for i, (rate, beta2) in enumerate(grid(task, quick=False)):
        cells = [f"{rows[i].mean():.{digits}f} ± {rows[i].std(ddof=1):.{digits}f}" for rows in values.values()]
        lines.append(f"| {rate:g} | {beta2:g} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


PUBLISHED = {
    DIGITS.title: ("Table 1", "means at most 1.1 points apart, standard deviations 0.1 to 0.5 (ImageNet, top-1 error)"),
    TRANSFORMER.title: ("Tables 2 and 3", "means at most 1.9 apart, standard deviations 0.0 to 2.4 (perplexity)"),
}


def claims_of(values: dict[str, np.ndarray], tests: Grid, task: Task) -> list[Claim]:
    """Where every training learns, and where some are lost."""
    table, published = PUBLISHED[task.title]
    sound = learned(values, task)
    equal = np.asarray([[test.p_equivalent < 0.05 for test in single] for single in tests.single])
    other = np.asarray([[test.p_different < 0.05 for test in single] for single in tests.single])
    beyond = other & np.asarray([[abs(test.mean) > task.margin for test in single] for single in tests.single])
    apart = np.ptp([rows.mean(axis=1) for rows in values.values()], axis=0)
    all_equal = sum(test.p_equivalent < 0.05 for test in tests.overall)
    of_task = "untuned exponential and linear warmup and RAdam are interchangeable"

    def decided(wrong: np.ndarray, right: bool) -> Verdict:
        return "does not hold" if wrong.any() else "holds" if right else "not shown"

    def in_words(chosen: np.ndarray) -> str:
        count = f"{equal[:, chosen].size} pairs in single settings"
        return (
            f"of {count} {equal[:, chosen].sum()} equivalent, {other[:, chosen].sum()} different,"
            f" {beyond[:, chosen].sum()} by more than the margin; means at most {apart[chosen].max():.2g}"
            f" {task.unit} apart"
        )

    found = [
        Claim(
            f"Ma & Yarats, {table}",
            f"{of_task} ({task.title})",
            published,
            f"over the grid {all_equal} of {len(PAIRS)} pairs equivalent; {in_words(sound)}",
            decided(beyond[:, sound], all_equal == len(PAIRS)),
            "holds where all pairs are equivalent over the grid and none in a single setting differs by more than the"
            " margin; of settings in which every training learned",
        )
    ]
    if not sound.all():
        lost = [
            f"{name} {rate:g}, {beta2:g}: {sum(map(task.failed, rows))}"
            for (rate, beta2), *by_name in zip(grid(task, quick=False), *values.values(), strict=True)
            for name, rows in zip(values, by_name, strict=True)
            if any(map(task.failed, rows))
        ]
        found.append(
            Claim(
                f"Ma & Yarats, {table}",
                f"{of_task} where trainings are lost, too ({task.title})",
                "larger standard deviations, where the rate is large",
                f"{in_words(~sound)}; lost, of five seeds: {', '.join(lost)}",
                decided(beyond[:, ~sound], bool(equal[:, ~sound].all())),
                "holds where every pair is equivalent, does not hold where one differs by more than the margin",
            )
        )
    return found


def report(results: Results, quick: bool) -> Report:
    values = {task.title: measured(results, task, quick) for task in TASKS}
    repeats = 2000
    level = simulated_level(0, margin=1.0, n=5, repeats=repeats)
    bound = 0.05 + 3 * (0.05 * 0.95 / repeats) ** 0.5
    length = settings(TRANSFORMER, quick)
    first = [
        results.where(rate=TRANSFORMER.rates[1], seed=0, **each, **length)[0].values["first_losses"]
        for each in methods(TRANSFORMER, TRANSFORMER.beta2[0]).values()
    ]
    by_hand = compare(np.asarray([1.0, 2.0, 3.0]), 2.0)
    checks = [
        Check(
            "warmups that lie on the margin are called equivalent no more often than the level says",
            bool(0.03 < level < bound),
            f"{level:.4f} of {repeats} simulated experiments of five seeds, where 0.05 is the level",
        ),
        Check(
            "a mean on the margin has the probability 1/2, and 2 ± 0.577 differs from 0 with p = 0.0742",
            abs(by_hand.p_equivalent - 0.5) < 1e-12 and abs(by_hand.p_different - 0.07418) < 1e-5,
            f"{by_hand.p_equivalent:.4f}, {by_hand.p_different:.4f}",
        ),
        Check(
            "the three start from the same parameters and batch, and have moved by the second step to the fourth",
            bool(np.ptp([x[0] for x in first]) == 0 and min(np.ptp(x) for x in first) > 0),
            f"a loss of {first[0][0]:.4f} in each",
        ),
    ]
    if quick:
        return Report([], checks)
    tests = {task.title: tests_of(values[task.title], task) for task in TASKS}
    text = "\n\n".join(
        [
            "Over the whole grid (means over the settings, one a seed; p after Holm's correction):",
            overall_table(tests),
            "Each setting, mean ± standard deviation of five seeds; test accuracy in points:",
            table(values[DIGITS.title], DIGITS),
            "Held-out loss in nats a character:",
            table(values[TRANSFORMER.title], TRANSFORMER),
        ]
    )
    picture = Picture(
        "differences",
        figure_of(tests),
        "Differences between the warmups for each rate and beta2, on digits and on the Transformer, with the margins.",
        "Means of five paired differences ± two standard errors; grey is the margin within which two warmups count as"
        " the same. On the right the scale is linear in it and logarithmic beyond.",
    )
    claims = [claim for task in TASKS for claim in claims_of(values[task.title], tests[task.title], task)]
    return Report(claims, checks, [picture], text)


EXPERIMENT = Experiment("interchangeable", "Are untuned warmups interchangeable?", ABOUT, runs, report)
