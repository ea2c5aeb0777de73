"""PyTorch: autograd, modules, torch.func, layouts and serialization around a step."""

from __future__ import annotations

import copy
import io
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from adamod_array import (
    Adam,
    AdaMod,
    Method,
    Momentum,
    RAdam,
    State,
    adam_init,
    adam_step,
    adamod_init,
    adamod_step,
    all_finite,
    engine,
    global_norm,
    init,
    schedules,
    step,
)
from tests.compare import assert_close

pytestmark = pytest.mark.only("torch")
torch = pytest.importorskip("torch")

METHODS = [Adam(), AdaMod(beta3=0.9), RAdam(), Momentum(nesterov=True)]


@pytest.fixture(autouse=True)
def seed() -> None:
    torch.manual_seed(0)


def assert_same(actual: Any, expected: Any, *, ulp: float = 0) -> None:
    """Two tensors: the same dtype and numbers."""
    assert actual.dtype == expected.dtype
    assert_close(actual.detach().numpy(), expected.detach().numpy(), ulp=ulp)


def model() -> Any:
    return torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.Tanh(), torch.nn.Linear(4, 1))


def loss_of(network: Any, x: Any) -> Any:
    return ((network(x) - x.sum(dim=1, keepdim=True)) ** 2).mean()


def test_parameters_that_require_grad_stay_leaves_that_do() -> None:
    """backward goes on through the new parameters, and nothing of the step is in their graph."""
    params = {"w": torch.ones(3, requires_grad=True), "frozen": torch.ones(3)}
    state = adamod_init(params, lr=0.1, beta3=0.0)
    for _ in range(3):
        loss = (state.params["w"] ** 2).sum() + (state.params["w"] * state.params["frozen"]).sum()
        loss.backward()
        state = adamod_step(state, {"w": state.params["w"].grad, "frozen": torch.ones(3)})
        w = state.params["w"]
        assert (w.requires_grad, w.is_leaf, w.grad_fn, w.grad) == (True, True, None, None)
        assert not state.params["frozen"].requires_grad
        assert not any(s.requires_grad for tree in state.slots.values() for s in tree.values())
    assert params["w"].grad is not None  # the old parameter and its gradient still stand
    assert_close(params["w"].detach().numpy(), np.ones(3, np.float32))


def test_slots_of_parameters_never_require_grad() -> None:
    state = adamod_init([torch.ones(2, requires_grad=True), torch.nn.Parameter(torch.ones(2))])
    assert not any(s.requires_grad for tree in state.slots.values() for s in tree)


def test_an_nn_parameter_is_stepped_to_a_leaf() -> None:
    parameter = torch.nn.Parameter(torch.ones(3))
    new = adamod_step(adamod_init(parameter), torch.ones(3)).params
    assert new.requires_grad
    assert new.is_leaf
    assert_close(parameter.detach().numpy(), np.ones(3, np.float32))


@pytest.mark.parametrize("method", METHODS, ids=repr)
def test_a_modules_parameters_are_updated_in_place(method: Method) -> None:
    """donate=True on a module: the same parameters, version counters bumped, numbers as without donation."""
    network, x = model(), torch.randn(8, 3)
    params = dict(network.named_parameters())
    state = init(method, params, lr=1e-2, weight_decay=0.1)
    kept = init(method, {name: p.detach().clone() for name, p in params.items()}, lr=1e-2, weight_decay=0.1)
    memory = {name: (id(p), p.data_ptr()) for name, p in params.items()}
    losses = []
    for _ in range(20):
        network.zero_grad()
        loss = loss_of(network, x)
        loss.backward()
        losses.append(loss.item())
        grads = {name: p.grad for name, p in params.items()}
        versions = {name: p._version for name, p in params.items()}
        kept = step(kept, {name: g.clone() for name, g in grads.items()})
        state = step(state, grads, donate=True)
        for name, p in params.items():
            assert p._version > versions[name]
    assert losses[-1] < losses[0]
    for name, p in network.named_parameters():
        assert (id(p), p.data_ptr()) == memory[name]
        assert state.params[name] is p
        assert p.requires_grad
        assert p.is_leaf
        assert_same(p, kept.params[name])
        for slot in method.slots:
            assert_same(state.slots[slot][name], kept.slots[slot][name])


