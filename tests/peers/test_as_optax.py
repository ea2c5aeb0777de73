"""Every method as a gradient transformation: what optax promises of its own optimizers, and the bits of a step."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from adamod_array import Adam, AdaMod, DiffGrad, DiffMod, Method, Momentum, RAdam, init, schedules, step
from adamod_array.optax import MethodState, as_optax, as_schedule, from_schedule
from tests.compare import assert_close

RATES: dict[Method, float] = {
    Adam(): 0.1,
    AdaMod(beta3=0.99): 0.1,
    RAdam(): 5e-3,
    Momentum(): 1e-3,
    DiffGrad(): 0.01,
    DiffMod(beta3=0.99): 0.1,
}
"""Rates with which each method solves both problems."""

METHODS = pytest.mark.parametrize("method", RATES, ids=lambda method: type(method).__name__)
FOUR = pytest.mark.parametrize("method", [*RATES][:4], ids=lambda method: type(method).__name__)


@pytest.fixture(autouse=True)
def default_precision() -> Iterator[None]:
    """JAX with 32 bits, as optax's users have it; tests turn on 64 where they say so."""
    with jax.enable_x64(False):
        yield


def parabola(dtype: Any) -> tuple[Any, Any, Callable[[Any], Any]]:
    """Start, minimum and loss: the squared distance from a point."""
    end = jnp.asarray([1.0, -1.0, 1.0], dtype) * (1 + 1j if jnp.issubdtype(dtype, jnp.complexfloating) else 1)
    return jnp.asarray([-1.0, 10.0, 1.0], dtype), end, lambda x: jnp.sum(jnp.abs(x - end) ** 2)


def rosenbrock(dtype: Any) -> tuple[Any, Any, Callable[[Any], Any]]:
    """Start, minimum and loss: Rosenbrock's valley, also over the complex numbers."""
    a = 1 + 1j if jnp.issubdtype(dtype, jnp.complexfloating) else 1.0

    def loss(x: Any) -> Any:
        return jnp.abs(a - x[0]) ** 2 + 100 * jnp.abs(x[1] - x[0] ** 2) ** 2

    return jnp.asarray([0.0, 0.0], dtype), jnp.asarray([a, a**2], dtype), loss


def gradient(loss: Callable[[Any], Any], params: Any) -> Any:
    """The direction of steepest ascent; JAX's gradient of a real function is its conjugate."""
    return jax.tree.map(jnp.conj, jax.grad(loss)(params))


def tree(seed: int = 0) -> Any:
    """Parameters of three shapes, with zeros of both signs."""
    rng = np.random.default_rng(seed)
    arrays = {"w": rng.normal(size=(17, 9)), "b": np.asarray([0.0, -0.0, 1e-3, 1e3]), "c": [rng.normal(size=())]}
    return jax.tree.map(lambda x: jnp.asarray(x, "float32"), arrays)


def gradients(like: Any, count: int, seed: int = 1) -> list[Any]:
    """Gradients over several decades, some of them zero; so are all of parameters that are zero."""
    rng = np.random.default_rng(seed)

    def one(p: Any) -> Any:
        g = rng.normal(size=p.shape) * 10.0 ** rng.integers(-4, 2, p.shape) * (rng.random(p.shape) > 0.1) * (p != 0)
        return jnp.asarray(g, p.dtype)

    return [jax.tree.map(one, like) for _ in range(count)]


def train(optimizer: Any, params: Any, grads: list[Any], jit: bool = True) -> tuple[Any, Any]:
    """Parameters and state after a step along each gradient; compiled once."""
    traced: list[None] = []

    def one(params: Any, state: Any, g: Any) -> Any:
        traced.append(None)
        updates, state = optimizer.update(g, state, params)
        return optax.apply_updates(params, updates), state

    take, state = jax.jit(one) if jit else one, optimizer.init(params)
    for g in grads:
        params, state = take(params, state, g)
    assert len(traced) == (1 if jit else len(grads))
    return params, state


def assert_trees(actual: Any, expected: Any, **how: Any) -> None:
    """The same tree, and numbers; by default to the last bit, the sign of zero included."""
    assert jax.tree.structure(actual) == jax.tree.structure(expected)
    for a, e in zip(jax.tree.leaves(actual), jax.tree.leaves(expected), strict=True):
        assert a.dtype == e.dtype
        assert_close(a, e, **how)
        if not how:
            assert np.array_equal(np.asarray(a).reshape(-1).view("uint8"), np.asarray(e).reshape(-1).view("uint8"))


