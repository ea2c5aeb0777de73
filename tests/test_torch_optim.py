"""adamod_array.torch beside torch.optim: the same trainings, states, groups, schedulers, checkpoints and errors."""

from __future__ import annotations

import collections
import copy
import dataclasses
import doctest
import gc
import importlib
import io
import json
import pickle
import socket
import subprocess
import sys
import warnings
import weakref
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import adamod_array
from adamod_array import Method, schedules
from tests.compare import assert_close

pytestmark = pytest.mark.only("torch")
torch = pytest.importorskip("torch")
ours = importlib.import_module("adamod_array.torch")

ROOT = Path(__file__).parents[1]
RTOL = 1e-12 * 2.0**52
"""1e-12, relative, in ulps of float64: what two orders of the same operations leave."""

PAIRS: list[tuple[str, dict[str, Any]]] = [
    ("Adam", {}),
    ("Adam", {"weight_decay": 0.1}),
    ("Adam", {"weight_decay": 0.1, "decoupled_weight_decay": True}),
    ("Adam", {"amsgrad": True, "maximize": True, "betas": (0.8, 0.99), "eps": 1e-3}),
    ("AdamW", {}),
    ("AdamW", {"amsgrad": True}),
    ("RAdam", {"weight_decay": 0.1}),
    ("RAdam", {"weight_decay": 0.1, "decoupled_weight_decay": True, "maximize": True}),
    ("SGD", {}),
    ("SGD", {"momentum": 0.9, "weight_decay": 0.1}),
    ("SGD", {"momentum": 0.9, "nesterov": True, "maximize": True}),
]
"""Classes of torch.optim and options of theirs."""

ALL = ("Adam", "AdamW", "RAdam", "SGD", "AdaMod", "DiffGrad", "DiffMod")


def params(dtype: Any = torch.float64) -> list[Any]:
    """A matrix, a vector and a number."""
    random = torch.Generator().manual_seed(0)
    return [torch.nn.Parameter(torch.randn(shape, generator=random, dtype=dtype)) for shape in ((4, 2), (3,), ())]


def train(optimizer: Any, steps: Sequence[int], missing: Callable[[int, int], bool] = lambda t, i: False) -> None:
    """Take these steps, each from gradients of its own number."""
    for t in steps:
        random = torch.Generator().manual_seed(100 + t)
        every = [p for group in optimizer.param_groups for p in group["params"]]
        for i, p in enumerate(every):
            gradient = torch.randn(p.shape, generator=random, dtype=p.dtype) * 10.0 ** (-2 * i)
            p.grad = None if missing(t, i) else gradient
        optimizer.step()


def assert_same(actual: Sequence[Any], expected: Sequence[Any], *, ulp: float = RTOL, atol: float = 1e-14) -> None:
    for a, e in zip(actual, expected, strict=True):
        assert a.dtype == e.dtype
        # NumPy has no bfloat16, every number of which is one of float32
        x, y = (each.detach().float() if each.dtype == torch.bfloat16 else each.detach() for each in (a, e))
        assert_close(x.numpy(), y.numpy(), ulp=ulp, atol=atol)


def both(name: str, **options: Any) -> tuple[Any, Any]:
    """Our optimizer and PyTorch's, of equal parameters."""
    return getattr(ours, name)(params(), **options), getattr(torch.optim, name)(params(), **options)


def values(optimizer: Any) -> list[Any]:
    return [p for group in optimizer.param_groups for p in group["params"]]


def test_the_steps_are_pytorchs() -> None:
    """A gradient is missing now and then, or at first: each parameter counts its own steps."""

    def missing(t: int, i: int) -> bool:
        return (i == 1 and t % 5 in (0, 3)) or (i == 2 and t < 7)

    for name, options in PAIRS:
        mine, theirs = both(name, lr=0.01, **options)
        for optimizer in (mine, theirs):
            train(optimizer, range(30), missing)
        assert_same(values(mine), values(theirs))
        for p, q in zip(values(mine), values(theirs), strict=True):
            shared = theirs.state[q].keys() - {"step"}
            assert_same([mine.state[p][key] for key in shared], [theirs.state[q][key] for key in shared])
            if "step" in theirs.state[q]:
                assert mine.state[p]["step"] == theirs.state[q]["step"]


def test_float32_is_within_a_few_ulp_of_the_update() -> None:
    """Ours has no roundings that PyTorch's lacks: 5 of its ulps are what its own paths differ in."""
    for name, options in PAIRS:
        mine, theirs = (
            getattr(of, name)([p.detach().float().requires_grad_() for p in params()], lr=0.01, **options)
            for of in (ours, torch.optim)
        )
        for t in range(3):
            before = [p.detach().clone() for p in values(mine)]
            for p, q in zip(values(theirs), values(mine), strict=True):
                p.data.copy_(q.data)
            for optimizer in (mine, theirs):
                train(optimizer, [t])
            for p, q, old in zip(values(mine), values(theirs), before, strict=True):
                update = float((q - old).detach().abs().max())
                # the parameter itself is rounded, too
                atol = 5 * float(np.finfo(np.float32).eps) * update
                assert_close(p.detach().numpy(), q.detach().numpy(), ulp=1, atol=atol)


def test_a_run_moves_to_pytorch_and_back() -> None:
    for name, options in PAIRS:
        mine, theirs = both(name, lr=0.01, **options)
        for first, second in ((mine, theirs), (theirs, mine), (mine, theirs)):
            whole = getattr(torch.optim, name)([p.detach().clone().requires_grad_() for p in values(first)], **options)
            whole.load_state_dict(copy.deepcopy(first.state_dict()))  # PyTorch takes the very tensors
            train(first, range(3))
            second.load_state_dict(copy.deepcopy(first.state_dict()))
            for p, q in zip(values(second), values(first), strict=True):
                p.data.copy_(q.data)
            train(second, range(3, 6))
            train(whole, range(6))
            assert_same(values(second), values(whole))


