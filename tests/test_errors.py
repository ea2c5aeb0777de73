"""Bad input: a typed error that names the leaf and what came, and a state that still works afterwards."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import itertools
import math
from collections import namedtuple
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

import adamod_array as aa
from adamod_array import Adam, AdaMod, Method, Momentum, RAdam, State
from tests.backend import Backend
from tests.trees import assert_same, bits, tree, values

Layer = namedtuple("Layer", ["w"])
NAN, INF = math.nan, math.inf

W = "['layers'][0]['w']"
"""The path of the leaf that most tests spoil."""


@pytest.fixture(params=[False, True], ids=["kept", "donated"])
def donate(request: pytest.FixtureRequest) -> bool:
    """Whether the failing step was to write into the old state."""
    return bool(request.param)


@contextlib.contextmanager
def raises(error: type[Exception], *texts: str) -> Iterator[None]:
    """The block raises ``error``, whose message has all these texts in it."""
    with pytest.raises(error) as caught:
        yield
    for text in texts:
        assert text in str(caught.value)


@contextlib.contextmanager
def refused(
    backend: Backend, state: State, error: type[Exception], *texts: str, donate: bool = False
) -> Iterator[None]:
    """As :func:`raises`; the block leaves every bit of the state, and the state still steps."""
    before = bits(backend, state)
    grads = tree(backend, seed=9)
    expected = aa.step(state, grads).params
    with raises(error, *texts):
        yield
    assert bits(backend, state) == before
    assert_same(backend, aa.step(state, grads, donate=donate).params, expected)


def with_w(x: Any, tree: dict[str, Any]) -> dict[str, Any]:
    """The tree with another leaf at :data:`W`."""
    return {**tree, "layers": [{"w": x}, tree["layers"][1]]}


# parameters


NO_ARRAYS: dict[str, Any] = {"a number": 1.5, "a string": "weights", "a type": np.ndarray, "an object": object()}


@pytest.mark.parametrize("bad", NO_ARRAYS.values(), ids=NO_ARRAYS)
def test_a_parameter_that_is_no_array(backend: Backend, bad: Any) -> None:
    with raises(TypeError, f"params{W} must be an array, got {type(bad).__name__}"):
        aa.momentum_init(with_w(bad, tree(backend)))


@pytest.mark.parametrize("wrong", ["int32", "int64", "uint8", "bool"])
def test_a_parameter_that_is_not_floating(backend: Backend, wrong: str) -> None:
    with raises(TypeError, f"params{W} must have one of the dtypes float16", f"dtype {wrong} and shape (1, 2)"):
        aa.momentum_init(with_w(backend.array([[1, 0]], wrong), tree(backend)))


def test_a_state_is_no_tree_of_parameters(backend: Backend) -> None:
    with pytest.raises(TypeError, match=r"must be an array, got adamod_array\.adamod\.AdaMod"):
        aa.adamod_init(AdaMod(), backend.array([1.0]))


@pytest.mark.only("torch", "jax", "strict", "dask", "cupy")
def test_parameters_of_two_frameworks(backend: Backend) -> None:
    with raises(TypeError, "params mix frameworks", f"params{W}", "params['b']", "a numpy array of dtype float32"):
        aa.momentum_init(with_w(np.ones((2, 3), np.float32), tree(backend)))


@pytest.mark.parametrize("make", [lambda x: np.ma.masked_array(x, mask=x > 0), np.matrix], ids=["masked", "matrix"])
@pytest.mark.filterwarnings("ignore:the matrix subclass:PendingDeprecationWarning")
@pytest.mark.only("numpy")
def test_subclasses_with_other_operators(backend: Backend, make: Callable[[Any], Any], donate: bool) -> None:
    bad = make(values(2, 3).astype(np.float32))
    with raises(TypeError, f"params{W} must be an array, got numpy", type(bad).__name__):
        aa.momentum_init(with_w(bad, tree(backend)))
    state = aa.momentum_init(tree(backend))
    with refused(backend, state, TypeError, f"grads{W} must be an array", type(bad).__name__, donate=donate):
        aa.momentum_step(state, with_w(bad, tree(backend)), donate=donate)


@pytest.mark.only("torch")
def test_sparse_tensors(backend: Backend, donate: bool) -> None:
    bad = backend.array(values(2, 3)).to_sparse()
    with raises(TypeError, f"params{W} must be dense, got a tensor of layout torch.sparse_coo"):
        aa.momentum_init(with_w(bad, tree(backend)))
    state = aa.momentum_init(tree(backend))
    with refused(backend, state, TypeError, f"grads{W} must be dense", "torch.sparse_coo", donate=donate):
        aa.momentum_step(state, with_w(bad, tree(backend)), donate=donate)


@pytest.mark.parametrize("wrong", ["longdouble", "object"])
@pytest.mark.only("numpy")
def test_dtypes_that_are_numpys_alone(wrong: str) -> None:
    with pytest.raises(TypeError, match=r"params\[0\] must have one of the dtypes"):
        aa.momentum_init([np.ones(2, wrong)])


# gradients


def grad_cases() -> dict[str, Any]:
    """Name: what spoils the gradient at W, the error, and what its message says."""

    def array(x: Any, dtype: str = "float32") -> Callable[[Backend], Any]:
        return lambda backend: backend.array(x, dtype)

    floating = f"grads{W} must have a floating dtype"
    shape = f"grads{W} must have its parameter's shape (2, 3), got "
    return {
        "a number": (lambda _: 1.5, TypeError, [f"grads{W} must be an array, got float"]),
        "a string": (lambda _: "slope", TypeError, [f"grads{W} must be an array, got str"]),
        "int32": (array(np.ones((2, 3)), "int32"), TypeError, [floating, "float32", "int32"]),
        "bool": (array(np.ones((2, 3)), "bool"), TypeError, [floating, "float32", "bool"]),
        "complex": (array(np.ones((2, 3)), "complex64"), TypeError, [f"grads{W} must be real", "float32", "complex64"]),
        "transposed": (array(np.ones((3, 2))), ValueError, [shape + "(3, 2)"]),
        "a scalar": (array(1.0), ValueError, [shape + "()"]),
        "would broadcast": (array(np.ones((1, 3))), ValueError, [shape + "(1, 3)"]),
        "would broadcast too": (array(np.ones((1, 2, 3))), ValueError, [shape + "(1, 2, 3)"]),
        "empty": (array(np.ones((0, 3))), ValueError, [shape + "(0, 3)"]),
    }


@pytest.mark.parametrize(("spoil", "error", "texts"), grad_cases().values(), ids=grad_cases())
def test_a_gradient_that_does_not_fit(
    backend: Backend, donate: bool, spoil: Callable[[Backend], Any], error: type[Exception], texts: list[str]
) -> None:
    state = aa.momentum_init(tree(backend))
    with refused(backend, state, error, *texts, donate=donate):
        aa.momentum_step(state, with_w(spoil(backend), tree(backend)), donate=donate)


@pytest.mark.only("torch", "jax", "strict", "dask", "cupy")
def test_a_gradient_of_another_framework(backend: Backend, donate: bool) -> None:
    state = aa.momentum_init(tree(backend))
    framework = backend.table["module"].partition(".")[0]
    texts = f"grads{W} must be a {framework} array like its parameter", "a numpy array of dtype float32"
    with refused(backend, state, TypeError, *texts, donate=donate):
        aa.momentum_step(state, with_w(np.ones((2, 3), np.float32), tree(backend)), donate=donate)


@pytest.mark.only("strict")
def test_a_gradient_on_another_device(backend: Backend, donate: bool) -> None:
    elsewhere = "device1" if backend.device == "CPU_DEVICE" else "CPU_DEVICE"
    grad = dataclasses.replace(backend, device=elsewhere).array(np.ones((2, 3)))
    state = aa.momentum_init(tree(backend))
    texts = f"grads{W} must be on its parameter's device", backend.device, elsewhere
    with refused(backend, state, ValueError, *texts, donate=donate):
        aa.momentum_step(state, with_w(grad, tree(backend)), donate=donate)


@pytest.mark.only("jax")
def test_a_gradient_whose_buffer_is_gone(backend: Backend, donate: bool) -> None:
    gone = backend.array(np.ones((2, 3)))
    gone.delete()
    state = aa.momentum_init(tree(backend))
    with refused(backend, state, ValueError, f"grads{W}", "deleted", donate=donate):
        aa.momentum_step(state, with_w(gone, tree(backend)), donate=donate)


def test_a_parameter_that_is_none_has_no_gradient(backend: Backend, donate: bool) -> None:
    params = {"frozen": None, "w": backend.array([1.0])}
    state = aa.momentum_init(params)
    with pytest.raises(ValueError, match=r"grads\['frozen'\] must be None like its parameter"):
        aa.momentum_step(state, {"frozen": backend.array([1.0]), "w": backend.array([1.0])}, donate=donate)
    assert aa.momentum_step(state, {"frozen": None, "w": backend.array([1.0])}, donate=donate).step == 1


# trees


STRUCTURES: dict[str, tuple[Callable[[dict[str, Any]], Any], list[str]]] = {
    "missing key": (lambda g: {"layers": g["layers"]}, ["grads['b'] is missing"]),
    "extra key": (lambda g: {**g, "c": g["b"]}, ["grads['c'] has no parameter beside it"]),
    "deep missing key": (lambda g: {**g, "layers": [g["layers"][0], {}]}, ["grads['layers'][1]['w'] is missing"]),
    "deep extra key": (
        lambda g: {**g, "layers": [{**g["layers"][0], "v": g["b"]}, g["layers"][1]]},
        ["grads['layers'][0]['v'] has no parameter beside it"],
    ),
    "longer list": (lambda g: {**g, "layers": g["layers"] * 2}, ["grads['layers'][2] has no parameter"]),
    "shorter list": (lambda g: {**g, "layers": g["layers"][:1]}, ["grads['layers'][1] is missing"]),
    "tuple for list": (lambda g: {**g, "layers": tuple(g["layers"])}, ["grads['layers']", "list", "tuple"]),
    "namedtuple for dict": (lambda g: {**g, "layers": [Layer(g["b"]), g["layers"][1]]}, ["grads['layers'][0]"]),
    "leaf for subtree": (lambda g: {**g, "layers": g["b"]}, ["grads['layers']"]),
    "None for subtree": (lambda g: {**g, "layers": None}, ["grads['layers']"]),
    "subtree for leaf": (lambda g: {**g, "b": [g["b"]]}, ["grads['b']"]),
    "bare array": (lambda g: g["b"], ["grads"]),
    "nothing": (lambda g: None, ["grads"]),
    "integer key": (lambda g: {0: g["b"], "layers": g["layers"]}, ["grads['b'] is missing", "grads[0]"]),
    "an empty container more": (lambda g: {**g, "c": {}}, ["grads", "'c'"]),
}


@pytest.mark.parametrize(("change", "texts"), STRUCTURES.values(), ids=STRUCTURES)
def test_gradients_in_another_tree(
    backend: Backend, donate: bool, change: Callable[[dict[str, Any]], Any], texts: list[str]
) -> None:
    state = aa.momentum_init(tree(backend))
    with refused(backend, state, ValueError, "grads must have the structure of params", *texts, donate=donate):
        aa.momentum_step(state, change(tree(backend)), donate=donate)


def test_paths_are_what_a_user_would_type(backend: Backend) -> None:
    a, bad = backend.array([1.0]), backend.array([1.0, 2.0])
    for params, grads, path in [
        (a, bad, "grads must have"),
        ([a, a], [a, bad], "grads[1] must have"),
        ((a, a), (a, bad), "grads[1] must have"),
        (Layer(a), Layer(bad), "grads.w must have"),
        ({"x": [Layer(a)]}, {"x": [Layer(bad)]}, "grads['x'][0].w must have"),
        ({1: {"1": a}}, {1: {"1": bad}}, "grads[1]['1'] must have"),
    ]:
        with raises(ValueError, path):
            aa.momentum_step(aa.momentum_init(params), grads)


# states


FRONT_DOORS: dict[str, tuple[Callable[..., State], Callable[..., State]]] = {
    "Adam": (aa.adam_init, aa.adam_step),
    "AdaMod": (aa.adamod_init, aa.adamod_step),
    "RAdam": (aa.radam_init, aa.radam_step),
    "Momentum": (aa.momentum_init, aa.momentum_step),
}


@pytest.mark.parametrize("has", FRONT_DOORS)
@pytest.mark.parametrize("wants", FRONT_DOORS)
def test_a_state_of_another_method(backend: Backend, donate: bool, has: str, wants: str) -> None:
    state = FRONT_DOORS[has][0](tree(backend))
    take_step = FRONT_DOORS[wants][1]
    if has == wants:
        assert take_step(state, tree(backend), donate=donate).step == 1
        return
    with refused(backend, state, TypeError, f"one of {has}, expected {wants}", donate=donate):
        take_step(state, tree(backend), donate=donate)


@pytest.mark.parametrize("take_step", [aa.step, *(door[1] for door in FRONT_DOORS.values())])
def test_not_a_state(backend: Backend, donate: bool, take_step: Callable[..., State]) -> None:
    state, grads = aa.adamod_init(tree(backend)), tree(backend)
    with refused(backend, state, TypeError, "expected a State", "dict", "step(state, grads)", donate=donate):
        take_step(grads, state, donate=donate)
    for bad in (None, grads, grads["b"], AdaMod()):
        with pytest.raises(TypeError, match="expected a State"):
            take_step(bad, grads, donate=donate)


def test_not_a_method(backend: Backend) -> None:
    for bad in (AdaMod, "adamod", None, tree(backend)):
        with pytest.raises(TypeError, match=r"(?s)expected a method .*init\(method, params\)"):
            aa.init(bad, tree(backend))


def test_a_spent_state(backend: Backend, donate: bool) -> None:
    state, grads = aa.momentum_init(tree(backend)), tree(backend)
    new = aa.momentum_step(state, grads, donate=True)
    with refused(backend, new, ValueError, "spent", "donated to step 1", donate=donate):
        aa.momentum_step(state, grads, donate=donate)
    with pytest.raises(ValueError, match="spent"):  # a copy has the same arrays
        aa.momentum_step(dataclasses.replace(state, lr=0.1), grads, donate=donate)


@pytest.mark.only("jax")
def test_a_state_whose_buffers_were_given_away(backend: Backend, donate: bool) -> None:
    state = aa.adamod_init(tree(backend))
    state.params["layers"][0]["w"].delete()
    with raises(ValueError, f"params{W}", "deleted"):
        aa.adamod_step(state, tree(backend), donate=donate)
    state = aa.adamod_init(tree(backend))
    state.slots["s"]["layers"][0]["w"].delete()
    with raises(ValueError, f"slots['s']{W}"):
        aa.adamod_step(state, tree(backend), donate=donate)


SLOTS: dict[str, tuple[Callable[[Backend, dict[str, Any]], Any], type[Exception], list[str]]] = {
    "one is gone": (lambda _, slots: {"m": slots["m"], "v": slots["v"]}, TypeError, ["('m', 'v')", "AdaMod"]),
    "None": (lambda _, s: {**s, "v": with_w(None, s["v"])}, TypeError, [f"slots['v']{W} is None"]),
    "a number": (lambda _, s: {**s, "v": with_w(0.0, s["v"])}, TypeError, [f"slots['v']{W} must be an array"]),
    "an integer": (
        lambda b, s: {**s, "v": with_w(b.array(np.ones((2, 3)), "int32"), s["v"])},
        TypeError,
        [f"slots['v']{W} must have a floating dtype", "int32"],
    ),
    "a shape": (
        lambda b, s: {**s, "v": with_w(b.array(np.ones(3)), s["v"])},
        ValueError,
        [f"slots['v']{W} must have its parameter's shape (2, 3), got (3,)"],
    ),
    "a tree": (lambda _, s: {**s, "v": s["v"]["b"]}, ValueError, ["slots['v'] must have the structure of params"]),
}


@pytest.mark.parametrize(("change", "error", "texts"), SLOTS.values(), ids=SLOTS)
def test_slots_put_together_by_hand(
    backend: Backend,
    donate: bool,
    change: Callable[[Backend, dict[str, Any]], Any],
    error: type[Exception],
    texts: list[str],
) -> None:
    state = aa.adamod_init(tree(backend))
    with refused(backend, state, error, *texts, donate=donate):
        bad = dataclasses.replace(state, slots=change(backend, state.slots))
        aa.adamod_step(bad, tree(backend), donate=donate)


@pytest.mark.parametrize("dtype", ["complex64", "complex128"])
def test_a_real_slot_of_a_complex_parameter(backend: Backend, donate: bool, dtype: str) -> None:
    """It would lose imaginary parts where the rule makes it complex; where the rule makes it real, it is right."""
    if dtype not in backend.table["dtypes"]:
        pytest.skip("the backend has no complex numbers")
    real = {"complex64": "float32", "complex128": "float64"}[dtype]
    state, zero = aa.adam_init(backend.array([1j, 1.0], dtype)), backend.array([0.0, 0.0], real)
    with raises(TypeError, "slots['m'] must be complex like its parameter", dtype, real):
        aa.step(dataclasses.replace(state, slots={**state.slots, "m": zero}), state.params, donate=donate)
    assert aa.step(dataclasses.replace(state, slots={**state.slots, "v": zero}), state.params, donate=donate).step == 1


@pytest.mark.parametrize("dtype", ["complex64", "complex128"])
def test_a_complex_slot_that_the_rule_makes_real(backend: Backend, donate: bool, dtype: str) -> None:
    """It would lose its imaginary parts."""
    if dtype not in backend.table["dtypes"]:
        pytest.skip("the backend has no complex numbers")
    wrong = backend.array([1j, 1.0], dtype)
    for params, name in ((wrong, "v"), (backend.array([1.0, 1.0]), "m")):
        state = aa.adam_init(params)
        with raises(TypeError, f"slots['{name}'] must be real", dtype):
            aa.step(dataclasses.replace(state, slots={**state.slots, name: wrong}), state.params, donate=donate)


# hyperparameters


NUMBERS: dict[type[Method], str] = {
    Adam: "beta1 beta2 eps eps_root",
    AdaMod: "beta1 beta2 beta3 eps",
    RAdam: "beta1 beta2 eps eps_root threshold",
    Momentum: "beta",
}
FIELDS = [(method, field) for method, fields in NUMBERS.items() for field in fields.split()]
FLAGS: list[tuple[type[Method], str]] = [(Adam, "amsgrad"), (AdaMod, "hold_idle"), (Momentum, "nesterov")]
WORDS: list[tuple[type[Method], str]] = [(AdaMod, "variant"), (RAdam, "variant"), (RAdam, "below")]

NO_NUMBERS: list[Any] = ["0.9", b"0.9", [0.9], 0.9j, {}, True]
NO_FLAGS: list[Any] = ["no", None, 0.5, []]

OUT_OF_RANGE: list[tuple[type[Method], str, Any]] = [
    *((method, field, bad) for method, field in FIELDS for bad in (-0.1, NAN, INF, -INF, np.float32(NAN))),
    *((method, field, bad) for method, field in FIELDS if "beta" in field for bad in (1.0, 1, 1.5, np.float64(1.0))),
    *((RAdam, "threshold", bad) for bad in (3.9, 0)),
    *((method, field, bad) for method, field in WORDS for bad in ("Paper", "", "sgd")),
]
WRONG_TYPE: list[tuple[type[Method], str, Any]] = [
    *((method, field, bad) for method, field in FIELDS for bad in NO_NUMBERS),
    *((method, field, None) for method, field in FIELDS if field != "threshold"),
    *((method, field, bad) for method, field in FLAGS for bad in NO_FLAGS),
]


def case(x: Any) -> str:
    """A parametrized value as part of a test's name."""
    return x.__name__ if isinstance(x, type) else repr(x)


