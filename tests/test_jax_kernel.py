"""JAX: the kernel as a part of the user's program on the CPU, and the programs that go without it."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from adamod_array import Adam, AdaMod, Method, Momentum, RAdam, State, adamod_init, adamod_step, engine, init, step
from tests.compare import assert_close

pytestmark = pytest.mark.only("jax")
jax = pytest.importorskip("jax")
pytest.importorskip("numba")
from adamod_array._engines import xla_ffi_handler  # noqa: E402 - which needs Numba

jnp = jax.numpy

MESH, SPEC = jax.sharding.Mesh(np.array(jax.devices()[:1]), ("x",)), jax.sharding.PartitionSpec
METHODS = [Adam(amsgrad=True), AdaMod(), RAdam(), Momentum(nesterov=True)]
KERNEL = 'custom_call_target="adamod_array_'


def compiled(function: Any, *arguments: Any, donated: tuple[int, ...] = ()) -> Any:
    """The program that XLA runs."""
    return jax.jit(function, donate_argnums=donated).lower(*arguments).compile()


def kernels(function: Any, *arguments: Any) -> int:
    """How often the program calls a kernel."""
    text: str = compiled(function, *arguments).as_text()
    return text.count(KERNEL)


def assert_equal(actual: State, expected: State) -> None:
    """All bits of two states, whose counts may be an int and an array."""
    pairs = zip(jax.tree.leaves(actual), jax.tree.leaves(expected), strict=True)
    for a, e in pairs:
        assert_close(np.asarray(a), np.asarray(e))


@pytest.mark.parametrize("method", METHODS, ids=repr)
def test_a_donated_step_is_one_call_in_the_arrays_themselves(method: Method) -> None:
    """No copy, no temporary: within a program that computes the gradient, too."""

    def train(state: State, x: Any) -> State:
        grads = jax.grad(lambda p: jnp.sum(jnp.tanh(p["w"] * x) ** 2) + jnp.sum(p["b"] ** 4))(state.params)
        return step(state, grads)

    x = jnp.linspace(0, 1, 200_000, dtype="float32")
    state = init(method, {"w": x, "b": x[:3]})
    program = compiled(train, state, x, donated=(0,))
    memory, size = program.memory_analysis(), (1 + len(method.slots)) * (x.nbytes + 12)
    assert program.as_text().count(KERNEL) == 1
    assert memory.alias_size_in_bytes >= size
    assert memory.temp_size_in_bytes < 1.1 * x.nbytes  # the gradient


@pytest.mark.parametrize("n", [1000, 300_000])
def test_what_is_not_donated_still_stands(n: int) -> None:
    """The kernel writes in place: XLA must copy what the caller keeps, and what the program reads once more."""
    rng = np.random.default_rng(0)
    params, grads = (jnp.asarray(rng.normal(size=n), "float32") for _ in range(2))
    state = adamod_step(adamod_init(params), grads)
    before = [np.array(x, copy=True) for x in jax.tree.leaves(state)]
    new, old = jax.jit(lambda s, g: (step(s, g), s.params + s.slots["s"]))(state, grads)
    for x, kept in zip(jax.tree.leaves(state), before, strict=True):
        assert_close(np.asarray(x), kept)
    assert_close(old, state.params + state.slots["s"])
    assert_equal(new, step(state, grads))
    twice, gradient = jax.jit(lambda s: (step(s, s.params), s.params))(state)  # the gradient is what is written
    assert_equal(twice, step(state, state.params))
    assert_close(gradient, state.params)


def test_one_call_for_each_storage_dtype_beside_threads_of_xlas() -> None:
    """Enough elements for threads, in two kernels that depend on nothing of each other's."""
    params = {dtype: jnp.ones(300_000, dtype) for dtype in ("float32", "bfloat16", "float16")}
    start = init(AdaMod(), params, {"float32": 1e-2, "bfloat16": 1e-1, "float16": 1e-3}, weight_decay=0.1)
    assert kernels(step, start, params) == 3
    ours = theirs = start
    for _ in range(5):
        ours, theirs = step(ours, params), jax.jit(step)(theirs, params)
        assert_equal(theirs, ours)


def test_loops_call_it_in_place() -> None:
    start = step(init(Adam(), jnp.ones(100_000)), jnp.ones(100_000))
    start = jax.tree.map(jnp.asarray, start)

    def scan(state: State, grads: Any) -> State:
        last: State
        last, _ = jax.lax.scan(lambda s, g: (step(s, g), None), state, grads)
        return last

    program = compiled(scan, start, jnp.ones((5, 100_000)), donated=(0,))
    assert program.as_text().count(KERNEL) == 1
    assert program.memory_analysis().temp_size_in_bytes < 1.1 * start.params.nbytes  # the gradient of the turn


