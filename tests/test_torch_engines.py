"""PyTorch's engines: lists of tensors, torch.compile, and a step inside a user's torch.compile."""

from __future__ import annotations

import dataclasses
import warnings
import weakref
from collections import namedtuple
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import optree
import pytest

from adamod_array import (
    Adam,
    AdaMod,
    Method,
    Momentum,
    RAdam,
    State,
    adam_step,
    clip_by_global_norm,
    engine,
    init,
    schedules,
    step,
)
from adamod_array._engines import torch_lists, torch_program
from adamod_array._program.trace import trace
from adamod_array._scalars import Options
from tests.compare import assert_close
from tests.trees import METHODS, values

pytestmark = pytest.mark.only("torch")
torch = pytest.importorskip("torch")
from torch.utils._python_dispatch import TorchDispatchMode  # noqa: E402 - PyTorch may not be here

dynamo = pytest.importorskip("adamod_array._engines.torch_dynamo")

DTYPES = ["float16", "bfloat16", "float32", "float64", "complex64", "complex128"]
needs_compiler = pytest.mark.skipif(bool(torch_lists.missing_compiler("cpu")), reason="no C++ compiler")


def host(x: Any) -> np.ndarray[Any, Any]:
    x = x.detach()
    return np.asarray((x.float() if x.dtype == torch.bfloat16 else x).numpy())


def arrays(state: State) -> list[Any]:
    return list(optree.tree_leaves((state.params, state.slots)))


def assert_same(actual: State, expected: State, *, ulp: float = 0) -> None:
    """The same containers, dtypes, steps and numbers."""
    assert (actual.step, type(actual.step)) == (expected.step, int)
    assert optree.tree_structure(actual.params) == optree.tree_structure(expected.params)
    for a, e in zip(arrays(actual), arrays(expected), strict=True):
        assert (a.dtype, a.shape, a.requires_grad) == (e.dtype, e.shape, e.requires_grad)
        assert_close(host(a), host(e), ulp=ulp * _unit(a))


def _unit(x: Any) -> int:
    """One unit in the last place, in those of what ``host`` makes of it."""
    return 2**16 if x.dtype == torch.bfloat16 else 1


def tree(dtype: str = "float32", seed: int = 0) -> dict[str, Any]:
    """Leaves of several sizes and shapes, one of them without dimensions, one without elements."""

    def tensor(*shape: int, seed: int) -> Any:
        return torch.tensor(values(*shape, seed=seed)).to(getattr(torch, dtype))

    return {
        "w": [tensor(5, 3, seed=seed), tensor(2, 2, 2, seed=seed + 1)],
        "b": (tensor(7, seed=seed + 2), tensor(seed=seed + 3)),
        "e": tensor(0, 2, seed=seed),
    }


def train(method: Method, name: str, dtype: str, *, donate: bool, **rates: Any) -> State:
    state = init(method, tree(dtype), rates.pop("lr", 1e-2 * schedules.linear_warmup(4)), **rates)
    with engine(name):
        for k in range(6):
            state = step(state, tree(dtype, seed=10 * k), donate=donate)
    return state


# lists of tensors


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("method", METHODS.values(), ids=METHODS)
@pytest.mark.parametrize("donate", [False, True])
def test_lists_step_as_tensors_do(method: Method, dtype: str, donate: bool) -> None:
    rates: dict[str, Any] = {"lr": {"w": 1e-2 * schedules.linear_warmup(4), "b": 1e-2, "e": 0.1}, "weight_decay": 0.1}
    actual = train(method, "foreach", dtype, donate=donate, **rates)
    # PyTorch's sqrt differs by an ulp between its vector and scalar loops, and lists are cut otherwise
    assert_same(actual, train(method, "eager", dtype, donate=False, **rates), ulp=2)


@pytest.mark.parametrize("donate", [False, True])
def test_leaves_too_large_to_be_stepped_together(donate: bool) -> None:
    """Each has its own rate and decay all the same."""
    sizes = {"a": torch_lists.CHUNK, "b": 3, "c": torch_lists.CHUNK + 1, "d": 5}
    params = {name: torch.tensor(values(n), dtype=torch.float32) for name, n in sizes.items()}
    grads = {name: torch.tensor(values(n, seed=1), dtype=torch.float32) for name, n in sizes.items()}
    rates = {"lr": {"a": 0.5, "b": 0.25, "c": 0.125, "d": 1.0}, "weight_decay": {"a": 0.5, "b": 0.5, "c": 0.0, "d": 1}}
    expected, found = None, None
    for how in ("eager", "foreach"):
        state = init(Momentum(), {name: p.clone() for name, p in params.items()}, rates["lr"])
        state = state.replace(weight_decay=rates["weight_decay"])
        with engine(how):
            for _ in range(3):
                state = step(state, grads, donate=donate)
        expected, found = found, state
    assert expected is not None and found is not None
    assert_same(found, expected)


