"""States saved, loaded and converted on one framework; across frameworks, tests/exact/test_checkpoint.py."""

from __future__ import annotations

import collections
import dataclasses
import functools
import os
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import optree
import pytest

from adamod_array import (
    Adam,
    AdaMod,
    Method,
    Momentum,
    State,
    adam_init,
    adam_step,
    adamod_init,
    init,
    momentum_init,
    schedules,
    step,
)
from adamod_array._namespace import dtype_name
from adamod_array.checkpoint import CheckpointError, convert, load, save
from tests.backend import Backend
from tests.trees import METHODS, assert_same, bits, tree, values


def odd_tree(backend: Backend, dtype: str, seed: int = 0) -> dict[str, Any]:
    """Leaves of every shape, some without numbers or dimensions, in a nest of containers, one left out."""
    shapes = {"matrix": (3, 4), "number": (), "nothing": (0, 2)}
    arrays = {name: backend.array(values(*shape, seed=seed), dtype) for name, shape in shapes.items()}
    return {**arrays, "left out": None, "deep": [(backend.array(values(5, seed=seed + 1), dtype),), {3: None}]}


def stepped(backend: Backend, method: Any, dtype: str = "float32", **options: Any) -> State:
    """A state after a step."""
    return step(init(method, odd_tree(backend, dtype), **options), odd_tree(backend, dtype, 2))


def filled(backend: Backend, method: Any, dtype: str) -> State:
    """A state of numbers that no step has made: to compile one for each method and dtype takes minutes."""
    state = init(method, odd_tree(backend, dtype), lr=0.1, weight_decay=0.01).replace(step=3, skipped=2)
    slots = {
        name: optree.tree_map(lambda x, k=k: backend.array(values(*x.shape, seed=k), dtype_name(x)), slot)
        for k, (name, slot) in enumerate(state.slots.items())
    }
    return state.replace(slots=slots)


def assert_equal(backend: Backend, loaded: State, state: State) -> None:
    """All fields of two states, to the bit."""
    assert (loaded.step, loaded.skipped) == (state.step, state.skipped)
    assert (loaded.lr, loaded.weight_decay) == (state.lr, state.weight_decay)
    assert loaded.method == state.method and type(loaded.step) is int
    assert bits(backend, loaded.params) == bits(backend, state.params)
    assert list(loaded.slots) == list(state.slots)
    assert bits(backend, loaded.slots) == bits(backend, state.slots)


def assert_goes_on_as(backend: Backend, loaded: State, state: State) -> None:
    """Both states are the same to the bit, now and after another step."""
    assert_equal(backend, loaded, state)
    assert_equal(backend, *(step(x, odd_tree(backend, "float32", 4)) for x in (loaded, state)))


def succeed(program: str, folder: Path) -> None:
    """Run a program in a process of its own, in that folder."""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False, cwd=folder)
    assert done.returncode == 0, done.stderr


def test_what_is_saved_is_loaded(backend: Backend, tmp_path: Path, dtype: str) -> None:
    names = ["adam-amsgrad", "diffmod"] if backend.name == "dask" else METHODS  # whose graphs take seconds
    for method in (METHODS[name] for name in names):
        state = filled(backend, method, dtype)
        save(state, tmp_path / "run")
        for like in (odd_tree(backend, dtype, 7), state):
            assert_equal(backend, load(tmp_path / "run", like), state)
        assert_equal(backend, convert(state, state), state)


RATES: list[Any] = [
    0.1 * schedules.untuned_linear(0.99) * schedules.cosine_decay(10, final=0.1),
    schedules.join((schedules.linear_warmup(3), schedules.step_decay((2, 5), 0.5)), boundaries=(3,)),
    {"matrix": 0.1, "number": schedules.constant(0.2), "nothing": 0.0, "left out": None, "deep": 1 / 3},
]


def test_rates_of_every_kind(backend: Backend, tmp_path: Path) -> None:
    decay = {"matrix": 0.5, "number": 0.25, "nothing": 0, "left out": None, "deep": [0.125, 0]}
    for lr in RATES:
        state = stepped(backend, Adam(), lr=lr, weight_decay=decay)
        save(state, tmp_path / "run")
        assert_goes_on_as(backend, load(tmp_path / "run", state.params), state)
        assert_equal(backend, convert(state, state.params), state)
        assert load(tmp_path / "run", state.params, lr=0.5).lr == 0.5
        prefix = {"matrix": 1, "number": 2, "nothing": 3, "left out": None, "deep": 4}
        assert load(tmp_path / "run", state.params, lr=prefix).lr == state.replace(lr=prefix).lr


