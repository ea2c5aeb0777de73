"""JAX: jitted steps have the bits of NumPy's eager rule, and the program that computes them is the one meant."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest

from adamod_array import Adam, AdaMod, Method, Momentum, RAdam, State, engine, host_math, init, schedules, step
from adamod_array._engines import xla
from adamod_array._program.trace import constants, trace
from tests.backend import backends
from tests.compare import assert_close

pytestmark = pytest.mark.only("jax")
jax = pytest.importorskip("jax")
jnp = jax.numpy


@dataclass(frozen=True)
class Quotients(Method):
    """What XLA likes to rewrite: divisors that are constants, roots or scalars, products with several constants."""

    eps: float = 0.3
    factor: float = 0.7

    slots = ("a", "b")

    def coefficients(self, t: Any, math: Any) -> tuple[Any, ...]:
        return (math.sqrt(t + 0.1),)

    def rule(self, xp: Any, lr: Any, c: Any, g: Any, p: Any, *slots: Any) -> tuple[Any, ...]:
        a, b = slots
        square = g * g
        a = (a + g / 3.0) / self.factor + g / c[0]
        a = xp.where(xp.abs(a) > 10.0, a / 7.0, a)
        b = 0.1 * (0.3 * (b * self.factor)) + 1.1 / (square + self.eps)
        p = p - lr * (a / xp.sqrt(b)) + (g / b) / 3.0 - -(square * a) - xp.maximum(a, b) * (a * b)
        return p, a, b


METHODS = [
    Adam(),
    Adam(eps=0.0, eps_root=1e-12),
    Adam(amsgrad=True),
    AdaMod(beta3=0.9),
    AdaMod(variant="reference"),
    AdaMod(hold_idle=True),
    RAdam(beta2=0.9),
    RAdam(below="skip"),
    RAdam(variant="reference"),
    Momentum(),
    Momentum(nesterov=True),
    Quotients(),
]
ENGINES = [each.engine for each in backends("jax")]
SIZES = [(), (1,), (3, 5), (1003,), (0,), (100_003,)]
"""Vectorised loops and what remains after them."""


def trees(dtype: str, steps: int, sizes: Any = SIZES, seed: int = 0) -> tuple[Any, list[Any]]:
    """Parameters and gradients as NumPy arrays, of many magnitudes."""
    rng = np.random.default_rng(seed)

    def draw(shape: Any) -> Any:
        x = rng.normal(size=shape) * 10.0 ** rng.uniform(-4, 2, shape)
        if dtype.startswith("complex"):
            x = x + 1j * rng.normal(size=shape)
        return np.asarray(x).astype(dtype)

    return [draw(shape) for shape in sizes], [[draw(shape) for shape in sizes] for _ in range(steps)]


def arrays(tree: Any) -> Any:
    return jax.tree.map(jnp.asarray, tree)


def by_numpy(method: Method, params: Any, gradients: Any, **options: Any) -> State:
    state = init(method, params, **options)
    with engine("eager"):
        for g in gradients:
            state = step(state, g)
    return state


def assert_same_bits(actual: State, expected: State) -> None:
    for name in ("params", *expected.slots):
        ours, theirs = (x.params if name == "params" else x.slots[name] for x in (actual, expected))
        for a, e in zip(jax.tree.leaves(ours), jax.tree.leaves(theirs), strict=True):
            assert str(a.dtype) == str(e.dtype)
            assert_close(np.asarray(a), e)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("dtype", "options"), [("float32", {"lr": 3e-3, "weight_decay": 0.1}), ("float64", {"lr": 1e-2})]
)
@pytest.mark.parametrize("method", METHODS, ids=repr)
def test_steps_have_the_bits_of_numpy(method: Method, dtype: str, options: Any) -> None:
    """By the library's call, and inside of a user's jit with a constant learning rate."""
    params, gradients = trees(dtype, 12)
    expected = by_numpy(method, params, gradients, **options)
    jitted = jax.jit(step)
    for name in ENGINES:
        ours = theirs = init(method, arrays(params), **options)
        with engine(name):
            for g in gradients:
                ours, theirs = step(ours, arrays(g)), jitted(theirs, arrays(g))
        assert_same_bits(ours, expected)
        assert_same_bits(theirs, expected)


@pytest.mark.parametrize("name", ENGINES)
@pytest.mark.parametrize("method", METHODS[:-1], ids=repr)
def test_complex_steps_have_the_bits_of_numpy(method: Method, name: str) -> None:
    params, gradients = trees("complex64", 5, [(7,), (1003,)])
    expected = by_numpy(method, params, gradients, weight_decay=0.1)
    state = init(method, arrays(params), weight_decay=0.1)
    with engine(name):
        for g in gradients:
            state = step(state, arrays(g))
    assert_same_bits(state, expected)


@pytest.mark.parametrize("name", ENGINES)
@pytest.mark.parametrize("method", [AdaMod(), Momentum()], ids=repr)
@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_sixteen_bits_are_rounded_at_each_step(method: Method, dtype: str, name: str) -> None:
    """XLA may keep more precision than a program asks for: here, between two steps of one program."""
    params, gradients = (arrays(x) for x in trees("float32", 2, [(1003,)]))
    params, gradients = jax.tree.map(lambda x: x.astype(dtype), (params, gradients))
    start = init(method, params, lr=0.1)
    expected = step(step(start, gradients[0]), gradients[1])
    with engine(name):
        together = jax.jit(lambda state, g: step(step(state, g[0]), g[1]))(start, gradients)
    for a, e in zip(jax.tree.leaves(together), jax.tree.leaves(expected), strict=True):
        assert_close(a, e)


WAYS: dict[str, Callable[[State, Any], State]] = {
    "scan": lambda start, g: jax.lax.scan(lambda s, x: (step(s, x), None), start, g)[0],
    "init inside": lambda start, g: jax.jit(lambda p, g: _all(init(start.method, p, lr=start.lr), g))(start.params, g),
    "closure": lambda start, g: jax.jit(lambda g: _all(start, g))(g),
    "constants": lambda start, g: jax.jit(lambda: _all(start, g))(),
    "lr traced": lambda start, g: jax.jit(lambda lr: _all(start, g, lr=lr))(jnp.asarray(start.lr)),
    "checkpoint": lambda start, g: jax.jit(jax.checkpoint(_all))(start, g),
    "jit in jit": lambda start, g: jax.jit(lambda s, g: jax.jit(_all)(s, g))(start, g),
    "gradient": lambda start, g: jax.jit(
        lambda p: jax.value_and_grad(lambda p: _summed(_all(init(start.method, p, lr=start.lr), g)), has_aux=True)(p)
    )(start.params)[0][1],
    "tangent": lambda start, g: jax.jvp(
        lambda lr: _arrays(_all(start, g, lr=lr)), (jnp.asarray(start.lr),), (jnp.ones(()),)
    )[0],
}


def _all(state: State, gradients: Any, lr: Any = None) -> State:
    for g in gradients:
        state = step(state, g, lr=lr)
    return state


def _arrays(state: State) -> Any:
    return state


def _summed(state: State) -> tuple[Any, State]:
    return jnp.sum(state.params), state


@pytest.mark.slow
@pytest.mark.parametrize("name", ENGINES)
@pytest.mark.parametrize("method", [AdaMod(), Momentum(nesterov=True)], ids=repr)
@pytest.mark.parametrize("way", WAYS.values(), ids=WAYS)
def test_every_transformation_keeps_the_bits(way: Callable[[State, Any], State], method: Method, name: str) -> None:
    params, gradients = trees("float32", 6, [(1003,)])
    expected = by_numpy(method, params[0], [g[0] for g in gradients], lr=1e-2)
    start = init(method, jnp.asarray(params[0]), lr=1e-2)
    with engine(name):
        assert_same_bits(way(start, jnp.stack([g[0] for g in gradients])), expected)


@pytest.mark.parametrize("method", [AdaMod(), Momentum(nesterov=True)], ids=repr)
def test_vmap_keeps_the_bits(method: Method) -> None:
    params, gradients = trees("float32", 6, [(5, 1003)])
    expected = by_numpy(method, params, gradients, lr=1e-2)
    states = jax.vmap(lambda p: init(method, p, lr=1e-2))(arrays(params))
    for g in gradients:
        states = jax.jit(jax.vmap(step))(states, arrays(g))
    assert_same_bits(states, expected)


def test_without_x64_the_bits_are_the_same() -> None:
    params, gradients = trees("float32", 12, [(1003,)])
    expected = by_numpy(RAdam(), params, gradients, lr=1e-2)
    with jax.enable_x64(False):
        ours = theirs = init(RAdam(), arrays(params), lr=1e-2)
        for g in gradients:
            ours, theirs = step(ours, arrays(g)), jax.jit(step)(theirs, arrays(g))
        assert_same_bits(ours, expected)
        assert_same_bits(theirs, expected)


def test_xla_flushes_denormals_and_not_this_library() -> None:
    """The processor is told to, by the runtime of XLA: a deviation of backends/jax.toml for as long as this holds."""
    half, smallest = jnp.asarray(0.5, "float32"), jnp.full(100, np.finfo("float32").tiny, "float32")
    assert not jax.jit(jnp.multiply)(smallest, half).any()  # of results
    denormal = jnp.full(100, 1e-40, "float32")
    assert not jax.jit(jnp.multiply)(denormal, jnp.asarray(2.0**60, "float32")).any()  # of arguments
    assert (np.asarray(denormal) != 0).all()


@pytest.mark.parametrize("donate", [False, True])
def test_one_program_for_every_step_and_rate(donate: bool) -> None:
    """And every set of hyperparameters, of which there is no end."""
    params = jnp.ones(117)
    programs = xla.jitted((((True, False, ""), trace(AdaMod(), decay=True)),), donate, True)
    before = programs._cache_size()
    with engine("jit"):
        for t in range(1, 101):
            if t % 10 == 1:
                state = init(AdaMod(beta1=0.77 + t / 1000, eps=1e-8 * t), params + 0, weight_decay=0.1)
            state = step(state, params, lr=0.5 / t, donate=donate)
    assert programs._cache_size() == before + 1


@pytest.mark.parametrize("method", METHODS, ids=repr)
def test_a_donated_step_needs_no_memory(method: Method) -> None:
    """Neither a temporary of AdaMod's eta, which two outputs need, nor copies of slots that others are made from.

    The library's program, and the user's.
    """
    x = jnp.zeros(100_000, "float32")
    scalars = ([method.coefficients(3.0, host_math)], [(1e-3, None)], [[constants(method)]], ())
    arrays = ([x], [[x] for _ in range(1 + len(method.slots))])
    lines = (((False, False, ""), trace(method)),)
    programs = [xla.jitted(lines, True, True).lower(np.uint32(0), ((0,), (0,), (0,)), *scalars, *arrays)]
    with engine("jit"):
        programs.append(jax.jit(step, donate_argnums=0).lower(init(method, x), x))
    for lowered in programs:
        memory = lowered.compile().memory_analysis()
        assert memory.temp_size_in_bytes < 64 * 40  # a line of memory for each scalar; an array has 400,000 bytes
        assert (1 + len(method.slots)) * x.nbytes <= memory.alias_size_in_bytes < (1.1 + len(method.slots)) * x.nbytes


def test_a_schedule_in_a_users_program_is_not_computed_for_every_element() -> None:
    """Nor are the coefficients looked up for every element: scalars come from outside of XLA's loops."""
    x = jnp.zeros(100_000, "float32")
    with engine("jit"):
        text = jax.jit(step).lower(init(Adam(), x, 1e-3 * schedules.cosine_decay(10)), x).compile().as_text()
    loops = re.findall(r"f32\[100000\]\S* fusion\(([^)]*)\)", text)
    assert len(loops) >= 3
    assert not any("constant" in operands for operands in loops)
