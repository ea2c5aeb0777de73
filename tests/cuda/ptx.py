"""What a compiled kernel does: the instructions of its PTX, along every way through it."""

from __future__ import annotations

import functools
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

_STATEMENT = re.compile(
    r"""^\s*(?:
        (?P<label>\$\w+):
        | \{?\s*(?P<guard>@\S+\s+)?(?P<name>[a-z][\w.:]*)(?:\s+(?P<operands>[^;]*))?;
    )""",
    re.MULTILINE | re.VERBOSE,
)


@dataclass(frozen=True)
class Kernel:
    """PTX, and what its translation into machine code takes of a thread's resources."""

    ptx: str
    stack: int
    """Bytes, as are the next two."""
    spill_stores: int
    spill_loads: int
    registers: int

    @functools.cached_property
    def ways(self) -> list[list[str]]:
        """The mnemonics (``mul.rn.ftz.f32``) along every way from the start to an end, each loop taken once."""
        return list(self._ways(0, frozenset()))

    @property
    def instructions(self) -> set[str]:
        """The mnemonics that occur."""
        return {each["name"] for each in self._code if each["name"]}

    @functools.cached_property
    def _code(self) -> list[re.Match[str]]:
        return list(_STATEMENT.finditer(self.ptx))

    @functools.cached_property
    def _labels(self) -> dict[str, int]:
        return {each["label"]: i for i, each in enumerate(self._code) if each["label"]}

    def _ways(self, at: int, passed: frozenset[int]) -> Iterator[list[str]]:
        done: list[str] = []
        while at < len(self._code):
            statement = self._code[at]
            if statement["label"]:
                passed |= {at}
            elif statement["name"].partition(".")[0] == "bra":
                ahead = [self._labels[statement["operands"]], *([at + 1] if statement["guard"] else [])]
                new = [each for each in ahead if each not in passed]
                for each in new:
                    yield from ([*done, *rest] for rest in self._ways(each, passed))
                if new:
                    return
                break
            elif statement["name"] == "ret":
                break
            else:
                done.append(statement["name"])
            at += 1
        yield done


def traffic(way: list[str], what: str) -> Counter[int]:
    """How many ``ld`` from, or ``st`` to, global memory there are of each size in bytes.

    Where the compiler does not know that an address is global, its instruction does not say so.
    """
    found = [re.fullmatch(rf"{what}(?:\.(?:global|nc))*(?:\.v(\d))?\.[a-z]+(\d+)", each) for each in way]
    return Counter(int(each[1] or 1) * int(each[2]) // 8 for each in found if each)