def test_every_schedule_is_known(tmp_path: Path) -> None:
    given: dict[str, Any] = {"steps": 7.0, "beta2": 0.9, "tau": 3.0, "factor": 0.5, "value": 0.1}
    given["milestones"], given["boundaries"] = (2, 4), (3,)
    given["schedules"] = (schedules.constant(1), schedules.constant(2))
    names = [name for name in schedules.__all__ if name not in ("Schedule", "effective_warmup_period")]
    for cls in (getattr(schedules, name) for name in names):
        schedule = cls(**{each.name: given[each.name] for each in dataclasses.fields(cls) if each.name in given})
        save(adam_init(np.zeros(1), lr=schedule), tmp_path / "run")
        assert load(tmp_path / "run", np.zeros(1)).lr == schedule


def test_methods_by_branch(backend: Backend, tmp_path: Path) -> None:
    """Matched by paths: the order of leaves differs between containers."""
    methods = collections.OrderedDict(z=AdaMod(beta1=0.5), a=AdaMod(beta1=0.7))
    params = collections.OrderedDict(z=backend.array([1.0]), a=backend.array([2.0, 3.0]))
    state = init(methods, params, lr={"z": 1, "a": 2})
    save(state, tmp_path / "run")
    like = {"a": backend.array([0.0, 0.0]), "z": backend.array([0.0])}
    for loaded in (load(tmp_path / "run", like), convert(state, like), load(tmp_path / "run", like, method=methods)):
        assert [each.beta1 for each in loaded.method] == [0.7, 0.5] and tuple(loaded.lr) == (2, 1)
        assert backend.numpy(loaded.params["a"]).tolist() == [2, 3]
    for other in (AdaMod(beta1=0.5), {"z": AdaMod(beta1=0.5), "a": AdaMod()}):
        words = "method['a']: beta1 is 0.7 in the file, 0.9 in method=" if isinstance(other, dict) else "one for each"
        refuse(functools.partial(load, tmp_path / "run", like, method=other), words)


def test_nothing_is_shared(backend: Backend, tmp_path: Path) -> None:
    """A donated step of one leaves the others as they are."""
    if not backend.table["donates"]:
        pytest.skip("its arrays are never written")
    state = stepped(backend, Adam())
    save(state, tmp_path / "run")
    like = odd_tree(backend, "float32", 5)
    before = [bits(backend, x) for x in (state.params, state.slots, like)]
    others: list[State] = [convert(state, like), convert(state, state), load(tmp_path / "run", like)]
    for _ in range(2):
        others = [step(x, odd_tree(backend, "float32", 9), donate=True) for x in others]
    assert [bits(backend, x) for x in (state.params, state.slots, like)] == before
    assert all(x.step == 3 and bits(backend, x.slots) == bits(backend, others[0].slots) for x in others)


# what differs is named


def refuse(make: Callable[[], Any], *words: str, error: type[Exception] = CheckpointError) -> None:
    """The call fails, and says all of the words."""
    with pytest.raises(error) as caught:
        make()
    for word in words:
        assert word in str(caught.value), str(caught.value)


def test_leaves_that_differ(backend: Backend, tmp_path: Path) -> None:
    path = tmp_path / "run"
    state = adamod_init(tree(backend))
    save(state, path)
    array = backend.array

    def tries(like: Any, *words: str) -> None:
        refuse(lambda: load(path, like), str(path), *words)
        refuse(lambda: convert(state, like), "the state", *words)

    other = tree(backend)
    tries({**other, "c": array([1.0])}, "has no params['c']")
    tries({**other, "b": None}, "has params['b'], which like has not")
    tries({"B": other["b"], "layers": other["layers"]}, "has no params['B']; it has params['b']")
    tries({**other, "b": array([1.0, 2.0], "float64")}, "params['b'] is float32", "float64 in like")
    tries({**other, "b": array([1.0, 2.0], "complex64")}, "params['b'] is float32", "complex64 in like")
    turned = [{"w": array(values(3, 2))}, other["layers"][1]]
    tries({**other, "layers": turned}, "params['layers'][0]['w']", "(2, 3)", "(3, 2)")
    tries({**other, "b": array(1.0)}, "params['b'] has the shape (2,)", "() in like")
    tries(momentum_init(other), "is of AdaMod, like of Momentum")
    for nothing in ({**other, "b": "text"}, {**other, "b": 1.0}, {**other, "b": object()}):
        refuse(functools.partial(load, path, nothing), "like['b'] must be an array", error=TypeError)


