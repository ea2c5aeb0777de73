"""A tree prefix of methods: every branch has hyperparameters of its own, and leaves of one rule share a kernel call."""

from __future__ import annotations

import copy
import dataclasses
import functools
import pickle
import sys
from typing import Any

import optree
import pytest

from adamod_array import (
    Adam,
    AdaMod,
    DiffGrad,
    DiffMod,
    Method,
    Momentum,
    RAdam,
    State,
    adam_step,
    adamod_step,
    diagnostics,
    engine,
    init,
    step,
)
from adamod_array._engines import can_repeat
from adamod_array._methods import Methods
from adamod_array._program.trace import constants, trace
from adamod_array._step import take_step
from tests.backend import Backend
from tests.trees import assert_same, values

PAIRS: dict[str, tuple[Method, Method]] = {
    "adam": (Adam(beta1=0.5, eps=1e-3), Adam()),
    "adam, inside and outside of the root": (Adam(eps=0.0, eps_root=1e-2), Adam()),
    "adam, amsgrad": (Adam(amsgrad=True, beta2=0.5), Adam(amsgrad=True)),
    "adamod": (AdaMod(beta3=0.5), AdaMod(beta1=0.0)),
    "adamod, two algorithms": (AdaMod(variant="reference"), AdaMod(beta3=0.5)),
    "radam": (RAdam(beta2=0.5), RAdam(threshold=5.0)),
    "momentum, of two kinds": (Momentum(nesterov=True), Momentum(beta=0.5)),
    "diffgrad": (DiffGrad(beta1=0.5), DiffGrad()),
    "diffmod": (DiffMod(beta3=0.5), DiffMod(beta3=0.25)),
}


def tree(backend: Backend, seed: int, dtype: str = "float32") -> dict[str, Any]:
    one, two, three = (backend.array(values(4, seed=seed + i), dtype) for i in range(3))
    return {"w": [one, {"x": two}], "none": None, "b": three}


def alone(backend: Backend, methods: dict[str, Any], dtype: str, decay: Any) -> list[State]:
    """A state for each leaf, by itself."""
    params = tree(backend, 0, dtype)
    leaves = [params["w"][0], params["w"][1]["x"], params["b"]]
    of = [methods["w"], methods["w"], methods["b"]]
    return [init(m, x, 0.25, weight_decay=d) for m, x, d in zip(of, leaves, decay, strict=True)]


def arrays(state: State) -> list[Any]:
    return [[found["w"][0], found["w"][1]["x"], found["b"]] for found in (state.params, *state.slots.values())]


@pytest.mark.parametrize("donate", [False, True])
@pytest.mark.parametrize(("first", "second"), PAIRS.values(), ids=PAIRS)
def test_every_leaf_is_stepped_by_its_own(backend: Backend, first: Method, second: Method, donate: bool) -> None:
    methods = {"w": first, "none": None, "b": second}
    slow = backend.name in ("jax", "dask")
    cases: list[tuple[Any, str]] = [({"w": 0.5, "none": None, "b": 0.0}, "float32"), (0.0, "float32")]
    if "complex64" in backend.table["dtypes"]:
        cases.append((0.0, "complex64"))
    for decay, dtype in cases[:1] if slow and first != PAIRS["adam"][0] else cases:
        state = init(methods, tree(backend, 0, dtype), 0.25, weight_decay=decay)
        each = alone(backend, methods, dtype, (0.5, 0.5, 0.0) if isinstance(decay, dict) else (0.0,) * 3)
        for seed in range(1, 3 if slow else 6):
            grads = tree(backend, seed, dtype)
            state = step(state, grads, donate=donate)
            each = [step(one, g) for one, g in zip(each, (grads["w"][0], grads["w"][1]["x"], grads["b"]), strict=True)]
            for found, expected in zip(arrays(state), zip(*map(columns, each), strict=True), strict=True):
                assert_same(backend, found, list(expected))


def columns(state: State) -> list[Any]:
    return [state.params, *state.slots.values()]


def test_methods_that_differ_in_constants_share_a_program() -> None:
    """Also where constants are equal by chance, or to numbers of the rule itself."""
    for one, other in (
        (Adam(beta1=0.5, beta2=0.5, eps=0.5), Adam()),
        (AdaMod(beta2=0.999, beta3=0.999), AdaMod(beta1=0.0, beta2=0.0, beta3=0.9, eps=0.0)),
        (DiffMod(beta1=0.25, beta2=0.75, eps=1.0), DiffMod()),
        (RAdam(), RAdam(beta1=0.999, beta2=0.9)),
    ):
        for decay in (False, True):
            for is_complex in (False, True):
                given = [trace(m, decay=decay, complex_parameter=is_complex) for m in (one, other)]
                assert given[0] == given[1]
                numbers = [constants(m, complex_parameter=is_complex) for m in (one, other)]
                assert len(numbers[0]) == len(numbers[1]) == sum(x.startswith("k") for x in given[0].scalars)


