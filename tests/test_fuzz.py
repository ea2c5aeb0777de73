"""Steps of whatever states, gradients and rates users can put together, against the eager engine on fresh copies.

States share arrays, arrays are changed in place between steps, and any state may be stepped again. Each step has
the bits of NumPy's eager engine on copies of what the state holds at that moment, or is an error that has changed
nothing, and only where the test knows of a reason. Ten thousand examples, with all methods:
``pytest tests/test_fuzz.py --backend torch --hypothesis-profile=long``.
"""

from __future__ import annotations

import collections
import copy
import dataclasses
import functools
import gc
import itertools
import pickle
import re
from collections.abc import Sequence
from typing import Any

import numpy as np
import optree
import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, precondition, rule, run_state_machine_as_test

from adamod_array import Method, State, engine, init, schedules, step
from adamod_array._methods import Methods, first
from adamod_array._namespace import COMPUTE_DTYPE, REAL_DTYPE, dtype_name, real_compute_dtype
from adamod_array._program.trace import trace
from tests.backend import Backend, backends
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

EXAMPLES = {"numpy": 300, "torch": 300, "cupy": 100, "strict": 100, "jax": 30, "dask": 8}
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

Pair = collections.namedtuple("Pair", "x y")

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
NAMED = re.compile(r"params|grads|slots\[|lr|spent")
ROUNDING = {"float32": 2.0**-17, "complex64": 2.0**-17, "float64": 2.0**-46, "complex128": 2.0**-46}
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


def rate(backend: Backend, kind: str, params: Any) -> Any:
    """Return a learning rate; all of them are exact in float16, and so is one minus its product with a decay."""
    if kind == "tree":
        some = itertools.cycle([0.25, 0.5, np.float32(0.125)])
        return optree.tree_map(lambda p: None if p is None else next(some), params, none_is_leaf=True)
    return {
        "none": None,
        "float": 0.25,
        "NumPy": np.float32(0.5),
        "0-d": np.asarray(0.25),
        "array": backend.array(0.25),
        "one": backend.array([0.5]) if backend.name == "torch" else 0.5,
        "schedule": lambda t: 0.5**t,
        "warmup": 0.5 * schedules.linear_warmup(4),
        "infinite": 1e39,
        "negative": -0.25,
        "NaN": float("nan"),
    }[kind]