@pytest.mark.parametrize(("method", "field", "bad"), OUT_OF_RANGE, ids=case)
def test_a_hyperparameter_out_of_range(method: type[Method], field: str, bad: Any) -> None:
    with pytest.raises(ValueError, match=rf"{method.__name__}: {field} must (not )?be"):
        method(**{field: bad})


def test_the_reference_of_radam_has_no_eps_root() -> None:
    """The authors' code has nothing inside of its root: it is refused rather than ignored."""
    with pytest.raises(ValueError, match=r"RAdam: eps_root must be 0 with variant='reference', .* got 1e-08"):
        RAdam(eps=0, eps_root=1e-8, variant="reference")


@pytest.mark.parametrize(("method", "field", "bad"), WRONG_TYPE, ids=case)
def test_a_hyperparameter_of_the_wrong_type(method: type[Method], field: str, bad: Any) -> None:
    with pytest.raises(TypeError, match=rf"{method.__name__}: {field} must be"):
        method(**{field: bad})


@pytest.mark.parametrize("name", FRONT_DOORS)
def test_front_doors_check_hyperparameters(backend: Backend, name: str) -> None:
    init = FRONT_DOORS[name][0]
    beta = "beta" if name == "Momentum" else "beta1"
    with pytest.raises(ValueError, match=f"{name}: {beta} must be in"):
        init(tree(backend), **{beta: 1.0})
    with pytest.raises(TypeError, match="momentum_decay"):
        init(tree(backend), momentum_decay=0.9)


