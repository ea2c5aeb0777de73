"""docs/examples/problems.py: its transform, its gradients, and both recoveries, on NumPy's arrays and on CuPy's."""

from __future__ import annotations

import runpy
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from adamod_array import adamod_init, adamod_step, engine
from tests.backend import Backend
from tests.compare import assert_close

pytestmark = [pytest.mark.only("numpy", "cupy"), pytest.mark.slow("cupy")]

PROGRAM = Path(__file__).parent.parent / "docs" / "examples" / "problems.py"
problems = SimpleNamespace(**runpy.run_path(str(PROGRAM)))
SIZE = 16
NUMPY = Backend("numpy", "cpu", "eager")


def deblurring(backend: Backend, dtype: str = "float32") -> tuple[Any, np.ndarray[Any, Any]]:
    """A bright square, out of focus."""
    truth = np.zeros((2 * SIZE, 2 * SIZE))
    truth[8:24, 6:22] = 1
    seen = problems.Deblurring.measured(truth, np.random.default_rng(0))
    return problems.Deblurring(backend.array(seen, dtype)), truth


def phase_retrieval(backend: Backend, dtype: str = "complex64") -> tuple[Any, np.ndarray[Any, Any]]:
    """A field of smooth amplitude and phase."""
    t = np.linspace(-1, 1, SIZE)
    truth = np.exp(-(t[:, None] ** 2) - t**2 + 1j * t * t[:, None])
    masks, amplitudes = problems.PhaseRetrieval.measured(truth, np.random.default_rng(0))
    real = {"complex64": "float32", "complex128": "float64"}[dtype]
    return problems.PhaseRetrieval(backend.array(masks, dtype), backend.array(amplitudes, real)), truth


def recover(problem: Any, lr: float, steps: int) -> Any:
    state = adamod_init(problem.start(), lr=lr, beta3=0.9)
    for _ in range(steps):
        state = adamod_step(state, problem.gradient(state.params), donate=True)
    return state.params


def test_the_transform_is_fouriers(backend: Backend) -> None:
    rng = np.random.default_rng(0)
    x = rng.normal(size=(3, 8, SIZE)) + 1j * rng.normal(size=(3, 8, SIZE))
    found = backend.numpy(problems.dft2(backend.array(x, "complex128")))
    assert_close(found, np.fft.fft2(x, norm="ortho"), atol=1e-14)  # a few roundings of numbers of size 1


@pytest.mark.parametrize("make", [deblurring, phase_retrieval])
def test_the_gradient_is_that_of_the_loss(backend: Backend, make: Any) -> None:
    problem, _ = make(backend, {deblurring: "float64", phase_retrieval: "complex128"}[make])
    rng = np.random.default_rng(1)
    x, d = rng.normal(size=(2, *problem.start().shape))
    if make is phase_retrieval:
        x, d = x + 1j * rng.normal(size=x.shape), d * np.exp(2j)
    dtype = "complex128" if make is phase_retrieval else "float64"
    h = 1e-5
    above, below = (problem.loss(backend.array(x + sign * h * d, dtype)) for sign in (1, -1))
    slope = np.vdot(d, backend.numpy(problem.gradient(backend.array(x, dtype)))).real
    # central differences are off by h**2/6 times a third derivative of some hundreds, and 2**-53/h times the loss
    assert_close((above - below) / (2 * h), slope, atol=1e-6)


def test_an_image_comes_back_from_its_blurred_picture(backend: Backend) -> None:
    problem, truth = deblurring(backend)
    errors = [np.mean((backend.numpy(x) - truth) ** 2) for x in (problem.start(), recover(problem, 0.05, 150))]
    assert errors[1] < errors[0] / 4


def test_a_field_comes_back_from_intensities(backend: Backend) -> None:
    problem, truth = phase_retrieval(backend)
    found = backend.numpy(recover(problem, 0.1, 150))
    overlap = np.vdot(found, truth)
    error = np.linalg.norm(found * overlap / abs(overlap) - truth) / np.linalg.norm(truth)
    assert error < 0.05  # the noise is 0.01


@pytest.mark.only("cupy")
def test_the_image_has_numpys_bits(backend: Backend) -> None:
    """Blur and slopes are sums and products one after the other, which both frameworks round alike."""
    here = backend.numpy(recover(deblurring(backend)[0], 0.03, 20))
    with engine("eager"):
        there = recover(deblurring(NUMPY)[0], 0.03, 20)
    assert_close(here, there)
