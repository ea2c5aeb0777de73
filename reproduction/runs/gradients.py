"""The gradient of a loss in PyTorch, by the names of its parameters."""

from __future__ import annotations

from typing import Any

import torch


def gradient(loss: Any, params: dict[str, Any]) -> dict[str, Any]:
    """Return the derivative of a loss by each of its parameters."""
    return dict(zip(params, torch.autograd.grad(loss, list(params.values())), strict=True))
