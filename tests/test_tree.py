"""Any tree of arrays: results come back in the caller's own containers, each leaf as if it were alone."""

from __future__ import annotations

import dataclasses
from collections import OrderedDict, defaultdict, deque, namedtuple
from collections.abc import Callable
from typing import Any

import optree
import pytest

from adamod_array import adamod_init, adamod_step, momentum_init, momentum_step
from tests.backend import Backend
from tests.trees import assert_same, values

Layer = namedtuple("Layer", ["w", "b"])


@dataclasses.dataclass
class Block:
    """Two arrays and a name that is no child."""

    w: Any
    b: Any
    name: str = "block"


def flatten(block: Any) -> Any:
    """Children, what is not a child, and the children's names."""
    return (block.w, block.b), block.name, ("w", "b")


def unflatten(name: Any, children: Any) -> Any:
    """The inverse."""
    w, b = children
    return Block(w, b, name)


optree.register_pytree_node(
    Block,
    flatten,
    unflatten,
    path_entry_type=optree.GetAttrEntry,
    namespace=optree.registry.__GLOBAL_NAMESPACE,
)


TREES: dict[str, Callable[[Any, Any, Any], Any]] = {
    "array": lambda a, b, c: a,
    "dict": lambda a, b, c: {"z": a, "a": b, "m": c},
    "list": lambda a, b, c: [a, b, c],
    "tuple": lambda a, b, c: (a, b, c),
    "tuple of one": lambda a, b, c: (a,),
    "namedtuple": lambda a, b, c: Layer(a, b),
    "OrderedDict": lambda a, b, c: OrderedDict([("z", a), ("a", b), ("m", c)]),
    "defaultdict": lambda a, b, c: defaultdict(list, {"z": a, "a": b}),
    "deque": lambda a, b, c: deque([a, b, c], maxlen=3),
    "dataclass": lambda a, b, c: Block(a, b, name="first"),
    "nested": lambda a, b, c: {"layers": [Layer(a, (b,)), {"x": {}}], "last": Block([c], [])},
    "keys of two types": lambda a, b, c: {2: a, "one": b, 1: c},
    "empty": lambda a, b, c: {},
    "empty list": lambda a, b, c: [],
    "with None": lambda a, b, c: {"frozen": None, "w": [a, None], "b": (None, c)},
}


def three(backend: Backend, seed: int) -> list[Any]:
    """Arrays of three shapes."""
    return [backend.array(values(*shape, seed=seed + i)) for i, shape in enumerate([(2, 3), (3,), ()])]


@pytest.mark.parametrize("make", TREES.values(), ids=TREES)
def test_every_leaf_is_stepped_in_its_place(backend: Backend, make: Callable[..., Any]) -> None:
    params, grads = three(backend, 0), three(backend, 5)
    alone = [adamod_step(adamod_init(p), g) for p, g in zip(params, grads, strict=True)]
    state = adamod_step(adamod_init(make(*params)), make(*grads))
    assert state.step == 1
    assert_same(backend, state.params, make(*(each.params for each in alone)))
    for name in ("m", "v", "s"):
        assert_same(backend, state.slots[name], make(*(each.slots[name] for each in alone)))


def test_containers_keep_what_is_not_an_array(backend: Backend) -> None:
    a, b, _ = three(backend, 0)

    def stepped(params: Any) -> Any:
        return momentum_step(momentum_init(params), params).params

    assert stepped(Block(a, b, name="first")).name == "first"
    assert stepped(defaultdict(list, {"z": a})).default_factory is list
    assert stepped(deque([a], maxlen=7)).maxlen == 7
    assert type(stepped(Layer(a, b))) is Layer


DICTS: dict[str, Callable[..., Any]] = {
    "dict": dict,
    "OrderedDict": OrderedDict,
    "defaultdict": lambda items: defaultdict(int, items),
}


@pytest.mark.parametrize("kind", DICTS.values(), ids=DICTS)
def test_dicts_keep_their_order(backend: Backend, kind: Callable[..., Any]) -> None:
    a, b, c = three(backend, 0)
    state = momentum_init(kind([("z", a), ("a", b), ("m", c)]))
    grads = kind([("z", a), ("a", b), ("m", c)])
    for _ in range(2):
        state = momentum_step(state, grads)
        assert list(state.params) == ["z", "a", "m"]
        assert type(state.params) is type(grads)
        assert list(state.slots["m"]) == ["z", "a", "m"]


