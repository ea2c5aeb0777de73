"""Early training: Ma & Yarats 2021, section 3.2 and Figure 1."""

from __future__ import annotations

from typing import Any

import numpy as np

from reproduction.experiments import magnitudes
from reproduction.findings import early_claims
from reproduction.findings.early_claims import BATCHES, NOISES, WINDOWS, Found
from reproduction.frame import Check, Experiment, Picture, Report, Results, Run
from reproduction.runs import early_transformer
from reproduction.runs.early_digits import train
from reproduction.style import BLUE, GREEN, VERMILION, panels

ABOUT = r"""
The paper trains a feed-forward network on the digits of EMNIST with Adam and looks at its gradients, its moments and
its updates. Here it is the demo's network (64 pixels, two hidden layers of 64 tanh units) on the 1,797 scans of
scikit-learn, in float64, with $\alpha = 10^{-3}$, $\beta_1 = 0.9$, $\beta_2 = 0.999$, $\epsilon = 10^{-12}$. At every
recorded step the gradient is computed of each batch of one epoch, at the same parameters: a coordinate's *coefficient
of variation* is the standard deviation of these over the magnitude of their mean. Weights whose pixel has not been lit
have no gradient and are left out. The size of the batches, which the paper's text does not say, matters, as the
deviation falls with its square root: there are three. The network learns all of these few images, which the paper's
could not do with its many; so there is a second task, *noisy labels*, in which a fifth of the labels of each batch is
drawn at random, anew each time. The character Transformer of the next experiment is looked at, too, with
$\alpha = 10^{-3}$ and $\beta_2 = 0.98$, in batches of 8 and 32 windows of 32 characters; and Adam at a minimum, from
the first experiment.
"""

COLORS = dict(zip(BATCHES, (BLUE, GREEN, VERMILION), strict=True))


def runs(quick: bool) -> list[Run]:
    steps, seeds = (50, 1) if quick else (2000, 3)
    small, of_windows = (12, 1) if quick else (600, 1)
    return [
        *(
            Run(train, batch=batch, noise=noise, steps=steps, seed=seed)
            for noise in NOISES
            for batch in BATCHES
            for seed in range(seeds)
        ),
        *(
            Run(early_transformer.train, batch=batch, rate=1e-3, steps=small, seed=seed)
            for batch in WINDOWS
            for seed in range(of_windows)
        ),
        magnitudes.at_minimum(magnitudes.METHODS["Adam"][0], quick),
    ]


def report(results: Results, quick: bool) -> Report:
    def stacked(names: tuple[str, ...], **config: Any) -> dict[str, Any]:
        return {name: np.asarray([r.values[name] for r in results.where(**config)]) for name in names}

    seen = ("variation", "noisy", "correlation", "moved", "rates")
    of = Found(
        t=results[0].values["t"],
        digits={(noise, batch): stacked(seen, noise=noise, batch=batch) for noise in NOISES for batch in BATCHES},
        transformer={batch: stacked(("noisy", "moved"), rate=1e-3, batch=batch) for batch in WINDOWS},
        transformer_at=results.where(rate=1e-3)[0].values["at"],
        minimum=results[len(results) - 1].values,
    )
    one = max(float(np.max(np.abs(each["moved"][:, :, 0] - 1))) for each in of.digits.values())
    same = max(float(np.max(np.abs(each["correlation"][:, 0] - 1))) for each in of.digits.values())
    checks = [
        # eps is 1e-12, and a quarter of the gradients is no smaller than 1e-6
        Check("the first updates have magnitude 1 (quartiles)", one < 1e-5, f"{one:.0e} off"),
        Check(r"$|m_1|$ is proportional to $\sqrt{v_1}$: correlation 1", same < 1e-12, f"{same:.0e} off"),
    ]
    alt = "Coefficient of variation of gradients, correlation of the moments, and update magnitudes over 2,000 steps."
    caption = "Lines: medians of the seeds; bands: their range. The dotted curve is Adam at a minimum."
    findings = [] if quick else early_claims.findings(of)
    return Report(findings, checks, [Picture("training", _draw(of), alt, caption)], _seen(of))


def _seen(of: Found) -> str:
    first = {batch: float(np.median(of.digits[0.0, batch]["variation"][:, 0])) for batch in BATCHES}
    below = [str(batch) for batch, value in first.items() if value < 1]
    last = {noise: np.median([of.digits[noise, batch]["moved"][:, 1, -1] for batch in BATCHES]) for noise in NOISES}
    return (
        "\nThe size of the batches decides what the first panel looks like: the coefficient starts below 1 with"
        f" batches of {' and '.join(below)}. What the updates come to depends on the task: where the network learns"
        f" all of its images, gradients vanish while $v$ remembers the larger ones of the last 1,000 steps, and the"
        f" median update is {last[0.0]:.2f} at step {of.t[-1]:,}; with noisy labels it is {last[0.2]:.2f}.\n"
    )


def _draw(of: Found) -> Any:
    figure, ((first, second), (third, fourth)) = panels(2, 2, height=2.9)
    for batch, color in COLORS.items():
        plain, noisy = of.digits[0.0, batch], of.digits[0.2, batch]
        curves = {
            first: plain["variation"],
            second: plain["correlation"],
            third: plain["moved"][:, 1],
            fourth: noisy["moved"][:, 1],
        }
        for ax, values in curves.items():
            ax.plot(of.t, np.median(values, axis=0), color=color, label=f"batches of {batch}")
            ax.fill_between(of.t, values.min(axis=0), values.max(axis=0), color=color, alpha=0.15, lw=0)
    first.axhline(1, color="0.4", lw=0.9, ls=":")
    first.set(yscale="log", ylabel="median over coordinates", title="Coefficient of variation of gradients")
    second.set(ylim=(0, 1.02), ylabel="over coordinates", title=r"Correlation of $|m_t|$ and $\sqrt{v_t}$")
    third.set(title="Update magnitude")
    fourth.set(title="Update magnitude, noisy labels")
    for ax in (third, fourth):
        shown = of.minimum["t"] <= of.t[-1]
        ax.plot(of.minimum["t"][shown], of.minimum["quantiles"][shown, 2], color="0.4", lw=0.9, ls=":")
        ax.set(ylim=(0, 1.02), ylabel=r"median, in units of $\alpha$")
    for ax in (first, second, third, fourth):
        ax.set(xscale="log", xlabel="step $t$")
    second.legend(loc="lower left")
    return figure


EXPERIMENT = Experiment("early", "Early training", ABOUT, runs, report)
