"""The package imports no framework, and neither does a step over NumPy arrays; it may import their compiler."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.backend import FOLDER

pytestmark = pytest.mark.only("numpy")

FRAMEWORKS = {"torch", "jax", "jaxlib", "cupy", "dask", "array_api_strict", "ml_dtypes"}
COMPILERS = {"numba", "llvmlite"}

IMPORT = """
import sys, json
import adamod_array
"""
STEP = """
import numpy as np
lr = adamod_array.schedules.linear_warmup(10)
params = {"w": np.ones((2, 3), np.float32), "b": np.ones(3, np.float16), "z": np.ones(2, complex)}
for method in (adamod_array.Adam(), adamod_array.AdaMod(), adamod_array.RAdam(), adamod_array.Momentum()):
    for donate in (False, True):
        state = adamod_array.init(method, {k: p.copy() for k, p in params.items()}, lr)
        state = adamod_array.step(state, params, donate=donate)
        assert state.step == 1
adamod_array.clip_by_global_norm(params, 1.0)
"""
REPORT = "print(json.dumps(sorted({name.partition('.')[0] for name in sys.modules})))"


def imported(program: str) -> set[str]:
    """The top-level modules that a fresh interpreter holds after the program."""
    command = [sys.executable, "-W", "error", "-c", program + REPORT]
    done = subprocess.run(command, capture_output=True, text=True, cwd=FOLDER.parent, check=False)
    assert done.returncode == 0, done.stderr
    return set(json.loads(done.stdout))


def test_importing_the_package_imports_no_framework_and_no_compiler() -> None:
    modules = imported(IMPORT)
    assert "adamod_array" in modules
    assert not modules & (FRAMEWORKS | COMPILERS)


def test_a_step_over_numpy_arrays_imports_no_framework() -> None:
    modules = imported(IMPORT + STEP)
    assert "numpy" in modules
    assert not modules & FRAMEWORKS


@pytest.mark.parametrize("name", ["torch", "jax", "cupy", "dask.array"])
def test_a_framework_that_is_half_imported_is_none(tmp_path: Path, name: str) -> None:
    """Another thread may be importing it while a step is taken: here, the very import takes one."""
    module = tmp_path.joinpath(*name.split("."), "__init__.py")
    module.parent.mkdir(parents=True)
    (tmp_path / name.partition(".")[0] / "__init__.py").touch()
    module.write_text(f"{IMPORT}{STEP}raise ImportError('a step was taken')\n")
    program = f"sys.path.insert(0, {str(tmp_path)!r})\ntry:\n    import {name}\nexcept ImportError as error:\n"
    told = "    assert str(error) == 'a step was taken', error\n"
    assert "adamod_array" in imported(IMPORT + program + told)


def test_a_framework_would_be_seen() -> None:
    """The checks above can fail."""
    assert "ml_dtypes" in imported(IMPORT + "import ml_dtypes\n")