def test_hyperparameters_that_are_equal_by_chance_are_two_constants() -> None:
    assert constants(Adam(beta1=0.5, beta2=0.5, eps=0.5)) == (0.5, 0.5, 0.5, 0.5, 0.5)
    assert constants(Adam(beta1=0.75)) == (0.75, 0.25, 0.999, 1 - 0.999, 1e-8)


@pytest.mark.only("numpy", "torch", "jax")
@pytest.mark.parametrize("donate", [False, True])
def test_one_call_and_one_plan(backend: Backend, donate: bool) -> None:
    """Leaves with other betas are stepped together, as those of one method are."""
    methods = [Adam(beta1=0.5 + i / 100, eps=10.0**-i) for i in range(8)]
    state = init(methods, [backend.array(values(3, seed=i)) for i in range(8)])
    for seed in range(4):
        state = step(state, [backend.array(values(3, seed=seed + i)) for i in range(8)], donate=donate)
    plan = state.resolved()[0].plan
    if not can_repeat(plan):
        pytest.skip("no kernel here keeps a plan")
    plan = getattr(plan, "inner", plan)
    assert len(plan.constants[False]) == 8
    assert backend.name == "jax" or len(plan.groups) == 1


def test_a_state_keeps_them(backend: Backend) -> None:
    """Copies of all kinds do, too."""
    state = step(init({"w": Adam(beta1=0.5), "none": Adam(), "b": Adam()}, tree(backend, 0)), tree(backend, 1))
    assert sorted(method.beta1 for method in state.method) == [0.5, 0.5, 0.9, 0.9]
    expected = adam_step(state, tree(backend, 2))
    made = {
        "copy": copy.copy(state),
        "tree_map": optree.tree_map(lambda x: x if isinstance(x, int) else x + 0, state),
        "by hand": State(state.params, state.slots, 1, {"w": Adam(beta1=0.5), "none": None, "b": Adam()}),
        "replace": state.replace(method=Adam()).replace(method={"w": Adam(beta1=0.5), "none": None, "b": Adam()}),
    }
    if backend.name != "dask":
        made["pickle"] = pickle.loads(pickle.dumps(state))
    for how, other in made.items():
        assert_same(backend, adam_step(other, tree(backend, 2)), expected)
        assert "beta1=0.5" in repr(other), how
    optree.tree_map(lambda x: x, State(state.params, state.slots, 1, {"w": Adam(), "none": None, "b": Adam()}))


def test_diagnostics(backend: Backend) -> None:
    methods = {"w": AdaMod(beta3=0.5), "none": None, "b": AdaMod(beta3=0.25)}
    old = init(methods, tree(backend, 0), 0.25)
    new = step(old, tree(backend, 1))
    rates, moves = diagnostics.effective_rates(new), diagnostics.update_magnitudes(old, new)
    for k in ("w", "b"):
        one = init(methods[k], tree(backend, 0)[k], 0.25)
        after = step(one, tree(backend, 1)[k])
        assert_same(backend, rates[k], diagnostics.effective_rates(after))
        assert_same(backend, moves[k], diagnostics.update_magnitudes(one, after))


def test_errors(backend: Backend) -> None:
    params = tree(backend, 0)
    for wrong, error, message in (
        ({"w": Adam(), "none": None, "b": AdaMod()}, TypeError, r"of one class: method\['.*\] is Ada.*, method\['"),
        (
            {"w": Adam(), "none": None, "b": Adam(amsgrad=True)},
            ValueError,
            r"the same slots: method\['.* keeps \('m', 'v'",
        ),
        ({"w": Adam(), "none": None, "b": None}, TypeError, r"method\['b'\] must be a method such as AdaMod"),
        ({"w": Adam(), "none": None, "b": AdaMod}, TypeError, r"method\['b'\] must be a method .* AdaMod, a class"),
        ({"w": Adam(), "b": Adam()}, ValueError, "method is neither one value nor a tree prefix"),
        (Methods([Adam(), Adam()]), ValueError, "method has 2 values for 4 leaves of params"),
        ({"w": None, "none": None, "b": None}, TypeError, r"expected a method .*init\(method, params\)"),
    ):
        with pytest.raises(error, match=f"(?s){message}"):
            init(wrong, params)
    state = init({"w": Adam(beta1=0.5), "none": Adam(), "b": Adam()}, params)
    with pytest.raises(TypeError, match="the state is one of Adam, expected AdaMod"):
        adamod_step(state, tree(backend, 1))
    with pytest.raises(TypeError, match=r"is AdaMod"):
        state.replace(method={"w": Adam(), "none": None, "b": AdaMod()})


