"""What is not there says so, by its name."""

from __future__ import annotations

import importlib.metadata
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cupy as cp
import pytest

import cupy_on_cpu
from cupy_on_cpu import installation
from cupy_on_cpu.tests.conftest import Run

REFUSED: dict[str, Callable[[], Any]] = {
    "runtime.graphDebugDotPrint": lambda: cp.cuda.runtime.graphDebugDotPrint(1, "", 0),
    "runtime.malloc3DArray": lambda: cp.cuda.texture.CUDAarray(
        cp.cuda.texture.ChannelFormatDescriptor(32, 0, 0, 0, cp.cuda.runtime.cudaChannelFormatKindFloat), 4
    ),
    "cupy.cuda.thrust.sort": lambda: cp.sort(cp.arange(3)),
    "cupy.cuda.thrust.argsort": lambda: cp.argsort(cp.arange(3)),
    "cupy.random.default_rng": lambda: cp.random.default_rng(0),
    "name_expressions": lambda: cp.RawModule(
        code="template <class T> __global__ void f(T *x) {}", name_expressions=["f<int>"]
    ).get_function("f<int>"),
    "cooperative groups": lambda: cp.RawKernel(
        'extern "C" __global__ void f() {}', "f", enable_cooperative_groups=True
    )((1,), (1,), ()),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refused_by_name(name: str) -> None:
    with pytest.raises(NotImplementedError, match=rf"cupy_on_cpu does not provide {re.escape(name)}"):
        REFUSED[name]()


NEEDED: dict[str, Callable[[], Any]] = {
    "libcublas": lambda: cp.ones((2, 2)) @ cp.ones((2, 2)),
    "libcurand": lambda: cp.random.rand(3),
    "libcufft": lambda: cp.fft.fft(cp.ones(4)),
}


@pytest.mark.parametrize("library", NEEDED)
def test_nvidias_libraries_are_missed_by_name(library: str) -> None:
    with pytest.raises(ImportError, match=library):
        NEEDED[library]()


def test_cupy_must_not_be_there_before(run: Run) -> None:
    assert run("import sys; sys.modules['cupy'] = sys; import cupy_on_cpu") == (
        "ImportError: import cupy_on_cpu before cupy"
    )


def test_another_release_of_cupy_is_refused(run: Run, tmp_path: Path) -> None:
    wheel = tmp_path / "cupy_cuda13x-99.0.dist-info"
    wheel.mkdir()
    (wheel / "METADATA").write_text("Metadata-Version: 2.1\nName: cupy-cuda13x\nVersion: 99.0\n")
    found = run(f"import sys; sys.path.insert(0, {str(tmp_path)!r}); import cupy_on_cpu")
    assert found == (
        f"ImportError: cupy_on_cpu uses private names of CuPy and knows those of {', '.join(installation.KNOWN)};"
        " cupy-cuda13x 99.0 is installed"
    )


def test_this_release_is_known() -> None:
    assert cp.__version__ == installation.cupy_version()
    assert any(importlib.metadata.version(wheel) for wheel in installation.WHEELS if _installed(wheel))


def _installed(name: str) -> bool:
    return any(each.metadata["Name"] == name for each in importlib.metadata.distributions())


def test_a_compiler_is_needed(run: Run) -> None:
    assert run("import cupy_on_cpu", CUPY_ON_CPU_CXX="no-such-compiler") == (
        "ImportError: cupy_on_cpu needs g++ 12 or later, and there is no 'no-such-compiler' on PATH"
    )


@pytest.mark.parametrize(("name", "value"), [("DEVICES", "0"), ("DEVICES", "two"), ("FTZ", "yes")])
def test_settings_are_checked(run: Run, name: str, value: str) -> None:
    assert run("import cupy_on_cpu", **{f"CUPY_ON_CPU_{name}": value}).startswith(
        f"ImportError: CUPY_ON_CPU_{name} must"
    )


def test_nothing_of_nvidias_is_needed(run: Run, tmp_path: Path) -> None:
    """No toolkit either: with nothing on PATH but the compiler's tools."""
    for tool in ("g++", "as", "ld"):
        source = next(
            path for folder in ("/usr/bin", "/bin", "/usr/local/bin") if (path := Path(folder, tool)).exists()
        )
        (tmp_path / tool).symlink_to(source)
    program = "import cupy_on_cpu, cupy; print((cupy.arange(3) + 1).tolist())"
    assert run(program, PATH=str(tmp_path), CUDA_PATH="", CUDA_HOME="") == "[1, 2, 3]\n"


def test_public_names() -> None:
    assert all(hasattr(cupy_on_cpu, name) for name in cupy_on_cpu.__all__)
