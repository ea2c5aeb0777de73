"""Parameters that keep the same slots, as leaves: a cache of what ``Optimizer.state`` and ``param_groups`` say.

The truth is in the optimizer's state, under PyTorch's keys. A cohort is valid while parameters and the tensors in their
states are the same objects, and keeps no slot alive: between steps its leaves have no arrays, but the plan of the last
step. One kernel call serves all groups.
"""

from __future__ import annotations

import functools
import operator
import weakref
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch

from adamod_array import _dtensor, _engines, _step
from adamod_array._coefficients import coefficients_at
from adamod_array._hold import Hold
from adamod_array._leaves import Leaves
from adamod_array._method import Method
from adamod_array._namespace import COMPUTE_DTYPE, dtype_name
from adamod_array._program.trace import trace
from adamod_array._rate import checked_decay, rate_at, with_factor
from adamod_array._scalars import Scalars

if TYPE_CHECKING:
    from adamod_array.torch._optimizer import Optimizer

KEYS = {
    "m": "exp_avg",
    "v": "exp_avg_sq",
    "v_max": "max_exp_avg_sq",
    "s": "exp_avg_lr",
    "g_last": "previous_grad",
}
"""Where PyTorch, the authors of AdaMod and pytorch_optimizer keep the slots."""

Group = dict[str, Any]


class Cohort:
    """Leaves of an optimizer, from the groups whose methods keep the same slots.

    Parameters
    ----------
    optimizer : Optimizer
        Its ``state`` has what :meth:`Optimizer.begin` puts there, for each of the parameters.
    params : list of tensor
        In the order of the groups.
    places : list of int
        Where each stands among all parameters of a step.
    group_index : list of int
        The group of each.
    method : Method
        That of one of the groups.
    """

    def __init__(
        self, optimizer: Optimizer, params: list[Any], places: list[int], group_index: list[int], method: Method
    ) -> None:
        self.params, self.places, self.group_index, self.method = params, places, group_index, method
        states = [optimizer.state[p] for p in params]
        self.keys = [optimizer.key_of(slot, method) for slot in method.slots]
        slots = [[state[key] for state in states] for key in self.keys]
        self.has_complex = any(p.is_complex() for p in params)
        self.placings = _dtensor.placings_of(params, lambda i: f"params[{i}]")
        for slot, xs in zip(method.slots, slots, strict=True):
            _dtensor.check_alike(self.placings, xs, functools.partial("slots[{!r}][{}]".format, slot))
        parameters, *columns = self._real(self._local([params, *slots]))
        self.leaves = Leaves.of(method, parameters, dict(zip(method.slots, columns, strict=True))).renewed([])
        self.slots = [[weakref.ref(x) for x in xs] for xs in slots]
        counts = [float(state["step"]) for state in states]
        self.counts: Any = torch.tensor(counts, dtype=count_dtype(method), device="cpu")
        """Steps that each parameter has taken; their states hold views of it."""
        self.steps = [*self.counts.unbind()]
        for state, step in zip(states, self.steps, strict=True):
            state["step"] = step
        found = {k: i for i, k in enumerate(dict.fromkeys(group_index))}
        self.by_group = tuple([found[k] for k in group_index])
        """The row of each leaf, where all have taken the same number of steps."""
        self.methods: tuple[Method, ...] = ()
        self.histories: list[Any] | None = None
        """Once a device counts: what tells apart parameters that may have taken other numbers of steps."""

    def fits(self, optimizer: Optimizer) -> bool:
        """Return whether the states are those, and hold the same tensors."""
        states = [*map(optimizer.state.get, self.params)]
        if None in states or not all(map(operator.is_, [state.get("step") for state in states], self.steps)):
            return False
        return all(
            all(map(operator.is_, [state.get(key) for state in states], [x() for x in xs]))
            for key, xs in zip(self.keys, self.slots, strict=True)
        )

    def count_on(self, optimizer: Optimizer, device: Any) -> None:
        """Have a device count steps, which the host then does not know; states hold views of its counts."""
        if self.histories is None:
            self.histories = self.counts.tolist()
            self.counts = self.counts.to(device)
            self.steps = [*self.counts.unbind()]
            for p, step in zip(self.params, self.steps, strict=True):
                optimizer.state[p]["step"] = step

    def step(self, scalars: Scalars, gradients: list[Any], taken: Any = True) -> None:
        """Step the parameters that have a gradient, in place, and count, where ``taken``."""
        stepped = [i for i, g in enumerate(gradients) if g is not None]
        if not stepped:
            return
        if scalars.methods != self.methods:
            if not _compute_alike(self.methods, scalars.methods):
                self.leaves.plan = None
            self.methods = scalars.methods
        gradients = self._part_of(gradients)
        if self.has_complex:
            gradients = [as_real(g if g is None else g.resolve_conj()) for g in gradients]
        arrays = [[*self.params], *([x() for x in xs] for xs in self.slots)]
        leaves = self.leaves.renewed(self._real(self._local(arrays)))
        # a hold of this step alone: whoever has the parameters may use them, as with any optimizer of PyTorch's
        leaves, _ = _step.advanced(leaves, {Hold(): None}, None, gradients, gradients, scalars, True)
        self.leaves = leaves.renewed([])
        if self.placings is not None:
            _engines.tell_autograd([xs[i] for i in stepped for xs in arrays if self.placings[i] is not None])
        self._count(stepped, taken)

    def _count(self, stepped: list[int], taken: Any) -> None:
        """Add 1 to the counts of those that were stepped."""
        if self.histories is None:
            counts = self.counts.numpy()  # made anew: the memory may have moved. An operation of PyTorch costs more
            counts[stepped if len(stepped) < len(counts) else slice(None)] += 1
            return
        self.counts[stepped] += 1 if taken is True else taken.to(self.counts.dtype)
        now = {*stepped}
        histories = [(each, i in now) for i, each in enumerate(self.histories)]
        known = {each: k for k, each in enumerate(dict.fromkeys(histories))}
        self.histories = [known[each] for each in histories]

    def _part_of(self, gradients: list[Any]) -> list[Any]:
        """Return the gradients, of DTensors this process's part, laid out as the parameter is."""
        if self.placings is None:
            return gradients
        return [*map(_dtensor.local, _dtensor.placed(self.placings, gradients, "grads[{}]".format))]

    def _local(self, columns: list[list[Any]]) -> list[list[Any]]:
        """Return columns with local tensors in the place of DTensors."""
        if self.placings is None:
            return columns
        return [[_dtensor.local(x, is_param=k == 0) for x in xs] for k, xs in enumerate(columns)]

    def _real(self, columns: list[list[Any]]) -> list[list[Any]]:
        if not self.has_complex:
            return columns
        # views of PyTorch's, made at each step: a parameter may leave its memory for other
        return [[as_real(x.detach()) if torch.is_tensor(x) and x.is_complex() else x for x in xs] for xs in columns]

    def scalars(self, groups: Sequence[Group], methods: Mapping[int, Method], common: Mapping[str, Any]) -> Scalars:
        """Return rates, coefficients and constants: a row for each group and count."""
        rows: dict[tuple[int, float], int] = {}
        counts = self.counts.tolist() if self.histories is None else self.histories
        if counts.count(counts[0]) == len(counts):  # the common case, in which the index of rows stays the same
            rows = {(k, counts[0]): i for i, k in enumerate(dict.fromkeys(self.group_index))}
            rate_index = self.by_group
        else:
            rate_index = tuple([rows.setdefault(key, len(rows)) for key in zip(self.group_index, counts, strict=True)])
        entries: dict[tuple[Method, float], int] = {}
        method_index = tuple([entries.setdefault((methods[k], count), len(entries)) for k, count in rows])
        rates = [rate_of(groups[k], k, self._next(count)) for k, count in rows]
        coefficients = [coefficients_at(method, self._next(count)) for method, count in entries]
        return Scalars(rates, rate_index, tuple([method for method, _ in entries]), method_index, coefficients, common)

    def _next(self, count: Any) -> Any:
        """Return the number of the step that follows a count, or a history."""
        if self.histories is None:
            return int(count) + 1
        return self.counts[self.histories.index(count)].to(torch.int64) + 1


