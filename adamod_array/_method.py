"""What a method is: hyperparameters, the coefficients of step t, and a rule."""

from __future__ import annotations

import dataclasses
import inspect
import math as _math
import unicodedata
from collections.abc import Sequence
from typing import Any, ClassVar

from adamod_array._options import explained_class as explained_class

PARAMS = "params"
"""What a method's ``compact`` calls the parameters."""

Array = Any
"""Any array of the array API standard. The standard has no common base class to name here."""


@dataclasses.dataclass(frozen=True)
class Method:
    """Base class of every update rule; subclass it to write your own.

    A method is a frozen dataclass of hyperparameters with two pure functions. Fields annotated
    ``float`` are checked on construction: they must be finite and become Python floats (a NumPy
    float64 would turn float32 arrays into float64); where the name starts with ``beta`` they must
    lie in [0, 1), where it starts with ``eps`` they must not be negative.

    Raises
    ------
    ValueError
        A hyperparameter is out of its range.
    TypeError
        A hyperparameter annotated ``float`` is not a number, or one annotated ``bool`` no boolean.

    Examples
    --------
    >>> import dataclasses, numpy as np
    >>> from adamod_array import Method, init, step
    >>> @dataclasses.dataclass(frozen=True)
    ... class SoftSign(Method):
    ...     eps: float = 1.0
    ...
    ...     def rule(self, xp, lr, c, g, p):
    ...         return (p - lr * g / (xp.abs(g) + self.eps),)
    >>> state = step(init(SoftSign(), np.zeros(3), lr=0.5), np.asarray([1.0, -3.0, 0.0]))
    >>> print(state.params)
    [-0.25   0.375  0.   ]
    """

    slots: ClassVar[tuple[str, ...]] = ()
    """Names of the arrays kept beside each parameter. All start at zero."""

    compact: tuple[str, ...] = dataclasses.field(default=(), kw_only=True, repr=False)
    """Names of the slots that a state stores in bfloat16, rounded stochastically, and ``"params"`` where it rounds its
    parameters of bfloat16 so. Set by ``slot_dtype=`` and ``param_rounding=`` of :func:`adamod_array.init`."""

    @property
    def compact_slots(self) -> tuple[bool, ...]:
        """Return which slots are stored in bfloat16."""
        return tuple([name in self.compact for name in self.slots])

    def __post_init__(self) -> None:
        check_slots(self)
        for field in dataclasses.fields(self):
            value, annotation = getattr(self, field.name), str(field.type)
            name = f"{type(self).__name__}: {field.name}"
            if annotation in ("bool", "<class 'bool'>") and not isinstance(value, bool):
                raise TypeError(f"{name} must be True or False, got {value!r}")
            if "float" not in annotation or (value is None and "None" in annotation):
                continue
            try:
                if isinstance(value, (bool, str, bytes)):
                    raise TypeError
                number = float(value)
            except (TypeError, ValueError):
                raise TypeError(f"{name} must be a number, got {value!r:.200}{self._instead(field.name)}") from None
            if not _math.isfinite(number):
                raise ValueError(f"{name} must be finite, got {number}")
            if field.name.startswith("beta") and not 0 <= number < 1:
                steps = f": for a memory of {number:g} steps write {1 - 1 / number!r}" if number >= 2 else ""
                raise ValueError(f"{name} must be in [0, 1), got {number}{steps}")
            if field.name.startswith("eps") and number < 0:
                raise ValueError(f"{name} must not be negative, got {number}")
            object.__setattr__(self, field.name, number)
        object.__setattr__(self, "compact", _known_names(self))

    def _instead(self, name: str) -> str:
        """Return what to write where a hyperparameter is no number."""
        value = getattr(self, name)
        if isinstance(value, str):
            return ", a string: write it without quotes" if reads_as_number(value) else ""
        numbers = [*value.values()] if isinstance(value, dict) else value
        if isinstance(numbers, (tuple, list)) and numbers and all(isinstance(x, (int, float)) for x in numbers):
            if isinstance(value, dict):
                return ": by branch it is a tree of methods, init({'w': Adam(beta2=0.99), ...}, params)"
            betas = [f"beta{k}" for k in range(1, len(numbers) + 1)]
            if name != "beta1" or not {*betas} <= {x.name for x in dataclasses.fields(self)}:
                return ""
            return f": write {', '.join(f'{each}={x}' for each, x in zip(betas, numbers, strict=True))}"
        is_tree = isinstance(value, (tuple, list, dict)) or hasattr(value, "shape")
        return "; parameters are given to init(method, params)" if is_tree else ""

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        if cls.__repr__ is Method.__repr__:
            cls.__repr__ = Method.__repr__  # type: ignore[method-assign]  # in the class itself, @dataclass leaves it

    def __repr__(self) -> str:
        shown = [x.name for x in dataclasses.fields(self) if x.repr] + ["compact"] * bool(self.compact)
        return f"{type(self).__qualname__}({', '.join(f'{name}={getattr(self, name)!r}' for name in shown)})"

    def coefficients(self, t: Any, math: Any) -> tuple[Any, ...]:
        """Return the scalars of step ``t`` (1 is the first), in double precision when ``t`` is an int.

        ``math`` offers ``exp, expm1, log, sqrt, cos, minimum, maximum, where`` for whatever ``t`` is:
        Python floats when it is an int, an array namespace when it is an array or a tracer.
        """
        return ()

    def rule(self, xp: Any, lr: Array, c: Any, g: Array, p: Array, *slots: Any, **named: Any) -> tuple[Array, ...]:
        """Return the new parameter and the new slots, in the order of ``slots``, of one elementwise step.

        ``lr`` and the coefficients ``c`` are scalars of the compute dtype, ``g`` is the gradient
        and ``p`` the parameter; all arrays have one shape. Slots come by position: name them in the
        signature, ``rule(self, xp, lr, c, g, p, m, v)``. ``if`` may look at hyperparameters only;
        arithmetic among scalars belongs in :meth:`coefficients`.
        """
        raise NotImplementedError(f"{type(self).__name__} must define rule(self, xp, lr, c, g, p, *slots)")

    def rates(self, xp: Any, lr: Array, c: Any, *slots: Any, **named: Any) -> tuple[Array, Array]:
        """Return what multiplied the momentum in the step that left these slots: before and after the method's bound.

        For :mod:`adamod_array.diagnostics` alone: a method of your own may leave it out. Made of
        the functions that :meth:`rule` calls, so that no formula stands twice;
        :func:`~adamod_array.corrected_average` gives a bias-corrected average after the step.
        """
        raise NotImplementedError(f"{type(self).__name__} does not define rates(self, xp, lr, c, *slots)")


