"""pytorch_warmup's factors, which dampen the learning rate of an optimizer."""

from __future__ import annotations

from typing import Any

import pytest
import pytorch_warmup
import torch

from adamod_array import schedules
from tests.compare import assert_close
from tests.peers.compare import RTOL

BETA2 = [0.75, 0.9375, 1 - 2.0**-10]
"""Exact in binary, as 2/(1 - beta2) is: here nothing is lost when pytorch_warmup truncates it to an int."""


def factors(cls: Any, steps: int, beta2: float, *args: Any) -> list[float]:
    """The learning rates of the first steps, in units of the full one."""
    optimizer = torch.optim.Adam([torch.nn.Parameter(torch.zeros(1))], lr=1.0, betas=(0.9, beta2))
    warmup, rates = cls(optimizer, *args), []
    for _ in range(steps):
        rates.append(optimizer.param_groups[0]["lr"])
        with warmup.dampening():
            pass
    return rates


@pytest.mark.parametrize("beta2", BETA2)
def test_untuned_linear(beta2: float) -> None:
    ours = [schedules.untuned_linear(beta2)(t) for t in range(1, 3001)]
    assert_close(ours, factors(pytorch_warmup.UntunedLinearWarmup, 3000, beta2), ulp=RTOL)


@pytest.mark.parametrize("beta2", BETA2)
def test_untuned_exponential(beta2: float) -> None:
    ours = [schedules.untuned_exponential(beta2)(t) for t in range(1, 3001)]
    assert_close(ours, factors(pytorch_warmup.UntunedExponentialWarmup, 3000, beta2), ulp=RTOL)


@pytest.mark.parametrize("period", [1, 7, 100])
def test_linear_and_exponential(period: int) -> None:
    steps = range(1, 201)
    linear, exponential = schedules.linear_warmup(period), schedules.exponential_warmup(period)
    assert_close([linear(t) for t in steps], factors(pytorch_warmup.LinearWarmup, 200, 0.9, period), ulp=RTOL)
    assert_close([exponential(t) for t in steps], factors(pytorch_warmup.ExponentialWarmup, 200, 0.9, period), ulp=RTOL)


@pytest.mark.parametrize("beta2", [0.9, 0.99, 0.999])
def test_radam_which_pytorch_warmup_starts_at_the_first_rectified_step(beta2: float) -> None:
    # its textbook rho loses about 1e-16/(1 - beta2)**2, and what is left of rho - 4 two digits more
    ours = [schedules.radam_warmup(beta2)(t + 4) for t in range(1, 1001)]
    assert_close(ours, factors(pytorch_warmup.RAdamWarmup, 1000, beta2), ulp=RTOL if beta2 < 0.99 else 1e-9 * 2.0**52)


def test_two_over_one_minus_beta2_is_not_truncated() -> None:
    # 2/(1 - .999) is 1999.9999999999982: pytorch_warmup's int() makes it 1999
    theirs = factors(pytorch_warmup.UntunedLinearWarmup, 2001, 0.999)
    assert theirs.index(1.0) + 1 == 1999
    ours = [schedules.untuned_linear(0.999)(t) for t in range(1, 2002)]
    assert ours[1999 - 1] == pytest.approx(1999 / 2000, rel=1e-12)
    assert ours[2000 - 1] == pytest.approx(1, rel=1e-12)
    assert ours[2001 - 1] == 1
    # with the whole period they agree
    assert_close(ours, factors(pytorch_warmup.LinearWarmup, 2001, 0.999, 2000), ulp=RTOL)