def test_a_graph_made_before_a_donated_step_is_known_to_be_stale() -> None:
    """The version counter is what tells autograd that a tensor it saved has been written to."""
    w = torch.nn.Parameter(torch.ones(3))
    state = adamod_init(w)
    loss = (w**2).sum()
    adamod_step(state, torch.ones(3), donate=True)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        loss.backward()


def test_the_state_of_a_module_survives_going_on() -> None:
    """Saved in the middle, loaded into a new module, and continued: the same bits as without a break."""
    x = torch.randn(8, 3)

    def train(network: Any, state: State, steps: int) -> State:
        for _ in range(steps):
            network.zero_grad()
            loss_of(network, x).backward()
            state = adamod_step(state, {name: p.grad for name, p in network.named_parameters()}, donate=True)
        return state

    network = model()
    state = train(network, adamod_init(dict(network.named_parameters()), 1e-2 * schedules.linear_warmup(5)), 7)
    file = io.BytesIO()
    torch.save((network.state_dict(), state), file)
    train(network, state, 5)

    file.seek(0)
    weights, loaded = torch.load(file, weights_only=False)
    again = model()
    again.load_state_dict(weights)
    loaded = State(dict(again.named_parameters()), loaded.slots, loaded.step, loaded.method, loaded.lr)
    assert train(again, loaded, 5).step == 12
    for p, q in zip(network.parameters(), again.parameters(), strict=True):
        assert_same(q, p)


def test_functional_call_and_grad() -> None:
    """The functional way: parameters in a dict, gradients by torch.func, nothing written."""
    network, x = model(), torch.randn(8, 3)
    before = {name: p.detach().clone() for name, p in network.named_parameters()}

    def loss(params: Any) -> Any:
        return ((torch.func.functional_call(network, params, x) - x.sum(dim=1, keepdim=True)) ** 2).mean()

    state = adamod_init(before, lr=1e-2, beta3=0.9)
    losses = []
    for _ in range(20):
        grads, value = torch.func.grad_and_value(loss)(state.params)
        losses.append(value.item())
        state = adamod_step(state, grads)
    assert losses[-1] < losses[0]
    for name, p in network.named_parameters():
        assert_same(p, before[name])
        assert not state.params[name].requires_grad


@pytest.mark.parametrize("method", METHODS, ids=repr)
def test_vmap_over_an_ensemble(method: Method) -> None:
    """Members stepped together, with gradients of their own: the same bits as one by one."""
    members, grads = torch.randn(4, 3), torch.randn(4, 3)

    def two_steps(p: Any, g: Any) -> Any:
        state = step(init(method, p, schedules.linear_warmup(3)), g)
        return step(state, 0.5 * g).params

    together = torch.func.vmap(two_steps)(members, grads)
    for row, p, g in zip(together, members, grads, strict=True):
        assert_same(row, two_steps(p, g), ulp=1)  # PyTorch's vector and scalar sqrt differ by an ulp


def test_vmap_over_rates() -> None:
    rates, p, g = torch.tensor([0.1, 0.01]), torch.randn(3), torch.randn(3)
    state = adamod_init(p)
    together = torch.func.vmap(lambda lr: adamod_step(state, g, lr=lr).params)(rates)
    for row, lr in zip(together, rates, strict=True):
        assert_same(row, adamod_step(state, g, lr=lr).params, ulp=1)


