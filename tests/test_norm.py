"""The global norm, and gradients clipped by it."""

from __future__ import annotations

import math
from typing import Any

import mpmath
import numpy as np
import optree
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from adamod_array import clip_by_global_norm, global_norm
from adamod_array._namespace import namespace_of
from tests.backend import Backend, numpy_dtype
from tests.compare import assert_close
from tests.trees import assert_same, bits, leaves, tree, values

COMPUTED_IN = {"float16": "float32", "bfloat16": "float32", "complex64": "float32", "complex128": "float64"}


def exact_norm(*arrays: Any) -> Any:
    """In 50 digits, rounded to long double, whose range no norm leaves."""
    with mpmath.workdps(50):
        numbers = [mpmath.mpmathify(complex(x)) for array in arrays for x in np.asarray(array).ravel()]
        return np.longdouble(mpmath.nstr(mpmath.sqrt(mpmath.fsum(abs(x) ** 2 for x in numbers)), 25))


def lost(backend: Backend, dtype: str) -> float:
    """What may be missing from a small number: a denormal where those are flushed, else its rounding; of two parts."""
    info = np.finfo(COMPUTED_IN.get(dtype, dtype))
    return 2 * float(info.smallest_normal if backend.name in ("jax", "cupy") else info.smallest_subnormal)


def assert_clipped(backend: Backend, grads: list[Any], limit: float, dtype: str) -> None:
    """Norm and clipped gradients against 50 digits, ``grads`` being arrays of that dtype."""
    real = COMPUTED_IN.get(dtype, dtype)
    host = [backend.numpy(g) for g in grads]
    norm, limit = exact_norm(*host), float(numpy_dtype(real).type(limit))
    # of each real number a square and an addition, halved by the root; the root, PyTorch's being 2 units off
    ulp = sum(g.size for g in host) * (2 if "complex" in dtype else 1) / 2 + 2
    if norm < np.finfo(real).max:
        assert_close(backend.numpy(global_norm(grads)), norm, ulp=ulp, atol=lost(backend, dtype))
    for clipped, g in zip(clip_by_global_norm(grads, limit), host, strict=True):
        actual = backend.numpy(clipped)
        expected = g.astype(np.clongdouble if "complex" in dtype else np.longdouble) * min(
            np.longdouble(1), limit / norm
        )
        if dtype in ("float16", "bfloat16"):  # rounded once more: the neighbour, where float32 crossed a tie
            assert_close(actual, expected.astype(np.float64).astype(g.dtype), ulp=1, atol=lost(backend, dtype))
        else:
            # a quotient, a product, and half a unit of the other part of a complex number
            assert_close(actual, expected, ulp=ulp + 3, atol=lost(backend, dtype))


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
@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_a_gradient_that_is_not_finite_makes_all_nan(backend: Backend, bad: float) -> None:
    """Zeros instead would hide it."""
    for dtype in backend.table["dtypes"]:
        numbers = [complex(1.0, bad)] if "complex" in dtype else [bad]
        for limit in (1.0, math.inf):
            grads = [backend.array([*numbers, 1.0], dtype), backend.array([2.0], dtype)]
            for clipped in clip_by_global_norm(grads, limit):
                assert np.isnan(backend.numpy(clipped)).all()
        assert_close(backend.numpy(global_norm(grads)).astype(np.float64), np.float64(abs(bad)))


# large and small numbers, whose squares no dtype holds


