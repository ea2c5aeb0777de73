"""What a beginner writes by mistake with schedules: the error says what to write instead."""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any

import pytest

from adamod_array import schedules
from adamod_array.schedules import cosine_decay, effective_warmup_period, join, linear_decay, linear_warmup, step_decay
from tests.test_mistakes import Mistakes, assert_said, call

pytestmark = pytest.mark.only("numpy")


def test_arguments_in_another_order_or_out_of_range() -> None:
    warmup, decay = linear_warmup(4), linear_decay(4)
    of_cosine, of_join = "the order is cosine_decay(steps, final)", "the order is join(schedules, boundaries)"
    mistakes: Mistakes = {
        "the value first": (call(cosine_decay, 1e-3, 100), ("steps must be at least 1, got 0.001", of_cosine)),
        "the value alone": (call(linear_decay, 0.1), ("steps must be at least 1, got 0.1",)),
        "a rate at the end": (call(cosine_decay, 100, final=100), ("final must be in [0, 1], got 100.0", of_cosine)),
        "a decay that rises": (call(linear_decay, 10, 2.0), ("final must be in [0, 1], got 2.0",)),
        "steps before a factor": (call(schedules.exponential_decay, 100, 0.5), ("exponential_decay(factor, steps)",)),
        "one milestone": (call(step_decay, 100), ("milestones must be a tuple", "write (100,)")),
        "one boundary": (call(join, (warmup, decay), 4), ("boundaries must be a tuple", "write (4,)")),
        "boundaries first": (call(join, (10,), (warmup, decay)), ("boundaries must ascend", of_join)),
        "one schedule": (call(join, warmup, (4,)), ("schedules must be a tuple", of_join)),
        "a number to join": (call(join, (warmup, 0.5), (4,)), ("instances of Schedule, got 0.5", of_join)),
        "no steps": (call(cosine_decay), ("'steps'", "schedules.cosine_decay(steps, final)")),
    }
    assert_said(mistakes)
    for kept in (cosine_decay(1, 0), linear_decay(1, 1), linear_decay(7.5, 0.5), linear_warmup(0.5)):
        assert 0 <= kept(3) <= 1


def test_arguments_of_other_libraries() -> None:
    meant = {
        "T_max": (cosine_decay, "steps"),
        "decay_steps": (linear_decay, "steps"),
        "warmup_steps": (linear_warmup, "steps"),
        "total_iters": (linear_warmup, "steps"),
        "start_factor": (linear_warmup, "start"),
        "eta_min": (cosine_decay, "final"),
        "gamma": (step_decay, "factor"),
        "decay_rate": (schedules.exponential_decay, "factor"),
        "b2": (schedules.untuned_linear, "beta2"),
    }
    assert_said(
        {x: (call(make, **{x: 5}), (f"schedules.{make.__name__}()", f"write {y}=")) for x, (make, y) in meant.items()}
    )


def test_only_products_are_schedules() -> None:
    warmup = linear_warmup(4)

    def of(operate: Callable[..., Any], *args: Any) -> Callable[[], Any]:
        return lambda: operate(*args)

    words = ("schedules multiply", "0.5 * a", "lambda t: a(t) + b(t)")
    mistakes: Mistakes = {
        "a sum": (of(operator.add, warmup, linear_decay(4)), words),
        "a number more": (of(operator.add, 1, warmup), words),
        "the rest": (of(operator.sub, 1, warmup), words),
        "less": (of(operator.sub, warmup, 1), words),
        "half": (of(operator.truediv, warmup, 2), words),
        "one by": (of(operator.truediv, 1, warmup), words),
        "the other sign": (of(operator.neg, warmup), words),
        "a power": (of(operator.pow, warmup, 2), words),
        "a class": (call(effective_warmup_period, schedules.untuned_linear), ("call it, untuned_linear(beta2=0.999)",)),
        "its beta2": (call(effective_warmup_period, 0.999), ("such as untuned_linear(0.999), got 0.999",)),
    }
    assert_said(mistakes)
