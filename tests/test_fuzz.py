"""Steps of whatever states, gradients and rates users can put together, against the eager engine on fresh copies.

A thousand and one things between two steps: ``pytest tests/test_fuzz.py --hypothesis-profile=long``.
"""

from __future__ import annotations

import collections
import copy
import dataclasses
import gc
import itertools
import pickle
from collections.abc import Sequence
from typing import Any

import numpy as np
import optree
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, precondition, rule, run_state_machine_as_test

from adamod_array import Method, State, engine, init, schedules, step
from adamod_array._namespace import COMPUTE_DTYPE, dtype_name
from tests.backend import Backend
from tests.compare import assert_close
from tests.memory import (
    IN_MEMORY,
    LAYOUTS,
    all_spots,
    change,
    changed,
    host,
    lacks_memory,
    laid_out,
    owner,
    photograph,
)
from tests.trees import METHODS, leaves, values

EXAMPLES = {"numpy": 300, "torch": 300, "cupy": 100, "strict": 100, "jax": 30, "dask": 20}
"""In all of a backend's engines; of JAX's most are compiled anew, and a lazy step costs ten milliseconds."""


# methods, trees, rates


@dataclasses.dataclass(frozen=True)
class Constant(Method):
    """Gives a number for a slot."""

    slots = ("k", "m")

    def rule(self, xp: Any, lr: Any, c: Any, g: Any, p: Any, k: Any, m: Any) -> tuple[Any, ...]:
        return p - lr * m, 0.5, g + m * k


@dataclasses.dataclass(frozen=True)
class PassedOn(Method):
    """Gives back what it got, in other places."""

    slots = ("a", "b", "old")

    def rule(self, xp: Any, lr: Any, c: Any, g: Any, p: Any, a: Any, b: Any, old: Any) -> tuple[Any, ...]:
        return p - lr * old, g, a, p


OWN: dict[str, Method] = {"a number": Constant(), "passed on": PassedOn()}
EVERY = METHODS | OWN
FEW = {name: EVERY[name] for name in ("momentum", "adamod", "adam-amsgrad", *OWN)}
"""Each has kernels of its own, for each dtype and for what may be done to a step."""

Pair = collections.namedtuple("Pair", "x y")  # noqa: PYI024 - of anything

TREES: dict[str, Any] = {
    "leaf": 0,
    "dict": {"a": 0, "b": 1},
    "with None": {"a": 0, "none": None, "b": 1},
    "nested": {"layers": [{"w": 0, "b": 1}, Pair(2, None)], "head": (3,)},
    "only None": {"none": None},
}
"""Numbers stand for leaves."""

SHAPES: list[tuple[int, ...]] = [(3,), (2, 3), (), (0, 2), (37,)]
LARGE = (130, 130)
"""More than the eager engine computes at a time."""

NUMBERS = ["plain", "zero", "NaN", "inf", "huge", "tiny"]
RATES = ["none", "float", "NumPy", "0-d", "array", "one", "schedule", "warmup", "tree", "infinite", "negative", "NaN"]

leaf = st.fixed_dictionaries(
    {
        "shape": st.sampled_from(SHAPES),
        "dtype": st.sampled_from(["float32", "float64", "float16", "bfloat16", "complex64"]),
        "layout": st.sampled_from(["plain", "plain", *LAYOUTS]),
        "is": st.sampled_from(["new", "new", "new", "the first", "a view of the first"]),
    }
)
gradient = st.fixed_dictionaries(
    {
        "dtype": st.sampled_from(["its own", "its own", "its own", "float32", "float64", "float16", "complex64"]),
        "layout": st.sampled_from(["plain", "plain", "plain", *LAYOUTS]),
        "numbers": st.sampled_from(["plain", *NUMBERS]),
        "is": st.sampled_from(
            ["new", "new", "new", "None", "a parameter", "its parameter", "a slot", "its slot", "the last", "a scalar"]
        ),
    }
)

PLAIN = {"dtype": "its own", "layout": "plain", "numbers": "plain", "is": "new"}


def numbers(kind: str, shape: tuple[int, ...], dtype: str, seed: int) -> Any:
    """Values of both signs, some of them of a kind."""
    found = values(*shape, seed=seed)
    if kind in ("plain", "zero"):
        return found * (kind == "plain")
    small = dtype in ("float16",)
    special = {"NaN": np.nan, "inf": -np.inf, "huge": 6e4 if small else 1e30, "tiny": 1e-7 if small else 1e-41}[kind]
    found = found.reshape(-1)
    found[::2] = special
    return found.reshape(shape)