def test_steps_that_are_differentiated_after_others() -> None:
    """What was worked out for steps that are not must not cut them."""
    for rates in ({"lr": 0.1}, {"weight_decay": 0.1}):
        state, g = adam_init(torch.ones(3)), torch.ones(3)
        for _ in range(4):
            state = adam_step(state, g)
        own = {name: torch.tensor(value, requires_grad=True) for name, value in rates.items()}
        assert adam_step(state, g, **own).params.requires_grad
    state, g = adam_init(torch.ones(3)), torch.ones(3, requires_grad=True)
    with torch.no_grad():
        for _ in range(4):
            state = adam_step(state, g)
    assert adam_step(state, g).params.requires_grad


def test_missing_gradients_under_torch_func() -> None:
    """Tensors that stand for others have no address."""
    state = adam_init({"a": torch.ones(3), "b": torch.ones(3)})
    batch = torch.stack([torch.ones(3), 2 * torch.ones(3)])
    grads = torch.func.vmap(lambda g: adam_step(state, {"a": g, "b": None}).params["a"])(batch)
    assert torch.equal(grads[0], adam_step(state, {"a": batch[0], "b": None}).params["a"])

    def of(x: Any) -> Any:
        return adam_step(adam_init({"a": x, "b": x}), {"a": torch.ones(3), "b": None}).params["a"].sum()

    assert torch.equal(torch.func.grad(of)(torch.ones(3)), torch.ones(3))


def test_rates_of_a_step_in_a_graph() -> None:
    """What is wrong is an error inside as outside."""
    train = torch.compile(lambda s, g, d: adam_step(s, g, weight_decay=d), backend="eager")
    state, g = adam_init(torch.ones(2)), torch.ones(2)
    for wrong in (-1.0, float("nan"), True, torch.ones(2)):
        with pytest.raises((TypeError, ValueError), match="weight_decay must"):
            train(state, g, wrong)


@pytest.mark.parametrize("name", ["numba", "eager", "foreach"])
def test_views_that_are_read_with_the_other_sign(name: str) -> None:
    """PyTorch loses the sign where it casts numbers into one."""
    with engine(name):
        for dtype in (torch.float16, torch.bfloat16, torch.float32, torch.float64):
            for donate in (False, True):
                state = adam_init(torch.ones(40, dtype=dtype)._neg_view(), 0.25)
                expected = adam_init(-torch.ones(40, dtype=dtype), 0.25)
                for _ in range(3):
                    g = torch.full((40,), 0.5, dtype=dtype)
                    state = adam_step(state, g._neg_view(), donate=donate)
                    expected = adam_step(expected, -g)
                assert torch.equal(state.params, expected.params)
                assert all(torch.equal(state.slots[k], expected.slots[k]) for k in "mv")


@pytest.mark.parametrize("name", ["numba", "eager", "foreach"])
def test_tensors_that_were_of_inference_mode(name: str) -> None:
    """Data of another kind was put into them since; PyTorch writes and counts them in that mode alone, as before."""
    with engine(name):
        for changed_after in (0, 3):
            with torch.inference_mode():
                mixed = torch.ones(4)
            state = adam_init({"plain": torch.ones(4), "mixed": mixed}, 0.25)
            expected = adam_init({"plain": torch.ones(4), "mixed": torch.ones(4)}, 0.25)
            for t in range(6):
                if t == changed_after:
                    mixed.data = mixed.data.clone()
                grads = {"plain": torch.full((4,), t - 2.5), "mixed": torch.full((4,), 2.5 - t)}
                expected = adam_step(expected, grads)
                state = adam_step(state, grads, donate=True)
                assert state.params["mixed"] is mixed
            assert not torch.is_inference_mode_enabled()
            with torch.inference_mode():
                for key, p in state.params.items():
                    assert torch.equal(p, expected.params[key])


