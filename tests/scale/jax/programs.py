"""What XLA makes of a step on a mesh, and states before there are arrays."""

from __future__ import annotations

import functools
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import AxisType, NamedSharding

from adamod_array import AdaMod, adamod_init, adamod_step, init, schedules, step
from tests.scale.jax.meshes import LAYOUTS, assert_same, mesh_of, numbers, placed, put, shapes
from tests.scale.jax.steps import alone
from tests.trees import METHODS

COLLECTIVES = ("all-reduce", "all-gather", "all-to-all", "reduce-scatter", "collective-permute", "collective-broadcast")


def case_no_collective_no_temporary_and_every_buffer_given_back(_: Path) -> None:
    for k, (layout, method) in enumerate(zip([*LAYOUTS] * 2, [*METHODS.values()][::2], strict=False)):
        mesh = mesh_of(layout, AxisType.Explicit if k % 2 else AxisType.Auto)
        specs = LAYOUTS[layout][1]
        big = {"w": np.ones((64, 512), np.float32), "b": np.ones(512, np.float32)}
        params = {name: put(x, NamedSharding(mesh, specs[name])) for name, x in big.items()}
        state = init(method, params)
        program = jax.jit(step, donate_argnums=0).lower(state, params).compile()
        text, memory = program.as_text(), program.memory_analysis()
        assert "adamod_array_" in text and not any(each in text for each in COLLECTIVES), (layout, method)
        parts = [x.addressable_shards[0].data.nbytes for x in jax.tree.leaves((state.params, state.slots))]
        assert memory.temp_size_in_bytes < 4096 < min(max(parts), 1 << 14), (layout, method, memory)  # scalars alone
        assert memory.alias_size_in_bytes >= sum(parts), (layout, method, memory)


def case_states_of_shapes(_: Path) -> None:
    """What is compiled, or restored to, before there are arrays."""
    lr = schedules.linear_warmup(3) * 0.1
    make = functools.partial(adamod_init, lr=lr)
    one_step = alone(AdaMod(), [numbers(0)], jax.jit(adamod_step), lr=lr)
    for kind in (AxisType.Auto, AxisType.Explicit):
        mesh = mesh_of("2-d", kind)
        values, like = placed(numbers(100), "2-d", mesh), shapes("2-d", mesh)
        state = make(like)
        shardings = jax.tree.map(lambda x: x.sharding, state)
        placings = jax.tree.leaves(shardings)
        assert placings == [x.sharding for x in jax.tree.leaves(make(values))], kind
        made = jax.jit(make, out_shardings=shardings)(values)
        assert [x.sharding for x in jax.tree.leaves(made)] == placings and int(made.step) == 0
        grads = placed(numbers(0), "2-d", mesh)
        program = jax.jit(adamod_step).lower(state, like).compile()
        assert_same(program(made, grads).params["w"], one_step.params["w"], kind)
        described = jax.eval_shape(adamod_step, state, like)
        assert described.slots["s"]["w"].shape == (16, 8) and described.step.dtype == jnp.int32
