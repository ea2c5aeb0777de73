"""Trainings by PyTorch's own parallelisms with the optimizers of ``adamod_array.torch``.

The gradients of each step, whole, are given to a step of one process: the parameters must have its bits.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import torch
from torch.distributed.checkpoint.state_dict import get_optimizer_state_dict, set_optimizer_state_dict
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor, Replicate, Shard
from torch.distributed.tensor.parallel import ColwiseParallel, RowwiseParallel, SequenceParallel, parallelize_module

import adamod_array.torch
from adamod_array import AdaMod, Method, RAdam, adamod_init, adamod_step, init, step
from tests.scale.meshes import assert_same_bits, number, partial, spread, whole
from tests.trees import METHODS

STEPS = 20

# PyTorch's, about a linear layer of three dimensions
warnings.filterwarnings("ignore", "FSDP2-wrapped module .* returned a view tensor", UserWarning)


def network() -> Any:
    torch.manual_seed(0)
    layers = torch.nn.LayerNorm(8), torch.nn.Linear(8, 12), torch.nn.Tanh(), torch.nn.Linear(12, 3)
    return torch.nn.Sequential(*layers)


def batch(t: int, mesh: Any) -> Any:
    """Numbers of each process along the first dimension of the mesh, and all the same along the second."""
    rank = mesh.get_local_rank(0)
    return torch.randn(4, 5, 8, generator=torch.Generator().manual_seed(16 * t + rank))


def check_training(model: Any, mesh: Any, optimizer: Any, method: Method, steps: int = STEPS, lr: float = 0.05) -> None:
    params = dict(model.named_parameters())
    placements = {name: p.placements if isinstance(p, DTensor) else None for name, p in params.items()}
    expected = init(method, {name: whole(p).clone() for name, p in params.items()}, lr=lr)
    for t in range(steps):
        optimizer.zero_grad()
        model(batch(t, mesh)).square().mean().backward()
        grads = {name: whole(p.grad).clone() for name, p in params.items()}
        versions = [p._version for p in params.values()]
        optimizer.step()
        assert all(p._version > old for p, old in zip(params.values(), versions, strict=True))
        expected = step(expected, grads)
    for name, p in params.items():
        assert dict(model.named_parameters())[name] is p
        assert_same_bits(p, expected.params[name], name)
        for slot in method.slots:
            x = optimizer.state[p][optimizer.key_of(slot, method)]
            assert not isinstance(p, DTensor) or x.placements == p.placements == placements[name]
            assert_same_bits(x, expected.slots[slot][name], f"{slot} of {name}")


def sharded(mesh: Any) -> Any:
    model = network()
    for layer in model:
        fully_shard(layer, mesh=mesh)
    return fully_shard(model, mesh=mesh)


def case_fsdp2_by_every_method(mesh: Any) -> None:
    """Over all dimensions of the mesh: where there are two, replicas along the first, shards along the second."""
    for name, method in METHODS.items():
        model = sharded(mesh)
        assert all(isinstance(p, DTensor) for p in model.parameters())
        steps = STEPS if name in ("adamod", "adam") else 3
        check_training(model, mesh, adamod_array.torch.Optimizer(model.parameters(), method, lr=0.05), method, steps)


def case_tensor_parallel_with_norms_of_sequences(mesh: Any) -> None:
    """Norms are replicated, and their gradients are sums not yet taken."""
    model_mesh = mesh if mesh.ndim == 1 else mesh["model"]
    plan = {"0": SequenceParallel(), "1": ColwiseParallel(input_layouts=Shard(1)), "3": RowwiseParallel()}
    for method in (AdaMod(), RAdam()):
        model = parallelize_module(network(), model_mesh, plan)
        optimizer = adamod_array.torch.Optimizer(model.parameters(), method, lr=0.05)
        check_training(Same(model, model_mesh), mesh, optimizer, method)


class Same(torch.nn.Module):
    """A model that all processes along a mesh give the same numbers: those of the first."""

    def __init__(self, model: Any, mesh: Any) -> None:
        super().__init__()
        self.model, self.mesh = model, mesh

    def forward(self, x: Any) -> Any:
        torch.distributed.broadcast(x, group=self.mesh.get_group(), group_src=0)
        return self.model(x)


def case_fsdp2_of_tensor_parallel(mesh: Any) -> None:
    """On a mesh of two dimensions, each parameter is sharded along both."""
    if mesh.ndim == 1:
        return
    plan = {"0": SequenceParallel(), "1": ColwiseParallel(input_layouts=Shard(1)), "3": RowwiseParallel()}
    model = parallelize_module(network(), mesh["model"], plan)
    for layer in model:
        fully_shard(layer, mesh=mesh["data"])
    fully_shard(model, mesh=mesh["data"])
    assert len(model[1].weight.placements) == 2
    optimizer = adamod_array.torch.AdaMod(model.parameters(), lr=0.05)
    check_training(Same(model, mesh["model"]), mesh, optimizer, AdaMod())
    params = dict(model.named_parameters())
    state = adamod_init({name: p.detach().clone() for name, p in params.items()}, lr=0.05)
    expected = adamod_init({name: whole(p).clone() for name, p in params.items()}, lr=0.05)
    for donate in (False, True):
        state = adamod_step(state, {name: p.grad for name, p in params.items()}, donate=donate)
        expected = adamod_step(expected, {name: whole(p.grad) for name, p in params.items()})
    for name, p in params.items():
        assert state.params[name].placements == p.placements
        assert_same_bits(state.params[name], expected.params[name], name)


def case_groups_and_parameters_without_a_gradient(mesh: Any) -> None:
    """Beside DTensors a plain parameter, and complex numbers, which PyTorch's optimizers take as pairs."""
    placements = [Shard(0)] * mesh.ndim
    numbers = [number(6, 4), number(3), number(6, 4) + 1j * number(6, 4, seed=3)]

    def optimizer_of(wrap: Callable[[Any], Any]) -> tuple[Any, list[Any]]:
        p, plain, z = (torch.nn.Parameter(x) for x in (wrap(numbers[0]), numbers[1].clone(), wrap(numbers[2])))
        groups = [{"params": [p, plain]}, {"params": [z], "lr": 0.01, "weight_decay": 0.1}]
        return adamod_array.torch.AdamW(groups, lr=0.1), [p, plain, z]

    ours, params = optimizer_of(lambda x: spread(x.clone(), mesh, placements))
    alone, plain_params = optimizer_of(lambda x: x.clone())
    for t in range(6):
        g, z = number(6, 4, seed=t), number(6, 4, seed=t) - 1j * number(6, 4, seed=1 + t)
        grads = [partial(g, mesh) if t != 2 else None, number(3, seed=t), spread(z, mesh, [Replicate()] * mesh.ndim)]
        for p, q, x in zip(params, plain_params, grads, strict=True):
            p.grad = x if not isinstance(x, DTensor) else x.redistribute(mesh, placements)
            q.grad = None if x is None else whole(x).clone()
        ours.step()
        alone.step()
    for k, (p, q) in enumerate(zip(params, plain_params, strict=True)):
        assert_same_bits(p, q, f"parameter {k}")
        assert_same_bits(ours.state[p]["exp_avg_sq"], alone.state[q]["exp_avg_sq"], f"slot {k}")
        assert float(ours.state[p]["step"]) == float(alone.state[q]["step"]) == (5 if k == 0 else 6)


