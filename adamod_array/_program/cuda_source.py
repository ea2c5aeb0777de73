"""A Program as the body of an element-wise CUDA kernel, in the C++ of ``cupy.ElementwiseKernel``."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from adamod_array._namespace import COMPUTE_DTYPE, REAL_DTYPE
from adamod_array._program.lower import ONE, ZERO, lowered
from adamod_array._program.program import INDEX, Operand, Program
from adamod_array._program.render import Renderer

_C_TYPE = {
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
    compute = COMPUTE_DTYPE[storage]
    real_dtype = REAL_DTYPE.get(compute, compute)
    real, stored = _C_TYPE[real_dtype], stored_dtypes(program, storage)
    of_reals = lowered(program)
    write = _Cuda(of_reals, real)
    statements = []
    for name, domain in program.arrays:
        parts = {name: f"in_{name}"}
        if domain == "complex":
            parts = {f"{name}_re": f"in_{name}", f"{name}_im": "0"}
            if (gradient_storage if name == "g" else stored[name]).startswith("complex"):
                whole = f"complex<{real}>"
                statements.append(f"const {whole} c_{name} = {whole}(in_{name});")  # one load
                parts = {f"{name}_re": f"c_{name}.real()", f"{name}_im": f"c_{name}.imag()"}
        statements += [f"const {real} {write.name(part)} = {real}({value});" for part, value in parts.items()]
    if program.rounded:  # CuPy's i is an element's place in C order
        statements.append(f"const unsigned int {INDEX} = (unsigned int)(i) + first;")
    types = {"real": real, "bool": "bool", "word": _C_TYPE["word"]}
    statements += [f"const {types[x.domain]} {x.result} = {write.expression(x)};" for x in of_reals.operations]
    results = iter(of_reals.outputs)
    written = program.arrays[1:]
    for name, domain in written:
        values = [write.name(next(results)) for _ in range(2 if domain == "complex" else 1)]
        statements.append(f"out_{name} = {_C_TYPE[stored[name]]}({', '.join(values)});")
    inputs = [f"{gradient_storage if name == 'g' else stored[name]} in_{name}" for name, _ in program.arrays]
    inputs += [f"{real_dtype} {name}" for name in program.scalars]
    inputs += ["uint32 first"] if program.rounded else []
    outputs = [f"{stored[name]} out_{name}" for name, _ in written]
    return Source(", ".join(inputs), ", ".join(outputs), "\n".join(statements))


def stored_dtypes(program: Program, storage: str) -> dict[str, str]:
    """Return the dtype in memory of every array, the gradient's as its parameter's."""
    compute = COMPUTE_DTYPE[storage]
    slots = {
        name: compute if domain == "complex" else REAL_DTYPE.get(compute, compute)
        for name, domain in program.arrays[2:]
    }
    slots |= {name: dtype for name, dtype in zip(slots, program.slot_dtypes, strict=True) if dtype}
    return {"g": storage, "p": storage, **slots}
