"""The recipes of docs/recipes.md do what their names say elsewhere."""

from __future__ import annotations

import contextlib
import io
from typing import Any

import jax
import numpy as np
import optax
import torch

from tests.blocks import ROOT, Block, blocks
from tests.compare import assert_close
from tests.peers.compare import RTOL


def recipe(heading: str) -> dict[str, Any]:
    """The names that the first block below a heading leaves."""
    page = ROOT / "docs" / "recipes.md"
    line = page.read_text(encoding="utf-8").splitlines().index(f"## {heading}")
    block: Block = next(block for block in blocks(page) if block.line > line)
    names: dict[str, Any] = {"__name__": "__main__"}
    with contextlib.redirect_stdout(io.StringIO()):
        exec(compile(block.text, block.name, "exec"), names)
    return names


def rates(scheduler: Any, steps: int, **options: Any) -> list[float]:
    """Those of one of PyTorch's schedulers, at a rate of 0.1."""
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(()))], lr=0.1)
    schedule, found = scheduler(optimizer, **options), []
    for _ in range(steps):
        found.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        schedule.step()
    return found


def test_polynomial() -> None:
    lr = recipe("A polynomial of any exponent")["lr"]
    ours = [lr(t) for t in range(1, 121)]
    theirs = optax.polynomial_schedule(0.1, 0.0, 0.9, 100)
    assert_close(ours, [0.1 * max(0.0, (101 - t) / 100) ** 0.9 for t in range(1, 121)], ulp=4)
    assert_close(ours, theirs(np.arange(120)), atol=1e-7)  # in float32
    of_torch = rates(torch.optim.lr_scheduler.PolynomialLR, 100, total_iters=100, power=0.9)
    assert_close(ours[:100], of_torch, ulp=RTOL)  # which is a product of 100 ratios


def test_warm_restarts() -> None:
    lr = recipe("Warm restarts")["lr"]
    theirs = rates(torch.optim.lr_scheduler.CosineAnnealingWarmRestarts, 640, T_0=10, T_mult=2)
    assert_close([lr(t) for t in range(1, 641)], theirs, atol=1e-16)  # 1 + cos near -1
    assert_close(lr(np.arange(1, 641)), theirs, atol=1e-16)


def test_one_cycle() -> None:
    lr = recipe("One-cycle")["lr"]
    knots = [0, 30, 100], [0.1 / 25, 0.1, 0.1 / 25e4]
    t = np.arange(101)
    assert_close(lr(t), np.interp(t, *knots), atol=1e-16)
    options = {
        "max_lr": 0.1,
        "total_steps": 100,
        "pct_start": 0.3,
        "anneal_strategy": "linear",
        "cycle_momentum": False,
    }
    theirs = rates(torch.optim.lr_scheduler.OneCycleLR, 100, **options)
    assert_close(lr(t[30:]), theirs[29:], atol=1e-16)  # the fall is the same
    assert np.max(abs(lr(t[1:30]) - theirs[:29])) < (0.1 - 0.1 / 25) / 29


def test_trapezoid() -> None:
    lr = recipe("Warmup, stable, decay")["lr"]
    t = np.arange(110)
    assert_close(lr(t), 1e-3 * np.interp(t, [0, 10, 81, 101], [0.0, 1.0, 1.0, 0.0]), atol=1e-18)


def test_accumulated_gradients_are_those_of_the_batch() -> None:
    names = recipe("Gradient accumulation")
    batch = names["batch"]
    error = batch @ np.zeros(4) - 1
    assert_close(names["state"].params["w"], -0.1 * error @ batch / 8, ulp=4)
    assert_close(names["state"].params["b"], -0.1 * error.mean(), ulp=4)


def test_an_average_is_optaxs() -> None:
    names = recipe("An average of the parameters")
    rng, w = np.random.default_rng(0), np.ones(3)
    average = w
    with jax.enable_x64(True):
        for _ in range(2000):
            w = w - 0.1 * (w + rng.normal(size=3))
            average = np.asarray(optax.incremental_update(w, average, 1 - 0.99))
    assert_close(names["state"].params["w"], w, atol=1e-14)
    assert_close(names["average"]["w"], average, atol=1e-14)
