"""What only CuPy can show: launches, copies, allocations, streams and devices.

All of it runs on a GPU as it does on CuPy on the CPU, but for what only the latter's recorder counts.
"""

from __future__ import annotations

import contextlib
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from adamod_array import State, adamod_init, adamod_step, clip_by_global_norm, engine, init, step
from tests.backend import Backend, stands_in
from tests.trees import METHODS, assert_same, bits, leaves, tree, values

pytestmark = pytest.mark.only("cupy")

methods = pytest.mark.parametrize("name", METHODS)
donating = pytest.mark.parametrize("donate", [False, True], ids=["kept", "donated"])
KERNEL, OF_A_LEAF = "adamod_array_tree", "adamod_array_step"


def crossing(seen: Any) -> list[Any]:
    """The copies between host and device."""
    return [each for each in seen.transfers if "host" in each.kind]


def warm(backend: Backend, name: str = "adamod", **options: Any) -> tuple[State, Any]:
    """A state that has been stepped, so that all is compiled, and gradients."""
    grads = tree(backend, seed=7)
    return step(init(METHODS[name], tree(backend), **options), grads), grads


# launches


@donating
@methods
def test_one_launch_and_none_else(on_cupy: Backend, recording: Any, name: str, donate: bool) -> None:
    state, grads = warm(on_cupy, name, weight_decay=0.01)
    with recording() as seen:
        step(state, grads, donate=donate)
    assert [launch.kernel for launch in seen.launches] == [KERNEL]


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float64", "complex64"])
def test_one_launch_for_every_dtype_of_gradients(on_cupy: Backend, recording: Any, dtype: str) -> None:
    """Nothing is cast by a kernel of its own."""
    params, grads = tree(on_cupy, "complex128" if "complex" in dtype else "float32"), tree(on_cupy, dtype)
    state = adamod_step(adamod_init(params), grads)
    with recording() as seen:
        adamod_step(state, grads)
    assert [launch.kernel for launch in seen.launches] == [KERNEL]


LAYOUTS: dict[str, Callable[[Any], Any]] = {"transposed": lambda x: x.T, "gaps": lambda x: x[::2, 1:]}


@donating
@pytest.mark.parametrize("layout", LAYOUTS)
def test_one_launch_for_every_layout(on_cupy: Backend, recording: Any, layout: str, donate: bool) -> None:
    state = adamod_init(LAYOUTS[layout](on_cupy.array(values(4, 6))))
    grads = LAYOUTS[layout](on_cupy.array(values(4, 6, seed=1)))
    with recording() as seen:
        adamod_step(state, grads, donate=donate)
    assert [launch.kernel for launch in seen.launches] == [OF_A_LEAF if layout == "gaps" else KERNEL]


def test_none_for_no_elements_and_no_gradient(on_cupy: Backend, recording: Any) -> None:
    state = adamod_init({"empty": on_cupy.array(np.zeros((0, 3))), "idle": on_cupy.array(values(3))})
    with recording() as seen:
        adamod_step(state, {"empty": on_cupy.array(np.zeros((0, 3))), "idle": None})
    assert seen.launches == []


# copies and synchronization


@methods
def test_nothing_crosses_and_nobody_waits(backend: Backend, recording: Any, name: str) -> None:
    """Nor with a rate and a limit that are on the device already."""
    state, grads = warm(backend, name)
    rate, limit = backend.array(0.01), backend.array(0.5)
    with recording() as seen:
        state = step(state, clip_by_global_norm(grads, limit), lr=rate)
        step(state, grads, donate=True)
    assert (crossing(seen), seen.synchronizations) == ([], [])


@methods
def test_init_makes_its_zeros_there(backend: Backend, recording: Any, name: str) -> None:
    params = tree(backend)
    with recording() as seen:
        init(METHODS[name], params)
    assert (crossing(seen), seen.synchronizations) == ([], [])


# memory


def allocated(cupy: Any) -> Any:
    """A hook of CuPy's own that keeps the size of every block that is asked for."""

    class Sizes(cupy.cuda.MemoryHook):
        name = "sizes"

        def __init__(self) -> None:
            self.sizes: list[int] = []

        def malloc_preprocess(self, **asked: Any) -> None:
            self.sizes.append(asked["size"])

    return Sizes()


