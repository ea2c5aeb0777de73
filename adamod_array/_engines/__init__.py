"""Engines: what runs a method's rule over arrays. Each file is one way; :func:`run` chooses."""

from __future__ import annotations

import contextlib
import contextvars
import dataclasses
import functools
import importlib.util
import os
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from adamod_array._late import late
from adamod_array._method import Array, Method
from adamod_array._namespace import Namespace, framework, is_complex
from adamod_array._program.program import Program
from adamod_array._program.trace import trace
from adamod_array._scalars import Options, Scalars

_choice: contextvars.ContextVar[str] = contextvars.ContextVar("adamod_array.engine", default="auto")

ENGINES = ("auto", "eager", "numba", "compile", "foreach", "jit", "cupy")


def claim_nothing() -> None:
    """Claim nothing: a step of new arrays writes into none."""


class UnlikeError(Exception):
    """Raised by a plan's step, before it writes, where arrays are found to be unlike those of the last one."""


@dataclass
class StepInputs:
    """One step over leaves of one framework, checked and ready to run."""

    namespace: Namespace
    scalars: Scalars
    grads: list[Array]
    columns: Columns
    """The parameters, then each slot in the order of ``method.slots``."""
    plan: Any = None
    """What an engine worked out, kept from step to step while arrays and gradients stay in layout."""
    claim: Callable[[], None] = claim_nothing
    """To be called just before the first write of a donated step: what fails before leaves the state as it was."""

    def program(self, *, decay: bool, complex_parameter: bool = False, storage: str = "float32") -> Program:
        """Return the Program of leaves that are stored in this dtype, whose methods differ in constants alone."""
        method, common = self.scalars.methods[0], self.scalars.names
        return trace(method, decay=decay, complex_parameter=complex_parameter, common=common, storage=storage)

    @property
    def params(self) -> list[Array]:
        """Return the parameters."""
        return self.columns[0]

    @property
    def written(self) -> list[Array]:
        """Return what a donated step writes: all columns, one after the other."""
        return [x for xs in self.columns for x in xs]

    def subset(self, leaf_indices: Sequence[int]) -> StepInputs:
        """Return the same step for some of the leaves."""
        return dataclasses.replace(
            self,
            scalars=self.scalars.subset(leaf_indices),
            grads=[self.grads[i] for i in leaf_indices],
            columns=[[xs[i] for i in leaf_indices] for xs in self.columns],
            plan=None,
        )


Columns = list[list[Array]]
"""Arrays of all leaves: the parameters, then each slot. An engine returns the new ones so."""


def run(inputs: StepInputs, donate: bool) -> Columns:
    """Take the step by the engine in force; leaves whose methods compute in another way, one kind after the other."""
    kinds: Sequence[Sequence[int]] = ()
    if len(inputs.scalars.methods) > 1:
        kinds = inputs.scalars.programs({*map(is_complex, inputs.params)})
    if len(kinds) < 2:
        return _run(inputs, donate)
    if donate:
        inputs.grads = _module("eager").disjoint(inputs)  # one kind's parameters are written before another is read
    columns = inputs.columns
    for leaf_indices in kinds:
        columns = put(_run(inputs.subset(leaf_indices), donate), leaf_indices, columns)
    inputs.plan = None
    return columns


def put(new: Columns, leaf_indices: Sequence[int], whole: Columns) -> Columns:
    """Return the whole columns, with new arrays in the places of some leaves."""
    columns = [[*xs] for xs in whole]
    for xs, arrays in zip(columns, new, strict=True):
        for i, x in zip(leaf_indices, arrays, strict=True):
            xs[i] = x
    return columns


def _run(inputs: StepInputs, donate: bool) -> Columns:
    name = inputs.namespace.name
    if name == "torch":
        engine = _module("torch")  # which chooses further, once autograd is served
    elif (name in ("jax", "cupy") and _choice.get() != "eager") or (
        name == "dask" and _choice.get() in ("auto", "numba")
    ):
        engine = _module(name)
    else:
        engine = (compiled() if name == "numpy" else None) or _module("eager")
    new: Columns = engine.run(inputs, donate)
    return new


