"""One process of a run that is saved, loaded or killed: ``python -m tests.scale.runs RANK WORLD PORT WHAT FOLDER``.

Whole gradients are the same in every process, so that a run has the same bits in any number of them.
"""

from __future__ import annotations

import itertools
import sys
from collections.abc import Callable
from typing import Any

import optree
import torch
import torch.distributed.checkpoint as dcp
from torch.distributed.checkpoint.state_dict import (
    get_model_state_dict,
    get_optimizer_state_dict,
    set_model_state_dict,
    set_optimizer_state_dict,
)
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import Replicate, Shard, distribute_tensor

import adamod_array.torch
from adamod_array import AdaMod, State, adamod_init, adamod_step, schedules
from tests.scale.group import group
from tests.scale.meshes import assert_same_bits, number, partial

SAVED, END = 5, 9
"""Steps until a run is saved, and until it ends."""

LR = 0.1 * schedules.untuned_linear(0.99)


def tree(seed: int, wrap: Callable[[Any, int], Any] = lambda x, _: x) -> dict[str, Any]:
    """Dicts and lists, None among the leaves, 16 bits, and leaves that not every process has a part of."""
    leaves = [number(6, 4, seed=seed), number(5, 3, seed=1 + seed, dtype="bfloat16"), number(1, 2, seed=2 + seed)]
    a, b, c = (wrap(x, k) for k, x in enumerate(leaves))
    return {"layers": [{"w": a, "none": None}, [b]], "c": c, "plain": number(3, seed=seed)}


def with_tuple(seed: int, wrap: Callable[[Any, int], Any] = lambda x, _: x) -> Any:
    """A tree that the walk of torch.distributed.checkpoint ends at."""
    given = tree(seed, wrap)
    return (given["c"], {"layers": tuple(given["layers"])})


def contents(state: Any) -> dict[str, Any]:
    """What changes of a state, of which torch.distributed.checkpoint follows dicts and lists."""
    return {"params": state.params, "slots": state.slots, "step": state.step, "skipped": state.skipped}


def by_path(state: Any) -> dict[str, Any]:
    """The same of any tree."""
    paths, leaves, _ = optree.tree_flatten_with_path(state)
    return {".".join(map(str, path)): x for path, x in zip(paths, leaves, strict=True)}


def put_together(fresh: Any, found: dict[str, Any]) -> Any:
    return optree.tree_unflatten(optree.tree_structure(fresh), [*found.values()])


FORMS: dict[str, tuple[Any, Any, Any]] = {
    "contents": (tree, contents, lambda fresh, found: fresh.replace(**found)),
    "by_path": (with_tuple, by_path, put_together),
}


def uninterrupted(tree_of: Any) -> State[Any]:
    """The whole run, in tensors of this process."""
    state = adamod_init(tree_of(0), lr=LR)
    for t in range(END):
        state = adamod_step(state, tree_of(t), where=t != 2)
    return state


def check_the_end(state: Any, tree_of: Any) -> None:
    expected = uninterrupted(tree_of)
    assert (state.step, state.skipped) == (expected.step, expected.skipped) == (END - 1, 1)
    columns = ((x.params, x.slots) for x in (state, expected))
    for actual, wanted in zip(*map(optree.tree_leaves, columns), strict=True):
        assert_same_bits(actual, wanted, "a leaf")


def functional(mesh: Any, what: str, folder: str) -> None:
    """Each leaf is laid out in another way by those who save and those who load."""
    ways = itertools.islice(itertools.cycle([[Shard(0)], [Replicate()], [Shard(1)]]), int(what == "load"), None)
    placements = [*itertools.islice(ways, 3)]

    def wrap(x: Any, k: int) -> Any:
        return distribute_tensor(x, mesh, placements[k])

    for name, (tree_of, form, formed) in FORMS.items():
        state = adamod_init(tree_of(0 if what == "save" else 7, wrap), lr=LR)
        if what == "load":
            found = form(state)
            dcp.load(found, checkpoint_id=f"{folder}/{name}")
            state = formed(state, found)
        for t in range(SAVED) if what == "save" else range(SAVED, END):
            state = adamod_step(state, tree_of(t, wrap), where=t != 2, donate=t % 2 == 0)
        if what == "save":
            dcp.save(form(state), checkpoint_id=f"{folder}/{name}")
        else:
            check_the_end(state, tree_of)


def network() -> Any:
    return torch.nn.Sequential(torch.nn.Linear(8, 12), torch.nn.Tanh(), torch.nn.Linear(12, 3))


def optimizer(mesh: Any, what: str, folder: str) -> None:
    """FSDP2, two groups, through the functions for optimizers of torch.distributed.checkpoint."""
    torch.manual_seed(int(what == "load"))
    model = network()
    for layer in model:
        fully_shard(layer, mesh=mesh)
    groups = [{"params": model[0].parameters()}, {"params": model[2].parameters(), "lr": 0.02}]
    ours = adamod_array.torch.Optimizer(groups, AdaMod(beta3=0.9), lr=0.1)
    if what == "load":
        found = {"model": get_model_state_dict(model), "optimizer": get_optimizer_state_dict(model, ours)}
        dcp.load(found, checkpoint_id=f"{folder}/optimizer")
        set_model_state_dict(model, found["model"])
        set_optimizer_state_dict(model, ours, found["optimizer"])
    for t in range(SAVED) if what == "save" else range(SAVED, END):
        for p in model.parameters():
            p.grad = distribute_tensor(number(*p.shape, seed=t), mesh, p.placements)
        ours.step()
    if what == "save":
        saved = {"model": get_model_state_dict(model), "optimizer": get_optimizer_state_dict(model, ours)}
        dcp.save(saved, checkpoint_id=f"{folder}/optimizer")
        return
    torch.manual_seed(0)
    alone = dict(
        torch.nn.Sequential(torch.nn.Linear(8, 12), torch.nn.Tanh(), torch.nn.Linear(12, 3)).named_parameters()
    )
    rates = {name: 0.02 if name.startswith("2") else 0.1 for name in alone}
    expected = adamod_init({name: p.detach() for name, p in alone.items()}, lr=rates, beta3=0.9)
    for t in range(END):
        expected = adamod_step(expected, {name: number(*p.shape, seed=t) for name, p in alone.items()})
    for name, p in model.named_parameters():
        assert_same_bits(p, expected.params[name], name)
        assert_same_bits(ours.state[p]["exp_avg_sq"], expected.slots["v"][name], name)


def train(mesh: Any, folder: str) -> None:
    """Step for ever, with a collective in each, and save each third state; say which step was taken."""
    state = adamod_init(tree(0, lambda x, _: distribute_tensor(x, mesh, [Shard(0)])), lr=LR)
    for t in itertools.count():
        grads = tree(t % END, lambda x, _: partial(x, mesh))
        state = adamod_step(state, grads, where=t != 2, donate=True)
        if t % 3 == 1:
            dcp.save(contents(state), checkpoint_id=f"{folder}/{t:09}")
        sys.stdout.write(f"{t}\n")
        sys.stdout.flush()


if __name__ == "__main__":
    with group(*sys.argv[1:4]) as size:
        one_row = init_device_mesh("cpu", (size,))
        if sys.argv[4] == "train":
            train(one_row, sys.argv[5])
        functional(one_row, *sys.argv[4:6])
        optimizer(one_row, *sys.argv[4:6])