def rate_of(group: Group, k: int, t: int) -> tuple[Any, Any]:
    """Return a group's learning rate at step ``t`` and its decay factor; decay added to the gradient is the rule's."""
    lr = group["lr"]
    if type(lr) is float and -1e-12 * group.get("initial_lr", 1.0) < lr < 0:
        lr = 0.0  # a scheduler of PyTorch's, LinearLR, rounds to less than nothing
    rate = rate_at(lr, t, lambda: f"param_groups[{k}]['lr']", "torch")
    decay = group["weight_decay"] if group["decoupled_weight_decay"] else 0.0
    return with_factor(rate, checked_decay(decay, lambda: f"param_groups[{k}]['weight_decay']", "torch"))


def _compute_alike(old: Sequence[Method], new: Sequence[Method]) -> bool:
    """Return whether methods differ in numbers alone, so that the kernels of the one serve the other."""
    return bool(old) and len({trace(method) for method in (*old, *new)}) == 1  # with decay, which comes before, too


def as_real(x: Any) -> Any:
    """Return a complex tensor as pairs of reals, as PyTorch's optimizers take it; any other as it is."""
    return torch.view_as_real(x) if x is not None and x.is_complex() else x


_DTYPES = {name: getattr(torch, name) for name in {*COMPUTE_DTYPE.values()}}


def slot_dtype(p: Any) -> torch.dtype:
    """Return the dtype of a parameter's slots: the one that it is computed in."""
    return _DTYPES[COMPUTE_DTYPE[dtype_name(p)]]


def count_dtype(method: Method) -> torch.dtype:
    """Return the dtype in which PyTorch counts steps; 64 bits for AdaMod: its authors compute ``beta**step`` in it."""
    wide = "s" in method.slots or torch.get_default_dtype() == torch.float64
    return torch.float64 if wide else torch.float32
