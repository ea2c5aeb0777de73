"""PyTorch's own optimizers, each beside the option that matches it."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch

from adamod_array import Adam, Method, Momentum, RAdam, init, step
from tests.peers.compare import assert_same, of_torch, ours

BETAS = {"betas": (0.8, 0.99)}


@pytest.mark.parametrize(
    ("method", "peer", "options"),
    [
        (Adam(), torch.optim.Adam, {}),
        (Adam(0.8, 0.99, 1e-3), torch.optim.Adam, {**BETAS, "eps": 1e-3}),
        (Adam(amsgrad=True), torch.optim.Adam, {"amsgrad": True}),
        (Adam(0.8, 0.99, amsgrad=True), torch.optim.Adam, {**BETAS, "amsgrad": True}),
        (RAdam(variant="reference"), torch.optim.RAdam, {}),
        (RAdam(0.8, 0.99, 1e-3, variant="reference"), torch.optim.RAdam, {**BETAS, "eps": 1e-3}),
        (Momentum(0.9), torch.optim.SGD, {"momentum": 0.9}),
        (Momentum(0.5), torch.optim.SGD, {"momentum": 0.5}),
        (Momentum(0.0), torch.optim.SGD, {}),
        (Momentum(0.9, nesterov=True), torch.optim.SGD, {"momentum": 0.9, "nesterov": True}),
    ],
    ids=str,
)
@pytest.mark.parametrize("lr", [1e-3, 0.1])
def test_torch_optim(method: Method, peer: Any, options: dict[str, Any], lr: float) -> None:
    assert_same(ours(method, lr), of_torch(peer, lr=lr, **options))


@pytest.mark.parametrize(
    ("method", "peer", "options"),
    [
        (Adam(), torch.optim.AdamW, {}),
        (Adam(amsgrad=True), torch.optim.AdamW, {"amsgrad": True}),
        (RAdam(variant="reference"), torch.optim.RAdam, {"decoupled_weight_decay": True}),
    ],
    ids=str,
)
def test_torch_optim_with_decoupled_weight_decay(method: Method, peer: Any, options: dict[str, Any]) -> None:
    assert_same(ours(method, 0.01, weight_decay=0.1), of_torch(peer, lr=0.01, weight_decay=0.1, **options))


def test_torch_adam_divides_zero_by_zero_in_float16_and_ours_does_not() -> None:
    # eps = 1e-8 is 0 in float16
    p = torch.nn.Parameter(torch.ones(3, dtype=torch.float16))
    p.grad = torch.zeros_like(p)
    optimizer = torch.optim.Adam([p], foreach=False)
    optimizer.step()
    assert torch.isnan(p).all()

    state = step(init(Adam(), torch.ones(3, dtype=torch.float16)), torch.zeros(3, dtype=torch.float16))
    assert (state.params == 1).all()


def test_torch_radam_skips_the_fifth_step_that_the_papers_rectify() -> None:
    # rho_5 is 4.99 for beta2 = .999: above the papers' 4 and below the code's 5
    assert RAdam().threshold == 4
    assert RAdam(variant="reference").threshold == 5
    theta = np.zeros(1)
    sizes = []
    for method in (RAdam(), RAdam(variant="reference")):
        state = init(method, theta, lr=1.0)
        for _ in range(5):
            before = state.params
            state = step(state, np.ones(1))
        sizes.append(float((before - state.params)[0]))
    assert math.isclose(sizes[1], 1.0, rel_tol=1e-12)
    assert sizes[0] < 0.02
