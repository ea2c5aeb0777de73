"""What is said of AdaMod's beta3, Figure 8 of its paper, and of AdaMod beside Adam."""

from __future__ import annotations

import itertools

import numpy as np

from adamod_array import AdaMod
from reproduction.findings import beside_adam
from reproduction.findings.beside_adam import Both, Row
from reproduction.frame import Finding, Verdict
from reproduction.grids.digits_runs import MEMORIES, SLOW, Trainings, epochs_to
from reproduction.grids.transformer_runs import RATES, STEEP
from reproduction.statistics import Test, corrected, difference, equivalence, plus_minus, sign
from reproduction.tasks import DIGITS, TRANSFORMER, Task
from reproduction.verdicts import Judged, ahead, alike, counted, everywhere, listed, merged, worst

LEVEL = 0.95
"""Of accuracy, by which the speed is measured."""

SETTINGS: tuple[tuple[Task, float], ...] = ((DIGITS, SLOW), *((TRANSFORMER, rate) for rate in RATES))
"""Where all four values of beta3 are trained."""


def name_of(task: Task, rate: float) -> str:
    return f"{task.title} at {rate:g}"


def speed(t: Trainings) -> Judged:
    """Judge whether a larger beta3 takes longer."""
    learned, tested = (
        [epochs_to(t.curves(what, AdaMod(beta3=b), SLOW), LEVEL) for b in MEMORIES]
        for what in ("train_accuracy", "accuracy")
    )
    pairs = list(itertools.pairwise(MEMORIES))
    tests = corrected(
        [
            sign(f"digits, epochs to 95 % training accuracy: beta3 = {b:g} less {a:g}", later - sooner)
            for (a, b), (sooner, later) in zip(pairs, itertools.pairwise(learned), strict=True)
        ]
    )
    verdicts = {f"{b:g} after {a:g}": ahead(test) for (a, b), test in zip(pairs, tests, strict=True)}

    def means(numbers: list[np.ndarray]) -> str:
        return ", ".join(f"{x.mean():.1f} at {b:g}" for b, x in zip(MEMORIES, numbers, strict=True))

    finding = Finding(
        "adamod/figure-8-speed",
        f"epochs to 95 % training accuracy: {means(learned)}; to 95 % test accuracy: {means(tested)}",
        f"each $\\beta_3$ takes more epochs than the one before, to 95 % training accuracy at the rate {SLOW:g}: "
        + listed([f"{pair} {counted(test)}," for pair, test in zip(verdicts, tests, strict=True)], tests),
        *everywhere(verdicts, r"increases of $\beta_3$"),
    )
    return Judged([finding], tests)


def pairwise_equal(what: str, ends: dict[float, np.ndarray], margin: float) -> list[Test]:
    """Test each pair of values of beta3 for equivalence."""
    return [
        equivalence(f"{what}: beta3 = {a:g} less {b:g}", ends[a] - ends[b], margin)
        for a, b in itertools.combinations(ends, 2)
    ]


def ends(t: Trainings) -> Judged:
    """Judge whether trainings end alike for all beta3."""
    words = {"training accuracy": "train_accuracy", "test accuracy": "accuracy"}
    last = {word: {b: t.points(AdaMod(beta3=b), SLOW, what) for b in MEMORIES} for word, what in words.items()}
    each = len(list(itertools.combinations(MEMORIES, 2)))
    tests = corrected([x for word in words for x in pairwise_equal(f"digits, {word}", last[word], DIGITS.margin)])
    parts = {word: tests[i * each : (i + 1) * each] for i, word in enumerate(words)}
    finding = Finding(
        "adamod/figure-8-ends",
        "; ".join(f"{word} " + ", ".join(f"{plus_minus(x)} at {b:g}" for b, x in last[word].items()) for word in words),
        f"all {each} pairs equivalent within one point, at the rate {SLOW:g}; the largest probabilities: "
        + listed(parts, [max(x, key=lambda y: y.p) for x in parts.values()]),
        *everywhere({word: worst({x.name: alike(x) for x in part}) for word, part in parts.items()}, "measures"),
    )
    return Judged([finding], tests)


