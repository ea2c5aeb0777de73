"""What the AdaMod paper says of the ends of its trainings on images, judged on digits."""

from __future__ import annotations

import numpy as np

from reproduction.findings.images_speed import SETTINGS, place
from reproduction.frame import Finding
from reproduction.grids.digits_runs import ADAM, ADAMODS, METHODS, MOMENTUM, Trainings
from reproduction.statistics import corrected, difference, equivalence, plus_minus, sign
from reproduction.tasks import DIGITS
from reproduction.verdicts import Judged, ahead, counted, everywhere, listed, merged, worst

ADAPTIVE = (ADAM, *ADAMODS)


def at_best(t: Trainings, names: tuple[str, ...], what: str = "accuracy") -> str:
    """Return the accuracies of some methods, each at the rate that is best on the test images."""
    found = [(name, METHODS[name]) for name in names]
    return "; ".join(f"{name} {plus_minus(t.at_best(m, what))} at {t.best_rate(m):g}" for name, m in found)


def momentum_is_best(t: Trainings) -> Judged:
    """Judge whether Momentum is better on the test images than the adaptive methods, and than AdaMod."""
    gains = {name: t.at_best(METHODS[MOMENTUM]) - t.at_best(METHODS[name]) for name in ADAPTIVE}
    tests = corrected([difference(f"digits, best rates: Momentum less {name}", x) for name, x in gains.items()])
    found = dict(zip(ADAPTIVE, tests, strict=True))
    findings = [
        Finding(
            f"adamod/sgdm-better-on-{claim}",
            at_best(t, (MOMENTUM, *names)),
            f"Momentum is better, each at its best rate: {listed(names, [found[name] for name in names])}; no margin"
            " decides that it is not (chosen afterwards): one point is wider than the paper's gap with ResNet-34 on"
            " CIFAR-10, 0.2 points",
            *everywhere({name: ahead(found[name]) for name in names}, "methods"),
        )
        for claim, names in (("images", ADAPTIVE), ("simple-models", tuple(ADAMODS)))
    ]
    return Judged(findings, tests)


def trained(t: Trainings, name: str) -> np.ndarray:
    """Return the training loss at the end, at the rate that is best on the test images."""
    return np.asarray(t.curves("loss", METHODS[name], t.best_rate(METHODS[name]))[:, -1])


def training(t: Trainings) -> Judged:
    """Judge whether AdaMod's end in training is the best of the three methods, and better than Momentum's."""
    cases = [(other, name) for name in ADAMODS for other in (MOMENTUM, ADAM)]
    tests = corrected(
        [
            sign(
                f"digits, best rates, training loss at the end: {other} less {name}",
                trained(t, other) - trained(t, name),
            )
            for other, name in cases
        ]
    )
    by_case = dict(zip(cases, tests, strict=True))
    best = {f"{b:g}": worst({o: ahead(by_case[o, name]) for o in (MOMENTUM, ADAM)}) for name, b in ADAMODS.items()}
    better = {f"{b:g}": ahead(by_case[MOMENTUM, name]) for name, b in ADAMODS.items()}
    names = (MOMENTUM, *ADAPTIVE)
    measured = (
        "training loss at the end: "
        + ", ".join(f"{name} {trained(t, name).mean():.2g}" for name in names)
        + f"; training accuracy: {at_best(t, names, 'train_accuracy')}"
    )

    def criterion(others: tuple[str, ...]) -> str:
        return (
            "a smaller training loss, which tells apart what has the same training accuracy, each at its best rate: "
            + listed(
                [f"{name} {counted(by_case[o, name], f'smaller than {o}')}," for o, name in cases if o in others],
                [by_case[o, name] for o, name in cases if o in others],
            )
        )

    findings = [
        Finding(
            "adamod/best-training-accuracy",
            measured,
            criterion((MOMENTUM, ADAM)),
            *everywhere(best, r"values of $\beta_3$"),
        ),
        Finding(
            "adamod/better-training-than-sgdm",
            measured,
            criterion((MOMENTUM,)),
            *everywhere(better, r"values of $\beta_3$"),
        ),
    ]
    return Judged(findings, tests)


def smoothing_helps(t: Trainings) -> Judged:
    """Judge whether AdaMod ends better than Adam where Adam trains well."""
    gains = [t.points(METHODS[name], rate) - t.points(METHODS[ADAM], rate) for rate, name in SETTINGS]
    labels = [f"digits at {rate:g}: {name} less Adam" for rate, name in SETTINGS]
    tests = corrected([difference(label, x) for label, x in zip(labels, gains, strict=True)])
    same = corrected([equivalence(label, x, DIGITS.margin) for label, x in zip(labels, gains, strict=True)])
    places = [place(*setting) for setting in SETTINGS]
    verdicts = {p: ahead(test, equal) for p, test, equal in zip(places, tests, same, strict=True)}
    finding = Finding(
        "adamod/smoothing-helps-where-adam-converges",
        "test accuracy less Adam's: " + "; ".join(f"{p} {plus_minus(x)}" for p, x in zip(places, gains, strict=True)),
        f"better, at rates at which no seed of Adam is lost: {listed(places, tests)}; it does not hold where both are"
        f" equivalent within one point: {listed(places, same)}",
        *everywhere(verdicts, "settings"),
    )
    return Judged([finding], tests + same)


def judged(t: Trainings) -> Judged:
    """Return all findings of this module."""
    return merged(part(t) for part in (momentum_is_best, training, smoothing_helps))
