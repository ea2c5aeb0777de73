"""What the benchmark measures: its models, that every step meets new gradients, and what counts as a bar met."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from adamod_array import Adam
from benchmarks import report
from benchmarks.bars import FIRST, FIRST_STEPS, LIMIT, MANY, NUMBA, PAIRS, PEERS, SPEED, verdicts
from benchmarks.contender import FRAMEWORKS, Contender, Run, start
from benchmarks.contenders import find, heat
from benchmarks.models import MODELS
from benchmarks.problem import Problem

pytestmark = pytest.mark.only("numpy")


@pytest.mark.parametrize(
    ("name", "leaves", "elements"),
    [
        ("100x1000", 100, 100_000),
        ("MLP", 6, 266_610),
        ("ViT-Tiny", 152, 5_717_416),  # timm: vit_tiny_patch16_224
        ("ResNet-50", 161, 25_557_032),  # torchvision: resnet50
        ("GPT-2", 148, 124_439_808),  # transformers: GPT2LMHeadModel("gpt2")
    ],
)
def test_problems_have_so_many_leaves_and_parameters(name: str, leaves: int, elements: int) -> None:
    problem = Problem(name)
    assert (len(problem.shapes), problem.elements) == (leaves, elements)


def test_every_model_is_held_to_its_peer_on_every_framework() -> None:
    for model in MODELS:
        keys = {contender.key for contender in heat("Adam", Problem(model))}
        bars = [bar for bar in SPEED if bar.problem == model]
        assert {bar.fast: (bar.slow, bar.bound) for bar in bars} == {ours: (peer, 1) for ours, peer in PEERS.items()}
        assert keys == {f"Adam | {name}" for bar in bars for name in (bar.fast, bar.slow)}


def test_complex_parameters_are_held_to_the_limit_on_every_framework() -> None:
    for method in ("AdaMod", "Adam"):
        problem = Problem(PAIRS)
        bars = [bar for bar in SPEED if (bar.problem, bar.method) == (PAIRS, method)]
        keys = {contender.key for contender in heat(method, problem)}
        assert keys == {f"{method} | {name}" for bar in bars for name in (bar.fast, bar.slow)} and len(keys) == 4
    small = Problem("2x100 complex64")
    assert small.elements == 200 and {x.dtype.name for x in (*small.params(), *small.grads(0))} == {"complex64"}


def test_a_step_of_complex_parameters_and_its_limit_run() -> None:
    pytest.importorskip("numba")  # compiles both
    for method in ("AdaMod", "Adam"):
        for name, problem in ((LIMIT, "1x100 complex64"), (NUMBA, "2x100 complex64")):
            start(find(f"{method} | {name}"), Problem(problem))


def stale(problem: Problem) -> Run:
    """A correct step, but for the gradients: those of the first step, always."""
    run = find("Adam | naive NumPy").build(problem)
    first = run.backward()
    return Run(lambda: first, run.step, run.params)


def test_a_step_that_does_not_see_its_new_gradients_is_found_out() -> None:
    problem = Problem("3x10")
    start(find("Adam | naive NumPy"), problem)
    with pytest.raises(AssertionError):
        start(Contender("stale", "Adam", stale, Adam()), problem)


def test_no_step_meets_the_gradient_arrays_of_the_step_before() -> None:
    backward = FRAMEWORKS["numpy"]().backward(Problem("3x10"), [])
    sets = [list(backward()) for _ in range(5)]
    for before, after in itertools.pairwise(sets):
        for g, h in zip(before, after, strict=True):
            assert not np.shares_memory(g, h)


def first_steps(ours: float) -> dict[tuple[str, str], dict[str, list[float]]]:
    """Optax's first step takes a second, everyone else's so many."""
    *others, optax = FIRST_STEPS
    return {(FIRST, MANY): {f"{FIRST} | {name}": [ours] for name in others} | {f"{FIRST} | {optax}": [1.0]}}


@pytest.mark.parametrize(("ours", "met"), [(0.5, True), (1.5, True), (1.6, False)])
def test_a_bar_of_at_most_so_much(ours: float, met: bool) -> None:
    found = list(verdicts(first_steps(ours), {}, "1x2000000"))
    assert [(bar, each) for _, bar, _, each in found] == [("at most 1.5", met)] * 2


def test_the_table_of_models_has_times_and_ratios_to_the_peer() -> None:
    step = {f"Adam | {name}": [2e-4] for name in PEERS} | {f"Adam | {name}": [3e-4] for name in PEERS.values()}
    head, _, *rows = (
        [cell.strip() for cell in line.strip("|").split("|")]
        for line in report.models({("Adam", "MLP"): step, **first_steps(2.0)}).splitlines()
    )
    assert head == ["contender", "MLP: 6 leaves, 0.3 M", "first step: 1000 leaves, 1.0 M"]
    assert ["**NumPy + Numba, donated**", "200 µs (1.50)", ""] in rows
    assert ["**JAX, donated**", "200 µs (1.50)", "2.0 s (0.50)"] in rows
    assert ["optax adam, jitted, donated", "300 µs", "1.0 s"] in rows
