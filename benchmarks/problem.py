"""What is optimized: leaves of float32 or complex64 parameters, and the gradients of each step."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

import adamod_array
from adamod_array import Method
from benchmarks.models import MODELS, Shape

LR = 1e-3
COMPLEX = " complex64"
"""What ends the name of a problem with such parameters."""
WARMUP = 8
"""Steps before any is timed: they compile, touch every page, and take RAdam into its rectified branch."""
SETS = 2
"""Of gradients, which take turns: no step meets the arrays of the step before, as in training."""


@dataclass(frozen=True)
class Problem:
    """So many leaves of so many elements, as ``100x1000`` or ``1x1000 complex64``, or a model of :data:`MODELS`."""

    name: str

    def __str__(self) -> str:
        return self.name

    @cached_property
    def shapes(self) -> tuple[Shape, ...]:
        """Return the shape of every leaf."""
        if self.name in MODELS:
            return MODELS[self.name]
        leaves, size = map(int, self.name.removesuffix(COMPLEX).split("x"))
        return ((size,),) * leaves

    @property
    def is_complex(self) -> bool:
        """Return whether parameters are complex64."""
        return self.name.endswith(COMPLEX)

    @property
    def elements(self) -> int:
        """All parameters."""
        return sum(map(math.prod, self.shapes))

    def params(self) -> list[np.ndarray[Any, Any]]:
        """Zeros, so that the parameters after a few steps are the updates and nothing else."""
        dtype = np.complex64 if self.is_complex else np.float32
        return [np.full(shape, 0, dtype) for shape in self.shapes]  # written, not merely promised

    def grads(self, turn: int) -> list[np.ndarray[Any, Any]]:
        """Return the set of that number: the same in every process, and unlike the others."""
        rng = np.random.default_rng(turn)
        if not self.is_complex:
            return [rng.standard_normal(shape, np.float32) for shape in self.shapes]
        return [rng.standard_normal((*shape, 2), np.float32).view(np.complex64)[..., 0] for shape in self.shapes]

    def check(self, params: list[np.ndarray[Any, Any]], method: Method, steps: int, rtol: float = 1e-4) -> None:
        """Hold a sample of the parameters after some steps to the method's rule in float64.

        Raises
        ------
        AssertionError
            An update differs by more than ``rtol`` of the largest.
        """
        wide = np.complex128 if self.is_complex else np.float64

        def sample(arrays: list[np.ndarray[Any, Any]]) -> list[np.ndarray[Any, Any]]:
            return [x.reshape(-1)[:: max(1, x.size // 1000)].astype(wide) for x in arrays]

        sets = [sample(self.grads(turn)) for turn in range(SETS)]
        state = adamod_array.init(method, [np.zeros_like(g) for g in sets[0]], LR)
        with adamod_array.engine("eager"):
            for step in range(steps):
                state = adamod_array.step(state, sets[step % SETS])
        for p, expected in zip(sample(params), state.params, strict=True):
            np.testing.assert_allclose(p, expected, rtol=0, atol=rtol * np.abs(expected).max())
