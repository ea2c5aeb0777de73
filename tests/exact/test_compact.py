"""Compact slots in JAX's programs: own calls, the user's jit, vmap, and eight devices have the bits of NumPy's rule."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap

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
with engine("eager"):
    expected = start(host[5])
    for g in host[:5]:
        expected = step(expected, g)

def same(state, text):
    for name in ("m", "v", "s"):
        for key in host[0]:
            found = np.asarray(state.slots[name][key])
            assert found.tobytes() == expected.slots[name][key].tobytes(), (text, name, key)
    for key in host[0]:
        assert np.asarray(state.params[key]).tobytes() == expected.params[key].tobytes(), (text, key)

def run(take, put, text):
    state = start(put(host[5]))
    for g in host[:5]:
        state = take(state, put(g))
    assert int(state.step) == 5
    same(state, text)

donated = functools.partial(step, donate=True)
jitted = jax.jit(step)
run(step, jax.device_put, "own call")
run(donated, jax.device_put, "own call, donated")
run(jitted, jax.device_put, "jit")
n = jax.device_count()
for kind in (AxisType.Auto, AxisType.Explicit):
    mesh = jax.make_mesh((n // 2, 2), ("x", "y"), (kind, kind))
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
@pytest.mark.parametrize("devices", [2, 8])
def test_programs_have_the_bits_of_the_rule(devices: int) -> None:
    env = {**os.environ, "XLA_FLAGS": f"--xla_force_host_platform_device_count={devices}", "JAX_PLATFORMS": "cpu"}
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(PROGRAM)], env=env, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-2000:]
