"""What ``torch.amp.GradScaler`` leaves on an optimizer whose groups say ``fused=True``, read where that is free."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from adamod_array._namespace import namespace_of
from adamod_array._program.trace import CLIP, OK
from adamod_array._rate import is_free_to_read

if TYPE_CHECKING:
    from adamod_array.torch._optimizer import Optimizer


_NAMES = ("grad_scale", "found_inf")


def scaled(optimizer: Optimizer) -> tuple[Any, dict[str, Any]]:
    """Return whether the step is taken, and what all leaves share: the factor of gradients, and a device's answer.

    ``grad_scale`` is what gradients were multiplied by, ``found_inf`` is above 0 where one of them is not finite.
    Gradients are multiplied by the reciprocal, as by ``GradScaler.unscale_``.
    """
    if optimizer.__dict__.keys().isdisjoint(
        _NAMES
    ):  # the common case, in which a step of one parameter is all there is
        return True, {}
    scale, found_inf = (_known(getattr(optimizer, name, None)) for name in _NAMES)
    common = {} if scale is None else dict(zip(CLIP, (1.0 / scale, 1.0), strict=True))
    if not isinstance(found_inf, torch.Tensor):
        return not found_inf, common
    taken = found_inf == 0
    return taken, common | {OK: taken.to(torch.float32)}


def _known(x: Any) -> Any:
    """Return a tensor's number as a float; where a device would have to be waited for, the tensor, of no dimension."""
    if not isinstance(x, torch.Tensor):
        return x
    x = x.reshape(())
    namespace = namespace_of(x)
    assert namespace is not None
    return float(x) if is_free_to_read(namespace, x) else x