@methods
def test_a_donated_step_allocates_nothing(on_cupy: Backend, cupy: Any, name: str) -> None:
    state, grads = warm(on_cupy, name)
    with allocated(cupy) as hook:
        step(state, grads, donate=True)
    assert hook.sizes == []


@methods
def test_another_allocates_its_results(on_cupy: Backend, cupy: Any, name: str) -> None:
    state, grads = warm(on_cupy, name)
    with allocated(cupy) as hook:
        new = step(state, grads)
    assert hook.sizes == [x.nbytes for x in leaves(arrays(new))]


def arrays(state: State) -> list[Any]:
    return [state.params, *(state.slots[name] for name in state.method.slots)]


@contextlib.contextmanager
def fresh_memory(cupy: Any, byte: int) -> Iterator[None]:
    """Every byte of new memory is this one."""
    pool = cupy.cuda.MemoryPool()

    def allocate(size: int) -> Any:
        block = pool.malloc(size)
        cupy.cuda.runtime.memset(block.ptr, byte, size) if size else None
        return block

    with cupy.cuda.using_allocator(allocate):
        yield


@methods
def test_fresh_memory_is_never_read(backend: Backend, cupy: Any, name: str, dtype: str) -> None:
    found = []
    for byte in (0xFF, 0x42):  # NaN, and a number in every dtype
        with fresh_memory(cupy, byte):
            state = init(METHODS[name], tree(backend, dtype), lr=0.1, weight_decay=0.1)
            for seed in range(2):
                state = step(state, tree(backend, dtype, seed=seed))
            found.append(bits(backend, arrays(state)))
    assert found[0] == found[1]
    assert all(np.isfinite(backend.numpy(x).astype(complex)).all() for each in arrays(state) for x in leaves(each))


# streams


@donating
def test_the_callers_stream_is_used(on_cupy: Backend, cupy: Any, recording: Any, donate: bool) -> None:
    state, grads = warm(on_cupy)
    with cupy.cuda.Stream(non_blocking=True) as stream, recording() as seen:
        adamod_step(state, grads, donate=donate)
    assert {launch.stream for launch in seen.launches} == {stream.ptr}


def test_a_stream_of_its_own_gives_the_same_bits(backend: Backend, cupy: Any) -> None:
    state, grads = warm(backend)
    expected = adamod_step(state, grads)
    cupy.cuda.Device().synchronize()
    with cupy.cuda.Stream(non_blocking=True) as stream:
        new = adamod_step(state, grads)
        stream.synchronize()
    assert_same(backend, arrays(new), arrays(expected))


# devices


def on_both(backend: Backend, cupy: Any, seed: int = 0) -> dict[str, Any]:
    """One leaf on each device."""
    with cupy.cuda.Device(0):
        first = backend.array(values(3, 4, seed=seed))
    with cupy.cuda.Device(1):
        second = backend.array(values(5, seed=seed + 1))
    return {"first": first, "second": second}


@donating
@pytest.mark.usefixtures("two_devices")
def test_each_leaf_is_stepped_on_its_own_device(backend: Backend, cupy: Any, donate: bool) -> None:
    state = adamod_init(on_both(backend, cupy), lr=0.1, weight_decay=0.1)
    assert [x.device.id for x in leaves(arrays(state))] == [0, 1] * 4
    for seed in (1, 2):
        state = adamod_step(state, on_both(backend, cupy, seed), donate=donate)
    assert [x.device.id for x in leaves(arrays(state))] == [0, 1] * 4
    assert cupy.cuda.runtime.getDevice() == 0

    def one(name: str) -> Any:
        """The same leaf, alone on the first device."""
        alone = adamod_init(cupy.asarray(on_both(backend, cupy)[name].get()), lr=0.1, weight_decay=0.1)
        for seed in (1, 2):
            alone = adamod_step(alone, cupy.asarray(on_both(backend, cupy, seed)[name].get()))
        return arrays(alone)

    for name in ("first", "second"):
        assert_same(backend, [tree[name] for tree in arrays(state)], one(name))


