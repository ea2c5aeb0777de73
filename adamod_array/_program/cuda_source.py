"""A Program as the body of an element-wise CUDA kernel, in the C++ of ``cupy.ElementwiseKernel``."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from adamod_array._namespace import COMPUTE_DTYPE, REAL_DTYPE
from adamod_array._program.render import Renderer
from adamod_array._program.trace import Operand, Operation, Program

_C_TYPE = {
    "bool": "bool",
    "float16": "float16",  # CuPy's classes, like complex
    "bfloat16": "bfloat16",
    "float32": "float",
    "float64": "double",
    "complex64": "complex<float>",
    "complex128": "complex<double>",
}

_COMPLEX = ("add", "sub", "mul", "div", "neg", "abs", "real", "imag", "where", "eq", "ne")
"""What kernels do to complex numbers; rules that need more are stepped eagerly.

Quotients, ``abs`` and products of two complex arrays may differ from NumPy's in the last bit.
"""


@dataclass(frozen=True)
class Source:
    """What an ElementwiseKernel is made of."""

    inputs: str
    """``g``, ``p`` and the slots as ``in_*``, then the program's scalars."""
    outputs: str
    """``p`` and the slots as ``out_*``; they may be the inputs' own arrays."""
    operation: str


class _Cuda(Renderer):
    """Operations in C++, where a real number that meets a complex one has to be made one, as NumPy does."""

    operations: ClassVar = Renderer.operations | {
        "sqrt": "sqrt({})",
        "exp": "exp({})",
        "real": "{}.real()",
        "imag": "{}.imag()",
        # NaN where either is, unlike fmin and fmax
        "minimum": "{0} < {1} || {0} != {0} ? {0} : {1}",
        "maximum": "{0} > {1} || {0} != {0} ? {0} : {1}",
        "where": "{} ? {} : {}",
    }

    def __init__(self, program: Program, compute: str) -> None:
        self._domains, self._compute = _domains(program), compute
        self._arrays = {name for name, _ in program.arrays}

    def type(self, domain: str) -> str:
        """Return the C++ type of a value."""
        real = REAL_DTYPE.get(self._compute, self._compute)
        return _C_TYPE[{"bool": "bool", "real": real, "complex": self._compute}[domain]]

    def name(self, value: Operand) -> str:
        return f"x_{value}" if value in self._arrays else value

    def expression(self, operation: Operation) -> str:
        operands = [self.name(x) for x in operation.operands]
        real = [self._domains[x] != "complex" for x in operation.operands]
        if all(real) and operation.name in ("real", "imag"):
            return operands[0] if operation.name == "real" else f"{self.type('real')}(0)"
        # NumPy multiplies by a real number + 0i
        if operation.domain == "complex" and operation.name in ("mul", "where"):
            first = operation.name == "where"
            operands[first:] = [
                f"{self.type('complex')}({x})" if is_real else x
                for x, is_real in zip(operands[first:], real[first:], strict=True)
            ]
        return self.operations[operation.name].format(*operands)


def source(program: Program, storage: str, gradient_storage: str) -> Source:
    """Return the kernel of a program for one dtype of parameters and one of gradients."""
    compute = COMPUTE_DTYPE[storage]
    stored = stored_dtypes(program, storage)
    write = _Cuda(program, compute)
    statements = []
    for name, domain in program.arrays:
        value = f"in_{name}"
        if domain == "complex" and not (gradient_storage if name == "g" else stored[name]).startswith("complex"):
            value = f"{write.type('real')}({value})"
        statements.append(f"const {write.type(domain)} {write.name(name)} = {write.type(domain)}({value});")
    statements += [f"const {write.type(x.domain)} {x.result} = {write.expression(x)};" for x in program.operations]
    written = ["p", *(name for name, _ in program.arrays[2:])]
    statements += [
        f"out_{name} = {_C_TYPE[stored[name]]}({write.name(output)});"
        for name, output in zip(written, program.outputs, strict=True)
    ]
    inputs = [f"{gradient_storage if name == 'g' else stored[name]} in_{name}" for name, _ in program.arrays]
    inputs += [f"{REAL_DTYPE.get(compute, compute)} {name}" for name in program.scalars]
    outputs = [f"{stored[name]} out_{name}" for name in written]
    return Source(", ".join(inputs), ", ".join(outputs), "\n".join(statements))


def _domains(program: Program) -> Mapping[Operand, str]:
    """Return of every value of the program: "real", "complex" or "bool"."""
    return {
        **dict.fromkeys(program.scalars, "real"),
        **dict(program.arrays),
        **{x.result: x.domain for x in program.operations},
    }


def stored_dtypes(program: Program, storage: str) -> dict[str, str]:
    """Return the dtype in memory of every array, the gradient's as its parameter's."""
    compute = COMPUTE_DTYPE[storage]
    slots = {
        name: compute if domain == "complex" else REAL_DTYPE.get(compute, compute)
        for name, domain in program.arrays[2:]
    }
    return {"g": storage, "p": storage, **slots}


def takes(program: Program) -> bool:
    """Return whether a kernel can be made of the program: complex numbers only where C++ and NumPy mean the same."""
    domains = _domains(program)
    return all(
        x.name in _COMPLEX or all(domains[operand] != "complex" for operand in x.operands) for x in program.operations
    )
