"""JAX: jit compiles once, and a step can be mapped, differentiated, scanned, sharded and donated."""

from __future__ import annotations

import dataclasses
import itertools
import subprocess
import sys
import textwrap
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from adamod_array import (
    Adam,
    AdaMod,
    Method,
    Momentum,
    RAdam,
    State,
    adamod_init,
    adamod_step,
    engine,
    init,
    radam_init,
    radam_step,
    schedules,
    step,
)
from tests.compare import assert_close

pytestmark = pytest.mark.only("jax")
jax = pytest.importorskip("jax")
jnp = jax.numpy

RNG = np.random.default_rng(0)
VALUES = {"w": RNG.normal(size=(3, 4)), "b": [RNG.normal(size=4), RNG.normal(size=())]}
METHODS = [Adam(), AdaMod(beta3=0.9), RAdam(), Momentum(nesterov=True)]


def tree(dtype: Any = "float32", scale: float = 1.0) -> Any:
    """Parameters or gradients in a nested tree."""
    return jax.tree.map(lambda x: jnp.asarray(scale * x, dtype), VALUES)


def assert_same(actual: Any, expected: Any, *, ulp: float = 0) -> None:
    """Two trees of arrays: the same structure, dtypes and numbers."""
    assert jax.tree.structure(actual) == jax.tree.structure(expected)
    for a, e in zip(jax.tree.leaves(actual), jax.tree.leaves(expected), strict=True):
        assert jnp.asarray(a).dtype == jnp.asarray(e).dtype
        assert_close(a, e, ulp=ulp)


COMPILATIONS: list[str] = []
"""Grows whenever XLA compiles a program, in this module's tests or elsewhere."""


UNSEEN = itertools.count(101)
"""Sizes of arrays for which nothing has been compiled: methods share programs."""


def _listen(event: str, _: float, **__: Any) -> None:
    if event == "/jax/core/compile/backend_compile_duration":
        COMPILATIONS.append(event)


jax.monitoring.register_event_duration_secs_listener(_listen)


def counted() -> tuple[Method, list[int]]:
    """AdaMod, and a list that grows whenever its rule is traced: a class of its own, which no cache knows."""
    traces: list[int] = []

    @dataclasses.dataclass(frozen=True)
    class Counted(AdaMod):
        def rule(self, xp: Any, lr: Any, c: Any, g: Any, p: Any, *slots: Any) -> tuple[Any, ...]:
            traces.append(len(traces))
            return super().rule(xp, lr, c, g, p, *slots)

    return Counted(beta3=0.9), traces


SCHEDULE = 1e-2 * schedules.untuned_linear(0.99) * schedules.cosine_decay(80)
RATES: dict[str, Callable[[int], Any]] = {
    "python": lambda t: 0.5 / t,
    "float64": lambda t: np.float64(0.5 / t),
    "float32": lambda t: np.float32(0.5 / t),
    "numpy 0-d": lambda t: np.asarray(0.5 / t),
    "jax 0-d": lambda t: jnp.asarray(0.5 / t),
    "jax 0-d, float32": lambda t: jnp.float32(0.5 / t),
}


@pytest.mark.parametrize("lr", [1e-3, SCHEDULE, lambda t: 0.1 / t], ids=["float", "schedule", "function"])
def test_a_users_jit_compiles_once(lr: Any) -> None:
    method, traces = counted()
    jitted = jax.jit(adamod_step)
    cached = jitted._cache_size()  # JAX keeps one cache a function, whoever jits it
    state = init(method, jnp.ones(5), lr)
    for _ in range(100):
        state = jitted(state, jnp.ones(5))
    assert len(traces) == 1
    assert jitted._cache_size() <= cached + 2  # step is an int at first and an array from then on: one trace for both
    assert int(state.step) == 100


@pytest.mark.parametrize("rate", RATES.values(), ids=RATES)
def test_a_users_jit_compiles_once_with_lr_given_each_step(rate: Callable[[int], Any]) -> None:
    method, traces = counted()
    jitted = jax.jit(lambda state, grads, lr: adamod_step(state, grads, lr=lr))
    state = init(method, jnp.ones(5))
    for t in range(1, 101):
        state = jitted(state, jnp.ones(5), rate(t))
    assert len(traces) == 1
    assert state.params.dtype == jnp.ones(5).dtype