@METHODS
@pytest.mark.parametrize("problem", [parabola, rosenbrock])
@pytest.mark.parametrize("dtype", ["float32", "float64", "complex64", "complex128"])
def test_it_finds_the_minimum(method: Method, problem: Any, dtype: str) -> None:
    """In 10,000 steps, to 3%."""
    with jax.enable_x64(dtype in ("float64", "complex128")):
        start, end, loss = problem(dtype)
        optimizer = as_optax(method, RATES[method])

        def one(carry: Any, _: Any) -> Any:
            params, state = carry
            updates, state = optimizer.update(gradient(loss, params), state, params)
            return (optax.apply_updates(params, updates), state), None

        run = jax.jit(lambda carry: jax.lax.scan(one, carry, length=10_000)[0])
        found, state = run((start, optimizer.init(start)))
        assert found.dtype == dtype and int(state.count) == 10_000
        np.testing.assert_allclose(found, end, rtol=0.03, atol=0.03)  # what optax asks of its own optimizers


@FOUR
@pytest.mark.parametrize("jit", [True, False])
def test_without_decay_a_step_has_the_bits_of_step(method: Method, jit: bool) -> None:
    params = tree()
    grads = gradients(params, 60 if jit else 5)
    for rate in (0.01, 0.01 * schedules.untuned_linear(0.9)):
        state, take = init(method, params, rate), jax.jit(step) if jit else step
        for g in grads:
            # outside of a jit the count of a State is Python's, and a schedule has double precision
            state = take(state if jit else state.replace(step=jnp.asarray(state.step)), g)
        found, kept = train(as_optax(method, rate), params, grads, jit)
        assert_trees(found, state.params)
        assert_trees(kept.slots, state.slots)
        assert kept.count.dtype == "int32" and int(kept.count) == len(grads)


@FOUR
def test_with_decay_it_is_within_1e7(method: Method) -> None:
    params = tree()
    grads = gradients(params, 60)
    state, take = init(method, params, 0.01, weight_decay=0.1), jax.jit(step)
    for g in grads:
        state = take(state, g)
    found, _ = train(as_optax(method, 0.01, 0.1), params, grads)
    for a, e in zip(jax.tree.leaves(found), jax.tree.leaves(state.params), strict=True):
        assert_close(a, e, atol=1e-7 * float(jnp.max(jnp.abs(e))))
    assert_close(found["w"], train(as_optax(method, 0.01, lambda count: 0.1), params, grads)[0]["w"])


@METHODS
def test_complex_parameters_have_the_bits_of_step_too(method: Method) -> None:
    params = jnp.asarray([1 + 2j, complex(-0.0, -0.0), -3j], "complex64")
    rng = np.random.default_rng(0)
    grads = [jnp.asarray([1, 0, 1j] * rng.normal(size=3), "complex64") for _ in range(10)]
    state, take = init(method, params, 0.01), jax.jit(step)
    for g in grads:
        state = take(state, g)
    assert_trees(train(as_optax(method, 0.01), params, grads)[0], state.params)


@METHODS
@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32", "float64", "complex64", "complex128"])
def test_dtypes_and_the_state_are_stable(method: Method, dtype: str) -> None:
    """Both branches of a cond, and the carry of a scan, are of one type; 16 bits keep slots of 32."""
    with jax.enable_x64(dtype in ("float64", "complex128")):
        start, _, loss = parabola(dtype)
        for decay in (0.0, 0.1) if isinstance(method, AdaMod) else (0.0,):
            optimizer = as_optax(method, 0.1, decay)
            state = optimizer.init(start)
            wide = "float32" if dtype in ("float16", "bfloat16") else dtype
            assert state.slots[method.slots[0]].dtype == wide

            def one(carry: Any, go: Any, optimizer: Any = optimizer) -> Any:
                params, state = carry
                g = gradient(loss, params)
                updates, state = jax.lax.cond(
                    go, lambda: optimizer.update(g, state, params), lambda: (jnp.zeros_like(g), state)
                )
                return (optax.apply_updates(params, updates), state), updates

            (params, new), updates = jax.jit(functools.partial(jax.lax.scan, one))(
                (start, state), jnp.asarray([True, False, True])
            )
            assert (params.dtype, updates.dtype, int(new.count)) == (jnp.dtype(dtype), jnp.dtype(dtype), 2)
            assert jax.tree.structure(new) == jax.tree.structure(state)
            assert jax.eval_shape(optimizer.init, start) == jax.tree.map(
                lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype), state
            )


