"""PyTorch: a step inside a user's torch.compile, written so that it is traced without a graph break.

Only what Dynamo can follow: no C++ trees, no look at numbers or memory. Coefficients and schedules
are computed in float64 on the parameters' device, from a count that is no constant of the program
once it has changed, so that any number of steps is compiled twice.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch.utils import _pytree

from adamod_array._coefficients import next_step
from adamod_array._formulas import _logarithm
from adamod_array._method import Method, apply_rule
from adamod_array._scalars import Overrides
from adamod_array._state import State
from adamod_array._tree import Tree

_COMPUTE = {torch.float16: torch.float32, torch.bfloat16: torch.float32}
_REAL = {torch.complex64: torch.float32, torch.complex128: torch.float64}

if allow := getattr(torch._dynamo.utils, "allow_lru_cache_wrapper_trace_without_warning", None):
    allow(_logarithm)  # a pure function: Dynamo may go past its cache, and need not warn


def step(method_type: type[Method], state: Any, grads: Tree, rates: Overrides, donate: bool) -> State | None:
    """Return the new state; None of what is wrong or unusual, which is left to a step outside of the graph."""
    if not isinstance(state, State) or state._spent_by is not None:
        return None
    method = state.method
    if not all(isinstance(each, method_type) for each in (method if isinstance(method, tuple) else (method,))):
        return None
    leaves, holds = state._known or (None, {})
    if any(hold.claim is not None for hold in holds) or (leaves is not None and leaves.leaf_indices is None):
        return None
    lr, weight_decay = rates
    if lr is not None and not (isinstance(lr, (int, float, torch.Tensor)) or callable(lr)):
        return None
    if weight_decay is not None and not isinstance(weight_decay, (int, float, torch.Tensor)):
        return None
    if not all(_is_rate(each) for each in rates):
        return None
    if leaves is None:
        if isinstance(method, tuple):
            return None  # in optree's order of leaves
        old, spec = _pytree.tree_flatten(state.params)
        order = [*range(len(old))]
        old_slots = [spec.flatten_up_to(state.slots[name]) for name in method.slots]
        if not all(isinstance(x, (int, float, torch.Tensor)) or callable(x) for x in (state.lr, state.weight_decay)):
            return None  # a tree, or in optree's order of leaves
    else:
        old, old_slots = leaves.params, leaves.slots
        order, spec = _pytree.tree_flatten(leaves.leaf_indices)
    if not all(isinstance(i, int) for i in order):
        return None  # a container that optree knows and PyTorch does not
    gradients = [None] * len(old)
    try:
        for i, g in zip(order, spec.flatten_up_to(grads), strict=True):
            gradients[i] = g
    except ValueError:
        return None
    if not all(_fits(p, g) for p, g in zip(old, gradients, strict=True)):
        return None
    inputs = [x for xs in (gradients, *old_slots) for x in xs]
    differentiated = not donate and torch.is_grad_enabled() and _are_differentiated(old, [*inputs, *rates])
    if not donate and not differentiated and any(p is not None and p.requires_grad for p in old):
        return None  # PyTorch's compiler makes no new leaves that require grad
    t = next_step(state.step)
    lr = state.lr if lr is None else lr
    scalars = _Scalars(method, t, lr, state.weight_decay if weight_decay is None else weight_decay)
    params, slots = [*old], [[*slot] for slot in old_slots]
    for i, (p, g) in enumerate(zip(old, gradients, strict=True)):
        if g is None:
            continue
        kept = [slot[i] for slot in old_slots]
        rate, decay, c = scalars.of(i, p)
        with torch.set_grad_enabled(differentiated):
            compute = _COMPUTE.get(p.dtype, p.dtype)
            computed = [x.to(compute if x.is_complex() else _REAL.get(compute, compute)) for x in kept]
            new = apply_rule(scalars.method_of(i), _Functions, rate, decay, c, g.to(compute), p.to(compute), computed)
            new = [_array_of_its_own(x, p, [g, *kept, *new[:k]]) for k, x in enumerate(new)]
            if donate:
                for x, y in zip((p, *kept), new, strict=True):
                    x.copy_(y)
                continue
            new = [y.to(x.dtype) for x, y in zip((p, *kept), new, strict=True)]
        params[i] = new[0]
        for slot, x in zip(slots, new[1:], strict=True):
            slot[i] = x
    if donate:
        state.__dict__["_spent_by"] = (t, True)
        for hold in holds:
            hold.claim = t
    if leaves is None:
        trees = {name: spec.unflatten(slot) for name, slot in zip(method.slots, slots, strict=True)}
        known: Any = None
        arrays = {"params": spec.unflatten(params), "slots": trees}
    else:
        known, arrays = (leaves.renewed([params, *slots]), {}), {}
    return State.of_graph(known, **arrays, step=t, method=method, lr=state.lr, weight_decay=state.weight_decay)


def _array_of_its_own(x: Any, p: Any, inputs: list[Any]) -> Any:
    """Return a rule's result in the parameter's shape, a copy where it is an input."""
    if not isinstance(x, torch.Tensor):
        return torch.full_like(p, x, dtype=_COMPUTE.get(p.dtype, p.dtype))
    if x.shape != p.shape:
        return x.expand(p.shape).clone()
    return x.clone() if x is p or any(x is y for y in inputs) else x


class _Functions:
    """What rules, coefficients and schedules use of a namespace, for tensors and numbers.

    array_api_compat asks for result types, which breaks the graph.
    """

    exp, expm1, log, sqrt, cos, abs, real, imag = (
        torch.exp,
        torch.expm1,
        torch.log,
        torch.sqrt,
        torch.cos,
        torch.abs,
        torch.real,
        torch.imag,
    )

    @staticmethod
    def minimum(x: Any, y: Any) -> Any:
        """Return the smaller, NaN where either is."""
        return torch.minimum(*_tensors(x, y))

    @staticmethod
    def maximum(x: Any, y: Any) -> Any:
        """Return the larger, NaN where either is."""
        return torch.maximum(*_tensors(x, y))

    @staticmethod
    def where(condition: Any, x: Any, y: Any) -> Any:
        """Return ``x`` or ``y``; of two numbers in double precision."""
        if isinstance(x, torch.Tensor) or isinstance(y, torch.Tensor):
            x, y = _tensors(x, y)
        else:
            x, y = (torch.full((), z, dtype=torch.float64, device=condition.device) for z in (x, y))
        return torch.where(condition, x, y)

    @staticmethod
    def isdtype(dtype: Any, kind: str) -> bool:
        """Return whether a dtype is of that kind, of real and complex floats."""
        return kind == ("complex floating" if dtype.is_complex else "real floating")


def _tensors(*xs: Any) -> list[Any]:
    like = next(x for x in xs if isinstance(x, torch.Tensor))
    return [x if isinstance(x, torch.Tensor) else torch.full((), x, dtype=like.dtype, device=like.device) for x in xs]


def _read(lr: Any, t: Any) -> Any:
    """Return a rate at step ``t``, a tensor."""
    if isinstance(lr, torch.Tensor) or not callable(lr):
        return lr
    return lr.at(t, _Functions) if hasattr(lr, "at") else lr(t)


class _Scalars:
    """Rates and coefficients of a step; each is in the program once a device and dtype."""

    def __init__(self, method: Any, t: Any, lr: Any, weight_decay: Any) -> None:
        self.method, self.t, self.lr, self.weight_decay = method, t, lr, weight_decay
        self.coefficients: dict[Any, tuple[Any, ...]] = {}
        """By device, dtype, and the leaf where each has a method of its own."""
        self.rates: dict[Any, tuple[Any, Any]] = {}

    def method_of(self, i: int) -> Method:
        """Return the method of leaf ``i``."""
        method: Method = self.method[i] if isinstance(self.method, tuple) else self.method
        return method

    def of(self, i: int, p: Any) -> tuple[Any, Any, tuple[Any, ...]]:
        """Return rate, decay and coefficients of leaf ``i``, in its compute dtype."""
        lr = self.lr[i] if isinstance(self.lr, tuple) else self.lr
        weight_decay = self.weight_decay[i] if isinstance(self.weight_decay, tuple) else self.weight_decay
        dtype = _COMPUTE.get(p.dtype, _REAL.get(p.dtype, p.dtype))
        key = p.device, dtype
        own = *key, i if isinstance(self.method, tuple) else None
        if own not in self.coefficients:
            t = torch.full((), self.t, dtype=torch.float64, device=p.device)
            self.coefficients[own] = tuple([c.to(dtype) for c in self.method_of(i).coefficients(t, _Functions)])
        # of one rate for all leaves, neither number nor identity may be compiled in: it can change from step to step
        own_rate = (id(lr) if callable(lr) else i) if isinstance(self.lr, tuple) else None
        has_decay = isinstance(weight_decay, torch.Tensor) or weight_decay != 0
        which = *key, own_rate, i if isinstance(self.weight_decay, tuple) else has_decay
        if which not in self.rates:
            t = torch.full((), self.t, dtype=torch.float64, device=p.device)
            rate = _read(lr, t)
            if not isinstance(rate, torch.Tensor):
                rate = torch.full((), rate, dtype=torch.float64, device=p.device)
            decay = (1 - rate * weight_decay).to(dtype) if has_decay else None
            self.rates[which] = rate.to(dtype), decay
        return *self.rates[which], self.coefficients[own]


def _is_rate(x: Any) -> bool:
    """Return whether a step's own rate is one number that is not known to be wrong."""
    if isinstance(x, torch.Tensor):
        return bool(x.ndim == 0)
    return not isinstance(x, bool) and not (isinstance(x, (int, float)) and not 0 <= x < math.inf)


def _fits(p: Any, g: Any) -> bool:
    if p is None or g is None:
        return g is None
    return isinstance(p, torch.Tensor) and isinstance(g, torch.Tensor) and g.shape == p.shape and g.device == p.device


def _are_differentiated(params: list[Any], inputs: list[Any]) -> bool:
    """Return whether the step is to be, as :mod:`adamod_array._engines.torch` says it."""
    return any(isinstance(x, torch.Tensor) and x.requires_grad for x in inputs) or any(
        p is not None and p.requires_grad and not p.is_leaf for p in params
    )
