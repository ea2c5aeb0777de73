"""What agreement to the last bit buys: one training, stepped by every framework."""

from __future__ import annotations

import importlib.metadata
from typing import Any

import numpy as np

from adamod_array import Adam, AdaMod, Method
from reproduction.experiments import robustness
from reproduction.frame import Check, Experiment, Finding, Picture, Report, Results, Run, wherever
from reproduction.runs.replay import FRAMEWORKS, REFERENCE, here, own, replayed
from reproduction.statistics import Test, corrected, equivalence, plus_minus
from reproduction.style import BLUE, ORANGE, SKY, VERMILION, panels

ABOUT = r"""
One training of [robustness](#robustness-to-the-learning-rate-and-to-beta3), AdaMod with $\beta_3 = 0.9999$ at the rate
0.01 from seed 0, on NumPy. Its gradients are given to every framework, which steps its own arrays by its own engine;
the parameters are compared bit by bit after every step. Beside it the same training where every framework computes its
own gradients, from five seeds: their matrix products, `tanh`, `exp` and `log` round differently. The same for Adam at
the rate 0.1, too large for it, where chance decides how a training ends.
"""

STEADY, SHAKY = (AdaMod(beta3=0.9999), 0.01), (Adam(), 0.1)
DRIFTING = {"PyTorch, Numba": "PyTorch", "JAX, XLA": "JAX"}
"""Whose own gradients are looked at."""
INEXACT = "PyTorch, its own operations"
"""Whose square root is not IEEE's: the only one that need not agree."""


def runs(quick: bool) -> list[Run]:
    length: dict[str, Any] = {"epochs": 4 if quick else 200, "weight_decay": 5e-4}
    replays = [
        Run(replayed, name=name, method=STEADY[0], rate=STEADY[1], seed=0, **length)
        for name in FRAMEWORKS
        if name != REFERENCE and here(name)
    ]
    trainings = [STEADY] if quick else [STEADY, SHAKY]
    return replays + [
        Run(own, name=name, method=method, rate=rate, seed=seed, **length)
        for method, rate in trainings
        for name in DRIFTING
        for seed in robustness.seeds(quick)[: 1 if quick else None]
    ]


def version(name: str) -> str:
    """Of the framework, where it is another than its package's name says."""
    package = {"cupy": "cupy-cuda13x"}.get(FRAMEWORKS[name].package, FRAMEWORKS[name].package)
    return f"{package} {importlib.metadata.version(package)}"


def replays_of(results: Results) -> dict[str, dict[str, Any]]:
    """By framework."""
    return {r.config["name"]: r.values for r in results if "differing" in r.values}


def owns(results: Results, name: str, training: tuple[Method, float]) -> list[dict[str, Any]]:
    """A training from own gradients, by seed."""
    found = results.where(name=name, method=training[0], rate=training[1])
    return [r.values for r in found if "accuracy" in r.values]


def figure_of(results: Results) -> Any:
    figure, (above, below) = panels(2, 1, width=6.4)
    styles = {"PyTorch, Numba": (VERMILION, ORANGE, "-"), "JAX, XLA": (BLUE, SKY, "--")}
    for name, (color, light, line) in styles.items():
        found = owns(results, name, STEADY)
        at = found[0]["at"]
        for how, shade in (("largest", color), ("median", light)):
            rows = np.asarray([each[how] for each in found])
            middle = np.median(rows, axis=0)
            above.plot(at, np.where(middle > 0, middle, np.nan), line, color=shade, label=f"{DRIFTING[name]}, {how}")
            where = rows.min(axis=0) > 0  # a logarithm is drawn
            above.fill_between(
                at, rows.min(axis=0), rows.max(axis=0), where=where, color=shade, alpha=0.15, linewidth=0
            )
        for training, shade, width, text in (
            (STEADY, color, 1.4, "AdaMod at 0.01"),
            (SHAKY, light, 0.8, "Adam at 0.1"),
        ):
            rows = 100 * np.asarray([each["otherwise"] for each in owns(results, name, training)])
            if rows.size:
                style = {"color": shade, "linewidth": width, "label": f"{DRIFTING[name]}, {text}"}
                below.plot(1 + np.arange(rows.shape[1]), rows.mean(axis=0), line, **style)
    above.set(xscale="log", yscale="log", xlabel="step", ylabel="difference of a parameter")
    above.set_title("AdaMod at 0.01, each from its own gradients")
    below.set(xlabel="epoch", ylabel="test images (%)", ylim=(-4, 104))
    below.set_title("Classified otherwise than by NumPy")
    above.legend()
    below.legend()
    return figure


