"""Classes that derive from arrays: those that are their numbers are stepped, those that are more are refused."""

from __future__ import annotations

import operator
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import adamod_array as aa
from adamod_array import adam_init, adam_step, engine, momentum_init, momentum_step
from tests.backend import Backend
from tests.compare import assert_close
from tests.trees import assert_same, values


class ByUfunc(np.ndarray):
    """Units by ``__array_ufunc__``, as astropy's."""

    def __array_ufunc__(self, ufunc: Any, method: str, *inputs: Any, **kwargs: Any) -> Any:
        return NotImplemented


class ByWrap(np.ndarray):
    """Units by ``__array_wrap__``, as older ones."""

    def __array_wrap__(self, *arguments: Any) -> Any:
        return super().__array_wrap__(*arguments)


class ByFunction(np.ndarray):
    def __array_function__(self, *arguments: Any) -> Any:
        return super().__array_function__(*arguments)


class ByOperator(np.ndarray):
    def __mul__(self, other: Any) -> Any:
        return super().__mul__(other)


class ByMixin(np.lib.mixins.NDArrayOperatorsMixin, np.ndarray):  # type: ignore[misc]
    pass


class ByItem(np.ndarray):
    def __setitem__(self, key: Any, value: Any) -> None:
        super().__setitem__(key, value)


class Derived(ByUfunc):
    """What derives from such a class is one."""


class Plain(np.ndarray):
    """Carries a name and computes as ever."""

    name = "weights"

    def __array_finalize__(self, other: Any) -> None:
        self.name = getattr(other, "name", "")


MEANING_MORE = [ByUfunc, ByWrap, ByFunction, ByOperator, ByMixin, ByItem, Derived, np.matrix, np.ma.MaskedArray]


@pytest.mark.only("numpy")
@pytest.mark.filterwarnings("ignore:the matrix subclass:PendingDeprecationWarning")
@pytest.mark.parametrize("cls", MEANING_MORE, ids=lambda cls: cls.__name__)
def test_numpys_that_mean_more(backend: Backend, cls: Any) -> None:
    x = np.ones((2, 2), np.float32)
    bad = x.view(cls)
    refused = rf"must be an array, got .*{cls.__name__}, whose arithmetic is its own"
    with pytest.raises(TypeError, match=r"params\['w'\] " + refused):
        momentum_init({"w": bad})
    for donate in (False, True):
        with pytest.raises(TypeError, match=r"grads\['w'\] " + refused):
            momentum_step(momentum_init({"w": x}), {"w": bad}, donate=donate)
    with pytest.raises(TypeError, match=r"got .*whose arithmetic is its own"):
        aa.global_norm({"w": bad})


@pytest.mark.only("numpy")
def test_numpys_that_are_their_numbers(backend: Backend, tmp_path: Path) -> None:
    """And every engine makes the same of them: arrays of NumPy's own, or the very ones that were donated."""
    numbers = values(40_000).astype(np.float32)

    def mapped(x: np.ndarray[Any, Any]) -> Any:
        path = tmp_path / f"{len([*tmp_path.iterdir()])}.dat"
        memory = np.memmap(path, x.dtype, "w+", shape=x.shape)
        memory[:] = x
        return memory

    made: list[Callable[[Any], Any]] = [mapped, lambda x: x.view(np.recarray), lambda x: x.view(Plain)]
    for make in made:
        for donate in (False, True):
            state, expected = adam_init(make(numbers.copy())), adam_init(numbers.copy())
            for seed in range(4):
                g = values(40_000, seed=seed).astype(np.float32)
                state, expected = adam_step(state, make(g), donate=donate), adam_step(expected, g)
            assert type(state.params) is (type(make(numbers)) if donate else np.ndarray)
            assert_close(np.asarray(state.params), expected.params)


