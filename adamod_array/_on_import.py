"""What is to be done once a framework has been imported, by whomever and whenever."""

from __future__ import annotations

import sys
from collections.abc import Callable
from importlib.machinery import ModuleSpec
from typing import Any

from adamod_array._namespace import framework

_waiting: dict[str, Callable[[Any], None]] = {}


def on_import(name: str, do: Callable[[Any], None]) -> None:
    """Call ``do(module)`` when the import of a module is complete: now, or after the statement that imports it.

    Python has no public way to wait for an import. Who finds a module may wrap what loads it, though, and this asks all
    the other finders first; a module that is found in an unusual way is left alone.
    """
    module = framework(name)
    if module is not None:
        do(module)
        return
    _waiting[name] = do
    if not any(isinstance(each, _Finder) for each in sys.meta_path):
        sys.meta_path.insert(0, _Finder())


class _Finder:
    """Finds only what is waited for, by the other finders."""

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> ModuleSpec | None:
        """Return the spec of a module that is waited for, its loader wrapped."""
        do = _waiting.get(name)
        if do is None:
            return None
        spec = None
        for finder in sys.meta_path:
            if finder is not self and (spec := finder.find_spec(name, path, target)) is not None:
                break
        execute = getattr(spec.loader, "exec_module", None) if spec is not None else None
        if spec is None or execute is None:
            return None

        def exec_module(module: Any) -> None:
            execute(module)
            if module.__name__ == name and _waiting.pop(name, None) is not None:  # a loader may load many
                do(module)

        try:
            spec.loader.exec_module = exec_module  # type: ignore[union-attr, method-assign]
        except AttributeError:
            return None
        return spec