def test_slots_that_differ(backend: Backend, tmp_path: Path) -> None:
    path = tmp_path / "run"
    state = adam_init(tree(backend))
    save(state, path)
    refuse(lambda: load(path, init(Adam(amsgrad=True), tree(backend))), "('m', 'v')", "('m', 'v', 'v_max')")
    wide = state.slots["m"] | {"b": backend.array([1.0, 2.0], "float64")}
    odd = state.replace(slots={**state.slots, "m": wide})
    refuse(lambda: load(path, odd), "m['b'] is float32", "float64 in like")
    save(odd, path)
    assert_same(backend, load(path, tree(backend)).slots["m"]["b"], wide["b"])


def test_methods_that_differ(backend: Backend, tmp_path: Path) -> None:
    path, params = tmp_path / "run", tree(backend)
    save(init(AdaMod(beta3=0.5), params), path)
    assert load(path, params, method=AdaMod(beta3=0.5)).method == AdaMod(beta3=0.5)
    refuse(lambda: load(path, params, method=Adam()), "method is AdaMod in the file, Adam in method=")
    refuse(lambda: load(path, params, method=AdaMod()), "beta3 is 0.5 in the file, 0.999 in method=")
    refuse(lambda: load(path, params, method=AdaMod(beta3=0.5, hold_idle=True)), "hold_idle is False")
    refuse(lambda: load(path, params, method={"layers": AdaMod(), "b": AdaMod()}), "one method for all leaves")
    refuse(lambda: load(path, params, method=AdaMod), "expected a method", error=TypeError)
    refuse(lambda: load(path, params, lr=-1), "lr must not be negative", error=ValueError)
    refuse(lambda: load(path, params, lr={"layers": 1}), "tree prefix", error=ValueError)


@dataclasses.dataclass(frozen=True)
class Own(Method):
    """A method that the package does not know."""

    factor: float = 1.0
    powers: tuple[int, ...] = (1, 2)
    limit: Any = float("inf")

    slots = ("v",)

    def rule(self, xp: Any, lr: Any, c: Any, g: Any, p: Any, v: Any) -> Any:
        return p - lr * self.factor * g, g


class OwnAdam(Adam):
    """A class of the user's, however little it adds."""


@dataclasses.dataclass(frozen=True)
class OwnSchedule(schedules.Schedule):
    """A schedule that the package does not know."""

    scale: float = 2.0

    def at(self, t: Any, math: Any) -> Any:
        return self.scale / t


def test_a_method_of_one_s_own(backend: Backend, tmp_path: Path) -> None:
    path = tmp_path / "run"
    state = stepped(backend, Own(factor=3, powers=(4,)))
    save(state, path)
    like = odd_tree(backend, "float32")
    refuse(lambda: load(path, like), f"'{__name__}.Own'", "load(..., method=...)")
    refuse(lambda: load(path, like, method=Own(powers=(4,))), "factor is 3.0 in the file, 1.0 in method=")
    refuse(lambda: load(path, like, method=Own(3, (5,))), "powers is [4] in the file, [5] in method=")
    refuse(lambda: load(path, like, method=Adam()), f"method is {__name__}.Own in the file, Adam")
    for loaded in (load(path, like, method=Own(3, (4,))), load(path, state), convert(state, like)):
        assert_goes_on_as(backend, loaded, state)
    save(init(OwnAdam(), like), path)
    refuse(lambda: load(path, like), "OwnAdam")
    refuse(lambda: load(path, adam_init(like)), "OwnAdam")
    assert type(load(path, like, method=OwnAdam()).method) is OwnAdam


def test_rates_of_one_s_own(backend: Backend, tmp_path: Path) -> None:
    path, params = tmp_path / "run", tree(backend)

    def halved(t: Any) -> Any:
        return 0.5 / t

    save(adam_init(params, lr=0.25), path)
    before = path.read_bytes()
    for lr in (halved, {"layers": 0.1, "b": halved}):
        state = adam_init(params, lr=lr)
        refuse(functools.partial(save, state, path), "lr", "halved", "load(..., lr=...)", error=TypeError)
    assert path.read_bytes() == before
    assert convert(adam_init(params, lr=halved), params).lr is halved
    for own in (OwnSchedule(3), 0.5 * OwnSchedule()):
        save(adam_init(params, lr=own), path)
        refuse(lambda: load(path, params), "OwnSchedule", "load(..., lr=...)")
        assert load(path, params, lr=own).lr == own


