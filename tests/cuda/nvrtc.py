"""Captured kernels compiled for a GPU's architecture by the compiler that CuPy calls, NVRTC, without a GPU."""

from __future__ import annotations

import inspect
import io
import re
from collections.abc import Mapping, Sequence
from typing import Any

from cupy._core import core
from cupy.cuda import compiler
from cupy_backends.cuda.libs import nvrtc

from tests.cuda.ptx import Kernel

ADDED = ("-ftz=true", "--device-as-default-execution-space")
"""What CuPy's compiler adds to the options of every kernel."""

_ENTRY = re.compile(r"\.entry (\w+)\(.*?^\{(.*?)^\}", re.MULTILINE | re.DOTALL)
_RESOURCES = re.compile(
    r"Function properties for (\w+)\n"
    r".*?(\d+) bytes stack frame, (\d+) bytes spill stores, (\d+) bytes spill loads\n"
    r".*?Used (\d+) registers"
)


def version() -> str:
    """NVRTC's."""
    return ".".join(map(str, nvrtc.getVersion()))


def compile_all(captured: Mapping[str, Mapping[str, Any]], arch: int, *more: str) -> dict[str, Kernel]:
    """Compile the kernels for ``sm_{arch}`` as one text: most of the time for one goes into CuPy's headers."""
    (options,) = {tuple(x for x in each["options"] if not x.startswith("-I")) for each in captured.values()}
    text = "\n".join(_named(name, each) for name, each in captured.items())
    program = compiler._NVRTCProgram(text, "kernels.cu", method="cubin")
    log = io.StringIO()
    program.compile((*_options(options), f"-arch=sm_{arch}", "--ptxas-options=-v", *more), log)
    bodies = dict(_ENTRY.findall(nvrtc.getPTX(program.ptr).decode()))
    found = _RESOURCES.findall(log.getvalue())
    resources = {name: tuple(map(int, numbers)) for name, *numbers in found}
    assert set(bodies) == set(resources) == set(captured)
    return {name: Kernel(bodies[name], *resources[name]) for name in captured}


def _named(name: str, captured: Mapping[str, Any]) -> str:
    """The source with another name for its kernel, and what it defines in a namespace of that name."""
    lines = re.sub(rf"\b{captured['kernel']}\(", f"{name}(", captured["source"]).splitlines()
    ends = 1 + max((i for i, line in enumerate(lines) if line.startswith("#include")), default=-1)
    return "\n".join([*lines[:ends], f"namespace of_{name} {{", *lines[ends:], "}"])


def _options(captured: Sequence[str]) -> tuple[str, ...]:
    """The captured options, this environment's folders of headers, and what CuPy adds in the end."""
    text = inspect.getsource(compiler)
    assert all(f"'{option}'" in text for option in ADDED)
    folders = (option for option in core.assemble_cupy_compiler_options(()) if option.startswith("-I"))
    return (*captured, *folders, *ADDED)
