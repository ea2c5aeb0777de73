"""CuPy's kernel of all leaves: one launch a device and dtype, the bits of every other way, and what goes to the device.

All of it runs on a GPU as it does on CuPy on the CPU, but for what only the latter's recorder counts.
"""

from __future__ import annotations

import importlib
import threading
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from adamod_array import Method, State, all_finite, engine, init, step
from adamod_array._engines import cuda_launch, passed_over
from adamod_array._program.cuda_table_source import BLOCK, FEW, KERNEL, SENDER
from tests.backend import Backend
from tests.test_cupy import arrays
from tests.trees import METHODS, assert_same, bits, values

pytestmark = pytest.mark.only("cupy")

OF_A_LEAF = "adamod_array_step"
SIZES = (0, 1, 3, 31, 32, 33, 1000, BLOCK, BLOCK + 1, 3 * BLOCK - 1)
NUMPY = Backend("numpy", "cpu", "eager")

LAYOUTS: dict[str, Callable[[Backend, str, int], Any]] = {
    "view": lambda on, dtype, seed: on.array(values(2000, seed=seed), dtype)[1:],
    "columns": lambda on, dtype, seed: on.array(values(70, 30, seed=seed), dtype).T,
    "3-d": lambda on, dtype, seed: on.array(values(3, 5, 7, seed=seed), dtype),
    "number": lambda on, dtype, seed: on.array(values(1, seed=seed), dtype).reshape(()),
    "gaps": lambda on, dtype, seed: on.array(values(20, 30, seed=seed), dtype)[:, ::2],
}


def tree(on: Backend, dtype: str, seed: int = 0, copies: int = 1) -> dict[str, Any]:
    """Leaves of all sizes and layouts."""
    leaves = {f"{n}-{k}": on.array(_numbers(dtype, n, seed + n + k), dtype) for n in SIZES for k in range(copies)}
    return leaves | {name: make(on, dtype, seed) for name, make in LAYOUTS.items()}


def _numbers(dtype: str, n: int, seed: int) -> Any:
    real = values(n, seed=seed)
    return real + 1j * values(n, seed=seed + 1) if "complex" in dtype else real


SLOTS = {"slot_dtype": "bfloat16"}


def trained(on: Backend, method: Method, dtype: str, donate: bool, stored: Any = None, **options: Any) -> list[Any]:
    with engine(on.engine):
        state = init(method, tree(on, dtype), lr=0.01, weight_decay=0.1, **(stored or {}))
        for seed in (10, 20, 30):
            state = step(state, tree(on, dtype, seed), donate=donate, **options)
    return arrays(state)


def many(on: Backend, count: int, seed: int = 0) -> list[Any]:
    """Leaves of mixed shapes."""
    shapes = [(40,), (7, 3), (), (2, 3, 4), (1001,)]
    return [on.array(values(*shapes[i % 5], seed=seed + i)) for i in range(count)]


def kernels(seen: Any) -> list[str]:
    return [launch.kernel for launch in seen.launches]


# bits


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32", "float64", "complex64", "complex128"])
@pytest.mark.parametrize("name", METHODS)
def test_the_bits_are_those_of_every_other_way(
    on_cupy: Backend, monkeypatch: pytest.MonkeyPatch, name: str, dtype: str
) -> None:
    """Of donated and new arrays, of a launch a leaf, and of NumPy, but for exponentials and complex moduli."""
    method = METHODS[name]
    found = bits(on_cupy, trained(on_cupy, method, dtype, donate=False))
    assert bits(on_cupy, trained(on_cupy, method, dtype, donate=True)) == found
    if "complex" not in dtype and "g_last" not in method.slots:
        assert bits(NUMPY, trained(NUMPY, method, dtype, donate=False)) == found
    monkeypatch.setitem(passed_over, cuda_launch.NAME, "to see what takes its place")
    assert bits(on_cupy, trained(on_cupy, method, dtype, donate=False)) == found


