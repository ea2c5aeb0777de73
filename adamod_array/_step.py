"""The state of any method, and one step of it over a tree of arrays."""

from __future__ import annotations

import functools
import itertools
import sys
from collections.abc import Callable
from typing import Any

import numpy as np

from adamod_array import _check, _kernels, _tree
from adamod_array._coefficients import coefficients_at
from adamod_array._kernels.trace import trace
from adamod_array._method import Method
from adamod_array._namespace import COMPUTE_DTYPE, REAL_DTYPE, Namespace, dtype_name, is_tracer, namespace_of
from adamod_array._rate import constant_rate, decay_rate, rates_at
from adamod_array._state import Flat, State
from adamod_array._tree import Tree


def init(method: Method, params: Tree, lr: Any = 1e-3, *, weight_decay: Any = 0.0) -> State:
    """The state before the first step of any method.

    Parameters
    ----------
    method : Method
        ``Adam()``, ``AdaMod(beta3=0.9999)``, or one of your own.
    params : array or tree of arrays
        float16, bfloat16, float32, float64, complex64 or complex128 arrays of any shape, all of
        one framework, on any devices, in dicts, lists, tuples, namedtuples, or any container known
        to optree or JAX. Kept as they are, not copied; None marks what is not to be optimized.
    lr : float, schedule, or a tree prefix of them
        The learning rate; a schedule is called with t = 1 for the first step.
    weight_decay : float or a tree prefix of floats
        Decoupled (Loshchilov & Hutter 2019): parameters shrink by ``1 - lr * weight_decay`` a step.

    Raises
    ------
    TypeError
        Not a method; a leaf that is not a floating array; frameworks mixed; a rate that is no number.
    ValueError
        A rate that is negative or not finite, or no prefix of the tree.

    Examples
    --------
    >>> import numpy as np
    >>> from adamod_array import AdaMod, init
    >>> state = init(AdaMod(beta3=0.9999), {"w": np.zeros(3), "b": np.zeros(1)}, lr={"w": 1e-3, "b": 1e-2})
    >>> state.step, state.slots["s"]["w"]
    (0, array([0., 0., 0.]))
    """
    if not isinstance(method, Method):
        got = method.__name__ + ", a class" if isinstance(method, type) else type(method).__name__
        raise TypeError(f"init: expected a method such as AdaMod(), got {got}; the order is init(method, params)")
    trace(method)  # a rule that no kernel could follow is an error now, and everywhere
    leaves, spec = _tree.flatten(params)
    kind = _check.params(leaves, functools.partial(_tree.path, spec, "params"))
    lr, weight_decay = constant_rate(lr, spec, "lr"), decay_rate(weight_decay, spec)
    leaves = [np.asarray(p) if isinstance(p, np.generic) else p for p in leaves]
    slots = [[None if p is None else _zeros(method, kind, p, i) for p in leaves] for i in range(len(method.slots))]
    flat = Flat(spec, leaves, slots, kind, _layouts(kind, leaves), _numbered(kind, spec))
    return State.of(flat, 0, method, lr, weight_decay)


def _zeros(method: Method, kind: Namespace | None, p: Any, i: int) -> Any:
    """Slot ``i`` of a parameter before the first step."""
    assert kind is not None
    dtype = COMPUTE_DTYPE[dtype_name(p)]
    if dtype in REAL_DTYPE and trace(method, complex_parameter=True).arrays[2 + i][1] == "real":
        dtype = REAL_DTYPE[dtype]
        p = kind.xp.real(p)
    with kind.on_device(p):
        return kind.xp.zeros_like(p, dtype=kind.dtype(dtype))


