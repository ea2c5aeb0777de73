"""Robustness to the learning rate and to beta3: the AdaMod paper's Figures 6 and 8."""

from __future__ import annotations

from typing import Any

import numpy as np

from adamod_array import Adam, AdaMod, Method, Momentum
from reproduction.equivalence import compare, holm
from reproduction.frame import Check, Claim, Experiment, Picture, Report, Results, Run
from reproduction.style import BLUE, ORANGE, SKY, VERMILION, panels
from reproduction.train_digits import DECAY, train

ABOUT = r"""
The AdaMod paper trains a ResNet-34 on CIFAR-10; here it is the [demo's network](../demo/demo.md) on handwritten digits
(two hidden layers of 64, 1,437 images to train on in batches of 32, 360 to test). As there: 200 epochs (8,800 steps),
the rate a tenth after the 150th, weight decay $5 \cdot 10^{-4}$, rates 0.1, 0.01 and 0.001, $\beta_3 = 0.9999$, and for
$\beta_3 \in \{0.9, 0.99, 0.999, 0.9999\}$ the rate 0.001. Five seeds, the same for every method. An image is 0.0028.
"""

METHODS: dict[str, Method] = {
    "Momentum": Momentum(),
    "Adam": Adam(),
    "AdaMod, beta3 = 0.9999": AdaMod(beta3=0.9999),
    "AdaMod, beta3 = 0.999": AdaMod(beta3=0.999),
}
PAPERS = ("Momentum", "Adam", "AdaMod, beta3 = 0.9999")
ADAMOD, SHORTER = PAPERS[2], "AdaMod, beta3 = 0.999"
RATES = (0.1, 0.01, 0.001)
MEMORIES = (0.9, 0.99, 0.999, 0.9999)
SLOW = 0.001
"""The rate at which beta3 is varied."""


def settings(quick: bool) -> dict[str, Any]:
    """What all trainings of this experiment share."""
    return {"epochs": 8 if quick else 200, "decay": True, "weight_decay": 5e-4}


def seeds(quick: bool) -> tuple[int, ...]:
    return (0, 1) if quick else (0, 1, 2, 3, 4)


def runs(quick: bool) -> list[Run]:
    pairs = [(method, rate) for name, method in METHODS.items() for rate in RATES if name in PAPERS or not quick]
    pairs += [(AdaMod(beta3=beta3), SLOW) for beta3 in MEMORIES[:2] if not quick]
    listed = [
        Run(train, method=method, rate=rate, seed=seed, **settings(quick))
        for method, rate in pairs
        for seed in seeds(quick)
    ]
    return [*listed, Run(train, method=AdaMod(beta3=0.0), rate=0.01, seed=0, **settings(quick))]


def curves(results: Results, method: Method, rate: float) -> np.ndarray:
    """Test accuracy after each epoch, a row a seed."""
    return np.asarray([r.values["accuracy"] for r in results.where(method=method, rate=rate)])


def final(results: Results, method: Method) -> np.ndarray:
    """Test accuracy at the end, a row a rate, a column a seed."""
    return np.asarray([curves(results, method, rate)[:, -1] for rate in RATES])


def plus_minus(values: np.ndarray) -> str:
    return f"{values.mean():.4f} ± {values.std(ddof=1):.4f}"


def pretty(name: str) -> str:
    return name.replace("beta3", r"$\beta_3$")


def figure_of_rates(results: Results) -> Any:
    """The paper's Figure 6."""
    figure, axes = panels(1, 3, width=3.8, sharey=True)
    for ax, name in zip(axes, PAPERS, strict=True):
        for rate, color, line in zip(RATES, (VERMILION, SKY, BLUE), ("-", "--", "-."), strict=True):
            accuracy = curves(results, METHODS[name], rate)
            epoch = 1 + np.arange(accuracy.shape[1])
            ax.plot(epoch, np.median(accuracy, axis=0), line, color=color, label=f"rate {rate:g}", linewidth=1.4)
            ax.fill_between(epoch, accuracy.min(axis=0), accuracy.max(axis=0), color=color, alpha=0.15, linewidth=0)
        ax.set(xlabel="epoch", xlim=(1, accuracy.shape[1]), ylim=(0, 1.01))
        ax.set_title(pretty(name))
    axes[0].set_ylabel("test accuracy")
    axes[0].legend(loc="lower right")
    return figure


