"""JAX: what flags, threads, reloads, devices and missing names do to a step: nothing, or a clear error."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
import textwrap
import threading
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from adamod_array import Adam, AdaMod, Method, Momentum, RAdam, State, engine, init, schedules, step
from adamod_array._coefficients import coefficients_at, next_step
from tests.compare import assert_close

pytestmark = pytest.mark.only("jax")
jax = pytest.importorskip("jax")
jnp = jax.numpy

METHODS = [Adam(amsgrad=True), AdaMod(), RAdam(), Momentum(nesterov=True)]
ENGINES = ("eager", "jit") if importlib.util.find_spec("numba") is None else ("auto",)
"""What serves where Numba is not, as written and compiled; or by its kernels."""


def python(code: str, *arguments: str, **environment: str) -> str:
    """What a fresh interpreter prints."""
    command = [sys.executable, "-W", "error", "-c", textwrap.dedent(code), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, **environment}, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def in_a_thread(function: Callable[[], Any]) -> Any:
    """The result of a thread, in which JAX's flags are the process's."""
    found: list[Any] = []
    thread = threading.Thread(target=lambda: found.append(function()))
    thread.start()
    thread.join()
    assert found, "the thread raised"
    return found[0]


def assert_same(actual: Any, expected: Any) -> None:
    """All bits and dtypes of two trees of arrays, and the numbers of step counts, whose dtype is the flag's to say."""
    for a, e in zip(jax.tree.leaves(actual), jax.tree.leaves(expected), strict=True):
        a, e = np.asarray(a), np.asarray(e)
        assert a.dtype == e.dtype or (a.dtype.kind, e.dtype.kind) == ("i", "i")
        assert_close(a, e)


def copied(state: State) -> State:
    """A state whose arrays are its own, to be donated."""
    copy: State = jax.tree.map(lambda x: x if isinstance(x, int) else jnp.array(x, copy=True), state)
    return copy


# The flag


def scanned(state: State, gradient: Any) -> Any:
    return jax.lax.scan(lambda s, g: (step(s, g), None), state, jnp.stack([gradient] * 3))[0]


WAYS: dict[str, Callable[[State, Any], Any]] = {
    "step": step,
    "donated": lambda s, g: step(s, g, donate=True),
    "schedule": lambda s, g: step(s, g, lr=schedules.cosine_decay(10)),
    "array": lambda s, g: step(s, g, lr=jnp.asarray(0.5, "float32")),
    "jit": lambda s, g: jax.jit(step)(s, g),
    "jit, then not": lambda s, g: step(jax.jit(step)(s, g), g),
    "checkpoint": lambda s, g: jax.jit(jax.checkpoint(step))(s, g),
    "scan": scanned,
    "jitted scan": lambda s, g: jax.jit(scanned)(s, g),
    "vmap": lambda s, g: jax.vmap(lambda g: step(s, g).params)(jnp.stack([g, g])),
    "jitted vmap": lambda s, g: jax.jit(jax.vmap(lambda g: step(s, g).params))(jnp.stack([g, g])),
    "jvp": lambda s, g: jax.jvp(lambda g: step(s, g).params, (g,), (g,)),
    "jitted jvp": lambda s, g: jax.jit(lambda g: jax.jvp(lambda g: step(s, g).params, (g,), (g,)))(g),
    "vjp": lambda s, g: jax.vjp(lambda g: step(s, g).params, g)[1](s.params),
    "jitted vjp": lambda s, g: jax.jit(lambda g: jax.vjp(lambda g: step(s, g).params, g)[1](s.params))(g),
}


@pytest.mark.slow
@pytest.mark.parametrize("how", ENGINES)
@pytest.mark.parametrize("dtypes", [("float64",) * 2, ("float32",) * 2, ("float32", "float64"), ("complex128",) * 2])
def test_a_state_keeps_its_dtypes_whatever_the_flag_says(dtypes: tuple[str, str], how: str) -> None:
    """Parameters and gradients of these dtypes, made while the flag, which each thread has, was another."""
    with jax.enable_x64(True), engine(how):
        params, grads = (jnp.asarray([0.3, -2.0, 1e-3]).astype(dtype) for dtype in dtypes)
        start = init(AdaMod(), params, weight_decay=0.1)
    for name, way in WAYS.items():
        if name.endswith("vjp") and dtypes[0] == "complex128":
            continue  # JAX's own products of complex128 have no derivative where the flag is off
        found = []
        for flag in (True, False):
            with jax.enable_x64(flag), engine(how):
                found.append(way(copied(start) if name == "donated" else start, grads))
        try:
            assert_same(found[1], found[0])
        except AssertionError as error:
            raise AssertionError(f"{name}: {error}") from None
    with jax.enable_x64(False):
        assert init(AdaMod(), params).slots["m"].dtype == start.slots["m"].dtype
        mixed = init(AdaMod(), {"wide": params, "narrow": jnp.ones(3, "bfloat16")})
        assert step(mixed, {"wide": grads, "narrow": jnp.ones(3, "bfloat16")}).params["wide"].dtype == dtypes[0]


