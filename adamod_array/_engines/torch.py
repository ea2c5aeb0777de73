"""PyTorch: which engine takes a step, and what autograd expects of an optimizer."""

from __future__ import annotations

import contextlib
import itertools
import sys
from dataclasses import dataclass
from typing import Any

from adamod_array import _engines
from adamod_array._engines import Columns, StepInputs, compiled, eager, torch_cuda, torch_lists
from adamod_array._scalars import Scalars

_LISTS = ("cpu", "cuda", "xpu", "mps")
"""Devices whose tensors are stepped as lists; any other's one by one."""


@dataclass
class TorchPlan:
    """The engine of a tree and what it worked out, handed from state to state."""

    choice: str
    engine: str
    with_autograd: bool
    """Whether autograd was on: what is differentiated then is not without it."""
    inner: Any = None

    @property
    def signatures(self) -> Any:
        """Return what knows the tensors of the last step again; None where the next must be checked one by one."""
        return self.inner.signatures if self.engine == "numba" and self.inner is not None else None

    def addresses_if_alike(self, arrays: list[Any], donate: bool, untouched: Any = None) -> Any:
        """Return the addresses of tensors like those of the last step, or None."""
        return self.inner.addresses_if_alike(arrays, donate, untouched)

    def fits(self, scalars: Scalars, donate: bool) -> bool:
        """Return whether it is the plan for these scalars."""
        if not scalars.rates_are_known:  # one may require gradients
            return False
        if not donate and self.with_autograd != sys.modules["torch"].is_grad_enabled():
            return False
        return self.inner.fits(scalars, donate)  # type: ignore[no-any-return]

    def step(self, namespace: Any, grads: Any, columns: Columns, *rest: Any) -> Columns:
        """Take the step, and tell autograd."""
        new: Columns = self.inner.step(namespace, grads, columns, *rest)
        if new is columns:
            tell([*itertools.chain(*new)])
        else:
            _tell_autograd(columns, new)
        return new


def run(inputs: StepInputs, donate: bool) -> Columns:
    """Step outside of autograd; results require gradients where the parameters did.

    A step that is itself to be differentiated (a gradient or slot that requires grad, a parameter
    computed from others, torch.func) is left to autograd; a donated step never is.
    """
    torch = sys.modules["torch"]
    with_autograd = torch.is_grad_enabled()
    plan, inputs.plan = inputs.plan, None
    if not donate and _is_differentiated(torch, inputs):
        return eager.run(inputs, donate)
    with _without_autograd(torch, inputs, donate):
        choice, kernels = _engines._choice.get(), _kernels_for(inputs)
        if kernels is not None:
            inputs.grads = _resolved(torch, inputs.grads)
        if not _are_plain(torch, [*inputs.grads, *inputs.written]):
            plan = None
        elif plan is None or (plan.choice, plan.engine == "numba") != (choice, kernels is not None):
            engine = "numba" if kernels is not None else _engine(inputs, choice)
            plan = TorchPlan(choice, engine, with_autograd)
        if plan is None or plan.engine == "eager":
            new = eager.run(inputs, donate)
        else:
            inputs.plan = plan.inner
            if kernels is not None:
                new = kernels.run(inputs, donate)
            elif plan.engine == "cupy":
                new = torch_cuda.run(inputs, donate)
            else:
                new = torch_lists.run(inputs, donate, fuse=plan.engine == "compile")
            inputs.plan = TorchPlan(plan.choice, plan.engine, with_autograd, inputs.plan)
    _tell_autograd(inputs.columns, new)
    return new


def _without_autograd(torch: Any, inputs: StepInputs, donate: bool) -> contextlib.AbstractContextManager[Any]:
    """Return the mode of a step: tensors of inference mode may be written in that mode alone."""
    no_grad: contextlib.AbstractContextManager[Any] = torch.no_grad()
    return _inference_mode(torch) if donate and any(map(_lacks_version, inputs.written)) else no_grad


