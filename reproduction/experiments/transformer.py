"""A Transformer without warmup: the AdaMod paper's Figures 1 to 3 and 9, Figure 2 of the RAdam authors' README."""

from __future__ import annotations

import numpy as np

from reproduction.findings.transformer_claims import findings_of
from reproduction.findings.transformer_figures import loss_figure, memory_figure, rate_figure, remedy_figure
from reproduction.frame import Check, Experiment, Finding, Picture, Report, Results
from reproduction.grids.transformer_runs import (
    ADAMOD,
    CONFIGS,
    LAST,
    PICTURED,
    REMEDIES,
    STEEP,
    UNBOUND,
    Trainings,
    checking,
    runs,
    two_phases,
)
from reproduction.runs.train_transformer import WINDOW
from reproduction.runs.transformer import VOCABULARY, entropy
from reproduction.statistics import Test, plus_minus

ABOUT = r"""
A character model: a decoder-only Transformer with its layer norms after the residuals, as in the original (6 layers of
width 32, 4 heads, 82,624 parameters), reads 32 characters at a time of the source of Python's standard library, 8
windows a batch. PyTorch computes the gradients, this library steps a dict of tensors in place. $\beta_1 = 0.9$,
$\beta_2 = 0.98$ and $\epsilon = 10^{-9}$ as in the AdaMod paper's Transformers, where nothing else is said; no
clipping, no dropout, no weight decay, a constant rate; the linear warmup takes 400 steps. *Adam-2k* updates the second
moment alone in the first steps, 500 here (ten memories of $\beta_2 = 0.98$; 2,000 in its paper). One line is in no
paper: Adam with the warmup that AdaMod's bound would be if the rates were constant, $1 - \beta_3^t$.

Every claim is judged at three rates, none of which is the paper's (Figure 9 has $\alpha = 0.0005$, of a larger model):
at 0.001 Adam needs no warmup, at 0.01 it is lost without. Claims about what takes the place of a warmup are judged at
the rates at which Adam without one ends well above Adam with one. The rates, and the losses below which a training
counts as *lost* or as *learned*, were chosen after trainings at all three rates had been seen; so were most criteria,
since the losses of an earlier run of the same trainings were known.

A training here is as long as one memory of $\beta_3 = 0.999$; the paper's are many times as long as that.

Three kinds of training change one thing only: Adam whose **rates are clipped** at 10,000 (if extremely large rates are
the cause of what goes wrong, they no longer are), AdaMod whose **bound is dropped** after half of the steps, with all
averages kept, and Adam **restarted** at a tenth of the rate after half of the steps, from where it is lost.
"""


def table(trainings: Trainings) -> str:
    """Return the losses of all configurations."""
    head = "".join(f" training, {rate:g} | held out, {rate:g} |" for rate in trainings.rates)
    lines = [f"| |{head}", "| --- |" + " ---: |" * (2 * len(trainings.rates))]
    for name, config in {**CONFIGS, **REMEDIES, UNBOUND: two_phases(quick=False)[UNBOUND]}.items():
        found = [of(rate, config) for rate in trainings.rates for of in (trainings.final, trainings.valid)]
        lines.append(f"| {name} | " + " | ".join(plus_minus(x) if len(x) else "" for x in found) + " |")
    return "\n".join(lines)


def checks_of(results: Results, trainings: Trainings) -> list[Check]:
    """Return what must hold whatever is learned."""
    adam, *same = (results.one(**run.config) for run in checking())
    first_seed = [r for r in trainings.results.where(seed=0) if "method" in r.config]
    first = np.asarray([r.values["first_losses"][0] for r in first_seed if not r.config.get("second_moment_first", 0)])
    expected = np.log(len(VOCABULARY)) + 0.25  # of normal logits of variance 0.5, which Glorot's matrix gives
    seen = [trainings.pictured(name) for name in PICTURED if trainings.of(STEEP, CONFIGS[name])]
    complete = all(np.all(each["counts"].sum(axis=1) == each["numbers"]) for each in seen)
    ratio = float(trainings.pictured(ADAMOD)["largest"][0] / trainings.pictured("Adam")["largest"][0])
    names = (
        "AdaMod with beta3 = 0 is Adam (AdaMod paper, below equation 1)",
        "Adam whose rates are clipped where no rate is, is Adam",
        "a training that goes on by the same method is one training",
    )
    return [
        *(
            Check(
                name,
                bool(np.array_equal(each["loss"], adam["loss"]) and each["valid"] == adam["valid"]),
                f"the same losses, to the last bit, after {checking()[0].config['steps']} steps: {adam['valid']:.6f}",
            )
            for name, each in zip(names, same, strict=True)
        ),
        Check(
            "every training of a seed starts from the same loss, that of random logits",
            bool(np.ptp(first) == 0 and abs(first[0] - expected) < 0.1),
            f"{first[0]:.3f}, of {len(first)} trainings; ln 96 + 1/4 is {expected:.3f}",
        ),
        Check(
            "in the first step AdaMod's largest rate is 1 - beta3 of Adam's",
            bool(abs(ratio / 0.001 - 1) < 1e-5),
            f"{ratio:.7f}",
        ),
        Check(
            "the histograms count every parameter at every step", complete, f"{int(seen[0]['numbers']):,} parameters"
        ),
    ]


def report(results: Results, quick: bool) -> Report:
    """Return what the trainings show; the quick ones show the checks and two pictures."""
    trainings = Trainings(results)
    stuck = entropy()
    pictures = [
        Picture(
            "loss",
            loss_figure(trainings, stuck),
            "Training loss over steps for each configuration, a panel for each learning rate.",
            f"Means and ranges over the seeds; each point is a mean over {WINDOW} steps.",
        ),
        Picture(
            "rates",
            rate_figure(trainings),
            "Distributions of the parameters' rates over the steps: Adam without and with warmup, RAdam, AdaMod.",
            f"Learning rate {STEEP:g}, seed 0. Above the dashed line are the rates over 10,000. The line at the top is"
            r" of parameters whose gradients have all been zero (characters not seen yet): a rate of $\alpha/\epsilon$,"
            " by which nothing moves. RAdam begins with four steps of momentum, whose rate is one number.",
        ),
    ]
    text = ""
    findings: list[Finding] = []
    tests: list[Test] = []
    if not quick:
        findings, tests = findings_of(trainings, stuck)
        pictures += [
            Picture(
                "beta3",
                memory_figure(trainings),
                "Training loss over steps for AdaMod with beta3 of 0.9, 0.99, 0.999 and 0.9999.",
                "Means and ranges over the seeds.",
            ),
            Picture(
                "causes",
                remedy_figure(trainings, stuck),
                "Training loss over steps of Adam with clipped rates and larger eps, and after a restart or a dropped"
                " bound.",
                "Means and ranges over the seeds; dashed, the entropy of single characters. Trainings that are lost lie"
                " upon each other there. The lower two panels are of trainings that go on in another way after half of"
                " the steps, at the dotted line.",
            ),
        ]
        about = trainings.results[0].values
        text = (
            f"Losses after {trainings.steps} steps in nats a character (training: mean of the last {LAST} steps; held"
            f" out: 1,024 windows), mean ± standard deviation of 3 seeds:\n\n{table(trainings)}\n\nThe text: "
            f"{int(about['characters']):,} characters to train on, SHA-256 {about['text']}…\n"
        )
    return Report(findings, checks_of(results, trainings), pictures, text, tests)


EXPERIMENT = Experiment("transformer", "A Transformer without warmup", ABOUT, runs, report)
