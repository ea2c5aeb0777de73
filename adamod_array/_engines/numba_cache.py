"""Compiled functions kept on disk, one file each, for the next process.

What Numba keeps of a function is a pickle and machine code: either runs, or crashes, as it was found. So a file is
read only where no other user could have written it, and it begins with a checksum of its content and of all that the
function was compiled from. Whatever fails here costs the time to compile, never a step.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import importlib
import os
import pickle
import pkgutil
import re
import secrets
import stat
import sys
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np


def compiled(signature: Any, text: str = "", **options: Any) -> Callable[[Any], Any]:
    """Compile the decorated function by ``numba.njit``, or load what an earlier process compiled.

    ``text`` is its source, where that is not in a file of this package.
    """
    numba = importlib.import_module("numba")

    def decorate(function: Any) -> Any:
        origin = (text, function.__module__, function.__qualname__, signature, sorted(options.items()))
        try:
            cache = _Cache(_path(), function.__name__, repr(origin))
            with _working_directory():
                dispatcher = numba.njit(**options)(function)
                dispatcher._cache = cache
                dispatcher.compile(signature)
                dispatcher.disable_compile()
        except Exception as error:  # the function's own too: it is raised again
            with _working_directory():
                dispatcher = numba.njit(signature, **options)(function)
            _note(error)
        return dispatcher

    return decorate


def status() -> str:
    """Return the folder where compiled functions are kept, or why there is none, in one line."""
    try:
        folder = _path()
        with contextlib.suppress(FileNotFoundError), _open(folder):
            pass
    except Exception as error:
        return f"not kept on disk: {_reason(error)}"
    return f"{folder} ({_last_failure})" if _last_failure else str(folder)


@contextlib.contextmanager
def _working_directory() -> Iterator[None]:
    """Have a working directory, which Numba's compiler asks for, where it was removed."""
    try:
        Path.cwd()
    except OSError:
        gone = os.open(".", os.O_RDONLY)
        os.chdir("/")
        try:
            yield
        finally:
            os.fchdir(gone)
            os.close(gone)
    else:
        yield


class _Cache:
    """What a dispatcher of Numba's asks, in place of Numba's own cache, which believes the files that it finds."""

    cache_path = None

    def __init__(self, folder: Path, name: str, origin: str) -> None:
        self._folder, self._name, self._origin = folder, name, origin

    def load_overload(self, signature: Any, target: Any) -> Any:
        """Return the compiled function where it is on disk, else None."""
        try:
            target.refresh()
            path, key = self._place(target.codegen())
            try:
                data = _read(path)
            except FileNotFoundError:
                return None
            payload = data[_DIGEST:]
            if data[:_DIGEST] != _checksum(key, payload):
                return None  # and is written anew
            compiler = importlib.import_module("numba.core.compiler")
            return compiler.CompileResult._rebuild(target, *pickle.loads(payload))
        except Exception as error:
            _note(error)
            return None

    def save_overload(self, signature: Any, result: Any) -> None:
        """Keep a compiled function."""
        try:
            compiled_code = result.library
            if compiled_code.has_dynamic_globals or result.lifted:
                return  # it holds addresses of this process
            path, key = self._place(compiled_code.codegen)
            payload = importlib.import_module("numba.core.serialize").dumps(result._reduce())
            _write(path, _checksum(key, payload) + payload)
        except Exception as error:
            _note(error)

    def _place(self, codegen: Any) -> tuple[Path, bytes]:
        """Return the file's path, and all that the function is compiled from, and for: computers may share a home."""
        key = repr((_versions(), self._origin, codegen.magic_tuple())).encode()
        return self._folder / f"{self._name}_{hashlib.sha256(key).hexdigest()[:20]}.bin", key


_DIGEST = hashlib.sha256().digest_size


def _checksum(key: bytes, payload: bytes) -> bytes:
    return hashlib.sha256(hashlib.sha256(key).digest() + payload).digest()


def _sources() -> bytes:
    """Return the files that kernels are compiled from; nothing where the package's loader cannot tell."""
    try:
        engines = (
            "numba_cache",
            "numba_compile",
            "numba_memory",
            "numba_stream",
            "numba_words",
            "numpy_abi",
            "numba_objects",
            "numba_distinct",
            "numba_tensors",
            "xla_ffi_handler",
        )
        files = [(__package__, f"{name}.py") for name in engines]
        files.append(("adamod_array._program", "numba_source.py"))
        return b"".join(pkgutil.get_data(*file) or b"" for file in files)
    except Exception:
        return b""


SOURCES = _sources()


