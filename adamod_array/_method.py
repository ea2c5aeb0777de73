"""What a method is: hyperparameters, the coefficients of step t, and a rule."""

from __future__ import annotations

import dataclasses
import functools
import math as _math
import struct
import unicodedata
from typing import Any, ClassVar

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

    def __post_init__(self) -> None:
        check_slots(self)
        for field in dataclasses.fields(self):
            value, kind = getattr(self, field.name), str(field.type)
            name = f"{type(self).__name__}: {field.name}"
            if kind in ("bool", "<class 'bool'>") and not isinstance(value, bool):
                raise TypeError(f"{name} must be True or False, got {value!r}")
            if "float" not in kind or (value is None and "None" in kind):
                continue
            try:
                if isinstance(value, (bool, str, bytes)):
                    raise TypeError
                number = float(value)
            except (TypeError, ValueError):
                raise TypeError(f"{name} must be a number, got {value!r}") from None
            if not _math.isfinite(number):
                raise ValueError(f"{name} must be finite, got {number}")
            if field.name.startswith("beta") and not 0 <= number < 1:
                raise ValueError(f"{name} must be in [0, 1), got {number}")
            if field.name.startswith("eps") and number < 0:
                raise ValueError(f"{name} must not be negative, got {number}")
            object.__setattr__(self, field.name, number)

    def coefficients(self, t: Any, math: Any) -> tuple[Any, ...]:
        """Scalars of step ``t`` (1 is the first), in double precision when ``t`` is an int.

        ``math`` offers ``exp, expm1, log, sqrt, cos, minimum, maximum, where`` for whatever ``t`` is:
        Python floats when it is an int, an array namespace when it is an array or a tracer.
        """
        return ()

    def rule(self, xp: Any, lr: Array, c: Any, g: Array, p: Array, *slots: Array) -> tuple[Array, ...]:
        """One elementwise step: the new parameter and the new slots, in the order of ``slots``.

        ``lr`` and the coefficients ``c`` are scalars of the compute dtype, ``g`` is the gradient
        and ``p`` the parameter; all arrays have one shape. ``if`` may look at hyperparameters
        only; arithmetic among scalars belongs in :meth:`coefficients`.
        """
        raise NotImplementedError(f"{type(self).__name__} must define rule(self, xp, lr, c, g, p, *slots)")

    def rates(self, xp: Any, lr: Array, c: Any, *slots: Array) -> tuple[Array, Array]:
        """What multiplied the momentum in the step that left these slots: before and after the method's bound.

        For :mod:`adamod_array.diagnostics` alone: a method of your own may leave it out. Made of
        the functions that :meth:`rule` calls, so that no formula stands twice; a bias-corrected
        average is ``slot * (b + a)``, with the corrected weights ``b`` and ``a`` among ``c``.
        """
        raise NotImplementedError(f"{type(self).__name__} does not define rates(self, xp, lr, c, *slots)")


def check_slots(method: Method) -> None:
    """Check that slots have names, each its own.

    Raises
    ------
    ValueError
        One is no Python name, or Python takes two for the same (it normalises names).
    """
    names, seen = method.slots, set()
    if isinstance(names, str):
        raise ValueError(f"{type(method).__name__}: slots must be a tuple of names, got {names!r}; write ({names!r},)")
    for name in names:
        if not (isinstance(name, str) and name.isidentifier()):
            raise ValueError(f"{type(method).__name__}: slots must be Python names, got {name!r}")
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


def bias_correction(beta: float, t: Any, math: Any) -> Any:
    r"""``1 / (1 - beta**t)``: what a zero-initialised moving average is multiplied by (Kingma & Ba, section 3).

    A reciprocal, because dividing an array by a scalar is rewritten by some compilers and costs
    the last bit. In float32 the textbook form loses five digits, and ``expm1`` is off by four ulp
    in XLA; with :math:`y = -t\ln\beta`, :math:`1/y + 1/2 + L(y/2)/2` has positive terms only.

    Examples
    --------
    >>> from adamod_array import bias_correction, host_math
    >>> bias_correction(0.5, 2, host_math)
    1.3333333333333333
    """
    if beta == 0:
        return 1.0
    x, high, low = _logarithm(beta)
    y = t * x
    late = 1 / (1 - math.exp(-y))
    if isinstance(y, float) and y >= 2:
        return late
    early = high / t + (0.5 + (low / t + 0.5 * langevin(math.minimum(y, 2.0) / 2)))
    return math.where(y < 2, early, late)


def corrected_weights(beta: float, t: Any, math: Any) -> tuple[Any, Any]:
    """Weights of the last average and the new value in a bias-corrected average: ``beta/(1 - beta**t)`` and its rest.

    ``m_hat = b * m + a * g`` rounds twice less than ``m = beta * m + (1 - beta) * g`` times the
    correction, and not at all in the first step, where ``a`` is 1.

    Examples
    --------
    >>> from adamod_array import corrected_weights, host_math
    >>> corrected_weights(0.5, 1, host_math)
    (1.0, 1.0)
    """
    c = bias_correction(beta, t, math)
    return beta * c, (1 - beta) * c


def langevin(y: Any) -> Any:
    """``coth(y) - 1/y`` for 0 <= y <= 1, to double precision: y/(3 + y²/(5 + y²/(7 + ...)))."""
    q = y * y
    return y / (3 + q / (5 + q / (7 + q / (9 + q / (11 + q / (13 + q / (15 + q / (17 + q / 19))))))))


@functools.cache
def _logarithm(beta: float) -> tuple[float, float, float]:
    """``x = -ln(beta)``, and ``1/x`` in two parts of which the first is exact in float32."""
    x = -_math.log(beta)
    high = struct.unpack("f", struct.pack("f", 1 / x))[0]
    return x, high, 1 / x - high


def abs_sq(xp: Any, g: Array) -> Array:
    """``|g|**2`` of a real or complex array, as a real array, with correctly rounded operations only.

    Examples
    --------
    >>> import numpy as np
    >>> from adamod_array import abs_sq
    >>> print(abs_sq(np, np.asarray([3 + 4j])))
    [25.]
    """
    if xp.isdtype(g.dtype, "complex floating"):
        re, im = xp.real(g), xp.imag(g)
        return re * re + im * im
    return g * g