@pytest.mark.parametrize(
    ("bad", "error"), [*((x, ValueError) for x in (0.5, 0, -10, NAN, INF)), *((x, TypeError) for x in ("10", [10]))]
)
def test_len_memory(backend: Backend, bad: Any, error: type[Exception]) -> None:
    with pytest.raises(error, match=r"len_memory must be"):
        aa.adamod_init(tree(backend), len_memory=bad)


def test_len_memory_beside_beta3(backend: Backend) -> None:
    with pytest.raises(TypeError, match="beta3 or len_memory, not both"):
        aa.adamod_init(tree(backend), len_memory=1000, beta3=0.999)


# rates


RATES: dict[str, tuple[Any, type[Exception]]] = {
    "nan": (NAN, ValueError),
    "inf": (INF, ValueError),
    "negative": (-0.1, ValueError),
    "NumPy nan": (np.float64(NAN), ValueError),
    "NumPy float32 inf": (np.float32(INF), ValueError),
    "0-d nan": (np.asarray(NAN), ValueError),
    "vector": (np.asarray([0.1, 0.1]), ValueError),
    "vector of one": (np.asarray([0.1]), ValueError),
    "list": ([0.1, 0.1], ValueError),
    "string": ("0.1", TypeError),
    "bytes": (b"0.1", TypeError),
    "bool": (True, TypeError),
    "NumPy bool": (np.True_, TypeError),
    "complex": (0.1j, TypeError),
    "NumPy complex": (np.complex128(0.1), TypeError),
    "object": (object(), TypeError),
}