def case_checkpoints_by_pytorchs_functions(mesh: Any) -> None:
    """A run that goes on from what ``get_optimizer_state_dict`` gave has the bits of one that was not interrupted."""
    ends = []
    for stop in (False, True):
        model = sharded(mesh)
        optimizer = adamod_array.torch.AdaMod(model.parameters(), lr=0.05)
        for t in range(6):
            if stop and t == 3:
                saved = get_optimizer_state_dict(model, optimizer)
                optimizer = adamod_array.torch.AdaMod(model.parameters(), lr=0.05)
                set_optimizer_state_dict(model, optimizer, saved)
            optimizer.zero_grad()
            model(batch(t, mesh)).square().mean().backward()
            optimizer.step()
        ends.append([whole(p).clone() for p in model.parameters()])
    for k, (one, other) in enumerate(zip(*ends, strict=True)):
        assert_same_bits(one, other, f"parameter {k}")


def case_errors_name_the_group(mesh: Any) -> None:
    from tests.scale.steps import refused

    p = torch.nn.Parameter(spread(number(6, 4), mesh, [Shard(0)] * mesh.ndim))
    optimizer = adamod_array.torch.Adam([p])
    p.grad = spread(number(6, 4), mesh, [Shard(0)] * mesh.ndim)
    optimizer.step()
    optimizer.state[p]["exp_avg"] = number(6, 4)
    words = "state['exp_avg'] of param_groups[0]['params'][0] must be a DTensor", "distribute_tensor"
    refused(ValueError, *words, call=optimizer.step)
    summed = torch.nn.Parameter(partial(number(6, 4), mesh))
    summed.grad = partial(number(6, 4), mesh)
    words = "param_groups[0]['params'][0] must be replicated or sharded", "redistribute"
    refused(ValueError, *words, call=adamod_array.torch.Adam([summed]).step)
