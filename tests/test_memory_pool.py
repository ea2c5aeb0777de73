"""Fresh steps in memory that is used again: nothing that is still seen ever changes, and no more is kept than said."""

from __future__ import annotations

import contextlib
import copy
import gc
import io
import itertools
import mmap
import os
import pickle
import random
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from adamod_array import adam_init, adam_step, adamod_init, adamod_step, release_memory
from adamod_array._engines import recycled
from tests.backend import Backend
from tests.trees import assert_same, bits

ROOT = Path(__file__).parent.parent


@pytest.fixture(name="pool", autouse=True)
def pool_of_the_test(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> recycled.Pool:
    monkeypatch.setattr(recycled, "pool", pool := recycled.Pool())
    if "backend" in request.fixturenames and request.getfixturevalue("backend").engine != "numba":
        pytest.skip("the rule as written makes its arrays by the framework's operations")
    return pool


def large(backend: Backend, seed: int) -> dict[str, Any]:
    """Arrays that are stepped in threads, of several dtypes and layouts, beside a small one."""
    rng = np.random.default_rng(seed)
    across = backend.array(rng.standard_normal((601, 257)))
    return {
        "a": backend.array(rng.standard_normal(140_001)),
        "across": across.T,
        "half": backend.array(rng.standard_normal((600, 500)), "bfloat16" if backend.name == "torch" else "float16"),
        "double": backend.array(rng.standard_normal(70_000), "float64"),
        "small": backend.array(rng.standard_normal(10)),
    }


def seen_by(backend: Backend) -> dict[str, Callable[[Any], Any]]:
    """Ways to see the memory of an array, or a copy of it, without the array itself."""
    ways: dict[str, Callable[[Any], Any]] = {
        "itself": lambda x: x,
        "a slice": lambda x: x[3:9],
        "one element": lambda x: x[7:8].reshape(-1)[:1],
        "across": lambda x: x.swapaxes(0, -1),
        "a copy": copy.deepcopy,
        "pickled": lambda x: pickle.loads(pickle.dumps(x, protocol=5)),
        "by dlpack": lambda x: backend.xp.from_dlpack(x),
    }
    if backend.name == "torch":
        return ways | {
            "detached": lambda x: x.detach(),
            "its data": lambda x: x.data,
            "its storage": lambda x: x.untyped_storage(),
            "a parameter": lambda x: backend.xp.nn.Parameter(x),
            "as bytes": lambda x: x.contiguous().view(backend.xp.uint8),
            "as NumPy's": lambda x: x.view(backend.xp.int16 if x.itemsize == 2 else x.dtype).numpy(),
        }
    return ways | {
        "a memoryview": memoryview,
        "a slice of that": lambda x: memoryview(x)[5:6],
        "what it is a view of": lambda x: x if x.base is None else x.base,
        "a subclass": lambda x: x.view(np.recarray),
        "windows": lambda x: np.lib.stride_tricks.as_strided(x, (2, 3), (x.itemsize, x.itemsize)),
        "an iterator": lambda x: x.flat,
        "out of band": _out_of_band,
    }


def _out_of_band(x: Any) -> Any:
    buffers = list[pickle.PickleBuffer]()
    pickle.dumps(x, protocol=5, buffer_callback=buffers.append)
    return buffers[0].raw() if buffers else x


def content(x: Any) -> bytes:
    """All that can be seen there."""
    if isinstance(x, np.flatiter):
        return np.asarray(x.base).tobytes()
    if hasattr(x, "untyped_storage"):
        torch = sys.modules["torch"]
        x = x.detach().clone(memory_format=torch.contiguous_format).view(-1).view(torch.uint8).numpy()
    elif hasattr(x, "resizable"):  # a storage
        torch = sys.modules["torch"]
        x = torch.empty(0, dtype=torch.uint8).set_(x).numpy()
    return x.tobytes() if isinstance(x, (np.ndarray, memoryview)) else bytes(x)


@pytest.mark.slow
@pytest.mark.only("numpy", "torch")
def test_nothing_that_is_seen_changes(backend: Backend, pool: recycled.Pool) -> None:
    """Any program of steps, fresh and donated, of states that stay or go, and of what looks at their arrays."""
    ways = seen_by(backend)
    lent, gradients = 0, [large(backend, seed) for seed in (1, 2, 3)]
    for seed in range(2):
        rng = random.Random(seed)
        states = [adam_init(large(backend, 0), lr=0.1)]
        kept: list[tuple[str, Any, bytes]] = []
        for _ in range(30):
            state = rng.choice(states)
            grads = rng.choice(gradients)
            expected = adam_step(copy.deepcopy(state), grads, donate=True)
            new = adam_step(state, grads)
            assert_same(backend, new.params, expected.params)
            assert_same(backend, new.slots, expected.slots)
            lent = max(lent, pool.lent_bytes)
            del expected
            if rng.random() < 0.3:
                new = adam_step(new, grads, donate=True)
            for _ in range(rng.randrange(4)):
                way = rng.choice(list(ways))
                tree = rng.choice([new.params, *new.slots.values()])
                found = ways[way](tree[rng.choice(list(tree))])
                kept.append((way, found, content(found)))
                del tree, found
            states = [*states[-3:], new]
            rng.shuffle(states)
            rng.shuffle(kept)
            del kept[6:], state, new
            if rng.random() < 0.1:
                release_memory()
            for way, x, before in kept:
                assert content(x) == before, way
        all_bits = [bits(backend, (state.params, state.slots)) for state in states]
        adam_step(states[0], gradients[0])
        assert all_bits == [bits(backend, (state.params, state.slots)) for state in states]
    assert lent > 0


@pytest.mark.only("numpy", "torch")
def test_threads_that_step_at_once(backend: Backend) -> None:
    grads = large(backend, 1)
    expected = adam_init(large(backend, 0), lr=0.1)
    every = list[Any]()
    for _ in range(8):
        expected = adam_step(expected, grads, donate=False)
        every.append(bits(backend, expected.params))
    wrong = list[int]()

    def steps() -> None:
        state = adam_init(large(backend, 0), lr=0.1)
        old = list[Any]()
        for i, each in enumerate(every):
            state = adam_step(state, grads)
            old = [*old[-1:], (i, state)]
            wrong.extend(j for j, x in old if bits(backend, x.params) != every[j])
            if bits(backend, state.params) != each:
                wrong.append(i)

    threads = [threading.Thread(target=steps) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def lent_to(backend: Backend, state: Any) -> int:
    """Bytes of a state's large arrays."""
    arrays = [x for tree in (state.params, *state.slots.values()) for x in tree.values()]
    return sum(x.nbytes for x in arrays if x.nbytes >= recycled.SMALL[backend.name == "numpy"])


@pytest.mark.only("numpy", "torch")
def test_what_is_kept(backend: Backend, pool: recycled.Pool, monkeypatch: pytest.MonkeyPatch) -> None:
    """As much as is in use, for some steps; nothing when nothing is in use."""
    grads = large(backend, 1)
    state = adam_init(large(backend, 0), lr=0.1)
    places = set[int]()
    for _ in range(100):
        state = adam_step(state, grads)
        places.add(np.asarray(state.slots["v"]["a"]).ctypes.data)
    whole = lent_to(backend, state)
    pages = 15 * recycled._PAGE
    assert len(places) <= 6  # of three columns in two states
    assert whole <= pool.lent_bytes <= whole + pages
    assert 0 < pool.idle_bytes <= pool.lent_bytes
    # kept states are in use; when they go, what is in use says how much stays
    old = [state := adam_step(state, grads) for _ in range(5)]
    assert 5 * whole <= pool.lent_bytes <= 5 * (whole + pages)
    del old
    assert whole <= pool.lent_bytes <= whole + pages
    pool.begin(asks=False)
    assert pool.idle_bytes > pool.lent_bytes  # not looked at yet
    pool.begin(asks=True)
    assert whole // 2 <= pool.idle_bytes <= pool.lent_bytes
    idle = pool.idle_bytes
    assert release_memory() == idle
    assert (pool.idle_bytes, release_memory()) == (0, 0)
    # steps that do not ask for it
    state = adam_step(adam_step(state, grads), grads)
    assert pool.idle_bytes > 0
    for _ in range(2 * recycled.IDLE_STEPS + 4):
        state = adam_step(state, grads, donate=True)
    assert pool.idle_bytes > 0  # they were quick
    monkeypatch.setattr(recycled, "IDLE_SECONDS", 0.0)
    for _ in range(2 * recycled.IDLE_STEPS + 4):
        state = adam_step(state, grads, donate=True)
    assert pool.idle_bytes == 0
    state = adam_step(adam_step(state, grads), grads)
    before = pool.lent_bytes + pool.idle_bytes
    del state
    assert (pool.idle_bytes, pool.lent_bytes) == (before, 0)
    pool.begin(asks=True)  # the next step, of whatever state
    assert (pool.idle_bytes, pool.lent_bytes) == (0, 0)


@pytest.mark.only("numpy", "torch")
def test_nothing_runs_where_an_array_goes(backend: Backend, pool: recycled.Pool) -> None:
    """An interrupt there would be lost, and a lock might be held by a thread that waits for this one."""
    grads = large(backend, 1)
    state = adam_step(adam_step(adam_init(large(backend, 0)), grads), grads)
    called = list[Any]()
    profiled = sys.getprofile()
    sys.setprofile(lambda frame, event, argument: called.append(frame.f_code.co_filename))
    try:
        del state
    finally:
        sys.setprofile(profiled)
    assert recycled.__file__ not in called
    state = adam_step(adam_init(large(backend, 0)), grads)
    with pool._lock:
        thread = threading.Thread(target=lambda taken: taken.clear(), args=([state],))
        del state
        thread.start()
        thread.join(60)
        assert not thread.is_alive()


@pytest.mark.only("numpy")
def test_an_array_that_a_finalizer_brings_back(pool: recycled.Pool) -> None:
    """Its memory is not lent again: what counts is what has it, not that it was said to go."""
    kept = list[Any]()

    class Again:
        def __init__(self) -> None:
            self.me, self.array = self, pool.lend(10**6)

        def __del__(self) -> None:
            kept.append(self.array)

    again = Again()
    again.array[:] = 1
    del again
    gc.collect()
    pool.begin(asks=True)
    other = pool.lend(10**6)
    other[:] = 2
    assert kept[0].max() == 1


def test_an_interrupt_at_any_line_leaves_the_books_right(pool: recycled.Pool) -> None:
    """Nothing is lent twice, and what is idle is at most what is lent, when the next step begins."""

    def steps() -> list[Any]:
        arrays = list[Any]()
        for size in (10**6, 10**6, 2 * 10**6):
            pool.begin(asks=True)
            arrays = [pool.lend(size) for _ in range(3)]
        return arrays

    traced = sys.gettrace()
    for line in itertools.count():
        lines = itertools.count()

        def interrupt(frame: Any, event: str, argument: Any, lines: Any = lines, line: int = line) -> Any:
            if frame.f_code.co_filename != recycled.__file__:
                return None
            if event == "line" and next(lines) == line:
                raise KeyboardInterrupt
            return interrupt

        held = [x for x in (pool.lend(10**6), pool.lend(2 * 10**6)) if x is not None]
        for k, x in enumerate(held):
            x[:] = k
        sys.settrace(interrupt)
        try:
            steps()
        except KeyboardInterrupt:
            pass
        else:
            break
        finally:
            sys.settrace(traced)
        assert len(held) == 2
        if (
            pool._lock.locked()
        ):  # a tracer comes to the very end of a `with`, as no signal does; the pool is then out of use
            assert pool.lend(10**6) is None
            pool._renew()
        pool.begin(asks=True)
        assert pool.lent_bytes == sum(-(-x.nbytes // recycled._PAGE) * recycled._PAGE for x in held)
        assert pool.idle_bytes <= pool.lent_bytes
        new = [pool.lend(10**6), pool.lend(2 * 10**6)]
        for x in new:
            x[:] = 9
        assert [int(x.max()) for x in held] == [0, 1]
        del new, x
    assert line > 30


def test_a_handler_in_the_middle_does_without(pool: recycled.Pool) -> None:
    assert pool._alone(lambda: pool.lend(10**6)) is None
    assert pool._alone(pool.release) == 0
    assert pool.lend(10**6) is not None


@pytest.mark.only("numpy", "torch")
def test_results_have_the_bits_of_donated_steps(backend: Backend) -> None:
    """Past the caches or not: with a last piece that is not whole, in memory of whatever alignment."""
    for dtype in backend.table["dtypes"]:
        for n in (1 << 18, (1 << 18) + 1, 150_063, 300_031, 131_072 + 8_192):
            rng = np.random.default_rng(n)
            unit = 1 + 0.5j if "complex" in dtype else 1.0
            params, grads = (
                [backend.array(unit * rng.standard_normal(size), dtype) for size in (n, 70)] for _ in range(2)
            )
            state = adamod_init(params, lr=0.1, weight_decay=0.1)
            expected = adamod_step(copy.deepcopy(state), grads, donate=True)
            with pytest.MonkeyPatch.context() as patch:
                for is_on in (True, False):
                    patch.setattr(recycled, "IS_ON", is_on)
                    new = adamod_step(state, grads)
                    assert_same(backend, new.params, expected.params)
                    assert_same(backend, new.slots, expected.slots)


@pytest.mark.only("numpy")
def test_arrays_are_ordinary(backend: Backend) -> None:
    state = adam_step(adam_init(large(backend, 0)), large(backend, 1))
    for name, x in state.params.items():
        like = np.empty_like(large(backend, 0)[name])
        assert (type(x), x.dtype, x.strides, x.flags.writeable) == (np.ndarray, like.dtype, like.strides, True)
        assert x.flags.c_contiguous == like.flags.c_contiguous
        if x.nbytes >= recycled.SMALL[True]:
            assert x.ctypes.data % 64 == 0
            assert not x.flags.owndata
            assert (type(x.base), x.base.dtype, x.base.nbytes) == (np.ndarray, np.uint8, x.nbytes)
            with pytest.raises(ValueError, match="own its data"):
                x.resize(3)


@pytest.mark.only("torch")
def test_tensors_are_ordinary(backend: Backend) -> None:
    torch = backend.xp
    params = large(backend, 0)
    params["a"] = torch.nn.Parameter(params["a"])
    for mode in (contextlib.nullcontext, torch.no_grad, torch.inference_mode):
        with mode():
            state = adam_step(adam_init(params), large(backend, 1))
            for name, x in state.params.items():
                assert (type(x), x.dtype, x.stride()) == (torch.Tensor, params[name].dtype, params[name].stride())
                assert x.is_leaf
                assert x._base is None
                assert x.is_inference() == (mode is torch.inference_mode)
                assert x.requires_grad == (name == "a")
                assert x.untyped_storage().nbytes() == x.nbytes
                if not x.is_inference():
                    assert x._version == 0
                file = io.BytesIO()
                torch.save(x, file)
                assert len(file.getvalue()) < x.nbytes + 4096
                file.seek(0)
                before = content(x)
                assert content(torch.load(file)) == content(copy.deepcopy(x)) == before
                if x.nbytes >= recycled.SMALL[False]:
                    assert x.data_ptr() % 64 == 0
                    with pytest.raises(RuntimeError, match="not resizable"):
                        x.untyped_storage().resize_(2 * x.nbytes)
                assert content(x.share_memory_()) == before
                assert x.is_shared()
    x = adam_step(adam_init(params), large(backend, 1)).params["across"]
    x.requires_grad_().sum().backward()
    assert bool((x.grad == 1).all())
    assert x.detach().resize_(3).shape == (3,)


def run(program: str, **environment: str) -> str:
    """Run a program in a process of its own; return what it printed."""
    command = [sys.executable, "-c", program]
    given = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)} | environment
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, timeout=240, check=False, env=given)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.slow
@pytest.mark.only("numpy")
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="memory is measured on Linux")
def test_a_thousand_steps_take_no_memory_beyond_two_states() -> None:
    program = """
import numpy as np
from adamod_array import adamod_init, adamod_step
from benchmarks.memory import resident
n = 2_000_000
grads = np.ones(n, np.float32)
state = adamod_init(np.ones(n, np.float32))
adamod_step(adamod_init(np.ones(200_000, np.float32)), grads[:200_000])
before = resident("VmRSS")
state = adamod_init(np.ones(n, np.float32))
for _ in range(1_000):
    state = adamod_step(state, grads)
print((resident("VmRSS") - before) / (16 * n), (resident("VmHWM") - before) / (16 * n))
"""
    now, peak = map(float, run(program).split())
    assert 0.9 < now < 2.1  # states
    assert peak < 3.1  # while the second step ran beside the caller's own arrays


