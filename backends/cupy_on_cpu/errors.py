"""CUDA's own errors, as CuPy raises them, by CUDA's numbers."""

from __future__ import annotations

INVALID_VALUE = 1
OUT_OF_MEMORY = 2
INVALID_DEVICE = 101
INVALID_HANDLE = 400
NOT_FOUND = 500
CAPTURE_UNSUPPORTED = 900
ILLEGAL_CAPTURE = 401


def runtime_error(code: int) -> Exception:
    """``cudaErrorMemoryAllocation: out of memory`` and the like."""
    from cupy_backends.cuda.api.runtime import CUDARuntimeError

    error: Exception = CUDARuntimeError(code)
    return error


def driver_error(code: int) -> Exception:
    """``CUDA_ERROR_INVALID_VALUE: invalid argument`` and the like, whose texts are in the driver that is not here."""
    from cupy_backends.cuda.api.driver import CUDADriverError

    error: Exception = CUDADriverError.__new__(CUDADriverError)
    error.args = (_DRIVER_TEXTS[code],)
    error.status = code  # type: ignore[attr-defined]
    return error


_DRIVER_TEXTS = {
    INVALID_VALUE: "CUDA_ERROR_INVALID_VALUE: invalid argument",
    NOT_FOUND: "CUDA_ERROR_NOT_FOUND: named symbol not found",
}


def unavailable(name: str, why: str = "") -> NotImplementedError:
    """What CuPy on the CPU does not do."""
    return NotImplementedError(f"cupy_on_cpu does not provide {name}{': ' * bool(why)}{why}")