def _inference_mode(torch: Any) -> contextlib.AbstractContextManager[Any]:
    """Return that mode, in which no interrupt comes between C++ that enters and leaves it: nobody would put it back."""
    mode: contextlib.AbstractContextManager[Any] = getattr(torch._C, "_InferenceMode", torch.inference_mode)(True)
    return mode


def _lacks_version(x: Any) -> bool:
    """Return whether a tensor is of inference mode, or was when it was made and had its data replaced since."""
    try:
        return x._version < 0  # type: ignore[no-any-return]
    except RuntimeError:
        return True


def _tell_autograd(old: Columns, new: Columns) -> None:
    """Say what has been written in place; let new parameters require gradients where the old ones did."""
    if any(p is q for p, q in zip(old[0], new[0], strict=True)):
        tell([x for xs in new for x in xs])
        return
    for p, q in zip(new[0], old[0], strict=True):
        if q.requires_grad:
            p.requires_grad_()


def tell(tensors: list[Any]) -> None:
    """Say that tensors have been written in place, where PyTorch can be told; else autograd does not see it."""
    tell = getattr(sys.modules["torch"].autograd.graph, "increment_version", None)
    if tell is not None:
        try:
            tell(tensors)
        except RuntimeError:  # one was of inference mode
            with _inference_mode(sys.modules["torch"]):
                tell(tensors)


def _kernels_for(inputs: StepInputs) -> Any:
    """Return the module of Numba's kernels where they are in force for these tensors, else None."""
    return compiled() if {p.device.type for p in inputs.params} == {"cpu"} else None


def _engine(inputs: StepInputs, choice: str) -> str:
    """Return the engine in force for tensors that Numba does not take; what a choice cannot serve is stepped eagerly.

    ``torch.compile`` is a choice, and never taken unasked: it takes seconds to a minute at the first step.
    """
    devices = {p.device.type for p in inputs.params}
    if choice in ("auto", "cupy") and torch_cuda.serves(inputs.params):
        return "cupy"
    if choice not in ("auto", "compile", "foreach") or not devices <= {*_LISTS}:
        return "eager"
    return "compile" if choice == "compile" and not all(map(torch_lists.missing_compiler, devices)) else "foreach"


def _is_differentiated(torch: Any, inputs: StepInputs) -> bool:
    if not torch.is_grad_enabled():
        return False
    given = [*inputs.grads, *(x for xs in inputs.columns[1:] for x in xs)]
    given += [x for x in inputs.scalars.all if isinstance(x, torch.Tensor)]
    if True in [x.requires_grad for x in given]:
        return True
    if _functorch(torch, "peek_interpreter_stack") is not None:
        return any(map(_stands_for_others, inputs.params))
    return True in [p.requires_grad and not p.is_leaf for p in inputs.params]


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


def can_be_read(tensors: list[Any]) -> bool:
    """Return whether a kernel may read tensors, which no graph and no derivative is to know of."""
    torch = sys.modules["torch"]
    if {x.device.type for x in tensors} != {"cpu"}:
        return False
    return _are_plain(torch, tensors) and not (torch.is_grad_enabled() and any(x.requires_grad for x in tensors))


def _resolved(torch: Any, tensors: list[Any]) -> list[Any]:
    """Return tensors whose memory holds their numbers: ``z.conj()`` is a view that says what is to be made of it."""
    views = [type(x) is torch.Tensor and (x.is_conj() or x.is_neg()) for x in tensors]
    if True not in views or _functorch(torch, "peek_interpreter_stack") is not None:
        return tensors
    return [x.resolve_conj().resolve_neg() if view else x for x, view in zip(tensors, views, strict=True)]


def _are_plain(torch: Any, tensors: list[Any]) -> bool:
    """Return whether the tensors are memory of a device and nothing stands between them and a kernel."""
    stack = getattr(torch._C, "_len_torch_dispatch_stack", lambda: True)
    if _functorch(torch, "peek_interpreter_stack") is not None or stack():
        return False
    if not {type(x) for x in tensors} <= {torch.Tensor, torch.nn.Parameter}:
        return False
    return True not in [x.is_neg() or x.is_conj() for x in tensors]  # views that are read with another sign
