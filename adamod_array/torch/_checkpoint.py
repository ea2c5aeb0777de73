"""Load checkpoints of this package's optimizers and of those that they stand for."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any

import torch

from adamod_array.torch._cohort import KEYS, slot_dtype

if TYPE_CHECKING:
    from adamod_array.torch._optimizer import Optimizer


AVERAGES = {*KEYS.values(), "momentum_buffer"}
"""By which the methods of a checkpoint are told apart."""

_OTHER_RULES = ("fixed_decay", "rectify", "ams_bound", "adam_debias", "adanorm")
"""Options of pytorch_optimizer's that must be False."""


class _Kept:
    """A tensor that PyTorch is not to cast to its parameter's dtype, nor to take without a copy."""

    def __init__(self, tensor: Any) -> None:
        self.tensor = tensor


def prepared(optimizer: Optimizer, state_dict: dict[str, Any]) -> dict[str, Any]:
    """Return a checkpoint as PyTorch is to load it, after all checks: tensors in boxes, which :func:`unbox` opens."""
    groups = [_completed(k, group, optimizer.defaults) for k, group in enumerate(state_dict["param_groups"])]
    states = {key: _boxed(state) for key, state in state_dict["state"].items()}
    _count(groups, states)
    if [len(group["params"]) for group in groups] == [len(group["params"]) for group in optimizer.param_groups]:
        _check(optimizer, groups, states)  # else PyTorch's own error says more
    return {**state_dict, "param_groups": groups, "state": states}


def unbox(states: dict[Any, Any]) -> None:
    """Copy tensors out of their boxes, slots to the device of their parameter and the dtype that it is computed in."""
    for p, state in states.items():
        for key, value in state.items() if isinstance(state, dict) else ():
            if isinstance(value, _Kept):
                x = value.tensor.detach()
                is_number = x.is_floating_point() or x.is_complex()
                as_slot = key != "step" and is_number and isinstance(p, torch.Tensor) and x.shape == p.shape
                dtype, device = (slot_dtype(p), p.device) if as_slot else (x.dtype, x.device)
                state[key] = x.to(device, dtype, copy=True)


def _completed(k: int, group: dict[str, Any], defaults: dict[str, Any]) -> dict[str, Any]:
    """Return a group with defaults where it lacks options, and pytorch_optimizer's options under PyTorch's names.

    A run of CUDA graphs goes on without them.

    Raises
    ------
    ValueError
        An option makes another rule.
    """
    group = {**defaults, **group, "capturable": False, "differentiable": False}
    if "betas" in group and len(group["betas"]) == 3:
        *betas, group["beta3"] = group["betas"]
        group["betas"] = tuple(betas)
    if "weight_decouple" in group:
        group["decoupled_weight_decay"] = group.pop("weight_decouple")
    for option in _OTHER_RULES:
        if group.pop(option, False) and (option != "fixed_decay" or group["weight_decay"]):
            raise ValueError(f"param_groups[{k}] of the checkpoint has {option}=True, a rule that is not known here")
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
            names = [optimizer.key_of(slot, method) for slot in method.slots]
            averages = [name for name, value in state.items() if isinstance(value, _Kept) and name != "step"]
            if foreign := [name for name in averages if name in AVERAGES and name not in names]:
                raise ValueError(
                    f"the state of parameter {key}, of param_groups[{k}], has {foreign[0]!r}, which"
                    f" {type(method).__name__} does not keep"
                )
            for name in names:
                found = state.get(name)
                if found is None and (averages or name != "momentum_buffer"):  # which SGD makes at the first step
                    raise ValueError(
                        f"the state of parameter {key}, of param_groups[{k}], has no {name!r}, which"
                        f" {type(method).__name__} keeps; it has {', '.join(map(str, state))}"
                    )
                if isinstance(found, _Kept) and found.tensor.shape != p.shape:
                    raise ValueError(
                        f"{name!r} of parameter {key} has the shape {tuple(found.tensor.shape)},"
                        f" its parameter {tuple(p.shape)}"
                    )