@pytest.mark.parametrize("how", ENGINES)
def test_a_nan_that_the_user_looks_for_is_an_error_of_the_step(how: str) -> None:
    """And of nothing else: no kernel is given up for it, and the state stays as it was."""
    from adamod_array import _engines

    before = {*_engines.passed_over}
    for name in ("step", "donated", "jit"):
        start = init(Momentum(), jnp.ones(2))
        with engine(how), jax.debug_nans(True):
            with pytest.raises(FloatingPointError, match="nan"):
                WAYS[name](start, jax.device_put(np.asarray([1.0, np.nan])))
            assert WAYS[name](start, jnp.ones(2)).params.tolist() == [1 - 1e-3] * 2
    assert {*_engines.passed_over} == before


def test_a_worker_thread_steps_a_state_of_float64() -> None:
    """Where the process has x64 off, and one thread on."""
    python(
        """
        import threading, jax, jax.numpy as jnp, numpy as np
        from adamod_array import Adam, init, step
        with jax.enable_x64(True):
            x = jnp.asarray([1.0, -2.0])
            start = init(Adam(), x)
            expected = step(step(start, x), x)
        found = []
        worker = threading.Thread(target=lambda: found.append(step(step(start, x), x, donate=True)))
        worker.start()
        worker.join()
        assert found[0].params.dtype == "float64"
        np.testing.assert_array_equal(np.asarray(found[0].params), np.asarray(expected.params))
        """,
        JAX_ENABLE_X64="0",
    )


# The step count


INTEGERS = ("int8", "uint8", "int16", "uint16", "int32", "uint32", "int64", "uint64")


@pytest.mark.parametrize("flag", [True, False])
@pytest.mark.parametrize("dtype", INTEGERS)
def test_a_step_count_ends_at_its_largest_number(dtype: str, flag: bool) -> None:
    last = np.iinfo(dtype).max
    with jax.enable_x64(True):
        counts = [jnp.asarray(last - 1, dtype), jnp.asarray(last, dtype)]
    with jax.enable_x64(flag):
        for take in (next_step, jax.jit(next_step)):
            for t in counts:
                assert take(t).dtype == dtype
                assert np.asarray(take(t)) == last
    assert next_step(2**31 - 1) == 2**31


@pytest.mark.slow
@pytest.mark.parametrize("method", METHODS, ids=repr)
def test_steps_past_the_last_one_are_finite(method: Method) -> None:
    """With the coefficients of that step, and a schedule's rate."""
    x = jnp.asarray([1.0, -2.0], "float32")
    lr = 1e-2 * schedules.radam_warmup() * schedules.inverse_sqrt(100)
    start = step(init(method, x, lr), x)
    for dtype in INTEGERS:
        last = np.iinfo(dtype).max
        late = jax.tree.unflatten(
            jax.tree.structure(start), [*jax.tree.leaves(start)[:-2], jnp.asarray(last, dtype), 0]
        )
        for take in (step, jax.jit(step)):
            new = take(late, x)
            assert np.asarray(new.step) == last
            assert all(np.isfinite(np.asarray(leaf)).all() for leaf in jax.tree.leaves(new))
        for of_array, of_int in zip(
            coefficients_at(method, late.step), coefficients_at(method, int(last)), strict=True
        ):
            assert_close(np.asarray(of_array), np.asarray(of_int), ulp=4)


# Threads, and the module imported again


@pytest.mark.slow
def test_first_steps_in_threads_and_after_reloads() -> None:
    """A name is registered with XLA once, and what XLA calls by it is kept, whatever becomes of the module."""
    python(
        """
        import gc, importlib, sys, threading
        import jax, jax.numpy as jnp, numpy as np

        def first_steps():
            from adamod_array import Adam, AdaMod, engine, init, step
            found, errors = [], []
            barrier = threading.Barrier(6)
            def run(method):
                try:
                    barrier.wait()
                    with engine("numba"):
                        state = init(method, jnp.ones(3))
                        for _ in range(2):
                            state = jax.jit(step)(step(state, jnp.ones(3)), jnp.ones(3))
                    found.append((repr(method), np.asarray(state.params).tobytes()))
                except BaseException as error:
                    errors.append(error)
            threads = [threading.Thread(target=run, args=(m,)) for m in (Adam(), AdaMod()) for _ in range(3)]
            [t.start() for t in threads]
            [t.join() for t in threads]
            assert not errors, errors
            assert not importlib.import_module("adamod_array._engines").passed_over
            return set(found)

        first = first_steps()
        assert len(first) == 2
        from adamod_array import Adam, init, step
        old = jax.jit(step).lower(init(Adam(), jnp.ones(3)), jnp.ones(3)).compile()
        for name in [name for name in sys.modules if name.startswith("adamod_array._engines.")]:
            if name.rpartition(".")[2] in ("jax", "xla", "ffi", "handler", "fence"):
                importlib.reload(sys.modules[name])
        assert first_steps() == first
        state = init(Adam(), jnp.ones(3))
        for name in [name for name in sys.modules if name.partition(".")[0] == "adamod_array"]:
            del sys.modules[name]
        del step
        gc.collect()
        assert first_steps() == first
        np.testing.assert_array_equal(np.asarray(old(state, jnp.ones(3)).params), np.float32(0.999))
        """
    )


