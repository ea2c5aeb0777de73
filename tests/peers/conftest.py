"""Marks that SciPy's tests carry, which it registers in a file that is not in its wheel."""

from __future__ import annotations

import pytest

MARKS = (
    "array_api_backends",
    "fail_slow",
    "skip_xp_backends",
    "thread_unsafe",
    "xfail_on_32bit",
    "xfail_xp_backends",
)


def pytest_configure(config: pytest.Config) -> None:
    """Know them."""
    for mark in MARKS:
        config.addinivalue_line("markers", f"{mark}: SciPy's own")