def test_the_gradient_has_the_last_word_on_the_dtype() -> None:
    params, g = jnp.ones(3, "float32"), jnp.full(3, 0.3, "bfloat16")
    for given in (params, None):
        updates, state = as_optax(Adam(), 0.1).update(g, as_optax(Adam(), 0.1).init(params), given)
        assert (updates.dtype, state.slots["m"].dtype) == ("bfloat16", "float32")
        assert_close(state.slots["m"], jnp.float32(0.1) * g.astype("float32"), ulp=1)


@METHODS
def test_hyperparameters_can_be_injected(method: Method) -> None:
    params, grads = tree(), gradients(tree(), 5)
    found, kept = train(optax.inject_hyperparams(as_optax)(method, 0.01, weight_decay=0.1), params, grads)
    expected, state = train(as_optax(method, 0.01, 0.1), params, grads)
    # traced, the decay factor is computed in 32 bits: half an ulp, 6e-8, a step
    for a, e in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(a, e, rtol=1e-6, atol=1e-9)
    assert_trees(kept.inner_state.slots, state.slots, ulp=4)


def test_an_injected_rate_may_be_changed() -> None:
    params, (g, *_) = tree(), gradients(tree(), 1)
    optimizer = optax.inject_hyperparams(as_optax)(AdaMod(), 0.01)
    state, update = optimizer.init(params), jax.jit(optimizer.update)
    assert any(bool(jnp.any(u != 0)) for u in jax.tree.leaves(update(g, state, params)[0]))
    state.hyperparams["learning_rate"] = jnp.asarray(0.0)
    assert not any(bool(jnp.any(u != 0)) for u in jax.tree.leaves(update(g, state, params)[0]))


def test_schedules_of_both_kinds_begin_at_their_first_rate() -> None:
    ours = 0.5 * schedules.linear_warmup(4)
    theirs = optax.linear_schedule(0.125, 0.625, 4)
    params, grads = jnp.zeros(()), [jnp.ones(())] * 3
    plain = Momentum(beta=0.0)
    for optimizer in (
        as_optax(plain, ours),
        as_optax(plain, as_schedule(ours)),
        as_optax(plain, as_schedule(lambda t: ours(t))),
        as_optax(plain, theirs),
        as_optax(plain, from_schedule(theirs)),
        optax.inject_hyperparams(as_optax)(plain, as_schedule(ours)),
        optax.sgd(as_schedule(ours)),
        optax.sgd(theirs),
    ):
        assert_close(train(optimizer, params, grads)[0], jnp.asarray(-0.75))


def test_from_schedule() -> None:
    rates = [0.5, 0.25, 0.125]
    schedule = from_schedule(lambda count: rates[count])  # an index stays an int
    assert [schedule(t) for t in range(4)] == [0.5, 0.5, 0.25, 0.125]
    product = 2 * from_schedule(optax.linear_schedule(1.0, 0.0, 4)) * schedules.linear_warmup(2)
    assert [float(product(t)) for t in (1, 2, 3)] == [1.0, 1.5, 1.0]
    assert [float(jax.jit(product)(t)) for t in (1, 2, 3)] == [1.0, 1.5, 1.0]
    state = init(Momentum(beta=0.0), np.zeros(1), from_schedule(optax.linear_schedule(1.0, 0.0, 4)))
    assert step(step(state, np.ones(1)), np.ones(1)).params == -1.75
    for wrong in (0.1, schedules.constant(0.1)):
        with pytest.raises(TypeError, match="from_schedule: expected a schedule of optax's"):
            from_schedule(wrong)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="as_schedule: expected a function"):
        as_schedule(0.1)  # type: ignore[arg-type]


