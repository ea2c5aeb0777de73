"""The defaults and names in the table of docs/differences.md are those of the packages that are installed."""

from __future__ import annotations

import inspect
import re
from typing import Any

import adamod
import jax.numpy as jnp
import optax
import pytest
import torch

import adamod_array
from tests.blocks import ROOT


def row(name: str) -> list[str]:
    """The cells of a line: torch.optim, optax, the authors' adamod, here."""
    text = (ROOT / "docs" / "differences.md").read_text(encoding="utf-8")
    (line,) = [line for line in text.splitlines() if line.startswith(f"| **{name}** |")]
    return [cell.strip() for cell in line.strip("|").split("|")[1:]]


def options(cell: str) -> dict[str, Any]:
    """``name=value`` in the code of a cell."""
    found = re.findall(r"(\w+)=(\([^)]*\)|[\w.-]+)", " ".join(re.findall(r"`([^`]*)`", cell)))
    return {name: eval(value, {}) for name, value in found}


def defaults(function: Any) -> dict[str, Any]:
    return {name: each.default for name, each in inspect.signature(function).parameters.items()}


def test_defaults() -> None:
    theirs = (torch.optim.Adam, optax.adam, adamod.AdaMod, adamod_array.adamod_init)
    momentum = (torch.optim.SGD, optax.sgd, None, adamod_array.momentum_init)
    for name, functions in {"rate": theirs, "betas": theirs, "momentum": momentum}.items():
        for cell, function in zip(row(name), functions, strict=True):
            if function is not None:
                assert options(cell).items() <= defaults(function).items(), (name, cell)
    assert defaults(optax.adam)["learning_rate"] is inspect.Parameter.empty

    assert [defaults(f)["eps"] for f in theirs] == [1e-8] * 4
    adamw = torch.optim.AdamW, optax.adamw
    assert [f"{defaults(f)['weight_decay']:g}" for f in adamw] == ["0.01", "0.0001"]
    assert "`AdamW`: 0.01" in row("weight decay")[0] and "`adamw`: 1e-4" in row("weight decay")[1]
    assert [defaults(f)["weight_decay"] for f in (*theirs[::2], adamod_array.adam_init)] == [0] * 3
    assert row("threshold of RAdam")[1] == f"{defaults(optax.radam)['threshold']:g}"
    assert adamod_array.RAdam().threshold == 4 and adamod_array.RAdam(variant="reference").threshold == 5


# as in tests/peers/test_docs.py
@pytest.mark.filterwarnings(r"ignore:This overload of add(cmul)?_ is deprecated:UserWarning")
def test_averages() -> None:
    p = torch.nn.Parameter(torch.ones(1))
    for cell, made in zip(row("averages")[:3:2], (torch.optim.Adam([p]), adamod.AdaMod([p])), strict=True):
        p.grad = torch.ones(1)
        made.step()
        assert set(re.findall(r'"(\w+)"', cell)) <= set(made.state[p])
    maximum = torch.optim.Adam([p], amsgrad=True)
    maximum.step()
    assert row("AMSGrad's maximum")[0].strip('`"') in maximum.state[p]
    assert hasattr(optax.amsgrad(1.0).init(jnp.ones(1))[0], row("AMSGrad's maximum")[1].strip("`."))

    state = adamod_array.adamod_init(jnp.ones(1))
    assert sorted(state.slots) == sorted(re.findall(r'"(\w+)"', row("averages")[3]))
    assert set(re.findall(r'"(\w+)"', row("AMSGrad's maximum")[3])) < set(adamod_array.Adam(amsgrad=True).slots)


def test_complex_parameters() -> None:
    """A gradient of 3 + 4j: one rate keeps its direction; the bias correction in float32 is off by 1e-5."""
    p = torch.nn.Parameter(torch.zeros(1, dtype=torch.complex128))
    p.grad = torch.full_like(p, 3 + 4j)
    torch.optim.Adam([p], lr=1.0).step()
    adam, numbers = optax.adam(1.0), jnp.zeros(1, complex)
    update, state = adam.update(numbers + (3 + 4j), adam.init(numbers))
    here = adamod_array.adam_step(adamod_array.adam_init(numbers, lr=1.0), numbers + (3 + 4j))
    assert abs(p.item() - (-1 - 1j)) < 1e-4
    assert abs(complex(update[0]) - (-0.6 - 0.8j)) < 1e-4
    assert abs(complex(here.params[0]) - (-0.6 - 0.8j)) < 1e-4
    assert jnp.iscomplexobj(state[0].nu) and not jnp.iscomplexobj(here.slots["v"])
