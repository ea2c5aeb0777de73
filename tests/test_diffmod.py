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
def diffmod() -> Any:
    """The class as the page has it: its imports and definition, nothing else of the block."""
    for block in blocks(ROOT / "docs" / "own_methods.md"):
        if block.language != "python":
            continue
        tree = ast.parse(block.text)
        if any(isinstance(node, ast.ClassDef) and node.name == "DiffMod" for node in tree.body):
            tree.body = [node for node in tree.body if isinstance(node, (ast.Import, ast.ImportFrom, ast.ClassDef))]
            namespace: dict[str, Any] = {"__name__": __name__}
            exec(compile(tree, block.name, "exec"), namespace)
            return namespace["DiffMod"]
    raise AssertionError("docs/own_methods.md defines no DiffMod")


def expected(weights: Any, gradients: Any, lr: float, betas: tuple[float, float, float], eps: float) -> Any:
    """Typed from the description, one number at a time in 50 digits.

    AdaMod's Algorithm 2, and its step times DiffGrad's friction.
    """
    beta1, beta2, beta3 = map(mpf, betas)
    result = []
    for theta, g_of_t in zip(map(mpf, map(float, weights)), np.transpose(gradients), strict=True):
        m = v = s = g_before = mpf(0)
        for t, g in enumerate(map(mpf, map(float, g_of_t)), start=1):
            m = beta1 * m + (1 - beta1) * g
            v = beta2 * v + (1 - beta2) * g**2
            eta = lr / (mp.sqrt(v / (1 - beta2**t)) + mpf(eps))
            s = beta3 * s + (1 - beta3) * eta
            friction = 1 / (1 + mp.exp(-abs(g_before - g)))
            theta -= friction * min(eta, s) * m / (1 - beta1**t)
            g_before = g
        result.append(float(theta))
    return np.asarray(result)


def rounded(backend: Backend, values: Any, dtype: str) -> Any:
    """The values as the dtype holds them, in double precision."""
    return backend.numpy(backend.array(values, dtype)).astype(np.float64)


def trained(backend: Backend, dtype: str, steps: int, step: Any, weights: Any = WEIGHTS) -> Any:
    state = adamod_array.init(diffmod()(beta3=0.75), backend.array(weights, dtype), lr=LR)
    for g in GRADIENTS[:steps]:
        state = step(state, backend.array(g, dtype))
    assert state.params.dtype == backend.array([0.0], dtype).dtype
    return state


def test_first_step(backend: Backend, real_dtype: str) -> None:
    """From zero, so that nothing hides the update; exp may be 2 ulp off, beside AdaMod's bound; 16 bits round once."""
    state = trained(backend, real_dtype, 1, adamod_array.step, np.zeros(5))
    gradients = rounded(backend, GRADIENTS[:1], real_dtype)
    bound = backend.table["ulp"].get(real_dtype)
    assert_close(
        backend.numpy(state.params),
        expected(np.zeros(5), gradients, LR, (0.9, 0.999, 0.75), 1e-8),
        ulp=0.51 if bound is None else bound + 2,
    )
    assert_close(backend.numpy(state.slots["g_prev"]), gradients[0].astype(backend.numpy(state.slots["g_prev"]).dtype))


@pytest.mark.parametrize("precision", ["float32", "float64"])
def test_twelve_steps(backend: Backend, precision: str) -> None:
    """Each step moves by at most lr, to a few eps, and is rounded into parameters below 2 (what is 8 does not move)."""
    state = trained(backend, precision, 12, adamod_array.step)
    gradients = rounded(backend, GRADIENTS, precision)
    eps = float(np.finfo(precision).eps)
    assert_close(
        backend.numpy(state.params),
        expected(WEIGHTS, gradients, LR, (0.9, 0.999, 0.75), 1e-8),
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
        expected(WEIGHTS, gradients, LR, (0.9, 0.999, 0.75), 1e-8),
        atol=float(np.finfo("float32").eps) * (8 * LR * 12 + 12 * 0.5),
    )
    assert len(traces) == 1
    assert int(state.step) == 12


def test_friction_of_a_constant_gradient(backend: Backend) -> None:
    """A gradient that never changes is stepped at half of AdaMod's length, from the second step on."""
    ours = adamod_array.init(diffmod()(), backend.array([0.0], "float64"), lr=LR)
    plain = adamod_array.init(adamod_array.AdaMod(), backend.array([0.0], "float64"), lr=LR)
    g = backend.array([0.5], "float64")
    ours, plain = (adamod_array.step(state, g) for state in (ours, plain))
    after, after_plain = (adamod_array.step(state, g) for state in (ours, plain))
    half = (backend.numpy(after_plain.params) - backend.numpy(plain.params)) / 2
    # xi is exactly 1/2; the two differences of parameters round
    assert_close(backend.numpy(after.params) - backend.numpy(ours.params), half, ulp=8)