def step_in_graph(
    method: type[Method], state: Any, grads: Any, options: Options, donate: bool, clip: Callable[[Any, Any], Any]
) -> Any:
    """Take a step as a part of the graph that a user's ``torch.compile`` traces; None where that cannot be."""
    from adamod_array._engines import torch_dynamo  # which Dynamo follows, unlike a call of late()

    return torch_dynamo.step(method, state, grads, options, donate, clip)


def serving(name: str, framework: Any) -> tuple[str, str]:
    """Return the engine that ``auto`` takes for a framework, and why no faster one."""
    found: tuple[str, str] = _module("report").serving(name, framework)
    return found


def persisted(leaves: Sequence[Sequence[Any]], persist: Callable[..., Any]) -> list[Sequence[Any]]:
    """Return Dask's arrays, all columns of each leaf, computed by one call of ``persist``."""
    found: list[Sequence[Any]] = _module("dask").persisted(leaves, persist)
    return found


def tell_autograd(tensors: list[Any]) -> None:
    """Tell PyTorch's autograd that tensors have been written in place."""
    _module("torch").tell(tensors)


def can_repeat(plan: Any) -> bool:
    """Return whether a plan is of the engine in force, which can tell arrays like those of the last step."""
    if getattr(plan, "signatures", None) is None or "numba" in passed_over:
        return False
    return _choice.get() in ("auto", "numba")


def is_narrow(plan: Any) -> bool:
    """Return whether a plan that can be repeated is one of JAX's arrays of which none has numbers of 64 bits."""
    return getattr(plan, "is_narrow", False) and can_repeat(plan)


def signatures_of(arrays: list[Any], nbytes: Any) -> Any:
    """Return what recognises arrays like these, which are only read, and gives their addresses; None if nothing can."""
    return _module("signatures").signatures_of(arrays, len(arrays), nbytes) if numba_kernels() is not None else None


def addresses_of(framework: str, arrays: list[Any]) -> Any:
    """Return where the data of each array is."""
    return _module("signatures").addresses_of(framework, arrays)


READ = "gradients read at once"


def ask(question: Any, arrays: list[Array]) -> tuple[Any, ...]:
    """Return the answer to a question about gradients: from what a kernel finds in one read, or by operations.

    A question names what kernels look for (``found``), says whether that is enough (``is_enough``), and answers by it
    (``of_kernel``) or by the arrays (``of_arrays``). Of an answer, derivatives know the first number alone.
    """
    namespace = question.namespace
    if namespace.name == "jax" and _choice.get() != "eager":
        answer: tuple[Any, ...] = _module("jax").ask(question, arrays)
        return answer
    found = _found(question.found, namespace.name, arrays)
    if found is None or not question.is_enough(found):
        return question.of_arrays(arrays)  # type: ignore[no-any-return]
    numbers = question.of_kernel(np, found)
    # PyTorch's current device may be any
    return tuple([x[()] if namespace.name == "numpy" else namespace.xp.asarray(x, device="cpu") for x in numbers])


def at_once(question: Any, arrays: list[Array]) -> Any:
    """Return the answer to a question by the arrays, whose numbers JAX computes with in one program."""
    if question.namespace.name == "jax" and _choice.get() != "eager":
        return _module("jax").at_once(question, arrays)
    return question.of_arrays(arrays)


def _found(what: str, name: str, arrays: list[Any]) -> Any:
    """Return what :mod:`numba_read` finds in arrays that lie on the CPU; None where no kernel reads them."""
    if name not in ("numpy", "torch") or READ in passed_over:
        return None
    if name == "torch" and (framework("torch").compiler.is_compiling() or not _module("torch").can_be_read(arrays)):
        return None
    if compiled() is None:
        return None
    try:
        kernels = _module("numba_read")
        return kernels.total(what, name, arrays) if all(map(kernels.is_readable, arrays)) else None
    except Exception as error:  # whatever a compiler may raise
        pass_over(READ, error)
        return None


