"""Arrays that a user changes in place between steps: each is looked at before it is read or written."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from adamod_array import State, _engines, adam_init, adam_step, engine
from adamod_array._engines import signatures
from tests.backend import Backend
from tests.compare import assert_close
from tests.trees import values

SIZE = 12
Change = Callable[[Any], None]


def set_dtype(x: Any) -> None:
    x.dtype = np.dtype("f2")


def set_integers(x: Any) -> None:
    x.dtype = np.dtype("i4")


def set_shape(x: Any) -> None:
    x.shape = (3, 4)


def swap_bytes(x: Any) -> None:
    x.byteswap(inplace=True)
    x.dtype = x.dtype.newbyteorder()


NUMPY: dict[str, Change] = {
    "resize to less": lambda x: x.resize(10, refcheck=False),
    "resize to much more": lambda x: x.resize(10**6, refcheck=False),
    "resize to nothing": lambda x: x.resize(0, refcheck=False),
    "dtype": set_dtype,
    "dtype of the same size": set_integers,
    "shape": set_shape,
    "byte order": swap_bytes,
    "lock": lambda x: x.setflags(write=False),
}
TORCH: dict[str, Change] = {
    "double": lambda x: setattr(x, "data", x.data.double()),
    "bfloat16": lambda x: setattr(x, "data", x.data.bfloat16()),
    "complex": lambda x: setattr(x, "data", x.data.to(x.data.dtype.to_complex())),
    "shape": lambda x: setattr(x, "data", x.data.view(3, 4)),
    "empty": lambda x: setattr(x, "data", x.data.new_empty(0)),
    "resize_ to less": lambda x: x.data.resize_(5),
    "resize_ to more": lambda x: x.data.resize_(1000),
    "set_ to less": lambda x: x.data.set_(x.data[:5]),
    "storage freed": lambda x: x.untyped_storage().resize_(0),
    "storage cut": lambda x: x.untyped_storage().resize_(7),
    "strides": lambda x: setattr(x, "data", x.data.repeat_interleave(2)[::2]),
    "other memory": lambda x: setattr(x, "data", x.data.clone()),
    "negative": lambda x: setattr(x, "data", x.data.new_zeros(SIZE)._neg_view()),
    "requires_grad": lambda x: x.requires_grad_(not x.requires_grad),
}


def arrays_of(state: State) -> list[Any]:
    return [state.params["p"], state.slots["m"]["p"], state.slots["v"]["p"], state.params["q"]]


def check(backend: Backend, how: str, change: Change, which: int, donate: bool) -> None:
    """A step after the change has the numbers of one from copies, or is an error that names the array."""
    params = {"p": backend.array(values(SIZE)), "q": backend.array(values(SIZE, seed=1))}
    grads = {"p": backend.array(values(SIZE, seed=2)), "q": backend.array(values(SIZE, seed=3))}
    with engine(how):
        state = adam_init(params, lr=0.1)
        for _ in range(3):  # the engine remembers the arrays of the last step
            state = adam_step(state, grads, donate=donate)
        changed = (*arrays_of(state), grads["p"])[which]
        change(changed)
        slots_of_q = [state.slots[name]["q"] for name in ("m", "v")]
        copied = [copy(backend, x) for x in (*arrays_of(state), grads["p"], *slots_of_q)]
        try:
            new = adam_step(state, grads, donate=donate)
        except (TypeError, ValueError) as error:
            assert ("['q']" if which == 3 else "['p']") in str(error)  # noqa: PT017 - or there is none
            after = [copy(backend, x) for x in (*arrays_of(state), grads["p"])]
            for a, b in zip(copied, after, strict=False):
                assert a is None or a.tobytes() == b.tobytes()
            assert "donated" not in repr(state)
            return
    p, m, v, q, g, m_q, v_q = copied
    with engine("eager"):
        fresh = State({"p": p, "q": q}, {"m": {"p": m, "q": m_q}, "v": {"p": v, "q": v_q}}, 3, state.method, 0.1)
        expected = adam_step(fresh, {"p": g, "q": backend.numpy(grads["q"])})
    ulp = 0 if backend.name == "numpy" else 2  # PyTorch's own root: see backends/torch.toml
    for a, e in zip(arrays_of(new), arrays_of(expected), strict=True):
        assert_close(copy(backend, a), e, ulp=ulp)


def copy(backend: Backend, x: Any) -> Any:
    """The numbers of an array; None where its memory is gone."""
    if backend.name == "torch" and x.untyped_storage().nbytes() < x.numel() * x.itemsize:
        return None
    return np.array(backend.numpy(x.resolve_neg() if backend.name == "torch" else x), copy=True)


@pytest.mark.only("numpy")
@pytest.mark.parametrize("donate", [False, True])
@pytest.mark.parametrize("change", NUMPY.values(), ids=NUMPY)
def test_numpys_arrays(backend: Backend, change: Change, donate: bool) -> None:
    for which in range(5):
        check(backend, backend.engine, change, which, donate)


@pytest.mark.only("torch")
@pytest.mark.parametrize("how", ["numba", "guarded numba", "foreach", "eager"])
@pytest.mark.parametrize("donate", [False, True])
@pytest.mark.parametrize("change", TORCH.values(), ids=TORCH)
def test_pytorchs_tensors(
    backend: Backend, how: str, change: Change, donate: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where PyTorch's structs are not known, and its guards look at its tensors."""
    if how == "guarded numba":
        monkeypatch.setitem(_engines.passed_over, signatures.COMPILED_LOOK, "for a test")
    for which in range(5):
        check(backend, how.removeprefix("guarded "), change, which, donate)