@METHODS
@pytest.mark.parametrize("dtype", ["bfloat16", "float32"])
def test_multisteps_takes_one_step_along_the_mean(method: Method, dtype: str) -> None:
    params = jnp.asarray([1.0, 2.0], dtype)
    accumulated = optax.MultiSteps(as_optax(method, 0.1), every_k_schedule=4)
    state, update = accumulated.init(params), jax.jit(accumulated.update)
    for k in range(4):
        updates, state = update(jnp.asarray([k, 2 * k], dtype), state, params)
        assert bool(jnp.all(updates == 0)) == (k < 3)
        assert updates.dtype == dtype
    plain = as_optax(method, 0.1)
    expected, _ = jax.jit(plain.update)(jnp.asarray([1.5, 3.0], dtype), plain.init(params), params)
    # an ulp of bfloat16
    np.testing.assert_allclose(
        updates.astype("float32"), expected.astype("float32"), rtol=2.0**-8
    )  # an ulp of bfloat16


def test_it_stands_wherever_optax_has_a_place_for_it() -> None:
    """In chain, masked, partition, apply_if_finite, lookahead and schedule_free, each beside the step by hand."""
    method = AdaMod(beta3=0.99)
    params, (g, *_) = tree(), gradients(tree(), 1)
    optimizer = as_optax(method, 0.01, 0.1)
    alone = optimizer.update(g, optimizer.init(params), params)[0]

    def first(optimizer: Any, grads: Any = g, params: Any = params) -> Any:
        return jax.jit(optimizer.update)(grads, optimizer.init(params), params)[0]

    def assert_near(actual: Any, expected: Any) -> None:
        assert jax.tree.structure(actual) == jax.tree.structure(expected)
        for a, e in zip(jax.tree.leaves(actual), jax.tree.leaves(expected), strict=True):
            np.testing.assert_allclose(a, e, rtol=1e-6, atol=1e-6)

    assert_near(first(optax.chain(optimizer, optax.scale(0.5))), jax.tree.map(lambda u: 0.5 * u, alone))
    halved = first(optax.chain(optax.scale(0.5), optimizer))
    assert_near(halved, optimizer.update(jax.tree.map(lambda x: 0.5 * x, g), optimizer.init(params), params)[0])

    mask = {"w": True, "b": False, "c": True}
    assert_near(first(optax.masked(optimizer, mask)), alone | {"b": g["b"]})
    slow = as_optax(method, 0.001, 0.1)
    labels = {"w": "fast", "b": "slow", "c": "fast"}
    parted = first(optax.partition({"fast": optimizer, "slow": slow, "none": slow}, labels))
    assert_near(parted, alone | {"b": slow.update(g, slow.init(params), params)[0]["b"]})

    finite = optax.apply_if_finite(optimizer, max_consecutive_errors=3)
    assert_near(first(finite), alone)
    spoilt = g | {"b": jnp.asarray([jnp.nan, 0, 0, 0], "float32")}
    skipped, state = jax.jit(finite.update)(spoilt, finite.init(params), params)
    assert all(bool(jnp.all(u == 0)) for u in jax.tree.leaves(skipped)) and int(state.inner_state.count) == 0

    both = optax.LookaheadParams(params, params)
    ahead = optax.lookahead(optimizer, sync_period=2, slow_step_size=0.5, reset_state=True)
    updates, state = jax.jit(ahead.update)(g, ahead.init(both), both)
    assert_near(updates.fast, alone)
    _, state = jax.jit(ahead.update)(g, state, both)
    assert int(state.fast_state.count) == 0

    free = optax.contrib.schedule_free(as_optax(method, 0.01), 0.01)
    state = free.init(params)
    _, state = jax.jit(free.update)(g, state, params)
    without = as_optax(method, 0.01)
    moved = optax.apply_updates(params, without.update(g, without.init(params), params)[0])
    assert_near(state.z, moved)


def test_the_mask_says_what_decays() -> None:
    params = tree()
    g = jax.tree.map(jnp.zeros_like, params)
    masks: list[tuple[Any, tuple[bool, bool, bool]]] = [
        (None, (True, True, True)),
        ({"w": True, "b": False, "c": False}, (True, False, False)),
        ({"w": False, "b": np.True_, "c": [True]}, (False, True, True)),
        (lambda p: jax.tree.map(lambda x: x.ndim > 1, p), (True, False, False)),
        (False, (False, False, False)),
    ]
    for mask, decays in masks:
        for optimizer in (as_optax(AdaMod(), 0.5, 0.5, mask), optax.adamw(0.5, weight_decay=0.5, mask=mask)):
            updates, _ = optimizer.update(g, optimizer.init(params), params)
            for name, on in zip(("w", "b", "c"), decays, strict=True):
                expected = jax.tree.map(lambda p, on=on: -0.25 * p if on else jnp.zeros_like(p), params[name])
                jax.tree.map(lambda a, e: np.testing.assert_allclose(a, e, rtol=1e-6), updates[name], expected)


