"""Adam and AdaMod on an LSTM: the AdaMod paper's Figure 7."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from adamod_array import Adam, AdaMod, Method
from reproduction.comparisons import Compared
from reproduction.frame import Check, Experiment, Finding, Picture, Report, Results, Run, Verdict
from reproduction.runs.train_lstm import BATCH, CONTEXT, DECAY, LAYERS, WIDTH, train
from reproduction.runs.transformer import VOCABULARY
from reproduction.statistics import plus_minus
from reproduction.style import BLUE, SKY, VERMILION, curve, panels
from reproduction.trials import judged, learned, means, probabilities, tests_of, together, trials
from reproduction.verdicts import everywhere

ADAMODS = (AdaMod(beta3=0.99), AdaMod(beta3=0.999))
METHODS: tuple[Method, ...] = (Adam(), *ADAMODS)
RATES = (0.003, 0.01)
SEEDS = (0, 1, 2, 3, 4)
STEPS = 900
MARGIN = 0.02
"""Nats a character that do not matter, as on the Transformer."""
SHARE = 0.1
"""Of the training, over which a training loss is a mean: the last tenth, and twice as much at the start."""

ABOUT = rf"""
The AdaMod paper trains an LSTM of three layers on words of the Penn Treebank for 200 epochs, the rate a tenth after
the 120th. Here it is one of {LAYERS} layers of {WIDTH} (PyTorch) on the Transformer's text, character by character:
windows of {CONTEXT} characters, {BATCH} in a batch, {STEPS} steps, the rate a tenth after {DECAY:.0%} of them, rates
{" and ".join(f"{r:g}" for r in RATES)}, {len(SEEDS)} seeds. $\beta_3 = 0.999$ is the paper's recommendation, whose
memory is as long as this training; with $0.99$ it is a ninth of it, nearer to the paper's proportion.
"""


def runs(quick: bool) -> list[Run]:
    """List the trainings, and one of AdaMod without memory."""
    steps = 60 if quick else STEPS
    listed = [
        Run(train, method=m, rate=r, seed=s, steps=steps)
        for m in METHODS
        for r in (RATES[1:] if quick else RATES)
        for s in (SEEDS[:1] if quick else SEEDS)
    ]
    short = [Run(train, method=m, rate=RATES[1], seed=SEEDS[0], steps=20) for m in (Adam(), AdaMod(beta3=0.0))]
    return listed + [run for run in short if repr(run) not in map(repr, listed)]


def early(values: Any) -> float:
    """Return the mean training loss at the start."""
    return float(np.mean(values["loss"][: int(2 * SHARE * len(values["loss"]))]))


def late(values: Any) -> float:
    """Return the mean training loss at the end."""
    return float(np.mean(values["loss"][-int(SHARE * len(values["loss"])) :]))


def held_out(values: Any) -> float:
    """Return the loss of the text held out, at the end."""
    return float(values["valid"])


MEASURES = {"training, start": early, "training, end": late, "held out, end": held_out}


def row(results: Results, measure: str, method: Method, rate: float) -> np.ndarray:
    """Return the measure of each seed."""
    found = results.where(method=method, rate=rate, steps=STEPS)
    return np.asarray([MEASURES[measure](r.values) for r in found])


def tried(results: Results, measure: str) -> dict[str, Compared]:
    """Return AdaMod less Adam, by setting."""
    differences = {
        rf"$\beta_3$ = {m.beta3:g} at rate {r:g}": row(results, measure, m, r) - row(results, measure, Adam(), r)
        for m in ADAMODS
        for r in RATES
    }
    return trials(f"LSTM, {measure}: AdaMod less Adam", differences, MARGIN)


def falls(results: Results) -> dict[float, float]:
    """Return by how much Adam's loss falls in the last tenth of the training at the full rate, by rate."""
    found = {}
    for rate in RATES:
        losses = np.asarray([r.values["loss"] for r in results.where(method=Adam(), rate=rate, steps=STEPS)]).mean(0)
        before, after = (losses[int((DECAY - k * SHARE) * STEPS) :][: int(SHARE * STEPS)].mean() for k in (2, 1))
        found[rate] = float(before - after)
    return found


def lags(by_setting: dict[str, Compared]) -> Finding:
    """Judge whether AdaMod's loss is higher at the start."""
    return Finding(
        "adamod/figure-7-first-half",
        f"AdaMod's mean training loss of the first {int(2 * SHARE * STEPS)} steps less Adam's, in nats a character:"
        f" {means(by_setting, 3)}",
        f"holds in a setting where AdaMod's is higher ({probabilities(by_setting, 'nats')})",
        *together(by_setting, 1, "settings"),
    )


