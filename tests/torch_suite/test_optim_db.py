"""Every input of PyTorch's ``optim_db`` for Adam, AdamW, RAdam and SGD, over this package's classes of these names.

PyTorch's tests of its own optimizers are not in the wheel; what they hold is written here anew, from its documentation.
"""

from __future__ import annotations

import copy
import io
from typing import Any

import numpy as np
import pytest
import torch
from torch.testing._internal.common_optimizers import OptimizerErrorEnum, optim_db

import adamod_array.torch
from tests.compare import assert_close

NAMES = ("Adam", "AdamW", "RAdam", "SGD")
INFOS = {info.optim_cls.__name__: info for info in optim_db if info.optim_cls.__name__ in NAMES}
RTOL = 1e-12 * 2.0**52
INPUTS = [
    pytest.param(name, each.kwargs, id=f"{name}-{each.desc}")
    for name, info in INFOS.items()
    for each in info.optim_inputs_func(device="cpu")
    if "dampening" not in each.kwargs  # which is refused: see BAD in tests/test_torch_optim.py
]
ERRORS = [
    pytest.param(name, k, id=f"{name}-{each.optimizer_error_input.desc}")
    for name, info in INFOS.items()
    for k, each in enumerate(info.optim_error_inputs_func(device="cpu", dtype=torch.float64))
]


def test_all_four_are_there() -> None:
    assert sorted(INFOS) == sorted(NAMES) and len(INPUTS) >= 20 and len(ERRORS) >= 30


def both(name: str, options: dict[str, Any], dtype: Any) -> list[tuple[Any, Any]]:
    """A network and its optimizer, of this package and of PyTorch."""
    results = []
    for of in (adamod_array.torch, torch.optim):
        torch.manual_seed(0)
        model = torch.nn.Sequential(
            torch.nn.Linear(2, 3), torch.nn.Sigmoid(), torch.nn.Linear(3, 1), torch.nn.Sigmoid()
        )
        model.to(dtype)
        results.append((model, getattr(of, name)(model.parameters(), **copy.deepcopy(options))))
    return results


def descend(model: Any, optimizer: Any, steps: int) -> None:
    x = torch.tensor([[0.1, 0.2], [0.3, 0.4], [0.5, 0.6], [-0.7, 0.8]], dtype=next(model.parameters()).dtype)
    y = torch.tensor([[0.1], [0.9], [0.5], [0.2]], dtype=x.dtype)
    for _ in range(steps):
        optimizer.zero_grad()
        torch.nn.functional.mse_loss(model(x), y).backward()
        optimizer.step()


def arrays(tensors: Any) -> list[Any]:
    return [x.detach().numpy() for x in tensors]


@pytest.mark.parametrize(("name", "options"), INPUTS)
def test_steps(name: str, options: dict[str, Any]) -> None:
    (mine, ours), (theirs, its) = both(name, options, torch.float64)
    descend(mine, ours, 10)
    descend(theirs, its, 10)
    for a, e in zip(arrays(mine.parameters()), arrays(theirs.parameters()), strict=True):
        assert_close(a, e, ulp=RTOL, atol=1e-14)


@pytest.mark.parametrize(("name", "options"), INPUTS)
def test_steps_of_float32(name: str, options: dict[str, Any]) -> None:
    """5 ulp of the update, and the rounding of the parameter, in each of ten steps from the same parameters."""
    (mine, ours), (theirs, its) = both(name, options, torch.float32)
    for _ in range(10):
        before = [x.copy() for x in arrays(mine.parameters())]
        with torch.no_grad():
            for p, q in zip(mine.parameters(), theirs.parameters(), strict=True):
                q.copy_(p)
        descend(mine, ours, 1)
        descend(theirs, its, 1)
        for a, e, old in zip(arrays(mine.parameters()), arrays(theirs.parameters()), before, strict=True):
            assert_close(a, e, ulp=1, atol=5 * float(np.spacing(np.abs(e - old).max())))


@pytest.mark.parametrize(("name", "options"), INPUTS)
def test_checkpoints_go_both_ways(name: str, options: dict[str, Any]) -> None:
    (mine, ours), (theirs, its) = both(name, options, torch.float64)
    (other, again), (last, at_last) = both(name, options, torch.float64)
    descend(mine, ours, 3)
    file = io.BytesIO()
    torch.save({"model": mine.state_dict(), "optimizer": ours.state_dict()}, file)
    for model, optimizer in ((theirs, its), (other, again)):
        file.seek(0)
        saved = torch.load(file, weights_only=True)
        model.load_state_dict(saved["model"])
        optimizer.load_state_dict(saved["optimizer"])
        descend(model, optimizer, 3)
    last.load_state_dict(theirs.state_dict())
    at_last.load_state_dict(copy.deepcopy(its.state_dict()))
    descend(mine, ours, 3)
    for model, optimizer in ((mine, ours), (theirs, its), (other, again), (last, at_last)):
        descend(model, optimizer, 2)
    for a, e in zip(arrays(mine.parameters()), arrays(other.parameters()), strict=True):
        assert_close(a, e)
    for model in (theirs, last):
        for a, e in zip(arrays(model.parameters()), arrays(mine.parameters()), strict=True):
            assert_close(a, e, ulp=RTOL, atol=1e-14)


@pytest.mark.parametrize(("name", "options"), INPUTS)
def test_without_gradients_nothing_moves(name: str, options: dict[str, Any]) -> None:
    (model, optimizer), _ = both(name, options, torch.float64)
    before = [x.copy() for x in arrays(model.parameters())]
    optimizer.step()
    for a, e in zip(arrays(model.parameters()), before, strict=True):
        assert_close(a, e)
    assert not optimizer.state


@pytest.mark.parametrize(("name", "options"), INPUTS)
def test_a_copy_has_all_that_is_public(name: str, options: dict[str, Any]) -> None:
    (model, optimizer), _ = both(name, options, torch.float64)
    descend(model, optimizer, 2)
    copied = copy.deepcopy(optimizer)
    public = {key for key in vars(optimizer) if not key.startswith("_")}
    assert public == {key for key in vars(copied) if not key.startswith("_")}


@pytest.mark.parametrize(("name", "k"), ERRORS)
def test_errors_are_of_pytorchs_class(name: str, k: int) -> None:
    case = INFOS[name].optim_error_inputs_func(device="cpu", dtype=torch.float64)[k]
    assert case.error_on == OptimizerErrorEnum.CONSTRUCTION_ERROR
    given = case.optimizer_error_input
    kind = pytest.warns if issubclass(case.error_type, Warning) else pytest.raises
    with kind(case.error_type):
        getattr(adamod_array.torch, name)(given.params, **given.kwargs)