def step(state: State, grads: Tree, *, lr: Any = None, donate: bool = False) -> State:
    """One step of the state's method: a new state; the old one still stands.

    Parameters
    ----------
    state : State
        From :func:`init` or an earlier step.
    grads : array or tree of arrays
        Gradients in the tree of ``state.params``, each with its parameter's shape and device. A
        leaf may be None: that parameter and its slots stay as they are, the same arrays. Mappings
        (dict, OrderedDict, defaultdict) are matched by their keys.
    lr : float, array of no dimensions, schedule, or a tree prefix of them, optional
        Overrides the state's learning rate for this step. A traced value is fine, and no new value
        compiles anything again.
    donate : bool
        Write into the arrays of ``state`` (NumPy, CuPy, PyTorch) or give their buffers to the
        result (JAX). The old state is spent. Any other framework makes new arrays all the same.

    Returns
    -------
    State
        Every array has the dtype, device and namespace of the one it replaces.

    Raises
    ------
    TypeError
        ``state`` is not a state; a gradient is not a floating array of its parameter's framework.
    ValueError
        Another tree, shape or device; a rate that is negative or not finite; a state that is spent;
        with ``donate``, memory that is read-only or that two leaves share. The state is unharmed.

    Examples
    --------
    >>> import numpy as np
    >>> from adamod_array import Momentum, init, step
    >>> state = init(Momentum(), {"w": np.zeros(2), "b": np.zeros(1)}, lr=0.1)
    >>> state = step(state, {"w": np.ones(2), "b": None})
    >>> print(state.params)
    {'w': array([-0.1, -0.1]), 'b': array([0.])}
    """
    return take_step(Method, state, grads, lr, donate)


def take_step(method: type[Method], state: State, grads: Tree, lr: Any, donate: bool) -> State:
    """:func:`step`, for a state of one method only."""
    torch = sys.modules.get("torch")
    if torch is not None and torch.compiler.is_compiling():
        from adamod_array._kernels import dynamo

        new = dynamo.step(method, state, grads, lr, donate)
        if new is None:
            new = torch.compiler.disable(_take_step)(method, state, grads, lr, donate)
        return new
    return _take_step(method, state, grads, lr, donate)


def _take_step(method: type[Method], state: State, grads: Tree, lr: Any, donate: bool) -> State:
    if not isinstance(state, State):
        raise TypeError(
            f"step: expected a State from init, got {type(state).__name__}; the order is step(state, grads)"
        )
    if not isinstance(state.method, method):
        raise TypeError(f"the state is one of {type(state.method).__name__}, expected {method.__name__}")
    repeated = _repeat(state, grads, lr, donate)
    if repeated is not None:
        return repeated
    flat = arrays_of(state)
    gradients, at, uniform = _gradients(flat, grads)
    every = len(at) == len(flat.leaves) or len(at) == sum([p is not None for p in flat.leaves])
    if donate and flat.kind is not None and not flat.apart:
        _check.writable(flat.kind, _written(flat, at, state.method.slots))
    new = Flat(flat.spec, [*flat.leaves], [[*slot] for slot in flat.slots], flat.kind, flat.layouts, flat.numbered)
    new.apart = every or flat.apart  # new arrays share nothing, and donated ones have been checked
    if at:
        assert flat.kind is not None
        pairs, which = rates_at(state.step + 1, state.lr, lr, state.weight_decay, flat.spec, flat.kind.name)
        work = _kernels.Work(
            state.method,
            flat.kind,
            coefficients_at(state.method, state.step + 1),
            pairs,
            which if len(at) == len(which) else tuple([which[i] for i in at]),
            [flat.leaves[i] for i in at],
            [gradients[i] for i in at],
            [[slot[i] for slot in flat.slots] for i in at],
            flat.plan if every and uniform else None,
        )
        params, slots = _kernels.run(work, donate)
        for i, p, kept in zip(at, params, slots, strict=True):
            new.leaves[i] = p
            for slot, array in zip(new.slots, kept, strict=True):
                slot[i] = array
        if every and uniform:
            new.plan = work.plan
    step = state.step + 1
    if donate:
        state._spent.append(step)
    return State.of(new, step, state.method, state.lr, state.weight_decay)


def _repeat(state: State, grads: Tree, lr: Any, donate: bool) -> State | None:
    """The step where all arrays lie as those of the last one did, which had been checked; None where one does not."""
    flat = state._flat
    if flat is None or state._spent or (donate and not flat.apart) or not _kernels.remembers(flat.plan):
        return None
    gradients = _leaves(flat, grads)
    where = flat.plan.find([*gradients, *flat.leaves, *itertools.chain(*flat.slots)])
    if where is None:
        return None
    assert flat.kind is not None
    step = state.step + 1
    pairs, which = rates_at(step, state.lr, lr, state.weight_decay, flat.spec, flat.kind.name)
    if not flat.plan.serves(pairs, which, donate):
        return None
    scalars = pairs, coefficients_at(state.method, step)
    params, slots = flat.plan.step(flat.kind, gradients, flat.leaves, flat.slots, where, scalars)
    if donate:
        state._spent.append(step)
    else:
        flat = Flat(flat.spec, params, slots, flat.kind, flat.layouts, flat.numbered, flat.plan, apart=True)
    return State.of(flat, step, state.method, state.lr, state.weight_decay)