@pytest.mark.parametrize("dtype", ["bfloat16", "float32"])
def test_elements_are_counted_in_every_way(on_cupy: Backend, monkeypatch: pytest.MonkeyPatch, dtype: str) -> None:
    """What is rounded stochastically: in packs and one by one, of many leaves and of few, of those in F order."""
    stored = SLOTS | ({"param_rounding": "stochastic"} if dtype == "bfloat16" else {})
    for method in (METHODS["adamod"], METHODS["adam"]):
        found = bits(NUMPY, trained(NUMPY, method, dtype, donate=False, stored=stored))
        for donate in (False, True):
            assert bits(on_cupy, trained(on_cupy, method, dtype, donate, stored)) == found
        with monkeypatch.context() as patched:
            patched.setattr(cuda_launch, "FEW", 4)  # addresses in the device's memory
            assert bits(on_cupy, trained(on_cupy, method, dtype, donate=True, stored=stored)) == found
        with monkeypatch.context() as patched:
            patched.setitem(passed_over, cuda_launch.NAME, "to see what takes its place")
            assert bits(on_cupy, trained(on_cupy, method, dtype, donate=False, stored=stored)) == found


def test_infinite_complex_parameters(on_cupy: Backend, monkeypatch: pytest.MonkeyPatch) -> None:
    """A leaf without decay is not multiplied by 1, which would spoil the other half of a number."""
    found = []
    for _ in range(2):
        params = [on_cupy.array([np.inf + 1j, 2 - 1j], "complex64") for _ in range(2)]
        state = init(METHODS["adam"], params, weight_decay=[0.0, 0.1])
        found.append(bits(on_cupy, arrays(step(state, [on_cupy.array([1.0, 1.0], "complex64")] * 2))))
        assert np.isfinite(on_cupy.numpy(state.params[0]).imag).all()
        monkeypatch.setitem(passed_over, cuda_launch.NAME, "to see what takes its place")
    assert found[0] == found[1]


@pytest.mark.parametrize("rows", [1, 2, 16, 17, 32, 33])
def test_leaves_have_scalars_of_their_own(on_cupy: Backend, recording: Any, rows: int) -> None:
    """In one launch for up to 32 rows; some have decay, and some a rate that is on the device."""
    found = []
    for on in (on_cupy, NUMPY):
        lr: list[Any] = [0.01 * (1 + i % rows) for i in range(70)]
        if on is on_cupy:
            lr[3 % rows :: rows] = [on.array(lr[3 % rows])] * len(lr[3 % rows :: rows])
        state = init(METHODS["adamod"], many(on, 70), weight_decay=[0.1 * (i % rows % 2) for i in range(70)])
        state = step(state, many(on, 70, 500), lr=lr)
        with recording() as seen:
            state = step(state, many(on, 70, 900), lr=lr)
        found.append(bits(on, arrays(state)))
        if on is on_cupy:
            assert kernels(seen).count(KERNEL) == (1 if rows <= 32 else 2)
    assert found[0] == found[1]


# launches


def test_one_launch_a_device_and_dtype_for_150_leaves(on_cupy: Backend, recording: Any) -> None:
    grads = many(on_cupy, 150, 200)
    halves = [x.astype("float16") for x in many(on_cupy, 5)]
    mixed = [*many(on_cupy, 150), *halves]
    trees: tuple[tuple[list[Any], dict[str, str]], ...] = ((many(on_cupy, 150), {}), (mixed, {}), (mixed, SLOTS))
    for params, stored in trees:
        state = init(METHODS["adamod"], params, weight_decay=0.01, **stored)
        given = [*grads, *halves][: len(params)]
        state = step(state, given, donate=True)
        for donate in (True, True, False):
            with recording() as seen:
                state = step(state, given, donate=donate)
            launched = [name for name in kernels(seen) if name != SENDER]
            assert launched == [KERNEL] * (1 if len(params) == 150 else 2)
            assert (SENDER in kernels(seen)) == (not donate)  # new arrays have other addresses
            assert (seen.transfers, seen.synchronizations) == ([], [])


