"""The kernels to look at: every built-in method and dtype, all that a rule may use, dtypes and layouts mixed."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass
from typing import Any

from adamod_array import Adam, AdaMod, Method
from adamod_array._namespace import COMPUTE_DTYPE, REAL_DTYPE
from adamod_array._program.program import Program
from adamod_array._program.trace import trace
from tests import trees

BYTES = {"float16": 2, "bfloat16": 2, "float32": 4, "float64": 8, "complex64": 8, "complex128": 16}


@dataclass(frozen=True)
class Everything(Method):
    """All that a rule may use and the methods of the package do not."""

    slots = ("a", "b")

    def rule(self, xp: Any, lr: Any, c: Any, g: Any, p: Any, *slots: Any) -> tuple[Any, ...]:
        a, b = slots
        step = xp.maximum(xp.minimum(xp.exp(-xp.abs(g)), a), b)
        keep = xp.where(g <= 0, a, xp.where(g >= 1, b, xp.where(p != a, 1.0, -0.0)))
        return p - lr * step * keep / 3.0, b, a


@dataclass(frozen=True)
class Case:
    """One kernel: a method for parameters of one dtype, with or without weight decay."""

    label: str
    method: Method
    dtype: str
    gradient: str
    decay: bool = False
    layout: str = "contiguous"
    """Also "gaps": every second column of a matrix; "many": more leaves than have addresses among the arguments."""

    @property
    def kernel(self) -> str:
        """What the engine calls its kernel."""
        return "adamod_array_step" if self.layout == "gaps" else "adamod_array_tree"

    @property
    def width(self) -> int:
        """How many elements a thread of the kernel of all leaves steps at once."""
        return 16 // min([BYTES[self.gradient], BYTES[self.dtype], *self._slots])

    @property
    def name(self) -> str:
        """The label as a name in C++."""
        return re.sub(r"\W", "_", f"{self.label}_{self.dtype}{'_decay' * self.decay}")

    @property
    def line(self) -> Program:
        """The operations that its kernel is to consist of."""
        return trace(self.method, decay=self.decay, complex_parameter=self.dtype.startswith("complex"))

    @property
    def compute(self) -> str:
        """The real dtype that is computed in."""
        wide = COMPUTE_DTYPE[self.dtype]
        return REAL_DTYPE.get(wide, wide)

    @property
    def reads(self) -> Counter[int]:
        """How many loads of how many bytes an element demands: each array that the line uses, once."""
        used = {x for operation in self.line.operations for x in operation.operands} | {*self.line.outputs}
        sizes = dict(zip(dict(self.line.arrays), [BYTES[self.gradient], BYTES[self.dtype], *self._slots], strict=True))
        return Counter(size for name, size in sizes.items() if name in used)

    @property
    def writes(self) -> Counter[int]:
        """How many stores of how many bytes an element demands: the parameter and each slot, once."""
        return Counter([BYTES[self.dtype], *self._slots])

    @property
    def _slots(self) -> list[int]:
        return [BYTES[self.compute] * (2 if kind == "complex" else 1) for _, kind in self.line.arrays[2:]]


METHODS = {label: method for label, method in trees.METHODS.items() if "g_last" not in method.slots}
"""Those of operations that IEEE 754 rounds: an exponential is a routine of many."""
BUILT_IN = [
    Case(label, method, dtype, dtype, decay)
    for label, method in METHODS.items()
    for dtype in BYTES
    for decay in (False, True)
]
OTHERS = [
    *(Case("everything", Everything(), dtype, dtype) for dtype in ("float16", "bfloat16", "float32", "float64")),
    *(
        Case(f"adamod-gradient-{gradient}", AdaMod(), dtype, gradient)
        for dtype, gradient in [
            ("float32", "float64"),
            ("bfloat16", "float32"),
            ("complex64", "float32"),
            ("complex64", "complex128"),
        ]
    ),
    *(Case("adamod-many", AdaMod(), dtype, dtype, True, layout="many") for dtype in BYTES),
    *(Case("adam-amsgrad-many", Adam(amsgrad=True), dtype, dtype, True, layout="many") for dtype in BYTES),
]
GAPS = [
    Case(f"{label}-gaps", method, dtype, dtype, True, "gaps") for label, method in METHODS.items() for dtype in BYTES
]
CASES = [*BUILT_IN, *OTHERS, *GAPS]
