"""Early training: Ma & Yarats 2021, section 3.2 and Figure 1."""

from __future__ import annotations

from typing import Any

import mlp
import numpy as np
from demo import digits

from adamod_array import adam_init, adam_step
from adamod_array.diagnostics import update_magnitudes
from reproduction.frame import Check, Claim, Experiment, Picture, Report, Results, Run, Values
from reproduction.style import BLUE, GREEN, VERMILION, panels

ABOUT = r"""
The paper trains a feed-forward network on the digits of EMNIST with Adam and looks at its gradients, its moments and
its updates. Here it is the demo's network (64 pixels, two hidden layers of 64 tanh units) on the 1,797 scans of
scikit-learn, in float64, with $\alpha = 10^{-3}$, $\beta_1 = 0.9$, $\beta_2 = 0.999$, $\epsilon = 10^{-12}$, from five
seeds. At every recorded step the gradient is computed of each batch of one epoch, at the same parameters: a
coordinate's *coefficient of variation* is the standard deviation of these over the magnitude of their mean. Weights
whose pixel has not been lit have no gradient and are left out. The size of the batches, which the paper's text does not
say, matters, as the deviation falls with its square root: there are three.
"""

SIZES = (64, 64, 64, 10)
BATCHES = {32: BLUE, 128: GREEN, 287: VERMILION}


def flat(tree: Any) -> np.ndarray:
    """All numbers of a network."""
    return np.concatenate([w.ravel() for layer in tree for w in layer.values()])


