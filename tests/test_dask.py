"""Dask's own: what a step adds to a graph, the names of it, and what its chunks may be."""

from __future__ import annotations

import pickle
from typing import Any

import numpy as np
import pytest

from adamod_array import AdaMod, Momentum, State, clip_by_global_norm, init, step
from tests.backend import Backend
from tests.trees import assert_same, tree, values

ENGINES = [Backend("dask", "cpu", engine) for engine in ("numba", "eager")]
pytestmark = [
    pytest.mark.only("dask"),
    pytest.mark.parametrize("backend", ENGINES, ids=[each.engine for each in ENGINES], indirect=True),
]

HOST = Backend("numpy", "cpu", "eager")


def is_kernel(backend: Backend) -> bool:
    return backend.engine == "numba"


def test_names_are_of_what_is_computed(backend: Backend) -> None:
    """Equal steps have equal names; another gradient, rate, decay, method or rule has others."""
    if not is_kernel(backend):
        pytest.skip("Dask names its own operations")
    x, g = backend.array(values(4)), backend.array(values(4, seed=1))
    state = init(AdaMod(), x)

    class Idle(Momentum):
        def rule(self, xp: Any, lr: Any, c: Any, g: Any, p: Any, *slots: Any) -> tuple[Any, ...]:
            return (p, *slots)

    def other_rule() -> Any:
        class Idle(Momentum):
            def rule(self, xp: Any, lr: Any, c: Any, g: Any, p: Any, *slots: Any) -> tuple[Any, ...]:
                return (p + g, *slots)

        return Idle()

    others = [
        step(state, x),
        step(state, g, lr=1e-4),
        step(state, g, weight_decay=0.1),
        step(init(AdaMod(beta3=0.5), x), g),
        step(state.replace(step=1), g),
        step(init(Idle(), x), g),
        step(init(other_rule(), x), g),
    ]
    names = [new.params.name for new in (step(state, g), *others)]
    assert names[0] == step(state, g).params.name
    assert len({*names}) == len(names)


def test_a_step_is_a_task_a_chunk(backend: Backend) -> None:
    """AdaMod over 16 chunks, persisted at every step or after three; the gradient is there, or in the tasks."""
    from dask.callbacks import Callback

    from adamod_array.dask import persist

    if not is_kernel(backend):
        pytest.skip("the rule is one task an operation")
    (g,) = persist(init(Momentum(), [backend.xp.ones(64, chunks=4, dtype=np.float32)])).params
    state = persist(init(AdaMod(), backend.xp.ones(64, chunks=4, dtype=np.float32)))
    run: list[str] = []
    for steps, is_own in ((1, False), (1, True), (3, True)):
        new = state
        for _ in range(steps):
            new = step(new, new.params * 2 if is_own else g)
        run.clear()
        with Callback(pretask=lambda key, *_: run.append(key[0])):
            state = persist(new)
        assert len(run) == sum(name.startswith("adamod_array-step") for name in run) == 16, run


def test_each_chunk_is_stepped_once(backend: Backend) -> None:
    """Though parameters and slots, and the next step, all read it."""
    import dask

    if not is_kernel(backend):
        pytest.skip("the rule is Dask's operations")
    seen = []

    def watched(x: Any) -> Any:
        seen.append(x.shape)
        return x * 2

    state = init(AdaMod(), backend.xp.ones(6, chunks=2))
    for _ in range(3):
        state = step(state, state.params.map_blocks(watched, dtype=np.float64, meta=np.empty(0)))
    dask.compute(state.params, state.slots)
    assert seen == [(2,)] * 9


@pytest.mark.parametrize("options", [{"lr": 0.5}, {"weight_decay": 0.25}, {"lr": 0.5, "weight_decay": 0.25}])
def test_rates_of_dask_are_computed_with_the_chunks(backend: Backend, options: dict[str, Any]) -> None:
    p, g = values(6).astype(np.float32), values(6, seed=1).astype(np.float32)
    expected = step(init(AdaMod(), p), g, **options)
    lazy: dict[str, Any] = {name: backend.xp.asarray(np.asarray(x)) for name, x in options.items()}
    actual = step(init(AdaMod(), backend.array(p)), backend.array(g), **lazy)
    assert_same(HOST, actual.params.compute(), expected.params)


