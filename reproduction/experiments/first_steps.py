"""What RAdam's first four steps matter: the ablation of Ma & Yarats 2021, section 3.1."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from adamod_array import Adam, RAdam, init, schedules, step
from reproduction import differences
from reproduction.comparisons import Comparisons, criterion
from reproduction.frame import Check, Experiment, Finding, Picture, Report, Results, Run, Values
from reproduction.grids import warmup_grid
from reproduction.runs import train_digits, train_transformer
from reproduction.statistics import plus_minus
from reproduction.style import panels
from reproduction.tasks import DIGITS, TASKS, Task
from reproduction.verdicts import everywhere

ABOUT = r"""
RAdam's factor $\omega_t$ is not real up to $t = 4$, and RAdam then steps along $\hat m$, undivided. Beside it the three
replacements of the paper: nothing (`RAdam(below="skip")`), Adam with the rate $\alpha\omega_5$, and Adam with a linear
warmup to $\alpha\omega_5$; from the fifth step on all four follow the same rule. Seeds, margins and tests are those of
the [warmups](#are-untuned-warmups-interchangeable), on its settings of digits, and with the Transformer at the middle
rate.
"""

MOMENTUM = "momentum"
CLAIMS = {
    "nothing": "untuned/3-1-ablation-nothing",
    "alpha omega_5": "untuned/3-1-ablation-alpha-omega-5",
    "linear to alpha omega_5": "untuned/3-1-ablation-linear-to-alpha",
}


@dataclass(frozen=True)
class FromFive(schedules.Schedule):
    """RAdam's factor from the fifth step on; before it that of the fifth step, or a line up to it."""

    beta2: float
    line: bool

    def at(self, t: Any, math: Any) -> Any:
        """Return the factor."""
        omega = schedules.radam_warmup(self.beta2)
        early = omega(5) * t / 5 if self.line else omega(5) + 0 * t
        return math.where(t < 5, early, omega.at(t, math))


def adam(beta2: float, eps: float) -> Adam:
    """Return Adam with the eps of this RAdam, inside of the root."""
    return Adam(beta2=beta2, eps=0, eps_root=eps**2)


def digits(*, line: bool, beta2: float, eps: float, **settings: Any) -> Values:
    """Train Adam with such a factor on digits."""
    return train_digits.train(method=adam(beta2, eps), warmup=FromFive(beta2, line), **settings)


def transformer(*, line: bool, beta2: float, eps: float, **settings: Any) -> Values:
    """Train Adam with such a factor on the characters."""
    return train_transformer.train(method=adam(beta2, eps), warmup=FromFive(beta2, line), **settings)


def run(task: Task, name: str, rate: float, beta2: float, seed: int, quick: bool) -> Run:
    """Return the training in which the first four steps are of that name."""
    length = warmup_grid.settings(task, quick)
    if name in (MOMENTUM, "nothing"):
        below = "momentum" if name == MOMENTUM else "skip"
        method = RAdam(beta2=beta2, eps=0, eps_root=task.eps**2, below=below)
        return Run(task.run, method=method, rate=rate, seed=seed, **length)
    function = digits if task is DIGITS else transformer
    return Run(function, line=name.startswith("linear"), beta2=beta2, eps=task.eps, rate=rate, seed=seed, **length)


def grid(task: Task, quick: bool) -> list[tuple[float, float]]:
    """Rates and beta2; those at which the Transformer learns with every warmup, and a rate matters."""
    found = warmup_grid.grid(task, quick)
    return found if task is DIGITS else [(rate, beta2) for rate, beta2 in found if rate == task.rates[1]]


def runs(quick: bool) -> list[Run]:
    """The four in every setting; those with momentum are the warmups' RAdam."""
    return [
        run(task, name, *at, seed, quick)
        for task in TASKS
        for name in (MOMENTUM, *CLAIMS)
        for at in grid(task, quick)
        for seed in warmup_grid.seeds(task, quick)
    ]


def measured(results: Results, task: Task) -> dict[str, np.ndarray]:
    """By what the first steps are: a row a setting, a column a seed."""
    by_run = {repr(each): result for each, result in zip(runs(False), results, strict=True)}

    def end(name: str, at: tuple[float, float], seed: int) -> float:
        return task.measure(by_run[repr(run(task, name, *at, seed, False))].values)

    return {
        name: np.asarray([[end(name, at, seed) for seed in warmup_grid.seeds(task, False)] for at in grid(task, False)])
        for name in (MOMENTUM, *CLAIMS)
    }


def compared(values: dict[str, np.ndarray], task: Task) -> Comparisons:
    """Each replacement less momentum."""
    rows = {f"{name} - {MOMENTUM}": values[name] - values[MOMENTUM] for name in CLAIMS}
    return Comparisons(task, rows, [f"{rate:g} / {beta2:g}" for rate, beta2 in grid(task, False)])


def finding(name: str, claim: str, every: list[Comparisons]) -> Finding:
    """Judge one replacement."""
    kinds = [f"{name} - {MOMENTUM}"]
    verdict, extent = everywhere({one.task.title: one.verdict(kinds) for one in every}, "tasks")
    words = "; ".join(one.words(kinds) for one in every)
    return Finding(claim, words, f"replacement less momentum; {criterion(every)}", verdict, extent)


def table(values: list[dict[str, np.ndarray]], every: list[Comparisons]) -> str:
    """The ends by setting."""
    names = (MOMENTUM, *CLAIMS)
    lines = ["| task | rate | beta2 | " + " | ".join(names) + " |", "| --- | --- | --- |" + " ---: |" * len(names)]
    for ends, one in zip(values, every, strict=True):
        digits_of = 2 if one.task is DIGITS else 3
        for i, (rate, beta2) in enumerate(grid(one.task, False)):
            cells = [plus_minus(ends[name][i], digits_of) for name in names]
            cells[1:] = [f"{c}, {found[i]}" for c, found in zip(cells[1:], one.single.values(), strict=True)]
            lines.append(f"| {one.task.title} | {rate:g} | {beta2:g} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def figure_of(every: list[Comparisons]) -> Any:
    """Differences of each setting, with the margins."""
    figure, axes = panels(1, 2, width=3.8, height=4.4)
    for ax, one in zip(axes, every, strict=True):
        differences.draw(ax, one.single, one.settings, one.task)
        ax.set_title(f"{one.task.title}: rate / $\\beta_2$")
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=3)
    return figure


def moves(method: Any, lr: Any, gradients: np.ndarray) -> np.ndarray:
    """Return the steps that given gradients lead to."""
    state = init(method, np.zeros(gradients.shape[1]), lr=lr)
    places = [state.params]
    for g in gradients:
        state = step(state, g)
        places.append(state.params)
    return np.diff(np.asarray(places), axis=0)


def check() -> Check:
    """Compare the steps of the four for the same gradients."""
    gradients, beta2 = np.random.default_rng(0).normal(size=(12, 100)), 0.99
    four = [
        moves(RAdam(beta2=beta2, eps=0, eps_root=1e-16, below=below), 1.0, gradients) for below in ("momentum", "skip")
    ]
    four += [moves(adam(beta2, 1e-8), FromFive(beta2, line), gradients) for line in (False, True)]
    apart = np.ptp(four, axis=0).max(axis=1)
    return Check(
        "for the same gradients the four take different steps up to the fourth, and the same ones from the fifth on",
        bool(apart[:4].min() > 1e-3 and apart[4:].max() < 1e-12),
        f"at least {apart[:4].min():.2g} and at most {apart[4:].max():.1e} apart, at the rate 1",
    )


def report(results: Results, quick: bool) -> Report:
    """Findings, in the full version; the check in both."""
    if quick:
        return Report([], [check()])
    values = [measured(results, task) for task in TASKS]
    every = [compared(ends, task) for ends, task in zip(values, TASKS, strict=True)]
    found = [finding(name, claim, every) for name, claim in CLAIMS.items()]
    text = (
        "Test accuracy in points, held-out loss in nats a character, mean ± standard deviation of five seeds; beside"
        " each replacement what the tests say of its difference from momentum:\n\n" + table(values, every)
    )
    picture = Picture(
        "differences",
        figure_of(every),
        "Differences between the replacements of RAdam's first steps and momentum, by setting, with the margins.",
        "Means of five paired differences ± two standard errors; grey is the margin.",
    )
    return Report(found, [check()], [picture], text, [t for one in every for t in one.tests()])


EXPERIMENT = Experiment("first_steps", "RAdam's first four steps", ABOUT, runs, report)
