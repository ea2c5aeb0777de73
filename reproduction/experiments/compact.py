"""Whether trainings with slots in bfloat16, rounded stochastically, end as those with slots in float32."""

from __future__ import annotations

from typing import Any

import numpy as np

from reproduction import differences
from reproduction.comparisons import Compared, Comparisons, count, criterion
from reproduction.experiments.agreement import version
from reproduction.frame import Check, Experiment, Finding, Picture, Report, Results, Run, Verdict
from reproduction.grids import digits_runs
from reproduction.grids.compact_runs import ADAM, ALL, CONTROL, KINDS, NEAREST, measured, pairs, rates, trainings
from reproduction.runs.compact_slots import LOW, compared, falling
from reproduction.runs.replay import FRAMEWORKS, REFERENCE, here
from reproduction.statistics import plus_minus
from reproduction.style import BLUE, GREY, VERMILION, panels
from reproduction.tasks import DIGITS, TASKS, Task
from reproduction.verdicts import everywhere

ABOUT = r"""
[Slots in 16 bits](../compact.md) are rounded stochastically. Whether trainings with them end as those with float32
slots do is asked of AdaMod ($\beta_3 = 0.999$) with $m$ and $s$ in bfloat16 and with all three, and of Adam with $m$
and $v$: on digits in the trainings of [robustness](#robustness-to-the-learning-rate-and-to-beta3), with the Transformer
in those of [AdaMod's variants](#adamods-paper-and-its-authors-code), each at the two rates at which they learn. Adam
has a linear warmup of 400 steps with the Transformer, without which it does not train soundly at the rate 0.003. Each
training is paired with the one of the same seed, method and rate whose slots are float32: the same parameters and the
same batches.

Margins and tests are those of the [warmups](#are-untuned-warmups-interchangeable), one point of test accuracy and 0.02
nats of held-out loss, set before anything ran. So was the number of seeds, ten: what five seeds of AdaMod's variants
differ by at the rate 0.003 deviates by 0.018 nats, and of five such differences the tests of single settings would
decide little. As a control AdaMod's slots are rounded to the nearest bfloat16, as a cast does; with the Transformer
from five seeds.
"""

CLAIMS = dict(zip(KINDS, ("library/compact-two", "library/compact-all", "library/compact-adam"), strict=True))


def bits_of(quick: bool) -> list[Run]:
    """Return short trainings stepped by every framework, NumPy twice."""
    length: dict[str, Any] = {"rate": digits_runs.MIDDLE, "seed": 0, "epochs": 2 if quick else 10, "weight_decay": 5e-4}
    names = [name for name, each in FRAMEWORKS.items() if each.engine != "eager" or name == REFERENCE]
    names = [REFERENCE, "PyTorch, Numba"] if quick else names
    methods = [KINDS[kind].narrow[DIGITS.title] for kind in (ALL, ADAM)]
    return [Run(compared, name=name, method=method, **length) for name in names if here(name) for method in methods]


def runs(quick: bool) -> list[Run]:
    """Return every training once, a seed after the other."""
    listed = {
        repr(run): run
        for task in TASKS
        for rate in rates(task, quick)
        for kind in ((KINDS[ALL],) if quick else (*KINDS.values(), NEAREST))
        for half in trainings(task, rate, kind, quick)
        for run in half
    }
    by_seed = sorted(listed.values(), key=lambda run: run.config["seed"])
    return [*by_seed, *bits_of(quick), Run(falling, count=4096, before=2000, after=6000)]


class Tried:
    """What came of a task."""

    def __init__(self, results: Results, task: Task) -> None:
        self.task = task
        self.settings = [f"{rate:g}" for rate in rates(task, False)]
        found = {name: pairs(results, task, kind, False) for name, kind in (*KINDS.items(), (CONTROL, NEAREST))}
        self.ends = {name: measured(each, task.measure) for name, each in found.items()}
        self.losses = {name: measured(each, lambda x: float(x["loss"][-1])) for name, each in found.items()}
        less = {name: narrow - wide for name, (wide, narrow) in self.ends.items()}
        lost = [np.vectorize(task.failed)(self.ends[name]).any(axis=(0, 2)) for name in KINDS]
        self.slots = Comparisons(task, {name: less[name] for name in KINDS}, self.settings, ~np.any(lost, axis=0))
        self.control = Comparisons(task, {CONTROL: less[CONTROL]}, self.settings)

    @property
    def single(self) -> dict[str, list[Compared]]:
        """Return the single settings of all kinds, the control last."""
        return self.slots.single | self.control.single