def as_seen(backend: Backend, kind: str) -> str:
    """Whether numbers of a kind are the same for a backend and NumPy: some flush denormals, of results too."""
    flushes = backend.name == "cupy" or backend.engine == "jit"
    return "plain" if flushes and kind == "tiny" else kind


def rate(backend: Backend, kind: str, params: Any, dtype: str) -> Any:
    """Return a learning rate; all of them are exact in float16, and so is one minus its product with a decay."""
    if kind == "tree":
        some = itertools.cycle([0.25, 0.5, np.float32(0.125)])
        return optree.tree_map(lambda p: None if p is None else next(some), params, none_is_leaf=True)
    return {
        "none": None,
        "float": 0.25,
        "NumPy": np.float32(0.5),
        "0-d": np.asarray(0.25),
        "array": backend.array(0.25, dtype),
        "one": backend.array([0.5], dtype) if backend.name == "torch" else 0.5,
        "schedule": lambda t: 0.5**t,
        "warmup": 0.5 * schedules.linear_warmup(4),
        "infinite": 1e39,
        "negative": -0.25,
        "NaN": float("nan"),
    }[kind]


@dataclasses.dataclass(eq=False)
class Known:
    """A state, and what the test knows of it."""

    state: State
    spec: Any
    is_spent: bool = False
    may_be_spent: bool = False

    @property
    def columns(self) -> list[list[Any]]:
        """The parameters and each slot; not through the state's own door, where it remembers who was given what."""
        fields = vars(self.state)
        if fields["_is_resolved"]:
            return list(fields["_known"][0].columns)
        return [leaves(self.state.params), *(leaves(self.state.slots[name]) for name in self.state.method.slots)]

    @property
    def arrays(self) -> list[Any]:
        """All of them."""
        return [x for x in itertools.chain(*self.columns) if x is not None]


