"""Stochastic rounding to bfloat16, written once: the text that is traced into Programs, and run where there is none.

Every function is given ``do(name, *operands)``, which does an operation of :data:`WORDS` or of a rule's, or records it.
Words are unsigned integers of 32 bits that wrap; a Python int among the operands is one.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Collection, Sequence
from typing import Any

from adamod_array._program.program import INDEX, Operand, Operation, Program

Do = Callable[..., Any]

STEP = ("t0", "t1")
"""Scalars that a step has where anything is rounded so: its number modulo 2**16, and what remains modulo 2**16. Rows of
scalars are float32, which holds both."""

WORDS = {
    "word": "word",  # of a float that holds one
    "bits": "word",
    "unbits": "real",
    "add32": "word",
    "mul32": "word",
    "xor32": "word",
    "and32": "word",
    "or32": "word",
    "shr32": "word",  # logical
    "lt32": "bool",
}
"""What there is for words, and the domain of each result."""

GOLDEN = 0x9E3779B9
"""2**32 over the golden ratio, whose multiples lie far from each other (Knuth, TAOCP 3, 6.4)."""

_LARGEST, _INFINITY, _QUIET = 0x7F7F0000, 0x7F800000, 0x00400000
"""Bits of float32: the largest finite bfloat16, infinity, and what makes a NaN a quiet one."""


def first_counter(leaf: int) -> int:
    """Return the counter of the first element of a leaf, by its place in the tree."""
    return leaf * GOLDEN % 2**32


def mixed(do: Do, x: Any) -> Any:
    """Return a bijective hash of a word: two rounds of xorshift and multiply.

    The constants are ``[16 604baa5d 15 43d6ce97 15]`` of Wellons' hash prospector (https://github.com/skeeto/
    hash-prospector), of bias 0.165 where MurmurHash3's has 0.26; both are below 2**31, so that a product fits into the
    signed integers of 64 bits that stand for words where there are no others.
    """
    x = do("mul32", do("xor32", x, do("shr32", x, 16)), 0x604BAA5D)
    x = do("mul32", do("xor32", x, do("shr32", x, 15)), 0x43D6CE97)
    return do("xor32", x, do("shr32", x, 15))


def rounded(do: Do, x: Any, random: Any, *, is_quiet: bool = False) -> Any:
    """Return float32 numbers rounded to bfloat16: up in magnitude as often as the bits that are cut say.

    ``random`` are words below 2**16. Infinities stay, a NaN stays one and becomes quiet, and nothing finite becomes
    infinite: what lies beyond the largest bfloat16, and has no neighbour there, is cut. ``is_quiet`` says that no NaN
    among the numbers lies in the bits that are cut alone.
    """
    bits = do("bits", x)
    magnitude = do("and32", bits, 0x7FFFFFFF)
    cut = bits
    if not is_quiet:
        cut = do("where", do("lt32", _INFINITY, magnitude), do("or32", bits, _QUIET), bits)
    bits = do("where", do("lt32", magnitude, _LARGEST), do("add32", bits, random), cut)
    return do("unbits", do("and32", bits, 0xFFFF0000))


def round_outputs(
    do: Do,
    outputs: Sequence[Any],
    places: Sequence[int],
    step: Sequence[Any],
    index: Any,
    quiet: Collection[Any] = (),
) -> list[Any]:
    """Return the outputs of a rule, those at ``places`` rounded stochastically.

    The random bits of an element are a hash of the step, of the place among ``places``, and of ``index``: the element's
    place in its leaf, in C order, counted from :func:`first_counter` of the leaf, modulo 2**32. Nested hashes, as in
    Jarzynski & Olano 2020. One hash serves two outputs, 16 bits each. Of the outputs that are ``quiet``, see
    :func:`rounded`.
    """
    low, high = (do("word", x) for x in step)
    number = do("add32", low, do("mul32", high, 1 << 16))
    new = [*outputs]
    both = None
    for n, place in enumerate(places):
        if n % 2 == 0:
            key = mixed(do, do("add32", number, first_counter(n // 2 + 1)))
            both = mixed(do, do("add32", index, key))
        random = do("shr32", both, 16) if n % 2 else do("and32", both, 0xFFFF)
        new[place] = rounded(do, outputs[place], random, is_quiet=outputs[place] in quiet)
    return new


def _quiet(program: Program, places: Sequence[int]) -> set[Operand]:
    """Return what holds no NaN in its lower bits alone: results of arithmetic, and what was stored in bfloat16."""
    names = [name for name, _ in program.arrays[1:]]
    quiet = {*program.scalars, *(names[k] for k in places)}
    for x in program.operations:
        if x.name not in ("where", "minimum", "maximum", "neg", "abs") or quiet.issuperset(
            x.operands[x.name == "where" :]
        ):
            quiet.add(x.result)
    return quiet


def with_rounding(program: Program, places: tuple[int, ...]) -> Program:
    """Return the program whose outputs at ``places`` are rounded stochastically."""
    operations = [*program.operations]
    known: dict[Any, Operand] = {}

    def do(name: str, *operands: Any) -> Operand:
        named = tuple([hex(x) if isinstance(x, int) else x for x in operands])
        if (name, named) not in known:
            known[name, named] = f"w{len(known)}"
            domain = WORDS.get(name, "word")  # "where" chooses among words
            operations.append(Operation(known[name, named], name, named, domain))
        return known[name, named]

    outputs = tuple(round_outputs(do, program.outputs, places, STEP, INDEX, _quiet(program, places)))
    return dataclasses.replace(program, operations=tuple(operations), outputs=outputs, rounded=places)