def attempt(chosen: str, state: State, grads: Any, lr: Any, decay: float | None, *, donate: bool) -> State | Exception:
    """Take a step by an engine; return the new state, or an error of the kinds that a step is said to raise."""
    try:
        with engine(chosen):
            return step(state, grads, lr=lr, weight_decay=decay, donate=donate)
    except (TypeError, ValueError) as error:
        return error


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
        mixed=st.booleans(),
    )
    def begin(self, name: str, tree: str, kinds: Any, lr: str, decay: float, large: int, mixed: bool) -> None:
        """Init, of one method or of one a leaf."""
        methods = EVERY if is_long() else FEW
        method = methods.get(name, METHODS["momentum"])
        betas = [field.name for field in dataclasses.fields(method) if field.name.startswith("beta")]
        changed: dict[str, Any] = dict.fromkeys(betas, 0.5)
        other = dataclasses.replace(method, **changed)
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
        each = itertools.cycle([method, other])
        given = optree.tree_map(lambda _: next(each), params, none_is_leaf=True) if mixed else method
        state = init(given, params, rate(self.backend, lr, params), weight_decay=decay)
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
        decay=st.sampled_from([None, None, None, 0.0, 0.5]),
        times=st.sampled_from([1, 2, 5]),
        other=st.integers(0, 3),
    )
    def go_on(self, which: int, kinds: Any, donate: bool, lr: str, decay: float | None, times: int, other: int) -> None:
        """Take steps alike, one after the other."""
        known = self.pick(which)
        if lr == "infinite" and any(dtype_name(x).startswith("complex") for x in known.arrays if x is not None):
            lr = "none"  # products of complex numbers with infinities are not said to be the same
        for _ in range(times):
            new = self.take(known, kinds, lr, decay, donate, self.engine(other))
            if new is None:
                return
            known = new

    def engine(self, number: int) -> str:
        """Return the engine under test, or another: a state may change hands."""
        name = self.backend.name
        others = ["eager", *(["foreach"] if name == "torch" else [])] if name in IN_MEMORY else []
        every = [self.backend.engine] * 2 + others
        return every[number % len(every)]

    def gradient(self, known: Known, i: int, kind: Any, before: list[Any]) -> Any:
        """Return a gradient for leaf ``i``, or None."""
        backend, columns = self.backend, known.columns
        p = columns[0][i]
        if p is None or kind["is"] == "None":
            return None
        match kind["is"]:
            case "a parameter":
                return next(x for x in reversed(columns[0]) if x is not None and x.shape == p.shape)
            case "its parameter":
                return p
            case "a slot":
                return [x for x in known.arrays if x.shape == p.shape][-1]
            case "its slot":
                return columns[-1][i]
            case "the last" if before and before[-1] is not None:
                return before[-1]
        own, dtype = dtype_name(p), kind["dtype"]
        if dtype == "its own" or (dtype == "complex64" and not own.startswith("complex")):
            dtype = own
        if dtype not in backend.table["dtypes"]:
            dtype = "float32"  # an array may have been made one of integers
        found = numbers(as_seen(backend, kind["numbers"]), tuple(p.shape), dtype, next(self.seed))
        if own.startswith("complex") and not np.isfinite(found).all():
            found = values(*p.shape, seed=next(self.seed))  # products of infinities are not said to be the same
        with np.errstate(over="ignore"):
            if kind["is"] == "a scalar" and p.shape == () and backend.name == "numpy":
                return backend.array(found, dtype)[()]
            return laid_out(backend, found, dtype, kind["layout"])

    def take(self, known: Known, kinds: Any, lr: str, decay: float | None, donate: bool, chosen: str) -> Known | None:
        """Take one step and compare it, and all else that lives, with what was to be expected."""
        backend, state, columns = self.backend, known.state, known.columns
        grads: list[Any] = []
        for i in range(len(columns[0])):
            grads.append(self.gradient(known, i, kinds[i % len(kinds)], grads))
        params, given = (optree.tree_unflatten(known.spec, xs) for xs in (columns[0], grads))
        wanted = self.expected(known, grads, rate(HOST, lr, params), decay)
        reason = self.reason(known, grads, wanted, donate)
        exact = [self.is_exact(state.method, columns, grads, i, chosen) for i in range(len(grads))]
        written = [x for i, g in enumerate(grads) if g is not None for x in (column[i] for column in columns)]
        allowed = all_spots(backend, written) if donate and backend.name in IN_MEMORY else np.empty(0, np.int64)
        dtypes = [[None if x is None else x.dtype for x in column] for column in columns]
        living = [x for each in [*self.every, known] for x in each.arrays]
        living += [g for g in grads if g is not None and not isinstance(g, np.generic)]
        before = photograph(backend, living)
        new = attempt(chosen, state, given, rate(backend, lr, params), decay, donate=donate)
        if isinstance(new, Exception):
            assert reason or known.may_be_spent, f"refused without a reason: {new}"
            assert NAMED.search(str(new)), f"an error that names nothing: {new}"
            assert reason != "spent" or "spent" in str(new) or isinstance(wanted, Exception)
            assert not changed(before, photograph(backend, living)).size, "an error has changed numbers"
            return None
        assert not reason, f"not refused: {reason}"
        assert np.isin(changed(before, photograph(backend, living)), allowed).all(), "others than the donated changed"
        result = Known(new, known.spec)
        assert new.step == state.step + 1
        for k, (column, those) in enumerate(zip(result.columns, wanted.columns, strict=True)):
            for i, (x, e) in enumerate(zip(column, those, strict=True)):
                if grads[i] is None:
                    assert x is columns[k][i]
                    continue
                assert x.dtype == dtypes[k][i]
                self.assert_equal(x, e, exact[i])
                if backend.name in IN_MEMORY:
                    assert (x is columns[k][i]) == donate
        if donate and written:
            self.mark(known, written)
        self.keep(result)
        return result

    def mark(self, donated: Known, written: Sequence[Any]) -> None:
        """Note who is spent: whoever holds an array that was written; elsewhere nothing was, or it was deleted."""
        ids = {id(x) for x in written}
        for each in self.every:
            if not ids.isdisjoint(map(id, each.arrays)):
                each.is_spent |= self.backend.name in IN_MEMORY
                each.may_be_spent = True
        donated.is_spent = True

    def reason(self, known: Known, grads: list[Any], wanted: Any, donate: bool) -> str:
        """Return why a step is to be refused; nothing where it is not."""
        backend, columns = self.backend, known.columns
        if known.is_spent:
            return "spent"
        if self.lacks_memory(known, grads):
            return "memory is gone"
        if isinstance(wanted, Exception):
            return f"the eager engine on NumPy: {wanted}"
        written = [column[i] for i, g in enumerate(grads) if g is not None for column in columns]
        others = [x for i, g in enumerate(grads) if g is None for x in (column[i] for column in columns)]
        if donate and backend.name == "jax":
            if len({*map(id, written)}) < len(written):
                return "a buffer is given away twice"
            if not {*map(id, written)}.isdisjoint(id(x) for x in others if x is not None):
                return "a buffer of others is given away"
        if not donate or backend.name not in IN_MEMORY:
            return ""
        if backend.name == "numpy" and not all(x.flags.writeable for x in written):
            return "read-only"
        there = all_spots(backend, written)
        if len(np.unique(there)) < len(there):
            return "memory is written twice"
        kept = all_spots(backend, [x for x in others if x is not None])
        return "memory of others is written" if np.isin(kept, there).any() else ""

    def lacks_memory(self, known: Known, grads: list[Any]) -> bool:
        """Return whether numbers that a step reads are gone."""
        return any(lacks_memory(self.backend, x) for x in [*known.arrays, *grads] if x is not None)

    def expected(self, known: Known, grads: list[Any], lr: Any, decay: float | None) -> Any:
        """Return the step by NumPy's eager engine on copies, or its error; None where there is nothing to copy."""
        state, backend = known.state, self.backend
        if self.lacks_memory(known, grads):
            return None
        columns = [[None if x is None else host(backend, x) for x in column] for column in (*known.columns, grads)]
        params, *slots, given = (optree.tree_unflatten(known.spec, column) for column in columns)
        named = dict(zip(state.method.slots, slots, strict=True))
        fresh = State(params, named, state.step, state.method, state.lr, state.weight_decay)
        new = attempt("eager", fresh, given, lr, decay, donate=False)
        return new if isinstance(new, Exception) else Known(new, known.spec)

    def is_exact(self, method: Method | Methods, columns: Any, grads: Any, i: int, chosen: str) -> bool:
        """Return whether a leaf is said to have NumPy's bits; see backends/torch.toml. An exponential never is."""
        as_numpy = chosen == "eager" and self.backend.name in ("numpy", "strict", "dask")
        if not as_numpy and any(x.name == "exp" for x in trace(first(method)).operations):
            return False
        if self.backend.name != "torch":
            return True
        if chosen != "numba" or grads[i] is None:
            return False
        arrays = [x for x in [*itertools.chain(*columns), *grads] if x is not None]
        if any(x.is_conj() or x.is_neg() or x.requires_grad for x in arrays):
            return False
        g, p, *kept = grads[i], *(column[i] for column in columns)
        reals = {real_compute_dtype(dtype_name(x)) for x in (p, g) if dtype_name(x) in COMPUTE_DTYPE}
        fits = len(reals) == 1 and {REAL_DTYPE.get(dtype_name(x), dtype_name(x)) for x in kept} <= reals
        return fits and all(x.is_contiguous() for x in (g, p, *kept))

    def assert_equal(self, x: Any, e: Any, exact: bool) -> None:
        """Compare with NumPy."""
        found = host(self.backend, x)
        assert found.dtype == e.dtype
        if found.shape == e.shape and found.tobytes() == e.tobytes():
            return
        ulp, atol = 0, 0.0
        if not exact:  # a root or exponential an ulp off, in steps to numbers smaller than what is subtracted
            sizes = np.abs(np.append(e.ravel(), np.ones(1, e.dtype))).astype(np.float64)
            ulp, atol = 4, ROUNDING[COMPUTE_DTYPE[e.dtype.name]] * sizes[np.isfinite(sizes)].max()
        assert_close(found, e, ulp=ulp, atol=atol)

    # copies, and what shares arrays

    def is_sound(self, known: Known) -> bool:
        """Return whether nothing has been done to its arrays for which it would be refused."""
        grads = known.columns[0]
        return not known.may_be_spent and not self.reason(known, grads, self.expected(known, grads, None, None), False)

    @precondition(lambda self: self.every)
    @rule(
        which=st.integers(0, 5),
        how=st.sampled_from(["replace", "State.replace", "copy", "deepcopy", "pickle", "tree_map", "by hand", "read"]),
    )
    def share(self, which: int, how: str) -> None:
        """Make another state of a state's arrays."""
        known = self.pick(which)
        state = known.state
        may_fail = known.is_spent and how in ("replace", "State.replace", "copy")
        if not may_fail and not self.is_sound(known):
            return
        if how in ("deepcopy", "pickle") and not self.is_picklable(known):
            return
        try:
            match how:
                case "replace":
                    new = dataclasses.replace(state, lr=0.5)
                case "State.replace":
                    new = state.replace(lr=0.125, weight_decay=0.125)
                case "copy":
                    new = copy.copy(state)
                case "deepcopy":
                    new = copy.deepcopy(state)
                case "pickle":
                    new = pickle.loads(pickle.dumps(state))
                case "tree_map":
                    new = optree.tree_map(lambda x: x, state)
                case "by hand":
                    new = State(state.params, state.slots, 3, state.method, 0.5)
                case _:
                    repr(state)
                    return
        except ValueError:
            assert may_fail
            return
        self.keep(Known(new, known.spec, known.is_spent, known.may_be_spent))

    def is_picklable(self, known: Known) -> bool:
        """Return whether a framework copies its arrays: PyTorch does not those with a history."""
        if callable(known.state.lr):
            return False
        return self.backend.name != "torch" or all(x.is_leaf and not x.is_inference() for x in known.arrays)

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
            self.take(known, [PLAIN], "none", None, False, self.backend.engine)


HOST = Backend("numpy", "cpu", "eager")


def is_long() -> bool:
    """Return whether the profile of ten thousand examples is in force."""
    return settings.get_current_profile_name() == "long"


@pytest.mark.slow("cupy", "dask", "jax")
def test_steps_are_those_of_fresh_copies(backend: Backend) -> None:
    examples = settings.get_profile("long").max_examples if is_long() else EXAMPLES[backend.name]
    chosen = settings(
        max_examples=examples // len(backends(backend.name)),
        stateful_step_count=12,
        derandomize=not is_long(),
        deadline=None,
        suppress_health_check=list(HealthCheck),
        phases=[phase for phase in Phase if phase is not Phase.explain],
    )
    machine: Any = functools.partial(Fuzz, backend)
    run_state_machine_as_test(machine, settings=chosen)
