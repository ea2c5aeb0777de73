"""The scalars of one step: the distinct rows of them, which row each leaf has, and how they are rounded: once."""

from __future__ import annotations

import functools
import itertools
from array import array
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np

from adamod_array._coefficients import coefficients_at
from adamod_array._leaves import Leaves
from adamod_array._method import Method
from adamod_array._methods import Methods
from adamod_array._namespace import REAL_DTYPE, Namespace
from adamod_array._program.rounding import STEP
from adamod_array._program.trace import constants, trace
from adamod_array._rate import PerLeaf, checked_decay, checked_schedule, is_single, rate_at, spread, with_factor
from adamod_array._tree import Tree, path

Row = tuple[Any, Any, tuple[Any, ...]]
"""Learning rate, decay factor (None where there is no decay), and the coefficients of the step."""


class Options(NamedTuple):
    """What a user may say of one step alone, as :func:`adamod_array.step` documents it."""

    lr: Tree = None
    weight_decay: Tree = None
    max_norm: Any = None
    where: Any = True


NOTHING: Mapping[str, Any] = MappingProxyType({})

_ROUNDED = {"float32": ("f", "float32"), "float64": ("d", "float64")}
_ROUNDED |= {dtype: _ROUNDED[real] for dtype, real in REAL_DTYPE.items()}
"""What Python's arrays call the reals of the compute dtypes, and NumPy."""

Constants = Mapping[bool, tuple[tuple[float, ...], ...]]
"""The constants of each method, by whether parameters are complex."""


def arguments(lr: Any, decay: Any, coefficients: Sequence[Any], common: Sequence[Any] = ()) -> tuple[Any, ...]:
    """Return a row as the arguments of a Program, in the order of its scalars."""
    return (lr, *common, *coefficients) if decay is None else (lr, decay, *common, *coefficients)


