"""What a kernel must keep while it is fast: bits of every dtype and layout, gradients that share memory, threads."""

from __future__ import annotations

import concurrent.futures
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from adamod_array import Adam, AdaMod, Method, RAdam, State, adam_init, adam_step, engine, init, step
from tests.backend import Backend, numpy_dtype

pytest.importorskip("numba")

FRAMEWORKS = ["numpy", "torch", "jax"]
METHODS: list[Method] = [Adam(), AdaMod(), Adam(amsgrad=True), AdaMod(hold_idle=True), RAdam(variant="reference")]
BIG = 200_003  # more than one thread, more than one block, and a remainder


def numbers(state: State, backend: Backend) -> list[bytes]:
    """All bits of a state of one dict of arrays."""
    trees = [state.params, *(state.slots[name] for name in state.method.slots)]
    return [backend.numpy(tree[name]).tobytes() for tree in trees for name in tree]


def some_steps(backend: Backend, how: str, method: Method, dtype: str, donate: bool) -> list[bytes]:
    rng = np.random.default_rng(3)

    def values(shape: tuple[int, ...]) -> Any:
        """Rounded by NumPy, once: PyTorch rounds float64 to float16 by way of float32."""
        exact = np.asarray(rng.normal(size=shape))
        if dtype.startswith("complex"):
            return backend.array((exact + 1j * rng.normal(size=shape)).astype(dtype), dtype)
        exact = exact.astype(numpy_dtype(dtype)).astype(np.float64)
        return backend.array(exact, dtype)

    shapes = {"matrix": (30, 7), "number": (), "nothing": (0, 2), "big": (BIG,)}
    with engine(how):
        params = {name: values(shape) for name, shape in shapes.items()}
        state = init(method, params, lr={"matrix": 0.1, "number": 0.2, "nothing": 0.3, "big": 0.1}, weight_decay=0.01)
        for _ in range(4):
            grads = {name: values(shape) for name, shape in shapes.items()}
            state = step(state, grads, donate=donate)
    return numbers(state, backend)


@pytest.mark.parametrize("donate", [False, True])
@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32", "complex64"])
@pytest.mark.parametrize(
    ("framework", "method"),
    # XLA calls the kernels that NumPy does, and takes a second for each program around one
    [(framework, method) for framework in FRAMEWORKS for method in METHODS[: 2 if framework == "jax" else None]],
)
def test_storage_dtypes_have_the_bits_of_the_rule(framework: str, method: Method, dtype: str, donate: bool) -> None:
    pytest.importorskip(framework)
    backend, numpy = Backend(framework, "cpu", "numba"), Backend("numpy", "cpu", "eager")
    assert some_steps(backend, "numba", method, dtype, donate) == some_steps(numpy, "eager", method, dtype, False)


@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_denormals_are_kept(framework: str) -> None:
    pytest.importorskip(framework)
    backend = Backend(framework, "cpu", "numba")
    tiny = np.random.default_rng(0).uniform(1e-39, 1e-38, BIG).astype("float32")
    with engine("numba"):
        state = adam_step(adam_init(backend.array(np.zeros(BIG))), backend.array(tiny))
    m = backend.numpy(state.slots["m"])
    assert (m == np.float32(1 - 0.9) * tiny).all() and (m != 0).all()


@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_a_gradient_may_be_another_parameter(framework: str) -> None:
    """The gradient of x * y: each parameter is the other's, also while both are written."""
    pytest.importorskip(framework)
    backend = Backend(framework, "cpu", "numba")
    found = []
    for donate in (False, True):
        state = adam_init({"x": backend.array(np.arange(5.0)), "y": backend.array(np.arange(5.0) + 1)}, lr=0.1)
        for _ in range(3):
            state = adam_step(state, {"x": state.params["y"], "y": state.params["x"]}, donate=donate)
        found.append(numbers(state, backend))
    assert found[0] == found[1]


def test_an_old_state_can_be_stepped_again() -> None:
    """Fresh steps leave the state, and what is remembered of it, alone."""
    g = np.ones(9, np.float32)
    start = adam_init(np.zeros(9, np.float32), lr=0.1)
    first = [adam_step(start, g)]
    for _ in range(5):
        first.append(adam_step(first[-1], g))
    assert all((adam_step(start, g).params == first[0].params).all() for _ in range(3))
    assert (adam_step(first[3], g).params == first[4].params).all()


