"""What is imported or compiled late, when a step first needs it, and the lock that is held meanwhile."""

from __future__ import annotations

import importlib
import os
import threading
from typing import Any

lock = threading.RLock()
"""Held while a module is imported late or a compiler is at work. A fork waits for it, for a child would find what
another thread was at half done for ever, and Python's own lock of that import never released."""

if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=lock.acquire, after_in_parent=lock.release, after_in_child=lock.release)


def needed(package: str, error: ModuleNotFoundError) -> ModuleNotFoundError:
    """Return what a package of this library says where its host is not installed."""
    text = f"adamod_array.{package} needs {error.name}: pip install 'adamod_array[{package}]'"
    return ModuleNotFoundError(text, name=error.name)


def late(name: str) -> Any:
    """Return a module, imported at the first call."""
    with lock:
        return importlib.import_module(name)
