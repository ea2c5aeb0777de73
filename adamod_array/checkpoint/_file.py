"""A state as one file in the safetensors format: written whole or not at all, checked before an array is read."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
import stat
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from adamod_array._compact import compact_of
from adamod_array._methods import first, methods_of
from adamod_array._rate import constant_rate, decay_rate, is_schedule, step_count
from adamod_array._state import COUNTS
from adamod_array.checkpoint._arrays import CODES, real_dtype
from adamod_array.checkpoint._data import by_path, data_of, mapping, method_of_data, one_of, value_of
from adamod_array.checkpoint._error import CheckpointError
from adamod_array.checkpoint._match import Held, Template, check_names

FORMAT = 2
"""The newest, which a file has whose slots are stored in bfloat16 and rounded stochastically, as earlier readers would
not do; all others are of format 1."""
TEXT, DIGEST = "adamod_array", "sha256"
"""The keys of the metadata: all that is no array, as JSON, and that text's checksum."""


def _safetensors() -> Any:
    try:
        import safetensors
    except ImportError:
        raise ImportError("safetensors is not installed: pip install 'adamod_array[checkpoint]'") from None
    return safetensors


def write(held: Held, path: str | os.PathLike[str]) -> None:
    """Write what is held: the file is the old one until it is renamed, and the new one from then on."""
    library = _safetensors()
    text = json.dumps(
        {
            "format": FORMAT if compact_of(one_of(held.method)) else 1,
            **held.counts,
            "method": data_of(held.method, "method"),
            "lr": data_of(held.lr, "lr"),
            "weight_decay": data_of(held.weight_decay, "weight_decay"),
            "dtypes": held.dtypes,
        }
    )
    _check_size(len(json.dumps(text)), held.dtypes)
    metadata = {TEXT: text, DIGEST: _digest(text)}
    target = Path(os.fsdecode(path)).resolve()
    if not target.parent.is_dir():
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(target.parent))
    if target.exists() and not target.is_file():
        raise OSError(errno.EINVAL, "is no regular file, which alone can be replaced", str(target))
    arrays = {name: np.atleast_1d(held.read(name)) for name in held.dtypes}
    specs = {
        name: library.TensorSpec(
            dtype=real_dtype(held.dtypes[name]),
            shape=list(held.shapes[name]),
            data_ptr=x.ctypes.data,
            data_len=x.nbytes,
        )
        for name, x in arrays.items()
    }
    with tempfile.TemporaryDirectory(prefix=f".{target.name[:40]}.", dir=target.parent) as folder:
        draft = Path(folder, "draft")
        draft.touch()
        mode = stat.S_IMODE((target if target.exists() else draft).stat().st_mode)
        try:
            library.serialize_file(specs, draft, metadata)
        except library.SafetensorError as error:
            raise OSError(f"{target} could not be written: {error}") from None
        draft.chmod(mode)  # the library makes files for their owner alone
        _sync(draft, os.O_RDWR)
        draft.replace(target)
    if os.name == "posix":  # elsewhere a folder cannot be opened
        _sync(target.parent, os.O_RDONLY)


def _sync(path: Path, flags: int) -> None:
    descriptor = os.open(path, flags)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def _check_size(size: int, names: Any) -> None:
    """Check that a header is no larger than its arrays ask for: what reads it needs ten times the memory.

    Raises
    ------
    CheckpointError
        It is.
    """
    limit = 2**20 + sum(2**14 + 16 * len(name) for name in names)
    if size > limit:
        raise CheckpointError(f"a header of {size} bytes, where {limit} are enough for its arrays")


@contextlib.contextmanager
def opened(path: str | os.PathLike[str], template: Template, method: Any, lr: Any) -> Iterator[Held]:
    """Open a file and check all that does not concern its arrays; they are read later, one at a time.

    ``method`` and ``lr`` are those of :func:`load`.

    Raises
    ------
    CheckpointError
        The file is damaged or foreign.
    TypeError, ValueError
        ``method`` or ``lr`` is none.
    """
    library = _safetensors()
    source = os.fsdecode(path)
    given = None if method is None else methods_of(method, template.spec, template.params)
    rate = None if lr is None else constant_rate(lr, template.spec, template.params)
    kind = "pt" if template.namespace is not None and template.namespace.name == "torch" else "np"
    try:
        _check_header(Path(source), template)
        with library.safe_open(source, framework=kind, backend="pread") as file:
            held = _held(file, source, template, given, rate)
            yield held
    except library.SafetensorError as error:
        raise CheckpointError(f"{source} is damaged, or no safetensors file: {error}") from None
    except CheckpointError as error:
        text = str(error)
        raise (error if source in text else CheckpointError(f"{source}: {text}")) from None


