"""CuPy's function pointers, exchanged for functions of Python.

A Cython module lists its C functions in ``__pyx_capi__``: name -> capsule, whose own name is the function's signature.
Modules that ``cimport`` it copy the pointers when they are imported, so they must be exchanged before. For every
function a few lines of C are compiled, which call the Python function that takes its place and let its exceptions
through; ctypes' callbacks would swallow them.
"""

from __future__ import annotations

import atexit
import ctypes
import re
from collections.abc import Callable, Mapping
from types import ModuleType
from typing import Any, NamedTuple

from cupy_on_cpu import host_compiler
from cupy_on_cpu.errors import unavailable

Functions = Mapping[str, Callable[..., Any]]


class _CType(NamedTuple):
    format: str
    """For ``PyObject_CallFunction``."""
    from_python: str
    error: str = "0"
    """What Cython's ``except?`` waits for."""


_C_TYPES = {
    "CUdevice": _CType("i", "(int)PyLong_AsLong"),
    "PyObject *": _CType("O", ""),
    "float": _CType("f", "(float)PyFloat_AsDouble"),
    "int": _CType("i", "(int)PyLong_AsLong", "-1"),
    "intptr_t": _CType("n", "PyLong_AsSsize_t"),
    "size_t": _CType("n", "PyLong_AsSize_t"),
    "uintmax_t": _CType("K", "PyLong_AsUnsignedLongLong"),
    "unsigned int": _CType("I", "(unsigned)PyLong_AsUnsignedLong"),
}

_NOT_CALLED = ("check_status", "_getCUDAMajorVersion", "runtimeGetVersion", "get_build_version")
"""Functions that need no device and stay as they are."""

_NEWER = {"pointerGetMemoryType"}
"""Functions that CuPy 14.0 does not have."""

_PRELUDE = """\
#include <cstdint>
#include <sys/types.h>
typedef int CUdevice;
struct _object;
typedef _object PyObject;
extern "C" {
extern PyObject _Py_NoneStruct;
PyObject *PyObject_CallFunction(PyObject *, const char *, ...);
double PyFloat_AsDouble(PyObject *);
long PyLong_AsLong(PyObject *);
size_t PyLong_AsSize_t(PyObject *);
ssize_t PyLong_AsSsize_t(PyObject *);
unsigned long PyLong_AsUnsignedLong(PyObject *);
unsigned long long PyLong_AsUnsignedLongLong(PyObject *);
void Py_IncRef(PyObject *);
void Py_DecRef(PyObject *);
int ended;
}
static PyObject *none() { Py_IncRef(&_Py_NoneStruct); return &_Py_NoneStruct; }
"""

_RETURN_OBJECT = """\
extern "C" PyObject *target_{name};
PyObject *target_{name};
extern "C" void *{name}({parameters}) {{
  if (ended) return none();  // CuPy still frees memory when the interpreter is all but gone
  return PyObject_CallFunction(target_{name}, {arguments});
}}
"""

_RETURN_NUMBER = """\
extern "C" PyObject *target_{name};
PyObject *target_{name};
extern "C" {result} {name}({parameters}) {{
  if (ended) return 0;
  PyObject *object = PyObject_CallFunction(target_{name}, {arguments});
  if (!object) return {error};
  {result} value = {from_python}(object);
  Py_DecRef(object);
  return value;
}}
"""

_python = ctypes.pythonapi
_python.PyCapsule_GetName.restype = ctypes.c_char_p
_python.PyCapsule_GetName.argtypes = [ctypes.py_object]
_python.PyCapsule_New.restype = ctypes.py_object
_python.PyCapsule_New.argtypes = [ctypes.c_void_p, ctypes.c_void_p, ctypes.c_void_p]

_kept: list[Any] = []
"""Names of capsules, which must outlive them."""


def _trampoline(name: str, signature: str) -> str | None:
    """C that calls ``target_NAME``, a Python function; None where a structure is passed by value."""
    result, listed = re.fullmatch(r"(.*?)\s*\((.*)\)", signature).groups()  # type: ignore[union-attr]
    parameters, formats, passed = [], "", []
    for i, each in enumerate([] if listed == "void" else listed.split(", ")):
        if each.startswith("int __pyx_skip_dispatch"):
            parameters.append("int")
        elif "__pyx_opt_args" in each:
            parameters.append("void *")
        else:
            kind = "PyObject *" if each.startswith("struct __pyx_obj") else each
            if kind == "cudaMemcpyKind":
                kind = "int"
            if kind not in _C_TYPES:
                return None
            parameters.append(f"{kind} a{i}")
            formats += _C_TYPES[kind].format
            passed.append(f"a{i}")
    arguments = ", ".join([f'"({formats})"', *passed])
    if result == "PyObject *" or result.startswith("struct __pyx_obj"):
        return _RETURN_OBJECT.format(name=name, parameters=", ".join(parameters), arguments=arguments)
    if result not in _C_TYPES:
        return None
    _, from_python, error = _C_TYPES[result]
    return _RETURN_NUMBER.format(
        name=name,
        parameters=", ".join(parameters),
        arguments=arguments,
        result=result,
        from_python=from_python,
        error=error,
    )


def _refusal(module: ModuleType, name: str) -> Callable[..., Any]:
    where = f"{module.__name__.rpartition('.')[2]}.{name}"

    def refuse(*_: Any, **__: Any) -> Any:
        raise unavailable(where)

    return refuse


def exchange(module: ModuleType, functions: Functions, refuse_others: bool = True) -> None:
    """Have CuPy call these functions in place of the module's; the others raise NotImplementedError."""
    capsules = module.__pyx_capi__
    if unknown := set(functions) - set(capsules) - _NEWER:
        raise ImportError(f"{module.__name__} has no {', '.join(sorted(unknown))}: not a CuPy that cupy_on_cpu knows")
    texts, targets = {}, {}
    for name, capsule in capsules.items():
        signature = _python.PyCapsule_GetName(capsule).decode()
        if "(" not in signature or name in _NOT_CALLED or (name not in functions and not refuse_others):
            continue
        text = _trampoline(name, signature)
        if text is not None:
            texts[name], targets[name] = text, functions.get(name) or _refusal(module, name)
    library = ctypes.CDLL(str(host_compiler.shared_library(_PRELUDE + "".join(texts.values()))))
    for name, target in targets.items():
        reference = ctypes.py_object(target)
        _python.Py_IncRef(reference)  # CuPy calls some of them when modules are gone
        ctypes.c_void_p.in_dll(library, f"target_{name}").value = id(target)
        pointer = ctypes.cast(getattr(library, name), ctypes.c_void_p).value
        signature_text = ctypes.create_string_buffer(_python.PyCapsule_GetName(capsules[name]))
        _kept.append((signature_text, target, capsules[name]))
        capsules[name] = _python.PyCapsule_New(pointer, ctypes.addressof(signature_text), None)
        setattr(module, name, target)
    atexit.register(_end, library)


def _end(library: ctypes.CDLL) -> None:
    ctypes.c_int.in_dll(library, "ended").value = 1