@pytest.mark.parametrize("name", ["numba", "eager", "foreach"])
def test_slots_that_a_user_keeps_in_another_dtype(name: str) -> None:
    """They stay so, and those of other leaves, which are stepped together with them, stay as they are."""
    for donate in (False, True):
        state = init(Adam(), [torch.ones(3), torch.ones(3), torch.ones(3)], 0.25)
        state.slots["m"][1].data = state.slots["m"][1].data.double()
        state.slots["v"][2].data = state.slots["v"][2].data.double()
        with engine(name):
            for t in range(3):
                state = step(state, [torch.full((3,), t + 0.5)] * 3, donate=donate)
        assert [x.dtype for x in state.params] == [torch.float32] * 3
        assert [x.dtype for x in state.slots["m"]] == [torch.float32, torch.float64, torch.float32]
        assert [x.dtype for x in state.slots["v"]] == [torch.float32, torch.float32, torch.float64]
        for x in (*state.slots["m"], *state.slots["v"], *state.params):
            assert (x == x[0]).all()


def test_parameters_of_a_module_are_known_again() -> None:
    """Their gradients are tensors of another class, and yet of one framework; or each step would be planned anew."""
    pytest.importorskip("numba")
    plans = []
    for make in (torch.nn.Parameter, torch.clone):
        state = init(Adam(), {"w": make(torch.ones(3)), "b": make(torch.ones(2))})
        for _ in range(4):
            with engine("numba"):
                state = step(state, {"w": torch.ones(3), "b": torch.ones(2)}, donate=True)
            plans.append(state.resolved()[0].plan)
    assert all(plan is not None for plan in plans)
    assert [plan.inner.misses for plan in plans] == [0] * len(plans)
    assert plans[3].inner is plans[1].inner
    assert plans[7].inner is plans[5].inner


class Watch(TorchDispatchMode):
    """The operations that PyTorch was asked for, and how many of their results lived at the same time."""

    def __init__(self) -> None:
        super().__init__()
        self.names: list[str] = []
        self.results: list[Any] = []
        self.most = 0

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = function(*args, **(kwargs or {}))
        self.names.append(function.__name__)
        self.results += map(weakref.ref, result if isinstance(result, (list, tuple)) else [result])
        self.most = max(self.most, sum(each() is not None for each in self.results))
        return result


def test_each_operation_is_one_call_for_all_leaves() -> None:
    """What is needed no longer is let go: beside the results, four lists at a time."""
    program = trace(Adam(), decay=True)
    prepare, run = torch_program.functions(program, "float32")
    scalars = [float(x) for x in prepare(*[0.5] * len(program.scalars))]
    lists = [[torch.ones(3) for _ in range(5)] for _ in program.arrays]
    with Watch() as watch:
        run(scalars, *lists)
    names = [name for name in watch.names if name.startswith("_foreach")]
    assert len(names) == len(program.operations)
    assert names.count("_foreach_sqrt.default") == 1
    assert watch.most <= 5 * (3 + 4)


@dataclasses.dataclass(frozen=True)
class Odd(Method):
    """Passes an array on, twice, and does arithmetic among scalars."""

    slots = ("last", "twin")

    def coefficients(self, t: Any, math: Any) -> tuple[Any, ...]:
        """1/t."""
        return (1 / t,)

    def rule(self, xp: Any, lr: Any, c: Any, g: Any, p: Any, *slots: Any) -> tuple[Any, ...]:
        """None of the papers'."""
        rate = xp.where(c[0] > 0.4, lr * 2.0, lr)
        new = p - rate * xp.maximum(g, xp.where(g > 0, 0.5, slots[0]))
        return new, p, p


@pytest.mark.parametrize("name", ["foreach", pytest.param("compile", marks=needs_compiler)])
@pytest.mark.parametrize("donate", [False, True])
def test_a_rule_that_passes_arrays_on(name: str, donate: bool) -> None:
    """Every result is memory of its own, and nothing is read after it was written."""
    actual, expected = train(Odd(), name, "float32", donate=donate), train(Odd(), "eager", "float32", donate=False)
    assert_same(actual, expected)
    memory = [x.data_ptr() for x in arrays(actual) if x.numel()]
    assert len(set(memory)) == len(memory)