def test_a_missing_gradient_leaves_a_leaf_alone() -> None:
    params = {"w": jnp.ones(3), "frozen": jnp.ones(2), "none": None, "out": optax.MaskedNode()}
    g = {"w": jnp.ones(3), "frozen": None, "none": None, "out": optax.MaskedNode()}
    for decay in (0.0, 0.1):
        optimizer = as_optax(AdaMod(), 0.1, decay)
        state = optimizer.init(params)
        updates, new = jax.jit(optimizer.update)(g, state, params)
        assert jax.tree.structure(updates) == jax.tree.structure(g)
        assert updates["w"].shape == (3,)
        assert jax.tree.structure(new) == jax.tree.structure(state)
        assert not new.slots["m"]["frozen"].any()


def test_optax_finds_the_parameters_in_a_state() -> None:
    params = tree()
    for optimizer in (
        as_optax(AdaMod(), 0.1),
        optax.masked(as_optax(AdaMod(), 0.1), {"w": True, "b": True, "c": True}),
    ):
        marked = optax.tree_utils.tree_map_params(
            optimizer, lambda x: "slot", optimizer.init(params), transform_non_params=lambda x: "other"
        )
        assert sorted(jax.tree.leaves(marked)) == ["other"] + ["slot"] * 9
    # so too where each branch has a method of its own
    branches = as_optax({"w": Adam(), "b": Adam(0.8), "c": Adam()}, 0.1)
    marked = optax.tree_utils.tree_map_params(branches, lambda x: "slot", branches.init(params))
    assert jax.tree.leaves(marked.slots) == ["slot"] * 6


def test_methods_by_branch() -> None:
    params, grads = tree(), gradients(tree(), 5)
    branches = {"w": Adam(0.5), "b": Adam(0.8), "c": Adam()}
    found, _ = train(as_optax(branches, 0.1), params, grads)
    for name, method in branches.items():
        alone, _ = train(as_optax(method, 0.1), params[name], [g[name] for g in grads])
        assert_trees(found[name], alone)


def test_other_arguments_are_ignored_and_parameters_may_be_left_out() -> None:
    params, (g, *_) = tree(), gradients(tree(), 1)
    optimizer = optax.with_extra_args_support(as_optax(AdaMod(), 0.1))
    given, _ = optimizer.update(g, optimizer.init(params), params, value=1.0, loss_fn=len)
    without, _ = optimizer.update(g, optimizer.init(params))
    assert_trees(without, given)
    with pytest.raises(ValueError, match="requires the current value of parameters"):
        as_optax(AdaMod(), 0.1, 0.1).update(g, optimizer.init(params))


@dataclasses.dataclass(frozen=True)
class Lasso(Method):
    """Gradient descent to a sparse solution: the rule reads its parameter."""

    strength: float = 0.1

    def rule(self, xp: Any, lr: Any, c: Any, g: Any, p: Any) -> tuple[Any, ...]:
        """Take a step, then shrink."""
        z = p - lr * g
        return (xp.maximum(z - lr * self.strength, 0.0) + xp.minimum(z + lr * self.strength, 0.0),)


@dataclasses.dataclass(frozen=True)
class Averaged(Method):
    """Gradient descent that keeps the average of its parameters: a slot reads them."""

    slots = ("mean",)

    def rule(self, xp: Any, lr: Any, c: Any, g: Any, p: Any, mean: Any) -> tuple[Any, ...]:
        """Take a step, then the average."""
        p = p - lr * g
        return p, 0.5 * mean + 0.5 * p


@pytest.mark.parametrize("method", [Lasso(), Averaged()], ids=str)
def test_a_rule_that_reads_its_parameter(method: Method) -> None:
    params, grads = tree(), gradients(tree(), 20)
    for decay in (0.0, 0.1):
        state, take = init(method, params, 0.01, weight_decay=decay), jax.jit(step)
        for g in grads:
            state = take(state, g)
        found, kept = train(as_optax(method, 0.01, decay), params, grads)
        for a, e in zip(
            jax.tree.leaves((found, kept.slots)), jax.tree.leaves((state.params, state.slots)), strict=True
        ):
            assert_close(a, e, atol=1e-7 * max(1.0, float(jnp.max(jnp.abs(e)))))
    with pytest.raises(ValueError, match="requires the current value of parameters"):
        as_optax(method, 0.01).update(grads[0], as_optax(method, 0.01).init(params))