@functools.cache
def _module(name: str) -> Any:
    return late(f"{__name__}.{name}")


passed_over: dict[str, str] = {}
"""What does not work here, and why: a compiler, a kernel, a private name of a framework that is gone."""


def pass_over(name: str, error: BaseException) -> None:
    """Do without something from now on, and say so once; a shortage of memory is raised, for it may pass."""
    if isinstance(error, MemoryError):
        raise error
    if name not in passed_over:
        passed_over[name] = f"{type(error).__name__}: {error}".splitlines()[0]
        message = f"adamod_array steps without {name}, which does not work here ({passed_over[name]})"
        with contextlib.suppress(RuntimeWarning):  # where warnings are errors, a step is worth more
            warnings.warn(message, RuntimeWarning, stacklevel=2)


@functools.cache
def _has_numba() -> bool:
    try:
        return importlib.util.find_spec("numba") is not None
    except (ImportError, ValueError):  # half removed
        return False


def compiled() -> Any:
    """Return the module of Numba's kernels where they work and are in force, else None."""
    return numba_kernels() if _choice.get() in ("auto", "numba") else None


def numba_kernels() -> Any:
    """Return the module of Numba's kernels where they work, else None."""
    if not _has_numba() or "numba" in passed_over:
        return None
    if os.environ.get("NUMBA_DISABLE_JIT", "0") not in ("", "0"):
        passed_over["numba"] = "NUMBA_DISABLE_JIT is set"  # which needs no warning
        return None
    try:
        return _module("numba")
    except Exception as error:  # whatever an installation may raise: the next engine takes the step
        pass_over("numba", error)
        return None


def release_memory() -> int:
    """Give memory back to the system that was kept for results of later steps.

    A step without ``donate`` of NumPy's arrays, or of PyTorch's tensors on the CPU, writes into memory of results that
    nothing looks at any more. As a step begins, no more of it is kept than such results take that are in use, and none
    that sixteen steps and a second have not asked for; what the last step leaves stays until this is called.

    Returns
    -------
    int
        How many bytes.

    Examples
    --------
    >>> import numpy as np
    >>> from adamod_array import adam_init, adam_step, release_memory
    >>> state = adam_init(np.zeros(100_000))
    >>> for _ in range(3):
    ...     state = adam_step(state, np.ones(100_000))
    >>> kept = release_memory()  # 2.4 MB, of parameters and two slots
    """
    released: int = _module("recycled").pool.release()
    return released


@contextlib.contextmanager
def engine(name: str) -> Iterator[None]:
    """Choose what runs the rules, within a ``with`` block and its thread or task.

    Parameters
    ----------
    name : str
        ``"auto"``: the fastest for each framework, the default. ``"eager"``: the rule as written,
        operation by operation. ``"numba"``: one pass over memory. ``"jit"``: JAX's compiler; what
        you jitted under another engine is traced anew.
        ``"compile"``: PyTorch's, which takes seconds to a minute at the first step of every tree, and
        which ``"auto"`` never takes.
        ``"foreach"``: every operation once for all of PyTorch's tensors, without compiling.
        ``"cupy"``: one launch a device and dtype, also for PyTorch's tensors on a GPU where CuPy is installed.
        What a framework does not have is stepped eagerly.

    Raises
    ------
    ValueError
        No engine has that name.

    Examples
    --------
    >>> import numpy as np
    >>> from adamod_array import adamod_init, adamod_step, engine
    >>> with engine("eager"):
    ...     state = adamod_step(adamod_init(np.zeros(3)), np.ones(3))
    """
    if name not in ENGINES:
        raise ValueError(f"engine must be one of {', '.join(ENGINES)}, got {name!r}")
    token = _choice.set(name)
    try:
        with _module("jax").programs_of(name) if framework("jax") else contextlib.nullcontext():
            yield
    finally:
        _choice.reset(token)