NO_RATES: list[tuple[Any, type[Exception]]] = [
    (NAN, ValueError),
    (-1e-3, ValueError),
    ("0.1", TypeError),
    (None, TypeError),
]
"""A few of them, and nothing at all."""


@pytest.mark.parametrize(("bad", "error"), RATES.values(), ids=RATES)
def test_a_bad_rate(backend: Backend, donate: bool, bad: Any, error: type[Exception]) -> None:
    with pytest.raises(error, match="lr"):
        aa.momentum_init(tree(backend), lr=bad)
    state = aa.momentum_init(tree(backend))
    with refused(backend, state, error, "lr", donate=donate):
        aa.momentum_step(state, tree(backend), lr=bad, donate=donate)
    with refused(backend, state := aa.momentum_init(tree(backend)), error, "lr"):
        state.replace(lr=bad)


@pytest.mark.parametrize(("bad", "error"), RATES.values(), ids=RATES)
def test_a_bad_weight_decay(backend: Backend, bad: Any, error: type[Exception]) -> None:
    with pytest.raises(error, match="weight_decay"):
        aa.momentum_init(tree(backend), weight_decay=bad)
    with refused(backend, state := aa.momentum_init(tree(backend)), error, "weight_decay"):
        state.replace(weight_decay=bad)