@pytest.mark.only("torch")
@pytest.mark.parametrize("donate", [False, True])
def test_tensors_are_looked_at_by_one_compiled_call(backend: Backend, donate: bool) -> None:
    """Nothing else would say it, were the structs of another PyTorch not understood: a step would only be slower."""
    if backend.engine != "numba":
        pytest.skip("it is the kernel that needs addresses")
    for wrap in (lambda x: x, backend.xp.nn.Parameter):
        state = adam_init([wrap(backend.array(values(SIZE))) for _ in range(2)])
        for t in range(3):
            state = adam_step(state, [backend.array(values(SIZE, seed=t)) for _ in range(2)], donate=donate)
        assert isinstance(state.resolved()[0].plan.signatures, signatures.TorchSignatures)


@pytest.mark.only("torch")
def test_what_is_shared_until_somebody_writes(backend: Backend) -> None:
    """A lazy copy of PyTorch's has the memory of its original: neither may be written, and both can be read."""
    torch = backend.xp
    for which in range(5):
        grads = {"p": backend.array(values(SIZE)), "q": backend.array(values(SIZE, seed=1))}
        state = adam_init({"p": backend.array(values(SIZE)), "q": backend.array(values(SIZE, seed=3))})
        for _ in range(3):
            state = adam_step(state, grads, donate=True)
        changed = (*arrays_of(state), grads["p"])[which]
        expected = adam_step(state, grads)
        original = changed.detach().clone()
        changed.data = torch._lazy_clone(original)
        before = original.numpy().copy()
        state = adam_step(state, grads, donate=True)
        assert original.numpy().tobytes() == before.tobytes()
        for a, e in zip(arrays_of(state), arrays_of(expected), strict=True):
            assert_close(copy(backend, a), copy(backend, e), ulp=0)


@pytest.mark.only("torch")
def test_a_parameter_that_became_another_one(backend: Backend) -> None:
    """Equal in all but its address: two parameters of one memory cannot both be written."""
    grads = {"p": backend.array(values(SIZE)), "q": backend.array(values(SIZE, seed=1))}
    state = adam_init({"p": backend.array(values(SIZE)), "q": backend.array(values(SIZE))})
    for _ in range(3):
        state = adam_step(state, grads, donate=True)
    state.params["q"].data = state.params["p"].data
    with pytest.raises(ValueError, match=r"params\['p'\] and params\['q'\] share memory"):
        adam_step(state, grads, donate=True)
    assert adam_step(state, grads).step == 4


@pytest.mark.only("torch")
def test_a_storage_that_was_cut_and_is_where_it_was(backend: Backend) -> None:
    """The address says nothing then: the memory that was freed is given out again."""
    g = backend.array(values(1000))
    others = []
    for trial in range(500):
        others.append(backend.array(values(900 + trial % 120)))  # so that the memory between them varies
        state = adam_init({"p": backend.array(values(1000))})
        for _ in range(4):
            state = adam_step(state, {"p": g}, donate=True)
        p = state.params["p"]
        address, storage = p.data_ptr(), p.untyped_storage()
        for nbytes in (2000, 3900, 100, 3900, 3000, 3900):
            storage.resize_(nbytes)
            if p.data_ptr() == address:
                break
        if p.data_ptr() == address:
            break
    else:
        pytest.skip("this allocator gives no memory out again")
    with pytest.raises(ValueError, match=r"params\['p'\] has lost its memory: a storage of \d+ bytes"):
        adam_step(state, {"p": g}, donate=True)


@pytest.mark.only("torch")
def test_a_first_step_of_tensors_without_memory(backend: Backend) -> None:
    """FSDP frees storages, and leaves tensors that PyTorch itself would crash on."""
    gone = backend.array(values(SIZE))
    gone.untyped_storage().resize_(0)
    with pytest.raises(ValueError, match=r"params has lost its memory: a storage of 0 bytes .*shape \(12,\)"):
        adam_init(gone)
    state = adam_init(backend.array(values(SIZE)))
    with pytest.raises(ValueError, match="grads has lost its memory"):
        adam_step(state, gone)


@pytest.mark.only("torch")
def test_views_of_a_storage_that_was_cut(backend: Backend) -> None:
    """A view begins somewhere in its storage, and may end far behind its number of elements."""
    views: list[Callable[[Any], Any]] = [lambda x: x[4:], lambda x: x[:, ::2], lambda x: x.T, lambda x: x[1:4, 1:4]]
    for view in views:
        for donate in (False, True):
            whole = backend.array(values(6, 6))
            state, g = adam_init(backend.array(view(values(6, 6)))), view(whole)
            step = adam_step(state, g, donate=donate)
            last = int(g.storage_offset() + sum((n - 1) * s for n, s in zip(g.shape, g.stride(), strict=True)))
            whole.untyped_storage().resize_(4 * (last + 1))
            step = adam_step(step, g, donate=donate)
            whole.untyped_storage().resize_(4 * last)
            with pytest.raises(ValueError, match="grads has lost its memory"):
                adam_step(step, g, donate=donate)
            with pytest.raises(ValueError, match="params has lost its memory"):
                adam_init(g)