def test_lr_is_a_keyword_of_a_jitted_step() -> None:
    jitted = jax.jit(adamod_step)
    state = adamod_init(tree(), lr=1.0)
    assert_same(jitted(state, tree(), lr=0.25).params, jitted(adamod_init(tree(), lr=0.25), tree()).params, ulp=2)


@pytest.mark.parametrize("donate", [False, True])
@pytest.mark.parametrize("lr", [1e-3, SCHEDULE], ids=["float", "schedule"])
def test_the_librarys_own_call_compiles_once(lr: Any, donate: bool) -> None:
    gradient = jnp.ones(next(UNSEEN))
    step(init(counted()[0], gradient), gradient, donate=donate)  # what is asked of XLA once in a process
    state = init(counted()[0], jnp.ones(next(UNSEEN)), lr, weight_decay=0.1)
    gradient = jnp.ones_like(state.params)
    before = len(COMPILATIONS)
    for _ in range(100):
        state = step(state, gradient, donate=donate)
    assert len(COMPILATIONS) == before + 1
    assert type(state.step) is int


@pytest.mark.parametrize("rate", RATES.values(), ids=RATES)
def test_the_librarys_own_call_compiles_once_with_lr_given_each_step(rate: Callable[[int], Any]) -> None:
    method, traces = counted()
    state = init(method, jnp.ones(5))
    for t in range(1, 101):
        state = step(state, jnp.ones(5), lr=rate(t))
    assert len(traces) == 1


def test_rates_of_their_own_compile_once() -> None:
    """A rate and a decay a leaf, with a gradient missing now and then: one program for each pattern."""
    params = {"w": jnp.ones((2, next(UNSEEN))), "b": jnp.ones(3)}
    step(init(counted()[0], params), params)  # what is asked of XLA once in a process
    state = init(counted()[0], params, {"w": 1e-3, "b": SCHEDULE}, weight_decay={"w": 0.1, "b": 0.0})
    before = len(COMPILATIONS)
    for t in range(30):
        state = step(state, {"w": params["w"], "b": None if t % 3 == 0 else params["b"]})
    assert len(COMPILATIONS) == before + 2


def test_equal_static_fields_do_not_compile_again() -> None:
    """Method, rate and decay are compared by value: np.float64 or float, a schedule made twice."""
    method, traces = counted()
    jitted = jax.jit(step)
    for beta3 in (0.9, np.float64(0.9), np.asarray(0.9)):
        twin = dataclasses.replace(method, beta3=beta3)  # type: ignore[call-arg]
        for lr in (1e-3 * schedules.linear_warmup(10), 1e-3 * schedules.linear_warmup(10)):
            jitted(init(twin, jnp.ones(5), lr, weight_decay=np.float64(0.5)), jnp.ones(5))
    assert len(traces) == 2  # init traces it without the decay, to check it
    jitted(init(dataclasses.replace(method, beta3=0.8), jnp.ones(5)), jnp.ones(5))  # type: ignore[call-arg]
    assert len(traces) == 3


@pytest.mark.parametrize("method", METHODS, ids=repr)
@pytest.mark.parametrize("dtype", ["float32", "float64", "bfloat16", "complex64"])
def test_a_users_jit_equals_the_librarys(method: Method, dtype: str) -> None:
    """Within 4 ulp of the largest number after ten steps from the same state.

    Inside a user's jit the coefficients are computed by XLA, whose expm1 may differ from the C
    library's by an ulp of float64, and so after rounding once by one of the compute dtype; and
    XLA contracts multiply-adds as it finds them.
    """
    jitted = jax.jit(step)
    params = tree(dtype)["w"]
    ours = theirs = init(method, params, SCHEDULE, weight_decay=0.01)
    for t in range(1, 11):
        grads = params / t
        ours, theirs = step(ours, grads), jitted(theirs, grads)
    assert int(theirs.step) == ours.step
    for a, e in zip(jax.tree.leaves(theirs), jax.tree.leaves(ours), strict=True):
        largest = np.max(np.abs(np.asarray(e).astype(np.complex128)))
        epsilon = float(jnp.finfo(jnp.asarray(e).dtype).eps) if jnp.issubdtype(jnp.asarray(e).dtype, jnp.inexact) else 0
        assert_close(a, e, atol=4 * epsilon * largest)


