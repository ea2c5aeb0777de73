"""Bodies of CuPy's elementwise kernels compiled by nvcc, without CuPy and without a GPU."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from adamod_array._kernels.cupy import Source

OPTIONS = ("-std=c++17", "-ftz=true")
"""What CuPy gives every kernel."""

_PRELUDE = """\
#include <cuda_bf16.h>
#include <cuda_fp16.h>
typedef __half float16;
typedef __nv_bfloat16 bfloat16;
typedef float float32;
typedef double float64;

template <class T> struct alignas(2 * sizeof(T)) complex {  // what CuPy's own class does
  T re, im;
  __device__ complex(T re, T im = 0) : re(re), im(im) {}
  template <class U> __device__ explicit complex(const complex<U> &z) : re(z.re), im(z.im) {}
  __device__ T real() const { return re; }
  __device__ T imag() const { return im; }
};
template <class T> __device__ complex<T> operator+(complex<T> a, complex<T> b) { return {a.re + b.re, a.im + b.im}; }
template <class T> __device__ complex<T> operator-(complex<T> a, complex<T> b) { return {a.re - b.re, a.im - b.im}; }
template <class T> __device__ complex<T> operator*(complex<T> a, complex<T> b) {
  return {a.re * b.re - a.im * b.im, a.re * b.im + a.im * b.re};
}
typedef complex<float> complex64;
typedef complex<double> complex128;
"""


@dataclass(frozen=True)
class Compiled:
    """What nvcc made of one kernel."""

    ptx: str
    spilled: int
    """Bytes that did not fit in registers."""

    @property
    def instructions(self) -> list[str]:
        """Mnemonics in order: ``mul.rn.ftz.f32``."""
        return re.findall(r"^\s*[{]?\s*(?:@\S+\s+)?([a-z]\w*(?:\.\w+)+)\s", self.ptx, re.MULTILINE)

    def traffic(self, what: str) -> list[int]:
        """Bytes of every ``ld`` from, or ``st`` to, global memory."""
        found = [re.fullmatch(rf"{what}\.global(?:\.v(\d))?\.[a-z]+(\d+)", each) for each in self.instructions]
        return [int(each[1] or 1) * int(each[2]) // 8 for each in found if each]


def translation_unit(sources: Mapping[str, Source]) -> str:
    """One C++ text of all kernels, each without CuPy's loop: compilers make two of one, and all would count twice."""
    return "\n".join([_PRELUDE, *(_kernel(name, source) for name, source in sources.items())])


def _kernel(name: str, source: Source) -> str:
    inputs = [each.split() for each in source.inputs.split(", ")]
    outputs = [each.split() for each in source.outputs.split(", ")]
    arrays = [(dtype, x) for dtype, x in inputs if x.startswith("in_")]
    arguments = [f"const {dtype} *all_{x}" if x.startswith("in_") else f"const {dtype} {x}" for dtype, x in inputs]
    arguments += [f"{dtype} *all_{x}" for dtype, x in outputs]
    lines = [
        f'extern "C" __global__ void {name}({", ".join(arguments)}, unsigned n) {{',
        "const unsigned i = blockIdx.x * blockDim.x + threadIdx.x;",
        "if (i < n) {",
        *(f"const {dtype} &{x} = all_{x}[i];" for dtype, x in arrays),
        *(f"{dtype} &{x} = all_{x}[i];" for dtype, x in outputs),
        source.operation,
        "}}",
    ]
    return "\n".join(lines)


def compile_all(nvcc: str, sources: Mapping[str, Source], folder: Path, *options: str) -> dict[str, Compiled]:
    """Compile for sm_90 in one call of nvcc: much of its time is spent on starting."""
    text = folder / "kernels.cu"
    text.write_text(translation_unit(sources), encoding="utf-8")
    command = [nvcc, "-cubin", "-arch=sm_90", "-Xptxas=-v", "--keep", f"--keep-dir={folder}", *OPTIONS, *options]
    done = subprocess.run([*command, str(text), "-o", str(folder / "kernels.out")], capture_output=True, check=False)
    log = done.stderr.decode() + done.stdout.decode()
    assert done.returncode == 0, log
    ptx = (folder / "kernels.ptx").read_text(encoding="utf-8")
    bodies = dict(re.findall(r"\.entry (\w+)\(.*?^\{(.*?)^\}", ptx, re.MULTILINE | re.DOTALL))
    spills = dict(re.findall(r"Function properties for (\w+)\n.*? (\d+) bytes spill stores", log))
    assert set(bodies) == set(spills) == set(sources)
    return {name: Compiled(bodies[name], int(spills[name])) for name in sources}
