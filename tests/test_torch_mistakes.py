"""What a beginner writes by mistake with PyTorch: the error, or a warning, says what to write instead."""

from __future__ import annotations

import copy
import io
import pickle
import warnings
from typing import Any

import pytest

import adamod_array as aa
from adamod_array import AdaMod, State, init, schedules, step
from tests.backend import Backend
from tests.test_mistakes import Mistakes, assert_said, call

pytestmark = pytest.mark.only("torch")
NO_GRADIENT = "all gradients are None.*loss.backward\\(\\) forgotten"


def module(backend: Backend) -> Any:
    return backend.xp.nn.Linear(2, 1)


def named(model: Any) -> dict[str, Any]:
    return dict(model.named_parameters())


def test_modules_in_the_place_of_trees(backend: Backend) -> None:
    torch, model = backend.xp, module(backend)
    state = aa.adamod_init(named(model))
    ones = {name: torch.ones_like(p) for name, p in model.named_parameters()}
    batch_norm = torch.nn.BatchNorm1d(3).state_dict()
    scheduler = torch.optim.lr_scheduler.StepLR(torch.optim.SGD(model.parameters(), 0.1), 3)
    rate = torch.tensor(0.1, requires_grad=True)
    elsewhere = torch.ones(1, 2, device="meta")
    of_params, write = (
        "dict(module.named_parameters())",
        "write {name: p.grad for name, p in module.named_parameters()}",
    )
    mistakes: Mistakes = {
        "a module": (call(aa.adamod_init, model), ("params", "Linear", "write " + of_params)),
        "a module below": (call(aa.adamod_init, {"m": model}), ("params['m']", "write " + of_params)),
        "parameters()": (call(aa.adamod_init, model.parameters()), ("got generator", of_params)),
        "named_parameters()": (call(aa.adamod_init, model.named_parameters()), ("got generator", of_params)),
        "pairs": (call(aa.adamod_init, [*model.named_parameters()]), ("params[0][0]", "dict(pairs)")),
        "buffers": (call(aa.adamod_init, batch_norm), ("params['num_batches_tracked']", "leave buffers out")),
        "a class of torch": (call(init, torch.optim.Adam, named(model)), ("a method such as AdaMod()",)),
        "an optimizer": (
            call(step, torch.optim.Adam(model.parameters()), ones),
            ("expected a State from init, got Adam",),
        ),
        "a module of gradients": (call(step, state, model), (write,)),
        "a tuple of gradients": (
            call(step, state, (*ones.values(),)),
            ("must be a dict, got a tuple", "'weight': ..."),
        ),
        "the loss": (call(step, state, torch.tensor(1.0)), ("grads must be a dict, got a torch.Tensor",)),
        "NumPy's": (call(step, state, {**ones, "bias": ones["bias"].numpy()}), ("grads['bias']", "torch.as_tensor(x)")),
        "elsewhere": (call(step, state, {**ones, "weight": elsewhere}), ("grads['weight']", "write x.to('cpu')")),
        "a rate": (call(aa.adamod_init, named(model), lr=rate), ("lr requires grad", "step(...)")),
        "a scheduler": (call(aa.adamod_init, named(model), lr=scheduler), ("StepLR", "adamod_array.torch")),
    }
    assert_said(mistakes)


def test_optimizers_are_given_something_else(backend: Backend) -> None:
    from adamod_array.torch import AdaMod as OfTorch

    model = module(backend)
    iterable = "should be an iterable of Tensors or dicts, but got "
    mistakes: Mistakes = {
        "a module": (call(OfTorch, model), (iterable + "Linear: write model.parameters()",)),
        "a state": (call(OfTorch, aa.adamod_init(named(model))), (iterable + "State: write model.parameters()",)),
        "a method": (call(OfTorch, AdaMod()), (iterable + "AdaMod: write model.parameters()",)),
        "a dict": (call(OfTorch, named(model)), (iterable + "dict: write x.values()",)),
        "a class": (call(OfTorch, model.parameters(), lr=schedules.untuned_linear), ("untuned_linear(beta2=0.999)",)),
        "three betas": (
            call(OfTorch, model.parameters(), betas=(0.9, 0.99, 0.999)),
            ("beta3 is an option of its own",),
        ),
        "beta1": (
            call(OfTorch, model.parameters(), beta1=0.9),
            ("torch.AdaMod()", "write betas=; options are lr, betas"),
        ),
    }
    assert_said(mistakes)
    some = backend.xp.nn.ParameterList([backend.array([1.0])])
    assert len(OfTorch(some).param_groups[0]["params"]) == 1  # the one module that is an iterable of parameters


def test_a_forgotten_backward_is_warned_of_once_a_place(backend: Backend) -> None:
    model = module(backend)
    state = aa.adamod_init(named(model))
    none = {name: p.grad for name, p in model.named_parameters()}
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("default")
        for _ in range(3):
            state = step(state, none)
        for _ in range(3):
            state = aa.adamod_step(state, none, donate=True)
    assert [each.filename for each in seen] == [__file__] * 2
    assert state.step == 6
    with pytest.warns(UserWarning, match=NO_GRADIENT):
        step(state, none)


def test_nobody_is_warned_where_some_gradient_is_there(backend: Backend) -> None:
    """Nor where none could be, where a step is not taken, or by an optimizer, as ``torch.optim`` is silent."""
    from adamod_array.torch import Adam

    model = module(backend)
    state = aa.adamod_init(named(model))
    none: dict[str, Any] = {"weight": None, "bias": None}
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        step(state, {**none, "bias": backend.xp.ones(1)})
        step(state, none, where=False)
        step(aa.adamod_init(none), none)
        step(aa.adamod_init({}), {})
        Adam(model.parameters()).step()


def loaded(state: State, how: str) -> Any:
    """The state, saved and loaded."""
    import torch

    if how == "deepcopy":
        return copy.deepcopy(state)
    if how == "pickle":
        return pickle.loads(pickle.dumps(state))
    file = io.BytesIO()
    torch.save(state, file)
    file.seek(0)
    return torch.load(file)


def test_a_loaded_state_is_tied_to_the_module_again(backend: Backend) -> None:
    """Its tensors are its own until ``replace`` puts the module's in their place: donated steps then move those."""
    for how in ("deepcopy", "pickle", "torch.save"):
        model = module(backend)
        ones = {name: backend.xp.ones_like(p) for name, p in model.named_parameters()}
        state = step(aa.adamod_init(named(model), lr=0.1), ones, donate=True)
        before = model.weight.detach().clone()
        other = loaded(state, how)
        alone = step(loaded(state, how), ones, donate=True)
        assert model.weight.equal(before)
        tied = step(other.replace(params=named(model)), ones, donate=True)
        assert tied.params["weight"] is model.weight
        assert model.weight.equal(alone.params["weight"])
        assert not model.weight.equal(before)
