"""Who may still use arrays that a donated step has written: a state that holds other numbers than it did says so."""

from __future__ import annotations

import concurrent.futures
import copy
import dataclasses
import gc
import threading
import weakref
from collections.abc import Callable
from typing import Any

import optree
import pytest

from adamod_array import AdaMod, Method, Momentum, State, adam_init, adam_step, engine, init, momentum_init, step
from adamod_array._hold import Donation, Hold
from tests.backend import Backend
from tests.trees import assert_same, bits, tree, values

in_place = pytest.mark.only("numpy", "torch", "cupy")


def two(backend: Backend, seed: int = 0) -> dict[str, Any]:
    return {"a": backend.array(values(3, seed=seed)), "b": backend.array(values(4, seed=seed + 1))}


def only_a(backend: Backend) -> dict[str, Any]:
    return {"a": backend.array(values(3, seed=5)), "b": None}


def assert_spent(state: State, grads: Any, at: int = 2) -> None:
    """Every use of the state says so."""
    for donate in (False, True):
        with pytest.raises(ValueError, match=rf"spent: it was donated to step {at}"):
            step(state, grads, donate=donate)
    assert f"donated to step {at}" in repr(state)


@in_place
def test_a_state_that_shares_a_leaf_is_spent_with_it(backend: Backend) -> None:
    """A fresh step keeps the arrays of leaves without a gradient."""
    old = adam_init(two(backend))
    new = step(old, only_a(backend))
    assert new.params["b"] is old.params["b"]
    step(new, two(backend, 7), donate=True)
    assert_spent(old, two(backend))
    assert_spent(new, two(backend))


@in_place
def test_the_newer_one_is_spent_with_the_older(backend: Backend) -> None:
    old = adam_init(two(backend))
    new = step(old, only_a(backend))
    newest = step(new, only_a(backend))
    step(old, two(backend), donate=True)
    assert_spent(new, two(backend), at=1)
    assert_spent(newest, two(backend), at=1)


@in_place
def test_states_that_share_nothing_are_spent_alone(backend: Backend) -> None:
    """Each leaf belongs to the step that made it, whatever else is in its tree."""
    one, none = backend.array(values(2)), None
    old = adam_init({"none": none, **two(backend)})
    first = step(old, {"none": none, **only_a(backend)})
    second = step(first, {"none": none, "a": None, "b": backend.array(values(4))})
    third = step(second, {"none": none, **two(backend)})
    step(old, {"none": none, **two(backend)}, donate=True)
    assert_spent(first, {"none": none, **two(backend)}, at=1)
    assert step(second, {"none": none, **two(backend)}, donate=True).step == 3
    assert step(third, {"none": none, **two(backend)}).step == 4
    alone = adam_init([one, none])
    after = step(alone, [one, none])
    step(alone, [one + 0, none], donate=True)
    assert step(after, [one, none]).step == 2


def test_what_is_not_written_still_stands(backend: Backend) -> None:
    old = adam_init(two(backend))
    new = step(old, only_a(backend))
    before = bits(backend, old)
    newest = step(new, only_a(backend), donate=True)
    assert bits(backend, old) == before
    assert step(old, two(backend)).step == 1
    assert step(newest, two(backend), donate=True).step == 3


MADE: dict[str, Callable[[State], State]] = {
    "copy": copy.copy,
    "dataclasses.replace": lambda s: dataclasses.replace(s, lr=0.5),
    "replace": lambda s: s.replace(lr=0.5),
    "other params beside": lambda s: s.replace(params=optree.tree_map(lambda x: x + 0, s.params)),
    "other slots beside": lambda s: s.replace(slots=optree.tree_map(lambda x: x + 0, s.slots)),
    "by hand": lambda s: State(s.params, s.slots, s.step, s.method),
    "a map": lambda s: optree.tree_map(lambda x: x, s),
    "by init": lambda s: init(AdaMod(), s.params),
    "by init of one leaf": lambda s: init(AdaMod(), [s.params["b"]]),
}


@in_place
@pytest.mark.parametrize("make", MADE.values(), ids=MADE)
@pytest.mark.parametrize("steps", [0, 2])
def test_states_of_the_same_arrays_are_spent_together(
    backend: Backend, make: Callable[[State], State], steps: int
) -> None:
    """However the other state came about, before or after steps, and whichever of the two is donated."""

    def start() -> tuple[State, State]:
        state = adam_init(two(backend))
        for seed in range(steps):
            state = step(state, two(backend, seed))
        return state, make(state)

    def grads(state: State) -> Any:
        return optree.tree_map(lambda x: x + 1, state.params)

    state, other = start()
    new = step(state, grads(state), donate=True)
    with pytest.raises(ValueError, match="spent"):
        step(other, grads(other))
    assert step(new, grads(new), donate=True).step == steps + 2
    state, other = start()
    new = step(other, grads(other), donate=True)
    with pytest.raises(ValueError, match="spent"):
        step(state, grads(state))
    assert step(new, grads(new)).step == new.step + 1


