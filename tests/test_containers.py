"""Containers that differ where the leaves do not, and containers that are themselves functions."""

from __future__ import annotations

import dataclasses
from collections import OrderedDict, defaultdict
from collections.abc import Callable
from typing import Any, NamedTuple

import pytest

from adamod_array import momentum_init, momentum_step, schedules
from tests.backend import Backend
from tests.compare import assert_close


class Pair(NamedTuple):
    a: Any
    b: Any


def tree(x: Any) -> dict[str, Any]:
    return {"b": x, "layers": [{"w": x, "z": x}, OrderedDict(w=x, z=x)], "pair": Pair(x, (x, {}))}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: {**t, "layers": tuple(t["layers"])}, "grads['layers'] must be a list, got a tuple"),
        (
            lambda t: {**t, "layers": [t["layers"][0], list(t["layers"][1].values())]},
            "grads['layers'][1] must be a collections.OrderedDict, got a list: write {'w': ..., 'z': ...}",
        ),
        (lambda t: {**t, "pair": Pair(t["b"], (t["b"], []))}, "grads['pair'].b[1] must be a dict, got a list"),
        (lambda t: OrderedDict(t, layers=tuple(t["layers"])), "grads['layers'] must be a list, got a tuple"),
        (lambda t: {**t, "c": ()}, "grads['c'] has no parameter beside it"),
    ],
)
def test_the_first_container_that_differs_is_named(
    backend: Backend, change: Callable[[dict[str, Any]], Any], message: str
) -> None:
    x = backend.array([1.0])
    state = momentum_init(tree(x))
    assert momentum_step(state, tree(x)).step == 1
    with pytest.raises(ValueError, match="grads must have the structure of params: ") as error:
        momentum_step(state, change(tree(x)))
    assert message in str(error.value)


@pytest.mark.parametrize("kind", [dict, OrderedDict, lambda items: defaultdict(list, items)])
@pytest.mark.parametrize("kept", [dict, OrderedDict, lambda items: defaultdict(list, items)])
def test_mappings_are_matched_by_their_keys(
    backend: Backend, kind: Callable[[Any], Any], kept: Callable[[Any], Any]
) -> None:
    """In whatever order, as PyTorch gives them by name; the parameters stay in their own kind."""
    x = backend.array([0.0])
    params, grads = kept([("z", x), ("a", x)]), kind([("a", backend.array([1.0])), ("z", backend.array([2.0]))])
    new = momentum_step(momentum_init(params, lr=1.0), grads).params
    assert type(new) is type(params)
    assert [*new] == [*params]
    assert_close(backend.numpy(new["a"]), [-1.0])
    assert_close(backend.numpy(new["z"]), [-2.0])


@pytest.mark.parametrize("kind", [dict, OrderedDict])
@pytest.mark.parametrize("kept", [dict, OrderedDict])
def test_rates_are_matched_by_their_keys(backend: Backend, kind: Any, kept: Any) -> None:
    """Also where they are a prefix, in another order than the parameters."""
    x = backend.array([0.0])
    params = kept([("z", [x, x]), ("a", x)])
    prefix = kind([("a", 1.0), ("z", 2.0)]), kind([("z", 2.0), ("a", 1.0)])
    ones = kept([("z", [backend.array([1.0])] * 2), ("a", backend.array([1.0]))])
    for lr in prefix:
        new = momentum_step(momentum_init(params, lr=lr), ones).params
        assert_close(backend.numpy(new["a"]), [-1.0])
        assert_close(backend.numpy(new["z"][1]), [-2.0])


@pytest.mark.only("jax")
def test_the_first_container_that_differs_where_jax_alone_knows_them(backend: Backend) -> None:
    import jax

    @jax.tree_util.register_dataclass
    @dataclasses.dataclass
    class Module:
        w: Any
        size: int = dataclasses.field(default=1, metadata={"static": True})

    x = backend.array([1.0])
    state = momentum_init({"net": Module([x])})
    for grads, message in [
        (Module((x,)), r"grads\['net'\]\.w must be a list, got a tuple"),
        (Module([x], 2), r"grads\['net'\] must be PyTreeDef.*got PyTreeDef"),
    ]:
        with pytest.raises(ValueError, match="grads must have the structure of params: " + message):
            momentum_step(state, {"net": grads})


@pytest.mark.only("jax")
@pytest.mark.parametrize("kept", [True, False])
def test_a_container_that_can_be_called_is_a_schedule_unless_the_parameters_lie_in_one(
    backend: Backend, kept: bool
) -> None:
    import jax

    @jax.tree_util.register_dataclass
    @dataclasses.dataclass
    class Module:
        w: Any

        def __call__(self, t: Any) -> Any:
            return 0.5 * t

    def stepped(params: Any, lr: Any) -> Any:
        grads = jax.tree.map(jax.numpy.ones_like, params)
        state = momentum_init(params, lr) if kept else momentum_init(params)
        return momentum_step(state, grads, lr=None if kept else lr).params

    x = backend.array([1.0])
    assert_close(stepped({"w": x}, Module(0.25))["w"], backend.numpy(x) - 0.5)
    assert_close(stepped(x, jax.tree_util.Partial(schedules.constant(0.5))), backend.numpy(x) - 0.5)
    assert_close(stepped(Module(x), Module(0.25)).w, backend.numpy(x) - 0.25)
    assert_close(stepped(Module(x), schedules.constant(0.125)).w, backend.numpy(x) - 0.125)
