"""Slots in 16 bits: states that change how they store them, methods made of fields, and what names a dtype."""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import importlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from adamod_array import Adam, AdaMod, Method, Momentum, adam_init, init, momentum_init, step
from adamod_array._state import State
from tests.backend import Backend
from tests.trees import bits, leaves, tree

pytestmark = pytest.mark.only("numpy", "torch", "jax", "cupy")


def cast(backend: Backend, x: Any, dtype: str) -> Any:
    return backend.array(np.asarray(backend.numpy(x), np.float64), dtype)


def test_a_run_goes_on_in_another_storage(backend: Backend) -> None:
    """Widened exactly, and as one that was put together so; compacted to nearest, this once."""
    params, grads = tree(backend), tree(backend, seed=7)
    start = step(init(AdaMod(), params, slot_dtype="bfloat16"), grads)
    for none in (None, "float32", {}, {"m": None, "v": "float32"}):
        wide = start.replace(slot_dtype=none, lr=0.5)
        assert (wide.method, wide.step, wide.lr) == (AdaMod(), 1, 0.5)
        assert bits(backend, leaves(wide.slots)) == bits(
            backend, [cast(backend, x, "float32") for x in leaves(start.slots)]
        )
        by_hand = init(AdaMod(), start.params, lr=0.5).replace(slots=wide.slots, step=1)
        assert bits(backend, step(wide, grads).slots) == bits(backend, step(by_hand, grads).slots)
    wide = step(init(AdaMod(), params), grads)
    narrow = wide.replace(slot_dtype={"m": "bfloat16", "s": "bfloat16"})
    assert narrow.method.compact == ("m", "s")
    assert [*map(str, (x.dtype for x in leaves(narrow.slots["v"])))] == [*map(str, (x.dtype for x in leaves(params)))]
    expected = [cast(backend, x, "bfloat16") for x in leaves(wide.slots["m"])]
    assert bits(backend, leaves(narrow.slots["m"])) == bits(backend, expected)
    step(narrow, grads)
    rounded = momentum_init(tree(backend, "bfloat16")).replace(param_rounding="stochastic")
    assert rounded.method.compact == ("params",)
    assert rounded.replace(param_rounding=None, method=Momentum(beta=0.5)).method == Momentum(beta=0.5)
    with pytest.raises(TypeError, match=r"params\['b'\] must be float32.* got float64"):
        adam_init(tree(backend, "float64")).replace(slot_dtype="bfloat16")
    with pytest.raises(TypeError, match="there is none"):
        wide.replace(param_rounding="stochastic")


def test_slots_that_stood_still_move_again(backend: Backend) -> None:
    state = init(Adam(), backend.array([1.0, 2.0]), slot_dtype="bfloat16")
    state = step(state, backend.array([1.0, 2.0])).replace(slot_dtype=None)
    before = backend.numpy(state.slots["v"])
    for _ in range(3):
        state = step(state, backend.array([0.0, 0.0]))
    assert (backend.numpy(state.slots["v"]) < before).all()


def test_another_method_stores_as_the_state_does_also_of_trees_by_hand(backend: Backend) -> None:
    params = tree(backend)
    state = init(Adam(), params, slot_dtype={"m": "bfloat16"})
    other = init(Adam(), params, slot_dtype="bfloat16").method
    with pytest.raises(ValueError, match=r"method= stores m, v in bfloat16.*this state m; say it by replace"):
        state.replace(method=other)
    with pytest.raises(ValueError, match="this state nothing"):
        adam_init(params).replace(method=other)
    assert state.replace(method=state.method) is not None
    of_branches = {"layers": state.method, "b": dataclasses.replace(state.method, beta1=0.5)}
    by_hand: State[Any] = State(params, state.slots, 0, of_branches)
    found = by_hand.replace(method={"layers": Adam(beta1=0.1), "b": Adam()})
    assert {x.compact for x in found.method} == {("m",)}
    assert {x.compact for x in found.replace(slot_dtype="bfloat16").method} == {("m", "v")}
    assert state.replace(method=other, slot_dtype="bfloat16").method == other


def test_a_method_is_made_of_its_fields(backend: Backend) -> None:
    params = tree(backend)
    for method in (AdaMod(), init(AdaMod(), params, slot_dtype={"s": "bfloat16", "m": "bfloat16"}).method):
        assert AdaMod(**dataclasses.asdict(method)) == method
        assert dataclasses.replace(method, beta1=0.5).compact == method.compact
    assert AdaMod(compact=["s", "m", "s"]).compact == ("m", "s")  # type: ignore[arg-type]
    assert init(AdaMod(compact=("m",)), params).slots["m"]["b"].dtype != params["b"].dtype
    for compact, kind, words in (
        (("q",), ValueError, "compact names slots, 'm', 'v', 's', 'params', got 'q'"),
        ("m", TypeError, "compact must be a tuple of names of slots, got 'm'"),
        (0.5, TypeError, "compact must be a tuple of names of slots, got 0.5"),
    ):
        with pytest.raises(kind, match=words):
            AdaMod(compact=compact)  # type: ignore[arg-type]

    @dataclasses.dataclass(frozen=True)
    class Own(Method):
        compact: float = 0.5  # type: ignore[assignment]

    with pytest.raises(TypeError, match=r"Own: compact is how a state stores the slots.* another name"):
        Own()

    @dataclasses.dataclass(frozen=True)
    class Named(Method):
        slots = ("params",)

    with pytest.raises(ValueError, match="no slot may be called 'params'"):
        Named()