def minor_effect(both: Both) -> Judged:
    """Judge whether beta3 matters little to the final results in most of the settings."""
    tests, verdicts, seen = [], {}, []
    for task, rate in SETTINGS:
        last = {b: both.adamod(task, rate, b) for b in MEMORIES}
        found = corrected(pairwise_equal(name_of(task, rate), last, task.margin))
        tests += found
        verdicts[name_of(task, rate)] = worst({x.name: alike(x) for x in found})
        means = [float(x.mean()) for x in last.values()]
        seen.append(f"{name_of(task, rate)} {min(means):.2f} to {max(means):.2f}")
    verdict, extent = everywhere(verdicts, "settings")
    if sum(each == "holds" for each in verdicts.values()) > len(verdicts) / 2:
        verdict = "holds"
    finding = Finding(
        "adamod/figure-8-minor-effect",
        f"means over {', '.join(f'{b:g}' for b in MEMORIES)} (points of test accuracy, nats held out): "
        + "; ".join(seen),
        "all pairs equivalent, within one point and 0.02 nats (paired equivalence, own deviation, Holm over the 6 pairs"
        f" of a setting; {len(both.adamod(DIGITS, SLOW, MEMORIES[0]))} seeds and"
        f" {len(both.adamod(TRANSFORMER, STEEP, MEMORIES[0]))}), in most of the settings",
        verdict,
        extent,
    )
    return Judged([finding], tests)


def generalization(both: Both) -> Judged:
    """Judge whether results on data held out become better with beta3."""
    x = -np.log10(1 - np.asarray(MEMORIES))
    x = x - x.mean()
    tests, seen = [], []
    for task, rate in SETTINGS:
        values = np.asarray([both.adamod(task, rate, b) for b in MEMORIES])
        slopes = task.better * (x @ values) / (x @ x)
        tests.append(difference(f"{name_of(task, rate)}: gain for each tenfold memory", slopes))
        seen.append(f"{name_of(task, rate)} {plus_minus(slopes)}")
    tests = corrected(tests)
    verdicts = {name_of(*setting): ahead(test) for setting, test in zip(SETTINGS, tests, strict=True)}
    finding = Finding(
        "adamod/beta3-and-generalization",
        "gain for each tenfold memory, from 0.9 to 0.9999 (points of test accuracy, nats held out): " + "; ".join(seen),
        "a slope over $\\log_{10} 1/(1-\\beta_3)$ above zero: " + listed(verdicts, tests),
        *everywhere(verdicts, "settings"),
    )
    return Judged([finding], tests)


def beside(found: list[Row]) -> Judged:
    """Judge how often AdaMod is better than Adam, or as good, with the recommended beta3 and untuned rates."""
    number = {word: [row for row in found if row.outcome == word] for word in ("better", "matched", "worse")}
    places = {
        word: ", ".join(f"{row.task.title} {row.rate:g} with {row.beta3:g}" for row in those) or "none"
        for word, those in number.items()
    }
    clear = sum(row.test.rejects for row in found)
    measured = (
        f"of {len(found)} settings AdaMod is better in {len(number['better'])} ({places['better']}), within the margin"
        f" in {len(number['matched'])}, worse in {len(number['worse'])} ({places['worse']})"
    )
    criterion = (
        "{} in more than half of the settings (2 tasks, 3 rates, 2 values of $\\beta_3$); means, margins one point and"
        f" 0.02 nats; {clear} of {len(found)} differences are significant after Holm over {len(found)}"
    )
    better, matched = len(number["better"]), len(number["matched"])

    def most(count: int) -> Verdict:
        return "holds" if count > len(found) / 2 else "does not hold"

    findings = [
        Finding(
            "adamod/recommended-beta3",
            measured,
            criterion.format("better or within the margin"),
            most(better + matched),
        ),
        Finding("article/beats-adam", measured, criterion.format("better by more than the margin"), most(better)),
    ]
    return Judged(findings, [row.test for row in found])


def judged(both: Both) -> Judged:
    """Return all findings of this module."""
    t, found = both.digits, beside_adam.rows(both)
    return merged([speed(t), ends(t), minor_effect(both), beside(found), generalization(both)])