def test_clipped_in_the_step(backend: Backend) -> None:
    p, g = tree(backend), tree(backend, seed=5)
    new = step(init(AdaMod(), p), g, max_norm=0.1)
    expected = step(init(AdaMod(), p), clip_by_global_norm(g, 0.1))
    assert_same(backend, new.params, expected.params)


def test_arrays_are_rechunked_to_their_parameter(backend: Backend) -> None:
    p, g = values(7, 5), values(7, 5, seed=1)
    state = init(AdaMod(), backend.xp.from_array(p, chunks=(3, 2)))
    slots = {name: x.rechunk((7, 1)) for name, x in state.slots.items()}
    actual = step(state.replace(slots=slots), backend.xp.from_array(g, chunks=(1, 5)))
    expected = step(init(AdaMod(), p), g)
    assert_same(HOST, actual.params.compute(), expected.params)
    if is_kernel(backend):
        for x in (actual.params, *actual.slots.values()):
            assert x.chunks == state.params.chunks


def test_any_chunk(backend: Backend) -> None:
    """0-d, of one element or none; scalars of NumPy that stand for 0-d chunks; masked ones, by Dask's operations."""
    da = backend.xp
    for x in (da.ones((), dtype=np.float32), da.ones(3, dtype=np.float32).sum(), da.ones((2, 0)), da.ones(1)):
        new = step(init(AdaMod(), x, lr=0.5), x)
        assert (new.params.dtype, new.params.shape) == (x.dtype, x.shape)
        assert new.params.compute().shape == x.shape
    masked = da.from_array(np.ma.masked_equal(np.asarray([1.0, 2.0, 1.0, 1.0]), 2.0), chunks=2, asarray=False)
    new = step(init(AdaMod(), masked, lr=0.5, weight_decay=0.0), masked)
    with np.errstate(all="ignore"):  # of what is masked
        assert list(np.ma.getmaskarray(new.params.compute())) == [False, True, False, False]


def test_blocks_of_unknown_size(backend: Backend) -> None:
    da, host = backend.xp, np.arange(12.0) + 1

    def chosen(chunks: int, remainder: int = 0) -> Any:
        x = da.from_array(host, chunks=chunks)
        return x[x % 3 > remainder]

    p = chosen(4)
    state = init(AdaMod(), {"w": p}, lr=0.5)
    new = step(state, {"w": chosen(4) * 2})
    expected = step(init(AdaMod(), {"w": p.compute()}, lr=0.5), {"w": p.compute() * 2})
    assert_same(HOST, new.params["w"].compute(), expected.params["w"])
    message = r"grads\['w'\] must have the blocks of its parameter, \(3,\), where sizes are unknown; got \(6,\)"
    with pytest.raises(ValueError, match=message):
        step(state, {"w": chosen(2)})
    if is_kernel(backend):
        with pytest.raises(ValueError, match="a chunk of the gradient must have its parameter's shape"):
            step(state, {"w": chosen(4, 1)}).params["w"].compute()


def test_one_axis_of_unknown_size(backend: Backend) -> None:
    """The others are rechunked."""
    da, host = backend.xp, values(6, 5)
    keep = np.asarray([True, False, True, True, False, True])
    whole = [da.from_array(host, chunks=(2, columns))[da.from_array(keep, chunks=2)] for columns in (2, 5)]
    new = step(init(AdaMod(), whole[0]), whole[1])
    assert_same(HOST, new.params.compute(), step(init(AdaMod(), host[keep]), host[keep]).params)


def test_persisted(backend: Backend) -> None:
    """The same numbers in the same chunks, leaves without arrays and without a gradient; pickled, persisted again."""
    from adamod_array.dask import persist

    params: dict[str, Any] = {**tree(backend), "none": None}
    state = init(AdaMod(), params)
    grads = {**tree(backend, seed=3), "b": None, "none": None}
    for _ in range(2):
        expected = state = step(state, grads)
    for _ in range(2):
        state = persist(state)
        assert isinstance(state, State)
        assert_same(backend, state.params, expected.params)
        assert_same(backend, dict(state.slots), dict(expected.slots))
    again = pickle.loads(pickle.dumps(state))
    assert_same(backend, step(again, grads).params, step(expected, grads).params)
