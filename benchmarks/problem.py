"""What is optimized: leaves of float32 parameters with a gradient that does not change."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

import adamod_array
from adamod_array import Method

LR = 1e-3
WARMUP = 8
"""Steps before any is timed: they compile, touch every page, and take RAdam into its rectified branch."""


@dataclass(frozen=True)
class Problem:
    """So many leaves of so many elements."""

    leaves: int
    size: int

    def __str__(self) -> str:
        return f"{self.leaves}x{self.size}"

    @staticmethod
    def parse(text: str) -> Problem:
        """The problem that prints so."""
        leaves, _, size = text.partition("x")
        return Problem(int(leaves), int(size))

    @property
    def elements(self) -> int:
        """All parameters."""
        return self.leaves * self.size

    def params(self) -> list[np.ndarray[Any, Any]]:
        """Zeros, so that the parameters after a few steps are the updates and nothing else."""
        return [np.full(self.size, 0, np.float32) for _ in range(self.leaves)]  # written, not merely promised

    def grads(self) -> list[np.ndarray[Any, Any]]:
        """The same in every process."""
        rng = np.random.default_rng(0)
        return [rng.standard_normal(self.size, np.float32) for _ in range(self.leaves)]

    def check(self, params: list[np.ndarray[Any, Any]], method: Method, steps: int, rtol: float = 1e-4) -> None:
        """Hold a sample of the parameters after some steps to the method's rule in float64.

        Raises
        ------
        AssertionError
            An update differs by more than ``rtol`` of the largest.
        """
        sample = slice(None, None, max(1, self.size // 1000))
        state = adamod_array.init(method, [np.zeros(len(p[sample])) for p in params], LR)
        grads = [g[sample].astype(np.float64) for g in self.grads()]
        with adamod_array.engine("eager"):
            for _ in range(steps):
                state = adamod_array.step(state, grads)
        for p, expected in zip(params, state.params, strict=True):
            np.testing.assert_allclose(p[sample], expected, rtol=0, atol=rtol * np.abs(expected).max())
