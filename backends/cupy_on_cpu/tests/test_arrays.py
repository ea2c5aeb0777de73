"""Creation, ufuncs, reductions and indexing: CuPy's own generated kernels against NumPy."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import cupy as cp
import ml_dtypes
import numpy as np
import pytest

REAL = ["float16", "float32", "float64"]
NUMBERS = ["int8", "uint32", "int64", *REAL, "complex64", "complex128"]


def numbers(dtype: str, shape: tuple[int, ...] = (3, 5)) -> np.ndarray[Any, Any]:
    """Some of every size, exact in every dtype."""
    rng = np.random.default_rng(0)
    x = rng.integers(1, 100, shape).astype(dtype)
    return x + (1j * rng.integers(1, 9, shape)).astype(dtype) if "complex" in dtype else x


CREATED: dict[str, Callable[[Any], Any]] = {
    "zeros": lambda xp: xp.zeros((2, 3), "float16"),
    "ones": lambda xp: xp.ones(4, "complex64"),
    "full": lambda xp: xp.full((2, 0), 7),
    "arange": lambda xp: xp.arange(3, 40, 7),
    "linspace": lambda xp: xp.linspace(0, 1, 9),
    "eye": lambda xp: xp.eye(3, 4, 1),
    "meshgrid": lambda xp: xp.stack(xp.meshgrid(xp.arange(3), xp.arange(2))),
    "concatenate": lambda xp: xp.concatenate([xp.zeros(2), xp.ones(3)]),
    "no dimensions": lambda xp: xp.asarray(2.5),
}


@pytest.mark.parametrize("make", CREATED.values(), ids=CREATED)
def test_creation(make: Callable[[Any], Any]) -> None:
    found, expected = make(cp), make(np)
    assert (found.shape, found.dtype) == (expected.shape, expected.dtype)
    assert (found.get() == expected).all()


@pytest.mark.parametrize("dtype", NUMBERS)
def test_arithmetic(dtype: str) -> None:
    x = numbers(dtype)
    y = x[::-1, ::-1]
    on = cp.asarray(x)
    other = on[::-1, ::-1]
    for found, expected in [
        (on + other, x + y),
        (on - other, x - y),
        (on * on, x * x),
        (-on, -x),
        (on == other, x == y),
    ]:
        assert found.dtype == expected.dtype
        assert (found.get() == expected).all()


@pytest.mark.parametrize("dtype", REAL)
def test_division_and_square_root_are_correctly_rounded(dtype: str) -> None:
    x, y = numbers(dtype, (50,)), numbers(dtype, (50,))[::-1]
    assert ((cp.asarray(x) / cp.asarray(y)).get() == x / y).all()
    assert (cp.sqrt(cp.asarray(x)).get() == np.sqrt(x)).all()


@pytest.mark.parametrize("name", ["exp", "log", "sin", "cos", "tanh", "arctan", "expm1", "log1p", "cbrt"])
@pytest.mark.parametrize("dtype", REAL)
def test_functions_of_one_number(name: str, dtype: str) -> None:
    """By the C library, which NumPy's own functions are within a few ulp of."""
    x = numbers(dtype) / np.asarray(64, dtype)
    expected = getattr(np, name)(x.astype("float64"))
    found = getattr(cp, name)(cp.asarray(x)).get()
    assert found.dtype == dtype
    assert np.abs(found - expected).max() <= 3 * np.spacing(np.abs(expected).max().astype(dtype))


def test_nan_and_infinity() -> None:
    x = np.asarray([np.nan, np.inf, -np.inf, -0.0, 1.0], np.float32)
    on = cp.asarray(x)
    for name in ("isnan", "isinf", "isfinite", "signbit", "abs"):
        assert np.array_equal(getattr(cp, name)(on).get(), getattr(np, name)(x), equal_nan=True)
    assert np.array_equal(cp.maximum(on, 0).get(), np.maximum(x, 0), equal_nan=True)
    assert np.array_equal(cp.fmin(on, 0).get(), np.fmin(x, 0))


REDUCED: dict[str, Callable[[Any, Any], Any]] = {
    "sum": lambda xp, x: x.sum(),
    "sum of columns": lambda xp, x: x.sum(axis=0),
    "sum of rows": lambda xp, x: x.sum(axis=1, keepdims=True),
    "prod": lambda xp, x: (x[0, :3] + 0).prod(),
    "max": lambda xp, x: x.max(axis=1),
    "min": lambda xp, x: x.min(),
    "argmax": lambda xp, x: x.argmax(axis=0),
    "mean": lambda xp, x: x.mean(axis=0),
    "any": lambda xp, x: (x > 98).any(axis=1),
    "all": lambda xp, x: (x > 0).all(),
    "count_nonzero": lambda xp, x: xp.count_nonzero(x > 50),
    "cumsum": lambda xp, x: x.cumsum(),
}