def test_a_method_without_slots() -> None:
    @dataclasses.dataclass(frozen=True)
    class Sign(Method):
        def rule(self, xp: Any, lr: Any, c: Any, g: Any, p: Any) -> tuple[Any, ...]:
            return (p - lr * (g / xp.abs(g)),)

    for dtype in ("bfloat16", "float32"):
        updates, state = as_optax(Sign(), 0.5).update(jnp.asarray([3.0, -2.0], dtype), as_optax(Sign(), 0.5).init({}))
        assert_close(updates.astype("float32"), jnp.asarray([-0.5, 0.5]))
        assert (updates.dtype, state.slots) == (dtype, {})


def test_it_is_mapped_and_its_buffers_are_donated() -> None:
    optimizer = as_optax(AdaMod(), 0.1)
    params, g = jnp.ones((4, 3)), jnp.arange(12.0).reshape(4, 3)
    together = jax.vmap(optimizer.update)(g, jax.vmap(optimizer.init)(params), params)[0]
    for k in range(4):
        alone, _ = jax.jit(optimizer.update)(g[k], optimizer.init(params[k]), params[k])
        assert_close(together[k], alone, ulp=1)
    state = optimizer.init(params)
    take = jax.jit(lambda g, state: optimizer.update(g, state), donate_argnums=1)
    for _ in range(3):
        last, (_, state) = state, take(g, state)
        assert last.slots["m"].is_deleted()
    assert int(state.count) == 3


def test_numpy_arrays_and_numbers_are_taken_as_optax_takes_them() -> None:
    optimizer = as_optax(Momentum(), 0.5)
    params = {"w": np.ones(2, np.float32), "b": 1.0}
    updates, state = optimizer.update({"w": np.ones(2, np.float32), "b": jnp.ones(())}, optimizer.init(params), params)
    assert_trees(updates, {"w": jnp.full(2, -0.5), "b": jnp.full((), -0.5)})
    assert isinstance(state, MethodState) and isinstance(state.slots["m"]["w"], jax.Array)


def test_errors_say_what_to_write() -> None:
    for wrong, message in ((Adam, "got Adam, a class"), (0.1, "the order is as_optax"), ({}, "got dict")):
        with pytest.raises(TypeError, match=message):
            as_optax(wrong, 0.1)
    for rate in (None, "0.1", {"w": 0.1}):
        with pytest.raises(TypeError, match="learning_rate must be a number or a schedule"):
            as_optax(Adam(), rate)
    with pytest.raises(ValueError, match="learning_rate must not be negative"):
        as_optax(Adam(), -0.1)
    with pytest.raises(ValueError, match="weight_decay must be finite"):
        as_optax(Adam(), 0.1, np.nan)
    optimizer = as_optax(Adam(), 0.1)
    with pytest.raises(TypeError, match=r"params\['w'\] must have one of the dtypes"):
        optimizer.init({"w": jnp.arange(3)})
    params = {"w": jnp.ones(3), "b": jnp.ones(2)}
    state = optimizer.init(params)
    for given in (params, None):
        with pytest.raises(ValueError, match=r"grads\['b'\] is missing"):
            optimizer.update({"w": jnp.ones(3)}, state, given)
        with pytest.raises(ValueError, match=r"grads\['b'\] must have its parameter's shape \(2,\), got \(3,\)"):
            optimizer.update({"w": jnp.ones(3), "b": jnp.ones(3)}, state, given)
        with pytest.raises(TypeError, match=r"grads\['b'\] must be an array"):
            optimizer.update({"w": jnp.ones(3), "b": "no"}, state, given)
    with pytest.raises(TypeError, match=r"grads\['b'\] must be real"):
        optimizer.update({"w": jnp.ones(3), "b": jnp.ones(2, "complex64")}, state, params)
    with pytest.raises(ValueError, match="mask is neither one value nor a tree prefix of params"):
        as_optax(Adam(), 0.1, 0.1, {"x": True}).update(params, state, params)
