"""Optimizers for PyTorch: ``torch.optim`` with AdaMod, RAdam and friends at the speed of one pass over memory.

Each is a ``torch.optim.Optimizer``: groups, hooks, closures, schedulers, checkpoints and GradScaler work as they do
with PyTorch's own. States stand under PyTorch's keys, so that a run can move there and back.

Examples
--------
>>> import torch
>>> from adamod_array.torch import AdaMod
>>> model = torch.nn.Linear(3, 1)
>>> optimizer = AdaMod(model.parameters(), lr=1e-2, weight_decay=1e-2)
>>> model(torch.ones(3)).sum().backward()
>>> optimizer.step()
>>> sorted(optimizer.state[model.weight])
['exp_avg', 'exp_avg_lr', 'exp_avg_sq', 'step']
"""

from adamod_array._late import needed

try:
    from adamod_array.torch._classes import SGD, Adam, AdaMod, AdamW, DiffGrad, DiffMod, RAdam
    from adamod_array.torch._optimizer import Optimizer
    from adamod_array.torch._use import scheduler, step_in_backward
except ModuleNotFoundError as error:
    raise needed("torch", error) from None

__all__ = [
    "SGD",
    "AdaMod",
    "Adam",
    "AdamW",
    "DiffGrad",
    "DiffMod",
    "Optimizer",
    "RAdam",
    "scheduler",
    "step_in_backward",
]
