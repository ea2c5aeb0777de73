"""CuPy: a rule's straight line as the body of one ``cupy.ElementwiseKernel``, launched once a leaf.

Compiled with ``--fmad=false``, so that products are rounded as NumPy rounds them; division and
square root are correctly rounded by default. What remains of CuPy's own is ``-ftz=true``, which it
gives every kernel, also its ufuncs: float32 denormals count as zero.
"""

from __future__ import annotations

import functools
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from adamod_array._kernels import Result, Work, eager
from adamod_array._kernels.trace import Line, trace
from adamod_array._namespace import COMPUTE_DTYPE, REAL_DTYPE, dtype_name

_C_TYPE = {
    "bool": "bool",
    "float16": "float16",  # CuPy's classes, like complex
    "bfloat16": "bfloat16",
    "float32": "float",
    "float64": "double",
    "complex64": "complex<float>",
    "complex128": "complex<double>",
}

_TEXT = {
    "add": "{} + {}",
    "sub": "{} - {}",
    "mul": "{} * {}",
    "div": "{} / {}",
    "neg": "-{}",
    "abs": "abs({})",
    "sqrt": "sqrt({})",
    "exp": "exp({})",
    "real": "{}.real()",
    "imag": "{}.imag()",
    # NaN where either is, unlike fmin and fmax
    "minimum": "{0} < {1} || {0} != {0} ? {0} : {1}",
    "maximum": "{0} > {1} || {0} != {0} ? {0} : {1}",
    "where": "{} ? {} : {}",
    "lt": "{} < {}",
    "le": "{} <= {}",
    "gt": "{} > {}",
    "ge": "{} >= {}",
    "eq": "{} == {}",
    "ne": "{} != {}",
}
_COMPLEX = ("add", "sub", "mul", "div", "neg", "abs", "real", "imag", "where", "eq", "ne")
"""What kernels do to complex numbers; rules that need more are stepped eagerly.

Quotients, ``abs`` and products of two complex arrays may differ from NumPy's in the last bit.
"""


@dataclass(frozen=True)
class Source:
    """What an ElementwiseKernel is made of."""

    inputs: str
    """``g``, ``p`` and the slots as ``in_*``, then the line's scalars, then constants."""
    outputs: str
    """``p`` and the slots as ``out_*``; they may be the inputs' own arrays."""
    operation: str


def source(line: Line, storage: str, gradient_storage: str) -> tuple[Source, tuple[float, ...]]:
    """The kernel of a line for one dtype of parameters and one of gradients, and its constants.

    Constants are arguments: methods that differ in hyperparameters alone share a kernel.
    """
    compute = COMPUTE_DTYPE[storage]
    number = {"bool": "bool", "real": REAL_DTYPE.get(compute, compute), "complex": compute}
    stored = _stored(line, storage)
    constants: dict[str, float] = {}

    def text(x: str | float) -> str:
        if isinstance(x, str):
            return x if x not in stored else f"x_{x}"
        constants.setdefault(repr(x), x)  # 0.0 and -0.0 are two constants
        return f"k{list(constants).index(repr(x))}"

    body = []
    kinds = _kinds(line)
    for name, kind in line.arrays:
        loaded = gradient_storage if name == "g" else stored[name]
        value = f"in_{name}"
        if kind == "complex" and not loaded.startswith("complex"):
            value = f"{_C_TYPE[number['real']]}({value})"
        body.append((number[kind], f"x_{name}", f"{_C_TYPE[number[kind]]}({value})"))
    for x in line.operations:
        operands = [text(operand) for operand in x.operands]
        real = [kinds.get(operand, "real") != "complex" for operand in x.operands]
        if x.kind == "complex" and x.name in ("mul", "where"):  # NumPy multiplies by a real number + 0i
            first = x.name == "where"
            operands[first:] = [
                f"{_C_TYPE[compute]}({operand})" if is_real else operand
                for operand, is_real in zip(operands[first:], real[first:], strict=True)
            ]
        expression = _TEXT[x.name].format(*operands)
        if all(real) and x.name in ("real", "imag"):
            expression = operands[0] if x.name == "real" else f"{_C_TYPE[number['real']]}(0)"
        body.append((number[x.kind], x.result, expression))
    statements = [f"const {_C_TYPE[dtype]} {name} = {expression};" for dtype, name, expression in body]
    written = ["p", *(name for name, _ in line.arrays[2:])]
    statements += [
        f"out_{name} = {_C_TYPE[stored[name]]}({text(x)});" for name, x in zip(written, line.outputs, strict=True)
    ]
    inputs = [f"{gradient_storage if name == 'g' else stored[name]} in_{name}" for name, _ in line.arrays]
    inputs += [f"{number['real']} {name}" for name in (*line.scalars, *(f"k{i}" for i in range(len(constants))))]
    outputs = [f"{stored[name]} out_{name}" for name in written]
    return Source(", ".join(inputs), ", ".join(outputs), "\n".join(statements)), tuple(constants.values())


