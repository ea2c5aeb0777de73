"""Arguments that a front door does not take: what they are called here, or whose they are."""

from __future__ import annotations

import difflib
import functools
import inspect
from collections.abc import Callable, Collection
from typing import Any, ParamSpec, TypeVar

Arguments = ParamSpec("Arguments")
Result = TypeVar("Result")
Class = TypeVar("Class", bound=type)

_DOORS: dict[str, tuple[str, ...]] = {}
"""What each front door takes."""

_ELSEWHERE: dict[str, tuple[str, ...]] = {
    "lr": ("learning_rate", "alpha", "eta", "step_size", "stepsize", "schedule", "lr_schedule", "scheduler"),
    "beta1": ("b1", "beta_1", "momentum", "beta"),
    "beta2": ("b2", "beta_2", "rho", "alpha2"),
    "beta3": ("b3", "beta_3"),
    "beta1 beta2": ("betas", "beta1_beta2"),
    "beta": ("momentum", "mu", "beta1", "b1", "beta_1"),
    "eps": ("epsilon", "eps_hat"),
    "weight_decay": ("wd", "weight_decay_rate", "decoupled_weight_decay", "lambda_"),
    "max_norm": ("clip_norm", "clipnorm", "max_grad_norm", "grad_clip", "clip", "global_clipnorm", "clipping"),
    "slot_dtype": ("mu_dtype", "state_dtype", "accumulator_dtype", "moment_dtype", "compact"),
    "donate": ("inplace", "in_place", "out"),
    "betas": ("beta1", "beta2", "b1", "b2", "beta_1", "beta_2"),
    "momentum": ("beta",),
    "steps": (
        *("T_max", "decay_steps", "warmup_steps", "total_steps", "num_steps", "transition_steps", "total_iters"),
        *("step_size", "n_steps", "num_warmup_steps", "num_training_steps", "max_steps"),
    ),
    "factor": ("gamma", "decay_rate", "rate"),
    "final": ("eta_min", "end_value", "alpha", "end_factor", "end", "min_lr", "lr_end"),
    "start": ("init_value", "start_factor", "initial"),
    "boundaries": ("milestones",),
    "milestones": ("boundaries",),
}
"""What other libraries call an option, by its name here; some names mean several, of which a door has one."""

_TAKEN = "where= says whether the step is taken: where=all_finite, or where=not skipped"

_SAID = {
    **dict.fromkeys(("skip", "found_inf", "should_skip_update_fn"), _TAKEN),
    "decay": "write weight_decay=, by which parameters shrink; a rate that falls is a schedule",
    "mask": "weight_decay takes a tree of numbers: 0.0 where nothing is to decay",
    "warmup": "write lr=1e-3 * schedules.linear_warmup(steps)",
    "warmup_steps": "write lr=1e-3 * schedules.linear_warmup(steps)",
    "maximize": "a step goes along -grads: give them with the other sign",
    **dict.fromkeys(("foreach", "fused", "capturable", "jit", "compile"), "every step is fused: leave it out"),
}


def unexpected(door: str, option: str) -> TypeError:
    """Return the error for an option that a front door does not take; it says what to write instead."""
    names = [name for name in _DOORS[door] if name not in ("self", "params", "state", "grads", "method", "compact")]
    return TypeError(
        f"{door}() got an unexpected keyword argument {option!r}{meant(option, names, door)};"
        f" options are {', '.join(names)}"
    )


def meant(option: str, names: Collection[str], door: str = "") -> str:
    """Return what to write instead of an option; ``names`` are those that there are."""
    others = [name for name, theirs in _ELSEWHERE.items() if option in theirs]
    for each in others:
        if {*each.split()} <= {*names}:
            return f": write {' and '.join(f'{name}=' for name in each.split())}"
    if option in _SAID:
        return f": {_SAID[option]}"
    for each in (option, *others):
        if owners := _owners(door, each):
            of_memory = "; here write beta3=1 - 1/N" if each == "len_memory" and "beta3" in names else ""
            return f": {each} is an option of {', '.join(owners)}{of_memory}"
    close = difflib.get_close_matches(option.casefold(), names, 1, 0.7)
    return f": write {close[0]}=" if close else ""


def _owners(door: str, option: str) -> list[str]:
    """Return a few front doors that have an option, those of the same method first."""
    package, _, name = door.rpartition(".")
    method = name.casefold().partition("_")[0]
    found = [x for x, names in _DOORS.items() if option in names and x.rpartition(".")[0] == package]
    return sorted(found, key=lambda x: x.casefold().rpartition(".")[2].partition("_")[0] != method)[:3]


def _name(function: Callable[..., Any]) -> str:
    package = "adamod_array.torch." if function.__module__.startswith("adamod_array.torch.") else ""
    return package + function.__qualname__.removesuffix(".__init__")


def register(function: Callable[..., Any], door: str = "") -> inspect.Signature:
    """Remember what a front door takes; return its signature, without what takes the unknown."""
    signature = inspect.signature(function)
    kept = [x for x in signature.parameters.values() if x.kind is not x.VAR_KEYWORD]
    _DOORS[door or _name(function)] = tuple([x.name for x in kept])
    return signature.replace(parameters=kept)


def refuses(function: Callable[Arguments, Result]) -> Callable[Arguments, Result]:
    """Decorate a front door that is called at every step, and looks itself at its ``**unknown``: it is not wrapped."""
    function.__signature__ = register(function)  # type: ignore[attr-defined]
    return function


def explained(function: Callable[Arguments, Result], door: str = "") -> Callable[Arguments, Result]:
    """Decorate a front door so that an error of its call says what to write instead."""
    door = door or _name(function)
    signature = register(function, door)
    names = frozenset(signature.parameters)
    ordered = [x for x in signature.parameters.values() if x.kind is not x.KEYWORD_ONLY]
    most, least = len(ordered), len([x for x in ordered if x.default is x.empty])

    @functools.wraps(function)
    def call(*args: Arguments.args, **kwargs: Arguments.kwargs) -> Result:
        if not (least <= len(args) <= most) or (kwargs and not names.issuperset(kwargs)):
            _check_call(door, signature, args, kwargs)
        return function(*args, **kwargs)

    return call


def explained_class(cls: Class, package: str = "") -> Class:
    """Decorate a dataclass as :func:`explained` does a function."""
    cls.__init__ = explained(cls.__init__, package + cls.__name__)  # type: ignore[misc]
    return cls


def _check_call(door: str, signature: inspect.Signature, args: Any, kwargs: Any) -> None:
    """Raise where a front door cannot be called so."""
    for option in kwargs:
        if option not in signature.parameters:
            raise unexpected(door, option)
    try:
        signature.bind(*args, **kwargs)
    except TypeError as error:
        ordered = [x.name for x in signature.parameters.values() if x.kind is not x.KEYWORD_ONLY and x.name != "self"]
        named = [x.name for x in signature.parameters.values() if x.kind is x.KEYWORD_ONLY]
        by_name = f"; by name: {', '.join(named)}" if named else ""
        raise TypeError(f"{door}(): {error}; the order is {door}({', '.join(ordered)}){by_name}") from None
