"""A Transformer without warmup: the AdaMod paper's Figures 1 to 3 and 9, Figure 2 of the RAdam authors' README."""

from __future__ import annotations

from typing import Any

import numpy as np
from frame import Check, Claim, Experiment, Picture, Report, Results, Run
from style import BLACK, BLUE, GREEN, GREY, ORANGE, PURPLE, SKY, VERMILION, panels
from train_transformer import WINDOW, train
from transformer import VOCABULARY, corpus

from adamod_array import Adam, AdaMod, RAdam, schedules

ABOUT = r"""
A character model: a decoder-only Transformer with its layer norms after the residuals, as in the original (6 layers of
width 32, 4 heads, 82,624 parameters), reads 32 characters at a time of the source of Python's standard library, 8
windows a batch. PyTorch computes the gradients, this library steps a dict of tensors in place. $\beta_1 = 0.9$,
$\beta_2 = 0.98$ and $\epsilon = 10^{-9}$ as in the AdaMod paper's Transformers, where nothing else is said; no
clipping, no dropout, no weight decay, a constant rate. *Adam-2k* updates the second moment alone in the first steps,
500 here (ten memories of $\beta_2 = 0.98$; 2,000 in its paper). One line is in no paper: Adam with the warmup that
AdaMod's bound would be if the rates were constant, $1 - \beta_3^t$.
"""

TRANSFORMER: dict[str, Any] = {"beta2": 0.98, "eps": 1e-9}
RATES = (1e-3, 3e-3, 1e-2)
MIDDLE = 3e-3
ADAMOD = "AdaMod, beta3 = 0.999"
WARM = "Adam, linear warmup"

CONFIGS: dict[str, dict[str, Any]] = {
    "Adam": {"method": Adam(**TRANSFORMER)},
    WARM: {"method": Adam(**TRANSFORMER), "warmup": schedules.linear_warmup(400)},
    "Adam, eps = 1e-4": {"method": Adam(beta2=0.98, eps=1e-4)},
    "Adam-2k": {"method": Adam(**TRANSFORMER), "second_moment_first": 500},
    "RAdam": {"method": RAdam(beta2=0.98, eps=1e-18)},
    "RAdam, beta2 = 0.999": {"method": RAdam(beta2=0.999, eps=1e-18)},
    ADAMOD: {"method": AdaMod(beta3=0.999, **TRANSFORMER)},
    "AdaMod, beta3 = 0.9999": {"method": AdaMod(beta3=0.9999, **TRANSFORMER)},
    "Adam, AdaMod's warmup": {"method": Adam(**TRANSFORMER), "warmup": schedules.exponential_warmup(1000)},
}
STYLES = {
    "Adam": (VERMILION, "-"),
    WARM: (ORANGE, "-"),
    "Adam, eps = 1e-4": (VERMILION, ":"),
    "Adam-2k": (PURPLE, "-"),
    "RAdam": (GREEN, "-"),
    "RAdam, beta2 = 0.999": (GREEN, "--"),
    ADAMOD: (SKY, "-"),
    "AdaMod, beta3 = 0.9999": (BLUE, "-"),
    "Adam, AdaMod's warmup": (BLACK, ":"),
}
PICTURED = ("Adam", WARM, "RAdam", ADAMOD)
MEMORIES = (0.9, 0.99, 0.999, 0.9999)
LAST = 100
"""A final loss is the mean over so many steps."""


def memory_config(beta3: float) -> dict[str, Any]:
    return {"method": AdaMod(beta3=beta3, **TRANSFORMER)}


def steps(quick: bool) -> int:
    return 200 if quick else 1000


def runs(quick: bool) -> list[Run]:
    seeds = (0,) if quick else (0, 1, 2)
    names = ("Adam", WARM, ADAMOD) if quick else tuple(CONFIGS)
    listed = [
        Run(train, rate=rate, seed=seed, steps=steps(quick), **CONFIGS[name])
        for rate in ((MIDDLE,) if quick else RATES)
        for name in names
        for seed in seeds
    ]
    if not quick:
        listed += [
            Run(train, rate=MIDDLE, seed=seed, steps=steps(quick), **memory_config(beta3))
            for beta3 in MEMORIES[:2]
            for seed in seeds
        ]
    pair = (AdaMod(beta3=0.0, **TRANSFORMER), Adam(**TRANSFORMER))
    return [*listed, *(Run(train, method=method, rate=MIDDLE, seed=0, steps=50) for method in pair)]