def outperforms(results: Results, claim: str, by_setting: dict[str, Compared], what: str) -> Finding:
    """Judge whether AdaMod's loss is lower at the end, if this is an end."""
    still = falls(results)
    short = max(still.values()) > MARGIN
    verdicts: dict[str, Verdict] = {}
    for place, trial in by_setting.items():
        verdict = judged(trial, -1)
        verdicts[place] = "not shown" if short and verdict == "does not hold" else verdict
    return Finding(
        claim,
        f"AdaMod's {what} less Adam's, in nats a character: {means(by_setting, 3)}",
        f"holds in a setting where AdaMod's is lower ({probabilities(by_setting, 'nats')}); where it is not, nothing is"
        f" shown if Adam still gains more than {MARGIN:g} nats in a tenth of the training ahead of the decay"
        f" ({', '.join(f'{fall:.2f} at rate {rate:g}' for rate, fall in still.items())}): it is too short then to say"
        " what comes with more steps (this part chosen afterwards)",
        *everywhere(verdicts, "settings"),
    )


def figure(results: Results) -> Any:
    """Draw the training losses, and AdaMod's less Adam's."""
    drawn, axes = panels(2, 2, sharex=True, height=2.5)
    styles = zip(METHODS, (VERMILION, SKY, BLUE), ("-", "--", "-."), strict=True)
    window = STEPS // 45
    for method, color, line in styles:
        for rate, (above, below) in zip(RATES, axes.T, strict=True):
            curves = smooth(results, method, rate, window)
            steps = window * (0.5 + np.arange(curves.shape[1]))
            above.plot(steps, curves.mean(0), line, color=color, label=label(method))
            above.set_title(f"rate {rate:g}")
            if method != METHODS[0]:
                apart = curves - smooth(results, METHODS[0], rate, window)
                curve(below, steps, apart, line, color=color)
    for below in axes[1]:
        below.axhline(0, color="0.4", linewidth=1)
        below.set(xlabel="step")
    axes[0, 0].set_ylabel("training loss, nats")
    axes[1, 0].set_ylabel("less Adam's, nats")
    axes[0, 0].legend()
    return drawn


def smooth(results: Results, method: Method, rate: float, window: int) -> np.ndarray:
    """Return means of the training loss over so many steps, a row a seed."""
    losses = np.asarray([r.values["loss"] for r in results.where(method=method, rate=rate, steps=STEPS)])
    return np.asarray(losses.reshape(len(losses), -1, window).mean(axis=2))


def label(method: Method) -> str:
    """Return the method's name, and its memory."""
    return rf"AdaMod, $\beta_3$ = {method.beta3:g}" if isinstance(method, AdaMod) else "Adam"


def table(results: Results) -> str:
    """Return all measures of all settings."""
    lines = [f"| method | rate | {' | '.join(MEASURES)} |", "| --- | ---: |" + " ---: |" * len(MEASURES)]
    for r in RATES:
        for m in METHODS:
            cells = [plus_minus(row(results, measure, m, r), 3) for measure in MEASURES]
            lines.append(f"| {label(m)} | {r:g} | {' | '.join(cells)} |")
    return "\n".join(lines)


def report(results: Results, quick: bool) -> Report:
    """Judge by training losses at the start and the end, and by the text held out."""
    none, adam = (results.one(method=m, rate=RATES[1], seed=SEEDS[0], steps=20) for m in (AdaMod(beta3=0.0), Adam()))
    checks = [
        Check(
            "on an LSTM in PyTorch, too, AdaMod with beta3 = 0 is Adam (AdaMod paper, below equation 1)",
            bool(np.array_equal(none["loss"], adam["loss"]) and none["valid"] == adam["valid"]),
            "the same losses to the last bit in each of 20 steps",
        ),
        learned([float(r.values["valid"]) for r in results], math.log(len(VOCABULARY)), "LSTM, held-out text"),
    ]
    if quick:
        return Report([], checks)
    start, end, unseen = (tried(results, measure) for measure in MEASURES)
    last = f"mean training loss of the last {int(SHARE * STEPS)} steps"
    findings = [
        lags(start),
        outperforms(results, "adamod/figure-7-second-half", end, last),
        outperforms(results, "adamod/language-modeling", unseen, "loss of the text held out, at the end,"),
    ]
    picture = Picture(
        "losses",
        figure(results),
        "Training loss of an LSTM over steps for Adam and AdaMod at two rates, and AdaMod's less Adam's.",
        f"Means of the seeds, below with their range; the rate falls to a tenth after {DECAY:.0%} of the steps.",
    )
    numbers = results[0].values
    text = (
        f"{int(numbers['numbers']):,} parameters; {int(numbers['characters']):,} characters to train on. Loss in nats a"
        f" character, mean ± standard deviation of {len(SEEDS)} seeds:\n\n{table(results)}\n"
    )
    return Report(findings, checks, [picture], text, tests_of(start, end, unseen))


EXPERIMENT = Experiment("lstm", "Adam and AdaMod on an LSTM", ABOUT, runs, report)
