"""Dask's arrays, on threads and on worker processes: the bits of one device, few tasks, and memory given back."""

from __future__ import annotations

import contextlib
import itertools
import os
import signal
import time
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from adamod_array import AdaMod, State, init, step
from tests.backend import Backend
from tests.blocks import PAGES, WORKERS, Block, blocks
from tests.test_docs import run
from tests.trees import METHODS, assert_same, values

pytestmark = [pytest.mark.only("dask"), pytest.mark.filterwarnings("ignore::ResourceWarning")]

CHUNKS, SIZE = 16, 8
SECONDS = 60
"""Until what workers compute counts as lost."""
HOST = Backend("numpy", "cpu", "numba")


@contextlib.contextmanager
def two_workers() -> Iterator[Any]:
    """The client of two processes of one thread each, which end with the block."""
    import distributed

    options = {"n_workers": 2, "threads_per_worker": 1, "processes": True, "dashboard_address": ":0"}
    with distributed.LocalCluster(**options) as workers, distributed.Client(workers, set_as_default=False) as client:
        yield client


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    with two_workers() as client:
        yield client


@pytest.fixture(params=["threads", "LocalCluster"])
def scheduler(request: pytest.FixtureRequest) -> Iterator[Any]:
    """Dask's threads, then its workers."""
    import dask

    if request.param == "threads":
        with dask.config.set(scheduler="threads", num_workers=2):
            yield None
        return
    client = request.getfixturevalue("cluster")
    with client.as_current(), dask.config.set(scheduler=client):
        yield client


def trained(params: Any, method: Any, gradients: list[Any], after: Any = lambda state: state) -> State:
    state = init(method, params, lr=1e-2, weight_decay=1e-2)
    for g in gradients:
        state = after(step(state, g))
    return state


def gradients(shape: tuple[int, ...], steps: int) -> list[Any]:
    return [values(*shape, seed=seed).astype(np.float32) for seed in range(1, 1 + steps)]


def arrays(state: State) -> list[Any]:
    return [state.params, *(state.slots[name] for name in state.method.slots)]


def settled(condition: Any) -> bool:
    """Whether it becomes true in time: chunks are released in the background."""
    end = time.monotonic() + SECONDS
    while not condition():
        if time.monotonic() > end:
            return False
        time.sleep(0.02)
    return True


@pytest.mark.parametrize("name", METHODS)
def test_bits_and_chunks_are_those_of_one_device(scheduler: Any, name: str) -> None:
    """Of every method, over 20 steps whose gradients are in other chunks."""
    import dask
    import dask.array as da

    from adamod_array.dask import persist

    host = values(12, 9).astype(np.float32)
    found = gradients(host.shape, 20)
    expected = trained(host, METHODS[name], found)
    params = da.from_array(host, chunks=(7, 9))
    actual = trained(params, METHODS[name], [da.from_array(g, chunks=(12, 5)) for g in found], persist)
    for x, e in zip(dask.compute(*arrays(actual)), arrays(expected), strict=True):
        assert_same(HOST, x, e)
    for x in arrays(actual):
        assert (x.chunks, x.dtype, type(x._meta)) == (params.chunks, np.float32, np.ndarray)


def test_a_step_is_a_task_a_chunk(scheduler: Any) -> None:
    """AdaMod over 16 chunks: what Dask computes for one step more, and the graph of a state after 50."""
    import dask
    import dask.array as da

    from adamod_array.dask import persist

    start = da.ones(CHUNKS * SIZE, chunks=SIZE, dtype=np.float32)
    state = persist(init(AdaMod(), start))
    tasks = [len(dict(state.params.__dask_graph__()))]
    lengths = []
    for _ in range(4):
        state = step(state, state.params * 2)
        (optimized,) = dask.optimize(state.params)
        lengths.append(len(dict(optimized.__dask_graph__())))
    assert max(b - a for a, b in itertools.pairwise(lengths)) <= 20 + CHUNKS, lengths
    for _ in range(50):
        state = persist(step(state, state.params * 2))
        tasks.append(len(dict(state.params.__dask_graph__())))
    assert max(tasks[1:]) == 2 * CHUNKS, tasks


