"""Denormals, the cache of kernels, the line that pytest prints, and the end of a process."""

from __future__ import annotations

from pathlib import Path

import pytest

from cupy_on_cpu import host_compiler
from cupy_on_cpu.tests.conftest import Run

DENORMALS = """
import cupy_on_cpu, cupy
for dtype, tiny in (("float32", 1e-39), ("float64", 1e-310), ("complex64", 1e-39), ("float16", 6e-8)):
    x = cupy.asarray([tiny], dtype)
    assert x.copy().get() != 0
    print(dtype, "kept" if (x * 1).get() != 0 else "flushed")
x = cupy.asarray([2.0**-100], "float32")
print("result", "kept" if (x * x * 2.0**70).get() != 0 else "flushed")
"""


def test_denormals_of_float32_are_flushed(run: Run) -> None:
    """As -ftz=true has it, of arguments and of results; copies keep them, and so do other dtypes."""
    assert run(DENORMALS).split() == (
        ["float32", "flushed", "float64", "kept", "complex64", "flushed", "float16", "kept", "result", "flushed"]
    )


def test_denormals_are_kept_when_asked(run: Run) -> None:
    assert run(DENORMALS, CUPY_ON_CPU_FTZ="0").split() == (
        ["float32", "kept", "float64", "kept", "complex64", "kept", "float16", "kept", "result", "flushed"]
    )


def test_a_second_process_compiles_nothing(run: Run, tmp_path: Path) -> None:
    program = "import cupy_on_cpu, cupy; print((cupy.arange(3) + 1).tolist())"
    assert run(program, CUPY_ON_CPU_CACHE=str(tmp_path)) == "[1, 2, 3]\n"
    made = {path: path.stat().st_mtime_ns for path in tmp_path.iterdir()}
    assert {path.suffix for path in made} == {".so", ".h", ".gch"}
    assert run(program, CUPY_ON_CPU_CACHE=str(tmp_path)) == "[1, 2, 3]\n"
    assert {path: path.stat().st_mtime_ns for path in tmp_path.iterdir()} == made


def test_what_is_compiled_is_kept_by_source_and_flags(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(host_compiler, "CACHE", tmp_path)
    paths = {
        host_compiler.shared_library("int x;"),
        host_compiler.shared_library("int x;"),
        host_compiler.shared_library("int y;"),
        host_compiler.shared_library("int x;", ["-DA"]),
        host_compiler.shared_library("int x;", keyed_by="another header"),
    }
    assert len(paths) == 4 == len(list(tmp_path.iterdir()))
    with pytest.raises(host_compiler.CompileError, match="error"):
        host_compiler.shared_library("int int;")
    assert len(list(tmp_path.iterdir())) == 4


def test_pytest_says_that_this_is_no_gpu(request: pytest.FixtureRequest) -> None:
    plugin = request.config.pluginmanager.get_plugin("cupy_on_cpu")
    assert plugin is not None
    assert "on the CPU, not on a GPU" in plugin.pytest_report_header()


def test_a_process_ends_in_peace(run: Run) -> None:
    """CuPy frees streams, events and memory when Python is all but gone."""
    program = (
        "import cupy_on_cpu, cupy\n"
        "stream, event, x = cupy.cuda.Stream(), cupy.cuda.Event(), cupy.arange(4)\n"
        "pinned = cupy.cuda.alloc_pinned_memory(8)\n"
        "kept = [x, stream, event, pinned]; kept.append(kept)\n"
        "print(int(x.sum()))"
    )
    assert run(program) == "6\n"


def test_a_forked_child_has_the_same_device(run: Run) -> None:
    program = (
        "import os, cupy_on_cpu, cupy\n"
        "x = cupy.arange(4)\n"
        "child = os.fork()\n"
        "if child == 0: os._exit(int((x + 1).sum()))\n"
        "print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))"
    )
    assert run(program) == "10\n"