def test_threads_step_states_of_their_own() -> None:
    def trained(seed: int) -> Any:
        rng = np.random.default_rng(seed)
        state = adam_init(rng.normal(size=BIG).astype(np.float32))
        for _ in range(10):
            state = adam_step(state, rng.normal(size=BIG).astype(np.float32), donate=True)
        return state.params.tobytes()

    alone = [trained(seed) for seed in range(4)]
    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        assert list(pool.map(trained, range(4))) == alone


def test_threads_take_turns_in_a_pool_that_may_not_be_entered_twice() -> None:
    """Numba's own pool of threads, which serves where OpenMP and TBB are missing, would end the process."""
    program = (
        "import concurrent.futures, numpy as np, adamod_array as a\n"
        f"g = np.ones({BIG}, np.float32)\n"
        "def trained(_):\n"
        "    s = a.adam_init(g)\n"
        "    for _ in range(200):\n"
        "        s = a.adam_step(s, g)\n"
        "    return s.step\n"
        "with concurrent.futures.ThreadPoolExecutor(4) as pool:\n"
        "    print(*pool.map(trained, range(4)))"
    )
    environment = {**os.environ, "NUMBA_THREADING_LAYER": "workqueue", "NUMBA_NUM_THREADS": "2"}
    done = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=False)
    assert done.stdout.split() == ["200"] * 4, done.stderr


def test_kernels_are_kept_on_disk(tmp_path: Path) -> None:
    """A second process loads what the first compiled, and does not write it again."""
    program = (
        "import numpy as np, adamod_array as a\n"
        "s = a.adamod_step(a.adamod_init(np.zeros(3)), np.ones(3), donate=True)\n"
        "print(s.params.tobytes().hex())"
    )
    environment = {**os.environ, "ADAMOD_ARRAY_CACHE": str(tmp_path)}
    command = [sys.executable, "-c", program]
    runs = []
    for _ in range(2):
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
        runs.append((done.stdout, {path.name: path.stat().st_mtime_ns for path in tmp_path.rglob("kernel_*")}))
    assert runs[0] == runs[1]
    assert len(runs[0][1]) == 1