def _kinds(line: Line) -> Mapping[str | float, str]:
    """Of every value of the line: "real", "complex" or "bool"."""
    return {**dict.fromkeys(line.scalars, "real"), **dict(line.arrays), **{x.result: x.kind for x in line.operations}}


def _stored(line: Line, storage: str) -> dict[str, str]:
    """The dtype in memory of every array, the gradient's as its parameter's."""
    compute = COMPUTE_DTYPE[storage]
    slots = {name: compute if kind == "complex" else REAL_DTYPE.get(compute, compute) for name, kind in line.arrays[2:]}
    return {"g": storage, "p": storage, **slots}


def takes(line: Line) -> bool:
    """Whether a kernel can be made of the line: complex numbers only where C++ and NumPy mean the same."""
    kinds = _kinds(line)
    return all(
        x.name in _COMPLEX or all(kinds.get(operand, "real") != "complex" for operand in x.operands)
        for x in line.operations
    )


@functools.lru_cache(maxsize=1024)
def _kernel(method: Any, storage: str, gradient_storage: str, decay: bool) -> tuple[Any, tuple[float, ...], Any]:
    """The kernel of a method (None where there is none), its constants, and the dtypes of slots that it takes."""
    line = trace(method, decay=decay, complex_parameter=storage.startswith("complex"))
    stored = _stored(line, storage)
    slots = [stored[name] for name, _ in line.arrays[2:]]
    if not takes(line):
        return None, (), slots
    text, constants = source(line, storage, gradient_storage)
    return _compiled(text), tuple(_rounded(x, COMPUTE_DTYPE[storage]) for x in constants), slots


def _rounded(x: float, dtype: str) -> Any:
    """Return a constant as the kernel has it: 1e300 is infinite in float32, without a word."""
    with np.errstate(all="ignore"):
        return np.dtype(REAL_DTYPE.get(dtype, dtype)).type(x)


@functools.cache
def _compiled(text: Source) -> Any:
    """One kernel a source text; CuPy compiles it at the first launch and keeps it on disk."""
    return sys.modules["cupy"].ElementwiseKernel(
        text.inputs, text.outputs, text.operation, "adamod_array_step", options=("--fmad=false",), no_return=True
    )


def run(work: Work, donate: bool) -> Result:
    """Step every leaf in one launch on its own device and that device's current stream, or eagerly."""
    if donate:
        work.grads = eager.apart(work)
    launches: dict[int, Any] = {}
    rest: list[int] = []
    scalars: dict[Any, list[Any]] = {}
    for i, (which, p, g, kept) in enumerate(zip(work.which, work.params, work.grads, work.slots, strict=True)):
        storage = dtype_name(p)
        kernel, constants, dtypes = _kernel(work.method, storage, dtype_name(g), work.pairs[which][1] is not None)
        if kernel is None or [dtype_name(x) for x in kept] != dtypes:
            rest.append(i)
            continue
        with p.device:
            key = which, COMPUTE_DTYPE[storage], p.device.id
            if key not in scalars:
                scalars[key] = _scalars(work, which, COMPUTE_DTYPE[storage], p.device)
            old = (p, *kept)
            new = old if donate else [sys.modules["cupy"].empty_like(x) for x in old]
        launches[i] = kernel, g, old, new, (*scalars[key], *constants)
    others = eager.begin(work.subset(rest), donate) if rest else None
    if donate:
        work.claim()
    for kernel, g, old, new, numbers in launches.values():
        with old[0].device:
            _launch(kernel, g, old, new, numbers)
    arrays = {i: new for i, (_, _, _, new, _) in launches.items()}
    if others is not None:
        arrays |= {i: (p, *kept) for i, p, kept in zip(rest, *others(), strict=True)}
    return [arrays[i][0] for i in range(len(arrays))], [arrays[i][1:] for i in range(len(arrays))]


def _scalars(work: Work, which: int, dtype: str, device: Any) -> list[Any]:
    """Return rate, decay where there is one, and coefficients: numbers, or 0-d arrays on the device; rounded once."""
    numbers = [x for x in (*work.pairs[which], *work.c) if x is not None]
    return [work.kind.scalar(x, REAL_DTYPE.get(dtype, dtype), device) for x in numbers]


def _launch(kernel: Any, g: Any, old: Sequence[Any], new: Sequence[Any], scalars: Sequence[Any]) -> None:
    """Write the new arrays, which may be the old ones."""
    inputs, outputs = (g, *old), new
    flags = old[0].flags
    if flags.f_contiguous and not flags.c_contiguous:  # CuPy walks through memory in C order
        inputs = (g.T, *(x.T for x in old))
        outputs = inputs[1:] if new is old else [x.T for x in new]
    kernel(*inputs, *scalars, *outputs)