def test_whatever_names_bfloat16_will_do(backend: Backend) -> None:
    params = tree(backend)
    names: list[Any] = ["bfloat16"]
    for module in ("ml_dtypes", "torch", "jax.numpy"):
        with contextlib.suppress(ImportError):
            names.append(importlib.import_module(module).bfloat16)
    if "ml_dtypes" in {getattr(x, "__module__", "") for x in names}:
        names += [np.dtype(x) for x in names if getattr(x, "__module__", "") == "ml_dtypes"]
    for name in names:
        assert adam_init(params, slot_dtype=name).method.compact == ("m", "v")
        for none in (None, "float32", np.float32, np.dtype(np.float32)):
            assert adam_init(params, slot_dtype={"m": name, "v": none}).method.compact == ("m",)
    assert adam_init(params, slot_dtype={}).method.compact == ()
    assert adam_init(params, slot_dtype=np.float32).method.compact == ()

    @dataclasses.dataclass(frozen=True)
    class Without(Method):
        def rule(self, xp: Any, lr: Any, c: Any, g: Any, p: Any) -> tuple[Any, ...]:
            return (p - lr * g,)

    for wrong in ("float16", np.float64, np.ones(3), params["b"], 16, ("m",), object(), {"m": np.ones(2)}):
        with pytest.raises(ValueError, match="slot_dtype must be 'bfloat16' or 'float32', or a mapping"):
            adam_init(params, slot_dtype=wrong)
        if not isinstance(wrong, dict):
            with pytest.raises(ValueError, match="slot_dtype must be"):
                init(Without(), params, slot_dtype=wrong)
    with pytest.raises(ValueError, match="param_rounding must be"):
        adam_init(params, param_rounding=np.ones(2))


@pytest.mark.only("numpy", "torch", "jax")
def test_files_say_how_slots_are_stored(backend: Backend, tmp_path: Path) -> None:
    """In a format that readers refuse who would round to nearest; and the method that is wanted agrees with them."""
    pytest.importorskip("safetensors")
    from adamod_array import checkpoint

    params = tree(backend)
    for options, number in (({}, b"1"), ({"slot_dtype": {"m": "bfloat16"}}, b"2")):
        path = tmp_path / number.decode()
        state = init({"layers": Adam(), "b": Adam(beta1=0.5)}, params, **options)
        checkpoint.save(state, path)
        assert b'\\"format\\": ' + number in path.read_bytes()
        assert checkpoint.load(path, params).method == state.method
        assert checkpoint.load(path, params, method={"layers": Adam(), "b": Adam(beta1=0.5)}).method == state.method
        wanted = {"layers": Adam(compact=("v",)), "b": Adam(beta1=0.5, compact=("v",))}
        with pytest.raises(
            checkpoint.CheckpointError, match=r"stores (m|nothing) in bfloat16 in the file, v in method="
        ):
            checkpoint.load(path, params, method=wanted)


@pytest.mark.only("numpy")
def test_files_whose_slots_are_stored_otherwise_are_damaged(backend: Backend, tmp_path: Path) -> None:
    """One that says nothing of a slot of bfloat16, says it of one of float32, or says what there is not."""
    pytest.importorskip("safetensors")
    from adamod_array import checkpoint

    params = tree(backend)
    checkpoint.save(adam_init(params, slot_dtype={"m": "bfloat16"}), tmp_path / "run")
    data = (tmp_path / "run").read_bytes()
    size = int.from_bytes(data[:8], "little")
    for compact, words in (
        ([], r"m\['b'\] is bfloat16 .* whose method stores m in float32"),
        (["m", "v"], r"v\['b'\] is float32 .* whose method stores v in bfloat16"),
        (["q"], "is damaged: it stores"),
        (["v", "m"], "is damaged: it stores"),
        (["m", "m"], "is damaged: it stores"),
    ):
        header = json.loads(data[8 : 8 + size])
        fields = json.loads(header["__metadata__"]["adamod_array"])
        fields["method"]["compact"] = compact
        text = json.dumps(fields)
        header["__metadata__"] = {"adamod_array": text, "sha256": hashlib.sha256(text.encode()).hexdigest()}
        changed = json.dumps(header).encode()
        (tmp_path / "changed").write_bytes(len(changed).to_bytes(8, "little") + changed + data[8 + size :])
        with pytest.raises(checkpoint.CheckpointError, match=words):
            checkpoint.load(tmp_path / "changed", params)


@pytest.mark.only("numpy")
def test_where_the_state_cannot_go_it_says_why(backend: Backend) -> None:
    array = pytest.importorskip("dask.array")
    from adamod_array import checkpoint

    state = adam_init({"w": np.ones(3, np.float32)}, slot_dtype="bfloat16")
    like = {"w": array.ones(3, dtype="float32")}
    with pytest.raises(TypeError, match=r"slots in bfloat16 .* dask does not show.*replace\(slot_dtype=None\)"):
        checkpoint.convert(state, like)
    assert checkpoint.convert(state.replace(slot_dtype=None), like).method == Adam()


@pytest.mark.only("torch")
def test_an_optimizer_refuses_what_is_rounded(backend: Backend) -> None:
    from adamod_array.torch import Optimizer

    for compact in (("m",), ("params",)):
        with pytest.raises(TypeError, match=r"what is rounded stochastically, .* is so by adamod_array\.step, not by"):
            Optimizer([backend.array([1.0])], Momentum(compact=compact))
