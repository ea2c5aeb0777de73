"""CuPy on the CPU: the real CuPy wheel, run without a GPU, a driver or anything of NVIDIA's.

``import cupy_on_cpu`` before ``import cupy``, or ``python -m pytest -p cupy_on_cpu``. README.md says how it works,
what it shows and what it does not.

CuPy's compiled modules reach the CUDA runtime and driver through function pointers, which they copy from one another
when they are imported. Those pointers are exchanged first (``entry_points``) for functions of this package
(``devices``, ``memory``, ``streams``, ``kernels``), and g++ is given the CUDA C++ that CuPy generates (``compiler``).
"""

from __future__ import annotations

from cupy_on_cpu import installation
from cupy_on_cpu.plugin import pytest_report_header
from cupy_on_cpu.record import Allocation, Launch, Record, Source, Transfer, recording, sources

installation.install()

__all__ = [
    "Allocation",
    "Launch",
    "Record",
    "Source",
    "Transfer",
    "pytest_report_header",
    "recording",
    "sources",
]
