"""PyTorch's tensors through CuPy's kernel of all leaves, whose memory is the CPU's where CuPy runs there: every bit."""

from __future__ import annotations

import importlib
import importlib.util
import sys
from collections.abc import Iterator
from typing import Any

import pytest

from adamod_array import Method, engine, init, step
from adamod_array._engines import torch_cuda
from adamod_array._program.cuda_table_source import BLOCK, FEW, KERNEL, SENDER
from tests.backend import Backend, stands_in
from tests.trees import METHODS, bits, values

TORCH, NUMPY = Backend("torch", "cpu", "cupy"), Backend("numpy", "cpu", "eager")
SIZES = (0, 1, 3, 31, 32, 33, 1000, BLOCK, BLOCK + 1)


class OnCPU(torch_cuda.TorchMemory):
    """Tensors on the CPU, where CuPy's devices are."""

    kind = "cpu"

    def stream(self, device: int) -> int:
        return 0


@pytest.fixture(autouse=True)
def on_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    if importlib.util.find_spec("torch") is None or not stands_in("cupy"):
        pytest.skip("needs PyTorch, and CuPy on the CPU")
    monkeypatch.setattr(torch_cuda, "memory", OnCPU())


@pytest.fixture
def torch() -> Any:
    return importlib.import_module("torch")


@pytest.fixture
def recording() -> Any:
    return importlib.import_module("cupy_on_cpu").recording


def tree(on: Backend, dtype: str, seed: int) -> dict[str, Any]:
    """Leaves of all sizes and layouts; one has gaps."""
    leaves = {str(n): on.array(values(n, seed=seed + n), dtype) for n in SIZES}
    leaves["view"] = on.array(values(2000, seed=seed), dtype)[1:]
    leaves["columns"] = on.array(values(70, 30, seed=seed), dtype).T
    leaves["number"] = on.array(values(1, seed=seed), dtype).reshape(())
    return leaves


def trained(on: Backend, how: str, method: Method, dtype: str, without: str = "", **stored: str) -> list[Any]:
    def leaves(seed: int) -> dict[str, Any]:
        return {name: x for name, x in tree(on, dtype, seed).items() if name != without}

    with engine(how):
        state = init(method, leaves(0), lr=0.01, weight_decay=0.1, **stored)
        for t in range(1, 5):
            state = step(state, leaves(10 * t), donate=t > 2)
    return bits(on, [state.params, *(state.slots[name] for name in method.slots)])


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32", "float64"])
@pytest.mark.parametrize("name", [name for name, method in METHODS.items() if "g_last" not in method.slots])
def test_the_bits_are_those_of_the_rule_and_of_the_kernels_on_the_cpu(name: str, dtype: str) -> None:
    """An exponential (diffgrad, diffmod) is each library's own."""
    found = trained(TORCH, "cupy", METHODS[name], dtype)
    assert found == trained(NUMPY, "eager", METHODS[name], dtype)
    if importlib.util.find_spec("numba"):
        assert found == trained(TORCH, "numba", METHODS[name], dtype)


@pytest.mark.parametrize("dtype", ["complex64", "complex128"])
def test_complex_tensors(dtype: str) -> None:
    """Where NumPy's modulus and the C library's are the same."""
    for name in ("adam", "momentum"):
        found = trained(TORCH, "cupy", METHODS[name], dtype)
        assert found == trained(NUMPY, "eager", METHODS[name], dtype)


@pytest.mark.parametrize("dtype", ["bfloat16", "float32"])
def test_slots_in_bfloat16(dtype: str) -> None:
    """But for a leaf in Fortran's order, which PyTorch's own operations step."""
    for name in ("adamod", "adam"):
        found = trained(TORCH, "cupy", METHODS[name], dtype, without="columns", slot_dtype="bfloat16")
        assert found == trained(NUMPY, "eager", METHODS[name], dtype, without="columns", slot_dtype="bfloat16")


@pytest.mark.parametrize("count", [FEW, 150])
def test_one_launch_for_all(torch: Any, recording: Any, count: int) -> None:
    with engine("cupy"):
        params = [torch.nn.Parameter(torch.randn(1 + i % 7, 5)) for i in range(count)]
        grads = [torch.randn_like(p) for p in params]
        state = init(METHODS["adamod"], params)
        for _ in range(2):
            state = step(state, grads, donate=True)
        with recording() as seen:
            state = step(state, grads, donate=True)
            new = [x.clone() for x in grads]
            state = step(state, new, donate=True)
    names = [launch.kernel for launch in seen.launches]
    assert names == [KERNEL, *([SENDER] if count > FEW else []), KERNEL]
    assert (seen.transfers, seen.synchronizations, seen.allocations) == ([], [], [])