def entropy() -> float:
    """Of single characters: what a model that sees no context can reach, in nats."""
    share = np.bincount(corpus().train, minlength=len(VOCABULARY)) / len(corpus().train)
    return float(-np.sum(share * np.log(share, where=share > 0, out=np.zeros_like(share))))


class Trainings:
    """The trainings of one length, by configuration and rate."""

    def __init__(self, results: Results) -> None:
        self.steps = max(result.config["steps"] for result in results)
        self.results = results.where(steps=self.steps)
        self.rates = sorted({result.config["rate"] for result in self.results})

    def of(self, rate: float, config: dict[str, Any]) -> Results:
        keys = ("warmup", "second_moment_first")
        found = self.results.where(rate=rate, method=config["method"])
        return Results([r for r in found if all(r.config.get(k) == config.get(k) for k in keys)])

    def final(self, rate: float, config: dict[str, Any]) -> np.ndarray:
        """Mean training loss of the last steps, a number a seed."""
        return np.asarray([r.values["loss"][-LAST // WINDOW :].mean() for r in self.of(rate, config)])

    def valid(self, rate: float, config: dict[str, Any]) -> np.ndarray:
        return np.asarray([float(r.values["valid"]) for r in self.of(rate, config)])

    def pictured(self, name: str) -> dict[str, Any]:
        values: dict[str, Any] = self.of(MIDDLE, CONFIGS[name])[0].values
        return values


def plus_minus(values: np.ndarray) -> str:
    return f"{values.mean():.2f} ± {values.std(ddof=1):.2f}" if len(values) > 1 else f"{values.mean():.2f}"


def loss_figure(trainings: Trainings, stuck: float) -> Any:
    """Curves of every configuration, a panel a rate."""
    figure, axes = panels(1, len(trainings.rates), height=4.6, width=4.2, squeeze=False, sharey=True)
    for ax, rate in zip(axes[0], trainings.rates, strict=True):
        for name, (color, line) in STYLES.items():
            found = trainings.of(rate, CONFIGS[name])
            if not found:
                continue
            losses = np.asarray([r.values["loss"] for r in found])
            at = WINDOW * (np.arange(losses.shape[1]) + 0.5)
            label = name.replace("beta", r"$\beta_").replace("3 =", "3$ =").replace("2 =", "2$ =")
            ax.plot(at, losses.mean(axis=0), line, color=color, label=label, linewidth=1.5)
            ax.fill_between(at, losses.min(axis=0), losses.max(axis=0), color=color, alpha=0.12, linewidth=0)
        ax.axhline(stuck, color=GREY, linewidth=0.8, dashes=(4, 4))
        ax.set(xlabel="step", xlim=(0, trainings.steps), ylim=(2.1, 3.9))
        ax.set_title(f"learning rate {rate:g}")
    axes[0, 0].set_ylabel("training loss (nats a character)")
    axes[0, -1].text(trainings.steps, stuck + 0.01, "entropy of single characters", ha="right", va="bottom", fontsize=8)
    handles, labels = axes[0, 0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=min(5, len(labels)))
    return figure


def rate_figure(trainings: Trainings) -> Any:
    """How many parameters have which rate, at each of some steps."""
    names = [name for name in PICTURED if trainings.of(MIDDLE, CONFIGS[name])]
    figure, axes = panels(1, len(names), width=3.4, height=3.8, squeeze=False, sharey=True)
    for ax, name in zip(axes[0], names, strict=True):
        seen = trainings.pictured(name)
        share = seen["counts"][:, 1:-1].T / float(seen["numbers"])
        steps = np.append(seen["at"], trainings.steps + 1)
        mesh = ax.pcolormesh(steps, seen["edges"], np.where(share > 0, share, np.nan), norm="log", cmap="viridis")
        mesh.set_clim(1e-5, 0.3)
        ax.axhline(1e4, color=VERMILION, linewidth=0.8, dashes=(4, 4))
        ax.set(xscale="log", yscale="log", xlabel="step", ylim=(1e-8, 1e8))
        ax.grid(visible=False)
        ax.set_title(name.replace("beta3", r"$\beta_3$"))
    axes[0, 0].set_ylabel("rate of a parameter")
    figure.colorbar(mesh, ax=list(axes[0]), label="share of parameters in a tenth of a decade", pad=0.01)
    return figure


def memory_figure(trainings: Trainings) -> Any:
    """The AdaMod paper's Figure 9."""
    figure, ax = panels(width=6)
    lines = zip([VERMILION, ORANGE, SKY, BLUE], ["-.", ":", "--", "-"], strict=True)
    for beta3, (color, line) in zip(MEMORIES, lines, strict=True):
        losses = np.asarray([r.values["loss"] for r in trainings.of(MIDDLE, memory_config(beta3))])
        at = WINDOW * (np.arange(losses.shape[1]) + 0.5)
        ax.plot(at, losses.mean(axis=0), line, color=color, label=rf"$\beta_3$ = {beta3:g}")
        ax.fill_between(at, losses.min(axis=0), losses.max(axis=0), color=color, alpha=0.15, linewidth=0)
    ax.set(xlabel="step", ylabel="training loss (nats a character)", xlim=(0, trainings.steps), ylim=(2.1, 3.9))
    ax.set_title(rf"AdaMod's $\beta_3$, learning rate {MIDDLE:g}")
    ax.legend()
    return figure


def claims_of(trainings: Trainings, stuck: float) -> list[Claim]:
    """What the papers say, beside the final losses."""
    final = {(rate, name): trainings.final(rate, CONFIGS[name]) for rate in trainings.rates for name in CONFIGS}
    rate, low, high = MIDDLE, *(trainings.rates[i] for i in (0, -1))

    def at_rates(name: str) -> str:
        return ", ".join(f"{plus_minus(final[r, name])}" for r in trainings.rates)

    def is_stuck(r: float, name: str) -> bool:
        return bool(np.all(final[r, name] > stuck - 0.1))

    def learns(r: float, name: str) -> bool:
        return bool(np.all(final[r, name] < stuck - 0.3))

    order = "at the rates " + ", ".join(f"{r:g}" for r in trainings.rates)
    adam, warm, adamod = (trainings.pictured(name) for name in ("Adam", WARM, ADAMOD))
    huge = {name: seen["huge"] - seen["huge_idle"] for name, seen in (("a", adam), ("w", warm), ("m", adamod))}
    numbers = int(adam["numbers"])
    better = [r for r in trainings.rates if final[r, ADAMOD].max() < final[r, WARM].min()]
    worse = [r for r in trainings.rates if final[r, ADAMOD].min() > final[r, WARM].max()]
    by_memory = [trainings.final(rate, memory_config(beta3)) for beta3 in MEMORIES]
    rescued = [n for n in ("Adam-2k", "Adam, eps = 1e-4", "RAdam", "RAdam, beta2 = 0.999") if learns(rate, n)]
    return [
        Claim(
            "AdaMod, Figure 1a",
            "a Transformer does not converge by Adam without warmup, and does with it",
            "loss about 9.5 without, below 3.5 with warmup",
            f"{order}: {at_rates('Adam')} without, {at_rates(WARM)} with; single characters have {stuck:.2f}",
            "holds" if is_stuck(rate, "Adam") and is_stuck(high, "Adam") and learns(rate, WARM) else "does not hold",
            f"mean training loss of the last {LAST} of {trainings.steps} steps, 3 seeds, mean ± standard deviation;"
            f" at the rate {low:g} it learns without, too",
        ),
        Claim(
            "AdaMod, Figure 1b and 1c",
            "without warmup lots of rates soar over 10,000",
            "seen in the histograms",
            f"at most {huge['a'].max():,} of {numbers:,} parameters that have had a gradient, {huge['w'].max():,} with"
            f" warmup, {huge['m'].max():,} with AdaMod; and {int(adam['huge_idle'].max()):,} that have not, in each",
            "holds" if huge["a"].max() > 10 * max(huge["w"].max(), 1) else "does not hold",
            f"rate {rate:g}, seed 0",
        ),
        Claim(
            "AdaMod, Figure 3",
            "AdaMod properly restrains extremely large rates throughout the training",
            "seen in the histograms",
            f"the largest rate of a parameter that has had a gradient, over all steps: {adam['largest'].max():.0e} by"
            f" Adam, {warm['largest'].max():.0e} with warmup, {adamod['largest'].max():.0e} by AdaMod",
            "holds" if adamod["largest"].max() < 0.1 * adam["largest"].max() else "does not hold",
            f"rate {rate:g}, seed 0",
        ),
        Claim(
            "AdaMod, Figure 2 and Table 2",
            "AdaMod without warmup converges faster and better than Adam with warmup",
            "27.22, 28.15, 28.47 BLEU against 26.81 and, where it diverges, nothing",
            f"{order}: {at_rates(ADAMOD)} for AdaMod, {at_rates(WARM)} for Adam with warmup",
            "holds" if better and not worse else "does not hold",
            "of training loss; holds where at some rate every seed is better than any with warmup, and at none worse",
        ),
        Claim(
            "AdaMod, Figure 9",
            r"with a small $\beta_3$ the loss converges to a poor result like Adam without warmup; larger is better",
            r"$\beta_3 = 0.9999$ best",
            ", ".join(f"{plus_minus(x)} at {b:g}" for b, x in zip(MEMORIES, by_memory, strict=True)),
            "holds" if np.all(np.diff([x.mean() for x in by_memory]) < 0) else "does not hold",
            f"rate {rate:g}",
        ),
        Claim(
            "RAdam, Figure 2",
            "RAdam, Adam-2k and a larger eps avoid the convergence problem",
            "about 500 perplexity for Adam, below 10 for them",
            f"{order}: Adam-2k {at_rates('Adam-2k')}; eps = 1e-4 {at_rates('Adam, eps = 1e-4')}; RAdam"
            f" {at_rates('RAdam')}; RAdam with beta2 = 0.999 {at_rates('RAdam, beta2 = 0.999')}",
            "holds" if len(rescued) == 4 else "does not hold",
            f"at {rate:g} learning by every seed: {', '.join(rescued) or 'none'}",
        ),
    ]


def table(trainings: Trainings) -> str:
    """Losses of all configurations."""
    head = "".join(f" training, {rate:g} | held out, {rate:g} |" for rate in trainings.rates)
    lines = [f"| |{head}", "| --- |" + " ---: |" * (2 * len(trainings.rates))]
    for name, config in CONFIGS.items():
        cells = [plus_minus(of(rate, config)) for rate in trainings.rates for of in (trainings.final, trainings.valid)]
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def checks_of(results: Results, trainings: Trainings) -> list[Check]:
    """What must hold whatever is learned."""
    none, adam = (
        results.where(steps=50, method=method)[0].values
        for method in (memory_config(0.0)["method"], Adam(**TRANSFORMER))
    )
    first = np.asarray([r.values["first_losses"][0] for r in trainings.results.where(seed=0)])
    first = first[[r.config.get("second_moment_first", 0) == 0 for r in trainings.results.where(seed=0)]]
    expected = np.log(len(VOCABULARY)) + 0.25  # of normal logits of variance 0.5, which Glorot's matrix gives
    seen = [trainings.pictured(name) for name in PICTURED if trainings.of(MIDDLE, CONFIGS[name])]
    complete = all(np.all(each["counts"].sum(axis=1) == each["numbers"]) for each in seen)
    ratio = float(trainings.pictured(ADAMOD)["largest"][0] / trainings.pictured("Adam")["largest"][0])
    return [
        Check(
            "AdaMod with beta3 = 0 is Adam (AdaMod paper, below equation 1)",
            bool(np.array_equal(none["loss"], adam["loss"]) and none["valid"] == adam["valid"]),
            f"the same losses, to the last bit, over 50 steps: {none['loss'].round(3).tolist()}",
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
    trainings = Trainings(results)
    stuck = entropy()
    pictures = [
        Picture(
            "loss",
            loss_figure(trainings, stuck),
            "Training loss over steps for each configuration, a panel for each learning rate.",
            "Means and ranges over the seeds; each point is a mean over 25 steps.",
        ),
        Picture(
            "rates",
            rate_figure(trainings),
            "Distributions of the parameters' rates over the steps: Adam without and with warmup, RAdam, AdaMod.",
            f"Learning rate {MIDDLE:g}, seed 0. Above the dashed line are the rates over 10,000. The line at 3e6 is"
            " of parameters whose gradients have all been zero (characters not seen yet): a rate of"
            " $\\\\alpha/\\\\epsilon$, by which nothing moves.".replace("\\\\", "\\"),
        ),
    ]
    text = ""
    claims: list[Claim] = []
    if not quick:
        claims = claims_of(trainings, stuck)
        pictures.append(
            Picture(
                "beta3",
                memory_figure(trainings),
                "Training loss over steps for AdaMod with beta3 of 0.9, 0.99, 0.999 and 0.9999.",
                "Means and ranges over the seeds.",
            )
        )
        about = trainings.results[0].values
        text = (
            f"Losses after {trainings.steps} steps in nats a character (training: mean of the last {LAST} steps; held"
            f" out: 1,024 windows), mean ± standard deviation of 3 seeds:\n\n{table(trainings)}\n\nThe text: "
            f"{int(about['characters']):,} characters to train on, SHA-256 {about['text']}…\n"
        )
    return Report(claims, checks_of(results, trainings), pictures, text)


EXPERIMENT = Experiment("transformer", "A Transformer without warmup", ABOUT, runs, report)
