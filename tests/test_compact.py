"""Slots in bfloat16 and stochastic rounding: to the bit as an oracle in plain integers says, and without bias."""

from __future__ import annotations

import copy
import dataclasses
import itertools
import pickle
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from adamod_array import Adam, AdaMod, Method, Momentum, RAdam, adam_init, diagnostics, engine, init, step
from tests.backend import Backend
from tests.compare import assert_close
from tests.trees import bits, leaves, tree, values

pytestmark = pytest.mark.only("numpy", "torch", "jax", "cupy")

WORD = 2**32


@dataclasses.dataclass(frozen=True)
class Keep(Method):
    """Keeps the gradient in every slot, and puts it in the place of the parameter."""

    slots = ("a", "b", "c")

    def rule(self, xp: Any, lr: Any, c: Any, g: Any, p: Any, *kept: Any) -> tuple[Any, ...]:
        return g, g, g, xp.where(lr > 0, g, p)


def hashed(x: int) -> int:
    """Two rounds of the constants [16 604baa5d 15 43d6ce97 15] of hash-prospector's README, as it prints lowbias32."""
    x ^= x >> 16
    x = x * 0x604BAA5D % WORD
    x ^= x >> 15
    x = x * 0x43D6CE97 % WORD
    x ^= x >> 15
    return x


