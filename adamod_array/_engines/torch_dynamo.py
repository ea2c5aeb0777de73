"""PyTorch: a step inside a user's torch.compile, written so that it is traced without a graph break.

Only what Dynamo can follow: no C++ trees, no look at numbers or memory. Coefficients and schedules
are computed in float64 on the parameters' device, from a count that is no constant of the program
once it has changed, so that any number of steps is compiled twice.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch.utils import _pytree

from adamod_array._coefficients import next_step
from adamod_array._engines.words import counted_by_torch, table_of
from adamod_array._formulas import _logarithm
from adamod_array._method import Method, apply_rule, chosen
from adamod_array._program.rounding import first_counter, round_outputs
from adamod_array._program.trace import rounded_places
from adamod_array._scalars import Options
from adamod_array._state import State
from adamod_array._tree import Tree

_COMPUTE = {torch.float16: torch.float32, torch.bfloat16: torch.float32}
_REAL = {torch.complex64: torch.float32, torch.complex128: torch.float64}

if allow := getattr(torch._dynamo.utils, "allow_lru_cache_wrapper_trace_without_warning", None):
    allow(_logarithm)  # a pure function: Dynamo may go past its cache, and need not warn


def step(
    method_type: type[Method], state: Any, grads: Tree, options: Options, donate: bool, clip: Callable[[Any, Any], Any]
) -> State | None:
    """Return the new state; None of what is wrong or unusual, which is left to a step outside of the graph.

    ``clip`` is :func:`adamod_array.clip_by_global_norm`, which asks engines itself.
    """
    rates, limit, ok = options[:2], options.max_norm, options.where
    if callable(ok):
        ok = ok(grads)
    usual = all(map(_is_rate, rates, (True, False))) and _is_answer(ok) and (limit is None or _is_limit(limit))
    found = _columns_of(method_type, state) if usual else None
    if found is None:
        return None
    columns, order, spec = found
    gradients = _in_leaf_order(grads, order, spec)
    if gradients is None or not all(_fits(p, g) for p, g in zip(columns[0], gradients, strict=True)):
        return None
    if limit is not None and ok is not False and any(g is not None for g in gradients):
        gradients = clip(gradients, limit)
    differentiated = not donate and torch.is_grad_enabled() and _are_differentiated(gradients, columns, rates)
    if not donate and not differentiated and any(p is not None and p.requires_grad for p in columns[0]):
        return None  # PyTorch's compiler makes no new leaves that require grad
    t = next_step(state.step)
    lr, weight_decay = (
        own if given is None else given for own, given in zip((state.lr, state.weight_decay), rates, strict=True)
    )
    scalars = _Scalars(state.method, t, lr, weight_decay)
    new = [[*xs] for xs in columns]
    with torch.set_grad_enabled(differentiated):
        for i, g in enumerate(gradients):
            if g is not None and ok is not False:
                arrays = _stepped(scalars, i, g, [xs[i] for xs in columns], ok, donate)
                for xs, x in zip(new, arrays, strict=True):
                    xs[i] = x
    return _next_state(state, t, new, spec, ok, donate)


def _columns_of(method_type: type[Method], state: Any) -> tuple[Any, list[int], Any] | None:
    """Return the columns of a state, the leaves in PyTorch's order of them, and its structure; None where unusual."""
    if not isinstance(state, State) or state._spent_by is not None:
        return None
    method = state.method
    if not all(isinstance(each, method_type) for each in (method if isinstance(method, tuple) else (method,))):
        return None
    leaves, holds = state._known or (None, {})
    if leaves is not None and (leaves.leaf_indices is None or leaves.placings is not None):
        return None
    if any(hold.claim is not None for hold in holds):
        return None
    if leaves is None:
        own = method, state.lr, state.weight_decay
        if not all(isinstance(x, (Method, int, float, torch.Tensor)) or callable(x) for x in own):
            return None  # a tree, or in optree's order of leaves
        params, spec = _pytree.tree_flatten(state.params)
        slots = [spec.flatten_up_to(state.slots[name]) for name in method.slots]
        return [params, *slots], [*range(len(params))], spec
    order, spec = _pytree.tree_flatten(leaves.leaf_indices)
    if not all(isinstance(i, int) for i in order):
        return None  # a container that optree knows and PyTorch does not
    return leaves.columns, order, spec


def _in_leaf_order(grads: Tree, order: list[int], spec: Any) -> list[Any] | None:
    """Return the gradients in optree's order of leaves; None where their tree is another."""
    gradients = [None] * len(order)
    try:
        for i, g in zip(order, spec.flatten_up_to(grads), strict=True):
            gradients[i] = g
    except ValueError:
        return None
    return gradients