def test_gradients_may_come_in_another_order(backend: Backend) -> None:
    a, b, c = three(backend, 0)
    state = adamod_init({"z": a, "a": b, "m": {2: c, 1: a}})
    grads = {"z": a, "a": b, "m": {2: c, 1: a}}
    other = {"m": {1: a, 2: c}, "a": b, "z": a}
    assert_same(backend, adamod_step(state, other).params, adamod_step(state, grads).params)
    assert list(adamod_step(state, other).params) == ["z", "a", "m"]


def test_none_stands_for_what_is_not_optimized(backend: Backend) -> None:
    a, _, c = three(backend, 0)
    params = {"frozen": None, "w": a, "more": [None, c]}
    rates = {"frozen": None, "w": 0.5, "more": [None, 0.25]}
    state = adamod_init(params, rates, weight_decay=rates)
    assert_same(backend, adamod_step(state, params, lr=rates), adamod_step(state, params))
    state = adamod_init(params, weight_decay=0.1)
    assert state.slots["s"]["frozen"] is None
    assert state.slots["s"]["more"][0] is None
    alone = adamod_init([a, c], weight_decay=0.1)
    for donate in (False, False, False, True, True, True):  # the later ones of each know the arrays again
        state = adamod_step(state, params, donate=donate)
        alone = adamod_step(alone, [a, c])
        assert state.params["frozen"] is None
        assert state.params["more"][0] is None
        assert state.slots["m"]["more"][0] is None
        assert_same(backend, [state.params["w"], state.params["more"][1]], alone.params)


def test_an_empty_tree_only_counts(backend: Backend) -> None:
    params: dict[str, Any] = {}
    state = adamod_init(params)
    for donate in (False, True, False):
        state = adamod_step(state, {}, donate=donate)
    assert state.step == 3
    assert state.params == {}
    assert state.slots == {"m": {}, "v": {}, "s": {}}


def test_the_callers_containers_are_not_changed(backend: Backend) -> None:
    a, b, _ = three(backend, 0)
    params = {"layers": [a, b]}
    grads = {"layers": [b * 0 + 1 if i else a for i in (0, 1)]}
    kept_params, kept_grads = [*params["layers"]], [*grads["layers"]]
    state = adamod_init(params)
    adamod_step(state, grads)
    params["layers"].append(a)  # the caller's list is the caller's
    assert all(x is y for x, y in zip(params["layers"], kept_params, strict=False))
    assert all(x is y for x, y in zip(grads["layers"], kept_grads, strict=True))


@pytest.mark.only("jax")
def test_containers_that_jax_alone_knows(backend: Backend) -> None:
    import jax

    @jax.tree_util.register_dataclass
    @dataclasses.dataclass
    class Module:
        w: Any
        b: Any

    a, b, _ = three(backend, 0)
    params, grads = {"net": Module(a, b), "x": [a]}, {"net": Module(a, None), "x": [a]}
    state = adamod_init(params, lr={"net": 1e-2, "x": 1e-3})
    assert isinstance(state.slots["v"]["net"], Module)
    new = adamod_step(state, grads)
    plain = adamod_init({"w": a, "b": b, "x": a}, lr={"w": 1e-2, "b": 1e-2, "x": 1e-3})
    expected = adamod_step(plain, {"w": a, "b": None, "x": a}).params
    assert isinstance(new.params["net"], Module)
    assert new.params["net"].b is b
    assert_same(backend, new.params["net"].w, expected["w"])
    assert_same(backend, new.params["x"], [expected["x"]])
    with pytest.raises(ValueError, match=r"grads\['net'\]\.w must have its parameter's shape \(2, 3\), got \(3,\)"):
        adamod_step(state, {"net": Module(b, None), "x": [a]})
    with pytest.raises(ValueError, match=r"grads must have the structure of params.*grads\['x'\]\[0\] is missing"):
        adamod_step(state, {"net": Module(a, b), "x": []})
    with pytest.raises(ValueError, match="lr is neither one value nor a tree prefix"):
        adamod_init(params, lr={"net": 1e-2})
