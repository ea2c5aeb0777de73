"""Compact slots in JAX's programs: own calls, the user's jit, vmap, and eight devices have the bits of NumPy's rule."""

from __future__ import annotations

import os
import socket
import subprocess
import sys

import pytest

from tests.backend import is_here

PROGRAM = """
import functools
import jax, numpy as np
from jax.sharding import AxisType, NamedSharding, PartitionSpec as P
import adamod_array as aa
from adamod_array import AdaMod, engine, init, step, _engines

rng = np.random.default_rng(0)
host = [{"w": rng.normal(size=(16, 8)).astype("float32"), "b": rng.normal(size=8).astype("float32"),
         "c": rng.normal(size=(1, 32, 3)).astype("float32")} for _ in range(6)]
start = functools.partial(init, AdaMod(), lr=0.1, slot_dtype="bfloat16")

def after(steps, take=step, put=lambda tree: tree):
    state, grads = start(put(host[5])), [*map(put, host[:5])]
    for t in range(steps):
        state = take(state, grads[t % 5])
    assert int(state.step) == steps
    return state

with engine("eager"):
    expected = {steps: after(steps) for steps in (5, 1000)}

def run(take, put, text, steps=5):
    state, rule = after(steps, take, put), expected[steps]
    for name, tree in {"params": state.params, **state.slots}.items():
        for key, wanted in rule.slots.get(name, rule.params).items():
            assert np.asarray(tree[key]).tobytes() == wanted.tobytes(), (text, steps, name, key)

donated = functools.partial(step, donate=True)
jitted = jax.jit(step)
run(step, jax.device_put, "own call")
run(donated, jax.device_put, "own call, donated", 1000)
run(jitted, jax.device_put, "jit", 1000)
n = jax.device_count()
mesh = jax.make_mesh((n,), ("x",))
sharded = {key: NamedSharding(mesh, P("x" if key == "w" else None)) for key in host[0]}
for take in (donated, jitted):
    run(take, lambda tree: jax.device_put(tree, sharded), "a mesh", 1000)
for kind in (AxisType.Auto, AxisType.Explicit):
    mesh = jax.make_mesh((-(-n // 2), min(n, 2)), ("x", "y"), (kind, kind))
    for specs in (
        (P("x"), P(), P(None, "x")), (P(("x", "y")), P("y"), P(None, ("y", "x"))), (P("y", "x"), P("x"), P())
    ):
        placed = dict(zip("wbc", (NamedSharding(mesh, each) for each in specs)))
        for take, text in ((donated, "own call"), (jitted, "jit")):
            run(take, lambda tree: jax.device_put(tree, placed), (text, n, str(kind), specs))

# a lane of vmap counts its own elements
lanes = jax.vmap(lambda p, g: step(start(p), g))(*({k: np.stack([x[k]] * 3) for k in x} for x in (host[5], host[0])))
with engine("eager"):
    one = step(start(host[5]), host[0])
for k in range(3):
    assert np.asarray(lanes.slots["s"]["w"][k]).tobytes() == one.slots["s"]["w"].tobytes()
assert not _engines.passed_over, _engines.passed_over
"""


@pytest.mark.skipif(not is_here("jax"), reason="jax is not installed")
@pytest.mark.parametrize("devices", [pytest.param(1, marks=pytest.mark.slow), 8])
def test_programs_have_the_bits_of_the_rule(devices: int) -> None:
    env = {**os.environ, "XLA_FLAGS": f"--xla_force_host_platform_device_count={devices}", "JAX_PLATFORMS": "cpu"}
    done = subprocess.run([sys.executable, "-c", PROGRAM], env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]


PROCESS = """
import os, sys
import numpy as np, torch
from torch.distributed.tensor import Replicate, Shard, distribute_tensor, init_device_mesh
from adamod_array import Momentum, engine, init, step

os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT=sys.argv[2], RANK=sys.argv[1], WORLD_SIZE="2")
torch.distributed.init_process_group("gloo")
mesh, generator = init_device_mesh("cpu", (2,)), torch.Generator().manual_seed(0)
host = [{"w": torch.randn(5, 3, generator=generator), "b": torch.randn(1, 6, generator=generator)} for _ in range(4)]

def run(how, put):
    with engine(how):
        state = init(Momentum(nesterov=True), {k: put(k, x) for k, x in host[3].items()}, 0.1, slot_dtype="bfloat16")
        for g in host[:3]:
            state = step(state, {k: put(k, x) for k, x in g.items()})
    return [getattr(x, "full_tensor", lambda: x)() for tree in (state.params, state.slots["m"]) for x in tree.values()]

expected = run("eager", lambda k, x: x)
for places in ({"w": Shard(0), "b": Shard(1)}, {"w": Replicate(), "b": Replicate()}):
    for how in ("auto", "eager", "foreach"):
        found = run(how, lambda k, x: distribute_tensor(x, mesh, [places[k]]))
        assert all(map(torch.equal, found, expected)), (places, how)
try:
    init(Momentum(), distribute_tensor(host[0]["w"], mesh, [Shard(1)]), slot_dtype="bfloat16")
except TypeError as error:
    assert "params must be sharded along its first axis, or replicated" in str(error), error
else:
    raise AssertionError("parts that are no range were taken")
torch.distributed.destroy_process_group()
"""


@pytest.mark.skipif(not is_here("torch"), reason="torch is not installed")
def test_dtensors_have_the_bits_of_the_rule() -> None:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port = str(found.getsockname()[1])
    command = [sys.executable, "-c", PROCESS]
    pair = [subprocess.Popen([*command, str(rank), port], stderr=subprocess.PIPE, text=True) for rank in range(2)]
    errors = [process.communicate()[1] for process in pair]
    assert [process.returncode for process in pair] == [0, 0], "\n".join(errors)[-3000:]