@functools.cache
def _versions() -> tuple[str, ...]:
    if not SOURCES:
        raise _UnusableError("the package's source cannot be read, which tells one kernel from another")
    modules = [importlib.import_module(name) for name in ("numba", "llvmlite")]
    python = (sys.version, getattr(sys, "abiflags", ""))
    return (hashlib.sha256(SOURCES).hexdigest(), *python, np.__version__, *(str(each.__version__) for each in modules))


class _UnusableError(Exception):
    """There is no folder, and the message says why."""


class _UnsafeError(_UnusableError):
    """Another user could have written what was about to be read."""


_last_failure = ""


def _note(error: Exception) -> None:
    """Keep the reason for :func:`status`; of what is not safe, warn."""
    global _last_failure
    _last_failure = _reason(error)
    if isinstance(error, _UnsafeError):
        _warn(f"compiled kernels are not kept on disk: {error}")


@functools.cache
def _warn(message: str) -> None:
    """Warn once."""
    with contextlib.suppress(RuntimeWarning):  # where warnings are errors: this one would cost a step
        warnings.warn(message, RuntimeWarning, stacklevel=2)


def _reason(error: Exception) -> str:
    text = " ".join(str(error).split())
    return text if isinstance(error, _UnusableError) else f"{type(error).__name__}: {text}"


def _path() -> Path:
    """Return the folder's path: $ADAMOD_ARRAY_CACHE, or adamod_array in the user's cache folder."""
    if chosen := os.environ.get("ADAMOD_ARRAY_CACHE"):
        expanded = os.path.expandvars(chosen)
        if re.search(r"\$(\w|\{)", expanded):
            raise _UnusableError(f"ADAMOD_ARRAY_CACHE={chosen} names a variable that is not set")
        return Path(expanded).expanduser().absolute()
    try:
        platformdirs = importlib.import_module("platformdirs")
    except ImportError:
        raise _UnusableError("platformdirs is not installed (pip install 'adamod_array[numba]')") from None
    path: Path = platformdirs.user_cache_path("adamod_array", appauthor=False)
    if not path.is_absolute():
        raise _UnusableError("the user has no home folder: set ADAMOD_ARRAY_CACHE")
    return path


_NO_LINK = getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)
"""Open a link or a pipe for neither its target nor its other end."""


@dataclass
class _Folder:
    """An open folder: files are named below its descriptor, so that no other can take its place in between."""

    path: Path
    descriptor: int | None
    """None on Windows, which opens no folders."""

    def open(self, name: str, mode: str) -> Any:
        """Open a file, a new one for its user alone."""

        def opener(path: str, flags: int) -> int:
            return os.open(path, flags | _NO_LINK, 0o600, dir_fd=self.descriptor)

        return open(self._at(name), mode, opener=opener)

    def rename(self, old: str, new: str) -> None:
        """Rename a file, in place of one that is there."""
        os.replace(self._at(old), self._at(new), src_dir_fd=self.descriptor, dst_dir_fd=self.descriptor)

    def remove(self, name: str) -> None:
        """Remove a file."""
        os.unlink(self._at(name), dir_fd=self.descriptor)

    def _at(self, name: str) -> str:
        return str(self.path / name) if self.descriptor is None else name


@contextlib.contextmanager
def _open(path: Path) -> Iterator[_Folder]:
    """Open a folder that no other user can write to."""
    if os.open not in os.supports_dir_fd:
        yield _Folder(path, None)
        return
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        _check_owner(descriptor, path)
        yield _Folder(path, descriptor)
    finally:
        os.close(descriptor)


def _check_owner(descriptor: int, path: Path) -> None:
    """Refuse what a user other than this one and root owns, or may write."""
    if not hasattr(os, "geteuid"):
        return  # Windows keeps users out of each other's folders, and has no modes
    found = os.fstat(descriptor)
    if found.st_uid not in (0, os.geteuid()):
        raise _UnsafeError(f"{path} belongs to another user, {found.st_uid}")
    if found.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        raise _UnsafeError(f"others can write to {path}: empty it, then chmod go-w")


def _read(path: Path) -> bytes:
    with _open(path.parent) as folder, folder.open(path.name, "rb") as file:
        _check_owner(file.fileno(), path)
        data: bytes = file.read()
        return data


def _write(path: Path, data: bytes) -> None:
    """Write a file at once: other processes find all of it or nothing, and may write it too."""
    path.parent.mkdir(0o700, parents=True, exist_ok=True)
    with _open(path.parent) as folder:
        draft = f"{path.name}.{secrets.token_hex(8)}"
        try:
            with folder.open(draft, "xb") as file:
                file.write(data)
            folder.rename(draft, path.name)
        except BaseException:
            with contextlib.suppress(OSError):
                folder.remove(draft)
            raise