@pytest.mark.parametrize("context", [torch.no_grad, torch.inference_mode, torch.enable_grad])
@pytest.mark.parametrize("donate", [False, True])
def test_grad_modes_do_not_change_the_numbers(context: Callable[[], Any], donate: bool) -> None:
    expected = adamod_step(adamod_init(torch.ones(3)), torch.ones(3)).params
    with context():
        state = adamod_init(torch.ones(3, requires_grad=True))
        state = adamod_step(state, torch.ones(3), donate=donate)
        assert_same(state.params, expected)
        assert state.params.requires_grad
        assert adamod_step(state, torch.ones(3), donate=donate).step == 2


@pytest.mark.parametrize("name", ["numba", "eager", "foreach"])
def test_tensors_of_inference_mode_are_stepped_outside_of_it(name: str) -> None:
    with engine(name):
        for donate in (False, True):
            with torch.inference_mode():
                state = adamod_init(torch.ones(3))
            for _ in range(3):
                state = adamod_step(state, torch.ones(3), donate=donate)
            assert state.params.is_inference() == donate


def test_the_grad_mode_is_left_as_it_was() -> None:
    p = torch.ones(3, requires_grad=True)
    adamod_step(adamod_init(p), torch.ones(3))
    assert torch.is_grad_enabled()
    with pytest.raises(ValueError, match="shape"):
        adamod_step(adamod_init(p), torch.ones(4))
    assert torch.is_grad_enabled()


def central_difference(f: Callable[[Any], Any], x: Any, h: float = 1e-6) -> Any:
    """In float64: rounding leaves 1e-16/h, the third derivative h**2."""
    result = torch.zeros_like(x)
    for j in np.ndindex(*x.shape):
        bump = torch.zeros_like(x)
        bump[j] = h
        result[j] = (f(x + bump) - f(x - bump)) / (2 * h)
    return result


@pytest.mark.parametrize("method", [*METHODS, AdaMod(variant="reference")], ids=repr)
def test_differentiating_through_steps(method: Method) -> None:
    """MAML: the loss after two inner steps, with respect to the start, by autograd and by differences."""
    target = torch.tensor([0.3, -0.7, 1.1], dtype=torch.float64)

    def outer(start: Any) -> Any:
        state = init(method, start, lr=0.05, weight_decay=0.1)
        for _ in range(2):
            inner = (torch.sin(state.params) * target).sum() + (state.params**3).sum()
            (grad,) = torch.autograd.grad(inner, state.params, create_graph=True)
            state = step(state, grad)
        return ((state.params - target) ** 2).sum()

    start = torch.tensor([1.0, -2.0, 0.5], dtype=torch.float64, requires_grad=True)
    (gradient,) = torch.autograd.grad(outer(start), start)

    def detached(x: Any) -> Any:
        return outer(x.detach().requires_grad_()).detach()

    assert_close(gradient.numpy(), central_difference(detached, start.detach()).numpy(), atol=1e-7)


def test_torch_func_grad_through_a_step() -> None:
    g = torch.tensor([0.3, -0.7], dtype=torch.float64)

    def loss(p: Any) -> Any:
        return (adamod_step(adamod_init(p, lr=0.05, beta3=0.9), g * p).params ** 2).sum()

    p = torch.tensor([1.0, -2.0], dtype=torch.float64)
    assert_close(torch.func.grad(loss)(p).numpy(), central_difference(loss, p).numpy(), atol=1e-8)


def test_a_rate_that_requires_grad_gets_a_hypergradient() -> None:
    p, g = torch.tensor([1.0, -2.0], dtype=torch.float64), torch.tensor([0.3, 0.7], dtype=torch.float64)

    def loss(lr: Any) -> Any:
        state = adamod_init(p, beta3=0.9, weight_decay=0.1)
        for k in (1.0, 0.5):
            state = adamod_step(state, k * g, lr=lr)
        return (state.params**2).sum()

    lr = torch.tensor(0.05, dtype=torch.float64, requires_grad=True)
    loss(lr).backward()
    assert_close(lr.grad.numpy(), central_difference(loss, lr.detach()).numpy(), atol=1e-8)