@pytest.mark.parametrize("name", ["foreach", pytest.param("compile", marks=needs_compiler)])
def test_a_gradient_that_is_another_parameter(name: str) -> None:
    """The gradient of x * y is (y, x): donated, x must not be written before y's gradient is read."""
    shape = (torch_lists.CHUNK,)
    x, y = torch.full(shape, 2.0), torch.full(shape, 3.0)
    state = init(Momentum(), {"x": x, "y": y}, lr=0.5)
    with engine(name):
        state = step(state, {"x": y, "y": x}, donate=True)
    assert (state.params["x"][0], state.params["y"][0]) == (0.5, 2.0)


@pytest.mark.parametrize("name", ["foreach", pytest.param("compile", marks=needs_compiler)])
def test_a_gradient_that_is_its_own_parameter(name: str) -> None:
    with engine(name):
        for alias in (True, False, True):  # compiled for one, called with the other
            p = torch.full((64,), 2.0)
            state = step(init(Momentum(), p, lr=0.25), p if alias else p.clone(), donate=True)
            assert_close(host(state.params), np.full(64, 1.5, np.float32))
            assert_close(host(state.slots["m"]), np.full(64, 2.0, np.float32))


@pytest.mark.parametrize("name", ["foreach", pytest.param("compile", marks=needs_compiler)])
def test_a_donated_step_is_known_to_autograd(name: str) -> None:
    w = torch.nn.Parameter(torch.ones(3))
    loss = (w**2).sum()
    with engine(name):
        state = step(init(Adam(), w), torch.ones(3), donate=True)
    assert state.params is w
    assert w.requires_grad and w.is_leaf
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        loss.backward()


@pytest.mark.parametrize("name", ["numba", "foreach", "eager", pytest.param("compile", marks=needs_compiler)])
def test_a_result_requires_grad_where_its_parameter_does(name: str) -> None:
    params = {"w": torch.ones(3, requires_grad=True), "frozen": torch.ones(3)}
    with engine(name):
        state = step(init(Adam(), params), {"w": torch.ones(3), "frozen": torch.ones(3)})
    assert state.params["w"].requires_grad and state.params["w"].is_leaf
    assert not state.params["frozen"].requires_grad


@pytest.mark.parametrize("engines", [("numba", "eager"), ("foreach", "numba"), ("eager", "foreach")])
@pytest.mark.parametrize("donate", [False, True])
def test_engines_may_take_turns(engines: tuple[str, str], donate: bool) -> None:
    """What one engine worked out about a tree is never used by another."""
    state, expected = init(Adam(), tree()), train(Adam(), "eager", "float32", donate=False, lr=1e-3)
    for k in range(6):
        with engine(engines[k % 2]):
            state = step(state, tree(seed=10 * k), donate=donate)
    assert_same(state, expected, ulp=2)


@pytest.mark.parametrize("name", ["numba", "foreach", pytest.param("compile", marks=needs_compiler)])
def test_a_lazy_negative_of_one_element(name: str) -> None:
    """Contiguous, and yet its memory holds the opposite of its value."""
    g = torch.tensor([3 + 4j]).conj().imag
    assert g.is_neg() and g.is_contiguous()
    with engine(name):
        state = init(Momentum(), torch.zeros(1), lr=1.0)
        state = step(step(state, torch.zeros(1)), g)  # the second step has a plan
    assert state.params.item() == 4.0


@pytest.mark.parametrize("name", ["numba", "foreach", pytest.param("compile", marks=needs_compiler)])
def test_tensors_that_stand_for_others_are_left_to_pytorch(name: str) -> None:
    """vmap's tensors, a mode that watches every operation, a subclass: no engine reaches behind them."""
    g = torch.arange(6.0).reshape(2, 3)
    p = torch.ones(3)

    from torch.utils._python_dispatch import TorchDispatchMode

    class Watched(TorchDispatchMode):
        seen = 0

        def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            self.seen += "mul" in str(func)
            return func(*args, **kwargs or {})

    with engine(name):
        state = init(Momentum(), p, lr=1.0)
        state = step(step(state, p), p)
        together = torch.func.vmap(lambda g: step(state, g).params)(g)
        apart = torch.stack([step(state, row).params for row in g])
        with Watched() as mode:
            step(state, p)
    assert_close(host(together), host(apart))
    assert mode.seen


