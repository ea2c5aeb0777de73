"""What a network's design makes of its first gradients: the README of RAdam's authors, notes on the Transformer."""

from __future__ import annotations

import math

import numpy as np

from reproduction.findings.gradient_shares import GAUSSIAN, SCALES, correlations, figure_of, medians, shares, table
from reproduction.frame import Check, Experiment, Finding, Picture, Report, Results, Run, wherever
from reproduction.runs.first_gradients import (
    ATTENTION,
    BETA2,
    DIGITS,
    FEED_FORWARD,
    MODELS,
    POST,
    PRE,
    adaptive_rates,
    near_zero,
    sample,
)
from reproduction.statistics import Test, corrected, difference, plus_minus

ABOUT = r"""
Why do some models need a warmup more than others? The README of RAdam's authors names two properties of a model:
gradients that are near zero, of the attention layers above all, and the variance of the adaptive rate
$\psi_t = 1/\sqrt{\hat v_t}$. Both are measured at the initial parameters, which stay as they are: gradients of 20 times
10 batches, so that there are 20 independent $\psi_{10}$ of each parameter ($\beta_2 = 0.999$, no $\epsilon$), in the
character Transformer with its norms after the residuals, with its norms before them (*pre-norm*), and in the demo's
network of digits; five seeds.

*Near zero* is below 1 % of a root mean square: of that of the gradient's own matrix, or of that of all six matrices of
its block. The variance of $\psi$ is given as it is and, so that the scale of the gradients is not in it, divided by the
square of its mean.
"""

LARGER = 1.1
"""Times, by which two models' variances must differ, too."""
CORRELATED = -0.5
"""A rank correlation below it counts."""


def settings(quick: bool) -> dict[str, int]:
    """Return how much is sampled."""
    return {"repeats": 3 if quick else 20, "length": 10}


def runs(quick: bool) -> list[Run]:
    """Return the samples of every model and seed."""
    return [
        Run(sample, model=model, seed=seed, **settings(quick)) for model in MODELS for seed in range(1 if quick else 5)
    ]


def sparsity(results: Results) -> tuple[Finding, list[Test]]:
    """Judge whether more of the attention layers' gradients are near zero."""
    tests = corrected(
        [
            difference(
                f"{POST}, beside the {scale}: near-zero share, attention less feed-forward",
                shares(results, POST, scale, ATTENTION) - shares(results, POST, scale, FEED_FORWARD),
            )
            for scale in SCALES
        ]
    )
    verdict, extent = wherever(
        {f"of the {scale}": test.rejects and test.mean > 0 for scale, test in zip(SCALES, tests, strict=True)}, "scales"
    )
    measured = "; ".join(
        f"below 1 % of the root mean square of the {scale}:"
        f" {plus_minus(100 * shares(results, POST, scale, ATTENTION))} % of the attention layers' gradients,"
        f" {plus_minus(100 * shares(results, POST, scale, FEED_FORWARD))} % of the feed-forward layers' ({test})"
        for scale, test in zip(SCALES, tests, strict=True)
    )
    of_block = ", ".join(f"{part} {100 * shares(results, POST, 'block', (part,)).mean():.2f}" for part in ATTENTION)
    measured += f"; of the block, in %, by matrix: {of_block}"
    criterion = "the share is larger in the attention layers, by a test at the level 0.05; at the initial parameters"
    return Finding("radam/sparse-attention", measured, criterion, verdict, extent), tests


def smaller(results: Results) -> Finding:
    """Judge whether the rates of smaller gradients have the larger variance."""
    found = {model: correlations(results, model, of_relative=False) for model in MODELS}
    without_scale = {model: correlations(results, model, of_relative=True) for model in MODELS}
    verdict, extent = wherever({model: bool(np.all(x < CORRELATED)) for model, x in found.items()}, "models")
    measured = "; ".join(
        f"{model} {plus_minus(x)} (over the mean's square {plus_minus(without_scale[model])})"
        for model, x in found.items()
    )
    return Finding(
        "radam/smaller-gradients",
        f"rank correlation of a parameter's root mean square gradient and the variance of its rate: {measured}",
        f"below {CORRELATED} in every seed. By scale alone it must be so, as gradients a tenth as large give a variance"
        " a hundred times as large; dividing by the mean's square takes the scale out",
        verdict,
        extent,
    )


