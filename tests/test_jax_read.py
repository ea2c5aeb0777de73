"""JAX: gradients read once on the CPU, by a kernel that XLA calls: for norms, and to know whether they are finite."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from adamod_array import (
    Adam,
    AdaMod,
    _engines,
    adamod_init,
    all_finite,
    clip_by_global_norm,
    engine,
    global_norm,
    init,
    step,
)
from tests.backend import numpy_dtype
from tests.compare import assert_close
from tests.test_jax_kernel import KERNEL, MESH, SPEC, compiled, jax, jnp, kernels, on_mesh

pytestmark = pytest.mark.only("jax")
from adamod_array._engines import jax as jax_engine  # noqa: E402 - as the rest needs Numba
from adamod_array._engines import xla_read  # noqa: E402

DTYPES = ("float16", "bfloat16", "float32", "float64", "complex64", "complex128")
WAYS: dict[str, Callable[[Any], Any]] = {"known": lambda f: f, "jit": jax.jit}


def numbers(n: int, dtype: str, seed: int = 0) -> Any:
    """Ordinary numbers, and what they are when rounded to the dtype."""
    x = np.random.default_rng(seed).standard_normal((2, n))
    return (x[0] + 1j * x[1] if "complex" in dtype else x[0]).astype(numpy_dtype(dtype))


def exact(*arrays: Any) -> Any:
    wide = [x.astype(np.clongdouble if x.dtype.kind == "c" else np.longdouble).ravel() for x in arrays]
    return np.sqrt(sum((np.sum(x.real**2 + x.imag**2) for x in wide), np.longdouble(0)))


@pytest.mark.parametrize("dtype", DTYPES)
def test_the_norm_is_right_to_the_last_bit_of_float32(dtype: str) -> None:
    """Of arrays without numbers, of parts of a block, of blocks, and of so many that threads read them."""
    for sizes in ((0, 1, 7, 8192, 8193), (300_000, 3)):
        host = [numbers(n, dtype, seed) for seed, n in enumerate(sizes)]
        with jax.enable_x64(True):
            arrays = [jnp.asarray(x) for x in host]
        expected = exact(*host).astype("float64" if dtype in ("float64", "complex128") else "float32")
        for x64 in (True, False):
            with jax.enable_x64(x64):
                for norm in (global_norm(arrays), *([jax.jit(global_norm)(arrays)] if not x64 else [])):
                    assert norm.dtype == expected.dtype
                    assert_close(np.asarray(norm), expected, ulp=0 if expected.dtype == "float32" else 4)
                finite = all_finite(arrays)
                assert finite.dtype == bool and bool(finite)


def test_one_number_among_many() -> None:
    """In any place, whichever dtype it has among the others, and if it is one of two parts."""
    host = {dtype: numbers(140_000, dtype) for dtype in DTYPES}
    with jax.enable_x64(True):
        grads = {dtype: jnp.asarray(x) for dtype, x in host.items()}
        assert bool(all_finite(grads)) and kernels(all_finite, grads) == len(DTYPES)
        for dtype in DTYPES:
            for place, bad in ((0, np.inf), (8192, np.nan), (139_999, -np.inf)):
                spoiled = host[dtype].copy()
                spoiled[place] = complex(0, bad) if "complex" in dtype else bad
                assert not bool(all_finite(grads | {dtype: jnp.asarray(spoiled)}))
                for how in ("jit", "eager"):  # XLA passes over NaN where it looks for the largest of many
                    with engine(how):
                        assert not bool(all_finite(jnp.asarray(spoiled)))
    near = jnp.asarray([1.2e19 + 1.2e19j, 1.8e19, 1.8e19j], "complex64")  # a part is beyond the bound of both
    for read in (all_finite, jax.jit(all_finite)):
        assert bool(read(near)) and not bool(read(near * 1.1))


@pytest.mark.parametrize("way", WAYS.values(), ids=WAYS)
def test_sums_of_float64_that_are_too_large_or_small(way: Callable[[Any], Any]) -> None:
    """XLA's formula then scales the numbers, within the same program."""
    with jax.enable_x64(True):
        for size in (1e-290, 1e-200, 1.0, 1e200, 1e300):
            norm = way(global_norm)(size * jnp.asarray([3.0, -4.0]))
            assert_close(np.asarray(norm), np.float64(size * 5), ulp=2)
        for bad in (np.inf, np.nan):
            assert_close(np.asarray(way(global_norm)(jnp.asarray([1.0, bad]))), np.float64(bad))


