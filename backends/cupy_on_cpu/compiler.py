"""CUDA C++ made into host code: what takes the place of NVRTC."""

from __future__ import annotations

import functools
import re
from pathlib import Path
from typing import Any

from cupy_on_cpu import host_compiler, record
from cupy_on_cpu.errors import unavailable
from cupy_on_cpu.kernels import LAUNCHER, PARAMETERS
from cupy_on_cpu.record import Source
from cupy_on_cpu.settings import FLUSH

INCLUDE = Path(__file__).parent / "include"

_KERNEL = re.compile(
    r"__global__\s+(?:void\s+)?(?:__launch_bounds__\s*\([^)]*\)\s*)?(?:void\s+)?(\w+)\s*\(([^{;]*)\)\s*\{"
)
_DYNAMIC_SHARED = re.compile(r"extern\s+__shared__\s+(?:__align__\s*\(\d+\)\s*)?([\w:<> ]+?)\s+(\w+)\s*\[\s*\]\s*;")
_SYNCHRONIZES = re.compile(r"__syncthreads|__syncwarp|__shfl")
_TYPEDEF = re.compile(r"^\s*typedef\s+(.*?)\s+\w+;", re.MULTILINE)
_DOUBLE = re.compile(r"\b(?:double|float64|complex128)\b")

_VISIBLE = 'extern "C" __attribute__((externally_visible))'


def host_code(source: str, flush: bool) -> tuple[str, tuple[str, ...]]:
    """The source as C++ for the host, with functions that launch and describe each of its kernels; and their names."""
    found: dict[str, str] = dict(_KERNEL.findall(source))
    code = _DYNAMIC_SHARED.sub(r"\1 *\2 = reinterpret_cast<\1 *>(cupy_on_cpu::dynamic_shared);", source)
    fibers = bool(_SYNCHRONIZES.search(source))
    for name, parameters in found.items():
        options = f"{str(fibers).lower()}, {str(flush and not _has_doubles(source, parameters)).lower()}"
        code += (
            f"\n{_VISIBLE} void {LAUNCHER}{name}(void **p, const unsigned *size)"
            f" {{ cupy_on_cpu::launch(&{name}, p, size, {options}); }}\n"
            f"{_VISIBLE} int {PARAMETERS}{name}(unsigned *bytes)"
            f" {{ return cupy_on_cpu::parameter_sizes(&{name}, bytes); }}\n"
        )
    return code, tuple(found)


def _has_doubles(source: str, parameters: str) -> bool:
    """CUDA flushes float32 alone; the processor can flush both or neither, so kernels of doubles are spared."""
    return any(_DOUBLE.search(text) for text in (parameters, *_TYPEDEF.findall(source)))


@functools.cache
def _headers() -> tuple[list[str], Path, str]:
    """Flags that find headers, the precompiled header of what every kernel includes, and a digest of all of them."""
    import cupy
    from cupy._core import core

    flags = ["-I", str(INCLUDE), "-I", core._get_header_dir_path()]
    own = [path.read_text(encoding="utf-8") for path in sorted(INCLUDE.rglob("*")) if path.is_file()]
    digest = repr((cupy.__version__, flags, own))
    names = ["cupy_on_cpu/device.h", *core._cupy_header_list, "cupy/float16.cuh"]
    text = "".join(f"#if __has_include(<{name}>)\n#include <{name}>\n#endif\n" for name in names)
    return flags, host_compiler.precompiled_header(text, [*flags, *_WHOLE], digest), digest


_WHOLE = ("-fwhole-program",)
"""The headers' functions that a kernel does not call are not compiled: a third of the time."""


def compile_module(
    source: str, options: tuple[str, ...] = (), *others: Any, name_expressions: Any = None, **named: Any
) -> Any:
    """What stands in for ``cupy.cuda.compiler._compile_module_with_cache``."""
    from cupy.cuda import compiler, function

    if name_expressions:
        raise unavailable("name_expressions", "instantiate the template in a kernel of its own")
    if named.get("to_ltoir"):
        raise unavailable("LTO IR")
    if named.get("enable_cooperative_groups"):
        raise unavailable("cooperative groups")
    code, names = host_code(source, FLUSH)
    record.sources.append(Source(names, source, options))
    definitions = [option for option in options if option.startswith("-D")]
    flags, header, digest = _headers()
    try:
        path = host_compiler.shared_library(code, [*flags, *_WHOLE, *definitions, "-include", str(header)], digest)
    except host_compiler.CompileError as error:
        raise compiler.CompileException(str(error), source, "kernel.cu", options, "g++") from None
    module = function.Module()
    module.load(str(path).encode())
    return module