def test_spent_states_are_refused(backend: Backend, tmp_path: Path) -> None:
    if not backend.table["donates"]:
        pytest.skip("no state is spent")
    state = adam_init(tree(backend))
    adam_step(state, tree(backend, seed=3), donate=True)
    for use in (lambda: save(state, tmp_path / "run"), lambda: convert(state, tree(backend))):
        refuse(use, "", error=ValueError)
    assert not [*tmp_path.iterdir()]


# what other programs see


@pytest.mark.only("numpy")
def test_the_format_is_as_documented(tmp_path: Path) -> None:
    """Read with nothing but Python and NumPy, and with the library's own reader."""
    import hashlib
    import json

    from safetensors.numpy import load_file

    params: dict[str, Any] = {
        "w": np.asfortranarray(np.arange(6.0).reshape(2, 3)),
        "z": np.asarray([1 + 2j]),
        "n": None,
    }
    save(adam_init(params, lr=0.5 * schedules.constant(0.5)), tmp_path / "run")
    data = (tmp_path / "run").read_bytes()
    size = int.from_bytes(data[:8], "little")
    header = json.loads(data[8 : 8 + size])
    metadata = header.pop("__metadata__")
    assert metadata["sha256"] == hashlib.sha256(metadata["adamod_array"].encode()).hexdigest()
    constant = {"class": "constant", "fields": {"value": 0.5}}
    assert json.loads(metadata["adamod_array"]) == {
        "format": 1,
        "step": 0,
        "skipped": 0,
        "method": {
            "class": "Adam",
            "fields": {x.name: x.default for x in dataclasses.fields(Adam) if x.name != "compact"},
        },
        "lr": {"class": "product", "fields": {"a": constant, "b": constant}},
        "weight_decay": 0.0,
        "dtypes": {
            **{f"{root}['w']": "float64" for root in ("params", "m", "v")},
            **{f"{root}['z']": "complex128" for root in ("params", "m")},
            "v['z']": "float64",
        },
    }
    start, end = header["params['z']"]["data_offsets"]
    assert np.frombuffer(data[8 + size :][start:end], "<f8").tolist() == [1, 2]
    found = load_file(tmp_path / "run")
    assert found["params['w']"].tolist() == params["w"].tolist() and found["params['z']"].shape == (1, 2)


@pytest.mark.only("numpy")
def test_memory_order_and_byte_order_are_those_of_like(tmp_path: Path) -> None:
    state = adam_step(adam_init(values(3, 4).astype(">f4")), values(3, 4, seed=1).astype(">f4"))
    save(state, tmp_path / "run")
    wide = np.zeros((3, 8), np.float32)
    likes: list[Any] = [
        np.zeros((3, 4), ">f4"),
        np.zeros((4, 3), np.float32).T,
        wide[:, ::2],
        np.float32(0) + wide[:, :4],
    ]
    for like in likes:
        for loaded in (load(tmp_path / "run", like), convert(state, like)):
            assert loaded.params.dtype == like.dtype and loaded.params.flags.f_contiguous == like.flags.f_contiguous
            assert loaded.params.tolist() == state.params.tolist()
            assert loaded.slots["v"].tolist() == state.slots["v"].tolist()
            assert not np.shares_memory(loaded.params, wide)


@pytest.mark.only("numpy")
def test_arrays_are_read_one_at_a_time(tmp_path: Path) -> None:
    """Beside the state itself there is room for one array."""
    import tracemalloc

    like = {str(i): np.zeros((500, 500)) for i in range(6)}
    save(adam_init(like), tmp_path / "run")
    tracemalloc.start()
    try:
        loaded = load(tmp_path / "run", like)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    one = like["0"].nbytes
    assert loaded.step == 0 and 18 * one <= peak < 19.5 * one


@pytest.mark.only("numpy")
def test_two_leaves_of_one_path(tmp_path: Path) -> None:
    class Key:
        def __repr__(self) -> str:
            return "'w'"

    state = init(Momentum(), {Key(): np.zeros(1), Key(): np.zeros(1)})
    refuse(lambda: save(state, tmp_path / "run"), "params['w']", "same path", error=ValueError)


