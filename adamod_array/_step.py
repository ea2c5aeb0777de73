"""The state of any method, and one step of it over a tree of arrays."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Mapping
from typing import Any, Never

import numpy as np

from adamod_array import _aliasing, _check, _compact, _engines, _hold, _tree
from adamod_array._coefficients import next_step
from adamod_array._hold import Donation, Hold, Holds
from adamod_array._leaves import Leaves
from adamod_array._method import Method
from adamod_array._methods import Methods, first, method_of, methods_of
from adamod_array._modes import contained, untraced
from adamod_array._namespace import (
    COMPUTE_DTYPE,
    REAL_DTYPE,
    Namespace,
    dtype_name,
    framework,
    full_width,
    is_complex,
    narrows,
)
from adamod_array._norm import clip_by_global_norm
from adamod_array._options import explained, refuses, unexpected
from adamod_array._part import Part
from adamod_array._program.trace import slot_is_complex, trace
from adamod_array._rate import constant_rate, decay_rate
from adamod_array._scalars import NOTHING, Options, Scalars
from adamod_array._shapes import are_shapes, state_of_shapes
from adamod_array._state import State
from adamod_array._taken import counts_after, resolved
from adamod_array._tree import P, Tree


@explained
@contained
def init(
    method: Any,
    params: P,
    lr: Any = 1e-3,
    *,
    weight_decay: Any = 0.0,
    slot_dtype: Any = None,
    param_rounding: Any = None,
) -> State[P]:
    """Return the state before the first step of any method.

    Parameters
    ----------
    method : Method or a tree prefix of methods
        ``Adam()``, ``AdaMod(beta3=0.9999)``, or one of your own. Of a tree prefix of ``params`` every
        branch has hyperparameters of its own; the methods are of one class and keep the same slots.
    params : array or tree of arrays
        float16, bfloat16, float32, float64, complex64 or complex128 arrays of any shape, all of
        one framework, on any devices, in dicts, lists, tuples, namedtuples, or any container known
        to optree or JAX. Kept as they are, not copied; None marks what is not to be optimized.
        Of ``jax.ShapeDtypeStruct`` the state is one of shapes, dtypes and shardings: what a program is
        compiled for, or a checkpoint restored to, before there is any array. Of a PyTorch module,
        ``dict(model.named_parameters())``: donated steps then write into the module. The tensors of a state that
        was saved and loaded, or deep-copied, are not the module's, until ``state.replace`` has put them there.
    lr : float, schedule, or a tree prefix of them
        The learning rate; a schedule is called with t = 1 for the first step.
    weight_decay : float or a tree prefix of floats
        Decoupled (Loshchilov & Hutter 2019): parameters shrink by ``1 - lr * weight_decay`` a step.
    slot_dtype : "bfloat16", "float32", or a mapping of slots to them, optional
        Store all slots, or those named (``{"m": "bfloat16", "s": "bfloat16"}``), in 16 bits: computed with in float32,
        then rounded stochastically, which keeps averages unbiased, by a hash of the step and of an element's place, so
        that a run has the same bits on every backend. For float32, bfloat16 and float16 parameters. Slots that a
        mapping does not name are float32. Any framework's own bfloat16 will do.
    param_rounding : "nearest" or "stochastic", optional
        How parameters of bfloat16 are rounded; stochastically, updates count that are too small to move them at once.
        Others, of which a tree may have some, are rounded to nearest.

    Raises
    ------
    TypeError
        Not a method, or methods of two classes; None or a state in the place of parameters; a leaf that is not a
        floating array; frameworks mixed; a rate that is no number; compact slots beside parameters, or in a
        framework, that cannot have them.
    ImportError
        NumPy's slots are to be bfloat16, and ml_dtypes is not installed.
    ValueError
        A rate that is negative or not finite, or no prefix of the tree; slots of the same name; a tensor
        whose memory is gone.

    Examples
    --------
    >>> import numpy as np
    >>> from adamod_array import AdaMod, init
    >>> state = init(AdaMod(beta3=0.9999), {"w": np.zeros(3), "b": np.zeros(1)}, lr={"w": 1e-3, "b": 1e-2})
    >>> state.step, state.slots["s"]["w"]
    (0, array([0., 0., 0.]))
    """
    if isinstance(params, State):
        raise TypeError("init: params must be a tree of arrays, got a State: write state.replace(...) to change it")
    given, spec = _tree.flatten(params)
    if are_shapes(given):
        stored = {"slot_dtype": slot_dtype, "param_rounding": param_rounding}
        of_arrays = functools.partial(init, method, lr=lr, weight_decay=weight_decay, **stored)
        return state_of_shapes(given, spec, of_arrays)
    method = methods_of(method, spec, given, "; the order is init(method, params)")
    method = _compact.with_compact(method, slot_dtype, param_rounding)
    for each in {*method} if isinstance(method, Methods) else (method,):
        trace(each)  # a rule that no kernel could follow is an error now, and everywhere
    namespace = _check.params(given, functools.partial(_tree.path, spec, "params"))
    _compact.check(method, namespace, given, (), functools.partial(_tree.path, spec))
    lr, weight_decay = constant_rate(lr, spec, given), decay_rate(weight_decay, spec, given)
    given = [np.asarray(p) if isinstance(p, np.generic) else p for p in given]
    leaves = Leaves.laid_out(method, spec, [given], namespace)
    if first(method).compact:
        leaves.counters()  # which fails where parts of leaves cannot be counted
    slots = [
        [None if p is None else _zeros(method_of(method, k), namespace, p, i) for k, p in enumerate(leaves.params)]
        for i in range(len(method.slots))
    ]
    leaves = leaves.with_slots(slots)
    holds = _hold.holds_on([leaves.params], None, _hold.now(), leaves.tokens)
    return State.of(leaves, holds, 0, method, lr, weight_decay, 0)


def _zeros(method: Method, namespace: Namespace | None, p: Any, i: int) -> Any:
    """Return slot ``i`` of a parameter before the first step."""
    assert namespace is not None
    dtype = COMPUTE_DTYPE[dtype_name(p)]
    if method.compact_slots[i]:
        dtype = "bfloat16"
    if is_complex(p) and not slot_is_complex(method, i):
        dtype = REAL_DTYPE[dtype]
        p = namespace.xp.real(p)
    with namespace.on_device(p):
        return namespace.xp.zeros_like(p, dtype=namespace.dtype(dtype))


@refuses
def step(
    state: State[P],
    grads: Tree,
    *,
    lr: Any = None,
    weight_decay: Any = None,
    max_norm: Any = None,
    where: Any = True,
    donate: bool = False,
    **unknown: Never,
) -> State[P]:
    """Take one step of the state's method and return a new state; the old one still stands.

    Parameters
    ----------
    state : State
        From :func:`init` or an earlier step.
    grads : array or tree of arrays
        Gradients in the tree of ``state.params``, each with its parameter's shape and device. Mappings
        (dict, OrderedDict, defaultdict) are matched by their keys. A leaf may be None: its parameter
        and slots stay as they are, the same arrays; the step counts for it all the same
        (``torch.optim`` counts each parameter's own steps), so that averages which start late are
        hardly corrected. PyTorch's users are warned, once for each place, where all are None. In JAX the
        gradient of a complex parameter is ``jnp.conj`` of what ``jax.grad`` returns.
    lr : float, 0-d array, schedule, or a tree prefix of them, optional
        Overrides the state's learning rate for this step. A traced value is fine, and no new value
        compiles anything again; rates of branches that become equal, or differ again, may in JAX.
    weight_decay : float, 0-d array, or a tree prefix of them, optional
        Overrides the state's weight decay for this step, in the same way; 0 has a kernel of its own.
    max_norm : float or 0-d array, optional
        Clip the gradients: the result has the bits of a step with
        :func:`clip_by_global_norm(grads, max_norm) <adamod_array.clip_by_global_norm>`, which are made in no memory.
    where : bool, 0-d array of bool, or callable
        Whether the step is taken. Where it is False, parameters, slots and ``step`` stay as they are, whatever the
        gradients hold, and ``state.skipped`` counts 1. An array of JAX, of CuPy, or of PyTorch on a GPU decides on
        its device, which nobody waits for; ``step`` and ``skipped`` are then arrays there, too. A callable is given
        ``grads``: :func:`where=all_finite <adamod_array.all_finite>` takes no step of gradients that would spoil
        a parameter for ever.
    donate : bool
        Write into the arrays of ``state`` (NumPy, CuPy, PyTorch) or give their buffers to the
        result (JAX). The old state is spent, and so is every state that shares arrays which were
        written. Any other framework makes new arrays all the same.

    Returns
    -------
    State
        Every array has the dtype, device and namespace of the one it replaces.

    Raises
    ------
    TypeError
        ``state`` is not a state; a gradient is not a floating array of its parameter's framework; ``where`` is no bool.
    ValueError
        Another tree, shape or device; a rate that is negative or not finite; a ``max_norm`` that is not positive, or
        gradients on several devices with one; a state that is spent;
        a tensor whose memory is gone; with ``donate``, memory that is read-only or that two leaves
        share. The state is unharmed: whatever fails, also a schedule or an interrupt, leaves it as it
        was, or it says "spent: step 4 wrote into it and did not finish".

    Examples
    --------
    >>> import numpy as np
    >>> from adamod_array import Momentum, init, step
    >>> state = init(Momentum(), {"w": np.zeros(2), "b": np.zeros(1)}, lr=0.1)
    >>> state = step(state, {"w": np.ones(2), "b": None})
    >>> print(state.params)
    {'w': array([-0.1, -0.1]), 'b': array([0.])}
    """
    return take_step(Method, state, grads, Options(lr, weight_decay, max_norm, where), donate, unknown)


def take_step(
    method_type: type[Method],
    state: State[P],
    grads: Tree,
    options: Options,
    donate: bool,
    unknown: Mapping[str, Any],
) -> State[P]:
    """Do what :func:`step` does, for a state of one class of methods; raise for another, or where any is unknown."""
    if unknown:
        door = "step" if method_type is Method else f"{method_type.__name__.lower()}_step"
        raise unexpected(door, next(iter(unknown)))
    if donate is not True and donate is not False:
        _check.flag(donate, "donate")
    torch = framework("torch")
    new: State[P] | None = None
    if torch is not None and torch.compiler.is_compiling():
        new = _engines.step_in_graph(method_type, state, grads, options, donate, clip_by_global_norm)
    return untraced(_take_step)(method_type, state, grads, options, donate) if new is None else new


def _advance(method_type: type[Method], state: State[P], grads: Tree, options: Options, donate: bool) -> State[P]:
    """Call what users wrote, look at all arrays, claim those that are written, write: whatever can fail comes first."""
    if not isinstance(state, State):
        raise TypeError(
            f"step: expected a State from init, got {type(state).__name__}; the order is step(state, grads)"
        )
    if not isinstance(state.method, method_type):
        state.resolved()  # which makes one method a leaf of a tree prefix
        if not isinstance(method := first(state.method), method_type):
            raise TypeError(
                f"the state is one of {type(method).__name__}, expected {method_type.__name__}:"
                " write step(state, grads), which takes any"
            )
    leaves, holds = state.resolved()
    gradients = leaves.gradients(grads)
    is_jax = leaves.namespace is not None and leaves.namespace.name == "jax"
    is_plain = options.where is True and options.max_norm is None
    if is_jax and not (is_plain and _engines.is_narrow(leaves.plan)) and narrows(wide := [*leaves.params, *gradients]):
        with full_width(wide):
            return _advance(method_type, state, grads, options, donate)
    ok: Any = True
    common = NOTHING
    if not is_plain:
        ok, gradients, common = resolved(options, grads, gradients, leaves)
    t = next_step(state.step)
    if first(leaves.method).compact:
        common = {**common, **_compact.halves_of(t)}
    scalars = Scalars.at(t, leaves.method, state.lr, state.weight_decay, leaves, options, common)
    _hold.raise_if_spent(holds)  # a schedule may have donated this very state
    leaves, gradients = leaves.localized(gradients)
    if ok is False:
        leaves.check_gradients(gradients, grads)
        new = leaves, Donation(holds, t).finish() if donate else holds
    else:
        new = advanced(leaves, holds, t, gradients, grads, scalars, donate)
    step, skipped = (t, state.skipped) if ok is True else counts_after(state.step, state.skipped, ok)
    return State.of(*new, step, state.method, state.lr, state.weight_decay, skipped)


_take_step = contained(_advance)


def advanced(
    leaves: Leaves, holds: Holds, t: Any, gradients: list[Any], grads: Tree, scalars: Scalars, donate: bool
) -> tuple[Leaves, Holds]:
    """Return the leaves after a step, and the holds on them; ``gradients`` are those of the tree ``grads``."""
    new = _repeated(leaves, holds, t, gradients, scalars, donate)
    if new is None:
        new = _stepped(leaves, holds, t, gradients, grads, scalars, donate)
    if donate and leaves.dtensors:
        _engines.tell_autograd(leaves.written([i for i, g in enumerate(gradients) if g is not None]))
    return new


def _repeated(
    leaves: Leaves, holds: Holds, t: Any, gradients: list[Any], scalars: Scalars, donate: bool
) -> tuple[Leaves, Holds] | None:
    """Repeat the last plan without the full checks; return None where an array is not as those of the last step."""
    plan, part, columns, namespace = leaves.plan, leaves.part, leaves.columns, leaves.namespace
    if namespace is None or not _engines.can_repeat(plan):
        return None
    untouched = None
    if part is not None:
        untouched = part.spans_if_alike(namespace, gradients, columns)
        if untouched is None:
            return None
        (gradients,), columns, scalars = part.columns([gradients]), part.columns(columns), scalars.subset(part.stepped)
    if not plan.fits(scalars, donate):
        return None
    addresses = plan.addresses_if_alike([*gradients, *itertools.chain(*columns)], donate, untouched)
    if addresses is None:
        return None
    donation = Donation(holds, t, None if part is None else part.stepped)
    claim = donation.claim if donate else _engines.claim_nothing
    try:
        new = plan.step(namespace, gradients, columns, addresses, scalars, claim)
    except _engines.UnlikeError:
        donation.give_back()
        return None
    except BaseException:
        _settle_failure(leaves, holds, donation, donate)
        raise
    if new is not columns:
        leaves, before = leaves.renewed(new, part), leaves
        if part is not None:  # else all arrays are new
            leaves.take_tokens(before)
    return leaves, _held(holds, donation, donate, part)


def _stepped(
    leaves: Leaves, holds: Holds, t: Any, gradients: list[Any], grads: Tree, scalars: Scalars, donate: bool
) -> tuple[Leaves, Holds]:
    """Check all arrays, then step the leaves that have a gradient by the engine in force."""
    if leaves.namespace is not None and leaves.namespace.name == "jax" and narrows(gradients):  # unlike the last ones
        with full_width(gradients):
            return _stepped(leaves, holds, t, gradients, grads, scalars, donate)
    if leaves.have_changed():
        leaves = leaves.checked_again()
    namespace = leaves.namespace
    stepped, uniform = leaves.check_gradients(gradients, grads)
    if namespace is None or not stepped:
        if namespace is not None and namespace.name == "torch":
            _check.warn_of_no_gradient()
        return leaves, holds
    part = Part.of(leaves.params, stepped)
    donation = Donation(holds, t, stepped)
    if donate and not (namespace.name == "jax" and leaves.are_distinct()):
        _aliasing.check_writable(namespace, leaves.named(stepped), leaves.named([] if part is None else part.untouched))
    claim = donation.claim if donate else _engines.claim_nothing
    inputs = _engines.StepInputs(namespace, scalars, gradients, leaves.columns, claim=claim)
    if part is not None:
        inputs = inputs.subset(part.stepped)
    inputs.plan = leaves.plan if uniform and part == leaves.part else None
    try:
        columns = _engines.run(inputs, donate)
    except BaseException:
        _settle_failure(leaves, holds, donation, donate)
        raise
    new = leaves.renewed(columns, part)
    new.plan, new.part = (inputs.plan, part) if uniform else (None, None)
    if part is not None and _engines.can_repeat(new.plan):
        part.remember(namespace, leaves.columns)
    new.take_tokens(leaves)
    return new, _held(holds, donation, donate, part)


def _held(holds: Holds, donation: Donation, donate: bool, part: Part | None) -> Holds:
    """Return the holds of the new state."""
    if donate:
        return donation.finish()
    _hold.raise_if_spent(holds)  # another thread may have donated it meanwhile
    return {Hold(): None} if part is None else _hold.shared(holds, part.stepped, part.untouched)


def _settle_failure(leaves: Leaves, holds: Holds, donation: Donation, donate: bool) -> None:
    """Release the claim of a failed step of JAX's whose buffers are intact.

    Other frameworks write in place and may be half done, so that their claim stays.
    """
    if leaves.namespace is None or leaves.namespace.name != "jax":
        return
    if not leaves.have_changed():
        donation.give_back()
    elif not donate:
        _hold.raise_if_spent(holds)  # another thread has donated it meanwhile