@pytest.mark.only("torch")
@pytest.mark.filterwarnings("ignore:The PyTorch API of MaskedTensors is in prototype stage:UserWarning")
def test_pytorchs_that_mean_more(backend: Backend) -> None:
    import torch

    class ByFunction(torch.Tensor):
        @classmethod
        def __torch_function__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            return super().__torch_function__(func, types, args, kwargs)

    class ByDispatch(torch.Tensor):
        __torch_function__ = torch._C._disabled_torch_function_impl

        @classmethod
        def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            raise AssertionError

    class ByOperator(torch.Tensor):
        __add__ = operator.sub

    for cls in (ByFunction, ByDispatch, ByOperator):
        bad = torch.ones(3).as_subclass(cls)
        with pytest.raises(
            TypeError, match=rf"params must be an array, got .*{cls.__name__}, whose arithmetic is its own"
        ):
            momentum_init(bad)
        with pytest.raises(TypeError, match=r"grads must be an array, got .*whose arithmetic is its own"):
            momentum_step(momentum_init(torch.ones(3)), bad)
    with pytest.raises(TypeError, match=r"MaskedTensor, whose arithmetic is its own"):
        momentum_init(torch.masked.MaskedTensor(torch.ones(3), torch.ones(3, dtype=torch.bool)))


@pytest.mark.only("torch")
def test_pytorchs_that_are_their_numbers(backend: Backend) -> None:
    import torch

    class Named(torch.Tensor):
        __torch_function__ = torch._C._disabled_torch_function_impl
        name = "weights"

    g = backend.array(values(5, seed=1))
    expected = adam_step(adam_init(backend.array(values(5))), g)
    made = [torch.nn.Parameter, torch.nn.Buffer, lambda x: x.as_subclass(Named)]
    for make in made:
        for donate in (False, True):
            state = adam_step(adam_init(make(backend.array(values(5)))), g, donate=donate)
            assert_close(state.params.detach().numpy(), expected.params.numpy(), ulp=2)  # PyTorch's own root


@pytest.mark.only("torch")
@pytest.mark.parametrize("how", ["auto", "eager", "foreach"])
@pytest.mark.parametrize("donate", [False, True])
def test_tensors_without_memory_of_their_own(backend: Backend, how: str, donate: bool) -> None:
    """On no device, of a fake mode, spread over processes: nothing asks where they are."""
    import torch
    from torch._subclasses.fake_tensor import FakeTensorMode

    def stepped(params: Any, grads: Any) -> Any:
        state = adam_init({"w": params, "b": params}) if not donate else adam_init({"w": params})
        for _ in range(3):
            state = adam_step(state, dict.fromkeys(state.params, grads), donate=donate)
        return state.params["w"]

    with engine(how):
        new = stepped(torch.empty(3, 4, device="meta"), torch.empty(3, 4, device="meta"))
        assert (new.device.type, new.shape) == ("meta", (3, 4))
        with FakeTensorMode():
            assert stepped(torch.empty(3, 4), torch.empty(3, 4)).shape == (3, 4)


@pytest.mark.only("torch")
def test_tensors_spread_over_processes(backend: Backend, monkeypatch: pytest.MonkeyPatch) -> None:
    import torch
    from torch.distributed import tensor

    monkeypatch.setenv("MASTER_ADDR", "localhost")
    monkeypatch.setenv("MASTER_PORT", "0")
    torch.distributed.init_process_group("gloo", rank=0, world_size=1, store=torch.distributed.HashStore())
    try:
        mesh = tensor.init_device_mesh("cpu", (1,))

        def spread(x: Any) -> Any:
            return tensor.distribute_tensor(backend.array(x), mesh, [tensor.Shard(0)])

        for wrap in (spread, lambda x: torch.nn.Parameter(spread(x))):
            for donate in (False, True):
                state, expected = adam_init({"w": wrap(values(4, 3))}), adam_init({"w": backend.array(values(4, 3))})
                for seed in range(3):
                    state = adam_step(state, {"w": spread(values(4, 3, seed=seed))}, donate=donate)
                    expected = adam_step(expected, {"w": backend.array(values(4, 3, seed=seed))})
                assert state.params["w"].placements == (tensor.Shard(0),)
                full = state.params["w"].full_tensor().detach()
                assert_same(backend, full, expected.params["w"], ulp=8)  # PyTorch's own root, three times
        twice = spread(values(4, 3))
        with pytest.raises(ValueError, match="share memory and cannot both be donated"):
            adam_step(adam_init([twice, twice]), [twice, twice], donate=True)
    finally:
        torch.distributed.destroy_process_group()
