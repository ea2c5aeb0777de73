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
from adamod_array._program import cuda_source, numba_source
from adamod_array._program.trace import constants, trace
from tests.trees import METHODS

pytestmark = pytest.mark.only("numpy")

SMALL = ("float16", "bfloat16", "float32")
REAL = [*itertools.product(SMALL, repeat=2), ("float64", "float64")]
MIXED = [("float32", "float64"), ("float64", "float16")]
COMPLEX = [("complex64", "complex64"), ("complex128", "complex128"), ("complex64", "float32")]

DIGESTS = {
    "adam": ("492e18e34620dc7b", "f48260ddf47ea85f", "1583bee088cce418", "38a693e1f884f50c"),
    "adam-eps_root": ("2820db24e0ddfac9", "f51cf00ec1e23fa4", "70fca62cafa2b6a6", "764a060b2933c491"),
    "adam-amsgrad": ("fb6cdcaa5797389e", "66c22ba257609eb7", "5a7c93541b4b53a1", "e73b2b1bb0333018"),
    "adamod": ("9d83a4ae68bbc786", "f706a0e529ef1a9f", "fe858bbc86b3e6cb", "064e471e8bcae060"),
    "adamod-reference": ("de9aca874aba32b9", "e5f87edce197cb80", "34d83fa472538449", "f582c6c366010d30"),
    "adamod-hold_idle": ("9acc0b8e97f21fa4", "6f6afb167b7eb531", "a3680b61fec27851", "ae823ef1783cf11f"),
    "radam": ("fa679ff68955b341", "245aacddbbba7551", "ccd726c1058c073e", "9259d4cdf55a596a"),
    "radam-reference": ("18df6fc7ab9df834", "94cec4fb6084d2c5", "de5981996570a72f", "a2d0234a63f7688b"),
    "momentum": ("5c668b6f9f924f4c", "ee97ca6a94f7a78b", "3ab8406a6a31d281", "055caffb8d34302d"),
    "momentum-nesterov": ("d1e7b7a48fadb9ca", "fe4e9200022128c3", "9f11c879d4211e6e", "e65984d7badeceb1"),
}
"""By method: of the 80 sources for Numba, the 24 with complex parameters, the 24 for CUDA, the 6 with these."""


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


def test_the_sources_are_what_they_were() -> None:
    found = {}
    for name in DIGESTS:
        method = METHODS[name]
        sources = [of(method, complex_parameter=each) for of in (for_numba, for_cuda) for each in (False, True)]
        found[name] = tuple(hashlib.sha256("\n\n".join(x).encode()).hexdigest()[:16] for x in sources)
    assert found == DIGESTS
