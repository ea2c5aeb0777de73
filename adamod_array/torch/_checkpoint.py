"""Load checkpoints of this package's optimizers and of those that they stand for."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import torch

from adamod_array.torch._cohort import slot_dtype

if TYPE_CHECKING:
    from adamod_array.torch._optimizer import Optimizer


class _Kept:
    """A tensor that PyTorch is not to cast to its parameter's dtype, nor to take without a copy."""

    def __init__(self, tensor: Any) -> None:
        self.tensor = tensor


def load(optimizer: Optimizer, state_dict: dict[str, Any], by_torch: Callable[[dict[str, Any]], None]) -> None:
    """Load a checkpoint into an optimizer by PyTorch's own way, after all checks."""
    groups = [_completed(group, optimizer.defaults) for group in state_dict["param_groups"]]
    states = {key: _boxed(state) for key, state in state_dict["state"].items()}
    _count(groups, states)
    if [len(group["params"]) for group in groups] == [len(group["params"]) for group in optimizer.param_groups]:
        _check(optimizer, groups, states)  # else PyTorch's own error says more
    by_torch({**state_dict, "param_groups": groups, "state": states})
    for p, state in optimizer.state.items():
        if not isinstance(p, torch.Tensor):
            continue
        for key, value in state.items():
            if isinstance(value, _Kept):
                x = value.tensor.detach()
                as_slot = key != "step" and (x.is_floating_point() or x.is_complex()) and x.shape == p.shape
                dtype, device = (slot_dtype(p), p.device) if as_slot else (x.dtype, x.device)
                state[key] = x.to(device, dtype, copy=True)


def _completed(group: dict[str, Any], defaults: dict[str, Any]) -> dict[str, Any]:
    """Return a group with defaults where it lacks options; pytorch_optimizer keeps beta3 with the betas."""
    group = {**defaults, **group}
    if "betas" in group and len(group["betas"]) == 3:
        *betas, group["beta3"] = group["betas"]
        group["betas"] = tuple(betas)
    return group


def _boxed(state: Any) -> Any:
    if not isinstance(state, dict):
        return copy.deepcopy(state)
    return {key: _Kept(value) if isinstance(value, torch.Tensor) else value for key, value in state.items()}


def _count(groups: list[dict[str, Any]], states: dict[Any, Any]) -> None:
    """Give parameters the count of their group, where pytorch_optimizer keeps it."""
    for group in groups:
        count = group.pop("step", None)
        for key in group["params"] if count is not None else []:
            if key in states:
                states[key].setdefault("step", count)


def _check(optimizer: Optimizer, groups: list[dict[str, Any]], states: dict[Any, Any]) -> None:
    """Check that the states are those of the optimizer's methods, and of its parameters.

    Raises
    ------
    ValueError
        One is not.
    """
    for k, (group, ours) in enumerate(zip(groups, optimizer.param_groups, strict=True)):
        optimizer._check(
            {key: value for key, value in group.items() if key in optimizer.defaults}, f"param_groups[{k}]"
        )
        method = optimizer.method_of(group)
        for key, p in zip(group["params"], ours["params"], strict=True):
            state = states.get(key)
            if not state:
                continue
            for slot in method.slots:
                name = optimizer.key_of(slot, method)
                found = state.get(name)
                if found is None and name != "momentum_buffer":  # which torch.optim.SGD makes at the first step
                    raise ValueError(
                        f"the state of parameter {key}, of param_groups[{k}], has no {name!r}, which"
                        f" {type(method).__name__} keeps; it has {', '.join(map(str, state))}"
                    )
                if isinstance(found, _Kept) and found.tensor.shape != p.shape:
                    raise ValueError(
                        f"{name!r} of parameter {key} has the shape {tuple(found.tensor.shape)},"
                        f" its parameter {tuple(p.shape)}"
                    )
