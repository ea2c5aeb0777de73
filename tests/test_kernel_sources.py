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
from adamod_array._program.trace import trace
from tests.trees import METHODS

pytestmark = pytest.mark.only("numpy")

SMALL = ("float16", "bfloat16", "float32")
REAL = [*itertools.product(SMALL, repeat=2), ("float64", "float64")]
MIXED = [("float32", "float64"), ("float64", "float16")]
COMPLEX = [("complex64", "complex64"), ("complex128", "complex128"), ("complex64", "float32")]

DIGESTS = {
    "adam": ("492e18e34620dc7b", "1583bee088cce418", "2b710ce0f0ee1e01"),
    "adam-eps_root": ("2820db24e0ddfac9", "70fca62cafa2b6a6", "c7ff1b3018172fb7"),
    "adam-amsgrad": ("fb6cdcaa5797389e", "5a7c93541b4b53a1", "a158f8154c4b240a"),
    "adamod": ("1e4bbb85b874cc16", "d95967673773c5e3", "ce049158065c2ef6"),
    "adamod-reference": ("88567f8bc13a3d98", "0fb8787ac4f8771e", "7a7821c133df21a8"),
    "adamod-hold_idle": ("bd53c00d32c7ba2f", "3769fd0b08bccc33", "fef1e67812f1a6e1"),
    "radam": ("fa679ff68955b341", "ccd726c1058c073e", "857c1d80c14709cf"),
    "radam-reference": ("18df6fc7ab9df834", "de5981996570a72f", "f91bf97b8f499b81"),
    "momentum": ("5c668b6f9f924f4c", "3ab8406a6a31d281", "46794c5645221ac8"),
    "momentum-nesterov": ("d1e7b7a48fadb9ca", "9f11c879d4211e6e", "e5b80e87cdf79bb0"),
}
"""By method: of the 80 sources for Numba, the 24 for CUDA, and the 6 for CUDA with complex parameters."""


def for_numba(method: Method) -> Iterator[str]:
    for decay, donate, threads in itertools.product((False, True), repeat=3):
        for storage in REAL:
            text, constants = numba_source.source(trace(method, decay=decay), *storage, donate=donate, threads=threads)
            yield re.sub(r"from adamod_array\S+ import", "from memory import", text) + repr(constants)


def for_cuda(method: Method, *, complex_parameter: bool) -> Iterator[str]:
    for decay in (False, True):
        for storage in COMPLEX if complex_parameter else [*REAL, *MIXED]:
            program = trace(method, decay=decay, complex_parameter=complex_parameter)
            source, constants = cuda_source.source(program, *storage)
            yield "\n".join((source.inputs, source.outputs, source.operation, repr(constants)))


def test_the_sources_are_what_they_were() -> None:
    found = {}
    for name in DIGESTS:
        method = METHODS[name]
        sources = for_numba(method), *(for_cuda(method, complex_parameter=each) for each in (False, True))
        found[name] = tuple(hashlib.sha256("\n\n".join(x).encode()).hexdigest()[:16] for x in sources)
    assert found == DIGESTS
