"""Files of checkpoints: whole whenever the process dies, and refused in words where they are damaged or foreign."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import random
import stat
import struct
import subprocess
import sys
import time
import tracemalloc
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from adamod_array import State, adam_init, adamod_init, schedules
from adamod_array.checkpoint import CheckpointError, load, save

pytestmark = pytest.mark.only("numpy")

PARAMS = {"w": np.arange(600.0).reshape(20, 30), "c": np.ones(5, np.complex64), "z": np.zeros((0, 2), np.float16)}


def state_of(**options: Any) -> State:
    return adamod_init(PARAMS, lr=0.1 * schedules.untuned_linear(), **options)


# written whole


def test_a_file_is_replaced_and_nothing_is_left_beside_it(tmp_path: Path) -> None:
    path = tmp_path / "run.safetensors"
    before = os.umask(0o027)
    try:
        save(state_of(), path)
    finally:
        os.umask(before)
    assert stat.S_IMODE(path.stat().st_mode) == 0o640  # as of a file that open() makes
    path.chmod(0o604)
    save(state_of().replace(step=7), str(path))
    assert stat.S_IMODE(path.stat().st_mode) == 0o604
    assert load(path, PARAMS).step == 7
    assert [*tmp_path.iterdir()] == [path]


def test_links_go_on_pointing_to_the_file(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    link, target = tmp_path / "latest", tmp_path / "data" / "run"
    link.symlink_to(target)
    for t in (1, 2):  # to nothing at first
        save(state_of().replace(step=t), link)
        assert link.is_symlink() and load(target, PARAMS).step == load(link, PARAMS).step == t
    assert [*(tmp_path / "data").iterdir()] == [target]


def test_what_cannot_be_written_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "run"
    save(state_of(), path)
    program = (
        "import resource, signal, sys, numpy as np, adamod_array as a\n"
        "from adamod_array.checkpoint import save\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, 50_000))\n"
        "try: save(a.adam_init(np.zeros(100_000)), sys.argv[1])\n"
        "except OSError as error: print(error)\n"
    )
    done = subprocess.run([sys.executable, "-c", program, str(path)], capture_output=True, text=True, check=False)
    assert str(path) in done.stdout, done.stderr
    assert load(path, PARAMS).step == 0 and [*tmp_path.iterdir()] == [path]


def test_the_order_of_writes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The file is on the disk before it has its name, and its name before save returns."""
    path, told = tmp_path / "run", []
    sync, replace = os.fsync, Path.replace

    def synced(descriptor: int) -> None:
        told.append("folder" if stat.S_ISDIR(os.fstat(descriptor).st_mode) else "file")
        sync(descriptor)

    def replaced(draft: Path, target: Path) -> Path:
        told.append("name")
        assert draft.parent.parent == target.parent and draft.stat().st_dev == target.parent.stat().st_dev
        return replace(draft, target)

    monkeypatch.setattr(os, "fsync", synced)
    monkeypatch.setattr(Path, "replace", replaced)
    save(state_of(), path)
    assert told == ["file", "name", "folder"]

    def interrupted(descriptor: int) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "fsync", interrupted)
    with pytest.raises(KeyboardInterrupt):
        save(state_of().replace(step=3), path)
    assert load(path, PARAMS).step == 0 and [*tmp_path.iterdir()] == [path]


def test_what_is_no_file(tmp_path: Path) -> None:
    """Is neither replaced nor waited for."""
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    for path in (pipe, tmp_path):
        with pytest.raises(OSError, match="no regular file"):
            save(state_of(), path)
        with pytest.raises(CheckpointError, match="no regular file"):
            load(path, PARAMS)
    assert stat.S_ISFIFO(pipe.stat().st_mode)
    with pytest.raises(FileNotFoundError, match="missing"):
        save(state_of(), tmp_path / "missing" / "run")
    with pytest.raises(FileNotFoundError) as caught:
        load(tmp_path / "missing", PARAMS)
    assert caught.value.errno == errno.ENOENT


KILLED = """
import os, sys, numpy as np, adamod_array as a
from adamod_array.checkpoint import save
path = sys.argv[1]
states = [a.adam_init({"w": np.full(200_000, float(t))}).replace(step=t) for t in range(2)]
save(states[0], path)
sys.stdin.buffer.read(1)  # all that is imported is imported
while sys.stdin.buffer.readline():
    pid = os.fork()
    if pid == 0:
        for t in range(1, 1000):
            save(states[t % 2], path)
        os._exit(0)
    print(pid, flush=True)
    os.waitpid(pid, 0)
    print("gone", flush=True)
"""