@pytest.mark.only("numpy")
def test_the_variable_that_turns_it_off() -> None:
    pytest.importorskip("numba")  # the rule as written makes its arrays by NumPy
    program = """
import numpy as np
from adamod_array import adam_init, adam_step, release_memory
state = adam_init(np.ones(200_000))
for _ in range(3):
    state = adam_step(state, np.ones(200_000))
print(state.params.flags.owndata, release_memory(), float(state.params[0]).hex())
"""
    off = run(program, ADAMOD_ARRAY_RECYCLE="0").split()
    on = run(program, ADAMOD_ARRAY_RECYCLE="").split()
    assert off == ["True", "0", on[2]]
    assert on[:2] == ["False", str(3 * -(-1_600_000 // mmap.PAGESIZE) * mmap.PAGESIZE)]


@pytest.mark.only("numpy")
@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork")
def test_a_child_writes_into_memory_of_its_own() -> None:
    """What is idle in both after a fork is two things."""
    program = """
import os
import numpy as np
from adamod_array import adam_init, adam_step
grads = np.ones(100_000)
state = adam_init(np.ones(100_000), lr=0.1)
for _ in range(3):
    state = adam_step(state, grads)
before = state.params.copy()
child = os.fork()
for _ in range(3):
    state = adam_step(state, -grads if child == 0 else grads)
    if child == 0:
        state.params[:] = 7.0
if child == 0:
    os._exit(0)
expected = adam_init(np.ones(100_000), lr=0.1)
for _ in range(6):
    expected = adam_step(expected, grads, donate=True)
assert os.waitpid(child, 0)[1] == 0
assert state.params.tobytes() == expected.params.tobytes()
assert before.tobytes() != state.params.tobytes()
"""
    run(program)
