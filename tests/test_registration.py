"""States in other libraries' hands: ``torch.load`` at its default, Flax, whichever is imported first."""

from __future__ import annotations

import io
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from adamod_array import Adam, AdaMod, Momentum, RAdam, init, schedules, step
from tests.backend import Backend
from tests.trees import bits, tree

RATES: list[Any] = [
    0.1,
    {"b": 0.1, "layers": 0.2},
    1e-2 * schedules.untuned_linear(0.9) * schedules.cosine_decay(9),
    schedules.join((schedules.linear_warmup(3), schedules.radam_warmup()), (3,)),
]


@pytest.mark.only("torch")
@pytest.mark.parametrize("method", [Adam(), AdaMod(variant="reference"), RAdam(), Momentum()], ids=repr)
def test_torch_load_at_its_default(backend: Backend, method: Any) -> None:
    import torch

    for lr in RATES:
        state = step(init(method, tree(backend), lr, weight_decay={"b": 0.0, "layers": 0.1}), tree(backend, seed=1))
        file = io.BytesIO()
        torch.save(state, file)
        file.seek(0)
        loaded = torch.load(file)
        assert bits(backend, loaded) == bits(backend, state)
        assert (loaded.method, loaded.lr, loaded.weight_decay) == (state.method, state.lr, state.weight_decay)
        grads = tree(backend, seed=2)
        assert bits(backend, step(loaded, grads)) == bits(backend, step(state, grads))


def run(program: str) -> str:
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", program],
        capture_output=True,
        text=True,
        cwd=Path(__file__).parent.parent,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.slow
@pytest.mark.only("torch")
@pytest.mark.parametrize("imports", ["import torch, adamod_array as a", "import adamod_array as a, torch"])
def test_in_any_order_of_imports(tmp_path: Path, imports: str) -> None:
    """A process that has made no state yet loads one."""
    path = tmp_path / "state.pt"
    run(f"{imports}\ntorch.save(a.adam_step(a.adam_init(torch.zeros(3), lr=1.0), torch.ones(3)), {str(path)!r})")
    loaded = run(f"{imports}\nstate = torch.load({str(path)!r})\nprint(state.step, state.params.tolist())")
    assert loaded == "1 [-1.0, -1.0, -1.0]\n"
    leaves = "from torch.utils import _pytree\nprint(len(_pytree.tree_leaves(a.adam_init(torch.zeros(3)))))"
    assert run(f"{imports}\n{leaves}") == "5\n"


@pytest.mark.only("jax")
@pytest.mark.parametrize("imports", ["import jax, adamod_array as a", "import adamod_array as a, jax"])
def test_jax_in_any_order_of_imports(imports: str) -> None:
    assert run(f"{imports}\nimport numpy as np\nprint(len(jax.tree.leaves(a.adam_init(np.zeros(3)))))") == "5\n"


@pytest.mark.only("jax")
@pytest.mark.parametrize("first", ["flax.serialization", "adamod_array"])
def test_flax_serializes_states(first: str) -> None:
    pytest.importorskip("flax")
    run(
        f"import {first}, adamod_array as a, numpy as np, jax.numpy as jnp\n"
        "state = a.adam_init({'w': jnp.zeros(3), 'b': [jnp.ones(2)]}, lr=0.5)\n"
        "state = a.adam_step(state, {'w': jnp.ones(3), 'b': [jnp.ones(2)]})\n"
        "from flax import serialization\n"
        "data = serialization.to_bytes(state)\n"
        "other = serialization.from_bytes(a.adam_init(state.params, lr=0.5), data)\n"
        "assert type(other) is a.State and other.step == 1 and other.lr == 0.5\n"
        "jax_grads = {'w': jnp.ones(3), 'b': [jnp.ones(2)]}\n"
        "numpy_grads = {'w': np.ones(3, 'f4'), 'b': [np.ones(2, 'f4')]}\n"  # Flax restores arrays of NumPy's
        "new, expected = a.adam_step(other, numpy_grads), a.adam_step(state, jax_grads)\n"
        "assert (new.params['w'] == np.asarray(expected.params['w'])).all()\n"
        "assert (new.slots['v']['b'][0] == np.asarray(expected.slots['v']['b'][0])).all()\n"
    )
