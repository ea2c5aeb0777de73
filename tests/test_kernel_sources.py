"""The sources of kernels, to the byte: a change of the code around them must not change them unawares.

A digest that differs is no mistake where a rule or a renderer was meant to change: the failure prints the
new one. Kernels with other sources may have other bits, registers and speed: agree_exact, cuda_compile
and bench tell.
"""

from __future__ import annotations

import hashlib
import itertools
import re
from collections.abc import Iterator

import pytest

from adamod_array import Method
from adamod_array._program import cuda_source, cuda_table_source, numba_source
from adamod_array._program.trace import constants, trace
from tests.trees import METHODS

pytestmark = pytest.mark.only("numpy")

SMALL = ("float16", "bfloat16", "float32")
REAL = [*itertools.product(SMALL, repeat=2), ("float64", "float64")]
MIXED = [("float32", "float64"), ("float64", "float16")]
COMPLEX = [("complex64", "complex64"), ("complex128", "complex128"), ("complex64", "float32")]

DIGESTS = {
    "adam": ("9838b1450aa5717e", "cdf274a8bfd484d2", "1583bee088cce418", "38a693e1f884f50c"),
    "adam-eps_root": ("d833447128230287", "2772cca92360796d", "70fca62cafa2b6a6", "764a060b2933c491"),
    "adam-amsgrad": ("9267046869742b67", "4a8c9879eea25678", "5a7c93541b4b53a1", "e73b2b1bb0333018"),
    "adamod": ("794c7ff417d14dc9", "2ac20f8602264910", "fe858bbc86b3e6cb", "064e471e8bcae060"),
    "adamod-reference": ("5c45ccc0c60dff77", "20b90579caf089ec", "34d83fa472538449", "f582c6c366010d30"),
    "adamod-hold_idle": ("5ea09c3201f2aae3", "d46fd66719bd5c3e", "a3680b61fec27851", "ae823ef1783cf11f"),
    "radam": ("df31e43d17496857", "d580da40457d9620", "ccd726c1058c073e", "9259d4cdf55a596a"),
    "radam-reference": ("6d3931c276bdc64f", "f58373a89f35633c", "de5981996570a72f", "a2d0234a63f7688b"),
    "momentum": ("ba1aca5d2aab4190", "ff56cf47c2ec7dfc", "3ab8406a6a31d281", "055caffb8d34302d"),
    "momentum-nesterov": ("1c6f327f3566c172", "ea027ce596dc937f", "9f11c879d4211e6e", "e65984d7badeceb1"),
}
"""By method: of the 80 sources for Numba, the 24 with complex parameters, the 24 for CUDA, the 6 with these."""

OF_LEAVES = {
    "adam": "68fef69e9597f865",
    "adam-eps_root": "fd86784c443743c5",
    "adam-amsgrad": "bfa063de7222c6d0",
    "adamod": "980f17276bb9d25f",
    "adamod-reference": "b1206e681793664b",
    "adamod-hold_idle": "39537bd10a0e2acb",
    "radam": "569258376fa84944",
    "radam-reference": "8e201213a450ce21",
    "momentum": "5d508bbaf106d90b",
    "momentum-nesterov": "7feac9e11f01fccd",
}
"""By method: of the 240 sources for CUDA that step all leaves of a table."""


def for_numba(method: Method, *, complex_parameter: bool) -> Iterator[str]:
    for decay, donate, threads in itertools.product((False, True), repeat=3):
        program = trace(method, decay=decay, complex_parameter=complex_parameter)
        numbers = constants(method, complex_parameter=complex_parameter)
        for storage in COMPLEX if complex_parameter else REAL:
            text = numba_source.source(program, *storage, donate=donate, threads=threads)
            yield re.sub(r"from adamod_array\S+ import", "from memory import", text) + repr(numbers)


def for_cuda(method: Method, *, complex_parameter: bool) -> Iterator[str]:
    for decay in (False, True):
        for storage in COMPLEX if complex_parameter else [*REAL, *MIXED]:
            program = trace(method, decay=decay, complex_parameter=complex_parameter)
            numbers = constants(method, complex_parameter=complex_parameter)
            source = cuda_source.source(program, *storage)
            yield "\n".join((source.inputs, source.outputs, source.operation, repr(numbers)))


def for_all_leaves(method: Method) -> Iterator[str]:
    for decay, (storage, gradient) in itertools.product((False, True), [*REAL, *MIXED, *COMPLEX]):
        program = trace(method, decay=decay, complex_parameter="complex" in storage)
        for is_few, rows, pointers in itertools.product((False, True), (1, 16), ((), (0, 1))):
            numbers = len(program.scalars) - len(pointers)
            form = cuda_table_source.Form(len(program.arrays) - 1, is_few, rows, pointers, numbers)
            yield cuda_table_source.source(program, storage, gradient, form)


def digest(sources: Iterator[str]) -> str:
    return hashlib.sha256("\n\n".join(sources).encode()).hexdigest()[:16]


def test_the_sources_are_what_they_were() -> None:
    found = {}
    for name in DIGESTS:
        method = METHODS[name]
        sources = [of(method, complex_parameter=each) for of in (for_numba, for_cuda) for each in (False, True)]
        found[name] = tuple(map(digest, sources))
    assert found == DIGESTS


def test_the_sources_for_all_leaves_are_what_they_were() -> None:
    assert {name: digest(for_all_leaves(METHODS[name])) for name in OF_LEAVES} == OF_LEAVES