def test_a_rate_of_another_dtype_changes_no_dtype() -> None:
    for rate in (torch.tensor(0.1, dtype=torch.float64), torch.tensor(0.1), np.float64(0.1), np.float32(0.1)):
        state = adamod_step(adamod_init(torch.ones(3)), torch.ones(3), lr=rate)
        assert {state.params.dtype, *(s.dtype for s in state.slots.values())} == {torch.float32}


def test_a_gradient_that_requires_grad_is_not_remembered_by_a_donated_step() -> None:
    g = torch.ones(3, requires_grad=True) * 2
    state = adamod_step(adamod_init(torch.ones(3)), g, donate=True)
    assert not state.params.requires_grad
    assert not any(s.requires_grad for s in state.slots.values())


@pytest.mark.parametrize("donate", [False, True])
def test_layouts_are_kept(donate: bool) -> None:
    """Transposed, strided and channels_last parameters: the numbers of contiguous ones, in the layout they came in."""
    image = torch.randn(2, 3, 4, 5)
    layouts = {
        "transposed": (torch.randn(3, 4).t(), torch.randn(4, 3)),
        "channels_last": (image.clone().to(memory_format=torch.channels_last), torch.randn(2, 3, 4, 5)),
        "sliced": (torch.randn(6, 8)[::2, 1::3], torch.randn(3, 3)),
        "gradient transposed": (torch.randn(4, 3), torch.randn(3, 4).t()),
    }
    for name, (p, g) in layouts.items():
        expected = adamod_step(adamod_init(p.contiguous().clone()), g.contiguous())
        start = adamod_init(p)
        state = adamod_step(start, g, donate=donate)
        assert_same(state.params, expected.params, ulp=1)  # PyTorch's strided sqrt is its scalar one
        assert_same(state.slots["s"], expected.slots["s"], ulp=1)
        if name != "sliced" or donate:
            assert state.params.stride() == p.stride(), name
        assert not donate or state.params.data_ptr() == p.data_ptr()


def test_donation_writes_a_view_and_nothing_around_it() -> None:
    whole = torch.zeros(4, 4)
    adam_step(adam_init(whole[1:3, ::2], lr=1.0, eps=0.0), torch.ones(2, 2), donate=True)
    expected = np.zeros((4, 4), np.float32)
    expected[1:3, ::2] = -1
    assert_close(whole.numpy(), expected, ulp=2)
    assert (whole == 0).sum() == 12


def test_tied_weights() -> None:
    """One tensor at two places: two independent results without donation, refused with it."""
    w = torch.ones(3)
    state = adamod_init({"encoder": w, "decoder": w}, lr=1.0, beta3=0.0)
    grads = {"encoder": torch.ones(3), "decoder": -torch.ones(3)}
    with pytest.raises(ValueError, match=r"params\['decoder'\] and params\['encoder'\] share memory"):
        adamod_step(state, grads, donate=True)
    assert_close(w.numpy(), np.ones(3, np.float32))
    new = adamod_step(state, grads)
    assert_close(new.params["encoder"].numpy(), np.zeros(3, np.float32), atol=1e-6)
    assert_close(new.params["decoder"].numpy(), np.full(3, 2, np.float32), ulp=2)


def test_views_of_one_tensor_that_do_not_overlap_may_be_donated() -> None:
    flat = torch.zeros(6)
    state = adamod_init([flat[:3], flat[3:]], lr=1.0, beta3=0.0)
    adamod_step(state, [torch.ones(3), -torch.ones(3)], donate=True)
    assert_close(flat.numpy(), np.asarray([-1, -1, -1, 1, 1, 1], np.float32), ulp=2)