def test_a_forked_child_steps_without_threads() -> None:
    """OpenMP ends a child that enters it after its parent did."""
    program = (
        "import os, numpy as np, adamod_array as a\n"
        f"g = np.ones({BIG}, np.float32)\n"
        "s = a.adam_step(a.adam_init(g), g)\n"
        "child = os.fork()\n"
        "t = a.adam_step(s, g)\n"
        "if child == 0:\n"
        "    os._exit(0 if t.step == 2 and np.isfinite(t.params).all() else 1)\n"
        "print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["0"]


def test_arrays_are_known_again_by_what_a_kernel_relies_on() -> None:
    """And nothing but an array of NumPy's own is read as one."""
    from adamod_array._engines.numpy_abi import match, signatures_of

    x = np.zeros((4, 6), np.float32)
    locked = x.copy()
    locked.flags.writeable = False
    headers = signatures_of([x, x])
    for same in (x, np.ones((4, 6), np.float32), np.ones((2, 4, 6), np.float32)[1]):
        assert match([x, same], headers).tolist() == [x.ctypes.data, same.ctypes.data]
    others: list[Any] = [
        x.astype(np.float64),
        x.astype(">f4"),
        x.T,
        x[:, :5],
        np.zeros((4, 12), np.float32)[:, ::2],
        x.reshape(6, 4),
        x[None],
        unaligned(x),
        locked,
        x.view(np.ma.MaskedArray),
        np.float32(1),
        1.0,
        None,
        "array",
        object(),
    ]
    for other in others:
        assert match([x, other], headers) is None
    assert match([x], headers) is None
    number = np.zeros(())
    assert match([number], signatures_of([number])).tolist() == [number.ctypes.data]
    assert match([], signatures_of([])) is not None


def test_tensors_are_known_again_by_what_a_kernel_relies_on() -> None:
    """And nothing but a tensor of PyTorch's own is read as one."""
    torch = pytest.importorskip("torch")
    from adamod_array._engines.numba_tensors import match, signatures_of

    x = torch.zeros(4, 6)
    known = signatures_of([x, x], [96, 96])
    deep = torch.zeros(2, 1, 3, 1, 2, 1, 2)
    cut, gone, lazy = torch.zeros(4, 6), torch.zeros(4, 6), torch.zeros(4, 6)
    cut.untyped_storage().resize_(95)
    gone.untyped_storage().resize_(0)
    copied = torch._lazy_clone(lazy)
    with torch.inference_mode():
        made_in_inference_mode = torch.zeros(4, 6)
    for same in (x, torch.ones(4, 6), torch.ones(2, 4, 6)[1], torch.ones(4, 6, requires_grad=True)):
        assert match([x, same], known).tolist() == [x.data_ptr(), same.data_ptr()]
    others: list[Any] = [
        *(x.to(dtype) for dtype in (torch.float64, torch.float16, torch.bfloat16, torch.int32, torch.complex64)),
        x.T,
        x[:, :5],
        torch.zeros(4, 12)[:, ::2],
        x.reshape(6, 4),
        x[None],
        cut,
        gone,
        lazy,
        copied,
        x._neg_view(),
        torch.zeros(4, 6, dtype=torch.complex64).conj().imag,
        x.to("meta"),
        x.to_sparse(),
        made_in_inference_mode,
        torch.nn.Parameter(torch.zeros(4, 6)),
        torch._to_functional_tensor(x),
        torch.Tensor._make_subclass(type("Own", (torch.Tensor,), {}), x),
        x.numpy(),
        1.0,
        None,
        "tensor",
        object(),
    ]
    for other in others:
        assert match([x, other], known) is None, other
    assert match([x], known) is None
    assert match([deep], signatures_of([deep], [96])).tolist() == [deep.data_ptr()]
    assert match([deep.mT], signatures_of([deep], [96])) is None
    assert match([], signatures_of([], [])) is not None


def test_one_array_in_two_places() -> None:
    from adamod_array._engines.numba_distinct import are_distinct

    for count in (0, 1, 2, 3, 4, 5, 100, 1000):
        objects = [object() for _ in range(count)]
        assert are_distinct(objects)
        for i in {0, count // 2, count - 1} if count else ():
            assert not are_distinct([*objects, objects[i]])


def unaligned(x: Any) -> Any:
    """A copy whose elements lie across the boundaries of machine words."""
    copied = np.frombuffer(bytearray(x.nbytes + 1), x.dtype, x.size, 1).reshape(x.shape)
    copied[...] = x
    assert copied.flags.writeable and not copied.flags.aligned
    return copied


def plan_of(state: State) -> Any:
    """What the engine keeps from step to step."""
    leaves, _ = state.resolved()
    return leaves.plan


def test_kernels_take_what_they_were_made_for() -> None:
    """Elements that are aligned, in the machine's byte order, and without gaps: also where others came before."""
    x = np.arange(24, dtype=np.float32).reshape(4, 6)
    makes: list[Callable[[], Any]] = [
        lambda: unaligned(x),
        lambda: x.astype(">f4"),
        lambda: np.repeat(x, 2, axis=1)[:, ::2],
        lambda: x[::-1].copy()[::-1],
    ]
    for make in makes:
        for donate in (False, True):
            state, expected = (adam_init(make(), lr=0.1) for _ in range(2))
            for t in range(4):
                state = adam_step(state, g := make(), donate=donate)
                with engine("eager"):
                    expected = adam_step(expected, g)
                assert np.array_equal(state.params, expected.params)
                if donate or t == 0:  # new arrays are as kernels like them
                    assert plan_of(state).in_kernel == []
            state, expected = (adam_init(x.copy(), lr=0.1) for _ in range(2))
            for g in [x, x, x, make(), make(), x, x]:
                state = adam_step(state, g, donate=donate)
                with engine("eager"):
                    expected = adam_step(expected, g)
                assert np.array_equal(state.params, expected.params)
                assert (plan_of(state) is None) == (g is not x)


def test_what_is_never_the_same_twice_is_not_remembered_for_ever() -> None:
    """Gradients locked at every other step: each finds what the last one was not."""
    values = np.arange(5.0)
    locked = values.copy()
    locked.flags.writeable = False
    state = expected = adam_init(values)
    remembered = []
    for t in range(24):
        grads = locked if t % 2 else values
        state = adam_step(state, grads)
        remembered.append(plan_of(state).signatures is not None)
        with engine("eager"):
            expected = adam_step(expected, grads)
    assert any(remembered)
    assert not any(remembered[-5:])
    assert np.array_equal(state.params, expected.params)


def test_scalars_that_numpy_makes_of_gradients_are_arrays_of_no_dimensions() -> None:
    """``np.mean`` gives a scalar: known again like any other gradient."""
    state = expected = adam_init({"slope": np.zeros(()), "offset": np.zeros(3)})
    for t in range(5):
        grads = {"slope": np.mean(np.arange(3.0) + t), "offset": np.ones(3)}
        state = adam_step(state, grads, donate=t > 0)
        with engine("eager"):
            expected = adam_step(expected, grads)
    assert plan_of(state).misses == 0
    assert numbers(state, Backend("numpy", "cpu", "numba")) == numbers(expected, Backend("numpy", "cpu", "eager"))