@pytest.mark.usefixtures("two_devices")
def test_launches_are_on_the_device_of_their_leaf(on_cupy: Backend, cupy: Any, recording: Any) -> None:
    state, grads = adamod_init(on_both(on_cupy, cupy)), on_both(on_cupy, cupy, seed=1)
    with recording() as seen:
        adamod_step(state, grads)
    assert [(launch.kernel, launch.device) for launch in seen.launches] == [(KERNEL, 0), (KERNEL, 1)]
    assert seen.transfers == []


@pytest.mark.usefixtures("two_devices")
def test_a_rate_on_one_device_serves_the_other(backend: Backend, cupy: Any) -> None:
    state, grads = adamod_init(on_both(backend, cupy)), on_both(backend, cupy, seed=1)
    assert_same(
        backend,
        arrays(adamod_step(state, grads, lr=backend.array(0.25))),
        arrays(adamod_step(state, grads, lr=0.25)),
    )


@donating
@pytest.mark.usefixtures("two_devices")
def test_a_gradient_on_the_wrong_device_is_refused(backend: Backend, cupy: Any, donate: bool) -> None:
    state, grads = adamod_init(on_both(backend, cupy)), on_both(backend, cupy, seed=1)
    before = bits(backend, arrays(state))
    with cupy.cuda.Device(0):
        grads["second"] = cupy.asarray(grads["second"].get())
    with pytest.raises(ValueError, match=r"grads\['second'\] must be on its parameter's device .*1.*, got .*0"):
        adamod_step(state, grads, donate=donate)
    assert bits(backend, arrays(state)) == before


@pytest.mark.usefixtures("two_devices")
def test_norms_of_two_devices_are_refused(backend: Backend, cupy: Any) -> None:
    with pytest.raises(ValueError, match=r"grads\['second'\] must be on the device of the others"):
        clip_by_global_norm(on_both(backend, cupy), 1.0)


# denormals

DENORMALS = """
import numpy as np, sys
if {stands_in}:
    import cupy_on_cpu
import cupy
from adamod_array import adam_init, adam_step
for dtype, scale in (("float32", 1e-39), ("float64", 1e-310)):
    g = scale * np.linspace(1, 9, 5).astype(dtype)
    m = [adam_step(adam_init(xp.zeros(5, dtype)), xp.asarray(g)).slots["m"] for xp in (np, cupy)]
    assert m[0].all()
    print(dtype, "kept" if m[0].tobytes() == m[1].get().tobytes() else "0" if not m[1].any() else m[1])
"""


@pytest.mark.parametrize(("flush", "float32"), [("1", "0"), ("0", "kept")])
def test_denormals_are_flushed_as_cupy_compiles(monkeypatch: pytest.MonkeyPatch, flush: str, float32: str) -> None:
    """float32's alone; CuPy on the CPU can be told to keep them, and then has NumPy's bits."""
    if flush == "0" and not stands_in("cupy"):
        pytest.skip("a GPU cannot be told otherwise: CuPy gives every kernel -ftz=true")
    monkeypatch.setenv("CUPY_ON_CPU_FTZ", flush)
    program = DENORMALS.format(stands_in=stands_in("cupy"))
    root = Path(__file__).parent.parent
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False, cwd=root)
    assert done.stdout.splitlines() == [f"float32 {float32}", "float64 kept"], done.stderr


# the engine


def test_what_a_kernel_does_not_take_is_stepped_by_the_rule(on_cupy: Backend, recording: Any) -> None:
    """Slots of another dtype, as another program may have stored them."""
    state, grads = warm(on_cupy)
    slots = {name: {**state.slots[name], "b": state.slots[name]["b"].astype("float64")} for name in state.slots}
    state = State(state.params, slots, state.step, state.method, state.lr, state.weight_decay)
    with recording() as seen:
        adamod_step(state, grads)
    assert [launch.kernel for launch in seen.launches].count(KERNEL) == 1
    assert len(seen.launches) > 3


def test_the_engine_can_be_chosen(on_cupy: Backend, recording: Any) -> None:
    state, grads = warm(on_cupy)
    with engine("eager"), recording() as seen:
        adamod_step(state, grads)
    assert KERNEL not in {launch.kernel for launch in seen.launches}
