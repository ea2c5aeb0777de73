"""Fixtures made from backends/*.toml: ``pytest --backend torch`` runs every test on PyTorch."""

from __future__ import annotations

import gc
import importlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import hypothesis
import pytest

import adamod_array
from tests.backend import NAMES, Backend, backends, describe, stands_in

FOLDER = Path(__file__).parent
OF_A_BACKEND = {"backend", "xp", "dtype", "real_dtype", "cupy"}
"""What tests that run on every backend ask for."""

hypothesis.settings.register_profile("long", max_examples=10_000)  # of tests/test_fuzz.py


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--backend", default="numpy", choices=NAMES, help="whose arrays the tests use (default: numpy)")

    parser.addoption("--gpu", action="store_true", help="on the backend's table `cuda`: the tests that name a backend")

    parser.addoption("--slow", default="also", choices=["no", "only", "also"], help="tests that take long for one fact")


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "cuda: tests for --gpu alone")
    config.addinivalue_line("markers", "only(*backends): tests that make sense on these backends alone")
    config.addinivalue_line("markers", "slow(*backends): tests for --slow, on these backends, or on all")
    name = config.getoption("--backend")
    if name == "jax":
        import jax

        jax.config.update("jax_enable_x64", True)
    if name == "dask":
        import dask

        dask.config.set(scheduler="synchronous")  # threads cost more than arrays of this size
    if name == "strict":
        import array_api_strict

        # everything optional is off, so that nothing beyond the standard is assumed
        array_api_strict.set_array_api_strict_flags(
            boolean_indexing=False, data_dependent_shapes=False, enabled_extensions=()
        )


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    name = config.getoption("--backend")
    here: list[pytest.Item] = []
    elsewhere: list[pytest.Item] = []
    for item in items:
        marks = [*item.iter_markers("only")]
        fits = all(name in mark.args for mark in marks)
        if name != "numpy" and item.path.parent == FOLDER and not marks:  # of no framework: once is enough
            fits = bool(OF_A_BACKEND & {*getattr(item, "fixturenames", ())})
        if config.getoption("--gpu"):
            fits &= "backend" in getattr(item, "fixturenames", ())  # the others have run on the CPU
        else:
            fits &= item.get_closest_marker("cuda") is None
        if (chosen := config.getoption("--slow")) != "also":
            is_slow = any(not mark.args or name in mark.args for mark in item.iter_markers("slow"))
            fits &= is_slow == (chosen == "only")
        (here if fits else elsewhere).append(item)
        if stands_in(name):
            for test, reason in describe(name)["skips"].items():
                if item.nodeid.startswith(test):
                    item.add_marker(pytest.mark.skip(reason=reason))
    if elsewhere:
        config.hook.pytest_deselected(items=elsewhere)
        items[:] = here


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    name = metafunc.config.getoption("--backend")
    table = describe(name)
    own = {
        argument.strip()
        for mark in metafunc.definition.iter_markers("parametrize")
        for argument in (mark.args[0].split(",") if isinstance(mark.args[0], str) else mark.args[0])
    }
    names = set(metafunc.fixturenames) - own  # a test may choose dtypes of its own
    if "backend" in names:
        found = backends(name, on_gpu=metafunc.config.getoption("--gpu"))
        ids = ["-".join((b.name, b.device, b.engine)) for b in found]
        metafunc.parametrize("backend", found, ids=ids, indirect=True)
    if "dtype" in names:
        metafunc.parametrize("dtype", table["dtypes"])
    if "real_dtype" in names:
        metafunc.parametrize("real_dtype", [dtype for dtype in table["dtypes"] if "complex" not in dtype])


@pytest.fixture
def backend(request: pytest.FixtureRequest) -> Iterator[Backend]:
    """The backend under test, its engine in force."""
    chosen: Backend = request.param
    importlib.import_module(chosen.table["module"])
    with adamod_array.engine(chosen.engine), chosen.default_device():
        yield chosen


@pytest.fixture(autouse=True, scope="module")
def _few_programs(request: pytest.FixtureRequest) -> Iterator[None]:
    """Have JAX forget what it compiled: gigabytes of all tests, which Python would walk through again and again."""
    yield
    if request.config.getoption("--backend") == "jax":
        importlib.import_module("jax").clear_caches()
        gc.collect()


@pytest.fixture
def xp(backend: Backend) -> Any:
    """The namespace under test."""
    return backend.xp


@pytest.fixture
def cupy() -> Any:
    import cupy

    return cupy


@pytest.fixture
def recording() -> Any:
    if not stands_in("cupy"):
        pytest.skip("launches and copies are counted by cupy_on_cpu, and this is a GPU")
    import cupy_on_cpu

    return cupy_on_cpu.recording


@pytest.fixture
def two_devices(cupy: Any) -> None:
    if cupy.cuda.runtime.getDeviceCount() < 2:
        pytest.skip("there is one device here")


@pytest.fixture
def on_cupy() -> Backend:
    """CuPy's own engine; a test that takes this one is not about the eager rule."""
    return Backend("cupy", "cuda:0", "cupy")
