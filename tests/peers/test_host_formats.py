"""States in the formats of their hosts: what is loaded goes on to the bit, and is what a state is."""

from __future__ import annotations

import io
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from adamod_array import Adam, AdaMod, Method, RAdam, State, init, schedules, step
from adamod_array.checkpoint import convert

LR = {"w": 0.1 * schedules.untuned_linear(0.9), "b": 0.05}
METHODS: list[Method] = [AdaMod(beta3=0.9), Adam(amsgrad=True), RAdam()]


def torch_tree(seed: int) -> dict[str, Any]:
    torch = pytest.importorskip("torch")
    torch.manual_seed(seed)
    return {"w": torch.randn(3, 4), "b": torch.randn(2, dtype=torch.bfloat16)}


def jax_tree(seed: int) -> dict[str, Any]:
    jax = pytest.importorskip("jax")
    rng = np.random.default_rng(seed)
    return {
        "w": jax.numpy.asarray(rng.normal(size=(3, 4)), "float32"),
        "b": jax.numpy.asarray(rng.normal(size=2), "bfloat16"),
    }


def numpy_tree(seed: int) -> dict[str, Any]:
    rng = np.random.default_rng(seed)
    return {"w": rng.normal(size=(3, 4)), "b": rng.normal(size=2).astype("float16")}


def by_pickle(state: State, like: State, path: Path) -> State:
    loaded: State = pickle.loads(pickle.dumps(state))
    return loaded


def by_joblib(state: State, like: State, path: Path) -> State:
    joblib = pytest.importorskip("joblib")
    joblib.dump(state, path)
    loaded: State = joblib.load(path)
    return loaded


def by_torch(state: State, like: State, path: Path) -> State:
    torch = pytest.importorskip("torch")
    torch.save(state, path)
    loaded: State = torch.load(path)
    return loaded


def by_torch_distributed(state: State, like: State, path: Path) -> State:
    """In the single process form: a dict of what changes."""
    dcp = pytest.importorskip("torch.distributed.checkpoint")
    saved, found = ({"params": x.params, "slots": x.slots, "step": x.step} for x in (state, like))
    with pytest.warns(UserWarning, match="single process"):
        dcp.save(saved, checkpoint_id=path)
    with pytest.warns(UserWarning, match="single process"):
        dcp.load(found, checkpoint_id=path)
    return like.replace(**found)


def by_orbax(state: State, like: State, path: Path) -> State:
    orbax = pytest.importorskip("orbax.checkpoint")
    with orbax.StandardCheckpointer() as checkpointer:
        checkpointer.save(path, state)
        checkpointer.wait_until_finished()
        loaded: State = checkpointer.restore(path, like)
    return loaded


def by_equinox(state: State, like: State, path: Path) -> State:
    equinox = pytest.importorskip("equinox")
    file = io.BytesIO()
    equinox.tree_serialise_leaves(file, state)
    file.seek(0)
    loaded: State = equinox.tree_deserialise_leaves(file, like)
    return loaded


def by_flax(state: State, like: State, path: Path) -> State:
    """Which gives arrays of NumPy's."""
    serialization = pytest.importorskip("flax.serialization")
    loaded: State = serialization.from_bytes(like, serialization.to_bytes(state))
    assert all(isinstance(x, np.ndarray) for x in loaded.params.values())
    return convert(loaded, like)


FORMATS: list[tuple[Callable[[State, State, Path], State], Callable[[int], dict[str, Any]]]] = [
    *((by_pickle, tree) for tree in (numpy_tree, torch_tree, jax_tree)),
    *((by_joblib, tree) for tree in (numpy_tree, torch_tree, jax_tree)),
    (by_torch, torch_tree),
    (by_torch_distributed, torch_tree),
    (by_orbax, jax_tree),
    (by_equinox, jax_tree),
    (by_equinox, numpy_tree),
    (by_flax, jax_tree),
]


def bits(state: State) -> list[tuple[str, str, bytes]]:
    """All bits of a state of one dict of arrays."""
    trees = {"params": state.params, **{name: state.slots[name] for name in state.method.slots}}
    found = []
    for root, tree in trees.items():
        for name, x in sorted(tree.items()):
            host = np.asarray(x) if type(x).__module__.partition(".")[0] != "torch" else x.view(_raw(x)).numpy()
            found.append((f"{root}.{name}", str(x.dtype), host.tobytes()))
    return found


def _raw(x: Any) -> Any:
    import torch

    return torch.int16 if x.dtype == torch.bfloat16 else x.dtype


@pytest.mark.parametrize(
    ("through", "tree"), [pytest.param(*each, id=f"{each[0].__name__}-{each[1].__name__}") for each in FORMATS]
)
def test_a_state_goes_on_to_the_bit(
    tmp_path: Path, through: Callable[[State, State, Path], State], tree: Callable[[int], dict[str, Any]]
) -> None:
    for method in METHODS:
        state = step(init(method, tree(0), LR, weight_decay=0.01), tree(1))
        like = init(method, tree(2), LR, weight_decay=0.01)
        loaded = through(state, like, tmp_path / type(method).__name__)
        for _ in range(2):
            assert type(loaded) is State and type(loaded.step) is int and loaded.step == state.step
            assert (loaded.method, loaded.weight_decay) == (state.method, state.weight_decay)
            assert bits(loaded) == bits(state)
            assert [type(x) for x in loaded.params.values()] == [type(x) for x in like.params.values()]
            state, loaded = step(state, tree(3)), step(loaded, tree(3))
        assert loaded.lr == state.lr
