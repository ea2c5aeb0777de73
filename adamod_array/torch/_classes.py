"""The optimizers by name, with the signatures of ``torch.optim``."""

from __future__ import annotations

import functools
from collections.abc import Iterable
from typing import Any

import adamod_array
from adamod_array._method import Method
from adamod_array._options import explained
from adamod_array.functional import decay_of
from adamod_array.torch._optimizer import Optimizer
from adamod_array.torch._rules import Descent


@functools.lru_cache(maxsize=1024)
def _made(method: type[Method], *options: Any, **named: Any) -> Method:
    """Return a method; the same object for the same options, by which a step sees that nothing has changed."""
    return method(*options, **named)


def _two(betas: Any) -> tuple[float, float]:
    """Return two betas, which may be tensors."""
    try:
        first, second = betas
    except (TypeError, ValueError):
        more = "; beta3 is an option of its own" if isinstance(betas, (tuple, list)) and len(betas) == 3 else ""
        raise TypeError(f"betas must be a pair of numbers, got {betas!r}{more}") from None
    return float(first), float(second)


class Adam(Optimizer):
    """Adam, with the arguments of ``torch.optim.Adam``.

    Parameters
    ----------
    params : iterable of tensor, of (name, tensor), or of dict
        What to optimize.
    lr : float, tensor or schedule
    betas : pair of float
        Decays of the averages of the gradient and of its square.
    eps : float
        Added to the root, in units of a gradient.
    weight_decay : float
        Added to the gradient, times the parameter (L2); decoupled with ``decoupled_weight_decay``.
    amsgrad : bool
        Divide by the largest average of squares so far.
    foreach, capturable, differentiable, fused : bool, optional
        As PyTorch's tools pass them on: every step is fused. ``capturable`` and ``differentiable`` must be False.
    maximize : bool
        Step along the gradient.
    decoupled_weight_decay : bool
        AdamW's decay.

    Raises
    ------
    TypeError, ValueError, RuntimeError
        As in ``torch.optim``; the message names the group.

    Examples
    --------
    >>> import torch
    >>> from adamod_array.torch import Adam
    >>> p = torch.nn.Parameter(torch.zeros(2))
    >>> optimizer = Adam([p], lr=0.1)
    >>> p.grad = torch.tensor([3.0, -1.0])
    >>> optimizer.step()
    >>> p.detach()
    tensor([-0.1000,  0.1000])
    """

    @explained
    def __init__(
        self,
        params: Iterable[Any],
        lr: Any = 1e-3,
        betas: tuple[Any, Any] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        amsgrad: bool = False,
        *,
        foreach: bool | None = None,
        maximize: bool = False,
        capturable: bool = False,
        differentiable: bool = False,
        fused: bool | None = None,
        decoupled_weight_decay: bool = False,
    ) -> None:
        self._set_up(
            params,
            lr=lr,
            betas=betas,
            eps=eps,
            weight_decay=weight_decay,
            amsgrad=amsgrad,
            maximize=maximize,
            foreach=foreach,
            capturable=capturable,
            differentiable=differentiable,
            fused=fused,
            decoupled_weight_decay=decoupled_weight_decay,
        )

    def method_of(self, group: dict[str, Any]) -> Method:
        """Return the method that a group's options describe."""
        return _made(adamod_array.Adam, *_two(group["betas"]), float(group["eps"]), 0.0, bool(group["amsgrad"]))


class AdamW(Adam):
    """Adam with decoupled weight decay, with the arguments of ``torch.optim.AdamW``; see :class:`Adam`.

    Examples
    --------
    >>> import torch
    >>> from adamod_array.torch import AdamW
    >>> p = torch.nn.Parameter(torch.ones(1))
    >>> optimizer = AdamW([p], lr=0.5, weight_decay=0.1)
    >>> p.grad = torch.zeros(1)
    >>> optimizer.step()
    >>> p.detach()
    tensor([0.9500])
    """

    @explained
    def __init__(
        self,
        params: Iterable[Any],
        lr: Any = 1e-3,
        betas: tuple[Any, Any] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 1e-2,
        amsgrad: bool = False,
        *,
        maximize: bool = False,
        foreach: bool | None = None,
        capturable: bool = False,
        differentiable: bool = False,
        fused: bool | None = None,
    ) -> None:
        super().__init__(
            params,
            lr,
            betas,
            eps,
            weight_decay,
            amsgrad,
            foreach=foreach,
            maximize=maximize,
            capturable=capturable,
            differentiable=differentiable,
            fused=fused,
            decoupled_weight_decay=True,
        )

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        for group in self.param_groups:  # also those of a checkpoint of Adam's, as in PyTorch
            group["decoupled_weight_decay"] = True