def test_old_chunks_are_released(cluster: Any) -> None:
    """A chunk of every leaf is in memory, of the last state alone; no future of another is left."""
    import dask
    import dask.array as da
    import distributed

    from adamod_array.dask import persist

    with cluster.as_current(), dask.config.set(scheduler=cluster):
        state = persist(init(AdaMod(), da.ones(CHUNKS * SIZE, chunks=SIZE, dtype=np.float32)))
        for _ in range(20):
            state = persist(step(state, state.params * 2))
        distributed.wait(distributed.futures_of(state.params), timeout=SECONDS)
        assert settled(lambda: len(cluster.futures) == CHUNKS), len(cluster.futures)
        assert settled(lambda: sum(map(bool, cluster.who_has().values())) == CHUNKS), cluster.who_has()
        del state
        assert settled(lambda: not cluster.futures)


def test_chunks_of_unknown_size_are_matched_by_number(scheduler: Any) -> None:
    import dask
    import dask.array as da

    from adamod_array.dask import persist

    host, mask = values(40).astype(np.float32), np.arange(40) % 3 > 0
    found = gradients((40,), 5)

    def chosen(x: Any, chunks: int = 10) -> Any:
        return da.from_array(x, chunks=chunks)[da.from_array(mask, chunks=chunks)]

    expected = trained(host[mask], AdaMod(), [g[mask] for g in found])
    actual = trained(chosen(host), AdaMod(), [*map(chosen, found)], persist)
    assert np.isnan(actual.params.shape[0])
    for x, e in zip(dask.compute(*arrays(actual)), arrays(expected), strict=True):
        assert_same(HOST, x, e)
    with pytest.raises(ValueError, match=r"grads must have the blocks of its parameter, \(4,\).* got \(8,\)"):
        step(actual, chosen(host, 5))
    with pytest.raises(ValueError, match="a chunk of the gradient must have its parameter's shape"):
        step(actual, da.from_array(host, chunks=10)[da.from_array(~mask, chunks=10)]).params.compute()


def test_a_worker_that_dies_is_made_up_for() -> None:
    """Dask computes again what was lost, in bounded time, to the same bits."""
    import dask
    import dask.array as da
    import distributed

    from adamod_array.dask import persist

    host, found = values(CHUNKS * SIZE).astype(np.float32), gradients((CHUNKS * SIZE,), 10)
    expected = trained(host, AdaMod(), found)
    with two_workers() as client, client.as_current(), dask.config.set(scheduler=client):
        state = init(AdaMod(), da.from_array(host, chunks=SIZE), lr=1e-2, weight_decay=1e-2)
        for t, g in enumerate(found):
            state = persist(step(state, da.from_array(g, chunks=SIZE)))
            if t == 5:
                distributed.wait(distributed.futures_of(state.params), timeout=SECONDS)
                os.kill(min(client.run(os.getpid).values()), signal.SIGKILL)
        futures = client.compute(arrays(state))
        distributed.wait(futures, timeout=SECONDS)
        actual = client.gather(futures)
    for x, e in zip(actual, arrays(expected), strict=True):
        assert_same(HOST, x, e)


def test_what_is_no_state_of_dask_is_refused() -> None:
    from adamod_array.dask import persist

    with pytest.raises(TypeError, match="expected a State"):
        persist({})  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="numpy arrays, not Dask's"):
        persist(init(AdaMod(), np.zeros(2)))
    assert persist(init(AdaMod(), {})).params == {}


BLOCKS = [x for page in PAGES for x in blocks(page) if x.language == "python" and x.imports >= WORKERS]


@pytest.mark.parametrize("block", BLOCKS, ids=[x.name for x in BLOCKS])
def test_block_runs(block: Block) -> None:
    run(block, block.text)