def test_no_copy_and_no_temporary() -> None:
    grads = {"w": jnp.ones((700, 300), "float32"), "b": jnp.ones(3, "float32"), "h": jnp.ones(200_000, "bfloat16")}
    for read in (global_norm, all_finite):
        program = compiled(read, grads)
        assert program.as_text().count(KERNEL) == 2  # one call for each dtype
        assert program.memory_analysis().temp_size_in_bytes < 1000
        assert "callback" not in program.as_text()
    state, g = init(AdaMod(), jnp.ones(200_000, "float32")), jnp.zeros(200_000, "float32")
    program = compiled(lambda s, g: step(s, g, max_norm=1.0, where=all_finite), state, g, donated=(0,))
    assert program.as_text().count(KERNEL) == 3  # the norm, whether it is finite, the step
    assert program.memory_analysis().temp_size_in_bytes < 1000


def test_known_arrays_are_read_by_the_kernel(monkeypatch: pytest.MonkeyPatch) -> None:
    """Outside of a program too; and many leaves by several calls."""
    monkeypatch.setattr(xla_read, "LEAVES", 4)
    jax_engine._program.cache_clear()
    grads = [jnp.full(k, 2.0, "float32") for k in range(1, 11)]
    assert float(global_norm(grads)) == np.float32(np.sqrt(4.0 * 55))
    assert kernels(global_norm, grads) == 3
    jax_engine._program.cache_clear()
    with engine("eager"):
        assert float(global_norm(grads)) == np.float32(np.sqrt(4.0 * 55))


def test_denormals_count() -> None:
    """XLA's own loops flush them."""
    grads = jnp.asarray(np.full(10_000, 1e-39, np.float32))
    assert_close(np.asarray(global_norm(grads)), exact(np.full(10_000, 1e-39, np.float32)).astype(np.float32))


X = np.asarray([3.0, -4.0], np.float32)
WITHOUT: dict[str, tuple[Callable[[Any], Any], Any]] = {
    "vmap": (lambda x: jax.vmap(global_norm)(jnp.stack([x, 2 * x])), np.asarray([5, 10], "float32")),
    "vmap of a tree": (lambda x: jax.vmap(lambda k: global_norm([x, k]))(x), np.sqrt(np.asarray([34, 41], "float32"))),
    "finite vmap": (lambda x: jax.vmap(all_finite)(jnp.stack([x, x / 0])), [True, False]),
    "grad": (jax.grad(global_norm), np.asarray([0.6, -0.8], "float32")),
    "jvp": (lambda x: jax.jvp(global_norm, (x,), (x,))[1], np.float32(5)),
    "vmap of grad": (lambda x: jax.vmap(jax.grad(global_norm))(x[None]), np.asarray([[0.6, -0.8]], "float32")),
    "hessian": (lambda x: jax.hessian(global_norm)(x), np.asarray([[0.128, 0.096], [0.096, 0.072]], "float32")),
    "finite grad": (jax.grad(lambda x: jnp.where(all_finite(x), x, 0).sum()), np.asarray([1, 1], "float32")),
    "clipped grad": (
        jax.grad(lambda x: clip_by_global_norm(x, 1.0)[0]),
        np.asarray([0.128, 0.096], "f4"),
    ),
    "shard_map": (
        lambda x: jax.shard_map(lambda g: g / global_norm(g), mesh=MESH, in_specs=SPEC("x"), out_specs=SPEC("x"))(x),
        np.asarray([0.6, -0.8], "float32"),
    ),
    "mesh": (lambda x: global_norm(on_mesh(x)), np.float32(5)),
}