def on_mesh(x: Any) -> Any:
    """An array whose type says that it is spread over a mesh (of one device)."""
    spec = SPEC("x") if jnp.ndim(x) else SPEC()
    return jax.reshard(x, jax.NamedSharding(jax.make_mesh((1,), ("x",), (jax.sharding.AxisType.Explicit,)), spec))


WITHOUT: dict[str, Callable[[State, Any], Any]] = {
    "vmap": lambda s, g: jax.vmap(step)(jax.tree.map(lambda x: jnp.stack([jnp.asarray(x)] * 2), s), jnp.stack([g] * 2)),
    "vmap over rates": lambda s, g: jax.vmap(lambda lr: step(s, g, lr=lr))(jnp.asarray([0.1, 0.2])),
    "derivative": lambda s, g: jax.grad(lambda lr: step(s, g, lr=lr).params.sum())(0.1),
    "map of derivatives": lambda s, g: jax.vmap(jax.grad(lambda lr: step(s, g, lr=lr).params.sum()))(jnp.ones(2)),
    "derivative of a map": lambda s, g: jax.jacfwd(
        lambda lr: jax.vmap(lambda k: step(s, g, lr=k * lr).params)(jnp.asarray([1.0, 2.0]))
    )(0.1),
    "shard_map": lambda s, g: jax.shard_map(
        lambda g: step(s, g).params, mesh=MESH, in_specs=SPEC("x"), out_specs=SPEC("x")
    )(g),
}


@pytest.mark.parametrize("way", WITHOUT.values(), ids=WITHOUT)
def test_what_knows_nothing_of_kernels_gets_the_rule(way: Callable[[State, Any], Any]) -> None:
    """And the same numbers, under the engine that has no kernel."""
    grads = jnp.asarray([1.0, -2.0, 0.5])
    state = step(init(AdaMod(), grads), grads)
    assert kernels(way, state, grads) == 0
    actual = jax.jit(way)(state, grads)
    with engine("jit"):
        expected = jax.jit(way)(state, grads)
    for a, e in zip(jax.tree.leaves(actual), jax.tree.leaves(expected), strict=True):
        assert_close(a, e)


def test_parts_that_devices_have_are_stepped_by_the_kernel() -> None:
    """Inside of pmap; of more devices than one: ``tests/scale``."""
    grads = jnp.asarray([1.0, -2.0, 0.5])
    state = init(AdaMod(), grads)
    mapped = jax.pmap(lambda g: step(state, g).params)
    assert kernels(mapped, grads[None]) == 1
    assert_close(mapped(grads[None])[0], step(state, grads).params)


def test_types_that_name_a_mesh_are_kept() -> None:
    params = on_mesh(jnp.ones(4))
    assert kernels(step, init(Adam(), params), params) == 1
    for take in (step, jax.jit(step)):
        new = take(init(Adam(), params), params)
        for x in (new.params, new.slots["v"]):
            assert jax.typeof(x) == jax.typeof(params)


def test_an_engine_is_another_program() -> None:
    """JAX knows that what it traced under another engine is not what is asked for now."""
    state, jitted = init(Adam(), jnp.ones(3)), jax.jit(step)
    for name, calls in (("auto", 1), ("jit", 0), ("numba", 1), ("eager", 0), ("auto", 1)):
        with engine(name):
            assert jitted.lower(state, jnp.ones(3)).as_text().count("adamod_array_") == calls, name


def test_denormals_are_kept() -> None:
    """As NumPy and PyTorch keep them; XLA's own loops flush them."""
    grads = np.full(100, 1e-38, "float32")
    state = init(Momentum(beta=0.5), jnp.zeros(100, "float32"), lr=0.25)
    kept = jax.jit(step)(state, jnp.asarray(grads))
    with engine("eager"):
        expected = step(init(Momentum(beta=0.5), np.zeros(100, "float32"), lr=0.25), grads)
    assert (np.asarray(kept.params) != 0).all()
    assert_close(np.asarray(kept.params), expected.params)
    with engine("jit"):
        assert not np.asarray(jax.jit(step)(state, jnp.asarray(grads)).params).any()