def nearest_verdict(each: Compared) -> Verdict:
    """Judge that a training ends otherwise: by more than the margin within which it ends the same."""
    return "holds" if each.beyond else "does not hold" if each.equivalent else "not shown"


def findings(every: list[Tried]) -> list[Finding]:
    """Judge each kind, and the control."""
    compared_ = [one.slots for one in every]
    found = [
        Finding(
            claim,
            "; ".join(one.words([name]) for one in compared_),
            f"bfloat16 less float32; {criterion(compared_)}",
            *everywhere({one.task.title: one.verdict([name]) for one in compared_}, "tasks"),
        )
        for name, claim in CLAIMS.items()
    ]
    control = {
        f"{one.task.title}, {at}": each
        for one in every
        for at, each in zip(one.settings, one.control.single[CONTROL], strict=True)
    }
    numbers = ", ".join(
        f"{each.differs.mean:+.3f} ± {each.standard_error:.3f} ({at}; {each})" for at, each in control.items()
    )
    n = " and ".join(str(one.ends[CONTROL].shape[2]) for one in every)
    return [
        *found,
        Finding(
            "library/compact-nearest",
            f"{numbers}; {count(control.values())}",
            f"to nearest less float32, points and nats; a setting holds where they differ by more than the margin"
            f" (paired t, n = {n}, own deviation, Holm over {len(rates(DIGITS, False))} of a task), and does not where"
            " they are equivalent",
            *everywhere({at: nearest_verdict(each) for at, each in control.items()}, "settings"),
        ),
    ]


def table(every: list[Tried]) -> str:
    """The ends of every kind and setting."""
    lines = [
        "| task | rate | slots in bfloat16 | float32 | bfloat16 | difference | p, equivalence | p, difference | |",
        "| --- | --- | --- |" + " ---: |" * 5 + " --- |",
    ]
    for one in every:
        digits = 2 if one.task is DIGITS else 3
        for name, compared_ in one.single.items():
            for at, wide, narrow, each in zip(one.settings, *one.ends[name], compared_, strict=True):
                lines.append(
                    f"| {one.task.title} | {at} | {name} | {plus_minus(wide, digits)} | {plus_minus(narrow, digits)} |"
                    f" {each.differs.mean:+.3f} ± {each.standard_error:.3f} | {each.equals.corrected:.2g} |"
                    f" {each.differs.corrected:.2g} | {each} |"
                )
    return "\n".join(lines)


def digits_losses(one: Tried) -> str:
    """Say what is identical on digits, and how well those trained on are known at the end."""
    parts = []
    for name, by_rate in one.losses.items():
        means = by_rate.mean(axis=2).T
        words = (f"{wide:.2g} and {narrow:.2g} at {at}" for at, (wide, narrow) in zip(one.settings, means, strict=True))
        parts.append(f"{name}: {', '.join(words)}")
    return (
        "Where it says identical, as many test images are right; no two trainings are the same. Mean training losses on"
        f" digits at their end, with float32 slots and with the others: {'; '.join(parts)}."
    )