@pytest.mark.parametrize("name", WITHOUT)
def test_what_knows_nothing_of_kernels_gets_the_formula(name: str) -> None:
    way, expected = WITHOUT[name]
    x = jnp.asarray(X)
    assert kernels(way, x) == 0
    for found in (way(x), jax.jit(way)(x)):
        assert_close(np.asarray(found), np.asarray(expected), ulp=4)


def test_the_derivative_of_a_clipped_loss_is_that_of_the_formula() -> None:
    def loss(x: Any) -> Any:
        return jnp.sum(clip_by_global_norm({"a": x, "b": x[:3] ** 2}, 0.5)["a"] ** 3)

    x = jnp.asarray(numbers(50, "float32"))
    with engine("eager"):
        expected = jax.grad(loss)(x)
    for found in (jax.grad(loss)(x), jax.jit(jax.grad(loss))(x)):
        assert_close(np.asarray(found), np.asarray(expected), atol=1e-6)


def test_other_platforms_and_engines() -> None:
    x = jnp.asarray(X)
    for read in (global_norm, all_finite):
        assert "adamod_array_" in jax.jit(read).lower(x).as_text()
        assert "adamod_array_" not in jax.jit(read).trace(x).lower(lowering_platforms=("cuda",)).as_text()
        for name, calls in (("auto", 1), ("jit", 0), ("numba", 1), ("eager", 0)):
            with engine(name):
                assert jax.jit(read).lower(x).as_text().count("adamod_array_") == calls, name
                assert float(read(x)) in (5, True)


def test_clipped_and_guarded_steps_in_loops() -> None:
    """Known arrays, a jit and a scan take the same steps, of which one is not taken."""
    grads = jnp.stack([jnp.asarray(numbers(40_000, "float32", seed)) for seed in range(4)]).at[1, 5].set(jnp.inf)
    start = adamod_init(jnp.ones(40_000, "float32"), lr=0.1)

    def take(state: Any, g: Any) -> tuple[Any, None]:
        return step(state, g, where=all_finite, max_norm=1.0), None

    known = jitted = start
    for g in grads:
        known, jitted = take(known, g)[0], jax.jit(take)(jitted, g)[0]
    scanned = jax.lax.scan(take, jax.tree.map(jnp.asarray, start), grads)[0]
    for found in (known, jitted, scanned):
        assert (int(found.step), int(found.skipped)) == (3, 1)
        for name in ("m", "v", "s"):
            assert_close(np.asarray(found.slots[name]), np.asarray(known.slots[name]))
        assert_close(np.asarray(found.params), np.asarray(known.params))


def test_what_cannot_be_built_is_passed_over(monkeypatch: pytest.MonkeyPatch) -> None:
    """Once, with a warning; then XLA reads the gradients, and kernels step them all the same."""

    def fail(*_: Any) -> Any:
        raise OSError("no compiler today")

    x = jnp.asarray(np.full(77, 2.0, np.float32))
    monkeypatch.setattr(_engines, "passed_over", dict(_engines.passed_over))
    monkeypatch.setattr(jax_engine, "passed_over", _engines.passed_over)
    monkeypatch.setattr(xla_read, "_target", fail)
    with pytest.warns(RuntimeWarning, match="without gradients read at once, .*no compiler today"):
        assert_close(np.asarray(global_norm(x)), np.float32(np.sqrt(308)), ulp=2)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert bool(jax.jit(all_finite)(x)) and not bool(all_finite(x / 0))
        assert kernels(lambda s, g: step(s, g, max_norm=1.0), init(Adam(), x), x) == 1