def figure_of_memories(results: Results) -> Any:
    """The paper's Figure 8."""
    figure, ax = panels(width=6)
    lines = zip((VERMILION, ORANGE, SKY, BLUE), ("-.", ":", "--", "-"), strict=True)
    for beta3, (color, line) in zip(MEMORIES, lines, strict=True):
        accuracy = curves(results, AdaMod(beta3=beta3), SLOW)
        epoch = 1 + np.arange(accuracy.shape[1])
        ax.plot(epoch, accuracy.mean(axis=0), line, color=color, label=rf"$\beta_3$ = {beta3:g}", linewidth=1.4)
        ax.fill_between(epoch, accuracy.min(axis=0), accuracy.max(axis=0), color=color, alpha=0.12, linewidth=0)
    ax.set(xlabel="epoch", ylabel="test accuracy", xscale="log", xlim=(1, accuracy.shape[1]), ylim=(0.6, 1.0))
    ax.xaxis.set_major_formatter("{x:g}")
    ax.set_title(rf"AdaMod's $\beta_3$, learning rate {SLOW:g}")
    ax.legend(loc="lower right")
    return figure


def spread(results: Results, method: Method) -> np.ndarray:
    """Between the best and the worst of the rates, a number a seed."""
    return np.asarray(np.ptp(final(results, method), axis=0))


def claims_of(results: Results) -> list[Claim]:
    by_name = {name: final(results, METHODS[name]) for name in METHODS}
    spreads = {name: spread(results, METHODS[name]) for name in METHODS}
    others = [name for name in PAPERS if name != ADAMOD]
    p = holm(np.asarray([compare(spreads[n] - spreads[ADAMOD], 1.0).p_different for n in others]))
    smallest = all(spreads[ADAMOD].mean() < spreads[n].mean() for n in others)
    tests = "; ".join(
        f"AdaMod's is smaller than {n}'s in {int(np.sum(spreads[ADAMOD] < spreads[n]))} of {len(spreads[n])} seeds,"
        f" p = {each:.2g}"
        for n, each in zip(others, p, strict=True)
    )
    tests += " (paired t tests after Holm; of Adam's spreads some are near 0 and some near 0.9)"
    momentum, adam = by_name["Momentum"], by_name["Adam"]
    middle = momentum[1]
    at_the_ends = [compare(middle - momentum[i], 1.0) for i in (0, 2)]
    p_ends = holm(np.asarray([each.p_different for each in at_the_ends]))
    worse = [each.mean > 0 and q < 0.05 for each, q in zip(at_the_ends, p_ends, strict=True)]
    memory = {beta3: curves(results, AdaMod(beta3=beta3), SLOW) for beta3 in MEMORIES}
    ends = np.asarray([memory[beta3][:, -1] for beta3 in MEMORIES])
    reached = [np.mean([1 + np.argmax(row >= 0.95) for row in memory[beta3]]) for beta3 in MEMORIES]
    three = " , ".join(f"{rate:g}" for rate in RATES).replace(" ,", ",")
    return [
        Claim(
            "AdaMod, Figure 6",
            r"AdaMod with $\beta_3 = 0.9999$ has almost identical final test accuracy for rates in a broad range",
            "curves that end together",
            f"at the rates {three}: " + ", ".join(plus_minus(x) for x in by_name[ADAMOD]),
            "holds" if np.ptp(by_name[ADAMOD].mean(axis=1)) < 0.01 else "does not hold",
            "holds where the means lie within one point; mean ± standard deviation of five seeds; with beta3 = 0.999,"
            " which the paper recommends as well: " + ", ".join(plus_minus(x) for x in by_name[SHORTER]),
        ),
        Claim(
            "AdaMod, Figure 6",
            "SGDM and Adam are sensitive to the rate: AdaMod's spread over rates is the smallest",
            "curves that end apart",
            "best less worst of three rates: " + "; ".join(f"{n} {plus_minus(spreads[n])}" for n in PAPERS),
            "holds" if smallest and np.all(p < 0.05) else "does not hold",
            tests,
        ),
        Claim(
            "AdaMod, Figure 6",
            "Adam is much less stable at the rate 0.1, and slightly better at 0.001 than at 0.01",
            "seen in the curves",
            f"at the rates {three}: " + ", ".join(plus_minus(x) for x in adam),
            "holds" if adam[0].mean() < adam[1].mean() - 0.05 else "does not hold",
            f"of the first half: {int(np.sum(adam[0] < 0.2))} of {adam.shape[1]} seeds are lost at 0.1; 0.001 and 0.01"
            f" differ with p = {compare(adam[2] - adam[1], 1.0).p_different:.2g}",
        ),
        Claim(
            "AdaMod, Figure 6",
            "Momentum is significantly worse at both the small rate (0.001) and the large one (0.1)",
            "seen in the curves",
            f"at the rates {three}: " + ", ".join(plus_minus(x) for x in momentum),
            "holds" if all(worse) else "does not hold",
            f"against 0.01, paired t tests after Holm: p = {p_ends[0]:.2g} at 0.1 (which is"
            f" {'worse' if at_the_ends[0].mean > 0 else 'better'}), {p_ends[1]:.2g} at 0.001",
        ),
        Claim(
            "AdaMod, Figure 8",
            r"a larger $\beta_3$ converges more slowly",
            "seen in the curves",
            ", ".join(f"{n:.1f} epochs at {b:g}" for b, n in zip(MEMORIES, reached, strict=True)),
            "holds" if np.all(np.diff(reached) > 0) else "does not hold",
            "to a test accuracy of 0.95, mean of the seeds",
        ),
        Claim(
            "AdaMod, Figure 8",
            r"the final performances with different $\beta_3$ are very close",
            "seen in the curves",
            ", ".join(f"{plus_minus(x)} at {b:g}" for b, x in zip(MEMORIES, ends, strict=True)),
            "holds" if np.ptp(ends.mean(axis=1)) < 0.01 else "does not hold",
            "holds where the means lie within one point",
        ),
    ]


