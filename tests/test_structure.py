"""Who imports whom: no circle, and what must never be."""

from __future__ import annotations

import ast
import graphlib
from collections.abc import Iterator
from pathlib import Path

import pytest

import adamod_array
from tests.test_import import COMPILERS, FRAMEWORKS

pytestmark = pytest.mark.only("numpy")

ROOT = Path(adamod_array.__file__).parent
METHODS = ("adam", "adamod", "radam", "momentum", "diffgrad")


def modules() -> dict[str, Path]:
    """Every module of the package by its name, without ``adamod_array.``; the package itself is left out."""
    found = {".".join(path.relative_to(ROOT).with_suffix("").parts): path for path in ROOT.rglob("*.py")}
    return {name.removesuffix(".__init__"): path for name, path in found.items() if name != "__init__"}


def imports_of(path: Path) -> Iterator[str]:
    """Modules that a file imports, at its head, in a function, or by name; not for type checkers alone."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    for node in ast.walk(tree):
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            node.body = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (each.name for each in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.module is not None and node.level == 0
            for each in node.names:
                inner = f"{node.module}.{each.name}"
                yield inner if inner.removeprefix("adamod_array.") in modules() else node.module
        elif (
            isinstance(node, ast.Call)
            and ast.unparse(node.func) in ("late", "importlib.import_module")
            and isinstance(node.args[0], ast.Constant)
        ):
            yield str(node.args[0].value)


def inner(path: Path) -> set[str]:
    """The package's own modules among them."""
    names = {name.removeprefix("adamod_array.") for name in imports_of(path) if name.startswith("adamod_array.")}
    assert names <= {*modules(), "__version__"}, path
    return names


IMPORTS = {name: inner(path) for name, path in modules().items()}


def family(engine: str) -> str:
    """What an engine's file belongs to: ``_engines.xla_ffi`` to jax."""
    name = engine.removeprefix("_engines.").partition("_")[0]
    return {"xla": "jax", "numpy": "numba", "signatures": "numba"}.get(name, name)


def test_there_is_no_circle() -> None:
    order = [*graphlib.TopologicalSorter(IMPORTS).static_order()]
    assert order.index("_engines") < order.index("_step") < order.index("functional")


def test_a_program_knows_no_engine_and_no_framework() -> None:
    for name in (each for each in IMPORTS if each.startswith("_program")):
        assert not any(each.startswith("_engines") for each in IMPORTS[name]), name
        tops = {each.partition(".")[0] for each in imports_of(modules()[name])}
        assert not tops & (FRAMEWORKS | COMPILERS), name


def test_a_method_is_made_of_formulas() -> None:
    for name in METHODS:
        assert IMPORTS[name] <= {"_method", "_formulas"}, name


def test_an_engine_knows_no_schedule_and_no_method() -> None:
    for name in (each for each in IMPORTS if each.startswith("_engines")):
        assert not IMPORTS[name] & {"schedules", "functional", "diagnostics", "_step", *METHODS}, name


def test_an_engine_keeps_to_its_own_inside() -> None:
    """They share the eager one, compilers, memory and words, launches, memory of results; ``report`` asks all."""
    kernels = {f"_engines.numba_{name}" for name in ("cache", "compile", "distinct", "memory", "objects", "read")}
    common = {
        "_engines",
        "_engines.plan",
        "_engines.eager",
        "_engines.dense",
        "_engines.words",
        "_engines.recycled",
        "_engines.cuda_table",
        "_engines.cuda_launch",
        *kernels,
    }
    for name in (each for each in IMPORTS if each.startswith("_engines.") and each != "_engines.report"):
        others = {each for each in IMPORTS[name] if each.startswith("_engines") and family(each) != family(name)}
        assert others <= common, name


def test_only_engines_import_engines() -> None:
    for name in (each for each in IMPORTS if not each.startswith("_engines")):
        assert not any(each.startswith("_engines.") for each in IMPORTS[name]), name