def train(batch: int, steps: int, seed: int) -> Values:
    """The three curves of Figure 1."""
    data = digits()
    x, y = (each.astype(np.float64) for each in data.train)
    rng = np.random.default_rng(seed)
    params = [{k: w.astype(np.float64) for k, w in layer.items()} for layer in mlp.initial_params(SIZES, rng)]
    state = adam_init(params, lr=1e-3, eps=1e-12)
    epochs = -(-steps // (len(x) // batch))
    marks = {*range(1, 21), *np.geomspace(20, steps, 50).astype(int).tolist()}
    rows = []
    for rows_x, rows_y in mlp.batches(x, y, batch, epochs, rng):
        t = state.step + 1
        if t > steps:
            break
        variation = None
        if t in marks:  # at the parameters from which step t goes
            look = np.random.default_rng([seed, t])
            all_grads = [flat(mlp.gradient(state.params, *pair)) for pair in mlp.batches(x, y, batch, 1, look)]
            variation = np.std(all_grads, axis=0, ddof=1), np.abs(np.mean(all_grads, axis=0))
        old, state = state, adam_step(state, mlp.gradient(state.params, rows_x, rows_y))
        if variation is not None:
            m, root = np.abs(flat(state.slots["m"])), np.sqrt(flat(state.slots["v"]))
            deviation, mean = variation
            lit = (root > 0) & (mean > 0)
            moved = flat(update_magnitudes(old, state))[lit]
            correlation = np.corrcoef(m[lit], root[lit])[0, 1]
            rows.append((t, np.median(deviation[lit] / mean[lit]), correlation, *np.quantile(moved, (0.25, 0.5, 0.75))))
    t, variation, correlation, *moved = np.asarray(rows).T
    return {"t": t.astype(int), "variation": variation, "correlation": correlation, "moved": moved}


def runs(quick: bool) -> list[Run]:
    steps, seeds = (200, 1) if quick else (2000, 5)
    return [Run(train, batch=batch, steps=steps, seed=seed) for batch in BATCHES for seed in range(seeds)]


def report(results: Results, quick: bool) -> Report:
    t = results[0].values["t"]
    of = {
        batch: {name: np.asarray([r.values[name] for r in results.where(batch=batch)]) for name in results[0].values}
        for batch in BATCHES
    }

    def at(step: int, name: str) -> str:
        """Over all batch sizes and seeds."""
        i = int(np.searchsorted(t, step))
        found = [each[name][:, 1, i] if name == "moved" else each[name][:, i] for each in of.values()]
        low, high = min(map(np.min, found)), max(map(np.max, found))
        return f"{low:.2f} to {high:.2f}"

    first = {batch: np.median(each["variation"][:, 0]) for batch, each in of.items()}
    crossed = {batch: _settles_above(t, np.median(each["variation"], axis=0)) for batch, each in of.items()}
    larger = [of[batch] for batch in BATCHES if batch > 100]
    correlated = min(float(np.median(each["correlation"], axis=0)[t <= 10].min()) for each in larger)
    last = int(t[-1])
    settled = float(np.median([each["moved"][:, 1, -1] for each in of.values()]))
    late_at = min(100, last)
    claims = [
        Claim(
            "Ma & Yarats, Figure 1a",
            "the median coefficient of variation starts below 1",
            "below 1",
            ", ".join(f"{value:.2f} (batches of {batch})" for batch, value in first.items()),
            "holds" if max(first[batch] for batch in BATCHES if batch > 100) < 1 else "does not hold",
            "judged by the larger batches",
        ),
        Claim(
            "Ma & Yarats, Figure 1a",
            "and stays above 1 only beyond step 50",
            "50",
            ", ".join(f"{step} (batches of {batch})" for batch, step in crossed.items()),
            "not shown",
            "the size of the batches decides",
        ),
        Claim(
            "Ma & Yarats, Figure 1b",
            r"$|m_t|$ and $\sqrt{v_t}$ are extremely correlated",
            "a curve",
            ", ".join(f"{at(step, 'correlation')} at $t$ = {step}" for step in (1, 10, late_at)),
            "holds" if correlated > 0.8 else "does not hold",
            "judged by the first ten steps of the larger batches, at 0.8",
        ),
        Claim(
            "Ma & Yarats, Figure 1c",
            "update magnitudes start at 1 and settle around 0.15 after 100 steps or so",
            "1, then 0.15",
            f"{at(1, 'moved')} at $t = 1$, {at(late_at, 'moved')} at {late_at}, {at(last, 'moved')} at {last:,}",
            "holds" if 0.1 < settled < 0.2 else "does not hold",
        ),
        Claim(
            "Ma & Yarats, 3.3",
            "they fall more slowly than at a simulated minimum, where 0.16 is reached at $t = 40$",
            "slower",
            f"{at(40, 'moved')} at $t = 40$",
            "holds"
            if min(each["moved"][:, 1, np.searchsorted(t, 40)].min() for each in of.values()) > 0.17
            else "does not hold",
        ),
    ]
    one = max(float(np.max(np.abs(each["moved"][:, :, 0] - 1))) for each in of.values())
    same = max(float(np.max(np.abs(each["correlation"][:, 0] - 1))) for each in of.values())
    checks = [
        # eps is 1e-12, and a quarter of the gradients is no smaller than 1e-6
        Check("the first updates have magnitude 1 (quartiles)", one < 1e-5, f"{one:.0e} off"),
        Check(r"$|m_1|$ is proportional to $\sqrt{v_1}$: correlation 1", same < 1e-12, f"{same:.0e} off"),
    ]
    alt = "Coefficient of variation of gradients, correlation of the moments, and update magnitudes over 2,000 steps."
    caption = "Lines: medians of the seeds; bands: their range."
    return Report(claims, checks, [Picture("training", _draw(of, t), alt, caption)], SEEN)


SEEN = r"""
With batches of 287 the first panel is the paper's: below 1 at first, above 1 for good after some 60 steps. With batches
of 32 the noise outweighs the gradient from the first step, and the updates are still large for 50 steps, as at a
minimum they would not be. What does not settle is the update magnitude: this network learns all of its 1,437 images, so
that gradients vanish while $v$ remembers the larger ones of the last 1,000 steps.
"""


def _settles_above(t: np.ndarray, variation: np.ndarray) -> str:
    """The first recorded step from which on it stays above 1."""
    below = np.flatnonzero(variation <= 1)
    if len(below) == 0:
        return "from the start"
    return str(t[below[-1] + 1]) if below[-1] + 1 < len(t) else f"not within {t[-1]:,}"


def _draw(of: dict[int, dict[str, np.ndarray]], t: np.ndarray) -> object:
    figure, (left, middle, right) = panels(1, 3, width=4)
    for batch, each in of.items():
        curves = {left: each["variation"], middle: each["correlation"], right: each["moved"][:, 1]}
        for ax, values in curves.items():
            ax.plot(t, np.median(values, axis=0), color=BATCHES[batch], label=f"batches of {batch}")
            ax.fill_between(t, values.min(axis=0), values.max(axis=0), color=BATCHES[batch], alpha=0.15, lw=0)
    left.axhline(1, color="0.4", lw=0.9, ls=":")
    right.axhline(0.15, color="0.4", lw=0.9, ls=":")
    left.set(yscale="log", ylabel="median over coordinates", title="Coefficient of variation of gradients")
    middle.set(ylim=(0, 1.02), ylabel="over coordinates", title=r"Correlation of $|m_t|$ and $\sqrt{v_t}$")
    right.set(ylim=(0, 1.02), ylabel=r"median, in units of $\alpha$", title="Update magnitude")
    for ax in (left, middle, right):
        ax.set(xscale="log", xlabel="step $t$")
    left.legend()
    return figure


EXPERIMENT = Experiment("early", "Early training", ABOUT, runs, report)
