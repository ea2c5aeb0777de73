"""Ways to use an optimizer: this package's schedules as PyTorch's schedulers, and steps while gradients arrive."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch.optim.lr_scheduler import LambdaLR

from adamod_array.torch._optimizer import Optimizer


class _Factor:
    """A schedule as PyTorch counts: its first step is 0."""

    def __init__(self, schedule: Callable[[Any], Any]) -> None:
        self.schedule = schedule

    def __call__(self, epoch: int) -> float:
        return float(self.schedule(epoch + 1))


def scheduler(optimizer: torch.optim.Optimizer, schedule: Callable[[Any], Any], last_epoch: int = -1) -> LambdaLR:
    """Return a scheduler of PyTorch that multiplies each group's rate by a schedule of this package.

    Parameters
    ----------
    optimizer : torch.optim.Optimizer
        Of this package or of any other.
    schedule : schedule
        ``untuned_linear(0.999) * cosine_decay(10_000)``; t = 1 is the first step, so that none has the rate 0.
    last_epoch : int
        Steps that were taken before, less 1, as in ``torch.optim.lr_scheduler``.

    Returns
    -------
    LambdaLR
        Call its ``step`` after each of the optimizer's. It is saved and loaded with ``state_dict``.

    Examples
    --------
    >>> import torch
    >>> from adamod_array.schedules import linear_warmup
    >>> from adamod_array.torch import AdaMod, scheduler
    >>> optimizer = AdaMod([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    >>> warmup = scheduler(optimizer, linear_warmup(4))
    >>> warmup.get_last_lr()
    [0.25]
    """
    return LambdaLR(optimizer, _Factor(schedule), last_epoch)


def step_in_backward(optimizer: Optimizer) -> list[Any]:
    """Step each parameter as soon as its gradient is there, and free the gradient: no two need to exist at once.

    Do not call ``optimizer.step`` then. Gradients cannot be accumulated, clipped by a global norm, or unscaled, and the
    optimizer's step hooks are not called. Parameters that require no gradient, or are added later, are left out.

    Parameters
    ----------
    optimizer : Optimizer
        One of this package's.

    Returns
    -------
    list of handle
        ``remove()`` of each ends it.

    Examples
    --------
    >>> import torch
    >>> from adamod_array.torch import AdaMod, step_in_backward
    >>> p = torch.nn.Parameter(torch.zeros(2))
    >>> handles = step_in_backward(AdaMod([p], lr=1.0, beta3=0.9))
    >>> p.sum().backward()
    >>> p.detach(), p.grad
    (tensor([-0.1000, -0.1000]), None)
    """
    places: dict[int, tuple[int, int]] = {}

    def step(p: Any) -> None:
        k = _owner(optimizer, p, places)
        if k is not None:
            optimizer._advance(id(p), [p], [k])
        p.grad = None

    params = [p for group in optimizer.param_groups for p in group["params"] if p.requires_grad]
    return [p.register_post_accumulate_grad_hook(step) for p in params]


def _owner(optimizer: Optimizer, p: Any, places: dict[int, tuple[int, int]]) -> int | None:
    """Return a parameter's group, None of one that has left; all are looked for again only where one has moved."""
    k, i = places.get(id(p), (0, 0))
    if any(each is p for group in optimizer.param_groups[k : k + 1] for each in group["params"][i : i + 1]):
        return k
    places.clear()
    for k, group in enumerate(optimizer.param_groups):
        places.update({id(each): (k, i) for i, each in enumerate(group["params"])})
    return places.get(id(p), (None, 0))[0]