def test_groups_as_pytorch_has_them() -> None:
    """Rates, decays and betas of their own, cycled; a group added in mid-run; a layer frozen and thawed."""
    for name in ("Adam", "AdamW", "RAdam"):
        results = []
        for of in (ours, torch.optim):
            w, b, extra = params()
            groups = [{"params": [w], "weight_decay": 0.1}, {"params": [b], "lr": 0.1, "betas": (0.5, 0.9)}]
            optimizer = getattr(of, name)(groups, lr=0.01, weight_decay=0.0)
            train(optimizer, range(4))
            optimizer.add_param_group({"params": [extra], "eps": 1e-4})
            for t in range(4, 20):
                for group in optimizer.param_groups:
                    group["lr"] *= 0.9
                    group["betas"] = (0.8 + 0.005 * t, group["betas"][1])
                w.requires_grad_(t % 8 > 2)
                train(optimizer, [t], missing=lambda t, i: i == 0 and t % 8 <= 2)
            results.append([w, b, extra])
        assert_same(*results)


def test_amsgrad_in_one_group() -> None:
    results = []
    for of in (ours, torch.optim):
        w, b, _ = params()
        optimizer = of.Adam([{"params": [w], "amsgrad": True}, {"params": [b]}], lr=0.1)
        train(optimizer, range(5))
        assert "max_exp_avg_sq" in optimizer.state[w] and "max_exp_avg_sq" not in optimizer.state[b]
        results.append([w, b])
    assert_same(*results)


def test_complex_parameters_are_pairs_as_in_pytorch() -> None:
    for name, options in PAIRS:
        results = []
        for of in (ours, torch.optim):
            every = [*params(torch.complex128), *params()]
            optimizer = getattr(of, name)(every, lr=0.01, **options)
            train(optimizer, range(6))
            every[0].data = every[0].data.clone()  # other memory
            train(optimizer, range(6, 9), missing=lambda t, i: i == 1)
            results.append(every)
        assert_same(*results)


def test_sparse_gradients() -> None:
    results = []
    for of in (ours, torch.optim):
        torch.manual_seed(0)
        table = torch.nn.Embedding(5, 3, sparse=True, dtype=torch.float64)
        optimizer = of.SGD(table.parameters(), lr=0.1, momentum=0.9)
        for words in ([0, 1], [1, 1, 4]):
            optimizer.zero_grad()
            table(torch.tensor(words)).sum().backward()
            optimizer.step()
        results.append([table.weight])
        for name in ("Adam", "AdaMod"):
            if hasattr(of, name):
                with pytest.raises(RuntimeError, match="sparse"):
                    getattr(of, name)(table.parameters()).step()
    assert_same(*results)


def test_every_method_steps_as_the_functional_core_does() -> None:
    """Bit for bit, for 16 bits too; a method of a user's own among them."""

    class Signs(Method):
        slots = ("trace",)

        def rule(self, xp: Any, lr: Any, c: Any, g: Any, p: Any, trace: Any) -> tuple[Any, ...]:
            trace = 0.5 * trace + g
            return p - lr * trace / (xp.abs(trace) + 1.0), trace

    methods = [
        adamod_array.Adam(),
        adamod_array.AdaMod(beta3=0.9),
        adamod_array.RAdam(),
        adamod_array.Momentum(nesterov=True),
        adamod_array.DiffGrad(),
        adamod_array.DiffMod(),
        Signs(),
    ]
    for method in methods:
        for dtype in (torch.float32, torch.float64, torch.float16, torch.bfloat16):
            every = [p.detach().to(dtype).requires_grad_() for p in params()]
            state = adamod_array.init(method, [p.detach().clone() for p in every], lr=0.1, weight_decay=0.01)
            optimizer = ours.Optimizer(every, method, lr=0.1, weight_decay=0.01)
            for t in range(4):
                train(optimizer, [t])
                state = adamod_array.step(state, [p.grad for p in every])
            assert_same(every, state.params, ulp=0, atol=0)
            for slot, tree in state.slots.items():
                key = optimizer.key_of(slot, method)
                assert_same([optimizer.state[p][key] for p in every], tree, ulp=0, atol=0)


def test_named_classes_have_the_options_of_their_methods() -> None:
    p = params()
    for optimizer, method in (
        (
            ours.AdaMod(p, betas=(0.8, 0.9), beta3=0.99, eps=1e-6, variant="reference", hold_idle=False),
            adamod_array.AdaMod(0.8, 0.9, 0.99, 1e-6, variant="reference"),
        ),
        (ours.AdaMod(p, len_memory=10_000), adamod_array.AdaMod(beta3=0.9999)),
        (ours.DiffMod(p, len_memory=1_000, hold_idle=True), adamod_array.DiffMod(beta3=0.999, hold_idle=True)),
        (ours.DiffGrad(p, betas=(0.5, 0.6)), adamod_array.DiffGrad(0.5, 0.6)),
        (ours.RAdam(p), adamod_array.RAdam(variant="reference")),
        (ours.RAdam(p, variant="paper"), adamod_array.RAdam()),
        (ours.Adam(p, amsgrad=True), adamod_array.Adam(amsgrad=True)),
        (ours.SGD(p, momentum=0.5), adamod_array.Momentum(0.5)),
    ):
        assert optimizer.method_of(optimizer.param_groups[0]) == method


