"""The two trainings on which methods are held to each other, with the margins within which they count as the same."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from reproduction.frame import Values
from reproduction.runs import train_digits, train_transformer


class Task(NamedTuple):
    """What is trained, over which grid."""

    title: str
    run: Callable[..., Values]
    eps: float
    rates: tuple[float, ...]
    beta2: tuple[float, ...]
    measure: Callable[[Values], float]
    unit: str
    better: int
    """The sign of a difference for the better: 1 where more is better, -1 where less is."""
    margin: float
    """Set before anything ran: differences within it count as none."""
    failed: Callable[[float], bool]
    """Whether a training of that measure has not learned at all."""


DIGITS = Task(
    "digits",
    train_digits.train,
    1e-8,
    (1e-4, 1e-3, 1e-2),
    (0.99, 0.997, 0.999),
    lambda values: 100 * float(values["accuracy"][-1]),
    "points of test accuracy",
    1,
    1.0,
    lambda accuracy: accuracy < 50,
)
TRANSFORMER = Task(
    "Transformer",
    train_transformer.train,
    1e-9,
    (1e-3, 3e-3, 1e-2),
    (0.98, 0.99),
    lambda values: float(values["valid"]),
    "nats a character, held out",
    -1,
    0.02,
    lambda loss: loss > 3.0,
)
TASKS = (DIGITS, TRANSFORMER)