def test_a_jitted_step_then_an_eager_one() -> None:
    """The step count comes back from a user's jit as an array, and everything goes on from there."""
    grads = tree()["w"]
    expected = state = radam_init(grads, SCHEDULE)
    for t in range(6):
        expected = radam_step(expected, grads)
        state = jax.jit(radam_step)(state, grads) if t in (1, 4) else radam_step(state, grads)
    assert int(state.step) == 6
    assert_same(state.params, expected.params, ulp=4)
    assert "step=6" in repr(state)
    with engine("eager"):
        assert_same(radam_step(state, grads).params, radam_step(expected, grads).params, ulp=4)
    assert_close(np.float64(state.lr(state.step)), np.float64(SCHEDULE(6)), ulp=4)


def test_numpy_parameters_in_a_users_jit() -> None:
    """What jit traces is JAX's, whatever it was."""
    state = jax.jit(adamod_step)(adamod_init(np.zeros(3, np.float32)), np.ones(3, np.float32))
    assert isinstance(state.params, jax.Array)
    assert_same(state.params, adamod_step(adamod_init(jnp.zeros(3, "float32")), jnp.ones(3, "float32")).params, ulp=2)


def test_disable_jit() -> None:
    grads = tree()["w"]
    state = adamod_init(grads, SCHEDULE)
    with jax.disable_jit():
        ours = adamod_step(state, grads)
        theirs = jax.jit(adamod_step)(state, grads)
    with engine("eager"):
        assert_same(ours.params, adamod_step(state, grads).params)
    assert_same(theirs.params, ours.params, ulp=2)


def stepped(method: Method, params: Any, grads: Any, lr: Any) -> Any:
    """The parameters after three steps of different gradients."""
    state = init(method, params, weight_decay=0.1)
    for k in (1.0, -0.5, 0.25):
        state = step(state, k * grads + 0.1 * state.params, lr=lr)
    return state.params


@pytest.mark.parametrize("method", [*METHODS, RAdam(beta2=0.5, eps=1e-3), AdaMod(variant="reference")], ids=repr)
def test_grad_through_steps(method: Method) -> None:
    """With respect to parameters, gradients and rate, against central differences in float64.

    Of a difference at h = 1e-6, rounding leaves 1e-16/h and the third derivative h**2.
    """

    @jax.jit
    def loss(p: Any, g: Any, lr: Any) -> Any:
        return jnp.sum(jnp.sin(stepped(method, p, g, lr)))

    at = (jnp.asarray([1.0, -2.0, 0.5]), jnp.asarray([0.3, 0.7, -1.1]), jnp.asarray(0.05))
    gradients = jax.jit(jax.grad(loss, argnums=(0, 1, 2)))(*at)
    h = 1e-6
    for i, x in enumerate(at):
        for j in np.ndindex(x.shape):
            ends = [loss(*at[:i], x.at[j].add(sign * h), *at[i + 1 :]) for sign in (1, -1)]
            assert_close(gradients[i][j], (ends[0] - ends[1]) / (2 * h), atol=2e-8)


@pytest.mark.slow("jax")
def test_forward_and_reverse_mode_agree() -> None:
    def final(lr: Any) -> Any:
        return stepped(AdaMod(beta3=0.9), jnp.asarray([1.0, -2.0]), jnp.asarray([0.3, 0.7]), lr)

    forward, reverse = jax.jit(jax.jacfwd(final))(0.1), jax.jit(jax.jacrev(final))(0.1)
    assert_close(forward, reverse, ulp=16)  # the same products in another order
    second = jax.jit(jax.jacfwd(jax.jacfwd(final)))(0.1)
    h = 1e-5
    difference = (jax.jit(jax.jacfwd(final))(0.1 + h) - jax.jit(jax.jacfwd(final))(0.1 - h)) / (2 * h)
    assert_close(second, difference, atol=1e-8)


def test_grad_outside_of_jit() -> None:
    """The library's own jitted call is differentiated as it stands."""
    g = jnp.asarray([0.3, 0.7])

    def loss(lr: Any) -> Any:
        return jnp.sum(adamod_step(adamod_init(jnp.asarray([1.0, -2.0]), beta3=0.0), g, lr=lr).params)

    # Adam's first step moves each parameter by lr * g / (|g| + eps)
    assert_close(jax.grad(loss)(0.1), -np.sum(np.asarray(g) / (np.asarray(g) + 1e-8)), ulp=4)