def test_a_schedule_as_the_rate_and_as_a_scheduler() -> None:
    schedule = schedules.untuned_linear(0.9) * schedules.cosine_decay(20)
    by_rate = ours.AdaMod(params(), lr=schedules.constant(0.1) * schedule)
    by_scheduler = ours.AdaMod(params(), lr=0.1)
    factor = ours.scheduler(by_scheduler, schedule)
    assert factor.get_last_lr()[0] > 0
    for t in range(5):
        train(by_rate, [t])
        train(by_scheduler, [t])
        factor.step()
    resumed = ours.AdaMod(params(), lr=0.1)
    again = ours.scheduler(resumed, schedule)
    resumed.load_state_dict(by_scheduler.state_dict())
    again.load_state_dict(pickle.loads(pickle.dumps(factor.state_dict())))
    for p, q in zip(values(resumed), values(by_scheduler), strict=True):
        p.data.copy_(q.data)
    for t in range(5, 10):
        train(by_rate, [t])
        train(resumed, [t])
        again.step()
    assert_same(values(resumed), values(by_rate), ulp=4, atol=0)  # the product of the rate is rounded once more


SCHEDULERS: dict[str, Callable[[Any], Any]] = {
    "LambdaLR": lambda o: torch.optim.lr_scheduler.LambdaLR(o, lambda t: 0.9**t),
    "MultiplicativeLR": lambda o: torch.optim.lr_scheduler.MultiplicativeLR(o, lambda t: 0.9),
    "StepLR": lambda o: torch.optim.lr_scheduler.StepLR(o, 3),
    "MultiStepLR": lambda o: torch.optim.lr_scheduler.MultiStepLR(o, [2, 5]),
    "ConstantLR": lambda o: torch.optim.lr_scheduler.ConstantLR(o),
    "LinearLR": lambda o: torch.optim.lr_scheduler.LinearLR(o),
    "ExponentialLR": lambda o: torch.optim.lr_scheduler.ExponentialLR(o, 0.9),
    "PolynomialLR": lambda o: torch.optim.lr_scheduler.PolynomialLR(o),
    "CosineAnnealingLR": lambda o: torch.optim.lr_scheduler.CosineAnnealingLR(o, 8),
    "CosineAnnealingWarmRestarts": lambda o: torch.optim.lr_scheduler.CosineAnnealingWarmRestarts(o, 4),
    "OneCycleLR": lambda o: torch.optim.lr_scheduler.OneCycleLR(o, 0.1, total_steps=20),
    "CyclicLR": lambda o: torch.optim.lr_scheduler.CyclicLR(o, 0.01, 0.1, 4),
    "SequentialLR": lambda o: torch.optim.lr_scheduler.SequentialLR(
        o, [torch.optim.lr_scheduler.ConstantLR(o), torch.optim.lr_scheduler.ExponentialLR(o, 0.9)], [3]
    ),
    "ChainedScheduler": lambda o: torch.optim.lr_scheduler.ChainedScheduler(
        [torch.optim.lr_scheduler.ConstantLR(o), torch.optim.lr_scheduler.ExponentialLR(o, 0.9)]
    ),
}


def test_every_scheduler_of_pytorch() -> None:
    for make in SCHEDULERS.values():
        for name, options in (("Adam", {}), ("SGD", {"momentum": 0.9})):
            results, rates = [], []
            for of in (ours, torch.optim):
                optimizer = getattr(of, name)(params(), lr=0.01, **options)
                schedule, seen = make(optimizer), []
                for t in range(10):
                    train(optimizer, [t])
                    schedule.step()
                    group = optimizer.param_groups[0]
                    seen.append((group["lr"], group.get("betas"), group.get("momentum")))
                results.append(values(optimizer))
                rates.append(seen)
            assert_same(*results)
            assert rates[0] == rates[1]
    plateau = torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer := ours.AdaMod(params(), lr=1.0), patience=0)
    for _ in range(3):
        plateau.step(1.0)
    assert optimizer.param_groups[0]["lr"] < 1.0


def test_gradients_that_overflow_are_skipped_by_the_scaler() -> None:
    for fused in (False, True):
        results = []
        for of in (ours, torch.optim):
            optimizer = of.Adam([p.detach().float().requires_grad_() for p in params()], lr=0.1, fused=fused)
            scaler = torch.amp.GradScaler("cpu", init_scale=4.0, growth_interval=2)
            for t in range(6):
                optimizer.zero_grad()
                loss = sum((p * p).sum() for p in values(optimizer)) * (float("inf") if t == 2 else 1.0)
                scaler.scale(loss).backward()
                scaler.step(optimizer)
                scaler.update()
            results.append([*values(optimizer), *(optimizer.state[p]["step"] for p in values(optimizer))])
        assert_same(*results, ulp=4, atol=1e-6)


def test_scales_and_overflows_that_a_scaler_leaves_to_the_optimizer() -> None:
    """``grad_scale`` and ``found_inf``, which GradScaler sets where it is told that the optimizer knows them."""
    optimizer, plain = (ours.AdaMod(params(), lr=0.1) for _ in range(2))
    train(plain, [0])
    optimizer.grad_scale = torch.tensor(4.0)
    every = values(optimizer)
    for p, q in zip(every, values(plain), strict=True):
        p.grad = q.grad * 4
    optimizer.found_inf = torch.tensor(1.0)
    optimizer.step()
    assert_same(every, params(), ulp=0, atol=0)
    optimizer.found_inf = torch.tensor(0.0)
    optimizer.step()
    assert_same(every, values(plain), ulp=0, atol=0)


