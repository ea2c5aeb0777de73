"""Whatever fails in a step, and whenever: the state is as it was and steps on, or it says that it is spent."""

from __future__ import annotations

import contextlib
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, ClassVar

import array_api_compat
import numpy as np
import pytest

from adamod_array import AdaMod, Method, State, engine, init, step
from tests import faults
from tests.backend import Backend
from tests.trees import assert_same, bits, values

on_cpu = pytest.mark.only("numpy", "torch", "jax", "cupy")
in_place = pytest.mark.only("numpy", "torch", "cupy")


def wholes(backend: Backend, seed: int = 0) -> dict[str, Any]:
    """What :func:`mixed_tree` is made of."""
    tree = {dtype: backend.array(values(5, seed=seed), dtype) for dtype in backend.table["dtypes"]}
    if backend.name != "jax":  # which knows no gaps
        tree["gaps"] = backend.array(values(8, seed=seed), "float32")
    return tree | {"0-d": backend.array(3.0), "none": None}


def mixed_tree(arrays: dict[str, Any]) -> dict[str, Any]:
    """Copies: a leaf for each way in which a kernel may take one, or not."""
    copies: dict[str, Any] = {
        name: None if x is None else array_api_compat.array_namespace(x).asarray(x, copy=True)
        for name, x in arrays.items()
    }
    return copies | {name: x[::2] for name, x in copies.items() if name == "gaps"}


@dataclass(frozen=True)
class Friction(Method):
    """A rule of a user's, which may fail; it gives a number for a slot, and passes another on."""

    slots: ClassVar[tuple[str, ...]] = ("m", "n", "o")
    calls_left: ClassVar[float] = np.inf

    def rule(self, xp: Any, lr: Any, c: Any, g: Any, p: Any, m: Any, n: Any, o: Any) -> tuple[Any, ...]:
        Friction.calls_left -= 1
        if Friction.calls_left < 0:
            raise ArithmeticError("the user's rule")
        m = 0.9 * m + g
        return p - lr * m, m, 0.0, o


@dataclass
class Rate:
    """A schedule of a user's, which may fail."""

    calls_left: float = np.inf

    def __call__(self, t: Any) -> float:
        self.calls_left -= 1
        if self.calls_left < 0:
            raise ArithmeticError("the user's schedule")
        return 0.125 / float(t)


@dataclass
class Case:
    """A step that is taken again and again: each time of a new state, the steps before it taken."""

    backend: Backend
    donate: bool
    steps: int
    """How many steps the state has taken: what was worked out at one serves the next."""
    method: Method = field(default_factory=AdaMod)
    lr: Any = 0.1

    def __post_init__(self) -> None:
        self.params = wholes(self.backend)
        self.grads = [mixed_tree(wholes(self.backend, seed)) for seed in range(1, 2 + self.steps)]
        state = self.start()
        self.before = bits(self.backend, state)
        self.after = bits(self.backend, self.take(state))

    def start(self) -> State:
        state = init(self.method, mixed_tree(self.params), self.lr, weight_decay=0.1)
        for grads in self.grads[:-1]:
            state = step(state, grads, donate=self.donate)
        return state

    def take(self, state: State) -> State:
        return step(state, self.grads[-1], donate=self.donate)

    def check(self, state: State, error: BaseException) -> bool:
        """Check what a step that failed leaves behind; return whether the state is spent."""
        try:
            state.resolved()
        except ValueError as spent:
            message = rf"spent: (step {self.steps + 1} wrote into it and did not finish|it was donated to step)"
            assert self.donate and re.search(message, str(spent))  # noqa: PT017 - or it is none
            with pytest.raises(ValueError, match=message):
                self.take(state)
            return True
        try:
            assert bits(self.backend, state) == self.before
            assert bits(self.backend, self.take(state)) == self.after
        except Exception as wrong:
            raise wrong from error
        return False


def engines(backend: Backend) -> list[str]:
    """The engine under test, and after one of PyTorch's also that which the other tests leave out."""
    return [backend.engine, *(["foreach"] if (backend.name, backend.engine) == ("torch", "eager") else [])]


@pytest.mark.slow("cupy", "jax")
@on_cpu
@pytest.mark.parametrize(("donate", "steps"), [(False, 3), (True, 0), (True, 3)])
def test_an_exception_at_any_line(backend: Backend, donate: bool, steps: int) -> None:
    for name in engines(backend):
        with engine(name):
            check_an_exception_at_any_line(Case(backend, donate, steps, lr=Rate()))


def check_an_exception_at_any_line(case: Case) -> None:
    state, spent = case.start(), Counter[bool]()
    places = faults.points(lambda: case.take(state))
    modes = faults.modes()
    for i, place in enumerate(places):
        state = case.start()
        try:
            new = faults.raise_at(lambda: case.take(state), *place, faults.ERRORS[i % 2])  # noqa: B023 - called at once
        except (KeyboardInterrupt, MemoryError) as error:
            spent[case.check(state, error)] += 1
        else:
            assert bits(case.backend, new) == case.after  # no memory for an engine: the next one served
        assert faults.modes() == modes, place
    assert spent[False] > spent[True]
    in_place = case.donate and not (case.backend.name == "jax" and case.backend.engine == "eager")
    assert bool(spent[True]) or not in_place