def arrays_of(state: State) -> Flat:
    """The arrays of a state that is not spent, known to fit together."""
    if state._spent:
        raise ValueError(
            f"this state is spent: it was donated to step {state._spent[0]}; use the state that step returned"
        )
    flat = state._flat
    return _flatten(state) if flat is None or _has_changed(flat) else flat


def _has_changed(flat: Flat) -> bool:
    """Whether arrays were locked, deleted (by a user's jit) or given other memory (by ``Module.half()``) since."""
    if flat.kind is None:
        return False
    arrays = [x for x in itertools.chain(flat.leaves, *flat.slots) if x is not None]
    if flat.kind.name == "numpy" and flat.apart and not all(x.flags.writeable for x in arrays):
        return True
    if flat.kind.name == "jax" and any(not is_tracer(x) and x.is_deleted() for x in arrays):
        return True
    return flat.layouts != _layouts(flat.kind, flat.leaves)


def _flatten(state: State) -> Flat:
    """The arrays of a state, checked: one put together elsewhere (by JAX, pickle or a user), or one that changed."""
    names = state.method.slots  # their order decides; JAX sorts the keys of a dict
    if set(state.slots) != set(names):
        raise TypeError(f"the state keeps {tuple(state.slots)} and is not one of {state.method}")
    leaves, spec = _tree.flatten(state.params)
    kind = _check.params(leaves, functools.partial(_tree.path, spec, "params"))
    slots = []
    for name in names:
        tree, root = state.slots[name], f"slots[{name!r}]"
        slot = _tree.leaves_like(spec, tree, root)
        slots.append(slot)
        for i, (p, x) in enumerate(zip(leaves, slot, strict=True)):
            if p is not None and kind is not None:
                _check_leaf(kind, p, x, spec, i, tree, root)
    return Flat(spec, leaves, slots, kind, _layouts(kind, leaves), _numbered(kind, spec))


def _layouts(kind: Namespace | None, leaves: list[Any]) -> list[Any]:
    return [None if kind is None or p is None else kind.layout(p) for p in leaves]


def _numbered(kind: Namespace | None, spec: Any) -> Tree:
    return _tree.numbered(spec) if kind is not None and kind.name == "torch" else None


def _leaves(flat: Flat, grads: Tree) -> list[Any]:
    """What stands where the parameters are; the scalars that NumPy makes of arrays of no dimensions, as arrays."""
    leaves = _tree.leaves_like(flat.spec, grads, "grads")
    if any(isinstance(g, np.generic) for g in leaves):
        leaves = [np.asarray(g) if isinstance(g, np.generic) else g for g in leaves]
    return leaves


def _gradients(flat: Flat, grads: Tree) -> tuple[list[Any], list[int], bool]:
    """One gradient or None a leaf, known to fit; which are there; whether each lies in memory as its parameter does."""
    gradients = _leaves(flat, grads)
    kind, uniform, at = flat.kind, True, []
    for i, (p, g, layout) in enumerate(zip(flat.leaves, gradients, flat.layouts, strict=True)):
        if p is None:
            if g is not None:
                _tree.check_structure(flat.spec, grads, "grads")
                raise ValueError(f"{_tree.path(flat.spec, 'grads', i)} must be None like its parameter")
        elif g is not None:
            assert kind is not None
            at.append(i)
            if layout is None or namespace_of(g) is not kind or kind.layout(g) != layout:
                uniform = False
                _check_leaf(kind, p, g, flat.spec, i, grads, "grads")
    return gradients, at, uniform


def _check_leaf(kind: Namespace, p: Any, x: Any, spec: Any, i: int, tree: Tree, root: str) -> None:
    """What stands in a tree where the parameters' has leaf ``i``."""
    if namespace_of(x) is None:  # a container, perhaps
        _tree.check_structure(spec, tree, root)
    _check.beside(kind, p, x, functools.partial(_tree.path, spec, root, i))


def _written(flat: Flat, at: list[int], names: tuple[str, ...]) -> list[tuple[Any, Callable[[], str]]]:
    """The arrays that a donated step writes, with their paths."""
    roots = ["params", *(f"slots[{name!r}]" for name in names)]
    return [
        (arrays[i], functools.partial(_tree.path, flat.spec, root, i))
        for i in at
        for root, arrays in zip(roots, [flat.leaves, *flat.slots], strict=True)
    ]
