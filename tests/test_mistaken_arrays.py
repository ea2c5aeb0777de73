"""Arrays, trees and states that a beginner gives by mistake: the error says what to write instead."""

from __future__ import annotations

import collections
import copy
import subprocess
import sys
import types
from typing import Any

import numpy as np
import pytest

import adamod_array as aa
from adamod_array import AdaMod, adam_init, checkpoint, diagnostics, schedules, step
from tests.backend import Backend
from tests.test_mistakes import Mistakes, assert_said, call, parameters


def test_another_shape(backend: Backend) -> None:
    """Where a reshape would scramble numbers, it is not advised."""
    state = adam_init(backend.array(np.zeros((2, 3))))
    advice = {
        (3, 2): ", which is transposed: write x.T",
        (6,): ": write x.reshape((2, 3))",
        (1, 2, 3): ": write x.reshape((2, 3))",
        (2, 1, 3): ": write x.reshape((2, 3))",
        (6, 1): "",
        (2, 2): "",
        (3,): "",
    }
    for shape, words in advice.items():
        with pytest.raises(ValueError, match="must have its parameter's shape") as caught:
            step(state, backend.array(np.zeros(shape)))
        assert str(caught.value).endswith(f"got {shape}{words}")


@pytest.mark.only("numpy")
def test_another_dtype(backend: Backend) -> None:
    """No digit is lost that need be, and nothing is said where there are no numbers."""
    widest = {"a longdouble": np.longdouble, "an int": np.int64, "a flag": np.bool_}
    wide = {name: (call(adam_init, np.zeros(2, dtype)), ("write x.astype(float),",)) for name, dtype in widest.items()}
    assert_said({**wide, "complex": (call(adam_init, np.zeros(2, np.clongdouble)), ("write x.astype(complex),",))})
    for dtype in ("float16", "float64", "complex64"):
        state = adam_init(np.zeros(2, dtype))
        assert_said({dtype: (call(step, state, np.zeros(2, int)), (f"write x.astype('{dtype}')",))})
    complex_grads = call(step, adam_init(np.zeros(2)), np.zeros(2, np.clongdouble))
    assert_said({"an imaginary part": (complex_grads, ("write x.real",))})
    for x in (np.asarray(["1"]), np.zeros(1, "M8[s]"), np.zeros(1, "i4,f4")):
        for make in (call(adam_init, x), call(step, adam_init(np.zeros(1)), x)):
            with pytest.raises(TypeError) as caught:
                make()
            assert "write" not in str(caught.value)


def test_no_arrays(backend: Backend) -> None:
    params = parameters(backend)
    state, branched = adam_init(params), adam_init({"body": params, "head": params["b"]})
    mistakes: Mistakes = {
        "a mapping": (call(adam_init, collections.UserDict(params)), ("UserDict: write dict(x)",)),
        "another": (call(adam_init, [types.MappingProxyType(params)]), ("params[0]", "write dict(x)")),
        "of gradients": (call(step, state, collections.ChainMap(params)), ("write dict(x)",)),
        "a masked array": (call(adam_init, np.ma.zeros(3)), ("write x.filled(0)",)),
        "a matrix": (call(adam_init, np.asarray([[1.0]]).view(np.matrix)), ("np.asarray(x)",)),
        "a list": (call(step, state, {**params, "b": [1.0]}), ("grads['b']", "np.asarray")),
        "None of a branch": (
            call(step, branched, {"body": None, "head": params["b"]}),
            ("grads['body'] must be a dict, got None", "at each leaf, {'w': None, ...}"),
        ),
        "rates of beta2": (call(adam_init, params, beta2={"w": 0.9, "b": 0.99}), ("init({'w': Adam(beta2=0.99)",)),
        "a word for a schedule": (call(adam_init, params, lr="cosine"), ("1e-3 * schedules.cosine_decay(steps)",)),
        "a schedule for a norm": (
            call(step, state, params, max_norm=schedules.linear_warmup(5)),
            ("max_norm", "schedule(state.step + 1)"),
        ),
        "a memory": (call(AdaMod, len_memory=9), ("adamod_init, diffmod_init", "here write beta3=1 - 1/N")),
    }
    assert_said(mistakes)
    if backend.name == "numpy":
        twice = adam_init([params["w"], params["w"]])
        wide = {"x": backend.array([1.0], "float64")}
        assert_said(
            {
                "isfinite": (call(step, state, params, where=np.isfinite), ("tree", "write where=all_finite")),
                "the same array": (call(step, twice, [params["w"] + 1] * 2, donate=True), ("or give copies",)),
                "wide": (call(adam_init, wide, slot_dtype="bfloat16"), ("write x.astype('float32')",)),
            }
        )


def test_states_in_other_places(backend: Backend) -> None:
    params = parameters(backend)
    state = adam_init(params, lr={"w": 0.1, "b": 0.2})
    mistakes: Mistakes = {
        "counted": (call(diagnostics.histogram, state), ("write histogram(effective_rates(state))",)),
        "its norm": (call(aa.global_norm, state), ("got a state", "gradients")),
        "clipped": (call(aa.clip_by_global_norm, state, 1.0), ("got a state", "gradients")),
        "finite": (call(aa.all_finite, state), ("got a state", "gradients")),
        "a key": (lambda: state["w"], ("write state.params['w']",)),
        "all of it": (lambda: [*state], ("write state.params",)),
        "state_dict": (lambda: state.state_dict(), ("checkpoint.save(state, path)",)),
        "a copy": (lambda: state.copy(), ("copy.deepcopy(state)",)),
        "a rate": (lambda: state.lr["w"], ("state.learning_rate()",)),
        "another method": (call(state.replace, method=AdaMod()), ("keeps ('m', 'v', 's')", "init(AdaMod(...)")),
        "saved": (call(checkpoint.save, "run.safetensors", state), ("save(state, path)",)),
        "loaded": (call(checkpoint.load, params, "run.safetensors"), ("load(path, like)",)),
    }
    assert_said(mistakes)
    assert state.lr[0] == 0.2
    if backend.name in ("numpy", "torch", "jax", "cupy"):
        old = adam_init(copy.deepcopy(params))
        new = step(old, params, donate=True)
        assert_said({"donated": (call(diagnostics.update_magnitudes, old, new), ("leave donate out",))})


@pytest.mark.only("numpy")
def test_packages_name_what_they_lack() -> None:
    for package, host in (("scipy", "scipy"), ("torch", "torch"), ("dask", "dask"), ("optax", "optax")):
        code = f"import sys; sys.modules[{host!r}] = None; import adamod_array.{package}"
        found: Any = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
        assert found.returncode == 1
        assert f"pip install 'adamod_array[{package}]'" in found.stderr.splitlines()[-1]
