"""All CPU backends in one environment; the table of their distances ends pytest's report, quiet or not."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from tests.agree.table import TITLE, Table
from tests.backend import NAMES, Backend, describe, is_here

CPU = [name for name in NAMES if "cpu" in describe(name)["tags"]]
MISSING = [name for name in CPU if not is_here(name)]


class Gatherer:
    """Makes the table of what the tests say of their distances, in whichever process they ran."""

    def __init__(self) -> None:
        self.table = Table()

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.when == "call":
            properties: dict[str, Any] = dict(report.user_properties)
            for row, column, exact, numpy in properties.get("distances", []):
                self.table.add(row, column, exact, numpy)

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        if self.table.cells:
            terminalreporter.section(TITLE)
            for line in self.table.lines():
                terminalreporter.write_line(line)
            for name in MISSING:
                terminalreporter.write_line(f"{name} is not installed, or its device is not here, and was skipped")


def pytest_configure(config: pytest.Config) -> None:
    config.pluginmanager.register(Gatherer())


@pytest.fixture(scope="session")
def backends() -> Iterator[list[Backend]]:
    """Every backend, device and engine that is here, NumPy's eager engine first."""
    numpy = Backend("numpy", "cpu", "eager")
    found = [
        Backend(name, device, engine)
        for name in CPU
        if name not in MISSING
        for device in describe(name)["devices"]
        for engine in describe(name)["engines"]
    ]
    ordered = [numpy, *(backend for backend in found if backend != numpy)]
    if "jax" in MISSING:
        yield ordered
    else:
        import jax

        with jax.enable_x64(True):
            yield ordered