def test_a_bad_step_count(backend: Backend, donate: bool) -> None:
    """An integer of any kind that is not negative is a count; nothing else is rounded to one."""
    state = aa.momentum_init(tree(backend))
    for good in (3, np.int64(3), np.uint8(3), np.asarray(3), backend.array(3, "int32")):
        for other in (state.replace(step=good), dataclasses.replace(state, step=good)):
            assert int(aa.momentum_step(other, tree(backend)).step) == 4
    wrongs: list[Any] = ["3", b"3", None, True, np.True_, 3.0, np.float64(3), [3], 3j, NAN, backend.array(3.0)]
    bads: list[tuple[Any, type[Exception]]] = [(x, TypeError) for x in wrongs]
    bads += [(x, ValueError) for x in (-1, np.int64(-1), np.asarray([3]), backend.array([3], "int32"))]
    for bad, error in bads:
        makes: list[Callable[[Any], State]] = [
            lambda bad: state.replace(step=bad),
            lambda bad: dataclasses.replace(state, step=bad),
            lambda bad: State(state.params, state.slots, bad, state.method),
        ]
        for make in makes:
            with refused(backend, state, error, "step must be a count of steps", donate=False):
                make(bad)


def test_a_rate_of_the_backends_own_arrays(backend: Backend, donate: bool) -> None:
    for bad in (NAN, -0.1, [0.1, 0.2]):
        with pytest.raises(ValueError, match="lr must"):
            aa.momentum_init(tree(backend), lr=backend.array(bad))
        with pytest.raises(ValueError, match="weight_decay must"):
            aa.momentum_init(tree(backend), weight_decay=backend.array(bad))
    with pytest.raises(TypeError, match="lr must"):
        aa.momentum_init(tree(backend), lr=backend.array(0.1j, "complex64"))
    wrongs: list[tuple[Any, type[Exception]]]
    wrongs = [(backend.array([0.1, 0.2]), ValueError), (backend.array(0.1j, "complex64"), TypeError)]
    for wrong, error in wrongs:
        state = aa.momentum_init(tree(backend))
        with refused(backend, state, error, "lr must", donate=donate):
            aa.momentum_step(state, tree(backend), lr=wrong, donate=donate)