def test_a_scaler_that_nobody_waits_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """Scale, overflows and counts stay tensors, as on a GPU: the CPU's, said to cost something to read."""
    results = []
    for on_device in (False, True):
        with monkeypatch.context() as patched:
            if on_device:
                for name in ("adamod_array._rate", "adamod_array.torch._scaler"):
                    module = importlib.import_module(name)
                    patched.setattr(module, "is_free_to_read", lambda namespace, x: False)
            groups = [
                {"params": params()[:2], "fused": True},
                {"params": params()[2:], "lr": schedules.linear_warmup(3)},
            ]
            optimizer = ours.AdaMod(groups, lr=0.1)
            scaler = torch.amp.GradScaler("cpu", init_scale=4.0, growth_interval=2)
            for t in range(7):
                optimizer.zero_grad()
                every = values(optimizer)
                loss = sum((p * p).sum() for p in every[t == 4 :]) * (float("inf") if t in (2, 5) else 1.0)
                scaler.scale(loss).backward()
                scaler.step(optimizer)
                scaler.update()
            cohorts = next(iter(optimizer._known.values())).cohorts
            assert all((each.histories is not None) == on_device for each in cohorts)
            state = optimizer.state_dict()
            results.append([*values(optimizer), *(optimizer.state[p]["step"] for p in values(optimizer))])
        again = ours.AdaMod(copy.deepcopy(groups), lr=0.1)
        again.load_state_dict(state)
        train(again, [1])
    assert_same(*results, ulp=0, atol=0)
    assert [int(x) for x in results[1][len(results[1]) // 2 :]] == [4, *[5] * (len(values(optimizer)) - 1)]


def test_a_rule_that_changes_between_steps() -> None:
    """Options that compute in another way, and numbers alone, which a kernel takes from a table."""
    for changes in (
        {"variant": "reference"},
        {"hold_idle": True},
        {"beta3": 0.5, "betas": (0.5, 0.6)},
        {"maximize": True},
    ):
        optimizer = ours.AdaMod(params(), lr=0.1, beta3=0.9)
        train(optimizer, range(3))
        again = ours.AdaMod([p.detach().clone().requires_grad_() for p in values(optimizer)], lr=0.1)
        again.load_state_dict(optimizer.state_dict())
        for each in (optimizer, again):
            each.param_groups[0].update(changes)
            train(each, range(3, 6))
        assert_same(values(again), values(optimizer), ulp=0, atol=0)


def test_hooks_and_closures() -> None:
    for name in ALL:
        optimizer = getattr(ours, name)(params(), lr=0.1)
        before = [p.detach().clone() for p in values(optimizer)]
        loss, calls = _step_with_hooks(optimizer)
        assert_same([loss], [sum((p * p).sum() for p in before)], ulp=0, atol=0)
        assert calls == ["before", "closure", "after"]
        assert all(bool((p != q).any()) for p, q in zip(values(optimizer), before, strict=True))


def _step_with_hooks(optimizer: Any) -> tuple[Any, list[str]]:
    calls: list[str] = []
    optimizer.register_step_pre_hook(lambda *_: calls.append("before"))
    optimizer.register_step_post_hook(lambda *_: calls.append("after"))

    def closure() -> Any:
        calls.append("closure")
        optimizer.zero_grad()
        loss = sum((p * p).sum() for p in values(optimizer))
        loss.backward()
        return loss

    return optimizer.step(closure), calls


def test_checkpoints() -> None:
    """Saved, loaded at torch.load's default, and gone on with: the same bits; nothing is aliased."""
    for name in ALL:
        for dtype in (torch.float64, torch.bfloat16):
            every = [p.detach().to(dtype).requires_grad_() for p in params()]
            optimizer = getattr(ours, name)(every, lr=0.1)
            train(optimizer, range(3))
            file = io.BytesIO()
            torch.save(optimizer.state_dict(), file)
            file.seek(0)
            loaded = torch.load(file)
            again = [p.detach().clone().requires_grad_() for p in every]
            other, before = getattr(ours, name)(again, lr=0.5), copy.deepcopy(loaded)
            other.load_state_dict(loaded)
            for p in again:
                for key, x in other.state[p].items():
                    assert key == "step" or x.dtype == (torch.float32 if dtype == torch.bfloat16 else dtype)
            for each in (optimizer, other):
                train(each, range(3, 6))
            assert_same(again, every, ulp=0, atol=0)
            train(other, [6])
            for state, unchanged in zip(loaded["state"].values(), before["state"].values(), strict=True):
                assert_same([*state.values()], [*unchanged.values()], ulp=0, atol=0)


def test_copies_and_pickles_go_on_by_themselves() -> None:
    makers: list[Callable[[Any], Any]] = [
        lambda p: ours.AdaMod(p, lr=0.1),
        lambda p: ours.Optimizer(p, adamod_array.RAdam(), lr=0.1),
    ]
    for make in makers:
        optimizer = make(params())
        train(optimizer, range(2))
        for copied in (copy.deepcopy(optimizer), pickle.loads(pickle.dumps(optimizer))):
            train(copied, range(2, 4))
            assert float(copied.state[values(copied)[0]]["step"]) == 4
            whole = make(params())
            train(whole, range(4))
            assert_same(values(copied), values(whole), ulp=0, atol=0)
        assert float(optimizer.state[values(optimizer)[0]]["step"]) == 2


def test_what_a_user_changes_counts() -> None:
    """Slots and counts replaced or written, parameters given other memory or another dtype."""
    optimizer, theirs = both("Adam", lr=0.1)
    for each in (optimizer, theirs):
        p = values(each)[0]
        train(each, range(2))
        each.state[p]["exp_avg"] = torch.ones_like(p)
        each.state[p]["step"] = torch.tensor(10.0)
        train(each, [2])
        each.state[p]["step"] = torch.tensor(20.0)
        train(each, [2])
        each.state[p]["exp_avg_sq"].mul_(2)
        each.state[values(each)[1]]["step"] += 5
        p.data = p.data.t().contiguous().t()
        train(each, [3])
        del each.state[values(each)[2]]
        train(each, [4, 5])
    assert_same(values(optimizer), values(theirs))


def test_a_step_in_backward_frees_each_gradient() -> None:
    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.Tanh(), torch.nn.Linear(4, 1)).double()
    twin = copy.deepcopy(model)
    handles = ours.step_in_backward(ours.AdaMod(model.parameters(), lr=0.1))
    optimizer = ours.AdaMod(twin.parameters(), lr=0.1)
    for _ in range(4):
        x = torch.randn(5, 3, dtype=torch.float64)
        model(x).square().mean().backward()
        optimizer.zero_grad()
        twin(x).square().mean().backward()
        optimizer.step()
        assert all(p.grad is None for p in model.parameters())
    assert_same([*model.parameters()], [*twin.parameters()], ulp=0, atol=0)
    for handle in handles:
        handle.remove()
    model(x).square().mean().backward()
    assert all(p.grad is not None for p in model.parameters())


def test_a_step_in_backward_looks_at_its_own_parameter_alone() -> None:
    """Also where each has a group; and at its group of today."""
    asked: list[int] = []

    class Asked(ours.AdaMod):  # type: ignore[name-defined]
        def method_of(self, group: dict[str, Any]) -> Method:
            asked.append(id(group))
            method: Method = super().method_of(group)
            return method

    every = [torch.nn.Parameter(torch.ones(2)) for _ in range(20)]
    optimizer = Asked([{"params": [p]} for p in every], lr=0.5, beta3=0.9)
    ours.step_in_backward(optimizer)
    for _ in range(2):
        asked.clear()
        sum(p.sum() for p in every).backward()
        assert len(asked) == len({*asked}) == len(every)
    optimizer.param_groups[3]["lr"] = 0.0
    optimizer.param_groups[3]["params"] += optimizer.param_groups[4]["params"]
    del optimizer.param_groups[4]
    before = [p.detach().clone() for p in every]
    sum(p.sum() for p in every).backward()
    assert [bool((p != q).all()) for p, q in zip(every, before, strict=True)] == [i not in (3, 4) for i in range(20)]


def test_a_compiled_training_step_breaks_once_for_the_step() -> None:
    p = torch.nn.Parameter(torch.ones(3))
    optimizer = ours.AdaMod([p], lr=0.1)

    def update(g: Any) -> Any:
        p.grad = g * 2
        optimizer.step()
        return g + 1

    torch._dynamo.reset()
    compiled = torch.compile(update, backend="eager")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for _ in range(3):
            compiled(torch.ones(3))
        assert torch._dynamo.explain(update)(torch.ones(3)).graph_break_count <= 1
    assert float(optimizer.state[p]["step"]) == 4


BAD: dict[str, tuple[Callable[[], Any], type[Exception], str]] = {
    "no parameters": (lambda: ours.AdaMod([]), ValueError, "empty parameter list"),
    "no tensors": (lambda: ours.AdaMod([1.0]), TypeError, "can only optimize Tensors"),
    "a tensor": (lambda: ours.AdaMod(params()[0]), TypeError, "iterable of Tensors"),
    "no method": (lambda: ours.Optimizer(params(), 1e-3), TypeError, "the order is Optimizer"),
    "a negative rate": (lambda: ours.AdaMod(params(), lr=-1.0), ValueError, "the optimizer: lr must not be negative"),
    "two rates": (lambda: ours.Adam(params(), lr=torch.ones(2)), ValueError, "Tensor lr must be 1-element"),
    "a beta": (lambda: ours.Adam(params(), betas=(1.0, 0.9)), ValueError, r"beta1 must be in \[0, 1\), got 1.0"),
    "mixed betas": (lambda: ours.Adam(params(), betas=(0.9, torch.tensor(0.9))), ValueError, "both floats"),
    "dampening": (lambda: ours.SGD(params(), momentum=0.9, dampening=0.5), ValueError, "dampening must be 0"),
    "nesterov alone": (lambda: ours.SGD(params(), nesterov=True), ValueError, "Nesterov momentum requires"),
    "a negative decay": (
        lambda: ours.AdamW(params(), weight_decay=-1),
        ValueError,
        "the optimizer: weight_decay must not be negative",
    ),
    "a group's rate": (
        lambda: ours.AdaMod([{"params": params()[:1]}, {"params": params()[1:], "lr": -1.0}]),
        ValueError,
        r"param_groups\[1\]: lr must not be negative",
    ),
    "a group's option": (
        lambda: ours.AdaMod([{"params": params(), "beat3": 0.9}]),
        TypeError,
        r"param_groups\[0\] has no option 'beat3'; there are lr, betas, beta3",
    ),
    "an argument": (lambda: ours.AdaMod(params(), beat3=0.9), TypeError, "beat3"),
    "one beta": (lambda: ours.AdaMod(params(), betas=0.9), TypeError, "the optimizer: betas must be a pair .*got 0.9"),
    "three betas": (
        lambda: ours.AdaMod(params(), betas=(0.9, 0.99, 0.999)),
        TypeError,
        "betas must be a pair of numbers, got .*; beta3 is an option of its own",
    ),
    "a beta in words": (lambda: ours.Adam(params(), betas=("a", 0.9)), ValueError, "the optimizer: .*'a'"),
    "beta3 twice": (
        lambda: ours.AdaMod(params(), beta3=0.9, len_memory=100),
        TypeError,
        "AdaMod: give beta3 or len_memory, not both",
    ),
    "beta3 twice, the default": (
        lambda: ours.DiffMod(params(), beta3=float("0.999"), len_memory=100),
        TypeError,
        "DiffMod: give beta3 or len_memory, not both",
    ),
    "no memory": (
        lambda: ours.AdaMod(params(), len_memory=0),
        ValueError,
        "AdaMod: len_memory must be at least 1 step",
    ),
    "capturable": (lambda: ours.Adam(params(), capturable=True), RuntimeError, "capturable=True is not supported"),
    "fused and foreach": (lambda: ours.Adam(params(), fused=True, foreach=True), RuntimeError, "together"),
}


def test_bad_arguments_raise_pytorchs_class_of_error_and_name_the_group() -> None:
    for make, error, message in BAD.values():
        with pytest.raises(error, match=message):
            make()
    p = params()
    with pytest.raises(ValueError, match="more than one parameter group"):
        ours.AdaMod([{"params": p[:1]}, {"params": p[:2]}])
    optimizer = ours.AdaMod(p[:1])
    with pytest.raises(ValueError, match=r"param_groups\[1\]: .*beta3 must be in"):
        optimizer.add_param_group({"params": p[1:], "beta3": 2.0})
    assert len(optimizer.param_groups) == 1


def test_a_parameter_twice_in_a_group_is_stepped_once() -> None:
    w, b, _ = params()
    with pytest.warns(UserWarning, match="duplicate parameters"):
        optimizer = ours.AdaMod([w, b, w], lr=0.1)
    alone = params()[:2]
    other = ours.AdaMod(alone, lr=0.1)
    for t in range(3):
        for p, q in zip((w, b), alone, strict=True):
            p.grad = torch.full_like(p, 1.0 + t)
            q.grad = p.grad.clone()
        optimizer.step()
        other.step()
    assert_same([w, b], alone, ulp=0, atol=0)


def test_memory_that_two_parameters_share_is_an_error_that_names_them() -> None:
    memory = torch.zeros(5)
    named = [("first", memory[:3].requires_grad_()), ("second", memory[2:].requires_grad_())]
    optimizer = ours.AdaMod(named)
    for _, p in named:
        p.grad = torch.ones(3)
    with pytest.raises(ValueError, match=r"param_groups\[0\]\['params'\]\[1\] \(second\).*both be optimized"):
        optimizer.step()
    assert not memory.any() and all(float(optimizer.state[p]["step"]) == 0 for _, p in named)


def test_parameters_that_cannot_be_optimized_are_named_before_any_is_begun() -> None:
    """Only where they have a gradient: whole numbers that stay as they are may stand among the parameters."""
    p = torch.nn.Parameter(torch.ones(3))
    repeated = torch.nn.Parameter(torch.ones(1).expand(3))
    for q, error, message in (
        (torch.ones(3, dtype=torch.int64), TypeError, "must have one of the dtypes .*got a torch array of dtype int64"),
        (torch.ones(3).to(torch.float8_e4m3fn), TypeError, "must have one of the dtypes .*float8_e4m3fn"),
        (repeated, ValueError, r"repeats elements .*: optimize a copy, \.clone\(\)"),
    ):
        optimizer = ours.AdaMod([{"params": [p]}, {"params": [q]}])
        p.grad = torch.ones(3)
        optimizer.step()
        q.grad = torch.ones_like(q)
        before = p.detach().clone()
        with pytest.raises(error, match=r"params of param_groups\[1\]\['params'\]\[0\] " + message):
            optimizer.step()
        assert_same([p], [before], ulp=0, atol=0)
        assert float(optimizer.state[p]["step"]) == 1


def test_a_checkpoint_of_another_method_changes_nothing() -> None:
    optimizer, adam = ours.AdaMod(params(), lr=0.1), ours.Adam(params(), lr=0.5)
    for each in (optimizer, adam):
        train(each, [0])
    before = copy.deepcopy(optimizer.state_dict())
    with pytest.raises(ValueError, match=r"parameter 0, of param_groups\[0\], has no 'exp_avg_lr', which AdaMod keeps"):
        optimizer.load_state_dict(adam.state_dict())
    smaller = ours.AdaMod(params()[:2])
    train(smaller, [0])
    with pytest.raises(ValueError, match="parameter group"):
        optimizer.load_state_dict(smaller.state_dict())
    for a, b in zip(optimizer.state_dict()["state"].values(), before["state"].values(), strict=True):
        assert_same([*a.values()], [*b.values()], ulp=0, atol=0)
    assert optimizer.param_groups[0]["lr"] == 0.1


def test_a_parameter_that_moves_to_another_group_takes_its_options() -> None:
    results = []
    for of in (ours, torch.optim):
        w, b, extra = params()
        optimizer = of.AdamW([{"params": [w], "lr": 1.0}, {"params": [b, extra], "lr": 0.001}], weight_decay=0.1)
        train(optimizer, [0])
        optimizer.param_groups[0]["params"].append(optimizer.param_groups[1]["params"].pop(0))
        train(optimizer, [1, 2])
        results.append([w, b, extra])
    assert_same(*results)


def test_counts_that_move_to_shared_memory() -> None:
    results = []
    for of in (ours, torch.optim):
        optimizer = of.Adam(params(), lr=0.1)
        train(optimizer, [0])
        optimizer.state[values(optimizer)[0]]["step"].share_memory_()
        train(optimizer, range(1, 4))
        results.append([*values(optimizer), *(optimizer.state[p]["step"] for p in values(optimizer))])
    assert_same(*results)


def test_the_users_default_device_changes_nothing() -> None:
    optimizer, plain = ours.Adam(params(), lr=0.1), ours.Adam(params(), lr=0.1)
    for each in (optimizer, plain):
        train(each, [0])
    optimizer.load_state_dict(optimizer.state_dict())
    for p, q in zip(values(optimizer), values(plain), strict=True):
        p.grad, q.grad = torch.ones_like(p), torch.ones_like(p)
    with torch.device("meta"):
        optimizer.step()
    plain.step()
    assert_same(values(optimizer), values(plain), ulp=0, atol=0)


def test_a_scheduler_that_rounds_to_less_than_nothing() -> None:
    found = 0
    for total in range(2, 40):
        optimizer = ours.SGD([torch.nn.Parameter(torch.ones(1))], lr=1e-3)
        schedule = torch.optim.lr_scheduler.LinearLR(optimizer, 1 / 3, 0.0, total)
        for t in range(total + 1):
            train(optimizer, [t])
            schedule.step()
        found += optimizer.param_groups[0]["lr"] < 0
    assert found  # else the test is of nothing


def test_hooks_of_load_state_dict_see_tensors_and_may_repair() -> None:
    optimizer = ours.Adam(params(), lr=0.1)
    train(optimizer, [0])
    saved = copy.deepcopy(optimizer.state_dict())
    for state in saved["state"].values():
        state["m"] = state.pop("exp_avg")
    other = ours.Adam(params(), lr=0.1)
    seen: list[type] = []

    def repair(optimizer: Any, state_dict: Any) -> Any:
        states = {
            k: {"exp_avg": s["m"], **{n: x for n, x in s.items() if n != "m"}} for k, s in state_dict["state"].items()
        }
        seen.extend(type(x) for s in states.values() for x in s.values())
        return {**state_dict, "state": states}

    other.register_load_state_dict_pre_hook(repair)
    other.register_load_state_dict_post_hook(
        lambda optimizer: seen.extend(type(x) for s in optimizer.state.values() for x in s.values())
    )
    other.load_state_dict(saved)
    assert set(seen) == {torch.Tensor} and len(seen) == 18
    for p, q in zip(values(other), values(optimizer), strict=True):
        assert_same([other.state[p]["exp_avg"]], [optimizer.state[q]["exp_avg"]], ulp=0, atol=0)


def test_adamw_stays_adamw_whatever_it_loads() -> None:
    for of in (ours, torch.optim):
        adam, adamw = (getattr(of, name)(params(), lr=0.1) for name in ("Adam", "AdamW"))
        train(adam, [0])
        adamw.load_state_dict(adam.state_dict())
        assert adamw.param_groups[0]["decoupled_weight_decay"] is True


def test_frozen_parameters_take_no_step_in_backward() -> None:
    model = torch.nn.Linear(2, 1)
    model.weight.requires_grad_(False)
    optimizer = ours.AdaMod(model.parameters(), lr=0.1)
    assert len(ours.step_in_backward(optimizer)) == 1
    before = model.bias.detach().clone()
    model(torch.ones(1, 2)).sum().backward()
    assert bool((model.bias != before).all()) and not optimizer.state.get(model.weight)
    optimizer.param_groups[0]["params"] = [model.weight]
    moved = model.bias.detach().clone()
    model(torch.ones(1, 2)).sum().backward()
    assert_same([model.bias], [moved], ulp=0, atol=0)  # it is nobody's now


def test_parameters_that_are_replaced_are_let_go() -> None:
    optimizer = ours.AdaMod([torch.nn.Parameter(torch.ones(3))], lr=0.1)
    gone = []
    for t in range(4):
        train(optimizer, [t])
        old = optimizer.param_groups[0]["params"][0]
        gone.append(weakref.ref(old))
        optimizer.param_groups[0]["params"][0] = torch.nn.Parameter(torch.ones(3))
        optimizer.state.pop(old)
        del old
    train(optimizer, [4])
    gc.collect()
    assert [ref() for ref in gone] == [None] * 4


def test_memory_that_is_let_go_is_free_at_once() -> None:
    """Not at the next step, which may never come: states that were cleared, replaced or loaded, other memory of p."""

    def replaced(optimizer: Any, p: Any) -> None:
        optimizer.state[p] = {key: x.clone() for key, x in optimizer.state[p].items()}

    def emptied(optimizer: Any, p: Any) -> None:
        optimizer.state = collections.defaultdict(dict)

    ways: list[Callable[[Any, Any], Any]] = [
        lambda optimizer, p: optimizer.state.clear(),
        lambda optimizer, p: optimizer.state.pop(p),
        lambda optimizer, p: optimizer.load_state_dict(optimizer.state_dict()),
        replaced,
        emptied,
    ]
    for engine in ("numba", "foreach", "eager"):
        for way in ways:
            p = torch.nn.Parameter(torch.ones(3))
            optimizer = ours.AdaMod([p], lr=0.1)
            with adamod_array.engine(engine):
                train(optimizer, range(3))
                gone = [weakref.ref(optimizer.state[p][key]) for key in ("exp_avg", "exp_avg_sq", "exp_avg_lr")]
                way(optimizer, p)
                assert [x() for x in gone] == [None] * 3
                storage = weakref.ref(p.untyped_storage())
                train(optimizer, range(3, 6))
                p.data = p.data.clone()
                assert storage() is None
                train(optimizer, [6])
                assert bool(p.isfinite().all())


def test_conjugate_gradients() -> None:
    results = []
    for of in (ours, torch.optim):
        p = torch.nn.Parameter(torch.ones(2, dtype=torch.complex128))
        optimizer = of.SGD([p], lr=0.1, momentum=0.9)
        for _ in range(2):
            optimizer.zero_grad()
            p.conj().backward(torch.tensor([1.0 + 2j, 3.0]))
            assert p.grad.is_conj()
            optimizer.step()
        results.append([p])
    assert_same(*results)


def test_a_wrong_option_in_mid_run_names_its_group_before_any_group_is_stepped() -> None:
    for name, value, error in (
        ("lr", -1.0, ValueError),
        ("weight_decay", None, TypeError),
        ("weight_decay", float("nan"), ValueError),
        ("weight_decay", -1.0, ValueError),
        ("momentum", 1.5, ValueError),
    ):
        w, b, _ = params()
        optimizer = ours.SGD([{"params": [w], "momentum": 0.9}, {"params": [b]}], lr=0.1)
        train(optimizer, [0])
        before = [w.detach().clone(), b.detach().clone()]
        optimizer.param_groups[1][name] = value
        with pytest.raises(error, match=r"param_groups\[1\]"):
            train(optimizer, [1])
        assert_same([w, b], before, ulp=0, atol=0)
        assert float(optimizer.state[w]["step"]) == 1
    optimizer = ours.AdaMod(params(), lr=0.1)
    del optimizer.param_groups[0]["beta3"]
    with pytest.raises(KeyError, match="beta3"):
        train(optimizer, [0])
    optimizer = ours.AdaMod(params(), lr=0.1)
    train(optimizer, [0])
    optimizer.state[values(optimizer)[1]]["exp_avg"] = 0.0
    with pytest.raises(TypeError, match=r"state\['exp_avg'\] of param_groups\[0\]\['params'\]\[1\] must be an array"):
        train(optimizer, [1])
    optimizer.state[values(optimizer)[1]]["exp_avg"] = torch.zeros(5)
    with pytest.raises(ValueError, match=r"state\['exp_avg'\] of param_groups\[0\]\['params'\]\[1\]"):
        train(optimizer, [1])


def test_an_error_of_a_schedule_is_raised_as_it_is() -> None:
    def schedule(t: Any) -> float:
        return float(json.loads("{"))

    with pytest.raises(json.JSONDecodeError):
        train(ours.AdaMod(params(), lr=schedule), [0])


def test_a_method_with_attributes_of_its_own_is_maximised() -> None:
    @dataclasses.dataclass(frozen=True)
    class Signs(Method):
        scale: float = 2.0
        twice: float = dataclasses.field(init=False, default=0.0)

        def __post_init__(self) -> None:
            super().__post_init__()
            object.__setattr__(self, "twice", 2 * self.scale)

        def rule(self, xp: Any, lr: Any, c: Any, g: Any, p: Any) -> tuple[Any, ...]:
            return (p - lr * self.twice * g,)

    p = torch.nn.Parameter(torch.zeros(2))
    optimizer = ours.Optimizer([p], Signs(3.0), lr=0.5, maximize=True)
    p.grad = torch.ones(2)
    optimizer.step()
    assert_same([p], [torch.full((2,), 3.0)], ulp=0, atol=0)


def test_slots_whose_keys_collide_are_refused() -> None:
    for slots in (("step",), ("m", "exp_avg")):

        class Own(Method):
            def rule(self, xp: Any, lr: Any, c: Any, g: Any, p: Any, *kept: Any) -> tuple[Any, ...]:
                return p - lr * g, *kept

        Own.slots = slots
        with pytest.raises(ValueError, match="must differ"):
            ours.Optimizer(params(), Own())


def test_checkpoints_of_other_methods() -> None:
    """Told apart by their averages; of CUDA graphs nothing is kept."""
    made = {name: getattr(ours, name)(params(), lr=0.1) for name in ("Adam", "AdaMod", "DiffGrad")}
    made["SGD"] = ours.SGD(params(), lr=0.1, momentum=0.9)
    for optimizer in made.values():
        train(optimizer, [0])
    for name, optimizer in made.items():
        for other, source in made.items():
            if name != other:
                with pytest.raises(ValueError, match="param_groups"):
                    optimizer.load_state_dict(source.state_dict())
    saved = copy.deepcopy(made["Adam"].state_dict())
    saved["param_groups"][0]["capturable"] = True
    made["Adam"].load_state_dict(saved)
    assert made["Adam"].param_groups[0]["capturable"] is False


def test_an_averaged_model() -> None:
    torch.manual_seed(0)
    model = torch.nn.Linear(3, 1)
    averaged = torch.optim.swa_utils.AveragedModel(model)
    optimizer = ours.AdaMod(model.parameters(), lr=0.1)
    swa = torch.optim.swa_utils.SWALR(optimizer, swa_lr=0.05)
    for _ in range(3):
        optimizer.zero_grad()
        model(torch.ones(2, 3)).sum().backward()
        optimizer.step()
        averaged.update_parameters(model)
        swa.step()
    assert int(averaged.n_averaged) == 3


def test_the_examples_of_the_docstrings() -> None:
    for name in ("", "._classes", "._optimizer", "._use"):
        found = doctest.testmod(importlib.import_module(f"adamod_array.torch{name}"))
        assert found.failed == 0 and found.attempted > 0, name


def test_two_processes_train_as_pytorchs_classes_do() -> None:
    """DistributedDataParallel and ZeroRedundancyOptimizer over loopback."""
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        port = str(server.getsockname()[1])
    processes = [
        subprocess.Popen(
            [sys.executable, "-m", "tests.ddp", str(rank), port],
            cwd=ROOT,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(2)
    ]
    for process in processes:
        printed, errors = process.communicate(timeout=300)
        assert process.returncode == 0, errors
        found = json.loads(printed)
        assert len(found) == 9
        assert all(apart <= 1e-12 for apart in found.values()), found
