"""``torch.optim.Optimizer`` for any method: groups, states and checkpoints as PyTorch has them, numbers by rules."""

from __future__ import annotations

import operator
import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any, ClassVar

import torch

from adamod_array._method import Method
from adamod_array._modes import contained
from adamod_array._program.trace import trace
from adamod_array._rate import checked_decay, is_schedule, rate_at
from adamod_array.torch._checkpoint import load
from adamod_array.torch._cohort import Cohort, count_dtype, slot_dtype
from adamod_array.torch._rules import coupled

KEYS = {
    "m": "exp_avg",
    "v": "exp_avg_sq",
    "v_max": "max_exp_avg_sq",
    "s": "exp_avg_lr",
    "g_last": "previous_grad",
}
"""Where PyTorch, the authors of AdaMod and pytorch_optimizer keep the slots."""

ELSEWHERE = {"params", "param_names", "name", "initial_lr", "foreach", "fused", "capturable", "differentiable"}
"""Keys of groups besides an optimizer's own: of PyTorch, of its schedulers, and of its tools."""


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
        kinds = {isinstance(beta, torch.Tensor) for beta in group.get("betas", ())}
        if len(kinds) > 1:
            raise ValueError("betas must be either both floats or both Tensors")
        if group["foreach"] and True in kinds:
            raise ValueError("betas as Tensors are not supported for capturable=False and foreach=True")
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
            lr = group["lr"]
            if not is_schedule(lr):
                rate_at(lr, 1, lambda: "lr", "torch")
            checked_decay(group["weight_decay"], lambda: "weight_decay", "torch")
        except (TypeError, ValueError) as error:
            raise type(error)(f"{name}: {error}") from None

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
        if torch.compiler.is_compiling():
            torch.compiler.disable(self._advance)(None)
        else:
            self._advance(None)
        return loss

    def _advance(self, only: Any) -> None:
        """Step all parameters that have a gradient, or one of them."""
        found_inf = getattr(self, "found_inf", None)
        if found_inf is not None and bool(found_inf):
            return
        params = [p for group in self.param_groups for p in group["params"]] if only is None else [only]
        gradients = self._gradients([p.grad for p in params])
        methods = [self._whole_method(group) for group in self.param_groups]
        for cohort in self._cohorts(params, gradients, methods):
            theirs = gradients if len(cohort.params) == len(params) else [gradients[i] for i in cohort.places]
            try:
                _step(cohort, self.param_groups, methods, theirs)
            except (TypeError, ValueError) as error:
                raise type(error)(self._named(str(error), cohort)) from error

    def _gradients(self, gradients: list[Any]) -> list[Any]:
        """Return the gradients, as they are to be stepped: without GradScaler's factor."""
        for g in gradients:
            if g is not None and g.layout is not torch.strided:
                raise RuntimeError(f"{type(self).__name__} does not support sparse gradients")
        scale = getattr(self, "grad_scale", None)
        if scale is None:
            return gradients
        return [None if g is None else g / scale.to(g.device) for g in gradients]

    def _whole_method(self, group: dict[str, Any]) -> Method:
        """Return a group's method, with decay that is added to the gradient, and the sign of it."""
        decay = 0.0 if group["decoupled_weight_decay"] else float(group["weight_decay"])
        return coupled(self.method_of(group), decay, group["maximize"])

    def _cohorts(self, params: list[Any], gradients: list[Any], methods: list[Method]) -> list[Cohort]:
        """Return the cohorts, those of the last step where they still fit."""
        known: dict[Any, _Known] = self.__dict__.setdefault("_known", {})
        key = None if len(params) != 1 else id(params[0])  # a step in backward is of one parameter
        found = known.get(key)
        if found is None or not found.fits(self, params, gradients, methods):
            found = known[key] = self._sorted(params, gradients, methods)
        return found.cohorts

    def _sorted(self, params: list[Any], gradients: list[Any], methods: list[Method]) -> _Known:
        """Sort the parameters that have a gradient, or had one, into cohorts that keep the same slots."""
        group_of = {id(p): k for k, group in enumerate(self.param_groups) for p in group["params"]}
        places: dict[Any, dict[int, int]] = {}
        seen, absent = set(), []
        for i, (p, g) in enumerate(zip(params, gradients, strict=True)):
            if id(p) in seen:  # twice in a group, of which PyTorch warns
                continue
            seen.add(id(p))
            if g is None and not self.state.get(p):
                absent.append(i)
                continue
            method = methods[group_of[id(p)]]
            self.begin(p, method)
            places.setdefault((method.slots, self.key_of("m", method)), {})[i] = group_of[id(p)]
        cohorts = [
            Cohort(self, [params[i] for i in each], [*each], [*each.values()], methods[next(iter(each.values()))])
            for each in places.values()
        ]
        return _Known(params, methods, cohorts, absent)

    def begin(self, p: Any, method: Method) -> None:
        """Put into a parameter's state what is not there yet: zeros, and a count of 0."""
        state = self.state[p]
        if not isinstance(state.get("step"), torch.Tensor):
            state["step"] = torch.tensor(float(state.get("step") or 0), dtype=count_dtype())
        for slot in method.slots:
            key = self.key_of(slot, method)
            if state.get(key) is None:
                state[key] = torch.zeros_like(p, dtype=slot_dtype(p), memory_format=torch.preserve_format)

    def _named(self, message: str, cohort: Cohort) -> str:
        """Return an error's text with groups and names in the place of numbers of leaves."""

        def place(found: re.Match[str]) -> str:
            i = int(found[2])
            k = cohort.group_index[i]
            group = self.param_groups[k]
            position = next(j for j, p in enumerate(group["params"]) if p is cohort.params[i])
            names = group.get("param_names")
            return f"{found[1]} of param_groups[{k}]['params'][{position}]" + (f" ({names[position]})" if names else "")

        return re.sub(r"(params|grads|slots\['\w+'\])\[(\d+)\]", place, message)

    # checkpoints

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        self.__dict__.pop("_known", None)
        for group in self.param_groups:
            for key, value in self.defaults.items():
                group.setdefault(key, value)

    @torch._disable_dynamo
    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Load what :meth:`state_dict` returned, of this class or of the one in ``torch.optim`` that it stands for.

        Tensors are copied. Slots of 16-bit parameters become float32, and stay so where they were.

        Raises
        ------
        ValueError
            Groups or parameters of another number, or the state of another method; nothing is changed.
        """
        load(self, state_dict, super().load_state_dict)


class _Known:
    """The cohorts of the last step, and what they depend on."""

    def __init__(self, params: list[Any], methods: list[Method], cohorts: list[Cohort], absent: list[int]) -> None:
        self.params, self.methods, self.cohorts, self.absent = params, methods, cohorts, absent

    def fits(self, optimizer: Optimizer, params: list[Any], gradients: list[Any], methods: list[Method]) -> bool:
        """Return whether parameters, slots and states are those, and whoever has a gradient is in a cohort."""
        if len(params) != len(self.params) or not all(map(operator.is_, params, self.params)):
            return False
        if methods != self.methods:
            if [method.slots for method in methods] != [method.slots for method in self.methods]:
                return False
            self.methods = methods
        if any(gradients[i] is not None for i in self.absent):
            return False
        return all(cohort.fits(optimizer) for cohort in self.cohorts)


_step = contained(Cohort.step)
