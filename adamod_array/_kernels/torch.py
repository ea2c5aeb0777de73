"""PyTorch: the rule, with what autograd expects of an optimizer."""

from __future__ import annotations

import sys
from typing import Any

from adamod_array._kernels import Result, Work, compiled, eager


def run(work: Work, donate: bool) -> Result:
    """A step outside of autograd, whose results require gradients where the parameters did.

    A step that is itself to be differentiated (a gradient or slot that requires grad, a parameter
    computed from others, torch.func) is left to autograd; a donated step never is.
    """
    torch = sys.modules["torch"]
    if not donate and _is_differentiated(torch, work):
        return eager.run(work, donate)
    with torch.no_grad():
        kernels = compiled() if all(map(_is_plain, work.params)) else None
        params, slots = (kernels or eager).run(work, donate)
        if donate and kernels:
            written = [x for arrays in (params, *slots) for x in arrays if not x.is_inference()]
            torch.autograd.graph.increment_version(written)
    if not donate:
        for old, new in zip(work.params, params, strict=True):
            if old.requires_grad:
                new.requires_grad_()
    return params, slots


def _is_differentiated(torch: Any, work: Work) -> bool:
    if not torch.is_grad_enabled():
        return False
    rates = [x for pair in work.pairs for x in pair if isinstance(x, torch.Tensor)]
    inputs = [*work.grads, *(x for kept in work.slots for x in kept), *rates]
    return any(x.requires_grad for x in inputs) or any(
        (p.requires_grad and not p.is_leaf) or torch._C._functorch.is_functorch_wrapped_tensor(p) for p in work.params
    )


def _is_plain(x: Any) -> bool:
    """A tensor that is memory of this machine, not a subclass that stands for something else."""
    torch = sys.modules["torch"]
    return (
        type(x) in (torch.Tensor, torch.nn.Parameter) and x.device.type == "cpu" and not torch.compiler.is_compiling()
    )