# What JAX or Numba may not have


ABSENT = (
    "jax.make_user_context",
    "jax.typeof",
    "jax.core.Tracer",
    "jax.custom_batching",
    "jax.custom_batching.custom_vmap",
    "jax.lax.platform_dependent",
    "jax.ffi",
    "jax.ffi.ffi_call",
    "jax.ffi.register_ffi_target",
    "jax.ffi.pycapsule",
    "numba.cfunc",
    "numba.get_num_threads",
)
FREE = ("jax.make_user_context", "jax.core.Tracer")
"""What the kernels are called without."""

STEPS = """
    import importlib, sys
    import jax, jax.numpy as jnp, numba, numpy as np
    for name in sys.argv[1:]:
        module, _, attribute = name.rpartition(".")
        delattr(importlib.import_module(module), attribute)
        sys.modules.pop(name, None)
    from adamod_array import AdaMod, engine, init, step
    from adamod_array._engines import passed_over as broken

    def print_arrays(tree):
        print(*(hash(np.asarray(x).tobytes()) for x in jax.tree.leaves(tree)))

    x = {"a": jnp.linspace(-1, 1, 7), "b": jnp.linspace(1, 2, 200_000)}
    state = jitted = init(AdaMod(), x, weight_decay=0.1)
    for _ in range(2):
        state, jitted = step(state, x), jax.jit(step)(jitted, x)
        print_arrays((state.params, state.slots, jitted.params))
    print_arrays(jax.vmap(lambda lr: step(jitted, x, lr=lr).params)(jnp.ones(2)))
    with engine("jit"):
        print_arrays(jax.jit(step)(jitted, x).params)
    print_arrays(step(state, x, donate=True).params)
    print(list(broken))
"""


def test_what_is_missing_costs_no_step() -> None:
    """Each name deleted before the first step: the same numbers by the next engine, once and for all."""
    pytest.importorskip("numba")
    *expected, served = python(STEPS, PYTHONHASHSEED="0").splitlines()
    assert served == "[]"
    for name in ABSENT:
        *found, served = python(STEPS, name, PYTHONHASHSEED="0").splitlines()
        assert found == expected, name
        assert served == ("[]" if name in FREE else '["JAX\'s kernel"]'), name


def test_without_any_compiler_the_rule_serves() -> None:
    """As it is written: here, JAX has lost what both kinds of programs are made with."""
    python(
        """
        import jax, jax.numpy as jnp, numpy as np
        del jax.ffi, jax.lax.bitcast_convert_type
        from adamod_array import Adam, init, step
        from adamod_array._engines import passed_over as broken
        x = jnp.asarray([1.0, -2.0], "float32")
        for take in (step, jax.jit(step)):
            np.testing.assert_array_equal(np.asarray(take(init(Adam(), x, lr=0.5), x).params), [0.5, -1.5])
        assert "bitcast_convert_type" in broken["JAX's compiler"]
        """
    )


def test_what_a_device_refuses_does_not_cost_the_kernel() -> None:
    """An error that is not of building is the caller's, the state is whole, and nothing is passed over."""
    python(
        """
        import jax, jax.numpy as jnp
        from adamod_array import Adam, init, step
        from adamod_array._engines import passed_over as broken
        x, y = (jax.device_put(jnp.ones(3), device) for device in jax.devices())
        state = init(Adam(), {"a": x, "b": y})
        try:
            step(state, {"a": x + 1, "b": y + 1}, donate=True)
        except ValueError as error:
            assert "incompatible devices" in str(error)
        else:
            raise AssertionError("one program ran on two devices")
        assert not broken and not x.is_deleted() and 'donated' not in repr(state)
        """,
        XLA_FLAGS="--xla_force_host_platform_device_count=2",
        JAX_PLATFORMS="cpu",
    )


# Devices