def test_no_rate(backend: Backend) -> None:
    with pytest.raises(TypeError, match="lr must be a number or a schedule, got None"):
        aa.momentum_init(tree(backend), lr=None)


def test_weight_decay_is_no_schedule(backend: Backend) -> None:
    with pytest.raises(TypeError, match=r"weight_decay must be a number.*follows the schedule of lr"):
        aa.momentum_init(tree(backend), weight_decay=aa.schedules.constant(0.1))


PREFIXES: dict[str, Any] = {
    "missing key": {"layers": 0.1},
    "extra key": {"layers": 0.1, "b": 0.1, "c": 0.1},
    "longer list": {"layers": [0.1, 0.1, 0.1], "b": 0.1},
    "shorter list": {"layers": [0.1], "b": 0.1},
    "below a leaf": {"layers": 0.1, "b": {"w": 0.1}},
    "other container": {"layers": (0.1, 0.1), "b": 0.1},
}


@pytest.mark.parametrize("bad", PREFIXES.values(), ids=PREFIXES)
def test_no_tree_prefix(backend: Backend, donate: bool, bad: Any) -> None:
    for name in ("lr", "weight_decay"):
        with pytest.raises(ValueError, match=f"{name} is neither one value nor a tree prefix of params"):
            aa.momentum_init(tree(backend), **{name: bad})
    state = aa.momentum_init(tree(backend))
    with refused(backend, state, ValueError, "lr is neither one value nor a tree prefix of params", donate=donate):
        aa.momentum_step(state, tree(backend), lr=bad, donate=donate)


