"""The method that docs/own_methods.md writes, taken from the page and run on every backend."""

from __future__ import annotations

import ast
import functools
from typing import Any

import mpmath
import numpy as np
import pytest

import adamod_array
from tests.backend import Backend
from tests.blocks import ROOT, blocks
from tests.compare import assert_close

mp = mpmath.MPContext()
mp.dps = 50
mpf = mp.mpf

LR = 0.0625  # a power of two: rounded to no dtype
WEIGHTS = [1.0, -0.5, 0.25, 0.0, 8.0]
GRADIENTS = np.random.default_rng(5).standard_normal((12, 5)) * [1, 1e-3, 30, 1e-1, 0]


@functools.cache
def fading_max() -> Any:
    """The class as the page has it: its imports and definition, nothing else of the block."""
    for block in blocks(ROOT / "docs" / "own_methods.md"):
        if block.language != "python":
            continue
        tree = ast.parse(block.text)
        if any(isinstance(node, ast.ClassDef) and node.name == "FadingMax" for node in tree.body):
            tree.body = [node for node in tree.body if isinstance(node, (ast.Import, ast.ImportFrom, ast.ClassDef))]
            namespace: dict[str, Any] = {"__name__": __name__}
            exec(compile(tree, block.name, "exec"), namespace)
            return namespace["FadingMax"]
    raise AssertionError("docs/own_methods.md defines no FadingMax")


def expected(weights: Any, gradients: Any, lr: float, betas: tuple[float, float, float], eps: float) -> Any:
    """Typed from the description, one number at a time in 50 digits: the parameters and ``v_max``."""
    beta1, beta2, beta3 = map(mpf, betas)
    result = []
    for theta, g_of_t in zip(map(mpf, map(float, weights)), np.transpose(gradients), strict=True):
        m = v = v_bar = mpf(0)
        for t, g in enumerate(map(mpf, map(float, g_of_t)), start=1):
            m = beta1 * m + (1 - beta1) * g
            v = beta2 * v + (1 - beta2) * g**2
            v_bar = max(beta3 * v_bar, v)
            theta -= lr * (m / (1 - beta1**t)) / (mp.sqrt(v_bar / (1 - beta2**t)) + mpf(eps))
        result.append((float(theta), float(v_bar)))
    return np.asarray(result).T


def rounded(backend: Backend, values: Any, dtype: str) -> Any:
    """The values as the dtype holds them, in double precision."""
    return backend.numpy(backend.array(values, dtype)).astype(np.float64)


def trained(backend: Backend, dtype: str, steps: int, step: Any, weights: Any = WEIGHTS) -> Any:
    state = adamod_array.init(fading_max()(beta3=0.75), backend.array(weights, dtype), lr=LR)
    for g in GRADIENTS[:steps]:
        state = step(state, backend.array(g, dtype))
    assert state.params.dtype == backend.array([0.0], dtype).dtype
    return state


def test_first_step(backend: Backend, real_dtype: str) -> None:
    """From zero, so that nothing hides the update; 16 bits round once."""
    state = trained(backend, real_dtype, 1, adamod_array.step, np.zeros(5))
    gradients = rounded(backend, GRADIENTS[:1], real_dtype)
    params, v_max = expected(np.zeros(5), gradients, LR, (0.9, 0.999, 0.75), 1e-8)
    assert_close(backend.numpy(state.params), params, ulp=backend.table["ulp"].get(real_dtype, 0.51))
    assert_close(backend.numpy(state.slots["v_max"]), v_max, ulp=2)  # a square, and a product with 1 - beta2


@pytest.mark.parametrize("precision", ["float32", "float64"])
def test_twelve_steps(backend: Backend, precision: str) -> None:
    """Each step moves by at most lr, to a few eps, and is rounded into parameters below 2 (what is 8 does not move)."""
    state = trained(backend, precision, 12, adamod_array.step)
    gradients = rounded(backend, GRADIENTS, precision)
    eps = float(np.finfo(precision).eps)
    assert_close(
        backend.numpy(state.params),
        expected(WEIGHTS, gradients, LR, (0.9, 0.999, 0.75), 1e-8)[0],
        atol=eps * (8 * LR * 12 + 12 * 0.5),
    )


@pytest.mark.only("jax")
def test_inside_a_jit_of_the_users(backend: Backend) -> None:
    """Traced once for all steps, with the coefficients traced too."""
    import jax

    traces = []

    @jax.jit
    def step(state: Any, g: Any) -> Any:
        traces.append(1)
        return adamod_array.step(state, g)

    state = trained(backend, "float32", 12, step)
    gradients = rounded(backend, GRADIENTS, "float32")
    assert_close(
        backend.numpy(state.params),
        expected(WEIGHTS, gradients, LR, (0.9, 0.999, 0.75), 1e-8)[0],
        atol=float(np.finfo("float32").eps) * (8 * LR * 12 + 12 * 0.5),
    )
    assert len(traces) == 1
    assert int(state.step) == 12


def test_an_outlier_is_forgotten(backend: Backend) -> None:
    """AMSGrad keeps the lower rate; here the maximum is back at v, which itself forgets, after some hundred steps."""
    method = fading_max()(beta2=0.5, beta3=0.75)
    states = [
        adamod_array.init(each, backend.array([0.0], "float64"), lr=LR)
        for each in (method, adamod_array.Adam(beta2=0.5, amsgrad=True))
    ]
    for gradient in (1.0, 1000.0, *[1.0] * 100):
        states = [adamod_array.step(state, backend.array([gradient], "float64")) for state in states]
    faded, kept = (float(backend.numpy(state.slots["v_max"])[0]) for state in states)
    assert faded == pytest.approx(1.0) and kept == pytest.approx(500_000, rel=0.01)