def by_design(results: Results) -> tuple[Finding, list[Test]]:
    """Judge whether the variance differs between models."""
    pairs = ((POST, PRE), (POST, DIGITS), (PRE, DIGITS))
    found = {model: medians(results, model) for model in MODELS}
    tests = corrected(
        [difference(f"relative variance of the rate: {a} less {b}", found[a] - found[b]) for a, b in pairs]
    )
    ratio = {pair: found[pair[0]].mean() / found[pair[1]].mean() for pair in pairs}
    verdict, extent = wherever(
        {
            f"{pair[0]} and {pair[1]}": test.rejects and max(ratio[pair], 1 / ratio[pair]) >= LARGER
            for pair, test in zip(pairs, tests, strict=True)
        },
        "pairs of models",
    )
    measured = ", ".join(f"{model} {plus_minus(x, 4)}" for model, x in found.items())
    compared = "; ".join(
        f"{ratio[pair]:.2f} times from {pair[1]} to {pair[0]} ({test})" for pair, test in zip(pairs, tests, strict=True)
    )
    return Finding(
        "radam/subject-to-design",
        r"$\operatorname{Var}\psi_{10} / (\operatorname{E}\psi_{10})^2$, median of the parameters, mean ± standard"
        f" deviation of the seeds: {measured}; {compared}",
        f"two models differ by a factor of at least {LARGER} and by a test; every pair",
        verdict,
        extent,
    ), tests


def checks() -> list[Check]:
    """Check both measures on normal gradients, for which their values are known."""
    rng = np.random.default_rng(0)
    drawn = [{"g": rng.normal(0, 1, 4000)} for _ in range(200)]
    found = adaptive_rates(drawn, repeats=20)
    smaller_found = adaptive_rates([{"g": each["g"] / 4} for each in drawn], repeats=20)
    # beta2 = 0.999 weighs ten steps almost alike: v is the mean of ten squares to a part in 10,000
    half = 5.0
    mean = math.exp(0.5 * math.log(half) + math.lgamma(half - 0.5) - math.lgamma(half))
    expected = half / (half - 1) - mean**2
    error = 3 * np.std(found["variance"]) / len(found["variance"]) ** 0.5
    exact = all(np.array_equal(smaller_found[name], found[name] * 4**power) for name, power in POWERS.items())
    share = near_zero({"g": rng.normal(0, 1, (6, 1000, 100))})["matrix"][0]
    return [
        Check(
            f"of normal gradients the variance of the rate is that of a chi-squared variable (beta2 = {BETA2})",
            bool(abs(np.mean(found["variance"]) - expected) < error + 1e-3 * expected),
            f"{np.mean(found['variance']):.4f}, of 4,000 parameters; expected {expected:.4f} ± {error:.4f}",
        ),
        Check(
            "gradients a quarter as large have rates 4 times and variances 16 times as large",
            exact,
            "to the last bit" if exact else "not to the last bit",
        ),
        Check(
            "of normal gradients 0.8 % are below 1 % of their root mean square",
            abs(share - GAUSSIAN) < 5e-4,
            f"{100 * share:.3f} % of 600,000, expected {100 * GAUSSIAN:.3f} %",
        ),
    ]


POWERS = {"mean": 1, "variance": 2, "size": -1}
"""Of the scale's inverse, by which each grows."""


def report(results: Results, quick: bool) -> Report:
    """Judge the claims, draw shares and variances."""
    if quick:
        return Report([], checks())
    of_attention, tests = sparsity(results)
    of_models, more = by_design(results)
    picture = Picture(
        "gradients",
        figure_of(results),
        "Share of near-zero gradients of each matrix of a block, and the distribution of the variance of the rate.",
        "Left: means over five seeds; the dashed line is the share of normal gradients. Right: all parameters of five"
        " seeds.",
    )
    text = (
        "Mean ± standard deviation of five seeds; *left out* are the numbers of parameters that had no gradient in one"
        f" of the repeats.\n\n{table(results)}\n"
    )
    return Report([of_attention, smaller(results), of_models], checks(), [picture], text, [*tests, *more])


EXPERIMENT = Experiment("first_gradients", "First gradients of different networks", ABOUT, runs, report)
