"""Steps of DTensors through the functional interface, against those of one process."""

from __future__ import annotations

import functools
import pickle
from typing import Any

import numpy as np
import pytest
import torch
from torch.distributed.tensor import DTensor, Partial, Replicate, Shard

from adamod_array import (
    Adam,
    AdaMod,
    adam_init,
    adam_step,
    adamod_init,
    adamod_step,
    engine,
    init,
    momentum_init,
    momentum_step,
    step,
)
from tests.scale.meshes import SHAPES, assert_same_bits, layouts, number, partial, spread, whole
from tests.trees import METHODS

STEPS = 20


def params_of(mesh: Any, placements: Any, dtype: str = "float32") -> dict[str, Any]:
    """A tree of DTensors, with one tensor that each process has all of beside them."""
    params = {name: spread(number(*shape, dtype=dtype), mesh, placements) for name, shape in SHAPES.items()}
    return params | {"plain": number(3, dtype=dtype)}


def gradients_of(mesh: Any, placements: Any, t: int, dtype: str = "float32") -> dict[str, Any]:
    """Gradients of step t; those of one process where there are no placements."""
    grads = {name: number(*shape, seed=t, dtype=dtype) for name, shape in SHAPES.items()}
    if placements is not None:
        grads = {name: spread(g, mesh, placements) for name, g in grads.items()}
    return grads | {"plain": number(3, seed=t, dtype=dtype)}


def alone(tree: dict[str, Any]) -> dict[str, Any]:
    return {name: whole(x).clone() for name, x in tree.items()}


def check(state: Any, expected: Any, placements: Any, what: str) -> None:
    """The bits of one process; parameters and slots laid over the processes as they were."""
    columns = {"params": (state.params, expected.params)}
    columns |= {slot: (tree, expected.slots[slot]) for slot, tree in state.slots.items()}
    for column, (actual, wanted) in columns.items():
        for name, x in actual.items():
            if name != "plain":
                assert isinstance(x, DTensor) and x.placements == tuple(placements), (what, column, name, x)
                assert x.shape == SHAPES[name]
            else:
                assert not isinstance(x, DTensor)
            assert_same_bits(x, wanted[name], f"{what}: {column}[{name!r}]")
    assert state.step == expected.step


def case_every_method_fresh_and_donated_on_every_layout(mesh: Any) -> None:
    """Gradients come as the parameters are laid out, replicated, sharded otherwise, and as sums not yet taken."""
    for k, (name, method) in enumerate(METHODS.items()):
        for j, placements in enumerate(layouts(mesh)):
            given = [placements, [Replicate()] * mesh.ndim, [Shard(1 - j % 2)] * mesh.ndim, [Partial()] * mesh.ndim]
            if mesh.size() != 2 and j != k % len(layouts(mesh)):
                continue  # every method, and every layout, and not every pair of them
            theirs = given[k % 4 if j in (k % 3, k % 9) else 0]
            gradients = [gradients_of(mesh, theirs, t) for t in range(STEPS)]
            options: dict[str, Any] = {"lr": 0.1, "weight_decay": 0.01 * (k % 2)}
            params = params_of(mesh, placements)
            expected = init(method, alone(params), **options)
            for t in range(STEPS):
                expected = step(expected, gradients_of(mesh, None, t))
            for donate in (False, True):
                state = init(method, params, **options)
                for grads in gradients:
                    state = step(state, grads, donate=donate)
                check(state, expected, placements, f"{name}, {placements}, donate={donate}")
                assert all((state.params[key] is p) == donate for key, p in params.items())


def case_dtypes(mesh: Any) -> None:
    placements = [Shard(0)] * mesh.ndim
    for dtype in ("float64", "bfloat16", "float16"):
        params = params_of(mesh, placements, dtype)
        expected = adamod_init(alone(params), lr=0.1)
        state: Any = adamod_init(params, lr=0.1)
        for t in range(STEPS):
            grads = gradients_of(mesh, placements, t, dtype)
            state, expected = adamod_step(state, grads, donate=t > 9), adamod_step(expected, alone(grads))
        check(state, expected, placements, dtype)
    p = number(6, 4) + 1j * number(6, 4, seed=1)
    state = adamod_init(spread(p, mesh, placements), lr=0.1)
    one = adamod_init(p, lr=0.1)
    for t in range(STEPS):
        g = number(6, 4, seed=2 + t) - 1j * number(6, 4, seed=t)
        state, one = adamod_step(state, spread(g, mesh, placements), donate=t > 9), adamod_step(one, g)
    assert state.params.placements == tuple(placements) and state.slots["v"].dtype == torch.float32
    # PyTorch's vectors and what is left beside them may differ in the last digit of a root, at each step
    torch.testing.assert_close(whole(state.params), one.params, rtol=STEPS * 2.0**-22, atol=STEPS * 0.1 * 2.0**-22)