@on_cpu
@pytest.mark.parametrize("donate", [False, True])
def test_an_error_of_a_user_s_function(backend: Backend, donate: bool) -> None:
    """All of them are called before anything is written."""
    for name in engines(backend):
        for steps in (0, 2):
            with engine(name):
                lr = Rate()
                case = Case(backend, donate, steps, Friction(), {"none": 0.0, **dict.fromkeys(wholes(backend), lr)})
                for fails in (lr, Friction):
                    for n in range(calls(fails, case)):
                        state = case.start()
                        with fails_after(fails, n), pytest.raises(ArithmeticError, match="the user's") as error:
                            case.take(state)
                        assert not case.check(state, error.value)


def calls(fails: Any, case: Case) -> int:
    """Return how often a step calls what may fail."""
    state = case.start()
    with fails_after(fails, 1 << 20):
        case.take(state)
        return (1 << 20) - int(fails.calls_left)


@contextlib.contextmanager
def fails_after(fails: Any, n: int) -> Iterator[None]:
    """Let a user's function be called so often, and no more."""
    fails.calls_left = n
    try:
        yield
    finally:
        fails.calls_left = np.inf


@in_place
def test_a_rule_that_fails_in_the_middle_of_large_leaves(backend: Backend) -> None:
    """They are computed as they are written: what is half-written says so. NumPy's real ones need no rule any more."""
    dtype = "complex64" if backend.name == "numpy" else "float32"
    with engine("eager"):
        for size, n in ((1 << 15, 0), (1 << 15, 1), (1 << 19, 0), (1 << 19, 1)):
            state = init(Friction(), [backend.array(np.ones(size), dtype) for _ in range(2)], lr=0.125)
            before = bits(backend, state)
            with fails_after(Friction, n), pytest.raises(ArithmeticError, match="the user's rule"):
                step(state, state.params, donate=True)
            try:
                assert bits(backend, step(state, state.params)) and bits(backend, state) == before
            except ValueError as spent:
                assert "step 1 wrote into it and did not finish" in str(spent)  # noqa: PT017 - or it is none


@in_place
@pytest.mark.parametrize("steps", [0, 1, 3])
@pytest.mark.parametrize("donate", [False, True])
def test_a_schedule_that_donates_the_state_of_its_step(backend: Backend, steps: int, donate: bool) -> None:
    inner: list[Any] = []

    def donates(t: Any) -> float:
        if not inner and t == steps + 1:
            inner.append(None)
            inner[0] = step(state, grads, lr=0.125, donate=True)
        return 0.125

    case = Case(backend, True, steps)
    state, grads = case.start().replace(lr=donates), case.grads[-1]
    with pytest.raises(ValueError, match=f"spent: it was donated to step {steps + 1}"):
        step(state, grads, donate=donate)
    assert bits(backend, inner[0]) == bits(backend, step(case.start(), grads, lr=0.125))


@pytest.mark.only("numpy", "torch")
@pytest.mark.parametrize("steps", [0, 1, 3])
@pytest.mark.parametrize("donate", [False, True])
def test_a_schedule_that_changes_the_arrays_of_its_step(backend: Backend, steps: int, donate: bool) -> None:
    """Arrays are looked at after it: no kernel writes where they were."""

    def shrink(x: Any) -> None:
        if backend.name == "numpy":
            x.resize(1, refcheck=False)
        else:
            x.resize_(1).untyped_storage().resize_(4)

    def shrinks(t: Any) -> float:
        if t == steps + 1:
            shrink(state.params)
            shrink(state.slots["m"])
        return 0.125

    state = init(AdaMod(), backend.array(np.ones(1000)), shrinks)
    for _ in range(steps):
        state = step(state, backend.array(np.ones(1000)), donate=True)
    with pytest.raises(ValueError, match="shape"):
        step(state, backend.array(np.ones(1000)), donate=donate)


@pytest.mark.only("numpy")
def test_the_caller_s_floating_point_errors_are_not_raised(backend: Backend) -> None:
    """Infinity is silent: float16 and float32 overflow where float64 does not, in scalars, casts and arithmetic."""
    for lr, gradient in ((1e39, 1.0), (0.1, 1e30), (1e300, 1e-45), (1e-45, 1e-310), (0.1, np.nan), (0.1, np.inf)):
        for donate in (False, True):
            expected, state = (init(AdaMod(), mixed_tree(wholes(backend)), lr, weight_decay=0.1) for _ in range(2))
            grads = mixed_tree(wholes(backend))
            with np.errstate(all="ignore"):
                for x in grads.values():
                    if x is not None:
                        x[...] = gradient
            for _ in range(3):
                with np.errstate(all="ignore"):
                    expected = step(expected, grads)
                with np.errstate(all="raise"):
                    state = step(state, grads, donate=donate)
                assert bits(backend, state) == bits(backend, expected)


@pytest.mark.only("torch")
def test_tensors_of_inference_mode(backend: Backend) -> None:
    """Made in that mode, stepped in it and outside of it, together with others."""
    import torch

    for name in engines(backend):
        for inside in (False, True):
            for donate in (False, True):
                with engine(name):
                    with torch.inference_mode():
                        arrays, grads = wholes(backend), mixed_tree(wholes(backend, 1))
                        params = mixed_tree(arrays)
                    params["float32"] = mixed_tree(arrays)["float32"]
                    expected = init(AdaMod(), mixed_tree(wholes(backend)), 0.1)
                    state = init(AdaMod(), params, 0.1)
                    for _ in range(3):
                        expected = step(expected, mixed_tree(wholes(backend, 1)))
                        with torch.inference_mode(inside):
                            state = step(state, grads, donate=donate)
                        assert_same(backend, state, expected)