def test_blocks_of_threads_are_as_many_as_the_device_holds(on_cupy: Backend, recording: Any) -> None:
    state = init(METHODS["adam"], [on_cupy.array(np.zeros(100 * BLOCK)), on_cupy.array(np.zeros(3))])
    with recording() as seen:
        step(state, [on_cupy.array(np.ones(100 * BLOCK)), None])
        step(state, [None, on_cupy.array(np.ones(3))])
    assert [(launch.grid, launch.block) for launch in seen.launches if launch.kernel == KERNEL] == [
        ((16, 1, 1), (256, 1, 1)),  # of two multiprocessors
        ((1, 1, 1), (256, 1, 1)),
    ]


@pytest.mark.parametrize("count", [FEW, FEW + 1])
def test_new_gradients_at_each_step(on_cupy: Backend, recording: Any, count: int) -> None:
    """Their addresses go with the launch, or before it: by launches, which copy nothing from the host's memory."""
    found = []
    for on in (on_cupy, NUMPY):
        state, kept = init(METHODS["adamod"], many(on, count), lr=0.1), []
        for t in range(5):
            kept.append(many(on, count, 100 * t))  # so that each has memory of its own
            with recording() as seen:
                state = step(state, kept[-1], donate=True)
            if on is on_cupy and t:
                assert kernels(seen) == [SENDER] * (count > FEW) + [KERNEL]
                assert (seen.transfers, seen.synchronizations, seen.allocations) == ([], [], [])
        found.append(bits(on, arrays(state)))
    assert found[0] == found[1]


def test_tables_on_the_device_are_sent_once(on_cupy: Backend, recording: Any) -> None:
    """Also where gradients, and results, alternate between two places."""
    grads = [many(on_cupy, 40, 100), many(on_cupy, 40, 200)]
    state = init(METHODS["adam"], many(on_cupy, 40))
    for t in range(4):
        state = step(state, grads[t % 2], donate=True)
    with recording() as seen:
        for t in range(4):
            state = step(state, grads[t % 2], donate=True)
    assert kernels(seen) == [KERNEL] * 4


def test_a_leaf_without_a_gradient(on_cupy: Backend, recording: Any) -> None:
    found = []
    for on in (on_cupy, NUMPY):
        state = init(METHODS["adamod"], many(on, 30), lr=0.1)
        for t in range(4):
            grads = many(on, 30, 100)
            grads[t] = grads[29] = None
            with recording() as seen:
                state = step(state, grads, donate=t % 2 == 1)
            assert on is NUMPY or kernels(seen).count(KERNEL) == 1
        found.append(bits(on, arrays(state)))
    assert found[0] == found[1]


def test_a_gradient_that_is_another_parameter(on_cupy: Backend) -> None:
    """Is copied, at each step: the address of the copy is the one that counts."""
    found = []
    for donate in (False, True):
        state = init(METHODS["adam"], [on_cupy.array(values(5)), on_cupy.array(values(5, seed=1))], lr=0.1)
        for _ in range(3):
            state = step(state, state.params[::-1], donate=donate)
        found.append(bits(on_cupy, arrays(state)))
    assert found[0] == found[1]


def test_any_number_of_leaves(on_cupy: Backend) -> None:
    """More words than one launch sends."""
    found = []
    for on in (on_cupy, NUMPY):
        state = init(METHODS["adam"], many(on, 600), lr=0.1)
        found.append(bits(on, arrays(step(state, many(on, 600, 1000)))))
    assert found[0] == found[1]


# streams, devices, threads


