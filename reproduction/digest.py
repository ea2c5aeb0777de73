"""What a unit run computes, as a digest: where a rule, a default, a function or the data changes, it is run again.

Code counts without its docstrings and comments, as Python parses it.
"""

from __future__ import annotations

import ast
import dataclasses
import functools
import hashlib
import importlib
import inspect
import sys
import textwrap
from collections.abc import Callable, Iterable
from pathlib import Path
from types import ModuleType
from typing import Any

import adamod_array
from adamod_array import Method, host_math
from adamod_array._program.trace import constants, trace
from reproduction import ROOT

RULES = ("_formulas", "_math", "schedules", "diagnostics")
"""Modules of the library, besides those of the methods, whose numbers a run may contain."""

FOLDERS = (ROOT / "reproduction", ROOT / "docs" / "demo")
"""Where the functions are that a run's function may use; those of other packages are known by their versions."""

STEPS = (1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 10.0, 100.0, 1000.0, 100_000.0)
"""At which coefficients are looked at."""


def digest_of(function: Callable[..., Any], config: dict[str, Any]) -> str:
    """Return the digest of a function, of what it uses of this repository, and of the methods among its arguments."""
    methods = [value for value in config.values() if isinstance(value, Method)]
    return _digest([_of_function(function), *map(_of_method, methods), _of_rules()])


def _digest(parts: Iterable[str]) -> str:
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:16]


@functools.cache
def _of_function(function: Callable[..., Any]) -> str:
    """Return the digest of all that a function reaches in FOLDERS, and of the data of the modules where that stands."""
    found: dict[str, str] = {}
    modules: dict[str, ModuleType] = {}
    _reach(function, found, modules)
    data = [modules[name].data_digest() for name in sorted(modules) if hasattr(modules[name], "data_digest")]
    return _digest([*(f"{name} {found[name]}" for name in sorted(found)), *data])


def _reach(thing: Any, found: dict[str, str], modules: dict[str, ModuleType]) -> None:
    """Add the code of a function or class of FOLDERS, and of what it names, to what was found."""
    thing = inspect.unwrap(thing)
    module = sys.modules.get(getattr(thing, "__module__", None) or "")
    name = f"{getattr(module, '__name__', '')}.{getattr(thing, '__qualname__', '')}"
    if module is None or name in found or not _is_ours(module):
        return
    modules[module.__name__] = module
    text = textwrap.dedent(inspect.getsource(thing))
    found[name] = code(text)
    nodes = [*ast.walk(ast.parse(text))]
    names = {node.id for node in nodes if isinstance(node, ast.Name)}
    names |= {node.attr for node in nodes if isinstance(node, ast.Attribute)}
    for each in sorted(names & vars(module).keys()):
        value = vars(module)[each]
        places = (
            [vars(value)[x] for x in sorted(names & vars(value).keys())] if isinstance(value, ModuleType) else [value]
        )
        for x in places if not isinstance(value, ModuleType) or _is_ours(value) else []:
            if callable(x):
                _reach(x, found, modules)
            elif not isinstance(x, ModuleType):
                if " at 0x" in repr(x):
                    raise ValueError(f"{name} uses {each}, whose repr is another in every process: {x!r}")
                found[f"{name} {each}"] = found.get(f"{name} {each}", "") + repr(x)


def _is_ours(module: ModuleType) -> bool:
    path = Path(str(getattr(module, "__file__", None)))
    return any(folder in path.parents for folder in FOLDERS)


def code(text: str) -> str:
    """Return a program without docstrings and comments."""
    tree = ast.parse(text)
    for node in ast.walk(tree):
        body = getattr(node, "body", None)
        if isinstance(body, list):
            node.body = [each for each in body if not _is_text(each)]  # type: ignore[attr-defined]
    return ast.dump(tree)


def _is_text(node: ast.stmt) -> bool:
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)


@functools.cache
def _of_method(method: Method) -> str:
    """Return the digest of what a method computes: its programs, constants and coefficients."""
    parts = [repr(method)]
    for decay in (False, True):
        parts += [repr(trace(method, decay=decay)), repr(constants(method))]
    parts += [repr([float(c) for c in method.coefficients(t, host_math)]) for t in STEPS]
    return _digest(parts)


@functools.cache
def _of_rules() -> str:
    """Return the digest of the library's methods with their defaults, and of the code that runs beside the rules."""
    methods = [x for x in vars(adamod_array).values() if isinstance(x, type) and issubclass(x, Method) and x != Method]
    modules = [importlib.import_module(f"adamod_array.{name}") for name in RULES]
    code_of = [code(inspect.getsource(module)) for module in modules]
    fields = [[(f.name, f.default) for f in dataclasses.fields(method) if f.name != "compact"] for method in methods]
    defaults = [repr(each) for each in fields]
    return _digest([*(_of_method(method()) for method in methods), *defaults, *code_of])