# torch.compile as an engine


@pytest.fixture
def compilations() -> Iterator[Callable[[], int]]:
    """How many graphs were compiled since the start of the test."""
    from torch._dynamo.utils import counters

    torch._dynamo.reset()
    counters.clear()
    yield lambda: counters["stats"]["unique_graphs"]
    torch._dynamo.reset()


@needs_compiler
@pytest.mark.parametrize("method", [AdaMod(hold_idle=True), RAdam(below="skip")], ids=repr)
@pytest.mark.parametrize("dtype", ["bfloat16", "float32"])
def test_compiled_steps_have_the_bits_of_numpy(method: Method, dtype: str) -> None:
    compiled = train(method, "compile", dtype, donate=True, weight_decay=0.1)
    expected = init(
        method, optree.tree_map(_as_numpy, tree(dtype)), 1e-2 * schedules.linear_warmup(4), weight_decay=0.1
    )
    for k in range(6):
        expected = step(expected, optree.tree_map(_as_numpy, tree(dtype, seed=10 * k)))
    for a, e in zip(arrays(compiled), arrays(expected), strict=True):
        assert_close(host(a), np.asarray(e, np.float32))


def _as_numpy(x: Any) -> Any:
    import ml_dtypes

    return host(x).astype(ml_dtypes.bfloat16) if x.dtype == torch.bfloat16 else host(x)


@needs_compiler
def test_a_hundred_steps_are_compiled_once(compilations: Callable[[], int]) -> None:
    """With a schedule, for leaves of every size; and other trees take the same program."""
    state = init(Adam(), tree(), 1e-2 * schedules.untuned_linear(0.999))
    with engine("compile"):
        for k in range(100):
            state = step(state, tree(seed=k), donate=True)
            if k == 0:
                first = compilations()
        assert first <= 3  # PyTorch compiles anew for sizes 0 and 1
        other = {"v": torch.ones(11), "z": torch.ones(3, 4)}
        step(init(Adam(), other), other, donate=True)
    assert compilations() == first


@needs_compiler
def test_auto_never_waits_for_the_compiler(compilations: Callable[[], int], monkeypatch: pytest.MonkeyPatch) -> None:
    """Without Numba too: seconds of compilation are a choice, whatever the size of the leaves."""
    monkeypatch.setattr("adamod_array._engines._has_numba", lambda: False)
    params = {"small": torch.ones(3), "large": torch.ones(torch_lists.CHUNK + 1)}
    state = init(Momentum(), params)
    with engine("auto"):
        new = step(state, params)
    assert compilations() == 0
    with engine("compile"):
        assert_same(step(state, params), new)
    assert compilations() > 0


def test_a_compiler_that_fails_is_said_once_and_done_without(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch_lists, "_broken", {})
    monkeypatch.setattr(torch_lists, "_missing_compiler", lambda device: "")

    def broken(*_: Any, **__: Any) -> Any:
        def call(*_: Any) -> Any:
            raise torch._dynamo.exc.BackendCompilerFailed(broken, RuntimeError("no header"), None)

        return call

    monkeypatch.setattr(torch_lists, "_fused", broken)
    state = init(Momentum(), {"a": torch.ones(3), "b": torch.ones(2)}, lr=0.5)
    grads = {"a": torch.ones(3), "b": torch.ones(2)}
    with engine("compile"):
        with pytest.warns(RuntimeWarning, match="without a compiler: torch.compile failed") as caught:
            new = step(state, grads, donate=True)
        assert len(caught) >= 1
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            new = step(new, grads)
    assert "no header" in torch_lists.missing_compiler("cpu")
    assert_close(host(new.params["a"]), np.full(3, 1 - 0.5 * (1 + 1.9), np.float32), ulp=1)


# a step inside a user's torch.compile

Point = namedtuple("Point", "w b")
G = [torch.linspace(-1.0, 1.0, 3) * k for k in (1, 2, 3)]
WARM = 1e-2 * schedules.untuned_linear(0.99) * schedules.cosine_decay(50)


def start_and_program(method: Method) -> tuple[Callable[[], State], Callable[[State, Any], State]]:
    return (
        lambda: init(method, {"w": torch.ones(3), "b": [torch.zeros(3)]}, WARM, weight_decay=0.1),
        lambda s, g: step(s, {"b": [2 * g], "w": g}),
    )