def test_checkpoint() -> None:
    def loss(p: Any, policy: Callable[..., Any]) -> Any:
        state = adamod_init(p)
        for _ in range(3):
            state = policy(adamod_step)(state, jnp.sin(state.params))
        return jnp.sum(state.params**2)

    p = jnp.asarray([1.0, -2.0, 0.5])
    gradient = jax.jit(jax.grad(loss), static_argnums=1)
    assert_close(gradient(p, jax.checkpoint), gradient(p, lambda f: f), ulp=4)


@pytest.mark.parametrize("method", METHODS, ids=repr)
def test_vmap_over_an_ensemble(method: Method) -> None:
    """vmap(init) and vmap(step) of n members give what n loops give."""
    members = jnp.asarray(RNG.normal(size=(4, 3)), "float32")
    together = jax.jit(jax.vmap(step))
    states = jax.vmap(lambda p: init(method, p, SCHEDULE))(members)
    assert states.step.shape == (4,)
    singles = [init(method, p, SCHEDULE) for p in members]
    for t in range(1, 7):
        states = together(states, members / t)
        singles = [step(single, p / t) for single, p in zip(singles, members, strict=True)]
    assert states.step.tolist() == [6] * 4
    assert_close(states.params, jnp.stack([single.params for single in singles]), ulp=8)


def test_vmap_over_rates_and_under_jit() -> None:
    rates, grads = jnp.asarray([1e-1, 1e-2, 1e-3]), tree()
    state = adamod_step(adamod_init(grads), grads)

    def params(lr: Any) -> Any:
        return adamod_step(state, grads, lr=lr).params

    for mapped in (jax.vmap(params)(rates), jax.jit(jax.vmap(params))(rates)):
        for i, lr in enumerate(rates):
            assert_same(jax.tree.map(lambda x, i=i: x[i], mapped), params(lr), ulp=2)


@pytest.mark.parametrize("lr", [1e-2, SCHEDULE], ids=["float", "schedule"])
def test_scan(lr: Any) -> None:
    """The state is a carry."""
    method, traces = counted()
    gradients = jnp.asarray(RNG.normal(size=(20, 5)), "float32")
    start = init(method, jnp.ones(5, "float32"), lr)
    final, norms = jax.lax.scan(lambda state, g: (new := step(state, g), jnp.sum(new.params**2)), start, gradients)
    assert len(traces) <= 2  # scan may trace twice to settle the carry's types
    assert isinstance(final, State)
    assert norms.shape == (20,)
    expected = start
    for g in gradients:
        expected = step(expected, g)
    assert int(final.step) == 20
    assert_close(final.params, expected.params, ulp=8)


def test_while_and_cond() -> None:
    """A state goes through other control flow too: here, no step where the gradient is not finite."""

    def guarded(state: State, g: Any) -> State:
        taken: State = jax.lax.cond(jnp.all(jnp.isfinite(g)), adamod_step, lambda state, g: state, state, g)
        return taken

    start = jax.tree.map(jnp.asarray, adamod_init(jnp.ones(3)))
    assert int(jax.jit(guarded)(start, jnp.asarray([1.0, jnp.nan, 0.0])).step) == 0
    assert int(jax.jit(guarded)(start, jnp.ones(3)).step) == 1
    final = jax.lax.while_loop(lambda s: s.step < 7, lambda s: adamod_step(s, jnp.ones(3)), start)
    assert int(final.step) == 7


@pytest.mark.parametrize("method", METHODS, ids=repr)
def test_without_x64_everything_is_float32(method: Method) -> None:
    with jax.enable_x64(False):
        state = init(method, jnp.asarray([1.0, -2.0]), SCHEDULE, weight_decay=0.1)
        jitted = jax.jit(step)(state, jnp.asarray([0.5, 0.25]))
        state = step(state, jnp.asarray([0.5, 0.25]))
        for each in (state, jitted):
            arrays = [each.params, *each.slots.values()]
            assert {str(x.dtype) for x in arrays} == {"float32"}
        assert_same(jitted.params, state.params, ulp=2)
    wide = step(init(method, jnp.asarray([1.0, -2.0], "float32"), SCHEDULE, weight_decay=0.1), jnp.asarray([0.5, 0.25]))
    assert_close(state.params, wide.params, ulp=1)


