"""``torch.optim.Optimizer`` for any method: groups, states and checkpoints as PyTorch has them, numbers by rules."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, ClassVar

import torch

from adamod_array._method import Method
from adamod_array._modes import contained
from adamod_array._program.trace import trace
from adamod_array._rate import checked_decay, checked_schedule, is_schedule, rate_at
from adamod_array._state import State
from adamod_array.torch._checkpoint import prepared, unbox
from adamod_array.torch._cohort import KEYS, Cohort
from adamod_array.torch._rules import coupled
from adamod_array.torch._scaler import scaled
from adamod_array.torch._sorted import Sorted, named

ELSEWHERE = {"params", "param_names", "name", "initial_lr", "foreach", "fused", "capturable", "differentiable"}
"""Keys of groups besides an optimizer's own: of PyTorch, of its schedulers, and of its tools."""


NO_PARAMETERS = (torch.nn.Module, Method, State, Mapping)
"""What is given in the place of parameters by mistake, and would not be told apart."""


class Optimizer(torch.optim.Optimizer):
    r"""Steps parameters in place by any method, one of the package's or your own.

    Parameters
    ----------
    params : iterable of tensor, of (name, tensor), or of dict
        What ``torch.optim`` takes; a dict is a group with options of its own, ``method`` among them.
    method : Method
        ``AdaMod(beta3=0.9999)``, for example.
    lr : float, tensor or schedule
        A schedule of this package is called with t = 1 for the first step of a parameter.
    weight_decay : float
        Decoupled: parameters shrink by ``1 - lr * weight_decay`` a step.
    maximize : bool
        Step along the gradient.

    Raises
    ------
    TypeError, ValueError
        As in ``torch.optim``; the message names the group.

    Notes
    -----
    ``state[p]`` holds ``step`` and the slots under PyTorch's names (``exp_avg``, ``exp_avg_sq``, ``max_exp_avg_sq``,
    ``momentum_buffer``), AdaMod's :math:`s` as ``exp_avg_lr``. 16-bit parameters keep float32 slots.

    Examples
    --------
    >>> import torch
    >>> import adamod_array
    >>> from adamod_array.torch import Optimizer
    >>> p = torch.nn.Parameter(torch.tensor([1.0, -2.0]))
    >>> optimizer = Optimizer([p], adamod_array.AdaMod(beta3=0.9), lr=1.0)
    >>> p.grad = torch.tensor([4.0, -0.5])
    >>> optimizer.step()
    >>> p.detach(), optimizer.state[p]["exp_avg_lr"]
    (tensor([ 0.9000, -1.9000]), tensor([0.0250, 0.2000]))
    """

    keys: ClassVar[Mapping[str, str]] = KEYS
    """The name in ``state`` of each slot of the method; another slot keeps its own."""

    def __init__(
        self,
        params: Iterable[Any],
        method: Method,
        lr: Any = 1e-3,
        weight_decay: float = 0.0,
        *,
        maximize: bool = False,
    ) -> None:
        if not isinstance(method, Method):
            raise TypeError(
                f"expected a method such as AdaMod(), got {method!r}; the order is Optimizer(params, method)"
            )
        self._set_up(params, method=method, lr=lr, weight_decay=weight_decay, maximize=maximize)

    def _set_up(self, params: Iterable[Any], **defaults: Any) -> None:
        """Begin with these defaults of the groups."""
        for name in ("foreach", "fused", "capturable", "differentiable"):
            defaults.setdefault(name, None if name in ("foreach", "fused") else False)
        defaults.setdefault("decoupled_weight_decay", True)
        if isinstance(defaults["lr"], torch.Tensor) and defaults["lr"].numel() != 1:
            raise ValueError("Tensor lr must be 1-element")
        if isinstance(params, NO_PARAMETERS) and not isinstance(params, torch.nn.ParameterList):
            instead = "model.parameters()"
            if isinstance(params, Mapping):
                instead = "[x], a list of groups" if "params" in params else "x.values()"
            raise TypeError(
                "params argument given to the optimizer should be an iterable of Tensors or dicts, but got"
                f" {type(params).__name__}: write {instead}"
            )
        self._check(defaults, "the optimizer")
        super().__init__(params, defaults)

    def method_of(self, group: dict[str, Any]) -> Method:
        """Return the method that a group's options describe."""
        method: Method = group["method"]
        return method

    def key_of(self, slot: str, method: Method) -> str:
        """Return the name in ``state`` of a method's slot."""
        return "momentum_buffer" if method.slots == ("m",) else self.keys.get(slot, slot)

    def _check(self, group: dict[str, Any], name: str) -> None:
        """Check a group's options, its parameters aside."""
        if unknown := [key for key in group if key not in ELSEWHERE and key not in getattr(self, "defaults", group)]:
            raise TypeError(f"{name} has no option {unknown[0]!r}; there are {', '.join(self.defaults)}")
        if group["foreach"] and isinstance(group["lr"], torch.Tensor):
            raise ValueError("lr as a Tensor is not supported for capturable=False and foreach=True")
        if group["foreach"] and group["fused"]:
            raise RuntimeError("`fused` and `foreach` cannot be `True` together.")
        for option in ("capturable", "differentiable"):
            if group[option]:
                raise RuntimeError(
                    f"{name}: {option}=True is not supported; adamod_array.step can be differentiated and compiled"
                )
        try:
            method = self.method_of(group)
            trace(method)
            if method.compact:
                raise TypeError(
                    "what is rounded stochastically, slots in bfloat16 or parameters, is so by adamod_array.step, not"
                    " by an Optimizer"
                )
            keys = ["step", *(self.key_of(slot, method) for slot in method.slots)]
            if len({*keys}) < len(keys):
                raise ValueError(f"slots {method.slots} would be kept under the keys {keys}, which must differ")
            lr = group["lr"]
            if is_schedule(lr):
                checked_schedule(lr, lambda: "lr")
            else:
                rate_at(lr, 1, lambda: "lr", "torch")
            checked_decay(group["weight_decay"], lambda: "weight_decay", "torch")
        except (TypeError, ValueError) as error:
            raise type(error)(f"{name}: {error}") from None
        kinds = {isinstance(beta, torch.Tensor) for beta in group.get("betas", ())}
        if len(kinds) > 1:
            raise ValueError("betas must be either both floats or both Tensors")
        if group["foreach"] and True in kinds:
            raise ValueError("betas as Tensors are not supported for capturable=False and foreach=True")

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Add a group, with the defaults where it has no option of its own.

        Raises
        ------
        TypeError, ValueError
            As in ``torch.optim``, or an option is unknown or out of range; no group is added.
        """
        super().add_param_group(param_group)
        try:
            self._check(self.param_groups[-1], f"param_groups[{len(self.param_groups) - 1}]")
        except Exception:
            del self.param_groups[-1]
            raise

    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Take one step of all parameters that have a gradient.

        Parameters
        ----------
        closure : callable, optional
            Evaluates the model again and returns the loss.

        Returns
        -------
        Any
            What ``closure`` returns, or None.
        """
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        self._advance_all()
        return loss

    @torch._disable_dynamo
    def _advance_all(self) -> None:
        groups = self.param_groups
        params = [p for group in groups for p in group["params"]]
        self._advance(None, params, [k for k, group in enumerate(groups) for _ in group["params"]])

    def _advance(self, key: Any, params: list[Any], owners: list[int]) -> None:
        """Step those parameters, of the groups ``owners``, that have a gradient; cohorts are kept under ``key``."""
        taken, common = scaled(self)
        if taken is False:
            return
        gradients = self._gradients([p.grad for p in params])
        methods = {k: self._whole_method(k, self.param_groups[k]) for k in dict.fromkeys(owners)}
        cohorts = self._sorted(key, params, owners, gradients, methods)
        if not isinstance(taken, bool):
            for cohort in cohorts:
                cohort.count_on(self, taken.device)
        scalars = [cohort.scalars(self.param_groups, methods, common) for cohort in cohorts]  # before any is stepped
        for cohort, each in zip(cohorts, scalars, strict=True):
            theirs = gradients if len(cohort.params) == len(params) else [gradients[i] for i in cohort.places]
            try:
                _step(cohort, each, theirs, taken)
            except (TypeError, ValueError) as error:
                raise named(error, self, cohort.params, cohort.group_index, cohort.method) from error

    def _gradients(self, gradients: list[Any]) -> list[Any]:
        """Return the gradients, which are dense."""
        for g in gradients:
            if g is not None and g.layout is not torch.strided:
                raise RuntimeError(f"{type(self).__name__} does not support sparse gradients")
        return gradients

    @property
    def _step_supports_amp_scaling(self) -> bool:
        """Return whether GradScaler leaves scale and overflows to the step: as in PyTorch, where it is fused."""
        return any(group.get("fused") for group in self.param_groups)

    def _whole_method(self, k: int, group: dict[str, Any]) -> Method:
        """Return the method of group ``k``, with decay that is added to the gradient, and the sign of it."""
        try:
            decay = checked_decay(group["weight_decay"], lambda: "weight_decay", "")
            return coupled(self.method_of(group), 0.0 if group["decoupled_weight_decay"] else decay, group["maximize"])
        except (TypeError, ValueError) as error:
            raise type(error)(f"param_groups[{k}]: {error}") from error
        except KeyError as error:
            raise KeyError(f"param_groups[{k}] has lost its option {error}") from error

    def _sorted(
        self, key: Any, params: list[Any], owners: list[int], gradients: list[Any], methods: dict[int, Method]
    ) -> list[Cohort]:
        """Return the cohorts, those of the last step where they still fit."""
        known: dict[Any, Sorted] = self.__dict__.setdefault("_known", {})
        found = known.get(key)
        if found is None or not found.fits(self, params, owners, gradients, methods):
            if key is None:  # those of single parameters, some of which may have gone
                known.clear()
            found = known[key] = Sorted(self, params, owners, gradients, methods)
        return found.cohorts

    # checkpoints

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        unbox(self.state)
        self.__dict__.pop("_known", None)
        for group in self.param_groups:
            for key, value in self.defaults.items():
                group.setdefault(key, value)

    @torch._disable_dynamo
    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Load what ``state_dict`` returned, of this class or of the one in ``torch.optim`` that it stands for.

        Tensors are copied. Slots of 16-bit parameters become float32, and stay so where they were.

        Raises
        ------
        ValueError
            Groups or parameters of another number, or the state of another method; nothing is changed.
        """
        handle = self.register_load_state_dict_pre_hook(prepared)  # after those of users
        try:
            super().load_state_dict(state_dict)
        finally:
            handle.remove()


_step = contained(Cohort.step)