@pytest.mark.only("numpy")
def test_what_is_no_state(tmp_path: Path) -> None:
    things: list[Any] = [{"w": np.zeros(1)}, None]
    for thing in things:
        refuse(functools.partial(save, thing, tmp_path / "run"), "expected a State", error=TypeError)
        refuse(functools.partial(convert, thing, np.zeros(1)), "expected a State", error=TypeError)


@pytest.mark.only("numpy")
def test_no_framework_is_imported_and_no_library_needed(tmp_path: Path) -> None:
    program = (
        "import sys; sys.modules['safetensors'] = None\n"
        "import numpy as np, adamod_array as a\n"
        "from adamod_array.checkpoint import convert, load, save\n"
        "state = convert(a.adam_init(np.zeros(2)), np.zeros(2))\n"
        "for use in (lambda: save(state, 'run'), lambda: load('run', np.zeros(2))):\n"
        "    try: use()\n"
        "    except ImportError as error: assert 'adamod_array[checkpoint]' in str(error)\n"
        "    else: raise AssertionError\n"
        "assert not {'torch', 'jax', 'cupy', 'ml_dtypes'} & sys.modules.keys()\n"
    )
    succeed(program, tmp_path)


# frameworks


@pytest.mark.only("torch")
def test_parameters_of_pytorch(tmp_path: Path) -> None:
    """Tensors for load_state_dict, which require gradients where the parameters do; slots never."""
    import torch

    model = torch.nn.Sequential(torch.nn.Conv2d(2, 3, 2), torch.nn.Linear(2, 2))
    model[0].weight.data = model[0].weight.data.to(memory_format=torch.channels_last)
    model[1].bias.requires_grad_(False)
    params = dict(model.named_parameters())
    state = adam_init(params)
    state = adam_step(state, {name: torch.randn_like(p) for name, p in params.items()})
    save(state, tmp_path / "run")
    for loaded in (load(tmp_path / "run", params), convert(state, params)):
        found = loaded.params
        assert [p.requires_grad for p in found.values()] == [True, True, True, False]
        assert all(p.is_leaf for p in found.values())
        assert not any(x.requires_grad for slot in loaded.slots.values() for x in slot.values())
        assert found["0.weight"].is_contiguous(memory_format=torch.channels_last)
        assert found["0.weight"].untyped_storage().resizable()
        model.load_state_dict(found)
        assert all(torch.equal(p, state.params[name]) for name, p in model.named_parameters())
    lazy = {"z": torch.tensor([1 + 2j]).conj(), "n": torch.tensor([1 + 2j]).conj().imag}
    save(momentum_init(lazy), tmp_path / "run")
    found = load(tmp_path / "run", {"z": torch.zeros(1, dtype=torch.complex64), "n": torch.zeros(1)}).params
    assert (found["z"].item(), found["n"].item()) == (1 - 2j, -2)
    meta = torch.zeros(2, device="meta")
    refuse(lambda: save(momentum_init(meta), tmp_path / "run"), "meta device", error=ValueError)
    save(momentum_init(torch.zeros(2)), tmp_path / "run")
    refuse(lambda: load(tmp_path / "run", meta), "like", "meta device", error=ValueError)


@pytest.mark.only("torch")
def test_bfloat16_of_pytorch_without_ml_dtypes(tmp_path: Path) -> None:
    program = (
        "import sys; sys.modules['ml_dtypes'] = None\n"
        "import torch, adamod_array as a\n"
        "from adamod_array.checkpoint import convert, load, save\n"
        "x = torch.tensor([1.5, -2.0], dtype=torch.bfloat16)\n"
        "state = a.momentum_init(x)\n"
        "save(state, 'run')\n"
        "for y in (load('run', x), convert(state, x)): assert torch.equal(y.params, x), y\n"
    )
    succeed(program, tmp_path)


