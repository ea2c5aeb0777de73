"""Steps of DTensors inside of a user's torch.compile: they break the graph, and are those outside of it."""

from __future__ import annotations

import logging
from typing import Any

import torch
from torch.distributed.tensor import Partial, Replicate, Shard

import adamod_array.torch
from adamod_array import State, adamod_init, adamod_step
from tests.scale.meshes import assert_same_bits, number, spread, whole

STEPS = 12
"""More than Dynamo compiles again before it gives up."""


class _Warnings(logging.Handler):
    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.found: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.found.append(record.getMessage())


def compiled(call: Any) -> Any:
    torch._dynamo.reset()
    return torch.compile(call, backend="aot_eager")


def case_a_step_inside_of_torch_compile(mesh: Any) -> None:
    """Whatever lays the gradients out, and whoever put the state together, with one compilation for all steps."""
    replicated, rows, sums = ([each] * mesh.ndim for each in (Replicate(), Shard(0), Partial()))
    heard = _Warnings()
    logger = logging.getLogger("torch._dynamo")
    logger.addHandler(heard)
    expected = adamod_init({"w": number(6, 4), "b": number(3)}, lr=0.1)
    for t in range(STEPS):
        expected = adamod_step(expected, {"w": number(6, 4, seed=t), "b": number(3, seed=t)})
    for placements, theirs in ((replicated, sums), (rows, replicated))[: 1 if mesh.ndim > 1 else 2]:
        for donate in (False, True):
            for is_known in (True, False):
                state = adamod_init({"w": spread(number(6, 4), mesh, placements), "b": number(3)}, lr=0.1)
                if not is_known:
                    state = State(state.params, state.slots, state.step, state.method, state.lr)
                take = compiled(lambda state, grads, donate=donate: adamod_step(state, grads, donate=donate))
                for t in range(STEPS):
                    grads = {"w": spread(number(6, 4, seed=t), mesh, theirs), "b": number(3, seed=t)}
                    state = take(state, grads)
                what = f"{placements}, {theirs}, donate={donate}, is_known={is_known}"
                for actual, wanted in ((state.params, expected.params), (state.slots["v"], expected.slots["v"])):
                    assert actual["w"].placements == tuple(placements), what
                    for name, x in actual.items():
                        assert_same_bits(x, wanted[name], f"{name}: {what}")
                assert state.step == STEPS
    logger.removeHandler(heard)
    assert not heard.found


def case_an_optimizer_inside_of_torch_compile(mesh: Any) -> None:
    placements = [Shard(0)] * mesh.ndim
    p, q = (torch.nn.Parameter(x) for x in (spread(number(6, 4), mesh, placements), number(6, 4)))
    optimizers = [adamod_array.torch.AdaMod([x], lr=0.1) for x in (p, q)]
    take = compiled(optimizers[0].step)
    for t in range(STEPS):
        p.grad, q.grad = spread(number(6, 4, seed=t), mesh, placements), number(6, 4, seed=t)
        take()
        optimizers[1].step()
    assert p.placements == tuple(placements)
    assert_same_bits(p, whole(q), "the parameter")