def table(results: Results) -> str:
    lines = ["| |" + "".join(f" {rate:g} |" for rate in RATES) + " spread |", "| --- |" + " ---: |" * (len(RATES) + 1)]
    for name, method in METHODS.items():
        cells = [*(plus_minus(x) for x in final(results, method)), plus_minus(spread(results, method))]
        lines.append(f"| {name.replace('beta3', '`beta3`')} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def report(results: Results, quick: bool) -> Report:
    none, adam = (results.where(method=m, rate=0.01, seed=0)[0].values for m in (AdaMod(beta3=0.0), Adam()))
    same = all(np.array_equal(none[name], adam[name]) for name in ("accuracy", "loss"))
    learned = [float(results.where(method=METHODS[n], rate=0.01, seed=0)[0].values["loss"][-1]) for n in PAPERS]
    epochs = int(results[0].config["epochs"])
    checks = [
        Check(
            "AdaMod with beta3 = 0 is Adam (AdaMod paper, below equation 1)",
            bool(same),
            f"the same losses and accuracies, to the last bit, after each of {epochs} epochs",
        ),
        Check(
            "every method halves the loss of guessing, ln 10, at the rate 0.01",
            bool(max(learned) < np.log(10) / 2),
            ", ".join(f"{x:.4f}" for x in learned) + f" after {epochs} epochs",
        ),
    ]
    pictures = [
        Picture(
            "rates",
            figure_of_rates(results),
            "Test accuracy over epochs at the learning rates 0.1, 0.01 and 0.001, for Momentum, Adam and AdaMod.",
            f"Medians and ranges of the seeds; the rate falls to a tenth after {DECAY:.0%} of the epochs.",
        )
    ]
    if quick:
        return Report([], checks, pictures)
    pictures.append(
        Picture(
            "beta3",
            figure_of_memories(results),
            "Test accuracy over epochs for AdaMod with beta3 of 0.9, 0.99, 0.999 and 0.9999.",
            "Means and ranges of the seeds.",
        )
    )
    text = f"Test accuracy after {epochs} epochs, mean ± standard deviation of five seeds:\n\n{table(results)}\n"
    return Report(claims_of(results), checks, pictures, text)


EXPERIMENT = Experiment("robustness", "Robustness to the learning rate and to beta3", ABOUT, runs, report)
