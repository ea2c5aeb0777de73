"""The global norm, and gradients clipped by it."""

from __future__ import annotations

import math
from typing import Any

import mpmath
import numpy as np
import optree
import pytest

from adamod_array import clip_by_global_norm, global_norm
from tests.backend import Backend
from tests.compare import assert_close
from tests.trees import assert_same, bits, tree, values

COMPUTED_IN = {"float16": "float32", "bfloat16": "float32", "complex64": "float32", "complex128": "float64"}


def exact_norm(*arrays: Any) -> Any:
    """In 50 digits, rounded to double."""
    with mpmath.workdps(50):
        numbers = [mpmath.mpmathify(complex(x)) for array in arrays for x in np.asarray(array).ravel()]
        return np.float64(mpmath.sqrt(mpmath.fsum(abs(x) ** 2 for x in numbers)))


# global_norm


def test_three_four_five(backend: Backend, dtype: str) -> None:
    grads = {"w": backend.array([3.0, 0.0], dtype), "none": None, "b": [backend.array(4.0, dtype)]}
    norm = global_norm(grads)
    assert tuple(norm.shape) == ()
    expected = backend.array(5.0, COMPUTED_IN.get(dtype, dtype))
    assert norm.dtype == expected.dtype
    assert_close(backend.numpy(norm), backend.numpy(expected))


def test_a_bare_array(backend: Backend) -> None:
    assert_close(backend.numpy(global_norm(backend.array([[2.0, 3.0], [6.0, 0.0]]))), np.float32(7))


def test_against_the_exact_norm(backend: Backend, dtype: str) -> None:
    x = [values(7), values(2, 3, seed=1), values(1, seed=2)]
    if "complex" in dtype:
        x = [a + 1j * a[..., ::-1] for a in x]
    norm = backend.numpy(global_norm([backend.array(a, dtype) for a in x]))
    # values have 5 bits, so squares are exact: at most 14 additions of half a unit, halved by the root, which adds one
    assert_close(norm, exact_norm(*x), ulp=8)


def test_the_widest_dtype_wins(backend: Backend) -> None:
    dtypes = [d for d in backend.table["dtypes"] if d in ("float16", "bfloat16", "float32")]
    narrow = {d: backend.array([2.0], d) for d in dtypes}
    assert global_norm(narrow).dtype == backend.array(0.0, "float32").dtype
    wide = global_norm({**narrow, "w": backend.array([1.0], "float64"), "z": backend.array([1.0 + 1j], "complex64")})
    assert wide.dtype == backend.array(0.0, "float64").dtype
    assert_close(backend.numpy(wide), np.sqrt(4.0 * len(dtypes) + 3), ulp=1)


def test_16_bits_do_not_overflow(backend: Backend) -> None:
    if "float16" not in backend.table["dtypes"]:
        pytest.skip("no float16")
    assert_close(backend.numpy(global_norm(backend.array([3e4, 4e4], "float16"))), np.float32(5e4))


def test_empty_arrays_count_nothing(backend: Backend) -> None:
    empty = backend.array(np.ones((0, 3)))
    assert_close(backend.numpy(global_norm(empty)), np.float32(0))
    assert_close(backend.numpy(global_norm([empty, backend.array([2.0])])), np.float32(2))


@pytest.mark.parametrize("bad", [math.inf, -math.inf, math.nan])
def test_what_is_not_finite(backend: Backend, bad: float) -> None:
    assert_close(backend.numpy(global_norm([backend.array([1.0, bad])])), np.float32(abs(bad)))


@pytest.mark.only("numpy", "torch", "jax", "strict", "cupy")  # Dask's arrays warn when the caller computes them
def test_squares_overflow_silently(backend: Backend) -> None:
    assert_close(backend.numpy(global_norm(backend.array([1e30, 1.0]))), np.float32(math.inf))


# clip_by_global_norm


@pytest.mark.parametrize("max_norm", [5.0, 7.0, math.inf, 5])
def test_below_the_limit_no_bit_changes(backend: Backend, dtype: str, max_norm: float) -> None:
    grads = {"w": backend.array([3.0, 0.0], dtype), "none": None, "b": (backend.array([-4.0], dtype),)}
    clipped = clip_by_global_norm(grads, max_norm)
    assert bits(backend, clipped) == bits(backend, grads)
    assert_same(backend, clipped, grads)


def test_above_the_limit_the_norm_is_the_limit(backend: Backend, dtype: str) -> None:
    grads = {"w": backend.array([24.0, 0.0], dtype), "none": None, "b": (backend.array([-32.0], dtype),)}
    expected = {"w": backend.array([3.0, 0.0], dtype), "none": None, "b": (backend.array([-4.0], dtype),)}
    assert_same(backend, clip_by_global_norm(grads, 5.0), expected)