def case_every_engine(mesh: Any) -> None:
    placements = [Shard(0)] * mesh.ndim
    for name in ("eager", "numba", "foreach"):
        with engine(name):
            for donate in (False, True):
                params = params_of(mesh, placements)
                state, expected = adamod_init(params, lr=0.1), adamod_init(alone(params), lr=0.1)
                for t in range(3):
                    grads = gradients_of(mesh, [Partial()] * mesh.ndim, t)
                    state, expected = adamod_step(state, grads, donate=donate), adamod_step(expected, alone(grads))
                for key, x in state.params.items():
                    # as above, of PyTorch's own operations
                    torch.testing.assert_close(whole(x), expected.params[key], rtol=2.0**-20, atol=2.0**-20)


def case_leaves_without_a_gradient_and_steps_not_taken(mesh: Any) -> None:
    placements = [Shard(0)] * mesh.ndim
    for donate in (False, True):
        params = params_of(mesh, placements)
        state, expected = adamod_init(params, lr=0.1), adamod_init(alone(params), lr=0.1)
        for t in range(12):
            grads = gradients_of(mesh, [Partial()] * mesh.ndim, t)
            if t % 3 == 0:
                grads["w"] = None
            some = {name: None if g is None else whole(g).clone() for name, g in grads.items()}
            where = t % 4 != 1
            on_device = spread(torch.tensor(where), mesh, [Replicate()] * mesh.ndim)
            state = adamod_step(state, grads, where=on_device, donate=donate)
            expected = adamod_step(expected, some, where=where)
        check(state, expected, placements, f"donate={donate}")
        assert state.skipped == 3


def case_a_sum_that_is_a_gradient_leaves_its_parameter_replicated(mesh: Any) -> None:
    p, replicated = number(6, 4), [Replicate()] * mesh.ndim
    for donate in (False, True):
        state: Any = adam_step(adam_init(spread(p.clone(), mesh, replicated), lr=0.1), partial(p, mesh), donate=donate)
        v: Any = state.slots["v"]
        assert state.params.placements == v.placements == tuple(replicated)
        assert_same_bits(state.params, adam_step(adam_init(p, lr=0.1), p).params, "a sum")


def refused(error: type[Exception], *words: str, call: Any) -> None:
    with pytest.raises(error) as found:
        call()
    assert all(word in str(found.value) for word in words), str(found.value)


def case_errors_name_the_leaf_and_leave_the_state(mesh: Any) -> None:
    placements = [Shard(0)] * mesh.ndim
    p, plain = spread(number(6, 4), mesh, placements), number(6, 4)
    sums = "params['w'] must be replicated or sharded", "Partial"
    refused(ValueError, *sums, call=lambda: adam_init({"b": p, "w": partial(plain, mesh)}))
    state = adamod_init({"b": p, "w": p.clone(), "plain": plain})
    before = alone(state.params)
    other = torch.distributed.device_mesh.init_device_mesh("cpu", (torch.distributed.get_world_size(),))
    narrow = spread(number(5, 4), mesh, placements)
    elsewhere = spread(plain, other, [Shard(0)])
    good = {"b": partial(plain, mesh), "w": p, "plain": plain}
    cases: list[tuple[dict[str, Any], tuple[str, ...]]] = [
        ({"w": plain}, ("grads['w'] must be a DTensor like its parameter", "distribute_tensor")),
        ({"plain": p}, ("grads['plain'] is a DTensor, and its parameter is not", "full_tensor()")),
        ({"w": narrow}, ("grads['w'] must have its parameter's shape (6, 4), got (5, 4)",)),
    ]
    if mesh.ndim > 1:
        cases.append(({"w": elsewhere}, ("grads['w'] must be on its parameter's mesh",)))
    for wrong, words in cases:
        for donate in (False, True):
            refused(ValueError, *words, call=functools.partial(adamod_step, state, good | wrong, donate=donate))
    refused(TypeError, "grads['w']", "numpy", call=lambda: adamod_step(state, good | {"w": np.ones((6, 4))}))
    refused(TypeError, "grads['w']", "floating", call=lambda: adamod_step(state, good | {"w": p.to(torch.int64)}))
    plain_p = adam_init({"w": plain})
    refused(ValueError, "grads['w'] is a DTensor", call=lambda: adam_step(plain_p, {"w": p}))
    whole_slot = {name: {"b": p, "w": p.clone(), "plain": plain} for name in "mvs"}
    whole_slot["v"]["w"] = plain
    refused(ValueError, "slots['v']['w'] must be a DTensor", call=lambda: state.replace(slots=whole_slot).params)
    whole_slot["v"]["w"] = spread(plain, mesh, [Replicate()] * mesh.ndim)
    refused(ValueError, "slots['v']['w'] must be laid over", call=lambda: state.replace(slots=whole_slot).params)
    twice = {"b": p, "w": p}
    refused(ValueError, "share memory", call=lambda: adam_step(adam_init(twice), twice, donate=True))
    for name, x in state.params.items():
        assert_same_bits(x, before[name], name)
    adamod_step(state, good, donate=True)
    refused(ValueError, "spent: it was donated to step 1", call=lambda: adamod_step(state, good))