@pytest.mark.parametrize("donate", [False, True])
def test_sparse_tensors_are_refused(donate: bool) -> None:
    state = adamod_init({"w": torch.ones(3, 2)})
    sparse = torch.eye(3, 2).to_sparse()
    with pytest.raises(TypeError, match=r"grads\['w'\] must be dense.*to_dense"):
        adamod_step(state, {"w": sparse}, donate=donate)
    with pytest.raises(TypeError, match=r"params\['w'\] must be dense"):
        adamod_init({"w": sparse})
    assert adamod_step(state, {"w": torch.ones(3, 2)}, donate=donate).step == 1


def test_devices_must_agree() -> None:
    state = adamod_init({"w": torch.ones(3)})
    with pytest.raises(ValueError, match=r"grads\['w'\] must be on its parameter's device cpu, got meta"):
        adamod_step(state, {"w": torch.ones(3, device="meta")})


def test_meta_tensors_show_shapes_without_numbers() -> None:
    state = adamod_init({"w": torch.ones(3, 2, device="meta", dtype=torch.bfloat16)}, lr=0.1)
    state = adamod_step(state, {"w": torch.ones(3, 2, device="meta", dtype=torch.bfloat16)})
    assert state.params["w"].device.type == state.slots["s"]["w"].device.type == "meta"
    assert (state.params["w"].dtype, state.slots["s"]["w"].dtype) == (torch.bfloat16, torch.float32)


@pytest.mark.parametrize("donate", [False, True])
def test_no_dimensions_and_no_elements(donate: bool) -> None:
    params = {"scalar": torch.tensor(2.0), "empty": torch.ones(0, 3)}
    grads = {"scalar": torch.tensor(1.0), "empty": torch.ones(0, 3)}
    state = adamod_step(adamod_init(params, lr=0.5, beta3=0.0), grads, donate=donate)
    assert {name: tuple(p.shape) for name, p in state.params.items()} == {"scalar": (), "empty": (0, 3)}
    assert_close(state.params["scalar"].numpy(), np.float32(1.5), ulp=1)