def test_a_hundred_kills(tmp_path: Path) -> None:
    """At random times: what is there loads, and is one of those that were saved, all of it."""
    path, like = tmp_path / "run", {"w": np.zeros(200_000)}
    rng = random.Random(3)
    found = set()
    command = [sys.executable, "-c", KILLED, str(path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdin is not None and process.stdout is not None
        process.stdin.write(b".")
        for _ in range(100):
            process.stdin.write(b"\n")
            process.stdin.flush()
            pid = int(process.stdout.readline())
            time.sleep(rng.uniform(0, 0.03))
            os.kill(pid, 9)
            assert process.stdout.readline() == b"gone\n"
            state = load(path, like)
            assert (state.params["w"] == state.step).all()
            found.add(state.step)
    assert found == {0, 1}
    assert len([*tmp_path.iterdir()]) > 1  # some died while they wrote


# read with care


Damage = Callable[[bytes, random.Random], bytes]


def header_of(data: bytes) -> tuple[int, dict[str, Any]]:
    size = int.from_bytes(data[:8], "little")
    return 8 + size, json.loads(data[8 : 8 + size])


def with_header(data: bytes, header: Any) -> bytes:
    """The file with another header."""
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + data[header_of(data)[0] :]


def cut(data: bytes, rng: random.Random) -> bytes:
    return data[: rng.randrange(len(data))]


def longer(data: bytes, rng: random.Random) -> bytes:
    return data + bytes(rng.randrange(1, 100))


def flipped(data: bytes, rng: random.Random) -> bytes:
    """One bit of the header, its length among them."""
    end, _ = header_of(data)
    at = rng.randrange(end)
    return data[:at] + bytes([data[at] ^ 1 << rng.randrange(8)]) + data[at + 1 :]


def lying(data: bytes, rng: random.Random) -> bytes:
    """A shape, a dtype or an offset that is not true."""
    _, header = header_of(data)
    array = header[rng.choice([name for name in header if name != "__metadata__"])]
    key = rng.choice(["shape", "data_offsets", "dtype", "length"])
    if key == "dtype":
        array["dtype"] = rng.choice(
            [x for x in ("F16", "F32", "F64", "I64", "U8", "C64", "F8_E4M3", "x") if x != array["dtype"]]
        )
    elif key == "length":
        return rng.choice([2**63, 2**64 - 1, 2**40, 10**8 + 1, 0, 1]).to_bytes(8, "little") + data[8:]
    else:
        array[key] = rng.choice([[2**62, 2**62], [10**12], [-1], [0, 10**15], [2**64], "x", None, [[0]], [1e300]])
    return with_header(data, header)


def renamed(data: bytes, rng: random.Random) -> bytes:
    """Names that are paths, or anything else."""
    _, header = header_of(data)
    name = rng.choice([name for name in header if name != "__metadata__"])
    others = [
        "../../etc/passwd",
        "/dev/zero",
        "",
        "\0",
        "params['w']" * 1000,
        "__class__",
        "c:\\x",
        "m",
        "params['W']",
        "\ud800",
    ]
    header[rng.choice(others)] = header.pop(name)
    return with_header(data, header)


def forged(data: bytes, rng: random.Random) -> bytes:
    """Metadata with the right checksum that are none of ours."""
    _, header = header_of(data)
    metadata = header["__metadata__"]
    fields = json.loads(metadata["adamod_array"])
    key = rng.choice(["format", "step", "method", "lr", "weight_decay", "dtypes"])
    deep: Any = 1
    for _ in range(400):
        deep = [deep]
    evil = {
        "class": rng.choice(["os.system", "eval", "Schedule", "Method", "State", "__import__"]),
        "fields": {"x": "ls"},
    }
    wrong = [
        None,
        "x",
        -1,
        True,
        [],
        {},
        {"leaves": 3},
        {"leaves": {}},
        evil,
        {"leaves": {"['w']": evil}},
        deep,
        10**400,
    ]
    wrong += [
        {"class": "Adam", "fields": {"beta1": 2}},
        {"class": "AdaMod", "fields": {"beta9": 0.5}},
        {"class": ["Adam"]},
    ]
    wrong += [
        {"class": "product", "fields": {"a": 1, "b": 2}},
        {"class": "join", "fields": {}},
        {"float": "nan"},
        1e999,
    ]
    wrong += [{"class": "AdaMod", "fields": None}, {"class": "untuned_linear", "fields": {"beta2": [0.5]}}]
    fields[key] = rng.choice(wrong)
    if rng.random() < 0.2:
        del fields[key]
    text = json.dumps(fields) if rng.random() < 0.9 else rng.choice(["", "[" * 100_000, "{", "null", '{"format": NaN}'])
    metadata["adamod_array"], metadata["sha256"] = text, hashlib.sha256(text.encode()).hexdigest()
    return with_header(data, header)


def huge(data: bytes, rng: random.Random) -> bytes:
    """Headers that would take seconds and gigabytes to read."""
    size = 8_000_000
    inside = [b"[" * size, b'"a":' + b"[1," * (size // 3), b" " * size]
    inside.append(b",".join(b'"%d":{"dtype":"F32","shape":[],"data_offsets":[0,4]}' % i for i in range(size // 60)))
    text = b"{" + rng.choice(inside) + b"}"
    return struct.pack("<Q", len(text)) + text + data[:1000]


def foreign(data: bytes, rng: random.Random) -> bytes:
    """Files of other programs."""
    import pickle

    from safetensors.numpy import save as plain

    others = [
        pickle.dumps(state_of()),
        b"PK\x03\x04" + bytes(200),
        b"\x89HDF\r\n\x1a\n" + bytes(500),
        b"",
        b"{}",
        bytes(1000),
    ]
    others += [plain({"params['w']": PARAMS["w"]}), plain({"x": np.zeros(1)}, {"format": "pt"})]
    return rng.choice(others)


DAMAGES: dict[Damage, int] = {cut: 30, longer: 5, flipped: 80, lying: 30, renamed: 20, forged: 60, huge: 5, foreign: 10}


def damaged(data: bytes) -> Iterator[tuple[str, bytes]]:
    rng = random.Random(11)
    for damage, count in DAMAGES.items():
        for i in range(count):
            yield f"{damage.__name__} {i}", damage(data, rng)


def test_damaged_files_are_refused_at_once(tmp_path: Path) -> None:
    path = tmp_path / "run"
    save(state_of(), path)
    whole = path.read_bytes()
    assert sum(DAMAGES.values()) >= 200
    for what, data in damaged(whole):
        path.write_bytes(data)
        tracemalloc.start()
        begin = time.perf_counter()
        try:
            with pytest.raises(CheckpointError) as caught:
                load(path, PARAMS)
            peak = tracemalloc.get_traced_memory()[1]
        except pytest.fail.Exception:
            raise AssertionError(f"{what} was loaded") from None
        finally:
            tracemalloc.stop()
        assert str(path) in str(caught.value) and len(str(caught.value)) < 1500, what
        assert time.perf_counter() - begin < 1, what
        assert peak < len(data) + 2**20, (what, peak)
    path.write_bytes(whole)
    assert load(path, PARAMS).step == 0


def test_a_huge_header_is_not_read(tmp_path: Path) -> None:
    """In memory of all of the process: what reads JSON for the library is not Python."""
    path = tmp_path / "run"
    entries = b",".join(b'"%d":{"dtype":"F32","shape":[0],"data_offsets":[0,0]}' % i for i in range(900_000))
    path.write_bytes(struct.pack("<Q", len(entries) + 2) + b"{" + entries + b"}")
    program = (
        "import resource, sys, numpy as np, safetensors\n"
        "from adamod_array.checkpoint import CheckpointError, load\n"
        "before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        "try: load(sys.argv[1], np.zeros(1))\n"
        "except CheckpointError as error: assert 'header' in str(error), error\n"
        "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)\n"
    )
    done = subprocess.run([sys.executable, "-c", program, str(path)], capture_output=True, text=True, check=False)
    assert int(done.stdout) < 5_000, done.stderr  # KiB, for a file of 50 MB


def test_metadata_too_large_to_be_read_are_not_written(tmp_path: Path) -> None:
    path = tmp_path / "run"
    many = schedules.step_decay(tuple(range(200_000)))
    with pytest.raises(CheckpointError, match="header of"):
        save(adam_init(np.zeros(1), lr=many), path)
    some = schedules.step_decay(tuple(range(20_000)))
    save(adam_init(np.zeros(1), lr=some), path)
    assert load(path, np.zeros(1)).lr == some


def test_files_of_other_releases(tmp_path: Path) -> None:
    """Fields that an earlier one did not write have their defaults; a later format is refused in so many words."""
    path = tmp_path / "run"
    save(state_of(beta3=0.5), path)
    whole = path.read_bytes()

    def rewritten(change: Callable[[dict[str, Any]], object]) -> None:
        _, header = header_of(whole)
        fields = json.loads(header["__metadata__"]["adamod_array"])
        change(fields)
        text = json.dumps(fields)
        header["__metadata__"] = {"adamod_array": text, "sha256": hashlib.sha256(text.encode()).hexdigest()}
        path.write_bytes(with_header(whole, header))

    rewritten(lambda fields: (fields["method"]["fields"].pop("hold_idle"), fields.update(new="x")))
    loaded = load(path, PARAMS)
    assert (loaded.method.beta3, loaded.method.hold_idle) == (0.5, False)
    assert load(path, PARAMS, method=loaded.method).method == loaded.method
    rewritten(lambda fields: fields.update(format=3))
    with pytest.raises(CheckpointError, match="of a later release"):
        load(path, PARAMS)