def table(results: Results) -> str:
    lines = ["| framework and engine | steps | parameters differing | slots differing | largest difference |"]
    lines.append("| --- |" + " ---: |" * 4)
    for name, values in replays_of(results).items():
        steps, off = len(values["differing"]), int(np.sum(values["differing"] > 0))
        at = "0 after each step" if off == 0 else f"{int(values['differing'][-1]):,} at the end"
        slots, largest = int(values["slots"]), float(values["largest"])
        lines.append(f"| {name} ({version(name)}) | {steps:,} | {at} | {slots:,} | {largest:.1e} |")
    return "\n".join(lines)


def drift(results: Results, training: tuple[Method, float]) -> tuple[list[str], dict[str, np.ndarray]]:
    """What is seen of each framework, and paired differences of its final accuracy from NumPy's."""
    words, differences = [], {}
    for name, title in DRIFTING.items():
        found = owns(results, name, training)
        host, there = 100 * np.asarray([each["accuracy"][-1] for each in found]).T
        otherwise = 100 * np.mean([each["otherwise"][-1] for each in found])
        differences[title] = there - host
        largest = max(float(each["largest"][-1]) for each in found)
        words.append(
            f"{title}: parameters up to {largest:.1e} from NumPy's, {plus_minus(there)} points"
            f" (NumPy: {plus_minus(host)}), {otherwise:.2f} % of test images seen otherwise"
        )
    return words, differences


MARGIN = 1.0
"""Points of test accuracy within which two trainings count as the same."""
APART = 5.0
"""Points beyond which one seed has ended otherwise."""


def findings_of(results: Results) -> tuple[list[Finding], list[Test]]:
    replays = replays_of(results)
    exact = {name: values for name, values in replays.items() if name != INEXACT}
    steps = len(next(iter(exact.values()))["differing"])
    same = {name: not values["differing"].any() and not values["slots"] for name, values in exact.items()}
    steady, differences = drift(results, STEADY)
    shaky, wild = drift(results, SHAKY)
    within = corrected(
        [equivalence(f"AdaMod at 0.01: {name} less NumPy", x, MARGIN) for name, x in differences.items()]
    )
    ends = {name: float(np.abs(x).max()) for name, x in wild.items()}
    findings = [
        Finding(
            "library/same-bits",
            f"{sum(same.values())} of {len(exact)} engines beside NumPy's ({'; '.join(exact)}) have its bits after each"
            f" of {steps:,} steps of {int(next(iter(exact.values()))['numbers']):,} parameters",
            "no bit differs in parameters after a step, nor in slots at the end; "
            + ("CuPy runs on the CPU, not on a GPU" if "CuPy on the CPU" in replays else "CuPy is not here"),
            *wherever(same, "engines"),
        ),
        Finding(
            "library/sound-trainings",
            "; ".join(steady),
            f"AdaMod at 0.01: test accuracy within {MARGIN:g} point of NumPy's ("
            + "; ".join(f"{name}: {test}" for name, test in zip(differences, within, strict=True))
            + ")",
            *wherever({name: test.rejects for name, test in zip(differences, within, strict=True)}, "frameworks"),
        ),
        Finding(
            "library/unstable-trainings",
            "; ".join(shaky),
            f"Adam at 0.1: some seed ends more than {APART:g} points from NumPy's ("
            + ", ".join(f"{name} {x:.0f}" for name, x in ends.items())
            + ")",
            *wherever({name: x > APART for name, x in ends.items()}, "frameworks"),
        ),
    ]
    return findings, within


def report(results: Results, quick: bool) -> Report:
    replays = replays_of(results)
    checks = [
        Check(
            f"{name}: the bits of NumPy's parameters after every step, and of its slots at the end",
            bool(not values["differing"].any() and values["slots"] == 0),
            f"{int(np.sum(values['differing']))} differing in {len(values['differing']):,} steps of"
            f" {int(values['numbers']):,} parameters",
        )
        for name, values in replays.items()
        if name != INEXACT
    ]
    for name, title in DRIFTING.items():
        largest = owns(results, name, STEADY)[0]["largest"]
        checks.append(
            Check(
                f"the comparison sees a last bit: {title}'s own gradients move the parameters apart",
                bool(0 < largest[-1] < np.inf),
                f"{largest[0]:.1e} after the first step, {largest[-1]:.1e} after the last",
            )
        )
    text = table(results)
    if not here("CuPy on the CPU"):
        text += "\n\nCuPy, or what runs it on the CPU (`backends/cupy_on_cpu`), was not here."
    picture = Picture(
        "drift",
        figure_of(results),
        "Above, differences of the parameters of PyTorch and JAX from NumPy's over steps. Below, the share of test"
        " images that they classify otherwise, over epochs.",
        "Each framework from its own gradients. Above: medians and ranges of the seeds. Below: means.",
    )
    findings, tests = ([], []) if quick else findings_of(results)
    return Report(findings, checks, [picture], text, tests)


EXPERIMENT = Experiment("agreement", "What agreement buys", ABOUT, runs, report)