def test_streams_have_tables_of_their_own(on_cupy: Backend, cupy: Any, recording: Any) -> None:
    """Nothing orders two streams: what one has sent may not have arrived when the other's launch reads."""
    grads = many(on_cupy, 40, 100)
    state = step(init(METHODS["adam"], many(on_cupy, 40)), grads)
    state = step(state, grads, donate=True)
    cupy.cuda.Device().synchronize()
    for _ in range(2):
        with cupy.cuda.Stream(non_blocking=True) as stream, recording() as seen:
            state = step(state, grads, donate=True)
            state = step(state, grads, donate=True)
            stream.synchronize()
        assert {launch.stream for launch in seen.launches} == {stream.ptr}
        assert kernels(seen)[-2:] == [KERNEL] * 2
        assert kernels(seen).count(SENDER) >= 3


@pytest.mark.usefixtures("two_devices")
def test_one_launch_on_each_of_two_devices(on_cupy: Backend, cupy: Any, recording: Any) -> None:
    def on_both(seed: int) -> list[Any]:
        found = []
        for i in range(2):
            with cupy.cuda.Device(i):
                found += many(on_cupy, 40, seed + i)
        return found

    grads = on_both(100)
    state = step(init(METHODS["adam"], on_both(0)), grads)
    state = step(state, grads, donate=True)
    with recording() as seen:
        state = step(state, grads, donate=True)
    assert [(launch.kernel, launch.device) for launch in seen.launches] == [(KERNEL, 0), (KERNEL, 1)]
    alone = init(METHODS["adam"], [cupy.asarray(x.get()) for x in on_both(0)])
    for _ in range(3):
        alone = step(alone, [cupy.asarray(x.get()) for x in grads])
    assert_same(on_cupy, arrays(state), arrays(alone))


