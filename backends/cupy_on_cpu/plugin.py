"""What ``-p cupy_on_cpu`` adds to pytest: a line that says where CuPy runs."""

from __future__ import annotations

from cupy_on_cpu import host_compiler, installation, settings


def pytest_report_header() -> str:
    """Nobody shall take these tests for tests on a GPU."""
    denormals = "flushed" if settings.FLUSH else "kept"
    return (
        f"CuPy {installation.cupy_version()} on the CPU, not on a GPU: {settings.DEVICES} device(s),"
        f" float32 denormals {denormals}, kernels compiled by {host_compiler.version()}"
    )
