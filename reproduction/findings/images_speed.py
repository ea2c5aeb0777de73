"""What the AdaMod paper says of the course of its trainings on images, judged on digits."""

from __future__ import annotations

import numpy as np

from adamod_array import Method
from reproduction.frame import Finding
from reproduction.grids.digits_runs import ADAM, ADAMODS, METHODS, MOMENTUM, RATES, STABLE, Trainings, epochs_to
from reproduction.statistics import corrected, equivalence, sign
from reproduction.verdicts import Judged, ahead, alike, counted, everywhere, listed, merged, worst

EARLY = (5, 10)
"""Epochs after which a training is still in its early stage."""
MID_TERM = (100, 149)
"""Epochs before the rate falls."""
CAUGHT_UP = 0.1
"""Points of training accuracy: one and a half of the images."""
LEVEL = 0.95

SETTINGS = [(rate, name) for rate in STABLE for name in ADAMODS]
"""Where AdaMod is held to Adam: rates at which Adam trains well, both values of beta3."""


def place(rate: float, name: str) -> str:
    return f"{rate:g} with {ADAMODS[name]:g}"


def loss_after(t: Trainings, method: Method, rate: float, epochs: int) -> np.ndarray:
    """Return the training loss, a number a seed."""
    return np.asarray(t.curves("loss", method, rate)[:, epochs - 1])


def fastest(t: Trainings, name: str, epochs: int) -> tuple[float, np.ndarray]:
    """Return the rate with the smallest mean loss after so many epochs, and the losses there."""
    losses = {rate: loss_after(t, METHODS[name], rate, epochs) for rate in RATES}
    rate = min(losses, key=lambda each: float(losses[each].mean()))
    return rate, losses[rate]


def momentum_is_slow(t: Trainings) -> Judged:
    """Judge whether Momentum is behind Adam early in training."""
    found = {n: (fastest(t, MOMENTUM, n), fastest(t, ADAM, n)) for n in EARLY}
    tests = corrected(
        [
            sign(f"digits, training loss after {n} epochs: Momentum less Adam", a - b)
            for n, ((_, a), (_, b)) in found.items()
        ]
    )
    verdicts = {f"after {n} epochs": ahead(test) for n, test in zip(EARLY, tests, strict=True)}
    finding = Finding(
        "adamod/sgd-slow-early",
        "training loss "
        + "; ".join(
            f"after {n} epochs {a.mean():.2g} by Momentum at {r:g}, {b.mean():.2g} by Adam at {s:g}"
            f" ({counted(test, 'larger')})"
            for (n, ((r, a), (s, b))), test in zip(found.items(), tests, strict=True)
        ),
        "Momentum's loss is larger, each at the rate that is the fastest till then: " + listed(verdicts, tests),
        *everywhere(verdicts, "times"),
    )
    return Judged([finding], tests)


def faster_on_the_test_set(t: Trainings) -> Judged:
    """Judge whether AdaMod needs fewer epochs than Adam."""

    def epochs(name: str, rate: float) -> np.ndarray:
        return epochs_to(t.curves("accuracy", METHODS[name], rate), LEVEL)

    tests = corrected(
        [
            sign(
                f"digits, epochs to 95 % test accuracy at {rate:g}: Adam less {name}",
                epochs(ADAM, rate) - epochs(name, rate),
            )
            for rate, name in SETTINGS
        ]
    )
    verdicts = {place(*setting): ahead(test) for setting, test in zip(SETTINGS, tests, strict=True)}
    finding = Finding(
        "adamod/faster-on-the-test-set",
        "epochs to 95 % test accuracy: "
        + "; ".join(
            f"at {rate:g} Adam {epochs(ADAM, rate).mean():.1f}, AdaMod "
            + ", ".join(f"{epochs(name, rate).mean():.1f} with {b:g}" for name, b in ADAMODS.items())
            for rate in STABLE
        ),
        "AdaMod needs fewer, at rates at which no seed of Adam is lost: "
        + listed([f"{where} {counted(test, 'fewer')}," for where, test in zip(verdicts, tests, strict=True)], tests),
        *everywhere(verdicts, "settings"),
    )
    return Judged([finding], tests)


def slow_early_epochs(t: Trainings) -> Judged:
    """Judge whether AdaMod, which differs from Adam by the bound alone, is behind it early."""
    cases = [(rate, name, n) for rate, name in SETTINGS for n in EARLY]
    tests = corrected(
        [
            sign(
                f"digits, training loss after {n} epochs at {rate:g}: {name} less Adam",
                loss_after(t, METHODS[name], rate, n) - loss_after(t, METHODS[ADAM], rate, n),
            )
            for rate, name, n in cases
        ]
    )
    by_case = dict(zip(cases, tests, strict=True))
    verdicts = {place(*s): worst({str(n): ahead(by_case[(*s, n)]) for n in EARLY}) for s in SETTINGS}

    def losses(method: Method, rate: float) -> str:
        return " and ".join(f"{loss_after(t, method, rate, n).mean():.2g}" for n in EARLY)

    finding = Finding(
        "adamod/slow-early-epochs",
        f"training loss after {EARLY[0]} and {EARLY[1]} epochs: "
        + "; ".join(
            f"at {rate:g} {losses(METHODS[ADAM], rate)} by Adam, by AdaMod "
            + ", ".join(f"{losses(METHODS[name], rate)} with {b:g}" for name, b in ADAMODS.items())
            for rate in STABLE
        ),
        f"AdaMod's loss is larger at both times: sign, n = {len(tests[0].data['differences'])}, Holm over {len(tests)}:"
        f" the largest p is {max(test.corrected for test in tests):.2g}",
        *everywhere(verdicts, "settings"),
    )
    return Judged([finding], tests)


def catches_up(t: Trainings) -> Judged:
    """Judge whether AdaMod is level with Adam before the rate falls."""

    def learned(name: str, rate: float, epochs: int) -> np.ndarray:
        return 100 * np.asarray(t.curves("train_accuracy", METHODS[name], rate)[:, epochs - 1])

    cases = [(rate, name, n) for rate, name in SETTINGS for n in MID_TERM]
    tests = corrected(
        [
            equivalence(
                f"digits, training accuracy after {n} epochs at {rate:g}: {name} less Adam",
                learned(name, rate, n) - learned(ADAM, rate, n),
                CAUGHT_UP,
            )
            for rate, name, n in cases
        ]
    )
    by_case = dict(zip(cases, tests, strict=True))
    verdicts = {place(*s): worst({str(n): alike(by_case[(*s, n)]) for n in MID_TERM}) for s in SETTINGS}
    finding = Finding(
        "adamod/catches-up",
        "training accuracy less Adam's: "
        + "; ".join(
            f"{place(rate, name)} "
            + ", ".join(
                f"{(learned(name, rate, n) - learned(ADAM, rate, n)).mean():+.2f} points after {n}"
                for n in (EARLY[0], *MID_TERM)
            )
            for rate, name in SETTINGS
        ),
        f"equivalent within {CAUGHT_UP:g} points after {MID_TERM[0]} and {MID_TERM[1]} epochs: paired equivalence, own"
        f" deviation, Holm over {len(tests)}: the largest p is {max(test.corrected for test in tests):.2g}",
        *everywhere(verdicts, "settings"),
    )
    return Judged([finding], tests)


def judged(t: Trainings) -> Judged:
    """Return all findings of this module."""
    return merged(part(t) for part in (momentum_is_slow, faster_on_the_test_set, slow_early_epochs, catches_up))