@pytest.mark.slow
def test_what_is_not_committed_is_moved() -> None:
    """As JAX moves it when arrays meet: parameters, slots and gradients that lie on two devices."""
    python(
        """
        import itertools, jax, jax.numpy as jnp, numpy as np
        from adamod_array import Adam, engine, init, step

        def array(where):
            device = jax.devices()[int(where[1])]
            if where[0] == "c":
                return jax.device_put(np.ones(3, np.float32), device)
            with jax.default_device(device):
                return jnp.ones(3, "float32")

        def outcome(function):
            try:
                x = function()
                return x.devices(), x.committed
            except ValueError as error:
                return str(error).startswith("grads must be on its parameter's device") or "refused"

        for p, g, slot in itertools.product(("u0", "u1", "c0", "c1"), ("u0", "u1", "c0", "c1"), (None, "u0", "u1")):
            expected = outcome(lambda: array(p) - array(g))
            for how in ("auto", "jit", "eager"):
                for donate in (False, True):
                    with engine(how):
                        state = init(Adam(), array(p))
                        if slot is not None:
                            state = type(state)(state.params, dict(m=array(slot), v=array(slot)), 0, Adam(), 0.5)
                        found = outcome(lambda: step(state, array(g), donate=donate).params)
                        assert found == (True if expected == "refused" else expected), (p, g, slot, how, found)
        """,
        XLA_FLAGS="--xla_force_host_platform_device_count=2",
        JAX_PLATFORMS="cpu",
    )


# Leaks


LEAKS: dict[str, Callable[[State, Any], Any]] = {
    **{name: way for name, way in WAYS.items() if "array" not in name},
    "grad": lambda s, g: jax.grad(lambda lr: step(s, g, lr=lr).params.sum())(0.1),
    "jitted grad": lambda s, g: jax.jit(jax.grad(lambda lr: step(s, g, lr=lr).params.sum()))(0.1),
    "vmap of states": lambda s, g: jax.jit(jax.vmap(step))(
        jax.tree.map(lambda x: jnp.stack([jnp.asarray(x)] * 2), s), jnp.stack([g] * 2)
    ),
    "closure": lambda s, g: jax.jit(lambda x: step(s, g).params + x)(g),
}


@pytest.mark.slow
@pytest.mark.parametrize("how", ENGINES)
def test_no_tracer_leaks(how: str) -> None:
    for name, way in LEAKS.items():
        start = init(AdaMod(), jnp.ones(3))
        with engine(how), jax.checking_leaks():
            try:
                way(start, jnp.ones(3))
            except Exception as error:
                raise AssertionError(f"{name}: {error}") from None


# Many leaves, many methods


def test_many_leaves_are_stepped_a_few_at_a_call() -> None:
    """XLA compiles a call in a time that grows with the square of its leaves; the bits are those of one call."""
    pytest.importorskip("numba")
    from adamod_array._engines import xla_ffi

    n = 2 * xla_ffi.LEAVES + 3
    sizes = [1 + i % 7 for i in range(n)]
    dtypes = ["float32" if i % 5 else "bfloat16" for i in range(n)]
    params = [jnp.linspace(-1, 1, size).astype(dtype) for size, dtype in zip(sizes, dtypes, strict=True)]
    start = init(AdaMod(), params, [0.1 * (1 + i % 3) for i in range(n)], weight_decay=0.1)
    text = jax.jit(step).lower(start, params).compile().as_text()
    calls = [line for line in text.splitlines() if 'custom_call_target="adamod_array_' in line]
    assert len(calls) == -(-dtypes.count("float32") // xla_ffi.OF_MANY) + 1  # those of bfloat16 are fewer
    with engine("jit"):
        expected = step(start, params)
    for found in (step(start, params), jax.jit(step)(start, params), step(copied(start), params, donate=True)):
        assert_same((found.params, found.slots), (expected.params, expected.slots))


@pytest.mark.parametrize("how", ["numba", "jit"])
def test_hyperparameters_compile_nothing_anew(how: str) -> None:
    if how == "numba":
        pytest.importorskip("numba")
    x = jnp.ones(119)
    compilations: list[str] = []

    def listen(event: str, _: float, **__: Any) -> None:
        if event == "/jax/core/compile/backend_compile_duration":
            compilations.append(event)

    def train(method: Method) -> Any:
        state = init(method, x, 0.5, weight_decay=0.1)
        for _ in range(2):
            state = step(state, x)
        return state

    with engine(how):
        train(AdaMod(beta1=0.55))  # of 0.5, two constants would be one
        jax.monitoring.register_event_duration_secs_listener(listen)
        found = [train(AdaMod(beta1=0.6 + k / 100, eps=1e-3 * k)) for k in range(1, 6)]
        assert not compilations
    with engine("eager"):
        numpy = init(AdaMod(beta1=0.64, eps=4e-3), np.ones(119), 0.5, weight_decay=0.1)
        for _ in range(2):
            numpy = step(numpy, np.ones(119))
    assert_same((found[3].params, found[3].slots), (numpy.params, numpy.slots))