def apply_rule(
    method: Method,
    xp: Any,
    lr: Array,
    decay: Array | None,
    c: Any,
    g: Array,
    p: Array,
    slots: Sequence[Array],
    clip: Sequence[Array] = (),
) -> tuple[Array, ...]:
    """Clip the gradient by the factors given, apply decoupled weight decay, then the rule: what every engine runs."""
    for factor in clip:
        g = g * factor
    if decay is not None:
        p = decay * p
    new = tuple(method.rule(xp, lr, c, g, p, *slots))
    if len(new) != 1 + len(slots):
        raise TypeError(
            f"{type(method).__name__}.rule must return the parameter and its {len(slots)} slots"
            f" {method.slots}, got {len(new)} values"
        )
    return new


def chosen(xp: Any, ok: Array | None, new: Sequence[Array], old: Sequence[Array]) -> list[Array]:
    """Return the new arrays where ``ok``, a scalar, is 1, and the old ones where it is 0; None takes the step."""
    return [*new] if ok is None else [xp.where(ok > 0, x, y) for x, y in zip(new, old, strict=True)]


def reads_as_number(text: str) -> bool:
    """Return whether a string is what ``float`` takes."""
    try:
        float(text)
    except ValueError:
        return False
    return True


def _known_names(method: Method) -> tuple[str, ...]:
    """Return what a method stores in bfloat16, in the order of its slots.

    Raises
    ------
    TypeError
        It is no sequence of names, or a class of the user's means something else by ``compact``.
    ValueError
        It names what is no slot.
    """
    owner, given = type(method).__name__, method.compact
    # of a class that was pickled by value, as Dask's are, the fields are copies
    defines = (cls for cls in type(method).__mro__ if "compact" in {*vars(cls), *inspect.get_annotations(cls)})
    if next(defines) is not Method:
        raise TypeError(
            f"{owner}: compact is how a state stores the slots of any method; give your hyperparameter another name"
        )
    if not isinstance(given, (tuple, list)) or not all(isinstance(name, str) for name in given):
        raise TypeError(f"{owner}: compact must be a tuple of names of slots, got {given!r}")
    known = (*method.slots, PARAMS)
    for name in given:
        if name not in known:
            raise ValueError(f"{owner}: compact names slots, {', '.join(map(repr, known))}, got {name!r}")
    return tuple([name for name in known if name in given])


def check_slots(method: Method) -> None:
    """Check that slots have names, each its own.

    Raises
    ------
    ValueError
        One is no Python name, or Python takes two for the same (it normalises names), or it is that of the parameters.
    """
    names, seen = method.slots, set()
    if isinstance(names, str):
        raise ValueError(f"{type(method).__name__}: slots must be a tuple of names, got {names!r}; write ({names!r},)")
    for name in names:
        if not (isinstance(name, str) and name.isidentifier()):
            raise ValueError(f"{type(method).__name__}: slots must be Python names, got {name!r}")
        if name == PARAMS:
            raise ValueError(f"{type(method).__name__}: no slot may be called {PARAMS!r}, which the parameters are")
        if (normal := unicodedata.normalize("NFKC", name)) in seen:
            raise ValueError(f"{type(method).__name__}: slots must have different names, got {name!r} twice")
        seen.add(normal)


def one_of(method: Method, field: str, *choices: str) -> None:
    """Check a field that takes one of a few words."""
    value = getattr(method, field)
    if value not in choices:
        raise ValueError(
            f"{type(method).__name__}: {field} must be one of {', '.join(map(repr, choices))}, got {value!r}"
        )