@pytest.mark.parametrize("shape", [(3, 5), (70, 33)], ids=str)
@pytest.mark.parametrize("reduce", REDUCED.values(), ids=REDUCED)
def test_reductions(reduce: Callable[[Any, Any], Any], shape: tuple[int, ...]) -> None:
    """Of integers, whose sums are exact in whatever order: blocks of threads with barriers."""
    x = numbers("float64", shape)
    assert np.allclose(reduce(cp, cp.asarray(x)).get(), reduce(np, x), rtol=1e-15)


def test_indexing() -> None:
    x = np.arange(24.0).reshape(4, 6)
    on = cp.asarray(x)
    rows, mask = np.asarray([3, 0, 3]), x % 5 == 0
    assert (on[1:, ::-2].get() == x[1:, ::-2]).all()
    assert (on[cp.asarray(rows)].get() == x[rows]).all()
    assert (on[cp.asarray(mask)].get() == x[mask]).all()
    on[cp.asarray(rows), 2] = -1
    on[cp.asarray(mask)] = 7
    x[rows, 2] = -1
    x[mask] = 7
    assert (on.get() == x).all()
    assert (cp.where(on > 3, on, 0).get() == np.where(x > 3, x, 0)).all()
    assert (cp.take(on, cp.asarray(rows), axis=1).get() == np.take(x, rows, axis=1)).all()


def test_atomics() -> None:
    where = np.asarray([0, 2, 2, 1, 2])
    x = np.zeros(3)
    np.add.at(x, where, 1.5)
    on = cp.zeros(3)
    cp.add.at(on, cp.asarray(where), 1.5)
    assert (on.get() == x).all()
    assert (cp.bincount(cp.asarray(where)).get() == np.bincount(where)).all()


# sixteen bits


def every_half() -> np.ndarray[Any, Any]:
    return np.arange(2**16, dtype=np.uint16).view(np.float16)


def test_every_float16_widens_and_narrows() -> None:
    x = every_half()
    wide = cp.asarray(x).astype("float32")
    assert np.array_equal(wide.get(), x.astype(np.float32), equal_nan=True)
    back = wide.astype("float16").get()
    assert np.array_equal(back, x, equal_nan=True)


@pytest.mark.parametrize("wide", ["float32", "float64"])
def test_float16_is_rounded_to_nearest_even(wide: str) -> None:
    x = every_half()
    x = x[np.isfinite(x) & (x > 0)].astype(wide)
    middle = (x[1:] + x[:-1]) / 2
    for y in (middle, np.nextafter(middle, 0), np.nextafter(middle, np.inf), np.asarray([65519.9, 65520.0], wide)):
        with np.errstate(over="ignore"):
            assert (cp.asarray(y).astype("float16").get() == y.astype(np.float16)).all()


def test_float16_arithmetic_rounds_once() -> None:
    x = every_half()[1000:31000:7]
    y = x[::-1].copy()
    with np.errstate(over="ignore"):
        assert ((cp.asarray(x) * cp.asarray(y)).get() == x * y).all()
        assert ((cp.asarray(x) / cp.asarray(y)).get() == x / y).all()


def test_every_bfloat16_widens_and_narrows() -> None:
    x = np.arange(2**16, dtype=np.uint16).view(ml_dtypes.bfloat16)
    wide = cp.asarray(x).astype("float32")
    assert np.array_equal(wide.get(), x.astype(np.float32), equal_nan=True)
    found, exact = wide.astype(ml_dtypes.bfloat16).get(), ~np.isnan(x.astype(np.float32))
    assert (found.view(np.uint16)[exact] == x.view(np.uint16)[exact]).all()


def test_bfloat16_is_rounded_to_nearest_even() -> None:
    bits = np.arange(0x3F00_0000, 0x4100_0000, 0x0FFF, dtype=np.uint32)
    halfway = np.arange(0x3F00_8000, 0x4100_0000, 0x1_0000, dtype=np.uint32)
    for x in (bits.view(np.float32), halfway.view(np.float32)):
        found = cp.asarray(x).astype(ml_dtypes.bfloat16).get()
        assert (found.view(np.uint16) == x.astype(ml_dtypes.bfloat16).view(np.uint16)).all()


def test_complex_numbers() -> None:
    x = numbers("complex128")
    on = cp.asarray(x)
    assert (on.real.get() == x.real).all() and (on.imag.get() == x.imag).all()
    assert (on.conj().get() == x.conj()).all()
    assert np.allclose(abs(on).get(), abs(x), rtol=1e-15)
    assert np.allclose(cp.exp(on / 50).get(), np.exp(x / 50), rtol=1e-14)
    assert np.allclose((on / on[::-1]).get(), x / x[::-1], rtol=1e-15)