@pytest.mark.parametrize(("bad", "error"), NO_RATES)
def test_one_bad_rate_in_a_tree_prefix(backend: Backend, donate: bool, bad: Any, error: type[Exception]) -> None:
    prefix = {"layers": [0.1, bad], "b": 0.1}
    for name in ("lr", "weight_decay"):
        with raises(error, f"{name}['layers'][1]"):
            aa.init(aa.Momentum(), tree(backend), **{name: prefix})
    state = aa.momentum_init(tree(backend))
    with refused(backend, state, error, "lr['layers'][1]", donate=donate):
        aa.momentum_step(state, tree(backend), lr=prefix, donate=donate)


@pytest.mark.parametrize(("value", "error"), NO_RATES)
def test_a_schedule_that_goes_wrong(backend: Backend, donate: bool, value: Any, error: type[Exception]) -> None:
    state = aa.momentum_init(tree(backend), lr=lambda t: 0.1 if t < 2 else value)
    state = aa.momentum_step(state, tree(backend))
    before = bits(backend, state)
    with pytest.raises(error, match=r"lr .*at step 2 must"):
        aa.momentum_step(state, tree(backend), donate=donate)
    assert bits(backend, state) == before
    assert aa.momentum_step(state, tree(backend), lr=0.1, donate=donate).step == 2


def test_a_wrapper_is_called_itself(backend: Backend) -> None:
    """Whatever arguments the function has that it wraps."""

    def total(t: float, total: float) -> float:
        return 1 - t / total

    @functools.wraps(total)
    def schedule(t: float) -> float:
        return total(t, 8)

    assert aa.momentum_init(tree(backend), lr=schedule).learning_rate() == 0.875


# donation


@pytest.mark.parametrize("steps", [0, 3])
def test_donate_is_true_or_false(backend: Backend, steps: int) -> None:
    """At the first step, where arrays are known again, where no step is taken, and in a graph of PyTorch's."""
    state = aa.momentum_init(tree(backend))
    for _ in range(steps):
        state = aa.momentum_step(state, tree(backend))
    before = bits(backend, state)
    ways: list[Any] = [aa.momentum_step, functools.partial(aa.momentum_step, where=False)]
    if backend.name == "torch":
        ways.append(backend.xp.compile(aa.momentum_step, backend="eager"))
    for way, value in itertools.product(ways, ("no", 1, None, np.ones(2))):
        with pytest.raises(TypeError, match="step: donate must be True or False, got"):
            way(state, tree(backend), donate=value)
        assert bits(backend, state) == before


@pytest.mark.only("numpy")
def test_read_only_arrays_are_not_donated(backend: Backend) -> None:
    state = aa.adamod_init(tree(backend))
    for root, array in [("params", state.params), ("slots['v']", state.slots["v"])]:
        w = array["layers"][0]["w"]
        w.setflags(write=False)
        with raises(ValueError, f"{root}{W} is read-only"):
            aa.adamod_step(state, tree(backend), donate=True)
        w.setflags(write=True)
    assert aa.adamod_step(state, tree(backend), donate=True).step == 1


@pytest.mark.only("numpy", "torch", "cupy", "jax")
def test_one_array_twice_is_not_donated(backend: Backend) -> None:
    tied = backend.array([1.0, 2.0])
    params = {"decoder": tied, "encoder": tied}
    grads = {"decoder": backend.array([1.0, 1.0]), "encoder": backend.array([2.0, 1.0])}
    state = aa.momentum_init(params)
    before = bits(backend, state)
    with raises(ValueError, "params['decoder']", "params['encoder']", "share memory"):
        aa.momentum_step(state, grads, donate=True)
    assert bits(backend, state) == before
    assert aa.momentum_step(state, grads).step == 1