class Fuzz(RuleBasedStateMachine):
    """States that share arrays, and what users do to them."""

    def __init__(self, backend: Backend) -> None:
        super().__init__()
        self.backend = backend
        self.every: list[Known] = []
        self.seed = itertools.count()
        self.large = False

    def pick(self, number: int) -> Known:
        return self.every[number % len(self.every)]

    def keep(self, known: Known) -> None:
        self.every = [*self.every[-5:], known]

    # a state

    @rule(
        name=st.sampled_from(list(EVERY)),
        tree=st.sampled_from(list(TREES)),
        kinds=st.lists(leaf, min_size=4, max_size=4),
        lr=st.sampled_from(RATES[1:8]),
        decay=st.sampled_from([0.0, 0.0, 0.125, np.float32(0.5)]),
        large=st.integers(0, 19),
    )
    def begin(self, name: str, tree: str, kinds: Any, lr: str, decay: float, large: int) -> None:
        """Init."""
        methods = EVERY if is_long() else FEW
        method = methods.get(name, METHODS["momentum"])
        made: list[Any] = []
        for kind in kinds:
            dtype = kind["dtype"] if kind["dtype"] in self.backend.table["dtypes"] else "float32"
            if made and kind["is"] == "the first":
                made.append(made[0])
            elif made and kind["is"] == "a view of the first" and self.backend.name in ("numpy", "torch", "cupy"):
                made.append(made[0][...])
            else:
                shape = LARGE if large == 19 and not made else kind["shape"]
                made.append(laid_out(self.backend, values(*shape, seed=next(self.seed)), dtype, kind["layout"]))
        params = optree.tree_map(lambda i: None if i is None else made[i], TREES[tree], none_is_leaf=True)
        lr = rate(self.backend, lr, params, "float32")
        state = init(method, params, lr, weight_decay=decay)
        self.keep(Known(state, optree.tree_structure(params, none_is_leaf=True)))

    @precondition(lambda self: self.every)
    @rule(which=st.integers(0, 5), name=st.sampled_from(list(FEW)))
    def begin_again(self, which: int, name: str) -> None:
        """Init on parameters that another state has."""
        known = self.pick(which)
        if not self.is_sound(known):
            return
        self.keep(Known(init(FEW[name], known.state.params, 0.25), known.spec))

    # a step

    @precondition(lambda self: self.every)
    @rule(
        which=st.integers(0, 5),
        kinds=st.one_of(st.just([PLAIN]), st.lists(gradient, min_size=1, max_size=4)),
        donate=st.booleans(),
        lr=st.one_of(st.just("none"), st.sampled_from(RATES)),
        times=st.sampled_from([1, 2, 5]),
        other=st.integers(0, 3),
    )
    def go_on(self, which: int, kinds: Any, donate: bool, lr: str, times: int, other: int) -> None:
        """Take steps alike, one after the other."""
        known = self.pick(which)
        for _ in range(times):
            new = self.take(known, kinds, lr, donate, self.engine(other))
            if new is None:
                return
            known = new

    def engine(self, number: int) -> str:
        """Return the engine of the test, or another of its framework's."""
        others = {"torch": ["eager", "foreach"], "numpy": ["eager"], "cupy": ["eager"], "jax": []}
        every = [self.backend.engine, self.backend.engine, *others.get(self.backend.name, [])]
        return every[number % len(every)]

    def gradient(self, known: Known, i: int, kind: Any, before: list[Any]) -> Any:
        """Return a gradient for leaf ``i``."""
        backend, columns = self.backend, known.columns
        p = columns[0][i]
        if p is None or kind["is"] == "None":
            return None
        arrays = [x for x in known.arrays if x.shape == p.shape]
        if kind["is"] == "a parameter":
            return next(x for x in reversed(columns[0]) if x is not None and x.shape == p.shape)
        if kind["is"] == "its parameter":
            return p
        if kind["is"] == "a slot":
            return arrays[-1]
        if kind["is"] == "its slot":
            return columns[-1][i]
        if kind["is"] == "the last" and before and before[-1] is not None:
            return before[-1]
        dtype = dtype_name(p) if kind["dtype"] == "its own" else kind["dtype"]
        if dtype not in backend.table["dtypes"]:
            dtype = "float32"
        if kind["dtype"] == "complex64" and not dtype_name(p).startswith("complex"):
            dtype = "float32"
        found = numbers(as_seen(backend, kind["numbers"]), tuple(p.shape), dtype, next(self.seed))
        if "complex" in dtype_name(p) and not np.isfinite(found).all():
            found = values(*p.shape, seed=next(self.seed))  # products of infinities are not said to be the same
        with np.errstate(over="ignore"):
            if kind["is"] == "a scalar" and p.shape == () and backend.name == "numpy" and "bf" not in dtype:
                return np.dtype(dtype).type(found)
            return laid_out(backend, found, dtype, kind["layout"])

    def take(self, known: Known, kinds: Any, lr: str, donate: bool, chosen: str) -> Known | None:
        """Take one step and compare it, and all else that lives, with what was to be expected."""
        backend, state, columns = self.backend, known.state, known.columns
        grads: list[Any] = []
        for i in range(len(columns[0])):
            grads.append(self.gradient(known, i, kinds[i % len(kinds)], grads))
        tree = optree.tree_unflatten(known.spec, grads)
        given = rate(backend, lr, optree.tree_unflatten(known.spec, columns[0]), "float32")
        at = [i for i, g in enumerate(grads) if g is not None]
        written = [column[i] for i in at for column in columns]
        wanted = self.expected(known, grads, rate(HOST, lr, optree.tree_unflatten(known.spec, columns[0]), "float32"))
        reason = self.reason(known, grads, at, wanted, donate)
        dtypes = [[None if x is None else x.dtype for x in column] for column in columns]
        exact = [self.is_exact(columns, grads, i, chosen) for i in range(len(grads))]
        living = [x for each in [*self.every, known] for x in each.arrays] + [g for g in grads if hasattr(g, "dtype")]
        living = [x for x in living if not isinstance(x, np.generic)]
        before = photograph(backend, living)
        allowed = all_spots(backend, written) if donate and backend.name in IN_MEMORY else np.empty(0, np.int64)
        try:
            with engine(chosen):
                new = step(state, tree, lr=given, donate=donate)
        except (TypeError, ValueError) as error:
            assert reason or known.may_be_spent, f"refused without a reason: {error}"
            assert any(word in str(error) for word in ("params", "grads", "slots", "lr", "spent", "frameworks")), error
            if reason == "spent" and not isinstance(wanted, Exception):
                assert "spent" in str(error)
            assert not len(changed(before, photograph(backend, living))), "an error has changed numbers"
            return None
        assert not reason, f"not refused: {reason}"
        assert not isinstance(wanted, Exception)
        result = Known(new, known.spec)
        moved = changed(before, photograph(backend, living))
        assert np.isin(moved, allowed).all(), "numbers beside the donated ones have changed"
        for k, (column, those) in enumerate(zip(result.columns, wanted.columns, strict=True)):
            for i, (x, e) in enumerate(zip(column, those, strict=True)):
                if x is None:
                    assert e is None
                    continue
                assert x.dtype == dtypes[k][i]
                self.assert_equal(x, e, exact[i], columns[0][i])
                if i not in at:
                    assert x is columns[k][i]
                elif backend.name in IN_MEMORY:
                    assert (x is columns[k][i]) == donate
        assert new.step == state.step + 1
        if donate and at:
            self.mark(known, written)
        self.keep(result)
        return result

    def mark(self, donated: Known, written: Sequence[Any]) -> None:
        """Note who is spent."""
        ids = {id(x) for x in written}
        for each in self.every:
            if each is donated or not ids.isdisjoint(map(id, each.arrays)):
                if each is donated or self.backend.name in IN_MEMORY:
                    each.is_spent = True
                else:
                    each.may_be_spent = True
        donated.is_spent = True

    def reason(self, known: Known, grads: Any, at: list[int], wanted: Any, donate: bool) -> str:
        """Return why a step is to be refused; nothing where it is not."""
        if known.is_spent:
            return "spent"
        if any(lacks_memory(self.backend, x) for x in [*known.arrays, *(g for g in grads if hasattr(g, "device") or hasattr(g, "devices")) ]):
            return "memory is gone"
        if isinstance(wanted, Exception):
            return f"the eager engine on NumPy: {wanted}"
        if not donate:
            return ""
        columns = known.columns
        written = [column[i] for i in at for column in columns]
        if self.backend.name == "jax":
            return "the same array twice" if len({*map(id, written)}) < len(written) else ""
        if self.backend.name not in IN_MEMORY:
            return ""
        if self.backend.name == "numpy" and not all(x.flags.writeable for x in written):
            return "read-only"
        there = all_spots(self.backend, written)
        if len(np.unique(there)) < len(there):
            return "memory is written twice"
        others = [column[i] for column in columns for i, x in enumerate(column) if i not in at and x is not None]
        return "memory of others is written" if np.isin(all_spots(self.backend, others), there).any() else ""

    def expected(self, known: Known, grads: list[Any], lr: Any) -> Any:
        """Return the step by NumPy's eager engine on copies, or its error."""
        state, backend = known.state, self.backend
        if any(lacks_memory(backend, x) for x in known.arrays):
            return None
        columns = [[None if x is None else host(backend, x) for x in column] for column in known.columns]
        copies = [None if g is None else np.asarray(g) if isinstance(g, np.generic) else host(backend, g) for g in grads]
        trees = [optree.tree_unflatten(known.spec, column) for column in columns]
        slots = dict(zip(state.method.slots, trees[1:], strict=True))
        try:
            fresh = State(trees[0], slots, state.step, state.method, state.lr, state.weight_decay)
            with engine("eager"):
                return Known(step(fresh, optree.tree_unflatten(known.spec, copies), lr=lr), known.spec)
        except (TypeError, ValueError) as error:
            return error

    def is_exact(self, columns: Any, grads: Any, i: int, chosen: str) -> bool:
        """Return whether a leaf is said to have NumPy's bits; see backends/torch.toml."""
        if self.backend.name != "torch":
            return True
        if chosen != "numba" or grads[i] is None:
            return False
        arrays = [x for x in [*itertools.chain(*columns), *grads] if x is not None]
        if any(x.is_conj() or x.is_neg() or x.requires_grad for x in arrays):
            return False
        g, p, *kept = grads[i], *(column[i] for column in columns)
        compute = COMPUTE_DTYPE.get(dtype_name(p))
        fits = not p.dtype.is_complex and COMPUTE_DTYPE.get(dtype_name(g)) == compute
        return fits and all(dtype_name(x) == compute for x in kept) and all(x.is_contiguous() for x in (g, p, *kept))

    def assert_equal(self, x: Any, e: Any, exact: bool, p: Any) -> None:
        """Compare with NumPy."""
        found = host(self.backend, x)
        assert found.dtype == e.dtype
        if found.shape == e.shape and found.tobytes() == e.tobytes():
            return
        if exact:
            assert_close(found, e)
            return
        sizes = np.abs(np.concatenate([e.ravel(), np.ones(1, e.dtype)])).astype(np.float64)
        eps = 2.0**-52 if e.dtype in ("float64", "complex128") else 2.0**-23
        assert_close(found, e, ulp=4, atol=64 * eps * sizes[np.isfinite(sizes)].max())

    # copies, and what shares arrays

    def is_sound(self, known: Known) -> bool:
        """Return whether nothing has been done to its arrays that it would be refused for."""
        if known.is_spent or known.may_be_spent:
            return False
        zeros = [None if x is None or lacks_memory(self.backend, x) else x for x in known.columns[0]]
        return not self.reason(known, [], [], self.expected(known, zeros, None), donate=False)

    @precondition(lambda self: self.every)
    @rule(
        which=st.integers(0, 5),
        how=st.sampled_from(["replace", "State.replace", "copy", "deepcopy", "pickle", "tree_map", "by hand", "read"]),
    )
    def share(self, which: int, how: str) -> None:
        """Make another state of a state's arrays."""
        known = self.pick(which)
        state = known.state
        is_sound = self.is_sound(known)
        if not is_sound and not (known.is_spent and how in ("replace", "State.replace", "copy")):
            return
        if self.backend.name == "torch" and how in ("deepcopy", "pickle") and not all(x.is_leaf and not x.is_inference() for x in known.arrays):
            return
        try:
            if how == "replace":
                new = dataclasses.replace(state, lr=0.5)
            elif how == "State.replace":
                new = state.replace(lr=0.125, weight_decay=0.125)
            elif how == "copy":
                new = copy.copy(state)
            elif how == "deepcopy":
                new = copy.deepcopy(state)
            elif how == "pickle":
                if callable(state.lr):
                    return
                new = pickle.loads(pickle.dumps(state))
            elif how == "tree_map":
                new = optree.tree_map(lambda x: x, state)
            elif how == "by hand":
                new = State(state.params, state.slots, 3, state.method, 0.5)
            else:
                _ = state.params, state.slots, repr(state)
                return
        except ValueError as error:
            assert not is_sound and "spent" in str(error)
            return
        self.keep(Known(new, known.spec, is_spent=known.is_spent))

    # what is done to arrays

    @precondition(lambda self: self.every)
    @rule(which=st.integers(0, 5), array=st.integers(0, 20), other=st.integers(0, 20), how=st.integers(0, 30))
    def do(self, which: int, array: int, other: int, how: int) -> None:
        """Change an array in place."""
        known = self.pick(which)
        arrays, others = known.arrays, [x for each in self.every for x in each.arrays]
        if not arrays:
            return
        x = arrays[array % len(arrays)]
        y = others[other % len(others)]
        if lacks_memory(self.backend, x) or lacks_memory(self.backend, y):
            return
        is_shared = self.backend.name == "numpy" and any(z is not x and owner(self.backend, z) is x for z in others)
        change(self.backend, x, y, how, is_shared=is_shared)

    @precondition(lambda self: len(self.every) > 1)
    @rule(which=st.integers(0, 5))
    def forget(self, which: int) -> None:
        """Let a state go."""
        self.every.remove(self.pick(which))
        gc.collect(0)

    def teardown(self) -> None:
        """Use every state once more."""
        for known in [*self.every]:
            self.take(known, [PLAIN], "none", False, self.backend.engine)


HOST = Backend("numpy", "cpu", "eager")


def is_long() -> bool:
    """Whether all there is time for was asked for."""
    return settings.get_current_profile_name() == "long"


def test_steps_are_those_of_fresh_copies(backend: Backend) -> None:
    engines = 2 if backend.name not in ("dask",) else 1
    chosen = settings(
        max_examples=settings.get_profile("long").max_examples // engines if is_long() else EXAMPLES[backend.name] // engines,
        stateful_step_count=12,
        derandomize=not is_long(),
        deadline=None,
        suppress_health_check=list(HealthCheck),
        phases=[x for x in Phase if x is not Phase.explain],
    )
    run_state_machine_as_test(lambda: Fuzz(backend), settings=chosen)
