"""Steps of arrays on a mesh have the bits of one device, and leave everything where it was."""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import AxisType, NamedSharding

from adamod_array import (
    AdaMod,
    State,
    _engines,
    adamod_init,
    adamod_step,
    all_finite,
    clip_by_global_norm,
    diagnostics,
    global_norm,
    init,
    schedules,
    step,
)
from tests.scale.jax.meshes import LAYOUTS, P, assert_same, assert_state, mesh_of, numbers, placed, put
from tests.trees import METHODS

STEPS = 20


def alone(method: Any, gradients: list[Any], take: Callable[..., Any] = step, **options: Any) -> State:
    """The state after these steps on one device of this process."""
    state = init(method, jax.tree.map(jnp.asarray, numbers(100)), **options)
    for grads in gradients:
        state = take(state, jax.tree.map(jnp.asarray, grads))
    return state


def trained(take: Callable[..., Any], method: Any, gradients: list[Any], layout: str, mesh: Any, **options: Any) -> Any:
    state = init(method, placed(numbers(100), layout, mesh), **options)
    for grads in gradients:
        state = take(state, placed(grads, layout, mesh))
    return state


def case_every_method_fresh_and_donated_on_every_layout(_: Path) -> None:
    """Every method on two layouts; in two processes every third on one."""
    gradients = [numbers(t) for t in range(STEPS)]
    donated = functools.partial(step, donate=True)
    several = jax.process_count() > 1
    for k, (name, method) in enumerate(METHODS.items()):
        if several and k % 3:
            continue
        options: dict[str, Any] = {"lr": 0.1, "weight_decay": 0.01 * (k % 2)}
        expected = alone(method, gradients, **options)
        for j, layout in enumerate(LAYOUTS):
            if (j - k) % (4 if several else 2):
                continue
            mesh = mesh_of(layout, AxisType.Explicit if k % 3 == 0 else AxisType.Auto)
            state = trained((step, donated)[(j + k) // 2 % 2], method, gradients, layout, mesh, **options)
            assert_state(state, expected, layout, mesh, (name, layout))
    assert not _engines.passed_over


def case_inside_of_jit_by_one_compilation(_: Path) -> None:
    """Whatever the kind of the mesh's axes; donated or not; with a schedule, whose count starts on the mesh."""
    gradients, method = [numbers(t) for t in range(STEPS)], AdaMod()
    lr = schedules.linear_warmup(5) * 0.1
    expected = alone(method, gradients, jax.jit(step), lr=lr)  # where schedules are computed in float32
    for layout, kind in (("sharded", AxisType.Auto), ("2-d", AxisType.Auto), ("partly sharded", AxisType.Explicit)):
        mesh = mesh_of(layout, kind)
        traces: list[int] = []

        def take(state: State, grads: Any, traces: list[int] = traces) -> State:
            traces.append(1)
            return step(state, grads)

        jitted = jax.jit(take, donate_argnums=0)
        state = trained(jitted, method, gradients, layout, mesh, lr=lr)
        assert_state(state, expected, layout, mesh, (layout, kind))
        assert len(traces) == 1, (layout, kind, traces)


def case_every_dtype(_: Path) -> None:
    """16 bits beside float32 slots, and complex numbers beside real ones."""
    mesh = mesh_of("2-d")
    for dtype in ("bfloat16", "float16", "complex64"):
        host = [numbers(t, dtype) for t in range(4)]
        one = adamod_init(jax.tree.map(jnp.asarray, host[3]), lr=0.1)
        many = within = adamod_init(placed(host[3], "2-d", mesh), lr=0.1)
        jitted = jax.jit(adamod_step)
        for grads in host[:3]:
            one = adamod_step(one, jax.tree.map(jnp.asarray, grads))
            many, within = (take(x, placed(grads, "2-d", mesh)) for take, x in ((adamod_step, many), (jitted, within)))
        assert_state(many, one, "2-d", mesh, dtype)
        assert_state(within, one, "2-d", mesh, dtype)


def case_gradients_that_are_sharded_otherwise(_: Path) -> None:
    """They are laid out as the parameter is, never the parameter as they are."""
    w, g = (np.asarray(numbers(t)["w"]) for t in (100, 0))
    expected = step(init(AdaMod(), jnp.asarray(w)), jnp.asarray(g))
    for kind in (AxisType.Auto, AxisType.Explicit):
        mesh = jax.make_mesh((8,), ("x",), (kind,))
        ours, theirs = NamedSharding(mesh, P("x")), NamedSharding(mesh, P(None, "x"))
        for take in (step, jax.jit(step)):
            new = take(init(AdaMod(), put(w, ours)), put(g, theirs))
            for x, y in ((new.params, expected.params), *((new.slots[k], expected.slots[k]) for k in "mvs")):
                assert_same(x, y, kind)
                assert x.sharding.is_equivalent_to(ours, 2), (kind, x.sharding)


def case_manual_axes(_: Path) -> None:
    """Inside of shard_map each device calls the kernel for what it has, replicated parameters among them."""
    w, g = (np.asarray(numbers(t)["w"]) for t in (100, 0))
    expected = step(init(AdaMod(), jnp.asarray(w)), jnp.asarray(g))
    mesh = mesh_of("sharded")
    state, grads = init(AdaMod(), put(w, NamedSharding(mesh, P("x")))), put(g, NamedSharding(mesh, P("x")))
    specs = jax.tree.map(lambda x: P("x") if x.ndim else P(), state)
    for check in (True, False):
        mapped = jax.shard_map(step, mesh=mesh, in_specs=(specs, P("x")), out_specs=specs, check_vma=check)
        assert jax.jit(mapped).lower(state, grads).as_text().count("adamod_array_") == 1
        assert_same(jax.jit(mapped)(state, grads).params, expected.params, check)
    whole = init(AdaMod(), put(w, NamedSharding(mesh, P())))
    eighth = put(np.concatenate([g / 8] * 8), NamedSharding(mesh, P("x")))

    def data_parallel(state: State, part: Any) -> State:
        return step(state, jax.lax.psum(part, "x"))

    mapped = jax.jit(jax.shard_map(data_parallel, mesh=mesh, in_specs=(P(), P("x")), out_specs=P()))
    assert mapped.lower(whole, eighth).as_text().count("adamod_array_") == 1
    assert_same(mapped(whole, eighth).params, expected.params, "replicated")
    each = jax.shard_map(
        lambda s, g, lr: step(s, g, lr=lr[0]).params, mesh=mesh, in_specs=(specs, P("x"), P("x")), out_specs=P("x")
    )
    rates = put(np.full(8, 1e-3, np.float32), NamedSharding(mesh, P("x")))
    assert_same(jax.jit(each)(state, grads, rates), expected.params, "a rate of each device's own")


def case_some_axes_manual(_: Path) -> None:
    """The others are XLA's, and so is the program."""
    w, g = (np.asarray(numbers(t)["w"]) for t in (100, 0))
    expected = step(init(AdaMod(), jnp.asarray(w)), jnp.asarray(g))
    mesh = mesh_of("2-d")
    state, grads = (put(x, NamedSharding(mesh, P("x", "y"))) for x in (w, g))
    state = init(AdaMod(), state)
    specs = jax.tree.map(lambda x: P("x") if x.ndim else P(), state)
    mapped = jax.shard_map(step, mesh=mesh, in_specs=(specs, P("x")), out_specs=specs, axis_names={"x"})
    assert_same(jax.jit(mapped)(state, grads).params, expected.params, "partly manual")


def case_two_meshes_in_one_program(_: Path) -> None:
    """JAX partitions for one mesh a program: two of them are XLA's, the states stay where they are."""
    w, g = (np.asarray(numbers(t)["w"]) for t in (100, 0))
    expected = step(init(AdaMod(), jnp.asarray(w)), jnp.asarray(g))
    one, two = NamedSharding(mesh_of("sharded"), P("x")), NamedSharding(mesh_of("2-d"), P("x", "y"))
    states, grads = [init(AdaMod(), put(w, each)) for each in (one, two)], [put(g, each) for each in (one, two)]
    both = jax.jit(lambda states, grads: [*map(step, states, grads)])
    own = jax.jit(lambda s, g: step(s, g))  # one that JAX has not traced before, for one mesh
    inner = jax.jit(lambda states, grads: [*map(own, states, grads)])
    for take in (both, inner):
        for new, sharding in zip(take(states, grads), (one, two), strict=True):
            assert_same(new.params, expected.params, "two meshes")
            assert new.params.sharding.is_equivalent_to(sharding, 2)
    state = step(init(AdaMod(), {"a": put(w, one), "b": put(w, two)}), {"a": put(g, one), "b": put(g, two)})
    for name in "ab":
        assert_same(state.params[name], expected.params, "one state on two meshes")


def case_maps_and_derivatives(_: Path) -> None:
    w, g = (np.asarray(numbers(t)["w"]) for t in (100, 0))
    sharding = NamedSharding(mesh_of("sharded"), P("x"))
    many, few = (init(AdaMod(), x) for x in (put(w, sharding), jnp.asarray(w)))
    spread, whole = put(g, sharding), jnp.asarray(g)
    rates = np.asarray([0.1, 0.2], np.float32)
    mapped = jax.jit(jax.vmap(lambda s, g, lr: step(s, g, lr=lr).params, in_axes=(None, None, 0)))(many, spread, rates)
    assert_same(mapped, np.stack([step(few, whole, lr=lr).params for lr in rates]), "vmap")
    slope = jax.jit(jax.grad(lambda lr, s, g: step(s, g, lr=lr).params.sum()))
    assert abs(float(slope(0.1, many, spread)) - float(slope(0.1, few, whole))) < 1e-3  # sums in another order


def case_norms_and_steps_that_are_not_taken(_: Path) -> None:
    """What is asked of all gradients is the answer of the whole tree, in every process."""
    grads, bad = numbers(0), numbers(0)
    bad["w"][15, 7] = np.inf  # in the part of one device
    one = init(AdaMod(), jax.tree.map(jnp.asarray, numbers(100)), lr=0.1)
    whole = jax.tree.map(jnp.asarray, grads)
    for layout in ("replicated", "2-d"):
        mesh = mesh_of(layout)
        spread, spoilt = (placed(x, layout, mesh) for x in (grads, bad))
        norm = float(global_norm(spread))
        assert abs(norm - float(global_norm(whole))) < 2e-7 * norm, layout  # an ulp: added in another order
        clipped = clip_by_global_norm(spread, norm / 2)
        assert abs(float(global_norm(clipped)) - norm / 2) < 2e-7 * norm
        assert bool(all_finite(spread)) and not bool(all_finite(spoilt))
        for take in (step, jax.jit(step, static_argnames=("where",))):
            state = init(AdaMod(), placed(numbers(100), layout, mesh), lr=0.1)
            state = take(take(state, spoilt, where=all_finite), spread, where=all_finite)
            assert (int(state.step), int(state.skipped)) == (1, 1)
            assert_state(state, step(one, whole), layout, mesh, layout)
        new = step(init(AdaMod(), placed(numbers(100), layout, mesh), lr=0.1), spread, max_norm=4 * norm)
        assert_state(new, step(one, whole), layout, mesh, "not above the limit")
        theirs, ours = diagnostics.bounded_fraction(step(one, whole)), diagnostics.bounded_fraction(new)
        assert float(theirs) == float(ours), layout
        assert "w" in repr(new) and "step=1" in repr(new)


def case_one_device_of_several(_: Path) -> None:
    """It counts as one: what nobody laid over a mesh is stepped by the kernel, in a user's program, too."""
    device = jax.local_devices()[-1]
    w, g = (jax.device_put(np.asarray(numbers(t)["w"]), device) for t in (100, 0))
    state, jitted = init(AdaMod(), w), jax.jit(step)
    assert jitted.lower(state, g).compile().as_text().count("adamod_array_") >= 1
    for take in (step, jitted):
        new = take(state, g)
        assert new.params.devices() == {device}
        assert_same(new.params, step(init(AdaMod(), jnp.asarray(w)), jnp.asarray(g)).params, take)