def test_programs_for_other_platforms_and_for_export() -> None:
    """An exported program may run anywhere: JAX refuses to write down a call of a kernel of this process."""

    def train(p: Any, g: Any) -> Any:
        return step(init(AdaMod(), p), g).params

    x = jnp.ones(3)
    assert "adamod_array_" in jax.jit(train).lower(x, x).as_text()
    assert "adamod_array_" not in jax.jit(train).trace(x, x).lower(lowering_platforms=("cuda",)).as_text()
    with pytest.raises(ValueError, match="adamod_array_"):
        jax.export.export(jax.jit(train))(x, x)
    with engine("jit"):
        exported = jax.export.export(jax.jit(train), platforms=("cpu", "cuda"))(x, x)
    assert_close(exported.call(x, x), train(x, x))
    (size,) = jax.export.symbolic_shape("size")
    shape = jax.ShapeDtypeStruct((size,), x.dtype)
    any_size = jax.export.export(jax.jit(train))(shape, shape)
    assert_close(any_size.call(x, x), train(x, x))


def test_programs_kept_on_disk_call_the_kernel_they_were_made_for(tmp_path: Path) -> None:
    """JAX finds them by their text, in which kernels are names: numbers would be other kernels in the next process."""
    code = """
    import sys, jax, jax.numpy as jnp, numpy as np
    from adamod_array import Adam, AdaMod, Momentum, init, step
    methods = {"Adam": Adam(), "AdaMod": AdaMod(), "Momentum": Momentum()}
    for name in sys.argv[1:]:
        state = init(methods[name], jnp.arange(3.0), lr=0.1)
        for _ in range(3):
            state = jax.jit(step)(state, jnp.arange(3.0))
            state = step(state, jnp.arange(3.0))
        print(name, np.asarray(state.params).tobytes().hex())
    """

    def run(*names: str) -> list[str]:
        environment = {
            **os.environ,
            "JAX_COMPILATION_CACHE_DIR": str(tmp_path),
            "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
            "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": "-1",
        }
        command = [sys.executable, "-c", textwrap.dedent(code), *names]
        done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
        assert done.returncode == 0, done.stderr
        return sorted(done.stdout.splitlines())

    first = run("Adam", "AdaMod", "Momentum")
    files = len(list(tmp_path.iterdir()))
    assert files
    assert run("Momentum", "AdaMod", "Adam") == first
    assert len(list(tmp_path.iterdir())) == files  # all of them were found


@pytest.mark.skipif(shutil.which("g++") is None, reason="no C++ compiler reads JAX's headers")
def test_the_structs_are_those_of_jaxs_headers(tmp_path: Path) -> None:
    """Where the handler looks for arguments and results is where jaxlib's own header puts them."""
    offsets = {
        "_EXTENSION": "offsetof(XLA_FFI_CallFrame, extension_start)",
        "_COUNT": "offsetof(XLA_FFI_CallFrame, args) + offsetof(XLA_FFI_Args, size)",
        "_ARGS": "offsetof(XLA_FFI_CallFrame, args) + offsetof(XLA_FFI_Args, args)",
        "_RETS": "offsetof(XLA_FFI_CallFrame, rets) + offsetof(XLA_FFI_Rets, rets)",
        "_DATA": "offsetof(XLA_FFI_Buffer, data)",
        "_RANK": "offsetof(XLA_FFI_Buffer, rank)",
        "_DIMS": "offsetof(XLA_FFI_Buffer, dims)",
        "_METADATA": "offsetof(XLA_FFI_Metadata_Extension, metadata)",
        "_VERSION": "offsetof(XLA_FFI_Metadata, api_version) + offsetof(XLA_FFI_Api_Version, major_version)",
    }
    lines = [f"static_assert({text} == {getattr(xla_ffi_handler, name)}, {name!r});" for name, text in offsets.items()]
    lines.append('static_assert(offsetof(XLA_FFI_Api_Version, minor_version) == sizeof(int) + 16, "minor");')
    major, minor = xla_ffi_handler._API_VERSION & 0xFFFFFFFF, xla_ffi_handler._API_VERSION >> 32
    lines.append(f'static_assert(XLA_FFI_API_MAJOR == {major} && XLA_FFI_API_MINOR >= {minor}, "version");')
    program = ["#include <cstddef>", '#include "xla/ffi/api/c_api.h"', *lines]
    (tmp_path / "offsets.cc").write_text("\n".join(program).replace("'", '"'))
    command = ["g++", "-std=c++17", "-fsyntax-only", f"-I{jax.ffi.include_dir()}", str(tmp_path / "offsets.cc")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