def _stepped(scalars: _Scalars, i: int, g: Any, old: list[Any], ok: Any, donate: bool) -> list[Any]:
    """Return the new parameter and slots of leaf ``i``: the old tensors, written, where they are donated."""
    p = old[0]
    compute = _COMPUTE.get(p.dtype, p.dtype)
    slots = [x.to(compute if x.is_complex() else _REAL.get(compute, compute)) for x in old[1:]]
    rate, decay, c = scalars.of(i, p)
    given = [p.to(compute), *slots]
    results = apply_rule(scalars.method_of(i), _Functions, rate, decay, c, g.to(compute), given[0], slots)
    new = [_array_of_its_own(x, p, [g, *old[1:], *results[:k]]) for k, x in enumerate(results)]
    new = chosen(_Functions, None if ok is True else ok.to(p.device), new, given)
    if places := rounded_places(scalars.method_of(i), "bfloat16" if p.dtype == torch.bfloat16 else "float32"):
        t = torch.full((), scalars.t, dtype=torch.int64, device=p.device)
        index = counted_by_torch(first_counter(i), p)
        new = [x.to(compute) for x in new]  # a comparison is 1 or 0
        new = round_outputs(_do_with_words, new, places, (t % 65536, t // 65536 % 65536), index)
    return [x.copy_(y) if donate else y.to(x.dtype) for x, y in zip(old, new, strict=True)]


def _next_state(state: State, t: Any, new: list[Any], spec: Any, ok: Any, donate: bool) -> State:
    """Return the state of the new arrays; a donated one is spent, and whatever shares its arrays."""
    leaves, holds = state._known or (None, {})
    if donate:
        state.__dict__["_spent_by"] = (t, True)
        for hold in holds:
            hold.claim = t
    known: Any = None
    arrays = {}
    if leaves is None:
        params, *slots = map(spec.unflatten, new)
        arrays = {"params": params, "slots": dict(zip(state.method.slots, slots, strict=True))}
    else:
        known = leaves.renewed(new), {}
    taken = int(ok) if isinstance(ok, bool) else ok.to(torch.int64)
    step, skipped = state.step + taken, state.skipped + (1 - taken)
    own = {"method": state.method, "lr": state.lr, "weight_decay": state.weight_decay}
    return State.of_graph(known, **arrays, step=step, skipped=skipped, **own)


def _array_of_its_own(x: Any, p: Any, inputs: list[Any]) -> Any:
    """Return a rule's result in the parameter's shape, a copy where it is an input."""
    if not isinstance(x, torch.Tensor):
        return torch.full_like(p, x, dtype=_COMPUTE.get(p.dtype, p.dtype))
    if x.shape != p.shape:
        return x.expand(p.shape).clone()
    return x.clone() if x is p or any(x is y for y in inputs) else x


def _do_with_words(name: str, *operands: Any) -> Any:
    return _WORDS[name](*operands)


_WORDS = table_of("torch")


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


def _is_rate(x: Any, may_be_called: bool) -> bool:
    """Return whether a step's own rate is none, a schedule, or one number that is not known to be wrong."""
    if isinstance(x, torch.Tensor):
        return bool(x.ndim == 0)
    if isinstance(x, (int, float)):
        return not isinstance(x, bool) and 0 <= x < math.inf
    return x is None or (may_be_called and callable(x))


def _is_answer(where: Any) -> bool:
    """Return whether it is known if the step is taken, or a tensor says it."""
    return isinstance(where, bool) or (
        isinstance(where, torch.Tensor) and where.ndim == 0 and where.dtype == torch.bool
    )


def _is_limit(x: Any) -> bool:
    """Return whether a norm is limited by one number that is not known to be wrong."""
    if isinstance(x, torch.Tensor):
        return bool(x.ndim == 0 and x.is_floating_point())
    return isinstance(x, (int, float)) and not isinstance(x, bool) and x > 0


def _fits(p: Any, g: Any) -> bool:
    if p is None or g is None:
        return g is None
    if hasattr(p, "placements") or hasattr(g, "placements"):
        return False  # DTensors, whose operations may end in other placements than the parameter's
    return isinstance(p, torch.Tensor) and isinstance(g, torch.Tensor) and g.shape == p.shape and g.device == p.device


def _are_differentiated(gradients: list[Any], columns: Any, rates: tuple[Any, ...]) -> bool:
    """Return whether the step is to be, as :mod:`adamod_array._engines.torch` says it."""
    params, *slots = columns
    given = [*gradients, *(x for xs in slots for x in xs), *rates]
    return any(isinstance(x, torch.Tensor) and x.requires_grad for x in given) or any(
        p is not None and p.requires_grad and not p.is_leaf for p in params
    )