def case_the_plan_is_kept(mesh: Any) -> None:
    """Also where users ask for the arrays between the steps, and put states together of them."""
    placements = [Shard(0)] * mesh.ndim
    for donate in (False, True):
        state = init(AdaMod(), {"a": spread(number(6, 4), mesh, placements), "b": number(3)})
        plans, looked = [], []
        for t in range(6):
            grads = {"a": spread(number(6, 4, seed=t), mesh, placements), "b": number(3, seed=t)}
            state = step(state, grads, donate=donate)
            if t > 3:
                assert state.params["a"] is state.params["a"]
                looked.append(whole(state.slots["v"]["a"]).clone())
            plans.append(state.resolved()[0].plan)
        assert plans[-1].signatures is not None and all(plan.inner is plans[2].inner for plan in plans[3:])
        again = type(state)(state.params, state.slots, state.step, state.method)
        assert again.resolved()[1].keys() == state.resolved()[1].keys()  # known to hold the same arrays
        copied = pickle.loads(pickle.dumps({name: whole(x) for name, x in state.params.items()}))
        assert_same_bits(copied["a"], state.params["a"], "a")
        assert not torch.equal(*looked)


def case_donated_steps_bump_versions(mesh: Any) -> None:
    placements = [Shard(0)] * mesh.ndim
    p, q = (torch.nn.Parameter(spread(number(6, 4, seed=seed), mesh, placements)) for seed in range(2))
    state = init(Adam(), {"p": p, "q": q})
    for k in range(4):
        loss = (state.params["p"] * state.slots["v"]["p"]).square().sum()  # keeps p and v
        versions = [x._version for x in (p, q, state.slots["v"]["p"])]
        state = step(state, {"p": spread(number(6, 4, seed=k), mesh, placements), "q": None}, donate=True)
        assert state.params["p"] is p
        bumped = [x._version > old for x, old in zip((p, q, state.slots["v"]["p"]), versions, strict=True)]
        assert bumped == [True, False, True]
        refused(RuntimeError, "modified by an inplace operation", call=loss.backward)
    fresh = step(state, {"p": spread(number(6, 4), mesh, placements), "q": None})
    assert fresh.params["p"].requires_grad and fresh.params["p"].is_leaf and not fresh.slots["v"]["p"].requires_grad
    assert fresh.params["q"] is q
    (fresh.params["p"].square().sum()).backward()
    assert fresh.params["p"].grad.placements == tuple(placements)


def case_a_step_that_is_differentiated(mesh: Any) -> None:
    """Of the gradient; through two steps."""
    placements = [Shard(0)] * mesh.ndim

    def loss(p: Any, g: Any) -> Any:
        state = momentum_init(p, lr=0.1)  # a step of Adam's hardly depends on the size of a gradient
        for _ in range(2):
            state = momentum_step(state, g)
        return state.params.square().sum()

    g = spread(number(6, 4, seed=1), mesh, placements).requires_grad_()
    (found,) = torch.autograd.grad(loss(spread(number(6, 4), mesh, placements), g), g)
    one = number(6, 4, seed=1).requires_grad_()
    (expected,) = torch.autograd.grad(loss(number(6, 4), one), one)
    assert expected.abs().max() > 0
    torch.testing.assert_close(whole(found), expected, rtol=2.0**-18, atol=0.0)


def case_a_local_tensor_that_is_replaced(mesh: Any) -> None:
    """FSDP does so with parameters, whose DTensors stay."""
    placements = [Shard(0)] * mesh.ndim
    p, q = (spread(number(6, 4, seed=seed), mesh, placements) for seed in (0, 1))
    state = adam_init(p, lr=0.1)
    for _ in range(3):
        state = adam_step(state, q, donate=True)
    moved = p._local_tensor.clone()
    p._local_tensor = moved
    state = adam_step(state, q, donate=True)
    expected = adam_init(number(6, 4), lr=0.1)
    for _ in range(4):
        expected = adam_step(expected, number(6, 4, seed=1))
    assert state.params is p and p._local_tensor is moved
    assert_same_bits(p, expected.params, "the new memory")
