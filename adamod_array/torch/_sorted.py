"""Parameters sorted into cohorts, and whether the cohorts of the last step still fit."""

from __future__ import annotations

import operator
import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch

from adamod_array import _check
from adamod_array._method import Method
from adamod_array.torch._cohort import Cohort, count_dtype, slot_dtype

if TYPE_CHECKING:
    from adamod_array.torch._optimizer import Optimizer


class Sorted:
    """The cohorts of a step, and what they depend on."""

    def __init__(
        self,
        optimizer: Optimizer,
        params: list[Any],
        owners: list[int],
        gradients: list[Any],
        methods: dict[int, Method],
    ) -> None:
        self.params, self.owners, self.methods = params, owners, methods
        self.absent: list[int] = []
        """Parameters that have never had a gradient."""
        places: dict[Any, dict[int, int]] = {}
        seen = set()
        for i, (p, k, g) in enumerate(zip(params, owners, gradients, strict=True)):
            if id(p) in seen:  # twice in a group, of which PyTorch warns
                continue
            seen.add(id(p))
            if g is None and not optimizer.state.get(p):
                self.absent.append(i)
                continue
            places.setdefault((methods[k].slots, optimizer.key_of("m", methods[k])), {})[i] = k
        self.cohorts = [self._cohort(optimizer, each) for each in places.values()]

    def _cohort(self, optimizer: Optimizer, group_of: dict[int, int]) -> Cohort:
        """Return the cohort of the parameters at these places, each with its group; their states begin where new."""
        params, group_index = [self.params[i] for i in group_of], [*group_of.values()]
        method = self.methods[group_index[0]]
        try:
            _check.params(params, lambda i: f"params[{i}]")
            for p, k in zip(params, group_index, strict=True):
                begin(optimizer, p, self.methods[k])
            return Cohort(optimizer, params, [*group_of], group_index, method)
        except (TypeError, ValueError) as error:
            raise named(error, optimizer, params, group_index, method) from error

    def fits(
        self,
        optimizer: Optimizer,
        params: list[Any],
        owners: list[int],
        gradients: list[Any],
        methods: dict[int, Method],
    ) -> bool:
        """Return whether parameters, groups and states are those, and whoever has a gradient is in a cohort."""
        if len(params) != len(self.params) or not all(map(operator.is_, params, self.params)):
            return False
        if owners != self.owners:
            return False
        if methods != self.methods:
            if any(method.slots != self.methods[k].slots for k, method in methods.items()):
                return False
            self.methods = methods
        if any(gradients[i] is not None for i in self.absent):
            return False
        return all(cohort.fits(optimizer) for cohort in self.cohorts)


def begin(optimizer: Optimizer, p: Any, method: Method) -> None:
    """Put into a parameter's state what is not there yet: zeros, and a count of 0."""
    state = optimizer.state[p]
    if not isinstance(state.get("step"), torch.Tensor):
        state["step"] = torch.tensor(float(state.get("step") or 0), dtype=count_dtype(method), device="cpu")
    for slot in method.slots:
        key = optimizer.key_of(slot, method)
        if state.get(key) is None:
            state[key] = torch.zeros_like(p, dtype=slot_dtype(p), memory_format=torch.preserve_format)


_TEXTS = {"donate a copy": "optimize a copy, .clone()", "cannot both be donated": "cannot both be optimized"}
"""Of errors: what a step in place is called by those who call :func:`adamod_array.step`, and here."""


def named(
    error: TypeError | ValueError, optimizer: Optimizer, params: Sequence[Any], group_index: list[int], method: Method
) -> Exception:
    """Return an error with groups, names and PyTorch's keys in the place of leaves and slots."""

    def place(found: re.Match[str]) -> str:
        root, slot, i = found[1], found[2], int(found[3])
        group = optimizer.param_groups[group_index[i]]
        position = next((j for j, p in enumerate(group["params"]) if p is params[i]), i)
        names = group.get("param_names")
        what = f"state[{optimizer.key_of(slot, method)!r}]" if slot else root
        where = f"param_groups[{group_index[i]}]['params'][{position}]"
        return f"{what} of {where}" + (f" ({names[position]})" if names else "")

    if type(error) not in (TypeError, ValueError):  # one of a user's schedule: it may not be made of a text
        return error
    text = re.sub(r"(params|grads|slots\['(\w+)'\])\[(\d+)\]", place, str(error))
    for theirs, ours in _TEXTS.items():
        text = text.replace(theirs, ours)
    return type(error)(text)