def figure_of(every: list[Tried], followed: dict[str, Any]) -> Any:
    """Differences of each setting with the margins, and an average that must fall."""
    figure, axes = panels(2, 2, width=3.8, height=3.2)
    for ax, one in zip(axes[0], every, strict=True):
        differences.draw(ax, one.single, one.settings, one.task)
        ax.set_title(f"{one.task.title}: rate")
    grid = axes[1, 0].get_gridspec()
    for ax in axes[1]:
        ax.remove()
    below = figure.add_subplot(grid[1, :])
    for name, color, line in (("float32", GREY, "-"), ("stochastic", BLUE, "--"), ("nearest", VERMILION, "-")):
        label = name if name == "float32" else f"bfloat16, {name}"
        below.plot(1 + np.arange(len(followed[name])), followed[name], line, color=color, label=label)
    below.set(xlabel="step", ylabel="mean of v", yscale="log", ylim=(LOW**2 / 2, 2))
    below.set_title("Gradients of 1, and then of 0.1")
    below.legend()
    figure.legend(*axes[0, 0].get_legend_handles_labels(), loc="outside lower center", ncols=2)
    return figure


def checks_of(results: Results, quick: bool) -> list[Check]:
    """What must hold of trainings, of bits and of averages."""
    moved = [
        bool(np.any(wide["loss"] != narrow["loss"]))
        for task in TASKS
        for kind in ([KINDS[ALL]] if quick else KINDS.values())
        for halves in zip(*pairs(results, task, kind, quick), strict=True)
        for wide, narrow in zip(*halves, strict=True)
    ]
    checks = [
        Check(
            "compact slots are there: they change the training losses of every pair",
            all(moved),
            f"{sum(moved)} of {len(moved)}",
        )
    ]
    for name in dict.fromkeys(r.config["name"] for r in results if "name" in r.config):
        found = results.where(name=name)
        off = [int(r.values[what]) for r in found for what in ("params", "slots")]
        of = "the same training twice" if name == REFERENCE else f"{name} ({version(name)})"
        checks.append(
            Check(
                f"{of}: NumPy's bits of parameters and compact slots after every step",
                not any(off),
                f"{sum(off)} differing in {int(found[0].values['steps']):,} steps of"
                f" {int(found[0].values['numbers']):,} parameters, of AdaMod and of Adam",
            )
        )
    (one,) = (r for r in results if "before" in r.config)
    followed, before = one.values, one.config["before"]
    end, wide = followed["stochastic_end"].astype(float), float(followed["float32"][-1])
    error = float(end.std(ddof=1) / len(end) ** 0.5)
    checks.append(
        Check(
            "v in bfloat16 follows gradients that fall, on the average over parameters: within 5 standard errors",
            bool(abs(end.mean() - wide) < 5 * error and 0 < error < 0.01 * wide),
            f"{end.mean():.5f} ± {error:.5f}, in float32 {wide:.5f}",
        )
    )
    nearest = followed["nearest"][before - 1 :]
    whole = not np.any(followed["nearest_end"].view(np.int32) & 0xFFFF)
    checks.append(
        Check(
            "v rounded to nearest stands still where it must fall",
            bool(np.ptp(nearest) == 0 and whole and nearest[0] > 5 * wide),
            f"{nearest[0]:g} from step {before:,} to step {before + len(nearest) - 1:,}",
        )
    )
    return checks


def report(results: Results, quick: bool) -> Report:
    """Findings, in the full version; checks in both."""
    checks = checks_of(results, quick)
    if quick:
        return Report([], checks)
    every = [Tried(results, task) for task in TASKS]
    (followed,) = (r.values for r in results if "before" in r.config)
    picture = Picture(
        "differences",
        figure_of(every, followed),
        "Above, differences of trainings with compact slots from those with float32 slots, for each rate on digits and"
        " on the Transformer. Below, the second moment over steps while gradients fall.",
        "Above: means of the paired differences ± two standard errors; grey is the margin, and a logarithmic scale is"
        " linear within it. Below: rounded to nearest, v neither reaches the squares of gradients nor follows them"
        " down.",
    )
    text = (
        "Test accuracy in points, held-out loss in nats a character; mean ± standard deviation of the seeds,"
        " differences ± standard error; p after Holm's correction for all settings of a task:\n\n"
        + f"{table(every)}\n\n{digits_losses(every[0])}"
    )
    tests = [t for one in every for each in (one.slots, one.control) for t in each.tests()]
    return Report(findings(every), checks, [picture], text, tests)


EXPERIMENT = Experiment("compact", "Do trainings with slots in 16 bits end the same?", ABOUT, runs, report)