def test_float64_stays_and_is_not_float32_in_disguise() -> None:
    state = adamod_step(adamod_init(jnp.zeros(2), lr=1.0, beta3=0.0), jnp.asarray([1.0, 3.0]))
    for x in (state.params, *state.slots.values()):
        assert x.dtype == "float64"
    exact = -np.asarray([1.0, 3.0]) / (np.asarray([1.0, 3.0]) + 1e-8)  # Adam's first step, v_hat = g**2
    assert_close(state.params, exact, ulp=5)


@pytest.mark.parametrize("jit", [False, True])
@pytest.mark.parametrize("narrow", ["float16", "bfloat16"])
def test_sixteen_bits_keep_float32_slots(narrow: str, jit: bool) -> None:
    take = jax.jit(adamod_step) if jit else adamod_step
    state = adamod_init(tree(narrow), lr=1e-2)
    for _ in range(3):
        state = take(state, tree(narrow))
    assert {str(x.dtype) for x in jax.tree.leaves(state.params)} == {narrow}
    assert {str(x.dtype) for x in jax.tree.leaves(state.slots)} == {"float32"}


def test_donate_gives_the_buffers_away() -> None:
    params, grads = tree(), tree(scale=0.5)
    grads["b"][0] = None
    old = adamod_init(params)
    slots = jax.tree.leaves(old.slots["s"])
    new = adamod_step(old, grads, donate=True)
    assert params["w"].is_deleted()
    assert params["b"][1].is_deleted()
    assert [s.is_deleted() for s in slots] == [False, True, True]  # dicts are flattened in the order of their keys
    assert new.params["b"][0] is params["b"][0]
    assert not params["b"][0].is_deleted()
    assert not grads["w"].is_deleted()
    assert "donated" in repr(old)
    for donate in (False, True):
        with pytest.raises(ValueError, match="spent"):
            adamod_step(old, grads, donate=donate)


def test_a_copy_of_a_donated_state_is_spent_too() -> None:
    """Known by its deleted arrays, where the state was put together from them by hand."""
    old = adamod_init(jnp.ones(3))
    twin = State(old.params, old.slots, old.step, old.method, 0.5)
    adamod_step(old, jnp.ones(3), donate=True)
    for donate in (False, True):
        with pytest.raises(ValueError, match="spent"):
            adamod_step(twin, jnp.ones(3), donate=donate)


@pytest.mark.parametrize("method", METHODS, ids=repr)
def test_donated_and_kept_give_the_same_bits(method: Method) -> None:
    kept, donated = init(method, tree(), SCHEDULE, weight_decay=0.1), init(method, tree(), SCHEDULE, weight_decay=0.1)
    for t in range(1, 8):
        kept, donated = step(kept, tree(scale=t)), step(donated, tree(scale=t), donate=True)
    assert_same(donated, kept)


def test_one_array_in_two_places_cannot_be_donated() -> None:
    shared = jnp.ones(3)
    state = adamod_init({"a": shared, "b": shared})
    with pytest.raises(ValueError, match=r"params\['a'\] and params\['b'\] share memory"):
        adamod_step(state, {"a": jnp.ones(3), "b": jnp.ones(3)}, donate=True)
    assert not shared.is_deleted()
    assert adamod_step(state, {"a": jnp.ones(3), "b": jnp.ones(3)}).step == 1


def test_donate_inside_a_users_jit_asks_for_nothing() -> None:
    """Buffers there are the compiler's: the result is the same, without a warning."""
    state = adamod_init(tree())
    inside = jax.jit(lambda state, grads: adamod_step(state, grads, donate=True))(state, tree())
    assert_same(inside.params, jax.jit(adamod_step)(state, tree()).params)


def test_a_users_jit_may_donate_the_state() -> None:
    old = adamod_init(tree())
    expected = adamod_step(old, tree())
    new = jax.jit(adamod_step, donate_argnums=0)(old, tree())
    assert old.params["w"].is_deleted()
    assert_same(new.params, expected.params, ulp=2)
    with pytest.raises(ValueError, match="spent"):
        adamod_step(old, tree())