def random_bits(t: int, place: int, leaf: int, element: int) -> int:
    """16 bits: of step t, for the ``place``-th of what is rounded."""
    weyl = 0x9E3779B9
    word = hashed((element + leaf * weyl + hashed((t + (place // 2 + 1) * weyl) % WORD)) % WORD)
    return word >> 16 if place % 2 else word & 0xFFFF


def rounded(x: np.float32, random: int) -> float:
    """The neighbour in bfloat16: the one further from 0 where the bits that are cut and the random ones carry."""
    if not np.isfinite(x):
        return float(x)
    (word,) = struct.unpack("<I", struct.pack("<f", x))
    sign, magnitude = word & 0x80000000, word & 0x7FFFFFFF
    up = (magnitude & 0xFFFF) + random >= 0x10000
    kept = min((magnitude >> 16) + up, 0x7F7F)  # the largest finite one stays finite
    (result,) = struct.unpack("<f", struct.pack("<I", sign | kept << 16))
    return float(result)


def special() -> np.ndarray[Any, Any]:
    largest, infinite = np.float32(3.4028235e38), np.float32(np.inf)
    beyond = np.float32(3.3895314e38) * np.float32(1.0001)  # between the largest of bfloat16 and of float32
    some = [0.0, -0.0, 1.0, infinite, -infinite, largest, -largest, beyond, np.nan, 1 + 2**-8, -1 - 2**-20, 3e-38]
    return np.asarray([*some, *np.random.default_rng(0).normal(size=48)], np.float32)


def test_every_number_is_that_of_the_oracle(backend: Backend) -> None:
    """In slots and parameters, of every leaf, also at steps that float32 cannot hold."""
    x = special().reshape(3, 20)
    for dtype, first in itertools.product(("float32", "bfloat16"), (0, 65534, 2**32 + 2**24 + 1)):
        params = [backend.array(np.ones((3, 20)), dtype), backend.array(np.ones((3, 20)), dtype)]
        how = "stochastic" if dtype == "bfloat16" else "nearest"
        state = init(Keep(), params, slot_dtype="bfloat16", param_rounding=how).replace(step=first)
        for t in (first + 1, first + 2):
            state = step(state, [backend.array(x)] * 2)
            columns = [state.slots[name] for name in "abc"] + ([state.params] if dtype == "bfloat16" else [])
            for place, column in enumerate(columns):
                for leaf, found in enumerate(column):
                    assert str(found.dtype).endswith("bfloat16")
                    want = [rounded(y, random_bits(t, place, leaf, i)) for i, y in enumerate(x.ravel())]
                    np.testing.assert_array_equal(
                        np.asarray(backend.numpy(found), np.float32).ravel(), np.asarray(want, np.float32)
                    )
                    signs = np.signbit(np.asarray(backend.numpy(found), np.float32)).ravel()
                    assert (signs == np.signbit(x.ravel()))[~np.isnan(x.ravel())].all()


@pytest.mark.only("numpy")
def test_a_signalling_nan_stays_a_nan(backend: Backend) -> None:
    """One whose bits are all among those that are cut, and one that would carry into the sign."""
    x = np.asarray([0x7F800001, 0xFF80FFFF, 0x7FFFFFFF, 0x7FC00000], np.uint32).view(np.float32)
    found = step(init(Keep(), np.ones(4, np.float32), slot_dtype="bfloat16"), x).slots
    assert all(np.isnan(column.astype(np.float32)).all() for column in found.values())


def test_rounding_has_no_bias(backend: Backend) -> None:
    """The mean of 10,000 roundings of a number, by elements or by steps, within 4 standard errors of it."""
    n = 10_000
    for x in (1 + 2**-9, 1 + 3 * 2**-12, -1.2345678, 3e-5):
        x = float(np.float32(x))
        at_once = step(init(Keep(), backend.array(np.zeros(n)), slot_dtype="bfloat16"), backend.array(np.full(n, x)))
        by_steps, state = [], init(Keep(), backend.array(np.zeros(50)), slot_dtype="bfloat16")
        for _ in range(n // 50):
            state = step(state, backend.array(np.full(50, x)))
            by_steps.append(backend.numpy(state.slots["b"]))
        unit = 2.0 ** (np.floor(np.log2(abs(x))) - 7)
        above = abs(x) / unit % 1
        error = unit * np.sqrt(above * (1 - above) / n)
        for found in (backend.numpy(at_once.slots["a"]), backend.numpy(at_once.slots["c"]), np.stack(by_steps)):
            assert abs(np.mean(found.astype(np.float64)) - x) < 4 * error


def same_everywhere(method: Method, steps: int, take: Callable[..., Any], backend: Backend, dtype: str) -> Any:
    host = [values(6, seed=k) for k in range(97)]
    params = {"m": backend.array(values(4, 3), dtype), "n": backend.array(values(5, seed=1), dtype)}
    how = "stochastic" if dtype == "bfloat16" else "nearest"
    state = init(method, params, lr=0.01, weight_decay=0.1, slot_dtype="bfloat16", param_rounding=how)
    grads = [{"m": backend.array(np.outer(g[:4], g[:3]), dtype), "n": backend.array(g[:5], dtype)} for g in host]
    for t in range(steps):
        state = take(state, grads[t % 97])
    return state


@pytest.mark.slow
def test_a_thousand_steps_have_the_bits_of_numpys_rule(backend: Backend) -> None:
    """PyTorch's own sqrt and division of tensors have other bits: there the method has none."""
    plain = backend.name == "torch" and backend.engine != "numba"
    methods: tuple[Method, ...] = (Momentum(nesterov=True),) if plain else (Adam(), AdaMod())
    for method, dtype in itertools.product(methods, ("float32", "bfloat16")):
        found = same_everywhere(method, 1000, lambda s, g: step(s, g, donate=True), backend, dtype)
        with engine("eager"):
            numpy = Backend("numpy", "cpu", "eager")
            expected = same_everywhere(method, 1000, step, numpy, dtype)
        for a, b in ((found.params, expected.params), (found.slots, expected.slots)):
            assert bits(backend, a) == bits(numpy, b), (method, dtype)


def test_what_is_stored_does_not_hang_on_how(backend: Backend) -> None:
    """Fresh or donated, in any memory order, in parts of a tree, after pickles and copies: the same bits."""
    params, grads = tree(backend), tree(backend, seed=7)
    start = init(AdaMod(), params, slot_dtype={"m": "bfloat16", "s": "bfloat16"})
    assert "m bfloat16, v, s bfloat16" in repr(start)
    assert "hold_idle=False, compact=('m', 's'))" in repr(start)
    assert "compact" not in repr(start.replace(slot_dtype=None))
    once = step(step(start, grads), grads)
    again = step(step(start, grads), grads, donate=True)
    copied = step(copy.deepcopy(pickle.loads(pickle.dumps(step(start, grads)))), grads)
    for other in (again, copied):
        assert bits(backend, (once.params, once.slots)) == bits(backend, (other.params, other.slots))
    some = step(step(start, grads), {**grads, "b": None})
    assert bits(backend, some.slots["s"]["layers"]) == bits(backend, once.slots["s"]["layers"])
    assert step(start, grads, where=False).step == 0
    tree_of = {"layers": AdaMod(beta3=0.99), "b": AdaMod()}
    apart = init(tree_of, params, slot_dtype={"m": "bfloat16", "s": "bfloat16"})
    apart = step(step(apart, grads), grads)
    assert bits(backend, apart.params["b"]) == bits(backend, once.params["b"])
    other = once.replace(method=AdaMod(beta1=0.8))
    assert other.method.compact == ("m", "s")
    assert step(other, grads).slots["m"]["b"].dtype == once.slots["m"]["b"].dtype


def test_the_order_of_memory_does_not_matter(backend: Backend) -> None:
    if backend.name == "jax":
        return

    def in_fortrans_order(x: Any) -> Any:
        if backend.name == "torch":
            return x.T.contiguous().T
        return backend.xp.asarray(np.ascontiguousarray(backend.numpy(x).T)).T

    found = []
    for size, turned in itertools.product((5, 300), (False, True)):
        p, g = backend.array(values(size, 70)), backend.array(values(size, 70, seed=1))
        if turned:
            p, g = in_fortrans_order(p), in_fortrans_order(g)
        state = step(init(Momentum(), p, slot_dtype="bfloat16"), g)
        found.append(bits(backend, (state.params, state.slots)))
    assert found[0] == found[1]
    assert found[2] == found[3]


def test_updates_that_round_to_nothing_are_recovered(backend: Backend) -> None:
    """Of 1, a step of 1e-4 is a twentieth of what bfloat16 has below it."""
    n, steps = 1000, 200
    for how in ("nearest", "stochastic"):
        state = init(Momentum(beta=0.0), backend.array(np.ones(n), "bfloat16"), lr=1e-4, param_rounding=how)
        for _ in range(steps):
            state = step(state, backend.array(np.ones(n), "bfloat16"), donate=True)
        mean = np.mean(backend.numpy(state.params).astype(np.float64))
        if how == "nearest":
            assert mean == 1
        else:  # the variance of a step is at most 1e-4 times the unit of 2**-8
            assert abs(mean - (1 - steps * 1e-4)) < 4 * np.sqrt(steps * 1e-4 * 2**-8 / n)


def test_what_cannot_be_is_said_at_once(backend: Backend) -> None:
    params = tree(backend)
    wide = params | {"b": backend.array([1.0], "float64")}
    half = params | {"b": backend.array([1.0], "float16")}
    for kind, given, options, words in (
        (TypeError, wide, {"slot_dtype": "bfloat16"}, r"params\['b'\] must be float32, bfloat16 or float16 .* float64"),
        (TypeError, params, {"param_rounding": "stochastic"}, r"there is none: params\['b'\] is float32"),
        (TypeError, half, {"param_rounding": "stochastic"}, r"there is none: params\['b'\] is float16"),
        (ValueError, params, {"slot_dtype": "float8"}, "slot_dtype must be 'bfloat16'.*'float8'"),
        (ValueError, params, {"slot_dtype": {"q": "bfloat16"}}, r"keeps \('m', 'v'\), got 'q'"),
        (ValueError, params, {"param_rounding": "up"}, "'nearest' or 'stochastic', got 'up'"),
    ):
        with pytest.raises(kind, match=words):
            adam_init(given, **options)
    state = adam_init(params, slot_dtype={"m": "bfloat16"})
    with pytest.raises(TypeError, match=r"slots\['m'\]\['b'\] must be bfloat16, as this state stores it, got float32"):
        state.replace(slots=state.slots | {"m": state.slots["v"]})
    for dtype in ("float32", "bfloat16", "float16"):
        state = adam_init(tree(backend, dtype), slot_dtype={"m": "bfloat16"})
        with pytest.raises(
            TypeError, match=r"slots\['v'\]\['b'\] must be float32, as this state stores it, got bfloat16"
        ):
            state.replace(slots=state.slots | {"v": state.slots["m"]})
    with pytest.raises(ValueError, match=r"store slots alike"):
        init({"layers": state.method, "b": Adam()}, params)


@pytest.mark.only("numpy", "torch", "jax")
def test_a_checkpoint_keeps_what_is_stored(backend: Backend, tmp_path: Path) -> None:
    pytest.importorskip("safetensors")
    from adamod_array import checkpoint

    params, grads = tree(backend, "bfloat16"), tree(backend, "bfloat16", seed=7)
    state = init(AdaMod(), params, slot_dtype={"m": "bfloat16", "s": "bfloat16"}, param_rounding="stochastic")
    state = step(state, grads)
    checkpoint.save(state, tmp_path / "state")
    expected = step(state, grads)
    for options in ({}, {"method": AdaMod()}):
        for like in (params, state):
            loaded = checkpoint.load(tmp_path / "state", like, **options)
            assert loaded.method.compact == ("m", "s", "params")
            again = step(loaded, grads)
            assert bits(backend, (again.params, again.slots)) == bits(backend, (expected.params, expected.slots))
    with pytest.raises(checkpoint.CheckpointError, match=r"m.* is bfloat16 in .*, float32 in like"):
        checkpoint.load(tmp_path / "state", init(AdaMod(), params))


@pytest.mark.only("numpy")
def test_random_bits_are_not_correlated() -> None:
    """Of slots, of neighbours, of steps and of leaves: 4 standard errors of none, in a million bits."""
    x, n = np.full(2**20, 1 + 2**-8, np.float32), 2**20

    def ups(state: Any) -> list[Any]:
        return [state.slots[name][k].astype(np.float32) > 1 for k in (0, 1) for name in "abc"]

    first = step(init(Keep(), [x * 0, x * 0], slot_dtype="bfloat16"), [x, x])
    found = [*ups(first), *ups(step(first, [x, x]))]
    found += [np.roll(found[0], k) for k in (1, 2, 64, 1024, 8192)]
    for a, b in itertools.combinations([2.0 * each - 1 for each in found], 2):
        assert abs(np.mean(a * b)) < 4.5 / np.sqrt(n)  # of 136 pairs


def test_diagnostics_are_those_of_wide_slots(backend: Backend) -> None:
    params, grads = tree(backend), tree(backend, seed=7)
    state = step(init(Adam(), params, slot_dtype="bfloat16"), grads)
    effective = diagnostics.effective_rates(state)
    wide = diagnostics.effective_rates(state.replace(slot_dtype=None))
    v = [np.asarray(backend.numpy(x), np.float64) for x in leaves(state.slots["v"])]
    want = [(1e-3 / (np.sqrt(x / (1 - 0.999)) + 1e-8)).astype(np.float32) for x in v]
    for a, b, c in zip(leaves(effective), want, leaves(wide), strict=True):
        assert str(a.dtype).endswith("float32")
        assert_close(backend.numpy(a), b, ulp=4)  # a factor, a root, a sum and a quotient, each rounded once
        assert_close(backend.numpy(a), backend.numpy(c))


@pytest.mark.only("numpy")
def test_frameworks_without_bits_say_so() -> None:
    strict = pytest.importorskip("array_api_strict")
    with pytest.raises(TypeError, match="array_api_strict does not show"):
        init(RAdam(), strict.zeros(3, dtype=strict.float32), slot_dtype="bfloat16")