SHARING: dict[str, tuple[slice, ...]] = {
    "overlapping": (slice(0, 4), slice(3, 6)),
    "inside another": (slice(0, 8), slice(2, 4)),
    "interleaved": (slice(0, None, 3), slice(0, None, 2)),
    "behind a third": (slice(0, None, 3), slice(1, None, 3), slice(6, 7)),
}
APART: dict[str, tuple[slice, ...]] = {
    "adjacent": (slice(0, 6), slice(6, 12)),
    "interleaved": (slice(0, None, 2), slice(1, None, 2)),
    "three interleaved": (slice(0, None, 3), slice(1, None, 3), slice(2, None, 3)),
    "in a gap": (slice(0, None, 11), slice(3, 7)),
}


@pytest.mark.parametrize("slices", SHARING.values(), ids=SHARING)
@pytest.mark.only("numpy", "torch", "cupy")
def test_views_that_share_memory_are_not_donated(backend: Backend, slices: tuple[slice, ...]) -> None:
    base = backend.array(values(12))
    state = aa.momentum_init([base[s] for s in slices])
    before = bits(backend, state)
    grads = [backend.array(np.ones(tuple(p.shape))) for p in state.params]
    with pytest.raises(ValueError, match=r"params\[0\] and params\[\d\] share memory and cannot both be donated"):
        aa.momentum_step(state, grads, donate=True)
    assert bits(backend, state) == before
    assert aa.momentum_step(state, grads).step == 1


@pytest.mark.parametrize("slices", APART.values(), ids=APART)
@pytest.mark.only("numpy", "torch", "cupy")
def test_views_that_share_no_memory_are_donated(backend: Backend, slices: tuple[slice, ...]) -> None:
    base = backend.array(values(12))
    state = aa.momentum_init([base[s] for s in slices])
    grads = [backend.array(values(*p.shape, seed=3)) for p in state.params]
    expected = aa.momentum_step(state, grads).params
    assert_same(backend, aa.momentum_step(state, grads, donate=True).params, expected)


@pytest.mark.only("numpy", "torch", "cupy")
def test_broadcast_views_are_not_donated(backend: Backend) -> None:
    xp = backend.xp
    params = {"w": xp.broadcast_to(backend.array([1.0, 2.0]), (3, 2))}
    grads = {"w": backend.array(np.ones((3, 2)))}
    if backend.name == "numpy":  # broadcast_to makes them read-only; as_strided does not
        params["w"] = np.lib.stride_tricks.as_strided(backend.array([1.0, 2.0]), (3, 2), (0, 4))
    state = aa.momentum_init(params)
    # NumPy's zeros_like keeps no zero strides, so that the parameter alone is at fault
    with pytest.raises(ValueError, match=r"params\['w'\] repeats elements"):
        aa.momentum_step(state, grads, donate=True)
    copied = aa.momentum_init({"w": backend.array(np.tile([1.0, 2.0], (3, 1)))})
    assert_same(backend, aa.momentum_step(state, grads).params, aa.momentum_step(copied, grads).params)


# rules of the user's own


@dataclasses.dataclass(frozen=True)
class Forgetful(Method):
    """Returns its slot only when it feels like it."""

    slots = ("m",)
    returned: float = 1.0

    def rule(self, xp: Any, lr: Any, c: Any, g: Any, p: Any, *slots: Any) -> tuple[Any, ...]:
        """As many arrays as it was told to return."""
        return (p - lr * g, *slots, *slots)[: int(self.returned)]


@pytest.mark.parametrize("returned", [0, 1, 3])
def test_a_rule_that_returns_the_wrong_number_of_arrays(backend: Backend, donate: bool, returned: int) -> None:
    state = aa.init(Forgetful(2), tree(backend))
    texts = "Forgetful.rule must return", "('m',)", f"got {returned} values"
    with refused(backend, state, TypeError, *texts, donate=donate):
        aa.step(dataclasses.replace(state, method=Forgetful(returned)), tree(backend), donate=donate)


def test_a_method_without_a_rule(backend: Backend) -> None:
    @dataclasses.dataclass(frozen=True)
    class Idle(Method):
        pass

    with pytest.raises(NotImplementedError, match=r"Idle must define rule"):
        aa.step(aa.init(Idle(), tree(backend)), tree(backend))