@in_place
def test_a_state_made_of_a_result_is_not_spent_by_what_went_before(backend: Backend) -> None:
    state = step(adam_init(two(backend)), two(backend), donate=True)
    again = State(state.params, state.slots, state.step, state.method)
    assert_same(backend, step(again, two(backend, 3)), step(state, two(backend, 3)))


def test_being_spent_belongs_to_arrays(backend: Backend) -> None:
    """A copy of a spent state with arrays of its own is none."""
    state = adam_init(two(backend))
    kept = copy.deepcopy(state)
    step(state, two(backend), donate=True)
    fresh = dataclasses.replace(state, params=kept.params, slots=kept.slots, step=7)
    assert step(fresh, two(backend)).step == 8
    assert state.replace(params=kept.params, slots=kept.slots).step == 0
    for changes in ({"lr": 0.5}, {"params": kept.params}, {"slots": kept.slots}):
        with pytest.raises(ValueError, match="spent"):
            step(dataclasses.replace(state, **changes), two(backend))
        with pytest.raises(ValueError, match="spent"):
            state.replace(**changes)


@in_place
def test_a_spent_state_stays_spent_in_a_pickle(backend: Backend) -> None:
    import pickle

    state = adam_init(two(backend))
    step(state, two(backend), donate=True)
    loaded = pickle.loads(pickle.dumps(state))
    for copied in (
        loaded,
        copy.copy(loaded),
        pickle.loads(pickle.dumps(loaded)),
        copy.deepcopy(state),
        copy.copy(state),
    ):
        assert_spent(copied, two(backend), at=1)


def test_a_schedule_that_donates_the_state_it_is_asked_for(backend: Backend) -> None:
    """It is the first to claim: the step that asked is an error, and the other's result stands."""
    taken: list[State] = []

    def schedule(t: int) -> float:
        if not taken:
            taken.append(None)  # type: ignore[arg-type]
            taken[0] = step(state, tree(backend, seed=1), lr=0.1, donate=True)
        return 0.1

    for donate in (False, True):
        taken.clear()
        state = momentum_init(tree(backend), schedule)
        expected = step(momentum_init(tree(backend), 0.1), tree(backend, seed=1))
        with pytest.raises(ValueError, match="spent"):
            step(state, tree(backend, seed=2), donate=donate)
        assert_same(backend, taken[0].params, expected.params)


@in_place
def test_nothing_is_written_before_the_claim(backend: Backend, monkeypatch: pytest.MonkeyPatch) -> None:
    """By no engine, in the first step or a later one."""

    def refused(self: Donation) -> None:
        raise ValueError("another step was first")

    for how in (backend.engine, *(["foreach"] if backend.name == "torch" else [])):
        for steps in (0, 1, 3):
            with engine(how):
                state = adam_init(two(backend))
                for seed in range(steps):
                    state = adam_step(state, two(backend, seed), donate=True)
                before = bits(backend, state)
                with monkeypatch.context() as patch:
                    patch.setattr(Donation, "claim", refused)
                    with pytest.raises(ValueError, match="another step was first"):
                        adam_step(state, two(backend, 9), donate=True)
                assert bits(backend, state) == before
                assert adam_step(state, two(backend, 9), donate=True).step == steps + 1


class Meddling(Method):
    """Does something while it is asked for a step, once."""

    slots = ("m",)
    does: list[Callable[[], Any]] = []  # noqa: RUF012 - of the class, so that all are equal

    def rule(self, xp: Any, lr: Any, c: Any, g: Any, p: Any, *slots: Any) -> tuple[Any, ...]:
        if self.does:
            self.does.pop()()
        return p - lr * g, slots[0] + g


@in_place
def test_a_rule_that_donates_the_state_of_its_step(backend: Backend) -> None:
    """Whoever claims first has the arrays, and the other step is an error."""
    with engine("eager"):
        for donate in (False, True):
            state = init(Meddling(), two(backend), lr=0.5)
            taken: list[State] = []

            def donated(state: State = state, taken: list[State] = taken) -> None:
                taken.append(step(state, two(backend), donate=True))

            Meddling.does.append(donated)
            with pytest.raises(ValueError, match="spent: it was donated to step 1"):
                step(state, two(backend, 3), donate=donate)
            assert_same(backend, taken[0], step(init(Meddling(), two(backend), lr=0.5), two(backend)))
            assert step(taken[0], two(backend), donate=True).step == 2


