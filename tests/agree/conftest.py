"""All CPU backends in one environment; the table of their distances ends pytest's report, quiet or not."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.agree.table import TITLE, Table
from tests.backend import NAMES, Backend, describe, is_here

_TABLE = pytest.StashKey[Table]()
CPU = [name for name in NAMES if "cpu" in describe(name)["tags"]]
MISSING = [name for name in CPU if not is_here(name)]


def pytest_configure(config: pytest.Config) -> None:
    config.stash[_TABLE] = Table()


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    table = config.stash[_TABLE]
    if table.cells:
        terminalreporter.section(TITLE)
        for line in table.lines():
            terminalreporter.write_line(line)
        for name in MISSING:
            terminalreporter.write_line(f"{name} is not installed, or its device is not here, and was skipped")


@pytest.fixture(scope="session")
def table(request: pytest.FixtureRequest) -> Table:
    return request.config.stash[_TABLE]


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
