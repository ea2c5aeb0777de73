"""A Program as the body of an element-wise CUDA kernel, in the C++ of ``cupy.ElementwiseKernel``."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from adamod_array._namespace import real_compute_dtype
from adamod_array._program.lower import ONE, ZERO, lowered, stored_dtypes
from adamod_array._program.program import INDEX, Operand, Program
from adamod_array._program.render import Renderer

C_TYPE = {
    "bool": "bool",
    "word": "unsigned int",
    "float16": "float16",  # CuPy's classes, like complex
    "bfloat16": "bfloat16",
    "float32": "float",
    "float64": "double",
    "complex64": "complex<float>",
    "complex128": "complex<double>",
}


@dataclass(frozen=True)
class Source:
    """What an ElementwiseKernel is made of."""

    inputs: str
    """``g``, ``p`` and the slots as ``in_*``, then the program's scalars, and the first counter where it counts."""
    outputs: str
    """``p`` and the slots as ``out_*``; they may be the inputs' own arrays."""
    operation: str


class _Cuda(Renderer):
    operations: ClassVar = Renderer.operations | {
        "sqrt": "sqrt({})",
        "exp": "exp({})",
        "hypot": "hypot({}, {})",
        # NaN where either is, unlike fmin and fmax
        "minimum": "{0} < {1} || {0} != {0} ? {0} : {1}",
        "maximum": "{0} > {1} || {0} != {0} ? {0} : {1}",
        "where": "{} ? {} : {}",
        "and": "{} && {}",
        "or": "{} || {}",
        "word": "(unsigned int)({})",
        "bits": "__float_as_uint({})",
        "unbits": "__uint_as_float({})",
        "add32": "{} + {}",
        "mul32": "{} * {}",
        "xor32": "{} ^ {}",
        "and32": "{} & {}",
        "or32": "{} | {}",
        "shr32": "{} >> {}",
        "lt32": "{} < {}",
    }

    def __init__(self, program: Program, real: str) -> None:
        self._arrays = {name for name, _ in program.arrays}
        self._numbers = {ZERO: f"{real}(0)", ONE: f"{real}(1)"} | {x: f"{x}u" for x in program.words}

    def name(self, value: Operand) -> str:
        return f"x_{value}" if value in self._arrays else self._numbers.get(value, value)


def source(program: Program, storage: str, gradient_storage: str) -> Source:
    """Return the kernel of a program for one dtype of parameters and one of gradients."""
    real, stored = real_compute_dtype(storage), stored_dtypes(program, storage) | {"g": gradient_storage}
    inputs = [f"{stored[name]} in_{name}" for name, _ in program.arrays]
    inputs += [f"{real} {name}" for name in program.scalars]
    inputs += ["uint32 first"] if program.rounded else []
    outputs = [f"{stored[name]} out_{name}" for name, _ in program.arrays[1:]]
    return Source(", ".join(inputs), ", ".join(outputs), "\n".join(statements(program, storage, stored)))


def statements(program: Program, storage: str, stored: dict[str, str]) -> list[str]:
    """Return the step of an element, in C++: from ``in_*`` and the scalars to ``out_*``; all is read before a write."""
    real = C_TYPE[real_compute_dtype(storage)]
    of_reals = lowered(program)
    write = _Cuda(of_reals, real)
    lines = []
    for name, domain in program.arrays:
        parts = {name: f"in_{name}"}
        if domain == "complex":
            parts = {f"{name}_re": f"in_{name}", f"{name}_im": "0"}
            if stored[name].startswith("complex"):
                whole = f"complex<{real}>"
                lines.append(f"const {whole} c_{name} = {whole}(in_{name});")  # one load
                parts = {f"{name}_re": f"c_{name}.real()", f"{name}_im": f"c_{name}.imag()"}
        lines += [f"const {real} {write.name(part)} = {real}({value});" for part, value in parts.items()]
    if program.rounded:  # CuPy's i is an element's place in C order
        lines.append(f"const unsigned int {INDEX} = (unsigned int)(i) + first;")
    types = {"real": real, "bool": "bool", "word": C_TYPE["word"]}
    lines += [f"const {types[x.domain]} {x.result} = {write.expression(x)};" for x in of_reals.operations]
    results = iter(of_reals.outputs)
    for name, domain in program.arrays[1:]:
        values = [write.name(next(results)) for _ in range(2 if domain == "complex" else 1)]
        lines.append(f"out_{name} = {C_TYPE[stored[name]]}({', '.join(values)});")
    return lines