PROGRAMS: dict[str, tuple[Callable[[], State], Callable[[State, Any], State]]] = {
    **{name: start_and_program(method) for name, method in METHODS.items()},
    "donated": (
        lambda: init(Adam(), {"w": torch.nn.Parameter(torch.ones(3))}, WARM),
        lambda s, g: step(s, {"w": g}, donate=True),
    ),
    "one array": (lambda: init(Adam(), torch.ones(3)), step),
    "containers": (
        lambda: init(Adam(), Point(torch.ones(3), (torch.ones(3), None))),
        lambda s, g: step(s, Point(g, (None, None))),
    ),
    "rates by leaf": (
        lambda: init(
            Adam(),
            {"z": torch.ones(3), "a": torch.ones(3)},
            lr={"z": 0.1, "a": WARM},
            weight_decay={"a": 0.1, "z": 0.0},
        ),
        lambda s, g: step(s, {"z": g, "a": 2 * g}),
    ),
    "a rate of the program": (lambda: init(Adam(), torch.ones(3)), lambda s, g: step(s, g, lr=g.abs().sum() / 100)),
    "a schedule of the user's": (lambda: init(Adam(), torch.ones(3), lambda t: 0.1 / t**0.5), step),
    "bfloat16": (lambda: init(Adam(), torch.ones(3, dtype=torch.bfloat16)), lambda s, g: step(s, g.bfloat16())),
    "complex": (
        lambda: init(Adam(), torch.ones(3, dtype=torch.complex64)),
        lambda s, g: step(s, torch.complex(g, 1 - g)),
    ),
    "reads the state": (
        lambda: init(Adam(), {"w": torch.ones(3)}),
        lambda s, g: step(s, {"w": g * s.params["w"] + s.slots["m"]["w"]}),
    ),
    "grad": (
        lambda: init(AdaMod(), {"w": torch.ones(3)}),
        lambda s, g: step(s, torch.func.grad(lambda p: ((p["w"] * g) ** 2).sum())(s.params)),
    ),
    "two steps": (lambda: init(Adam(), torch.ones(3)), lambda s, g: step(step(s, g), 2 * g)),
    "a state put together": (
        lambda: State({"w": torch.ones(3)}, {"m": {"w": torch.zeros(3)}}, 0, Momentum(), 0.1),
        lambda s, g: step(s, {"w": g}),
    ),
    "passes arrays on": (lambda: init(Odd(), torch.ones(3)), step),
}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "backend"),
    [(name, "eager") for name in PROGRAMS] + [(name, "aot_eager") for name in ("adamod", "donated", "complex", "grad")],
)
def test_a_step_is_part_of_the_graph(name: str, backend: str, compilations: Callable[[], int]) -> None:
    """No break, the numbers of a step outside, an int for a count, and no compilation after the second step."""
    start, program = PROGRAMS[name]
    compiled = torch.compile(program, fullgraph=True, backend=backend)
    actual, expected = start(), start()
    for k in range(10):
        actual, expected = compiled(actual, G[k % 3]), program(expected, G[k % 3])
    assert compilations() <= 2
    # coefficients by PyTorch's double exp, not the C library's: after rounding to float32 rarely an ulp apart
    assert_same(actual, expected, ulp=2)
    for a, e in zip(arrays(step(actual, actual.params)), arrays(step(expected, expected.params)), strict=True):
        assert_close(host(a), host(e), ulp=3 * _unit(a))  # and outside it goes on


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("method", METHODS.values(), ids=METHODS)
@pytest.mark.parametrize("donate", [False, True])
def test_what_dynamo_traces_is_a_step_as_it_stands(method: Method, dtype: str, donate: bool) -> None:
    def start() -> State:
        return init(method, tree(dtype), WARM, weight_decay={"w": 0.1, "b": 0.0, "e": 0.0})

    actual, expected = start(), start()
    for k in range(4):
        grads = tree(dtype, seed=10 * k)
        grads["w"][1] = None
        new = dynamo.step(Method, actual, grads, Options(), donate, clip_by_global_norm)
        assert new is not None
        assert ("donated to step" in repr(actual)) == donate
        with engine("eager"):
            actual, expected = new, step(expected, grads)
    assert_same(actual, expected, ulp=4)  # a coefficient may be an ulp off, the next steps carry it on