@dataclasses.dataclass(frozen=True)
class NamedAsValues(Method):
    """Hyperparameters have the names of what a Program is made of."""

    decay: float = 0.75
    p: float = 0.5
    g: float = 0.25
    lr: float = 2.0
    c0: float = 4.0
    x0: float = 0.125
    k0: float = 8.0
    slots = ("m",)

    def coefficients(self, t: Any, math: Any) -> tuple[Any, ...]:
        return (1.0 / t,)

    def rule(self, xp: Any, lr: Any, c: Any, g: Any, p: Any, m: Any) -> tuple[Any, ...]:
        m = self.decay * m + self.p * g
        return p - lr * self.lr * (m * self.g + self.x0 + c[0] * self.c0) / self.k0, m


def test_hyperparameters_may_have_any_name(backend: Backend) -> None:
    params, grads = backend.array(values(4)), backend.array(values(4, seed=1))
    state = init(NamedAsValues(), params, 0.5, weight_decay=0.5)
    with engine("eager"):
        expected = step(state, grads)
    assert_same(backend, step(state, grads), expected)


@dataclasses.dataclass(frozen=True)
class RealOnly(Method):
    """Refuses complex parameters."""

    beta: float = 0.5

    def rule(self, xp: Any, lr: Any, c: Any, g: Any, p: Any) -> tuple[Any, ...]:
        if xp.isdtype(g.dtype, "complex floating"):
            raise NotImplementedError("for real parameters")
        return (p - lr * self.beta * g,)


def test_a_rule_that_refuses_complex_numbers(backend: Backend) -> None:
    state = init([RealOnly(), RealOnly(0.25)], [backend.array(values(3)), backend.array(values(3))])
    assert step(state, [backend.array(values(3)), backend.array(values(3))]).step == 1


def test_a_constant_that_is_made_in_a_long_way() -> None:
    """What it is made of would be as long as two to the power of the steps."""

    @dataclasses.dataclass(frozen=True)
    class Long(Method):
        beta: float = 0.5

        def rule(self, xp: Any, lr: Any, c: Any, g: Any, p: Any) -> tuple[Any, ...]:
            b = self.beta
            for _ in range(40):
                b = b * b + 0.25
            return (p - lr * b * g,)

    assert constants(Long()) == (0.5,)


def test_trees_without_leaves(backend: Backend) -> None:
    state: State[Any] = init({"a": Adam(), "b": Adam(beta1=0.5)}, {"a": {}, "b": {}})
    assert step(state, {"a": {}, "b": {}}).step == 1


@pytest.mark.only("torch")
def test_copies_inside_a_users_compile(backend: Backend) -> None:
    """PyTorch lists leaves in another order than optree, in which the methods are."""
    torch = sys.modules["torch"]
    params = {"b": torch.zeros(2), "a": torch.zeros(2)}
    state = init({"b": Momentum(beta=0.0), "a": Momentum(beta=0.75)}, params, lr=1.0)
    grads = {"b": torch.ones(2), "a": torch.ones(2)}
    expected = step(step(state, grads), grads).params
    compiler = torch._dynamo.eval_frame
    for prepare in (compiler.reset_code, compiler.skip_code):  # the second: PyTorch gave this function up for good
        prepare(take_step.__code__)
        train = torch.compile(lambda s, g: step(step(s, g), g), backend="eager")
        assert_same(backend, train(copy.deepcopy(state), grads).params, expected)
    compiler.reset_code(take_step.__code__)


@pytest.mark.only("jax")
def test_inside_a_users_jit(backend: Backend) -> None:
    jax = sys.modules["jax"]
    for first, second in (PAIRS["adamod"], PAIRS["adamod, two algorithms"]):
        state = init({"w": first, "none": None, "b": second}, tree(backend, 0), 0.25)
        inside, train = state, jax.jit(functools.partial(step))
        for seed in range(1, 4):
            state, inside = step(state, tree(backend, seed)), train(inside, tree(backend, seed))
            assert_same(backend, inside.params, state.params)
        assert train._cache_size() == 2  # of a count that is Python's, and of one that is JAX's


@pytest.mark.only("torch")
def test_inside_a_users_compile(backend: Backend) -> None:
    torch = sys.modules["torch"]
    methods = {"w": Adam(beta1=0.5), "none": None, "b": Adam()}
    state = inside = init(methods, tree(backend, 0), 0.25)
    train = torch.compile(step, fullgraph=True, backend="eager")
    for seed in range(1, 4):
        state, inside = step(state, tree(backend, seed)), train(inside, tree(backend, seed))
        assert_same(backend, inside.params, state.params, ulp=4)  # PyTorch's own root: see backends/torch.toml
