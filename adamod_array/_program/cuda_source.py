"""A Program as the body of an element-wise CUDA kernel, in the C++ of ``cupy.ElementwiseKernel``."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from adamod_array._namespace import COMPUTE_DTYPE, REAL_DTYPE
from adamod_array._program.trace import Line

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
    stored = stored_dtypes(line, storage)
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


def stored_dtypes(line: Line, storage: str) -> dict[str, str]:
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
