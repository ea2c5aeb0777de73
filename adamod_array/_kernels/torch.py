"""PyTorch: which engine takes a step, and what autograd expects of an optimizer."""

from __future__ import annotations

import math
import sys
from dataclasses import dataclass
from typing import Any

from adamod_array import _kernels
from adamod_array._kernels import Result, Work, compiled, eager, foreach

_LISTS = ("cpu", "cuda", "xpu", "mps")
"""Devices whose tensors are stepped as lists; any other's one by one."""
_FUSE = {("compile", "compile"): 0, ("compile", "auto"): foreach.CHUNK}
"""From how many elements on a leaf of the CPU is compiled: for smaller ones the call costs more than it saves."""


@dataclass
class Plan:
    """The engine of a tree and what it worked out, handed from state to state."""

    choice: str
    engine: str
    inner: Any = None
    written: list[Any] | None = None
    """The tensors of the state, where steps are donated and the same ones are written again."""


def run(work: Work, donate: bool) -> Result:
    """A step outside of autograd, whose results require gradients where the parameters did.

    A step that is itself to be differentiated (a gradient or slot that requires grad, a parameter
    computed from others, torch.func) is left to autograd; a donated step never is.
    """
    torch = sys.modules["torch"]
    plan, work.plan = work.plan, None
    if not donate and _is_differentiated(torch, work):
        return eager.run(work, donate)
    with torch.no_grad():
        choice = _kernels._choice.get()
        if not _are_plain(torch, work, known=plan is not None):
            plan = None
        elif plan is None or plan.choice != choice:
            plan = Plan(choice, _engine(work, choice))
        if plan is None or plan.engine == "eager":
            params, slots = eager.run(work, donate)
        else:
            work.plan = plan.inner
            if plan.engine == "numba":
                params, slots = compiled().run(work, donate)
            else:
                params, slots = foreach.run(work, donate, fuse=_FUSE.get((plan.engine, choice), math.inf))
            written = None
            if donate:
                written = plan.written or [x for arrays in (params, *slots) for x in arrays]
                torch.autograd.graph.increment_version(written)
            work.plan = Plan(plan.choice, plan.engine, work.plan, written)
    if not donate:
        for old, new in zip(work.params, params, strict=True):
            if old.requires_grad:
                new.requires_grad_()
    return params, slots


def _engine(work: Work, choice: str) -> str:
    """The engine in force for these tensors; what a choice cannot serve is stepped eagerly."""
    devices = {p.device.type for p in work.params}
    if choice in ("auto", "numba") and devices == {"cpu"} and compiled():
        return "numba"
    if choice not in ("auto", "compile", "foreach") or not devices <= {*_LISTS}:
        return "eager"
    return "foreach" if choice == "foreach" or all(map(foreach.missing_compiler, devices)) else "compile"


def _is_differentiated(torch: Any, work: Work) -> bool:
    if not torch.is_grad_enabled():
        return False
    inputs = [*work.grads, *(x for kept in work.slots for x in kept)]
    inputs += [x for pair in work.pairs for x in pair if isinstance(x, torch.Tensor)]
    if True in [x.requires_grad for x in inputs]:
        return True
    if torch._C._functorch.peek_interpreter_stack() is not None:
        return any(torch._C._functorch.is_functorch_wrapped_tensor(p) for p in work.params)
    return True in [p.requires_grad and not p.is_leaf for p in work.params]


def _are_plain(torch: Any, work: Work, *, known: bool) -> bool:
    """Whether the tensors are memory of a device and nothing stands between them and a kernel.

    ``known``: they are results of a step that could say so; gradients are always looked at.
    """
    if torch._C._functorch.peek_interpreter_stack() is not None or torch._C._len_torch_dispatch_stack():
        return False
    tensors = [*work.grads]
    if not known:
        tensors += (x for p, kept in zip(work.params, work.slots, strict=True) for x in (p, *kept))
    if not {type(x) for x in tensors} <= {torch.Tensor, torch.nn.Parameter}:
        return False
    return True not in [x.is_neg() or x.is_conj() for x in tensors]  # views that are read with another sign