def test_a_traced_rate_is_refused_by_init_with_the_way_out() -> None:
    def train(lr: Any) -> Any:
        return adamod_init(jnp.ones(3), lr=lr).params

    for name in ("lr", "weight_decay"):
        with pytest.raises(TypeError, match=rf"{name} is traced by JAX.*step\(\.\.\., {name}=\.\.\.\)"):
            jax.jit(lambda x, name=name: adamod_init(jnp.ones(3), **{name: x}).params)(0.1)
    with pytest.raises(TypeError, match=r"lr is traced by JAX.*step\(\.\.\., lr=\.\.\.\)"):
        jax.jit(train)(0.1)
    with pytest.raises(TypeError, match="lr is traced by JAX"):
        jax.grad(lambda lr: jnp.sum(train(lr)))(0.1)
    with pytest.raises(TypeError, match="weight_decay is traced by JAX"):
        jax.jit(lambda decay: adamod_init(jnp.ones(3), weight_decay=decay).params)(0.1)
    host = adamod_init(np.ones(3))  # whose parameters are no arrays of JAX's
    with pytest.raises(TypeError, match=r"step: max_norm is traced by JAX.*step\(\.\.\., max_norm=\.\.\.\)"):
        jax.jit(lambda limit: adamod_step(host, np.ones(3), max_norm=limit).params)(0.1)
    assert adamod_init(jnp.ones(3), lr=jnp.asarray(0.5)).lr == 0.5


def test_errors_inside_jit_name_the_leaf() -> None:
    with pytest.raises(ValueError, match=r"grads\['b'\]\[0\] must have its parameter's shape \(4,\), got \(5,\)"):
        jax.jit(adamod_step)(adamod_init(tree()), {**tree(), "b": [jnp.ones(5), jnp.ones(())]})
    with pytest.raises(TypeError, match=r"grads must be a jax array like its parameter"):
        adamod_step(adamod_init(jnp.ones(3)), np.ones(3))


def test_the_state_is_a_pytree() -> None:
    state = adamod_step(adamod_init(tree(), SCHEDULE), tree())
    leaves, structure = jax.tree.flatten(state)
    assert len(leaves) == 3 + 3 * 3 + 2
    again = jax.tree.unflatten(structure, leaves)
    assert isinstance(again, State)
    assert (again.method, again.lr, again.weight_decay, again.step) == (state.method, state.lr, state.weight_decay, 1)
    keyed, _ = jax.tree_util.tree_flatten_with_path(state)
    names = {jax.tree_util.keystr(path) for path, _ in keyed}
    assert {".params['w']", ".params['b'][0]", ".slots['s']['w']", ".step"} <= names
    moved = jax.device_put(state, jax.devices()[0])
    assert_same(adamod_step(moved, tree()).params, adamod_step(state, tree()).params, ulp=4)


def python(code: str, **environment: str) -> None:
    """Run in a fresh interpreter."""
    import os

    command = [sys.executable, "-W", "error", "-c", textwrap.dedent(code)]
    done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, **environment}, check=False)
    assert done.returncode == 0, done.stderr


def test_jax_imported_after_the_package() -> None:
    python(
        """
        import sys
        import adamod_array as aa
        assert "jax" not in sys.modules
        import numpy as np
        old = aa.adamod_init(np.zeros(3))  # a state made before JAX is there
        import jax, jax.numpy as jnp
        state = aa.adamod_init(jnp.zeros(3))
        assert len(jax.tree.leaves(state)) == 6
        assert len(jax.tree.leaves(old)) == 6
        state = jax.jit(aa.adamod_step)(state, jnp.ones(3))
        assert isinstance(state, aa.State) and int(state.step) == 1
        """
    )


def test_a_pickled_state_is_a_pytree_where_it_is_loaded() -> None:
    python(
        """
        import pickle, subprocess, sys
        make = (
            "import pickle, sys, jax.numpy as jnp, adamod_array as aa;"
            "sys.stdout.buffer.write(pickle.dumps(aa.adamod_step(aa.adamod_init(jnp.zeros(3)), jnp.ones(3))))"
        )
        state = pickle.loads(subprocess.run([sys.executable, "-c", make], capture_output=True, check=True).stdout)
        import jax
        assert len(jax.tree.leaves(state)) == 6
        assert int(jax.jit(sys.modules["adamod_array"].adamod_step)(state, jax.numpy.ones(3)).step) == 2
        """
    )


