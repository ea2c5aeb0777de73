"""What must hold: the ratios that the library is held to, and what was measured."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from benchmarks.models import MODELS

Times = Mapping[tuple[str, str], Mapping[str, list[float]]]
"""Seconds a step in every round, by heat and problem, then by contender."""


@dataclass(frozen=True)
class Ratio:
    """Median and quartiles of the ratio of two contenders, round by round: slow spells of the machine cancel."""

    low: float
    median: float
    high: float

    @staticmethod
    def of(numerator: list[float], denominator: list[float]) -> Ratio:
        """How many times the denominator's time is the numerator's."""
        return Ratio(*np.quantile(np.asarray(numerator) / np.asarray(denominator), (0.25, 0.5, 0.75)).tolist())

    def __str__(self) -> str:
        return f"{self.median:.2f} ({self.low:.2f} to {self.high:.2f})"


@dataclass(frozen=True)
class Bar:
    """``slow`` takes at least ``bound`` times as long as ``fast``, or at most."""

    text: str
    method: str
    """Or heat: with the problem, what names a race."""
    fast: str
    slow: str
    bound: float
    problem: str = ""
    """The large one where it is not said."""
    at_most: bool = False

    def measured(self, times: Times, large: str) -> Ratio | None:
        """The ratio, or None where the run did not include it."""
        found = times.get((self.method, self.problem or large))
        if found is None:
            return None
        fast = found[f"{self.method} | {self.fast}"]
        return Ratio.of(found[self.slow if "|" in self.slow else f"{self.method} | {self.slow}"], fast)

    def verdict(self, ratio: Ratio) -> tuple[str, bool]:
        """Return the bar in words, and whether it is met."""
        if self.at_most:
            return f"at most {self.bound:.3g}", ratio.median <= self.bound
        return f"at least {self.bound:.3g}", ratio.median >= self.bound


NUMBA, ALONE, TORCH, JAX = "NumPy + Numba, donated", "NumPy alone, donated", "PyTorch, donated", "JAX, donated"
FRESH, TORCH_FRESH = "NumPy + Numba, fresh", "PyTorch, fresh"
USERS = "JAX, in the user's jit, donated"
LIMIT, NAIVE = "limit: a loop that only adds", "naive NumPy"
FUSED, FOREACH, OPTAX = "torch Adam, fused", "torch Adam, foreach", "optax adam, jitted, donated"
COMPACT = ", slots in bfloat16"
"""Of AdaMod, m and s; of Adam, both."""
PLAIN = "PyTorch, plain tensors, donated"
LEAVES, SMALL, MANY = "100x1000", "1x1000", "1000x1000"
PAIRS = "1x20000000 complex64"
FIRST = "first step"
"""A heat of Adam's."""

PEERS = {NUMBA: FUSED, TORCH: FUSED, JAX: OPTAX, USERS: OPTAX}
"""What each is held to where Adam steps a model."""
FIRST_STEPS = (JAX, USERS, OPTAX)
"""Who takes part in that heat."""


def _short(name: str) -> str:
    return name.removesuffix(", donated")