class RAdam(Optimizer):
    """Rectified Adam, with the arguments of ``torch.optim.RAdam``.

    Parameters
    ----------
    params, lr, betas, eps, weight_decay, decoupled_weight_decay, foreach, maximize, capturable, differentiable
        As in :class:`Adam`.
    variant : str
        ``"reference"``, the default here, is PyTorch's; ``"paper"`` that of Ma & Yarats.

    Examples
    --------
    >>> import torch
    >>> from adamod_array.torch import RAdam
    >>> p = torch.nn.Parameter(torch.zeros(1))
    >>> optimizer = RAdam([p], lr=0.5)
    >>> p.grad = torch.ones(1)
    >>> optimizer.step()
    >>> p.detach()
    tensor([-0.5000])
    """

    @explained
    def __init__(
        self,
        params: Iterable[Any],
        lr: Any = 1e-3,
        betas: tuple[Any, Any] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        decoupled_weight_decay: bool = False,
        *,
        foreach: bool | None = None,
        maximize: bool = False,
        capturable: bool = False,
        differentiable: bool = False,
        variant: str = "reference",
    ) -> None:
        self._set_up(
            params,
            lr=lr,
            betas=betas,
            eps=eps,
            weight_decay=weight_decay,
            maximize=maximize,
            foreach=foreach,
            capturable=capturable,
            decoupled_weight_decay=decoupled_weight_decay,
            differentiable=differentiable,
            variant=variant,
        )

    def method_of(self, group: dict[str, Any]) -> Method:
        """Return the method that a group's options describe."""
        options = *_two(group["betas"]), float(group["eps"])
        return _made(adamod_array.RAdam, *options, variant=str(group["variant"]))


class SGD(Optimizer):
    """Gradient descent with momentum, with the arguments of ``torch.optim.SGD``.

    Parameters
    ----------
    params, lr, weight_decay, maximize, foreach, differentiable, fused
        As in :class:`Adam`.
    momentum : float
        Decay of the velocity, in [0, 1).
    dampening : float
        Must be 0.
    nesterov : bool
        Look ahead along the velocity.

    Examples
    --------
    >>> import torch
    >>> from adamod_array.torch import SGD
    >>> p = torch.nn.Parameter(torch.ones(1))
    >>> optimizer = SGD([p], lr=0.1, momentum=0.9)
    >>> for _ in range(2):
    ...     p.grad = torch.ones(1)
    ...     optimizer.step()
    >>> p.detach()
    tensor([0.7100])
    """

    @explained
    def __init__(
        self,
        params: Iterable[Any],
        lr: Any = 1e-3,
        momentum: float = 0.0,
        dampening: float = 0.0,
        weight_decay: float = 0.0,
        nesterov: bool = False,
        *,
        maximize: bool = False,
        foreach: bool | None = None,
        differentiable: bool = False,
        fused: bool | None = None,
    ) -> None:
        self._set_up(
            params,
            lr=lr,
            momentum=momentum,
            dampening=dampening,
            weight_decay=weight_decay,
            nesterov=nesterov,
            maximize=maximize,
            foreach=foreach,
            differentiable=differentiable,
            fused=fused,
            decoupled_weight_decay=False,
        )

    def method_of(self, group: dict[str, Any]) -> Method:
        """Return the method that a group's options describe."""
        momentum, nesterov = float(group["momentum"]), bool(group["nesterov"])
        if momentum < 0:
            raise ValueError(f"Invalid momentum value: {momentum}")
        if group["dampening"]:
            raise ValueError(f"dampening must be 0, got {group['dampening']}")
        if nesterov and not momentum:
            raise ValueError("Nesterov momentum requires a momentum and zero dampening")
        return _made(adamod_array.Momentum, momentum, nesterov) if momentum else _made(Descent)

    def _gradients(self, gradients: list[Any]) -> list[Any]:
        return super()._gradients([g if g is None or not g.is_sparse else g.to_dense() for g in gradients])


