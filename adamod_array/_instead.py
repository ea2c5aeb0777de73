"""What to write in the place of something that is no array, or none that can be stepped."""

from __future__ import annotations

import math
import numbers
import re
from collections.abc import Collection, ItemsView, Iterator, KeysView, Mapping, Set, ValuesView
from typing import Any

from adamod_array._method import Method, reads_as_number
from adamod_array._namespace import dtype_name, framework, namespace_of

_GROUP = re.compile(r"\[\d+\]\['(lr|weight_decay|betas|eps|momentum)'\]")
"""The path of an option in groups of torch.optim."""

_KINDS = {"complex": "complex", "clongdouble": "complex", "float8": "'float32'"}
_KINDS |= dict.fromkeys(("bool", "int", "uint", "longdouble", "float"), "float")
"""What numbers of a dtype that cannot be stepped are cast to, by how its name begins: nothing is lost that need be."""

_CONVERT = {"numpy": "np.asarray", "torch": "torch.as_tensor", "jax": "jnp.asarray", "cupy": "cupy.asarray"}


def is_state(x: Any) -> bool:
    """Return whether ``x`` is a state, or looks like one."""
    return hasattr(x, "params") and hasattr(x, "slots")


def of_no_array(x: Any, path: str, name: str = "numpy") -> str:
    """Return what to write instead of ``x`` where ``path`` is to be an array; empty where nothing can be said.

    ``name`` is the framework of the arrays beside it.
    """
    are_grads = path.startswith("grads")
    torch: Any = framework("torch")
    if torch is not None and isinstance(x, torch.nn.Module):
        if are_grads:
            return "write {name: p.grad for name, p in module.named_parameters()}"
        return "write dict(module.named_parameters())"
    if isinstance(x, numbers.Number):
        return _of_number(x, path, _CONVERT.get(name, "np.asarray"))
    if isinstance(x, (str, bytes)):
        return "a name is a key: write a dict {name: array}, as dict(pairs) makes of pairs"
    if isinstance(x, ItemsView):
        return "write dict(x)"
    if isinstance(x, Set) and not isinstance(x, KeysView):
        return "a set has no order, by which slots would be told apart: write a dict or a list"
    if isinstance(x, (Iterator, KeysView, ValuesView)):
        whole = "" if torch is None else "; of a PyTorch module, dict(module.named_parameters())"
        return f"write list(...) of it{whole}" if not are_grads else "write the gradients in the tree of params"
    if isinstance(x, Method):
        return "a method is given to init(method, params)"
    if isinstance(x, Mapping):
        return "write dict(x)"
    if hasattr(x, "to_numpy"):
        return "write x.to_numpy()"
    if (linen := framework("flax.linen")) is not None and isinstance(x, linen.Module):
        return "write module.init(key, x)['params']"
    if are_grads:
        return "call it with the parameters, as in jax.grad(loss)(state.params)" if callable(x) else ""
    text = "give arrays in dicts, lists, tuples or namedtuples; None marks what is not to be optimized"
    if framework("equinox") is not None:
        text += " (of an Equinox module: equinox.filter(module, equinox.is_inexact_array))"
    return text


_METHODS = {
    "state_dict": "adamod_array.checkpoint.save(state, path)",
    "save": "adamod_array.checkpoint.save(state, path)",
    "load_state_dict": "adamod_array.checkpoint.load(path, like=state)",
    "load": "adamod_array.checkpoint.load(path, like=state)",
    "copy": "copy.deepcopy(state)",
    "clone": "copy.deepcopy(state)",
    "_replace": "state.replace(...)",
    "update": "step(state, grads)",
    "param_groups": "state.replace(lr=...)",
}
"""What does for a state what other libraries have methods for."""


def of_attribute(name: str, slots: Collection[str]) -> str:
    """Return what to write instead of an attribute that a state has not, where that can be told."""
    instead = f"state.slots[{name!r}]" if name in slots else _METHODS.get(name, "")
    return f"; write {instead}" if instead else ""