@pytest.mark.only("jax")
def test_jax_keeps_64_bits_or_says_so(tmp_path: Path) -> None:
    import jax
    import jax.numpy as jnp

    state = adam_init(jnp.arange(3.0), lr=0.5)
    slots = adam_init(jnp.arange(3.0, dtype="float32")).replace(slots=state.slots)
    save(state, tmp_path / "run")
    save(slots, tmp_path / "slots")
    with jax.enable_x64(False):
        narrow = jnp.zeros(3)
        refuse(lambda: load(tmp_path / "run", narrow), "params is float64", "float32 in like", "jax_enable_x64")
        refuse(lambda: load(tmp_path / "slots", narrow), "m is float64", "jax_enable_x64")
        refuse(lambda: convert(slots, narrow), "m is float64", "jax_enable_x64")
        for loaded in (load(tmp_path / "run", state), convert(state, state.params)):  # arrays of 64 bits are there
            assert loaded.params.dtype == loaded.slots["m"].dtype == "float64"
    assert load(tmp_path / "slots", narrow).slots["m"].dtype == "float64"


@pytest.mark.only("jax")
def test_traced_and_deleted_states(tmp_path: Path) -> None:
    import jax
    import jax.numpy as jnp

    def saved(state: State) -> Any:
        save(state, tmp_path / "run")
        return state

    state = adam_init(jnp.ones(2))
    refuse(lambda: jax.jit(saved)(state), "traced by JAX", error=ValueError)
    refuse(lambda: jax.jit(lambda s: convert(s, np.ones(2)).step)(state), "traced by JAX", error=ValueError)
    counted = jax.jit(adam_step)(state, jnp.ones(2))
    saved(counted)
    assert type(load(tmp_path / "run", state.params).step) is int
    state.params.delete()
    refuse(lambda: saved(state), "deleted", error=ValueError)


@pytest.mark.only("jax")
def test_shardings_are_those_of_like(tmp_path: Path) -> None:
    """In a process of its own with four devices."""
    program = (
        "import jax, jax.numpy as jnp, numpy as np, adamod_array as a\n"
        "from jax.sharding import NamedSharding, PartitionSpec as P\n"
        "from adamod_array.checkpoint import convert, load, save\n"
        "mesh = jax.make_mesh((2, 2), ('x', 'y'))\n"
        "by = lambda *axes: NamedSharding(mesh, P(*axes))\n"
        "x = np.arange(32, dtype='float32').reshape(4, 8)\n"
        "state = a.adam_step(a.adam_init(jax.device_put(x, by('x', 'y'))), jax.device_put(x, by('x', 'y')))\n"
        "save(state, 'run')\n"
        "likes = [jax.device_put(x, s) for s in (by(), by('y'), by(None, 'x'), jax.devices()[2])]\n"
        "likes.append(state.replace(slots={k: jax.device_put(s, by('y')) for k, s in state.slots.items()}))\n"
        "for like in likes:\n"
        "    for found in (load('run', like), convert(state, like)):\n"
        "        slots = like.slots['m'].sharding if isinstance(like, a.State) else like.sharding\n"
        "        assert found.slots['m'].sharding == slots, (found.slots['m'].sharding, slots)\n"
        "        assert found.params.sharding == getattr(like, 'params', like).sharding\n"
        "        assert np.array_equal(found.params, state.params)\n"
        "        assert np.array_equal(found.slots['v'], state.slots['v'])\n"
        "assert not load('run', jnp.zeros((4, 8))).params.committed\n"
        "assert isinstance(load('run', x).params, np.ndarray)\n"
    )
    env = {**os.environ, "XLA_FLAGS": "--xla_force_host_platform_device_count=4"}
    command = [sys.executable, "-c", program]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=tmp_path, env=env)
    assert done.returncode == 0, done.stderr


@pytest.mark.slow
@pytest.mark.only("torch", "jax")
def test_arrays_of_several_processes(tmp_path: Path, pytestconfig: pytest.Config) -> None:
    """Are made where ``like`` has them, and not saved by one that lacks a part."""
    name = pytestconfig.getoption("--backend")
    x = np.arange(10.0, dtype="float32").reshape(5, 2)
    save(adam_init(x), tmp_path / "run")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = str(probe.getsockname()[1])
    command = [sys.executable, "-m", "tests.processes", name]
    processes = [
        subprocess.Popen(
            [*command, str(rank), port, str(tmp_path / "run")],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd=Path(__file__).parent.parent,
        )
        for rank in range(2)
    ]
    try:
        ended = [process.communicate(timeout=120) for process in processes]
    finally:
        for process in processes:
            process.kill()
    for process, (told, errors) in zip(processes, ended, strict=True):
        assert process.returncode == 0, errors
        words = "params is a DTensor" if name == "torch" else "params lies with other processes"
        assert told and all(words in line and "gather it first" in line for line in told.splitlines()), told
    assert not (tmp_path / "never").exists()