class Scalars:
    """Rates, decay factors, coefficients and constants of one step, in double precision until an engine asks for them.

    Parameters
    ----------
    rates : sequence of (learning rate, decay factor or None)
        One pair per row; no two rows are alike.
    rate_index : tuple of int
        The row of each leaf.
    methods : tuple of Method
        The distinct methods; one stands there once a step count where leaves have counts of their own.
    method_index : tuple of int
        The method of each row.
    coefficients : sequence of tuple
        Coefficients, one tuple per entry of ``methods``.
    common : mapping of str to number
        What all leaves share, by the names that :func:`adamod_array._program.trace.trace` gives it.
    counters : sequence of int, optional
        The first counter of each leaf, where any of it is rounded stochastically.
    """

    def __init__(
        self,
        rates: Sequence[tuple[Any, Any]],
        rate_index: tuple[int, ...],
        methods: tuple[Method, ...],
        method_index: tuple[int, ...],
        coefficients: Sequence[tuple[Any, ...]],
        common: Mapping[str, Any] = NOTHING,
        counters: Sequence[int] | None = None,
    ) -> None:
        self.counters = counters
        self.rates, self.rate_index, self.coefficients, self.common = rates, rate_index, coefficients, common
        self.methods, self.method_index = methods, method_index
        self.names = (*common,) if common else ()
        self._rounded: dict[Any, Any] = {}

    @classmethod
    def at(
        cls,
        t: Any,
        method: Method | Methods,
        lr: Any,
        weight_decay: Any,
        leaves: Leaves,
        options: Options = Options(),  # noqa: B008 - immutable
        common: Mapping[str, Any] = NOTHING,
    ) -> Scalars:
        """Return the scalars of step ``t``; ``lr`` and ``weight_decay`` are a state's, unless the step has its own.

        The decay factor is ``1 - lr * weight_decay``, or None where there is no decay.

        Raises
        ------
        TypeError, ValueError
            A rate is no number, negative or not finite, or an override is no tree prefix of the parameters.
        """
        spec, framework = leaves.spec, "" if leaves.namespace is None else leaves.namespace.name
        if options.lr is not None:
            lr = _of_step(options.lr, leaves, "lr")
        if options.weight_decay is not None:
            weight_decay = _of_step(options.weight_decay, leaves, "weight_decay")
        n = spec.num_leaves
        counters = leaves.counters() if common and STEP[0] in common else None
        if isinstance(method, Method) and not isinstance(lr, PerLeaf) and not isinstance(weight_decay, PerLeaf):
            rate = lr
            if type(lr) is not float or options.lr is not None:  # a state's own is checked
                rate = rate_at(lr, t, lambda: "lr", framework)
            if type(weight_decay) is not float or options.weight_decay is not None:
                weight_decay = checked_decay(weight_decay, lambda: "weight_decay", framework)
            coefficients = [coefficients_at(method, t)]
            return cls([with_factor(rate, weight_decay)], (0,) * n, (method,), (0,), coefficients, common, counters)
        each = zip(*(x if isinstance(x, PerLeaf) else (x,) * n for x in (method, lr, weight_decay)), strict=True)
        methods: dict[Method, int] = {}
        rows: dict[tuple[Any, ...], int] = {}
        rates: list[tuple[Any, Any]] = []
        rate_index: list[int] = []
        method_index: list[int] = []
        for i, (own, rate, decay) in enumerate(each):
            which = methods.setdefault(own, len(methods))
            key = which, *(x if type(x) is float else id(x) for x in (rate, decay))
            if key not in rows:
                rows[key] = len(rates)
                rate = rate_at(rate, t, functools.partial(path, spec, "lr", i), framework)
                decay = checked_decay(decay, functools.partial(path, spec, "weight_decay", i), framework)
                rates.append(with_factor(rate, decay))
                method_index.append(which)
            rate_index.append(rows[key])
        coefficients = [coefficients_at(each, t) for each in methods]
        return cls(rates, tuple(rate_index), tuple(methods), tuple(method_index), coefficients, common, counters)

    @property
    def all(self) -> tuple[Any, ...]:
        """Return every scalar that may be traced, once."""
        rates = (x for pair in self.rates for x in pair if x is not None)
        return *itertools.chain.from_iterable(self.coefficients), *rates, *self.common.values()

    @property
    def has_decay(self) -> bool:
        """Return whether any leaf decays."""
        for _, decay in self.rates:  # noqa: SIM110 - any() takes four times as long
            if decay is not None:
                return True
        return False

    @property
    def rates_are_known(self) -> bool:
        """Return whether all rates and decay factors, and what all leaves share, are Python's numbers."""
        for lr, decay in self.rates:
            if type(lr) is not float or not (decay is None or type(decay) is float):
                return False
        return not self.common or all(type(x) is float for x in self.common.values())

    def decays(self, leaf: int) -> bool:
        """Return whether a leaf decays."""
        return self.rates[self.rate_index[leaf]][1] is not None

    def method(self, leaf: int) -> Method:
        """Return the method of a leaf."""
        return self.methods[self.method_index[self.rate_index[leaf]]]

    def subset(self, leaf_indices: Sequence[int]) -> Scalars:
        """Return the scalars of some of the leaves."""
        rate_index = [self.rate_index[i] for i in leaf_indices]
        counters = None if self.counters is None else [self.counters[i] for i in leaf_indices]
        if len(self.methods) == 1:
            one = self.methods, self.method_index, self.coefficients, self.common
            return Scalars(self.rates, tuple(rate_index), *one, counters)
        rows = [*dict.fromkeys(rate_index)]  # only their own: methods of other leaves may have another Program
        used = [*dict.fromkeys(self.method_index[k] for k in rows)]
        return Scalars(
            [self.rates[k] for k in rows],
            tuple([rows.index(k) for k in rate_index]),
            tuple([self.methods[k] for k in used]),
            tuple([used.index(self.method_index[k]) for k in rows]),
            [self.coefficients[k] for k in used],
            self.common,
            counters,
        )

    def with_numbers(
        self,
        rates: Sequence[tuple[Any, Any]],
        coefficients: Sequence[tuple[Any, ...]],
        common: Mapping[str, Any],
    ) -> Scalars:
        """Return the same rows with other numbers."""
        one = self.rate_index, self.methods, self.method_index
        return Scalars(rates, *one, coefficients, common, self.counters)

    def shared(self, names: Collection[str], namespace: Namespace, dtype: str, device: Any) -> tuple[Any, ...]:
        """Return what all leaves share under these names, rounded to a real dtype for arrays on a device."""
        key = "shared", tuple(names), dtype, str(device)
        scalar = functools.partial(namespace.scalar, dtype=dtype, device=device)
        return self._once(key, [self.common[name] for name in self.common if name in names], scalar)

    def rounded(self, leaf: int, namespace: Namespace, dtype: str, device: Any) -> Row:
        """Return the row of a leaf, rounded to a real dtype for arrays on a device; once for all that share it."""
        key = self.rate_index[leaf], dtype, str(device)
        row: Row | None = self._rounded.get(key)
        if row is None:
            lr, decay = self.rates[key[0]]
            scalar = functools.partial(namespace.scalar, dtype=dtype, device=device)
            k = self.method_index[key[0]]
            coefficients = self._once(("coefficients", k, *key[1:]), self.coefficients[k], scalar)
            row = scalar(lr), None if decay is None else scalar(decay), coefficients
            self._rounded[key] = row
        return row

    def arguments(self, leaf: int, namespace: Namespace, dtype: str, device: Any) -> tuple[Any, ...]:
        """Return the rounded row of a leaf, and its constants: the scalars of a Program that computes in ``dtype``."""
        real = REAL_DTYPE.get(dtype, dtype)
        key = self.rate_index[leaf], dtype, str(device), "arguments"
        found = self._rounded.get(key)
        if found is None:
            lr, decay, coefficients = self.rounded(leaf, namespace, real, device)
            own = constants(self.method(leaf), complex_parameter=dtype in REAL_DTYPE, common=self.names)
            scalar = functools.partial(namespace.scalar, dtype=real, device=device)
            rest = self._once(("constants", self.method_index[key[0]], *key[1:]), own, scalar)
            common = self.shared(self.names, namespace, real, device)
            found = self._rounded[key] = arguments(lr, decay, (*coefficients, *rest), common)
        return found

    def _once(self, key: Any, numbers: Sequence[Any], scalar: Callable[[Any], Any]) -> tuple[Any, ...]:
        """Return numbers, rounded: the same objects for all rows that have them, which PyTorch's lists can tell."""
        found: tuple[Any, ...] | None = self._rounded.get(key)
        if found is None:
            found = self._rounded[key] = tuple(map(scalar, numbers))
        return found

    def constants(self, domains: Iterable[bool] = (False,)) -> Constants:
        """Return the constants of each method, for the domains of parameters: True of complex ones."""
        return {
            each: tuple([constants(method, complex_parameter=each, common=self.names) for method in self.methods])
            for each in domains
        }

    def rows(self, decay: bool, constants: Sequence[tuple[float, ...]]) -> list[tuple[Any, ...]]:
        """Return a kernel's arguments for each row, unrounded, in the order of :func:`arguments`, then constants.

        ``constants`` are those of each method.
        """
        rows: list[tuple[Any, ...]] = []
        common = (*self.common.values(),) if self.common else ()
        for (lr, factor), k in zip(self.rates, self.method_index):  # noqa: B905 - strict costs as much as the loop
            own = () if not decay else (1.0 if factor is None else factor,)
            rows.append((lr, *own, *common, *self.coefficients[k], *constants[k]))
        return rows

    def table(self, decay: bool, constants: Constants, dtype: str) -> np.ndarray[Any, Any]:
        """Return :meth:`rows` as a table for leaves that compute in ``dtype``.

        Rounded once; C makes what is too large for float32 infinite, in silence.
        """
        rows = self.rows(decay, constants[dtype in REAL_DTYPE])
        code, real = _ROUNDED[dtype]
        rounded = array(code, [*itertools.chain.from_iterable(rows)])  # a list takes a quarter of an iterator's time
        return np.frombuffer(rounded, real).reshape(len(rows), -1)

    def programs(self, domains: Collection[bool]) -> list[list[int]]:
        """Return the leaves grouped by Program: methods with other options may compute in another way.

        ``domains`` are those of the parameters, True of complex ones.
        """
        leaves: dict[Any, list[int]] = {}
        programs = [tuple([trace(method, complex_parameter=each) for each in domains]) for method in self.methods]
        for i, k in enumerate(self.rate_index):
            leaves.setdefault(programs[self.method_index[k]], []).append(i)
        return [*leaves.values()]


def _of_step(rate: Tree, leaves: Leaves, what: str) -> Any:
    """Return a step's own rate: a single one, or one a leaf."""
    single = is_single(rate, leaves.spec)
    given = rate if single else spread(rate, leaves.spec, leaves.params, what)
    for each in (given,) if single else given:
        if isinstance(each, type):
            checked_schedule(each, lambda: what)
    return given