def _of_number(x: Any, path: str, convert: str) -> str:
    if _GROUP.search(path):
        return "groups are branches here: params={'body': ..., 'head': ...}, lr={'body': 1e-4, 'head': 1e-3}"
    of_list = f", or of a list of numbers {convert} of the whole list" if path.endswith("]") else ""
    dtype = "" if isinstance(x, (float, complex)) else ", dtype=float"
    return f"write {convert}({x!r}{dtype}){of_list}"


def of_derived_array(x: Any) -> str:
    """Return what to write instead of an array whose class computes otherwise than its framework's."""
    return "write x.filled(0)" if hasattr(x, "filled") else "give the numbers in it, as np.asarray(x) of a matrix does"


def of_no_number(value: Any, what: str) -> str:
    """Return a value that is no number, and what to write instead where that can be told."""
    name = what.partition("[")[0].partition(" ")[0]
    text = f"{value!r:.200}"
    if isinstance(value, str):
        return f"{text}, a string: write {_of_string(value)}"
    if name == "weight_decay" and isinstance(value, bool):
        return f"{text}: write a number, 0.0 for False"
    if name == "lr" and isinstance(value, (dict, list, tuple)):
        return f"{text}: rates by branch are a tree of schedules, each of which returns one number"
    if callable(value):
        of_schedule = "" if isinstance(value, type) else " Of a schedule its value is schedule(state.step + 1)"
        return f"{text}: call it first?{of_schedule}"
    if type(value).__module__ == "torch.optim.lr_scheduler":
        return f"{type(value).__name__}: PyTorch's schedulers are for adamod_array.torch; here write a schedule"
    return text


def _of_string(text: str) -> str:
    if reads_as_number(text):
        return f"float({text!r})"
    return "a number, or as lr a schedule such as 1e-3 * schedules.cosine_decay(steps)"


def of_dtype(x: Any, path: str, like: str = "") -> str:
    """Return what to write instead of an array whose numbers cannot be stepped; empty where they are no numbers.

    ``like`` is the dtype of the parameter where ``x`` is its gradient.
    """
    name, namespace = dtype_name(x), namespace_of(x)
    if namespace is not None and namespace.name == "jax" and framework("flax.nnx") is not None and ".value" in path:
        return "of an nnx module write nnx.state(module, nnx.Param), without its random state"
    if name.startswith("key"):
        return "keep random keys out of it"
    if name == "object":
        return "write np.asarray(x, dtype=float), or a list of arrays where their shapes differ"
    if namespace is not None and namespace.name == "torch":
        of_a_module = "write x.float(), or leave buffers out: dict(module.named_parameters())"
        return f"write x.to(torch.{like})" if like else of_a_module
    kind = next((kind for start, kind in _KINDS.items() if name.startswith(start)), "")
    if like and kind:
        return f"write x.astype({like!r})"
    return f"write x.astype({kind}), or leave it out" if kind else ""


def of_another_framework(x: Any, name: str) -> str:
    """Return how an array is brought to the framework of its parameter."""
    namespace = namespace_of(x)
    theirs = "" if namespace is None else namespace.name
    if theirs == "torch":
        x_there = "x.detach().cpu().numpy()"
        return f": write {x_there}" if name == "numpy" else f": write {_CONVERT.get(name, 'asarray')}({x_there})"
    if theirs == "cupy" and name == "numpy":
        return ": write cupy.asnumpy(x)"
    return f": write {_CONVERT[name]}(x)" if name in _CONVERT else ""


def of_device(x: Any, device: Any) -> str:
    """Return how an array is brought to the device of its parameter."""
    namespace = namespace_of(x)
    if namespace is not None and namespace.name == "jax":
        return "write jax.device_put(x, device)"
    return f"write x.to({str(device)!r})" if namespace is not None and namespace.name == "torch" else "move it there"


def of_shape(x: Any, shape: tuple[Any, ...]) -> str:
    """Return how an array comes to have a shape, where that can be told: axes that lack or are too many, or turned."""
    given = tuple(x.shape)
    if (len(given) == 1 and math.prod(given) == math.prod(shape)) or _without_ones(given) == _without_ones(shape):
        return f": write x.reshape({shape})"
    return ", which is transposed: write x.T" if len(given) == 2 and given == shape[::-1] else ""


def _without_ones(shape: tuple[Any, ...]) -> list[Any]:
    return [n for n in shape if n != 1]