def test_what_dynamo_leaves_to_a_step_outside() -> None:
    w = torch.ones(3)
    state = init(Momentum(), {"w": w})
    made = State({"w": w}, {"m": {"w": w}}, 0, Momentum(), {"w": 0.1})  # rates that are still a tree
    leaf = init(Momentum(), {"w": torch.ones(3, requires_grad=True)})
    grads, none, clip = {"w": w}, Options(), clip_by_global_norm
    for arguments in [
        (Method, "a state", grads, none),
        (Adam, state, grads, none),
        (Method, state, grads, Options("a rate")),
        (Method, state, grads, Options(where=1.0)),
        (Method, state, grads, Options(max_norm=-1.0)),
        (Method, state, grads, Options(weight_decay={"w": 0.5})),
        (Method, State({"w": w}, {"m": {"w": w}}, 0, {"w": Momentum()}), grads, none),
        (Method, made, grads, none),
        (Method, state, {"w": [w]}, none),
        (Method, state, {"v": w}, none),
        (Method, state, {"w": w[:2]}, none),
        (Method, init(Momentum(), {"w": None}), grads, none),
        (Method, init(Momentum(), {"w": np.ones(3)}), grads, none),
        (Method, leaf, grads, none),
    ]:
        assert dynamo.step(*arguments, donate=False, clip=clip) is None
    assert dynamo.step(Method, leaf, grads, none, donate=True, clip=clip) is not None
    assert dynamo.step(Method, leaf, grads, none, donate=True, clip=clip) is None  # spent


@pytest.mark.parametrize("kind", [float, torch.tensor])
def test_a_new_rate_each_step_compiles_nothing_anew(
    kind: Callable[[float], Any], compilations: Callable[[], int]
) -> None:
    compiled = torch.compile(lambda s, g, lr: step(s, g, lr=lr), fullgraph=True, backend="eager")
    actual = expected = init(Momentum(), torch.ones(3))
    for k in range(10):
        lr = kind(0.1 / (k + 1))
        actual, expected = compiled(actual, G[0], lr), step(expected, G[0], lr=lr)
    assert compilations() <= 2
    assert_same(actual, expected)


@needs_compiler
def test_a_compiled_step_is_part_of_inductors_graph(compilations: Callable[[], int]) -> None:
    start, program = PROGRAMS["adamod"]
    compiled = torch.compile(program, fullgraph=True)
    actual, expected = start(), start()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # PyTorch's, about parts of its own
        for k in range(10):
            actual, expected = compiled(actual, G[k % 3]), program(expected, G[k % 3])
    assert compilations() <= 2
    assert_same(actual, expected, ulp=2)


def test_gradients_flow_through_a_compiled_step() -> None:
    def outer(p: Any) -> Any:
        state = init(AdaMod(beta3=0.9), p, lr=0.05)
        return loss(state, p)

    def inner(state: State, p: Any) -> Any:
        return (step(state, torch.sin(p)).params ** 2).sum()

    loss: Callable[..., Any] = inner
    p = torch.tensor([1.0, -2.0], dtype=torch.float64, requires_grad=True)
    (expected,) = torch.autograd.grad(outer(p), p)
    loss = torch.compile(inner, backend="aot_eager")
    (actual,) = torch.autograd.grad(outer(p), p)
    assert_close(actual.numpy(), expected.numpy(), ulp=16)


@pytest.mark.parametrize(
    ("program", "error", "message"),
    [
        (lambda s, g: step(s, {"w": g[:2]}), ValueError, "must have its parameter's shape"),
        (lambda s, g: step(s, {"v": g}), ValueError, "is missing"),
        (lambda s, g: adam_step(s, {"w": g}), TypeError, "expected Adam"),
        (lambda s, g: step(step(s, {"w": g}, donate=True) and s, {"w": g}), ValueError, "spent"),
    ],
    ids=["shape", "tree", "method", "spent"],
)
def test_errors_inside_torch_compile_are_those_outside(
    program: Callable[..., Any], error: type[Exception], message: str
) -> None:
    torch._dynamo.reset()
    with pytest.raises(error, match=message):
        torch.compile(program, backend="eager")(init(Momentum(), {"w": torch.ones(3)}), torch.ones(3))


def test_a_new_leaf_that_requires_grad_breaks_the_graph_and_no_more() -> None:
    """PyTorch's compiler cannot return one; the step is then taken outside."""
    torch._dynamo.reset()
    state = init(Momentum(), torch.ones(3, requires_grad=True), lr=0.5)
    new = torch.compile(lambda s, g: step(s, 2 * g), backend="eager")(state, torch.ones(3))
    assert new.params.requires_grad and new.params.is_leaf
    assert_close(host(new.params), np.zeros(3, np.float32))
