"""How smooth a training curve is: AdaMod's beside Adam's, on digits and with the Transformer."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from adamod_array import Adam, AdaMod
from reproduction.findings.beside_adam import MEMORIES, Both
from reproduction.frame import Finding
from reproduction.grids import digits_runs, transformer_runs
from reproduction.grids.digits_runs import STABLE
from reproduction.runs.train_transformer import WINDOW
from reproduction.statistics import Test, corrected, difference
from reproduction.verdicts import Judged, ahead, everywhere, listed

EPOCHS = (10, 150)
"""On digits: after the first descent, before the rate falls."""
STEPS = (500, 1000)
"""With the Transformer: its second half."""
STEADY = transformer_runs.RATES[0]
"""The rate at which every seed of Adam trains the Transformer."""


def roughness(curves: np.ndarray) -> np.ndarray:
    """Return the standard deviation of the second differences of each row: none where it is a parabola."""
    return np.asarray(np.std(np.diff(curves, 2, axis=1), axis=1))


class Case(NamedTuple):
    """A setting: how rough AdaMod's curves are, Adam's, and Adam's with the warmup 1 - 0.999^t, a number a seed."""

    place: str
    beta3: float
    adamod: np.ndarray
    adam: np.ndarray
    warmed: np.ndarray


def cases(both: Both) -> list[Case]:
    found = []
    first, last = EPOCHS
    for rate in STABLE:
        of_adamod = {
            b: roughness(np.log10(both.digits.curves("loss", AdaMod(beta3=b), rate)[:, first - 1 : last]))
            for b in MEMORIES
        }
        adam, warmed = (
            roughness(np.log10(both.digits.curves("loss", Adam(), rate, warmup)[:, first - 1 : last]))
            for warmup in (None, digits_runs.OWN_WARMUP)
        )
        found += [Case(f"digits at {rate:g}", b, x, adam, warmed) for b, x in of_adamod.items()]
    first, last = (step // WINDOW for step in STEPS)
    adam, warmed = (
        roughness(both.transformer.losses(STEADY, transformer_runs.CONFIGS[name])[:, first:last])
        for name in ("Adam", transformer_runs.OWN_WARMUP)
    )
    for b in MEMORIES:
        curves = both.transformer.losses(STEADY, transformer_runs.memory_config(b))[:, first:last]
        found.append(Case(f"Transformer at {STEADY:g}", b, roughness(curves), adam, warmed))
    return found


def compared(case: Case, other: np.ndarray, name: str) -> Test:
    """Test whether the other curves are rougher than AdaMod's, by the logarithms of both."""
    label = f"{case.place}, logarithm of the roughness: {name} less AdaMod, beta3 = {case.beta3:g}"
    return difference(label, np.log(other) - np.log(case.adamod))


def judged(both: Both) -> Judged:
    """Judge whether AdaMod's curves are smoother than Adam's; say what a warmup alone does."""
    found = cases(both)
    tests = corrected([compared(case, case.adam, "Adam") for case in found])
    like_warmup = [case for case in found if case.beta3 == MEMORIES[0]]
    beside = corrected([compared(case, case.warmed, "Adam with warmup") for case in like_warmup])
    places = [f"{case.place} with {case.beta3:g}" for case in found]
    verdicts = {where: ahead(test) for where, test in zip(places, tests, strict=True)}
    finding = Finding(
        "article/smoother-curve",
        "Adam's roughness over AdaMod's: "
        + "; ".join(f"{where} {np.exp(test.mean):.2f}" for where, test in zip(places, tests, strict=True))
        + "; of Adam with the warmup $1 - 0.999^t$ over AdaMod's: "
        + "; ".join(
            f"{case.place} {np.exp(test.mean):.2f} ({test})" for case, test in zip(like_warmup, beside, strict=True)
        ),
        "Adam's is larger: standard deviation of second differences, on digits of the logarithm of the training loss in"
        f" epochs {EPOCHS[0]} to {EPOCHS[1]}, with the Transformer of the training loss in steps {STEPS[0]} to"
        f" {STEPS[1]}, at rates at which every seed of Adam trains well; logarithms: " + listed(places, tests),
        *everywhere(verdicts, "settings"),
    )
    return Judged([finding], [*tests, *beside])