@in_place
def test_a_step_that_cannot_claim_all_of_its_arrays_claims_none(backend: Backend) -> None:
    """What it shares with others still stands."""
    with engine("eager"):
        old = init(Meddling(), two(backend), lr=0.5)
        new = step(old, only_a(backend))
        newest = step(new, {"a": None, "b": backend.array(values(4))})
        before = bits(backend, newest)
        Meddling.does.append(lambda: step(old, two(backend), donate=True))
        with pytest.raises(ValueError, match="spent"):
            step(new, two(backend, 3), donate=True)
        assert bits(backend, newest) == before
        assert step(newest, two(backend), donate=True).step == 3


@pytest.mark.only("numpy", "torch")
def test_one_of_many_threads_donates(backend: Backend) -> None:
    many = 4
    barrier = threading.Barrier(many)

    def donate(state: State) -> State | None:
        barrier.wait(30)
        try:
            return step(state, two(backend, 3), donate=True)
        except ValueError:
            with pytest.raises(ValueError, match="spent"):  # by a step that may still be writing
                step(state, two(backend))
            return None

    with concurrent.futures.ThreadPoolExecutor(many) as pool:
        for _ in range(40):
            state = adam_init(two(backend))
            expected = step(adam_init(two(backend)), two(backend, 3))
            results = [x for x in pool.map(donate, [state] * many) if x is not None]
            assert len(results) == 1
            assert_same(backend, results[0], expected)


@in_place
def test_a_leaf_that_shares_memory_with_one_that_is_not_stepped(backend: Backend) -> None:
    """Tied parameters: a donated step of one would change the other too, where a fresh one does not."""
    x = backend.array(values(6))
    state = init(Momentum(), {"a": x, "b": x[:3]})
    before = bits(backend, state)
    with pytest.raises(ValueError, match=r"params\['a'\] and params\['b'\] share memory"):
        step(state, {"a": backend.array(values(6)), "b": None}, donate=True)
    assert bits(backend, state) == before
    assert step(state, {"a": backend.array(values(6)), "b": None}).step == 1


@in_place
def test_the_first_to_have_an_array_may_go(backend: Backend) -> None:
    """Others that have it are spent together all the same."""
    params = two(backend)
    first = momentum_init(params)
    state = momentum_init(params)
    by_hand = State(state.params, state.slots, 3, Momentum())
    del first
    step(state, two(backend, 3), donate=True)
    with pytest.raises(ValueError, match="spent"):
        step(by_hand, two(backend, 3))


@in_place
@pytest.mark.parametrize("steps", [0, 1])
def test_the_donated_state_may_go(backend: Backend, steps: int) -> None:
    """Its arrays live on in the result; a state that was put together of them before is spent all the same."""
    for make in (lambda s: optree.tree_map(lambda x: x, s), lambda s: State(s.params, s.slots, s.step, s.method)):
        state = momentum_init(two(backend))
        for _ in range(steps):
            state = step(state, two(backend, 3))
        twin = make(state)
        state = step(state, two(backend, 3), donate=True)
        with pytest.raises(ValueError, match="spent"):
            step(twin, two(backend, 3))


@in_place
@pytest.mark.parametrize("donate", [False, True])
def test_arrays_of_a_state_that_is_gone(backend: Backend, donate: bool) -> None:
    """A user who has one may put it into another state, which is spent with the state that has it now."""
    state = adam_init(two(backend))
    b = state.params["b"]
    for seed in range(3):
        state = step(state, two(backend, seed) if donate else only_a(backend), donate=donate)
    gc.collect()
    other = init(AdaMod(), [b])
    step(state, two(backend), donate=True)
    assert_spent(other, [b], at=4)


@in_place
def test_an_array_where_another_one_was(backend: Backend) -> None:
    """Python gives identities again: what was known of an array that is gone is not believed of the next."""
    state = adam_init(two(backend))
    for seed in range(12):  # b is the same array all the time
        state = step(state, {"a": backend.array(values(3, seed=seed)), "b": None})
        assert state.params is not None and state.slots is not None
    others = [momentum_init([backend.array(values(3, seed=k))]) for k in range(100)]
    step(state, two(backend), donate=True)
    for other in others:
        assert step(other, other.params).step == 1
    donated = [step(other, other.params, donate=True) for other in others]
    for other in donated:
        assert step(other, other.params).step == 2


@in_place
def test_nothing_is_kept_alive(backend: Backend) -> None:
    """Neither the arrays of old states nor a chain of what went before."""
    state = adam_init(two(backend))
    gone = [weakref.ref(x) for x in optree.tree_leaves(state.slots)]
    for seed in range(3):
        state = step(state, two(backend, seed))
        assert state.params is not None
    gc.collect()
    before = sum(type(x) is Hold for x in gc.get_objects())  # of other tests
    assert not any(reference() is not None for reference in gone)
    for seed in range(50):
        state = adam_step(state, two(backend, seed), donate=True)
    gc.collect()
    assert sum(type(x) is Hold for x in gc.get_objects()) - before < 10
