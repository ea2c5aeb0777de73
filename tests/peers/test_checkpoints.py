"""Trainings that move from the other AdaMods to adamod_array.torch, and back."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from typing import Any

import adamod
import pytest
import pytorch_optimizer
import torch

import adamod_array.torch
from tests.compare import assert_close
from tests.peers.compare import RTOL

# add_(alpha, other) and addcmul_(value, a, b), since PyTorch 1.5
pytestmark = pytest.mark.filterwarnings(r"ignore:This overload of add(cmul)?_ is deprecated:UserWarning")


def groups() -> list[dict[str, Any]]:
    """A matrix that decays, a vector and a number, with rates of their own."""
    random = torch.Generator().manual_seed(0)
    w, b, c = (torch.nn.Parameter(torch.randn(s, generator=random, dtype=torch.float64)) for s in ((4, 2), (3,), ()))
    return [{"params": [w], "weight_decay": 0.1}, {"params": [b, c], "lr": 0.1, "eps": 1e-4}]


def values(optimizer: Any) -> list[Any]:
    return [p for group in optimizer.param_groups for p in group["params"]]


def train(optimizers: Sequence[Any], steps: Sequence[int], size: float = 1.0) -> None:
    """Take the same steps by each, of gradients of about this size."""
    for t in steps:
        for optimizer in optimizers:
            random = torch.Generator().manual_seed(100 + t)
            for i, p in enumerate(values(optimizer)):
                p.grad = torch.randn(p.shape, generator=random, dtype=p.dtype) * size * 10.0 ** (-2 * i)
            optimizer.step()


def resumed(optimizer: Any, saved: dict[str, Any], other: Any) -> Any:
    """Return the optimizer, new, with the state and the parameters of the other."""
    optimizer.load_state_dict(copy.deepcopy(saved))  # PyTorch takes the very tensors
    for p, q in zip(values(optimizer), values(other), strict=True):
        p.data.copy_(q.data)
    return optimizer


def assert_same(some: Any, others: Any) -> None:
    for p, q in zip(values(some), values(others), strict=True):
        assert_close(p.detach().numpy(), q.detach().numpy(), ulp=RTOL, atol=1e-14)


def as_pytorch_optimizer(saved: dict[str, Any]) -> dict[str, Any]:
    """Do what docs/adamod_authors.md says."""
    for group in saved["param_groups"]:
        group["step"] = int(saved["state"][group["params"][0]]["step"])
        group.update(weight_decouple=True, fixed_decay=False)
        if "beta3" in group:
            group["betas"] = (*group["betas"], group["beta3"])
        else:  # of its DiffGrad
            group.update(rectify=False, ams_bound=False)
    return saved


PEERS: dict[str, tuple[Any, str, dict[str, Any], dict[str, Any], Callable[[dict[str, Any]], dict[str, Any]]]] = {
    "the authors'": (adamod.AdaMod, "AdaMod", {}, {"variant": "reference"}, lambda saved: saved),
    "pytorch_optimizer's": (
        pytorch_optimizer.AdaMod,
        "AdaMod",
        {"betas": (0.9, 0.99, 0.999)},
        {"variant": "reference"},
        as_pytorch_optimizer,
    ),
    "pytorch_optimizer's, one parameter at a time": (
        pytorch_optimizer.AdaMod,
        "AdaMod",
        {"foreach": False},
        {"variant": "reference"},
        as_pytorch_optimizer,
    ),
}


@pytest.mark.parametrize("peer", PEERS)
def test_a_run_of_another_adamod_goes_on_here_and_back_there(peer: str) -> None:
    theirs, name, options, own, back = PEERS[peer]
    for decay in (0.0, 0.01):
        whole = theirs(groups(), lr=0.01, weight_decay=decay, **options)
        train([whole], range(5))
        mine = resumed(getattr(adamod_array.torch, name)(groups(), **own), whole.state_dict(), whole)
        train([whole, mine], range(5, 15))
        assert_same(mine, whole)
        returned = resumed(theirs(groups(), **options), back(mine.state_dict()), mine)
        train([whole, returned, mine], range(15, 25))
        assert_same(returned, whole)
        assert_same(mine, whole)


def test_diffgrad_goes_on_too() -> None:
    """Without eps, which pytorch_optimizer adds to the uncorrected root; 1e-15 inside of that is nothing here."""
    whole = pytorch_optimizer.DiffGrad(groups(), lr=0.01, weight_decay=0.01)
    for group in whole.param_groups:
        group["eps"] = 0.0
    train([whole], range(5), 1e6)
    mine = resumed(adamod_array.torch.DiffGrad(groups()), whole.state_dict(), whole)
    train([whole, mine], range(5, 15), 1e6)
    assert_same(mine, whole)
    returned = resumed(pytorch_optimizer.DiffGrad(groups()), as_pytorch_optimizer(mine.state_dict()), mine)
    train([whole, returned], range(15, 25), 1e6)
    assert_same(returned, whole)


def test_decay_that_is_added_to_the_gradient_stays_so() -> None:
    whole = pytorch_optimizer.AdaMod(groups(), lr=0.01, weight_decay=0.01, weight_decouple=False)
    train([whole], range(5))
    mine = resumed(adamod_array.torch.AdaMod(groups(), variant="reference"), whole.state_dict(), whole)
    assert [group["decoupled_weight_decay"] for group in mine.param_groups] == [False, False]
    train([whole, mine], range(5, 15))
    assert_same(mine, whole)


def test_options_that_make_another_rule_are_refused() -> None:
    for cls, name, options in (
        (pytorch_optimizer.AdaMod, "AdaMod", {"fixed_decay": True}),
        (pytorch_optimizer.AdaMod, "AdaMod", {"adam_debias": True}),
        (pytorch_optimizer.DiffGrad, "DiffGrad", {"rectify": True}),
        (pytorch_optimizer.DiffGrad, "DiffGrad", {"ams_bound": True}),
    ):
        theirs, mine = cls(groups(), lr=0.01, **options), getattr(adamod_array.torch, name)(groups(), lr=0.5)
        train([theirs], range(2))
        with pytest.raises(ValueError, match=rf"param_groups\[0\] of the checkpoint has {next(iter(options))}=True"):
            mine.load_state_dict(theirs.state_dict())
        assert not mine.state and mine.param_groups[0]["lr"] == 0.5