SPEED = (
    Bar("NumPy + Numba AdaMod: share of the limit", "AdaMod", NUMBA, LIMIT, 0.95),
    Bar("NumPy + Numba Adam: share of the limit", "Adam", NUMBA, LIMIT, 0.95),
    Bar("NumPy + Numba AdaMod: times as fast as naive NumPy", "AdaMod", NUMBA, NAIVE, 5),
    Bar("NumPy + Numba Adam: times as fast as naive NumPy", "Adam", NUMBA, NAIVE, 5),
    Bar("NumPy alone, AdaMod: times as fast as naive NumPy", "AdaMod", ALONE, NAIVE, 2),
    Bar("NumPy alone, Adam: times as fast as naive NumPy", "Adam", ALONE, NAIVE, 2),
    *(
        Bar(f"{fresh} {method}: time of a donated step", method, donated, fresh, 1.5, at_most=True)
        for method in ("AdaMod", "Adam")
        for donated, fresh in ((NUMBA, FRESH), (TORCH, TORCH_FRESH))
    ),
    Bar("PyTorch Adam: times as fast as torch Adam, fused", "Adam", TORCH, FUSED, 1),
    Bar("PyTorch AdaMod: times as fast as pytorch_optimizer's", "AdaMod", TORCH, "pytorch_optimizer AdaMod", 3),
    Bar("PyTorch AdaMod: times as fast as the authors'", "AdaMod", TORCH, "the authors' AdaMod", 5),
    Bar("JAX Adam: times as fast as optax", "Adam", JAX, OPTAX, 1),
    Bar("JAX Adam, in the user's jit: times as fast as optax", "Adam", USERS, OPTAX, 1),
    Bar("JAX RAdam: times as fast as optax", "RAdam", JAX, "optax radam, jitted, donated", 1),
    Bar("JAX RAdam, in the user's jit: times as fast as optax", "RAdam", USERS, "optax radam, jitted, donated", 1),
    Bar("JAX AdaMod: times as fast as optax's Adam (the bytes: 7/9)", "AdaMod", JAX, f"Adam | {OPTAX}", 7 / 9),
    Bar("JAX AdaMod, in the user's jit: the same", "AdaMod", USERS, f"Adam | {OPTAX}", 7 / 9),
    *(
        Bar(
            f"{_short(name)} AdaMod, m and s in bfloat16: times as fast as Adam",
            "AdaMod",
            name + COMPACT,
            f"Adam | {name}",
            1 / 1.05,
        )
        for name in (NUMBA, TORCH)
    ),
    *(
        Bar(
            f"{_short(name)} Adam, m and v in bfloat16: times as fast as in float32",
            "Adam",
            name + COMPACT,
            name,
            1 / 0.9,
        )
        for name in (NUMBA, TORCH)
    ),
    Bar("100 leaves, NumPy + Numba Adam: times as fast as torch fused", "Adam", NUMBA, FUSED, 1, LEAVES),
    Bar("100 leaves, PyTorch Adam: times as fast as torch fused", "Adam", TORCH, FUSED, 1, LEAVES),
    Bar("100 leaves, PyTorch Adam: nn.Parameter against plain tensors", "Adam", PLAIN, TORCH, 1.1, LEAVES, True),
    Bar("one small leaf, NumPy + Numba Adam: times as fast as naive", "Adam", NUMBA, NAIVE, 0.5, SMALL),
    Bar("one small leaf, NumPy + Numba AdaMod: times as fast as naive", "AdaMod", NUMBA, NAIVE, 0.5, SMALL),
    Bar("one small leaf, PyTorch Adam: against NumPy + Numba", "Adam", NUMBA, TORCH, 1.3, SMALL, True),
    Bar("one small leaf, JAX Adam, outside of a jit: against optax, jitted", "Adam", OPTAX, JAX, 2.5, SMALL, True),
    Bar("100 leaves, PyTorch Adam: against NumPy + Numba", "Adam", NUMBA, TORCH, 1.6, LEAVES, True),
    Bar("100 leaves, JAX Adam, outside of a jit: times as fast as optax, jitted", "Adam", JAX, OPTAX, 1, LEAVES),
    *(
        Bar(f"complex64, {_short(ours)} {method}: share of the limit", method, ours, LIMIT, bound, PAIRS)
        for method in ("AdaMod", "Adam")
        for ours, bound in ((NUMBA, 0.9), (TORCH, 0.9), (JAX, 0.85))
    ),
    *(
        Bar(f"{model}, {_short(ours)} Adam: times as fast as {_short(peer)}", "Adam", ours, peer, 1, model)
        for model in MODELS
        for ours, peer in PEERS.items()
    ),
    *(
        Bar(f"1,000 leaves, {_short(ours)} Adam: first step against optax's", FIRST, OPTAX, ours, 1.5, MANY, True)
        for ours in FIRST_STEPS[:-1]
    ),
)

MEMORY_BARS = [
    f"{method} | {name}" for method in ("AdaMod", "Adam") for name in (NUMBA, ALONE, TORCH, JAX, FRESH, TORCH_FRESH)
]
DONATED_MEMORY = 0.02
FRESH_MEMORY = 1.005
"""The new state and, of each array, the page that it does not fill."""


def verdicts(times: Times, memory: Mapping[str, float], large: str) -> Iterator[tuple[str, str, str, bool]]:
    """Of every bar that was measured: what, the bar, the measurement, and whether it is met."""
    for bar in SPEED:
        if (ratio := bar.measured(times, large)) is not None:
            bound, met = bar.verdict(ratio)
            yield bar.text, bound, str(ratio), met
    for key in MEMORY_BARS:
        if (share := memory.get(key)) is not None:
            method, _, name = key.partition(" | ")
            most = FRESH_MEMORY if name in (FRESH, TORCH_FRESH) else DONATED_MEMORY
            text = f"{name}, {method}: peak memory beyond the state"
            yield text, f"at most {most:.0%}", f"{share:.1%}", share <= most