@pytest.mark.parametrize("narrow", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("donate", [False, True])
def test_sixteen_bits_keep_float32_slots(narrow: Any, donate: bool) -> None:
    """What float32 computes, rounded once at the end."""
    p, g = torch.randn(50).to(narrow), torch.randn(50).to(narrow)
    wide = adamod_step(adamod_init(p.float(), lr=0.1, weight_decay=0.1), g.float())
    state = adamod_step(adamod_init(p, lr=0.1, weight_decay=0.1), g, donate=donate)
    assert state.params.dtype == narrow
    assert {s.dtype for s in state.slots.values()} == {torch.float32}
    assert_close(state.params.float().numpy(), wide.params.to(narrow).float().numpy())
    for name, s in state.slots.items():
        assert_same(s, wide.slots[name])


def test_complex_parameters_require_grad_too() -> None:
    z = torch.tensor([3 + 4j, 1j], requires_grad=True)
    (z.abs() ** 2).sum().backward()
    state = adamod_step(adamod_init(z, lr=0.1, beta3=0.0), z.grad)
    assert state.params.dtype == torch.complex64
    assert (state.slots["m"].dtype, state.slots["v"].dtype) == (torch.complex64, torch.float32)
    # Adam's first step: lr along g/|g|, and here g = 2z
    unit = np.asarray([0.6 + 0.8j, 1j])
    assert_close(state.params.detach().numpy(), np.asarray([3 + 4j, 1j]) - 0.1 * unit, ulp=3)


def test_lazy_conjugates_and_negatives() -> None:
    """conj() and imag views carry a bit instead of a copy; their values count, not their memory."""
    g = torch.tensor([3 + 4j, 1 - 2j])
    for lazy in (g.conj(), g.conj().imag):
        p = torch.zeros_like(lazy.resolve_conj().resolve_neg())
        plain = adamod_step(adamod_init(p), lazy.resolve_conj().resolve_neg().clone())
        assert_same(adamod_step(adamod_init(p), lazy).params, plain.params, ulp=1)


def test_the_users_default_dtype_changes_nothing() -> None:
    expected = adamod_step(adamod_init(torch.ones(3), 1e-2 * schedules.linear_warmup(7)), torch.full((3,), 0.3)).params
    before = torch.get_default_dtype()
    try:
        for default in (torch.float64, torch.float16):
            torch.set_default_dtype(default)
            state = adamod_init(torch.ones(3, dtype=torch.float32), 1e-2 * schedules.linear_warmup(7))
            state = adamod_step(state, torch.full((3,), 0.3, dtype=torch.float32))
            assert_same(state.params, expected)
            assert {s.dtype for s in state.slots.values()} == {torch.float32}
    finally:
        torch.set_default_dtype(before)


@pytest.mark.parametrize("name", ["auto", "eager"])
def test_the_users_default_device_changes_nothing(name: str) -> None:
    p, g = torch.ones(3), torch.ones(3)
    with engine(name):
        expected = adamod_step(adamod_init(p), g)
    with torch.device("meta"), engine(name):
        state = adamod_step(adamod_init(p, 1e-3 * schedules.constant(1.0), weight_decay=0.0), g)
        norm, finite = global_norm([p, g]), all_finite([p, g])
        adamod_step(state, g, max_norm=1.0, where=all_finite)
    assert_same(state.params, expected.params)
    assert state.slots["m"].device.type == norm.device.type == finite.device.type == "cpu"


def test_copies_and_files() -> None:
    grads = {"w": torch.ones(3)}
    state = adamod_step(adamod_init({"w": torch.nn.Parameter(torch.ones(3))}, schedules.linear_warmup(4)), grads)
    file = io.BytesIO()
    torch.save(state, file)
    file.seek(0)
    for twin in (copy.deepcopy(state), torch.load(file, weights_only=False)):
        assert (twin.method, twin.lr, twin.step) == (state.method, state.lr, state.step)
        assert twin.params["w"].requires_grad
        assert twin.params["w"].data_ptr() != state.params["w"].data_ptr()
        assert_same(adamod_step(twin, grads, donate=True).params["w"], adamod_step(state, grads).params["w"])


def test_the_state_is_a_pytree_for_torch() -> None:
    from torch.utils import _pytree

    state = adamod_step(adamod_init({"w": torch.ones(3)}), {"w": torch.ones(3)})
    leaves, spec = _pytree.tree_flatten(state)
    assert len(leaves) == 6
    again = _pytree.tree_unflatten(leaves, spec)
    assert isinstance(again, State)
    assert (again.step, again.method, again.lr) == (1, state.method, state.lr)
    doubled = _pytree.tree_map_only(torch.Tensor, lambda x: x.double(), state)
    assert adamod_step(doubled, {"w": torch.ones(3)}).params["w"].dtype == torch.float64


def test_subclasses_of_tensor_are_tensors() -> None:
    buffer, plain = adamod_init(torch.nn.Buffer(torch.ones(3))), adamod_init(torch.ones(3))
    assert_same(adamod_step(buffer, torch.ones(3)).params, adamod_step(plain, torch.ones(3)).params)


def test_inside_torch_compile_the_numbers_are_right() -> None:
    """As a graph break at worst; the eager backend needs no C++ compiler."""

    @torch.compile(backend="eager")  # type: ignore[untyped-decorator, unused-ignore]
    def train(state: State, x: Any) -> State:
        return adamod_step(state, {"w": 2 * x})

    start = adamod_init({"w": torch.ones(3)}, lr=0.1)
    compiled = expected = start
    for _ in range(3):
        compiled, expected = train(compiled, torch.ones(3)), adamod_step(expected, {"w": torch.full((3,), 2.0)})
    assert compiled.step == 3
    assert_same(compiled.params["w"], expected.params["w"], ulp=2)
