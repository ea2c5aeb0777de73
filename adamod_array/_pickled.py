"""What is lost of a state of DTensors that torch.distributed.checkpoint pickles."""

from __future__ import annotations

import sys
import traceback
from collections.abc import Sequence
from typing import Any

from adamod_array._dtensor import has_dtensors


def check_pickled(arrays: Sequence[Any]) -> None:
    """Check that a state of these arrays is not pickled by torch.distributed.checkpoint, which does so in one process.

    Who pickles is known by the call stack alone: a file of each process is pickled by the same ``torch.save``.

    Raises
    ------
    TypeError
        It is, and some are DTensors, of which that process has a part.
    """
    package = "torch.distributed.checkpoint"
    if package not in sys.modules or not has_dtensors(arrays):
        return
    for frame, _ in traceback.walk_stack(None):
        if f"{frame.f_globals.get('__name__')}.".startswith(f"{package}."):
            raise TypeError(
                f"{package} would pickle this State in one process, and lose what the others hold of its DTensors: give"
                " it {'params': state.params, 'slots': state.slots, 'step': state.step, 'skipped': state.skipped},"
                " of which it follows dicts and lists, not tuples; load into such a dict of a new state, then"
                " new.replace(**loaded)"
            )