def test_threads_step_one_state(on_cupy: Backend) -> None:
    """All share its plan."""
    grads = [many(on_cupy, 30, 100 * i) for i in range(4)]
    state = step(init(METHODS["adam"], many(on_cupy, 30)), grads[0])
    expected = [bits(on_cupy, arrays(step(state, each))) for each in grads]
    found: list[Any] = [None] * 4

    def run(i: int) -> None:
        for _ in range(10):
            found[i] = bits(on_cupy, arrays(step(state, grads[i])))

    threads = [threading.Thread(target=run, args=(i,)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == expected


# what a graph can hold


@pytest.mark.parametrize("count", [3, 40])
def test_with_the_count_on_the_device_steps_are_the_same_calls(
    on_cupy: Backend, cupy: Any, recording: Any, count: int
) -> None:
    """The same launches with the same numbers and arrays, and nothing that a capture forbids: waiting, host memory.

    Temporary scalars on the device may lie elsewhere; a captured step has its own.
    """
    grads = many(on_cupy, count, 100)
    state = init(METHODS["adamod"], many(on_cupy, count), lr=0.01, weight_decay=0.1)
    plain = state
    state = step(state, grads, where=all_finite)
    step_count, skipped = state.step, state.skipped

    def repeated(state: State[Any]) -> State[Any]:
        new = step(state, grads, where=all_finite, donate=True)
        for x, y in ((step_count, new.step), (skipped, new.skipped)):
            cupy.copyto(x, y)
        return new.replace(step=step_count, skipped=skipped)

    for _ in range(3):
        state = repeated(state)
    records = []
    for _ in range(2):
        with recording() as seen:
            state = repeated(state)
        records.append(seen)
    first, second = ([launch._replace(arguments=()) for launch in seen.launches] for seen in records)
    assert first == second
    ours = [[launch.arguments for launch in seen.launches if launch.kernel == KERNEL] for seen in records]
    assert len(ours[0]) == 1
    words = [np.frombuffer(each[0][0], np.int64) for each in ours]
    assert (words[0] != words[1]).sum() <= 6  # at most the count's coefficients, the rate, the decay factor and `ok`
    assert all(_is_device_memory(word) for pair in words for word in pair[words[0] != words[1]])
    for seen in records:
        assert (seen.synchronizations, seen.allocations) == ([], [])
        assert {each.kind for each in seen.transfers} <= {"device to device"}
    for _ in range(6):
        plain = step(plain, grads)
    assert int(state.step) == 6
    assert_same(on_cupy, arrays(state), arrays(plain))


@pytest.mark.parametrize("count", [3, 40])
def test_a_graph_takes_steps(on_cupy: Backend, cupy: Any, count: int) -> None:
    """Each launch of it is a step of the gradients and the count that are there, with the bits of any other."""
    start, pool = many(on_cupy, count), cupy.cuda.MemoryPool()
    plain = init(METHODS["adamod"], [x.copy() for x in start], lr=0.01, weight_decay=0.1)
    cupy.cuda.Device().synchronize()
    with cupy.cuda.Stream(non_blocking=True) as stream:
        grads = many(on_cupy, count, 100)
        state = init(METHODS["adamod"], start, lr=0.01, weight_decay=0.1)
        for _ in range(2):
            state = step(state, grads, where=all_finite, donate=True)
        counts = state.step, state.skipped
        with cupy.cuda.using_allocator(pool.malloc):  # what the graph writes is nobody else's
            stream.begin_capture()
            grads = [x.copy() for x in grads]  # at addresses that no table has yet
            new = step(state, grads, where=all_finite, donate=True)
            cupy.copyto(counts[0], new.step)
            cupy.copyto(counts[1], new.skipped)
            graph = stream.end_capture()
        before = bits(on_cupy, new.params)
        stream.synchronize()
        for _ in range(3):
            graph.launch(stream)
        stream.synchronize()
        state = new.replace(step=counts[0], skipped=counts[1])
        assert bits(on_cupy, state.params) != before
    for _ in range(5):
        plain = step(plain, many(on_cupy, count, 100))
    assert (int(state.step), int(state.skipped)) == (5, 0)
    assert_same(on_cupy, arrays(state), arrays(plain))
    assert cuda_launch._of_graphs or count <= FEW


def test_a_graph_that_was_not_launched_has_sent_nothing(on_cupy: Backend, cupy: Any, recording: Any) -> None:
    """Every graph, and every step beside them, finds the table of leaves that it needs."""
    grads = many(on_cupy, 40, 100)
    with cupy.cuda.Stream(non_blocking=True) as stream:
        start = many(on_cupy, 40)
        state = init(METHODS["momentum"], start, lr=0.1)
        plain = init(METHODS["momentum"], [x.copy() for x in start], lr=0.1)
        graphs = []
        for _ in range(2):
            stream.begin_capture()
            state = step(state, grads, donate=True)
            graphs.append(stream.end_capture())
        graphs[1].launch(stream)  # the first one never is
        with recording() as seen:
            state = step(state, grads, donate=True)
        assert kernels(seen).count(SENDER) > 0
        stream.begin_capture()
        state = step(state, grads, donate=True)
        graph = stream.end_capture()
        with recording() as seen:
            graph.launch(stream)
        assert kernels(seen) == [KERNEL]  # the tables are there by now
        stream.synchronize()
    for _ in range(3):
        plain = step(plain, grads)
    assert_same(on_cupy, arrays(state), arrays(plain))


def _is_device_memory(address: int) -> bool:
    memory = importlib.import_module("cupy_on_cpu.memory")
    return memory.block_at(int(address)) is not None


# a compiler that fails


def test_a_kernel_that_does_not_compile_costs_speed_alone(
    on_cupy: Backend, recording: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cuda_launch, "source", lambda *_: 'extern "C" __global__ void adamod_array_tree(nonsense) {}')
    state, grads = init(METHODS["adam"], many(on_cupy, 3)), many(on_cupy, 3, 100)
    try:
        with pytest.warns(RuntimeWarning, match="CuPy's kernel for all leaves, which does not work here"):
            new = step(state, grads)
        with recording() as seen:
            step(new, grads, donate=True)
        assert kernels(seen) == [OF_A_LEAF] * 3
    finally:
        passed_over.pop(cuda_launch.NAME, None)
