"""The state of an optimization: parameters, slots and the number of steps taken."""

from __future__ import annotations

import dataclasses
from dataclasses import InitVar, dataclass
from typing import Any, Generic, Never

import optree

from adamod_array import _hold, _instead
from adamod_array._coefficients import next_step
from adamod_array._compact import STORAGE, changed
from adamod_array._hold import Holds
from adamod_array._leaves import Leaves
from adamod_array._namespace import namespace_of
from adamod_array._options import meant
from adamod_array._pickled import check_pickled
from adamod_array._rate import constant_rate, decay_rate, is_number, is_settled, rate_at, step_count
from adamod_array._shown import by_branch, shown
from adamod_array._tree import P, Tree, flatten

COUNTS = ("step", "skipped")
CHILDREN = ("params", "slots", *COUNTS)
STATIC = ("method", "lr", "weight_decay")


@dataclass(frozen=True, eq=False, repr=False)
class State(Generic[P]):
    """Parameters, slots and step count, with the method that moves them; made by :func:`adamod_array.init`.

    Immutable, picklable, deep-copyable, and a pytree for optree, JAX and torch.utils._pytree:
    ``params``, ``slots`` and ``step`` hold the leaves, the rest is static. :meth:`replace` makes a
    changed copy (another ``lr``, say). ``torch.load`` reads one at its default, and
    ``flax.serialization`` knows it.

    Attributes
    ----------
    params : array or tree of arrays
        The parameters, in new containers of the caller's kind at each access: what is assigned into them is lost, and
        ``state = state.replace(params=...)`` is what changes them.
    slots : dict of str to tree
        What the method keeps beside each parameter, zero at first: real where the rule makes it
        real, float32 where the parameter has 16 bits (bfloat16 where ``init`` was given ``slot_dtype=``), on the
        parameter's device.
    step : int
        Steps taken so far; an int on the host until a user's ``jax.jit`` traces it.
    method : Method or a tuple of one a leaf
        Hyperparameters and rule.
    lr : float, schedule, or a tuple of one a leaf
        As given to ``init``, a tree prefix as one value a leaf; :meth:`learning_rate` has the rate of the next step,
        by branch where it was a prefix.
    weight_decay : float or a tuple of one a leaf
        As given to ``init``.
    skipped : int
        Steps that ``where=`` did not take.

    Raises
    ------
    TypeError, ValueError
        ``step`` or ``skipped`` is no count, or a rate is none. Arrays are checked by the first step.

    Examples
    --------
    >>> import numpy as np
    >>> from adamod_array import momentum_init
    >>> momentum_init({"w": np.zeros((2, 3)), "b": np.zeros(3, np.float32)})
    State(Momentum(beta=0.9, nesterov=False), step=0, lr=0.001,
      params={'w': float64[2, 3], 'b': float32[3]},
      slots: m)
    """

    params: P
    slots: dict[str, Tree]
    step: Any
    method: Any
    lr: Any = 1e-3
    weight_decay: Any = 0.0
    skipped: Any = 0
    _known: InitVar[tuple[Leaves, Holds] | None] = None
    """The leaves, and the holds on them: the state's own once it is resolved; before, those that it was copied from."""

    def __post_init__(self, _known: tuple[Leaves, Holds] | None) -> None:
        self._begin(_known=_known, **{name: step_count(getattr(self, name), name) for name in COUNTS})
        for name, rate in (("lr", constant_rate), ("weight_decay", decay_rate)):
            if is_number(value := self.__dict__[name]):  # a tree is compared with that of the parameters, later
                self.__dict__[name] = rate(value)

    def _begin(self, **fields: Any) -> None:
        """Set fields of which nothing is known."""
        self.__dict__.update({"_known": None, "_is_resolved": False, "_since": _hold.now(), "_spent_by": None} | fields)

    @classmethod
    def of(
        cls, leaves: Leaves, holds: Holds, step: Any, method: Any, lr: Any, weight_decay: Any, skipped: Any
    ) -> State[Any]:
        """Return a state whose trees are built when they are asked for: most steps never do."""
        self = object.__new__(cls)
        fields = self.__dict__
        fields["step"], fields["method"], fields["lr"], fields["weight_decay"] = step, method, lr, weight_decay
        fields["skipped"] = skipped
        fields["_known"], fields["_is_resolved"], fields["_spent_by"] = (leaves, holds), True, None
        return self

    @classmethod
    def unchecked(cls, *fields: Any) -> State[Any]:
        """Return a state of anything, as frameworks put it together: of tracers, of shardings, of nothing at all."""
        self = object.__new__(cls)
        self._begin(**dict(zip((*CHILDREN, *STATIC), fields, strict=True)))
        return self

    @classmethod
    def of_graph(cls, known: tuple[Leaves, Holds] | None, **fields: Any) -> State[Any]:
        """Return the result of a step inside a user's torch.compile, of known leaves or of trees.

        It is resolved later: Dynamo draws no numbers and makes no holds.
        """
        self = object.__new__(cls)
        self.__dict__.update(fields)
        self.__dict__.update(_known=known, _is_resolved=False, _since=None, _spent_by=None)
        return self

    def resolved(self) -> tuple[Leaves, Holds]:
        """Return the leaves, known to fit together, and the holds on them.

        Raises
        ------
        TypeError, ValueError
            Some array does not fit, or a donated step has claimed it.
        """
        fields = self.__dict__
        if fields["_spent_by"] is not None:
            raise _hold.spent_error(*fields["_spent_by"])
        if not fields["_is_resolved"]:
            self._resolve()
        leaves, holds = fields["_known"]
        _hold.raise_if_spent(holds)
        return leaves, holds

    def _resolve(self) -> None:
        """Look at all that a user, or a framework, has put together."""
        fields, known = self.__dict__, self.__dict__["_known"]
        leaves = Leaves.of(self.method, self.params, self.slots)
        if known is not None and leaves.are(known[0]):
            leaves = known[0]
        fields["method"] = leaves.method
        for name, rate in (("lr", constant_rate), ("weight_decay", decay_rate)):
            if namespace_of(fields[name]) is None:  # 0-d arrays are read by the step
                fields[name] = rate(fields[name], leaves.spec, leaves.params)
        held = (known[0].columns, known[1]) if known is not None and known[1] else None
        holds = _hold.holds_on(leaves.columns, held, fields["_since"], leaves.tokens)
        fields |= {name: step_count(fields[name], name) for name in COUNTS}
        fields["_known"], fields["_is_resolved"] = (leaves, holds), True

    def replace(self, **changes: Any) -> State[P]:
        """Return a copy with other fields, checked as ``init`` checks them; arrays that are not replaced are shared.

        Parameters
        ----------
        **changes
            ``params``, ``slots``, ``step``, ``skipped``, ``method`` (with the same slots), ``lr`` or
            ``weight_decay``; the last three may be tree prefixes of ``params``. Another method stores its slots as
            this one does, unless ``slot_dtype`` or ``param_rounding`` are given, as of ``init``: None widens slots
            exactly, ``"bfloat16"`` rounds them to nearest, this once. A PyTorch state that was saved and loaded, or
            deep-copied, has tensors of its own, and its donated steps leave the module as it was:
            ``state.replace(params=dict(model.named_parameters()))`` ties them to it again.

        Returns
        -------
        State
            It keeps what is known of the arrays that stay, so that another ``lr`` costs the next step nothing.

        Raises
        ------
        TypeError, ValueError
            As :func:`adamod_array.init`; no field has that name; an array that stays is spent.

        Examples
        --------
        >>> import numpy as np
        >>> from adamod_array import adam_init
        >>> state = adam_init({"w": np.zeros(2), "b": np.zeros(1)})
        >>> state.replace(lr=1e-4, step=100).lr
        0.0001
        >>> adam_init(np.zeros(1, np.float32)).replace(slot_dtype="bfloat16").method.compact
        ('m', 'v')
        """
        known = (*CHILDREN, *STATIC, *STORAGE)
        for name in changes:
            if name not in known:
                raise TypeError(
                    f"State.replace: there is no field {name!r}, only {', '.join(known)}{meant(name, known)}"
                )
        if changes.keys() & {"params", "slots", "method", *STORAGE}:
            changes = changed(self, changes)
            new = dataclasses.replace(self, **changes)
            new.resolved()
            return new
        leaves, holds = self.resolved()
        fields = {name: self.__dict__[name] for name in (*COUNTS, *STATIC)} | changes
        fields |= {name: step_count(fields[name], name) for name in COUNTS}
        for name, rate in (("lr", constant_rate), ("weight_decay", decay_rate)):
            if name in changes:
                fields[name] = rate(changes[name], leaves.spec, leaves.params)
        return State.of(leaves, holds, **fields)

    def learning_rate(self) -> Any:
        """Return the rate of the next step, whatever ``lr`` is, unless that step is given one of its own.

        Returns
        -------
        float, 0-d array, or a tree prefix of them
            One rate, or where ``lr`` was a tree prefix of ``params``, one again: a branch whose leaves all have the
            same rate or schedule has one value. Leaves that are None in ``params`` have none.

        Raises
        ------
        TypeError, ValueError
            A schedule returns no rate; or ``lr``, put into the state by other ways than ``init``, is none.

        Examples
        --------
        >>> import numpy as np
        >>> from adamod_array import adam_init, schedules
        >>> params = {"body": [np.zeros(2), np.zeros(3)], "head": np.zeros(1)}
        >>> adam_init(params, lr=0.1).learning_rate()
        0.1
        >>> adam_init(params, lr={"body": 0.1 * schedules.linear_warmup(4), "head": 0.01}).learning_rate()
        {'body': 0.025, 'head': 0.01}
        """
        t, (given, spec) = next_step(self.step), self._leaves_of_params()
        lr = self.lr if is_settled(self.lr) else constant_rate(self.lr, spec, given)
        namespaces = (namespace_of(p) for p in given)
        name = next((x.name for x in namespaces if x is not None), "")
        return by_branch(lr, given, spec, lambda rate: rate_at(rate, t, lambda: "lr", name))

    def _leaves_of_params(self) -> tuple[list[Any], Any]:
        """Return the parameters, and their tree, without handing them out."""
        fields = self.__dict__
        if fields["_is_resolved"]:
            leaves: Leaves = fields["_known"][0]
            return leaves.arrays(0), leaves.spec
        return flatten(self.params)

    def __getattr__(self, name: str) -> Any:
        known = self.__dict__.get("_known")
        if known is not None and name == "params":
            return known[0].handed_out(0, known[1])
        if known is not None and name == "slots":
            return {slot: known[0].handed_out(k, known[1]) for k, slot in enumerate(self.method.slots, 1)}
        slots = getattr(self.__dict__.get("method"), "slots", ())
        raise AttributeError(f"State has no attribute {name!r}{_instead.of_attribute(name, slots)}")

    def __getitem__(self, key: Any) -> Never:
        instead = f"[{key!r}]" if isinstance(key, str) else ""
        raise TypeError(f"a state is no container: write state.params{instead}")

    def __dir__(self) -> list[str]:
        return sorted({*object.__dir__(self), *CHILDREN, *STATIC})

    def __copy__(self) -> State[P]:
        twin = dataclasses.replace(self)
        twin.__dict__["_spent_by"] = self.__dict__["_spent_by"]
        return twin

    def spent_by(self) -> tuple[Any, bool] | None:
        """Return the donated step that took arrays of this state, and whether it finished."""
        fields = self.__dict__
        claims = [hold.claim for hold in fields["_known"][1]] if fields["_is_resolved"] else []
        return fields["_spent_by"] or next((_hold.spent(claim) for claim in claims if claim is not None), None)

    def __getstate__(self) -> dict[str, Any]:
        spent = self.spent_by()
        fields = {name: getattr(self, name) for name in (*CHILDREN, *STATIC)}
        check_pickled(optree.tree_leaves((fields["params"], fields["slots"])))
        return fields | ({} if spent is None else {"_spent_by": spent})

    def __setstate__(self, fields: dict[str, Any]) -> None:
        self.__dict__.update(fields)
        self.__post_init__(None)
        self.__dict__["_spent_by"] = fields.get("_spent_by")

    def __repr__(self) -> str:
        return shown(self, self._leaves_of_params(), self.spent_by())


def _refuse(state: State[Any], name: str, value: Any = None) -> None:
    raise dataclasses.FrozenInstanceError(
        f"a state does not change: write state = state.replace({name}=...)"
        if name in (*CHILDREN, *STATIC)
        else f"a state does not change, and has no field {name!r}; state.replace(...) makes another"
    )


State.__setattr__ = State.__delattr__ = _refuse  # type: ignore[method-assign,assignment]