def test_directions_are_kept(backend: Backend) -> None:
    grads, limit = tree(backend), 0.7
    host = [backend.numpy(g) for g in optree.tree_leaves(grads)]
    scale = limit / exact_norm(*host)
    # norm (8 units, as above), quotient and product
    for clipped, g in zip(optree.tree_leaves(clip_by_global_norm(grads, limit)), host, strict=True):
        assert_close(backend.numpy(clipped), g.astype(np.float64) * scale, ulp=10)


def test_zero_gradients_stay_zero(backend: Backend, dtype: str) -> None:
    """0/0 is nowhere, not even as a warning."""
    zero = [backend.array([0.0, 0.0], dtype)]
    assert_same(backend, clip_by_global_norm(zero, 1.0), zero)


def test_every_kind_of_limit(backend: Backend, dtype: str) -> None:
    grads = [backend.array(values(5), dtype)]
    expected = clip_by_global_norm(grads, 0.75)
    limits: list[Any] = [np.float64(0.75), np.float32(0.75), np.asarray(0.75), backend.array(0.75, "float64")]
    for limit in limits:
        assert_same(backend, clip_by_global_norm(grads, limit), expected)


def test_gradients_are_not_written(backend: Backend) -> None:
    grads = tree(backend)
    before = bits(backend, grads)
    clip_by_global_norm(grads, 0.5)
    assert bits(backend, grads) == before


@pytest.mark.filterwarnings(r"ignore:(overflow|invalid value) encountered:RuntimeWarning")
@pytest.mark.parametrize("bad", [math.nan, math.inf, 1e30])
def test_a_norm_that_is_not_finite_gives_nan(backend: Backend, bad: float) -> None:
    """Zeros instead would hide it: the last one is finite, and its square is not."""
    clipped = clip_by_global_norm([backend.array([bad, 1.0]), backend.array([2.0])], 1.0)
    assert_close(backend.numpy(clipped[0]), np.full(2, np.nan, np.float32))
    assert_close(backend.numpy(clipped[1]), np.full(1, np.nan, np.float32))


# errors


@pytest.mark.parametrize("empty", [{}, [], None, {"a": None}], ids=repr)
def test_nothing_to_measure(backend: Backend, empty: Any) -> None:
    with pytest.raises(ValueError, match="grads has no arrays"):
        global_norm(empty)
    with pytest.raises(ValueError, match="grads has no arrays"):
        clip_by_global_norm(empty, 1.0)


def test_leaves_that_are_no_floating_arrays(backend: Backend) -> None:
    for bad in (1.0, "slope", backend.array([1], "int32")):
        with pytest.raises(TypeError, match=r"grads\['w'\]\[1\] must"):
            global_norm({"w": [backend.array([1.0]), bad]})
        with pytest.raises(TypeError, match=r"grads\['w'\]\[1\] must"):
            clip_by_global_norm({"w": [backend.array([1.0]), bad]}, 1.0)


@pytest.mark.only("torch", "jax", "strict", "dask", "cupy")
def test_leaves_of_two_frameworks(backend: Backend) -> None:
    with pytest.raises(TypeError, match=r"grads mix frameworks: grads\[0\] .* grads\[1\] is a numpy array"):
        global_norm([backend.array([1.0]), np.ones(1)])


@pytest.mark.only("strict")
def test_leaves_on_two_devices(backend: Backend) -> None:
    other = Backend(backend.name, "device1" if backend.device == "CPU_DEVICE" else "CPU_DEVICE", backend.engine)
    with pytest.raises(ValueError, match=r"grads\[1\] must be on .*device"):
        global_norm([backend.array([1.0]), other.array([1.0])])


@pytest.mark.parametrize(
    "bad", [0, 0.0, -1.0, math.nan, np.float32(0), np.float64(math.nan), np.asarray(-1.0)], ids=repr
)
def test_limits_that_are_not_positive(backend: Backend, bad: Any) -> None:
    with pytest.raises(ValueError, match="max_norm must be positive"):
        clip_by_global_norm(tree(backend), bad)


@pytest.mark.parametrize("bad", ["1", None, 1j, True], ids=repr)
def test_limits_that_are_no_numbers(backend: Backend, bad: Any) -> None:
    with pytest.raises(TypeError, match="max_norm must be"):
        clip_by_global_norm(tree(backend), bad)


def test_a_limit_that_is_a_vector(backend: Backend) -> None:
    with pytest.raises(ValueError, match="max_norm must be one number"):
        clip_by_global_norm(tree(backend), backend.array([1.0, 2.0]))