def test_a_state_before_there_are_arrays() -> None:
    """Of shapes ``init`` makes a state of shapes, with the dtypes and errors of one of arrays."""
    shape = jax.ShapeDtypeStruct
    shapes = {"w": shape((2, 3), jnp.bfloat16), "z": shape((3,), jnp.complex64), "n": None}
    state = adamod_init(shapes, lr={"w": 0.1, "z": 0.2, "n": 0.3})
    assert {name: (x["w"].dtype, x["z"].dtype, x["n"]) for name, x in state.slots.items()} == {
        "m": (jnp.float32, jnp.complex64, None),
        "v": (jnp.float32, jnp.float32, None),
        "s": (jnp.float32, jnp.float32, None),
    }
    assert state.params == shapes and state.step.dtype == state.skipped.dtype == jnp.result_type(int)
    assert "'w': bfloat16[2, 3]" in repr(state)
    params = {"w": jnp.ones((2, 3), jnp.bfloat16), "z": jnp.ones(3, jnp.complex64), "n": None}
    made = jax.eval_shape(lambda p: adamod_init(p, lr={"w": 0.1, "z": 0.2, "n": 0.3}), params)
    for ours, theirs in ((state.params, made.params), (state.slots, made.slots)):
        assert jax.tree.map(lambda x: (x.shape, x.dtype), ours) == jax.tree.map(lambda x: (x.shape, x.dtype), theirs)
    program = jax.jit(adamod_step).lower(state, shapes).compile()
    actual, expected = (take(adamod_init(params, lr=state.lr), params) for take in (program, jax.jit(adamod_step)))
    for x, y in zip(jax.tree.leaves(actual.params), jax.tree.leaves(expected.params), strict=True):
        assert (x == y).all()
    for bad, message in (
        ({"a": shape((3,), jnp.int32)}, r"params\['a'\] must have one of the dtypes"),
        ({"a": shape((3,), jnp.float32), "b": 1.0}, r"params\['b'\] must be an array, got float"),
    ):
        with pytest.raises(TypeError, match=message):
            adamod_init(bad)
    with pytest.raises(ValueError, match="lr"):
        adamod_init(shapes, lr=-1.0)


def test_sharded_parameters_stay_sharded() -> None:
    """On four host devices: slots are made where the parameters are, and results stay there, jitted or not."""
    python(
        """
        import jax, jax.numpy as jnp, numpy as np
        from jax.sharding import Mesh, NamedSharding, PartitionSpec
        import adamod_array as aa
        assert len(jax.devices()) == 4
        mesh = Mesh(np.array(jax.devices()), ("x",))
        split = NamedSharding(mesh, PartitionSpec("x"))
        whole = NamedSharding(mesh, PartitionSpec())
        values = np.arange(8.0, dtype=np.float32)
        params = {"w": jax.device_put(values, split), "b": jax.device_put(values[:3], whole)}
        start = aa.adamod_init(params)
        plain = aa.adamod_init({"w": jnp.asarray(values), "b": jnp.asarray(values[:3])})
        plain = aa.adamod_step(plain, plain.params)
        for take in (aa.adamod_step, jax.jit(aa.adamod_step)):
            state = take(start, params)
            for array in (start.slots["m"]["w"], start.slots["s"]["w"], state.params["w"], state.slots["s"]["w"]):
                assert array.sharding.is_equivalent_to(split, 1), array.sharding
            assert state.params["b"].sharding.is_equivalent_to(whole, 1)
            for name in params:
                np.testing.assert_array_max_ulp(np.asarray(state.params[name]), np.asarray(plain.params[name]), 2)
        donated = aa.adamod_step(start, {"w": params["w"] + 1, "b": params["b"] + 1}, donate=True)
        assert donated.params["w"].sharding.is_equivalent_to(split, 1) and params["w"].is_deleted()
        near = aa.adamod_step(start := aa.adamod_init(state.params), state.params)
        moved = aa.adamod_step(start, {"w": jnp.asarray(np.asarray(state.params["w"])), "b": state.params["b"]})
        assert moved.params["w"].sharding.is_equivalent_to(split, 1)
        np.testing.assert_array_equal(np.asarray(moved.params["w"]), np.asarray(near.params["w"]))
        try:
            aa.adamod_step(state, {"w": jax.device_put(values, jax.devices()[0]), "b": state.params["b"]})
        except ValueError as error:
            assert "grads['w'] must be on its parameter's device" in str(error), error
        else:
            raise AssertionError("a gradient on another device was taken")
        """,
        XLA_FLAGS="--xla_force_host_platform_device_count=4",
        JAX_PLATFORMS="cpu",
    )
