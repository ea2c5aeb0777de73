"""JAX: one jitted call for the whole tree."""

from __future__ import annotations

import functools
import sys
from typing import Any

from adamod_array._kernels import Result, Work, eager


def run(work: Work, donate: bool) -> Result:
    """Compile the rule over all leaves once, for every step, rate and coefficient to come."""
    arguments = (work.c, work.pairs, work.params, work.grads, work.slots)
    result: Result = _compiled(donate)(work.method, work.kind, work.which, *arguments)
    return result


@functools.cache
def _compiled(donate: bool) -> Any:
    jax = sys.modules["jax"]

    def step(method: Any, kind: Any, which: Any, c: Any, pairs: Any, params: Any, grads: Any, slots: Any) -> Result:
        return eager.run(Work(method, kind, c, pairs, which, params, grads, slots), donate=False)

    return jax.jit(step, static_argnums=(0, 1, 2), donate_argnums=(5, 7) if donate else ())
