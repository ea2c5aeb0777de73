"""Modes end with the call that sets them, wherever an interrupt comes."""

from __future__ import annotations

import contextlib
from typing import Any

import numpy as np
import pytest

from adamod_array._modes import contained
from tests import faults
from tests.backend import Backend


def modes_of(backend: Backend) -> list[Any]:
    """Contexts that set what a step sets."""
    if backend.name == "torch":
        import torch

        return [torch.no_grad(), torch.enable_grad()]
    if backend.name == "jax":
        import jax

        return [jax.enable_x64(not jax.config.jax_enable_x64)]
    return [np.errstate(all="ignore"), np.errstate(all="raise")]


@pytest.mark.only("numpy", "torch", "jax")
def test_an_interrupt_at_any_line(backend: Backend) -> None:
    @contained
    def sets() -> None:
        with contextlib.ExitStack() as stack:
            for mode in modes_of(backend):
                stack.enter_context(mode)

    before = faults.modes()
    for point in faults.points(sets):
        with contextlib.suppress(KeyboardInterrupt):
            faults.raise_at(sets, *point, KeyboardInterrupt)
        assert faults.modes() == before, point