def _check_header(path: Path, template: Template) -> None:
    """Check the length of the header before anybody reads it."""
    if path.exists() and not path.is_file():  # to open a pipe would wait for its other end
        raise CheckpointError("is no regular file")
    with path.open("rb") as file:
        size, length = int.from_bytes(file.read(8), "little"), os.fstat(file.fileno()).st_size
    if length < 8 or size > length - 8:
        raise CheckpointError(f"is cut, or no safetensors file: it has {length} bytes")
    _check_size(size, [name for name in template.names for _ in range(16)])


def _held(file: Any, source: str, template: Template, given: Any, rate: Any) -> Held:
    """Return what an open file holds."""
    try:
        data = _data(file.metadata() or {})
        dtypes = {name: str(dtype) for name, dtype in mapping(data.get("dtypes"), "dtypes").items()}
        shapes = _shapes(file, dtypes)
        cls = first(given) if given is not None else template.method
        saved = method_of_data(
            data.get("method"),
            None if given is None else by_path(given, template.names),
            None if cls is None else type(cls),
        )
        check_names(source, dtypes, template, one_of(saved))
        decay = _settled(decay_rate, data, "weight_decay", source, template)
        if rate is None:
            rate = _settled(constant_rate, data, "lr", source, template)
        counts = {name: _count(data.get(name, None if name == "step" else 0), name) for name in COUNTS}
    except RecursionError:
        raise CheckpointError("is damaged: its metadata are nested too deeply") from None
    return Held(source, dtypes, shapes, lambda name: _raw(file, name), counts, saved, rate, decay, False)


def _data(metadata: dict[str, str]) -> dict[str, Any]:
    """Return the JSON that was written."""
    if TEXT not in metadata:
        raise CheckpointError("was not written by adamod_array.checkpoint.save")
    text = metadata[TEXT]
    if metadata.get(DIGEST) != _digest(text):
        raise CheckpointError("is damaged: its metadata do not have their checksum")
    try:
        data = mapping(json.loads(text), TEXT)
    except ValueError as error:  # also of a number with too many digits
        raise CheckpointError(f"is damaged: {error}") from None
    if type(data.get("format")) is not int or data["format"] < 1:
        raise CheckpointError("is damaged: it names no format")
    if data["format"] > FORMAT:
        raise CheckpointError(f"is of format {data['format']}, of a later release; this one reads up to {FORMAT}")
    return data


def _shapes(file: Any, dtypes: dict[str, str]) -> dict[str, tuple[int, ...]]:
    """Return the shapes that arrays are stored in, after a look at names and dtypes."""
    names = set(file.keys())
    if names != dtypes.keys():
        raise CheckpointError(f"is damaged: of {min(names ^ dtypes.keys())!r:.200} it has the array or the dtype alone")
    shapes = {}
    for name, dtype in dtypes.items():
        array = file.get_slice(name)
        code, shape = array.get_dtype(), tuple(array.get_shape())
        is_pair = dtype.startswith("complex")
        if CODES.get(real_dtype(dtype)) != code or (is_pair and shape[-1:] != (2,)):
            raise CheckpointError(f"{name:.200} is damaged: {code} of shape {shape} cannot hold {dtype:.40}")
        shapes[name] = shape
    return shapes


def _settled(check: Any, data: dict[str, Any], what: str, source: str, template: Template) -> Any:
    """Return a rate of the file, checked, in leaf order."""
    if what not in data:
        raise CheckpointError(f"is damaged: it has no {what}")
    value = template.in_order(value_of(data[what], what), what, source)
    try:
        kept = check(value, template.spec, template.params)
        for each in kept if isinstance(kept, tuple) else (kept,):
            if is_schedule(each):
                float(each(1))
    except (TypeError, ValueError, AttributeError, ArithmeticError) as error:
        raise CheckpointError(f"is damaged: {error}") from None
    return kept


def _count(value: Any, name: str) -> int:
    try:
        return int(step_count(value))
    except (TypeError, ValueError) as error:
        raise CheckpointError(f"is damaged: {name}: {error}") from None


def _raw(file: Any, name: str) -> np.ndarray[Any, Any]:
    """Return the numbers of an array as they are stored."""
    x = file.get_tensor(name)
    if isinstance(x, np.ndarray):
        return x.view("uint16") if x.dtype.name == "bfloat16" else x
    import torch

    return np.asarray((x.view(torch.int16).numpy().view("uint16")) if x.dtype == torch.bfloat16 else x.numpy())