@pytest.mark.parametrize("count", [3, FEW + 1])
def test_the_current_stream_is_used(torch: Any, recording: Any, monkeypatch: pytest.MonkeyPatch, count: int) -> None:
    stream = sys.modules["cupy"].cuda.Stream(non_blocking=True)
    monkeypatch.setattr(torch_cuda.memory, "stream", lambda device: stream.ptr)
    with engine("cupy"), recording() as seen:
        step(init(METHODS["adam"], [torch.ones(3)] * count), [torch.ones(3)] * count)
    assert len(seen.launches) > 0 and {launch.stream for launch in seen.launches} == {stream.ptr}
    assert sys.modules["cupy"].cuda.get_current_stream().ptr == 0


def test_rates_that_are_tensors(torch: Any, recording: Any) -> None:
    """On the CPU they are read, and go with the arguments as numbers do."""
    found = []
    for lr in (0.25, torch.tensor(0.25), torch.tensor(0.25, dtype=torch.float64)):
        with engine("cupy"), recording() as seen:
            state = step(init(METHODS["adamod"], [torch.ones(5)]), [torch.ones(5)], lr=lr, max_norm=1.0)
        found.append(state.params[0].tolist())
        assert [launch.kernel for launch in seen.launches] == [KERNEL]
    assert found[0] == found[1] == found[2]


def test_autograd_is_told(torch: Any) -> None:
    """What was written in place can no longer be differentiated through; new parameters require gradients."""
    with engine("cupy"):
        p = torch.nn.Parameter(torch.randn(5))
        state = init(METHODS["adam"], [p])
        loss = (p * p).sum()
        versions = p._version, state.slots["m"][0]._version
        new = step(state, [torch.ones(5)])
        assert new.params[0].requires_grad and (p._version, state.slots["m"][0]._version) == versions
        state = step(state, [torch.ones(5)], donate=True)
        assert p._version > versions[0] and state.slots["m"][0]._version > versions[1]
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        loss.backward()


def test_what_the_kernel_does_not_take_is_stepped_as_lists(torch: Any, recording: Any) -> None:
    """Leaves with gaps, and slots in another dtype, beside others in one tree."""
    found = []
    for how in ("cupy", "eager"):
        params = [torch.ones(4, 6)[:, ::2].clone()[:, :2], torch.ones(5), torch.ones(3)]
        state = init(METHODS["momentum"], params, lr=0.25)
        state.slots["m"][2].data = state.slots["m"][2].data.double()
        with engine(how), recording() as seen:
            for donate in (False, True, True):
                state = step(state, [torch.full_like(p, 0.5) for p in params], donate=donate)
        found.append([x.clone() for x in (*state.params, *state.slots["m"])])
        assert [launch.kernel for launch in seen.launches] == ([KERNEL] * 3 if how == "cupy" else [])
    assert all(x.dtype == y.dtype and torch.equal(x, y) for x, y in zip(*found, strict=True))


@pytest.fixture
def broken() -> Iterator[None]:
    """What is passed over in this test works again in the next."""
    engines = importlib.import_module("adamod_array._engines")
    before = dict(engines.passed_over)
    yield
    engines.passed_over.clear()
    engines.passed_over.update(before)


@pytest.mark.usefixtures("broken")
def test_a_cupy_that_does_not_work_costs_speed_alone(torch: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail() -> bool:
        raise OSError("libcuda.so.1 is not here")

    monkeypatch.setattr(sys.modules["cupy"], "is_available", fail)
    with pytest.warns(RuntimeWarning, match=r"CuPy beside PyTorch, .*libcuda.so.1"):
        assert not torch_cuda.serves([torch.ones(3)])
    with engine("cupy"):  # which is stepped eagerly then
        state = step(init(METHODS["adam"], [torch.ones(3)]), [torch.ones(3)])
    assert torch_cuda.missing() == "OSError: libcuda.so.1 is not here" and state.step == 1


def test_an_older_cupy_costs_speed_alone(torch: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(sys.modules["cupy"].cuda.Stream, "from_external")
    assert torch_cuda.missing().startswith("CuPy 14 or later")
    step(init(METHODS["adam"], [torch.ones(3)]), [torch.ones(3)])
