"""A state in a few lines: what ``repr`` prints, and values of which there is one a leaf, by branch."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from adamod_array._compact import compact_of
from adamod_array._method import PARAMS
from adamod_array._namespace import dtype_name, namespace_of
from adamod_array._rate import PerLeaf
from adamod_array._tree import smallest_prefix, unflatten


def shown(state: Any, params: tuple[Sequence[Any], Any], taken: tuple[Any, bool] | None) -> str:
    """Return what ``repr`` prints of a state; ``taken`` is the donated step that has its arrays, if any."""
    given, spec = params
    method, lr, decay = (by_branch(x, given, spec) for x in (state.method, state.lr, state.weight_decay))
    compact = compact_of(state.method)
    names = [*getattr(state.method, "slots", state.slots)]  # a tree of methods may be in a state as it was given
    slots = ", ".join([f"{name} bfloat16" if name in compact else name for name in names]) or "none"
    slots += "; params rounded stochastically" if PARAMS in compact else ""
    skipped = "" if type(state.skipped) is int and state.skipped == 0 else f", skipped={state.skipped}"
    decay = "" if type(decay) is float and decay == 0 else f", weight_decay={decay}"
    spent = "" if taken is None else f" (donated to step {taken[0]})"
    tree = unflatten(spec, [None if p is None else _Summary(p) for p in given])
    head = f"State({method}, step={state.step}{skipped}, lr={lr}{decay},"
    return f"{head}\n  params={tree}{spent},\n  slots: {slots})"


def by_branch(values: Any, params: Sequence[Any], spec: Any, at: Callable[[Any], Any] = lambda x: x) -> Any:
    """Return ``at`` of a value for all leaves, or of one a leaf, as a tree prefix."""
    if not isinstance(values, PerLeaf) or len(values) != len(params):
        return at(values)
    return smallest_prefix(spec, values, [p is None for p in params], at)


class _Summary:
    """dtype[shape] in place of an array's numbers."""

    def __init__(self, x: Any) -> None:
        has_shape = namespace_of(x) is not None or (hasattr(x, "shape") and hasattr(x, "dtype"))  # without an array
        self.text = f"{dtype_name(x)}{list(x.shape)}" if has_shape else type(x).__name__

    def __repr__(self) -> str:
        return self.text