class AdaMod(Optimizer):
    """AdaMod (Ding et al. 2019): Adam whose rates are bounded by their own average.

    Parameters
    ----------
    params : iterable of tensor, of (name, tensor), or of dict
        What to optimize.
    lr : float, tensor or schedule
    betas : pair of float
        Decays of the averages of the gradient and of its square.
    beta3 : float
        Decay of the average of rates, in [0, 1).
    eps : float
        Added to the root, in units of a gradient.
    weight_decay : float
        Decoupled, as the authors have it.
    variant : str
        ``"paper"``, Algorithm 2, or ``"reference"``, the authors' code.
    hold_idle : bool
        Let the average of rates wait while no gradient has come.
    len_memory : float, optional
        Steps that the average remembers, in the place of ``beta3``, which is ``1 - 1/len_memory`` then.
    maximize : bool
        Step along the gradient.

    Raises
    ------
    TypeError, ValueError
        As in ``torch.optim``; the message names the group.

    Examples
    --------
    >>> import torch
    >>> from adamod_array.torch import AdaMod
    >>> p = torch.nn.Parameter(torch.zeros(2))
    >>> optimizer = AdaMod([p], lr=1.0, beta3=0.9)
    >>> p.grad = torch.tensor([4.0, -0.5])
    >>> optimizer.step()
    >>> p.detach()
    tensor([-0.1000,  0.1000])
    """

    @explained
    def __init__(
        self,
        params: Iterable[Any],
        lr: Any = 1e-3,
        betas: tuple[Any, Any] = (0.9, 0.999),
        beta3: float = 0.999,
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        *,
        variant: str = "paper",
        hold_idle: bool = False,
        len_memory: float | None = None,
        maximize: bool = False,
    ) -> None:
        self._set_up(
            params,
            lr=lr,
            betas=betas,
            beta3=beta3 if len_memory is None else decay_of(len_memory, beta3, AdaMod),
            eps=eps,
            weight_decay=weight_decay,
            variant=variant,
            hold_idle=hold_idle,
            maximize=maximize,
        )

    def method_of(self, group: dict[str, Any]) -> Method:
        """Return the method that a group's options describe."""
        options = float(group["beta3"]), float(group["eps"]), str(group["variant"]), bool(group["hold_idle"])
        return _made(adamod_array.AdaMod, *_two(group["betas"]), *options)


class DiffGrad(Optimizer):
    """DiffGrad (Dubey et al. 2019): Adam times the sigmoid of the gradient's change.

    Parameters
    ----------
    params, lr, betas, eps, weight_decay, maximize
        As in :class:`AdaMod`.

    Examples
    --------
    >>> import torch
    >>> from adamod_array.torch import DiffGrad
    >>> p = torch.nn.Parameter(torch.zeros(1))
    >>> optimizer = DiffGrad([p], lr=1.0)
    >>> p.grad = torch.full((1,), 100.0)
    >>> optimizer.step()
    >>> p.detach()
    tensor([-1.])
    """

    @explained
    def __init__(
        self,
        params: Iterable[Any],
        lr: Any = 1e-3,
        betas: tuple[Any, Any] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        *,
        maximize: bool = False,
    ) -> None:
        self._set_up(params, lr=lr, betas=betas, eps=eps, weight_decay=weight_decay, maximize=maximize)

    def method_of(self, group: dict[str, Any]) -> Method:
        """Return the method that a group's options describe."""
        return _made(adamod_array.DiffGrad, *_two(group["betas"]), float(group["eps"]))


class DiffMod(Optimizer):
    """DiffMod: AdaMod times DiffGrad's friction.

    Parameters
    ----------
    params, lr, betas, beta3, eps, weight_decay, hold_idle, len_memory, maximize
        As in :class:`AdaMod`.

    Examples
    --------
    >>> import torch
    >>> from adamod_array.torch import DiffMod
    >>> p = torch.nn.Parameter(torch.zeros(1))
    >>> optimizer = DiffMod([p], lr=1.0, beta3=0.9)
    >>> p.grad = torch.full((1,), 100.0)
    >>> optimizer.step()
    >>> p.detach()
    tensor([-0.1000])
    """

    @explained
    def __init__(
        self,
        params: Iterable[Any],
        lr: Any = 1e-3,
        betas: tuple[Any, Any] = (0.9, 0.999),
        beta3: float = 0.999,
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        *,
        hold_idle: bool = False,
        len_memory: float | None = None,
        maximize: bool = False,
    ) -> None:
        self._set_up(
            params,
            lr=lr,
            betas=betas,
            beta3=beta3 if len_memory is None else decay_of(len_memory, beta3, DiffMod),
            eps=eps,
            weight_decay=weight_decay,
            hold_idle=hold_idle,
            maximize=maximize,
        )

    def method_of(self, group: dict[str, Any]) -> Method:
        """Return the method that a group's options describe."""
        options = *_two(group["betas"]), float(group["beta3"]), float(group["eps"])
        return _made(adamod_array.DiffMod, *options, hold_idle=bool(group["hold_idle"]))
