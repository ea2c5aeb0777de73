"""PyTorch: which engine takes a step, and what autograd expects of an optimizer."""

from __future__ import annotations

import contextlib
import sys
from dataclasses import dataclass
from typing import Any

from adamod_array import _engines
from adamod_array._engines import Result, Work, compiled, eager, torch_lists

_LISTS = ("cpu", "cuda", "xpu", "mps")
"""Devices whose tensors are stepped as lists; any other's one by one."""


@dataclass
class Plan:
    """The engine of a tree and what it worked out, handed from state to state."""

    choice: str
    engine: str
    inner: Any = None

    @property
    def look(self) -> Any:
        """What knows the tensors of the last step again; None where the next must be checked one by one."""
        return self.inner.look if self.engine == "numba" and self.inner is not None else None

    def find(self, arrays: list[Any], donate: bool) -> Any:
        """Return the addresses of tensors like those of the last step, or None."""
        return self.inner.find(arrays, donate)

    def serves(self, *rates: Any) -> bool:
        """Return whether it is the plan for these rates."""
        return bool(self.inner.serves(*rates))

    def step(self, kind: Any, grads: Any, params: Any, slots: Any, *rest: Any) -> tuple[list[Any], list[list[Any]]]:
        """Take the step, and tell autograd."""
        new_params, new_slots = self.inner.step(kind, grads, params, slots, *rest)
        _tell_autograd(params, new_params, new_slots)
        return new_params, new_slots


def run(work: Work, donate: bool) -> Result:
    """Step outside of autograd; results require gradients where the parameters did.

    A step that is itself to be differentiated (a gradient or slot that requires grad, a parameter
    computed from others, torch.func) is left to autograd; a donated step never is.
    """
    torch = sys.modules["torch"]
    plan, work.plan = work.plan, None
    if not donate and _is_differentiated(torch, work):
        return eager.run(work, donate)
    with _without_autograd(torch, work, donate):
        choice, kernels = _engines._choice.get(), _kernels_for(work)
        if not _are_plain(torch, work):
            plan = None
        elif plan is None or (plan.choice, plan.engine == "numba") != (choice, kernels is not None):
            plan = Plan(choice, "numba" if kernels is not None else _engine(work, choice))
        if plan is None or plan.engine == "eager":
            params, slots = eager.run(work, donate)
        else:
            work.plan = plan.inner
            if kernels is not None:
                params, slots = kernels.run(work, donate)
            else:
                params, slots = torch_lists.run(work, donate, fuse=plan.engine == "compile")
            work.plan = Plan(plan.choice, plan.engine, work.plan)
    _tell_autograd(work.params, params, slots)
    return params, slots


def _without_autograd(torch: Any, work: Work, donate: bool) -> contextlib.AbstractContextManager[Any]:
    """Return the mode of a step: tensors of inference mode may be written in that mode alone."""
    written = (x for p, kept in zip(work.params, work.slots, strict=True) for x in (p, *kept))
    if donate and any(x.is_inference() for x in written):
        mode: contextlib.AbstractContextManager[Any] = torch.inference_mode()
    else:
        mode = torch.no_grad()
    return mode


def _tell_autograd(old: Any, params: Any, slots: Any) -> None:
    """Say what has been written in place; let new parameters require gradients where the old ones did."""
    written = [p for p, q in zip(params, old, strict=True) if p is q]
    if written:
        tell = getattr(sys.modules["torch"].autograd.graph, "increment_version", None)
        if tell is not None:  # else autograd does not see that they were written
            tell([*written, *(x for kept in slots for x in kept)])
        return
    for p, q in zip(params, old, strict=True):
        if q.requires_grad:
            p.requires_grad_()


def _kernels_for(work: Work) -> Any:
    """Return the module of Numba's kernels where they are in force for these tensors, else None."""
    return compiled() if {p.device.type for p in work.params} == {"cpu"} else None


def _engine(work: Work, choice: str) -> str:
    """Return the engine in force for tensors that Numba does not take; what a choice cannot serve is stepped eagerly.

    ``torch.compile`` is a choice, and never taken unasked: it takes seconds to a minute at the first step.
    """
    devices = {p.device.type for p in work.params}
    if choice not in ("auto", "compile", "foreach") or not devices <= {*_LISTS}:
        return "eager"
    return "compile" if choice == "compile" and not all(map(torch_lists.missing_compiler, devices)) else "foreach"


def _is_differentiated(torch: Any, work: Work) -> bool:
    if not torch.is_grad_enabled():
        return False
    inputs = [*work.grads, *(x for kept in work.slots for x in kept)]
    inputs += [x for pair in work.pairs for x in pair if isinstance(x, torch.Tensor)]
    if True in [x.requires_grad for x in inputs]:
        return True
    if _functorch(torch, "peek_interpreter_stack") is not None:
        return any(map(_stands_for_others, work.params))
    return True in [p.requires_grad and not p.is_leaf for p in work.params]


def _functorch(torch: Any, name: str) -> Any:
    """Return what a private function of PyTorch's says; True, which costs speed alone, where it is gone."""
    function = getattr(getattr(torch._C, "_functorch", None), name, None)
    return True if function is None else function()


def _stands_for_others(x: Any) -> bool:
    """Return whether a tensor is one of functorch's, which has no memory of its own."""
    try:
        x.untyped_storage()
    except NotImplementedError:
        return True
    return False


def _are_plain(torch: Any, work: Work) -> bool:
    """Return whether the tensors are memory of a device and nothing stands between them and a kernel."""
    stack = getattr(torch._C, "_len_torch_dispatch_stack", lambda: True)
    if _functorch(torch, "peek_interpreter_stack") is not None or stack():
        return False
    tensors = [*work.grads, *(x for p, kept in zip(work.params, work.slots, strict=True) for x in (p, *kept))]
    if not {type(x) for x in tensors} <= {torch.Tensor, torch.nn.Parameter}:
        return False
    return True not in [x.is_neg() or x.is_conj() for x in tensors]  # views that are read with another sign