def decades(backend: Backend, dtype: str) -> range:
    """From the smallest number of full precision to a hundredth of the largest."""
    low, high = {"float16": (-4, 2), "float64": (-307, 306), "complex128": (-307, 306)}.get(dtype, (-37, 36))
    parts = {"dask": 2, "cupy": 6}.get(backend.name, 18)  # graphs to plan and kernels on the CPU take their time
    return range(low, high + 1, max(1, (high - low) // parts))


def test_squares_that_overflow_or_vanish(backend: Backend) -> None:
    """Three cases in which the squares overflow, and one in which they vanish."""
    for dtype, size in (("float32", 1e20), ("float64", 1e200), ("float16", 6e4), ("float32", 1e-30)):
        if dtype in backend.table["dtypes"]:
            grads = backend.array([size, size], dtype)
            clipped = clip_by_global_norm(grads, 1.0 if size > 1 else size)
            expected = np.float64(math.sqrt(0.5) * min(size, 1.0)).astype(numpy_dtype(dtype))
            assert_close(backend.numpy(clipped), np.full(2, expected), ulp=2)


@pytest.mark.slow("cupy", "dask")
def test_every_magnitude(backend: Backend, dtype: str) -> None:
    """By limits far below, just below and above the norm, in trees that hold nothing and None too."""
    parts = (1 - 0.75j) if "complex" in dtype else 1
    for decade in decades(backend, dtype):
        size = 10.0**decade
        grads = [backend.array(np.asarray(x) * size * parts, dtype) for x in ([0.7, -0.25], [], 0.5, [[1e-3]])]
        for limit in (1e-30, size * 1e-3, size / 3, 1.0, size * 30):
            assert_clipped(backend, grads, limit, dtype)


@pytest.mark.slow("cupy", "dask")
@settings(
    max_examples=60,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(
    precision=st.sampled_from(["float32", "float64"]),
    numbers=st.lists(st.tuples(st.floats(1, 9.9), st.floats(-1, 1), st.sampled_from([-1, 1])), min_size=1, max_size=6),
    limit=st.floats(-1, 1),
)
def test_any_magnitudes_together(
    backend: Backend, precision: str, numbers: list[tuple[float, float, int]], limit: float
) -> None:
    """Of the decades -300 to 300 in float64, -36 to 36 in float32, with any limit among them."""
    reach = 300 if precision == "float64" else 36
    if backend.name in ("jax", "cupy"):
        reach = reach * 9 // 10  # what they flush are numbers that count
    x = [sign * digits * 10.0 ** (reach * decade) for digits, decade, sign in numbers]
    assert_clipped(backend, [backend.array(x, precision)], 10.0 ** (reach * limit), precision)


def test_a_norm_that_is_too_large_to_be_returned(backend: Backend) -> None:
    """It is inf, and yet the gradients are clipped right."""
    for dtype, largest in (("float32", 3e38), ("float64", 1.5e308), ("complex64", 3e38)):
        grads = [backend.array([largest * (1 + 1j) if "complex" in dtype else largest] * 4, dtype)]
        with np.errstate(over="ignore"):  # Dask divides now
            for limit in (1.0, 1e-20, 1e30):
                assert_clipped(backend, grads, limit, dtype)
            assert_close(backend.numpy(global_norm(grads)), numpy_dtype(COMPUTED_IN.get(dtype, dtype)).type(math.inf))
            assert_same(backend, clip_by_global_norm(grads, math.inf), grads)


@pytest.mark.only("numpy", "torch", "strict", "dask")  # the others flush denormals
def test_denormals(backend: Backend) -> None:
    for dtype in ("float32", "float64"):
        tiny = float(np.finfo(dtype).smallest_subnormal)
        assert_close(
            backend.numpy(global_norm(backend.array([3 * tiny, -4 * tiny], dtype))), np.asarray(5 * tiny, dtype)
        )
        assert_clipped(backend, [backend.array([300 * tiny, -400 * tiny], dtype)], 50 * tiny, dtype)


def test_leaves_of_several_dtypes_share_a_scale(backend: Backend) -> None:
    """The widest decides what is large; all are computed in it."""
    has_16_bits = "float16" in backend.table["dtypes"]
    for large in (1e3, 1e30, 1e200):
        grads = [
            backend.array([large, 1.0], "float64"),
            backend.array([1e30, -1.0]),
            backend.array([1e30j], "complex64"),
        ]
        grads += [backend.array([6e4], "float16")] if has_16_bits else []
        host = [backend.numpy(g) for g in grads]
        norm = exact_norm(*host)
        assert_close(backend.numpy(global_norm(grads)), norm, ulp=6)
        for limit in (1.0, large):
            for clipped, g in zip(clip_by_global_norm(grads, limit), host, strict=True):
                wide = g.astype(np.complex128 if g.dtype.kind == "c" else np.float64)
                expected = (wide * float(min(np.longdouble(1), limit / norm))).astype(g.dtype)
                assert_close(backend.numpy(clipped), expected, ulp=6 if g.dtype == np.float64 else 1, atol=1e-44)


def test_bits_of_ordinary_numbers_are_those_of_the_formula(backend: Backend, real_dtype: str) -> None:
    """A scale is a power of two, which no rounding sees: the bits are those of the root of the sum of the squares.

    A kernel adds in float64, whose sum of 39 float32 squares is right to the last bit of float32; of float64 squares
    it is the sum in another order.
    """
    kind = namespace_of(backend.array(1.0))
    assert kind is not None
    dtype = COMPUTED_IN.get(real_dtype, real_dtype)
    for size in (1e-15, 1e-8, 1e-4, 1.0, 1e4) if real_dtype != "float16" else (1e-2, 1.0):
        grads = [backend.array(size * values(33, seed=1), real_dtype), backend.array(size * values(2, 3), real_dtype)]
        wide = [kind.xp.astype(g, kind.dtype(dtype)) for g in grads]
        norm = kind.xp.sqrt(kind.xp.sum(wide[0] * wide[0]) + kind.xp.sum(wide[1] * wide[1]))
        if backend.engine == "numba" and backend.name != "dask":  # whose norm is Dask's own operations
            squares = sum(np.sum(backend.numpy(x).astype(np.longdouble) ** 2) for x in wide)
            norm = global_norm(grads)
            assert_close(backend.numpy(norm), np.sqrt(squares).astype(dtype), ulp=0 if dtype == "float32" else 3)
        else:
            assert_close(backend.numpy(global_norm(grads)), backend.numpy(norm))
        limit = size / 8
        factor = backend.array(limit, dtype) / norm
        expected = [kind.xp.astype(x * factor, g.dtype) for x, g in zip(wide, grads, strict=True)]
        assert_same(backend, clip_by_global_norm(grads, limit), expected)


# on the device, under transformations


@pytest.mark.only("torch")
def test_nothing_is_read() -> None:
    """Tensors without memory have no numbers to wait for."""
    import torch

    grads = {"w": torch.ones(3, device="meta"), "b": torch.ones((), dtype=torch.complex128, device="meta")}
    assert global_norm(grads).dtype == torch.float64
    assert clip_by_global_norm(grads, torch.ones((), device="meta"))["w"].shape == (3,)


@pytest.mark.only("dask")
def test_nothing_is_computed(backend: Backend) -> None:
    import dask

    def refuse(*arguments: Any, **options: Any) -> None:
        raise AssertionError("computed")

    with dask.config.set(scheduler=refuse):
        clip_by_global_norm({"w": backend.array(values(5))}, global_norm(backend.array(values(3))))


@pytest.mark.only("cupy")
def test_arrays_that_are_not_on_the_current_device(backend: Backend) -> None:
    cupy = backend.xp
    if cupy.cuda.runtime.getDeviceCount() < 2:
        pytest.skip("there is one device here")
    with cupy.cuda.Device(1):
        grads = [backend.array([]), backend.array([3e20, -4e20])]
    assert global_norm(grads).device.id == 1
    for limit in (1.0, cupy.asarray(1.0)):
        clipped = clip_by_global_norm(grads, limit)
        assert [g.device.id for g in clipped] == [1, 1]
        assert_close(clipped[1].get(), np.asarray([0.6, -0.8], np.float32), ulp=2)


SIZES = {"ordinary": 1.0, "large": 1e30, "small": 1e-30}


@pytest.mark.only("jax")
@pytest.mark.parametrize("size", SIZES.values(), ids=SIZES)
def test_jax_transformations(size: float) -> None:
    import jax

    x = size * jax.numpy.asarray([3.0, -4.0], "float32")
    for norm in (global_norm, jax.jit(global_norm)):
        assert_close(norm(x), np.float32(size) * 5, ulp=2)
        assert_close(jax.grad(norm)(x), np.asarray([0.6, -0.8], np.float32), ulp=4)
        assert_close(jax.jvp(norm, (x,), (jax.numpy.asarray([0.0, 1.0], x.dtype),))[1], np.float32(-0.8), ulp=4)
    # of g/|g| the derivative is (1 - n n')/|g|: of the first component by both
    by_both = jax.jit(jax.grad(lambda g: clip_by_global_norm({"w": g}, size * 1e-2)["w"][0]))(x)
    assert_close(by_both, np.asarray([0.64, 0.48]) * 2e-3, atol=1e-8)
    rows = jax.numpy.stack([x, x * 1e-3, 0 * x, jax.numpy.full_like(x, jax.numpy.inf)])
    each = jax.vmap(lambda g: clip_by_global_norm(g, size))(rows)
    assert_close(each[0] / np.float32(size), np.asarray([0.6, -0.8], np.float32), ulp=4)
    assert_close(each[1:3], rows[1:3])
    assert np.isnan(each[3]).all()


@pytest.mark.only("torch")
@pytest.mark.parametrize("size", SIZES.values(), ids=SIZES)
def test_torch_transformations(size: float) -> None:
    import torch

    x = size * torch.tensor([3.0, -4.0])
    leaf = x.clone().requires_grad_()
    global_norm({"w": leaf}).backward()
    for gradient in (leaf.grad, torch.func.grad(global_norm)(x)):
        assert_close(gradient, np.asarray([0.6, -0.8], np.float32), ulp=4)
    by_both = torch.func.grad(lambda g: clip_by_global_norm({"w": g}, size * 1e-2)["w"][0])(x)
    assert_close(by_both, np.asarray([0.64, 0.48]) * 2e-3, atol=1e-8)
    rows = torch.stack([x, x * 1e-3, 0 * x, torch.full_like(x, math.inf)])
    each = torch.func.vmap(lambda g: clip_by_global_norm(g, size))(rows)
    assert_close(each[0] / np.float32(size), np.asarray([0.6, -0.8], np.float32), ulp=4)
    assert_close(each[1:3], rows[1:3])
    assert torch.isnan(each[3]).all()


@pytest.mark.only("torch")
@pytest.mark.filterwarnings("ignore:Dynamo detected a call to a `functools.lru_cache`:UserWarning")
def test_inside_torch_compile() -> None:
    """One graph, whatever the numbers; the backend needs no C++ compiler."""
    import torch

    @torch.compile(backend="eager", fullgraph=True)  # type: ignore[untyped-decorator, unused-ignore]
    def clipped(grads: Any) -> Any:
        return clip_by_global_norm(grads, 1.0)

    for size in SIZES.values():
        grads = {"w": torch.full((3,), size), "b": [torch.full((), -size), torch.zeros(0)]}
        for a, e in zip(leaves(clipped(grads)), leaves(clip_by_global_norm(grads, 1.0)), strict=True):
            assert_close(a, e)


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
