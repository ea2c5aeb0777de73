"""Compiled kernels on disk: whatever is wrong there costs the time to compile, and nothing of another user's runs."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

import adamod_array
from adamod_array import adam_init, adam_step, engine

pytest.importorskip("numba")

pytestmark = [
    pytest.mark.only("numpy"),
    pytest.mark.slow,
    pytest.mark.skipif(sys.platform == "win32", reason="modes, users and limits are POSIX's"),
]

PACKAGE = Path(adamod_array.__file__).parent
NOBODY = 65534
PROGRAM = """
import numba, numpy as np
from numba.core import event
with event.install_recorder("numba:compile") as compiled:
    import adamod_array as a
    step = a.adam_step(a.adam_init(np.arange(3.0), lr=0.5), np.ones(3), donate=True)
from adamod_array._engines import numba_cache
starts = [each.data["dispatcher"].py_func.__module__ for _, each in compiled.buffer if each.is_start]
count = sum(name.startswith("adamod_array.") for name in starts)
print(step.params.tobytes().hex(), count, numba_cache.status(), sep="\\n")
"""
"""Take a step by four compiled functions; tell its numbers, how many were compiled, and where they are kept."""
FUNCTIONS = 4


@dataclass
class Run:
    """What a process told."""

    compiled: int
    status: str
    errors: str


def steps(
    cache: Path | str | None,
    *,
    prelude: str = "",
    user: int | None = None,
    launcher: Sequence[str] = (),
    options: Sequence[str] = ("-W", "error"),
    cwd: Path | None = None,
    **environment: str | None,
) -> Run:
    """Run the program in a process of its own, and hold it to the numbers of the rule."""
    changes = {"ADAMOD_ARRAY_CACHE": None if cache is None else str(cache), "XDG_CACHE_HOME": None, **environment}
    inherited = {name: value for name, value in os.environ.items() if name not in changes}
    command = [*launcher, *as_user(user), sys.executable, *options, "-c", prelude + PROGRAM]
    env = inherited | {name: value for name, value in changes.items() if value is not None}
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=env, cwd=cwd, timeout=300)
    assert done.returncode == 0, done.stderr
    bits, compiled, status = done.stdout.splitlines()
    with engine("eager"):
        assert bits == adam_step(adam_init(np.arange(3.0), lr=0.5), np.ones(3)).params.tobytes().hex()
    return Run(int(compiled), status, done.stderr)


def as_user(user: int | None) -> list[str]:
    """Read everything, so that this interpreter is found, and write like that user."""
    if user is None:
        return []
    if os.geteuid() or shutil.which("setpriv") is None:
        pytest.skip("to be another user takes root, and setpriv of util-linux")
    ids = ["--reuid", str(user), "--regid", str(NOBODY), "--clear-groups"]
    return ["setpriv", *ids, "--inh-caps", "+dac_read_search", "--ambient-caps", "+dac_read_search"]


def give(path: Path, user: int) -> None:
    """Let another user own a folder and what is in it."""
    if os.geteuid():
        pytest.skip("to give files away takes root")
    for each in (path, *path.rglob("*")):
        os.chown(each, user, user, follow_symlinks=False)


def drafts(folder: Path) -> list[Path]:
    """Files that were not finished."""
    return [path for path in folder.iterdir() if path.suffix != ".bin"]


@pytest.fixture(scope="module")
def filled_once(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("filled") / "cache"
    assert steps(folder).compiled == FUNCTIONS
    return folder


@pytest.fixture
def filled(filled_once: Path, tmp_path: Path) -> Path:
    """A folder with all that the program compiles."""
    return Path(shutil.copytree(filled_once, tmp_path / "filled"))


# what is kept


def test_the_next_process_compiles_nothing_and_writes_nothing(filled: Path) -> None:
    files = {path: path.stat() for path in filled.iterdir()}
    assert len(files) == FUNCTIONS
    assert filled.stat().st_mode & 0o777 == 0o700
    assert {info.st_mode & 0o777 for info in files.values()} == {0o600}
    run = steps(filled)
    assert (run.compiled, run.status, run.errors) == (0, str(filled), "")
    assert {path: path.stat().st_ino for path in filled.iterdir()} == {path: x.st_ino for path, x in files.items()}


def test_the_folder_s_name_is_expanded(filled: Path) -> None:
    for name in ("~/filled", "$HOME/filled", "${HOME}/filled", "$PARENT/filled"):
        run = steps(name, HOME=str(filled.parent), PARENT=str(filled.parent))
        assert (run.compiled, run.status) == (0, str(filled))


def test_the_default_folder_is_the_user_s(filled: Path) -> None:
    if sys.platform != "linux":
        pytest.skip("platformdirs has other folders there")
    (filled.parent / ".cache").mkdir()
    folder = filled.rename(filled.parent / ".cache" / "adamod_array")
    assert steps(None, HOME=str(filled.parent)).compiled == 0
    run = steps(None, HOME="/nowhere", XDG_CACHE_HOME=str(folder.parent))
    assert (run.compiled, run.status) == (0, str(folder))


def test_another_processor_has_files_of_its_own(filled: Path) -> None:
    """A home may be shared by machines."""
    for expected in (FUNCTIONS, 0):
        assert steps(filled, NUMBA_CPU_NAME="generic", NUMBA_CPU_FEATURES="").compiled == expected
        assert len(list(filled.iterdir())) == 2 * FUNCTIONS
    assert steps(filled).compiled == 0


def test_processes_may_write_at_the_same_time(tmp_path: Path) -> None:
    with ThreadPoolExecutor(4) as pool:
        for run in pool.map(lambda _: steps(tmp_path / "cache"), range(4)):
            assert run.errors == ""
    assert not drafts(tmp_path / "cache")
    assert steps(tmp_path / "cache").compiled == 0


def test_threads_may_compile_at_the_same_time(tmp_path: Path) -> None:
    prelude = (
        "import threading, numpy as np, adamod_array as a\n"
        "def step(n):\n"
        "    a.adam_step(a.adam_init(np.zeros(n, [np.float32, np.float64][n % 2])), np.ones(n))\n"
        "threads = [threading.Thread(target=step, args=(n,)) for n in range(6)]\n"
        "for each in threads: each.start()\n"
        "for each in threads: each.join()\n"
    )
    assert steps(tmp_path / "cache", prelude=prelude).errors == ""
    assert not drafts(tmp_path / "cache")
    assert steps(tmp_path / "cache").compiled == 0


# files that are not what they were


def flipped(data: bytes, bit: int) -> bytes:
    """The data with one other bit."""
    return (int.from_bytes(data, "little") ^ 1 << bit).to_bytes(len(data), "little")


def rewrite(change: Callable[[bytes], bytes]) -> Callable[[Path], object]:
    """Other content."""
    return lambda path: path.write_bytes(change(path.read_bytes()))


def instead(make: Callable[[Path], object]) -> Callable[[Path], object]:
    """Something else of the file's name; the file is moved out of the folder."""

    def replace(path: Path) -> None:
        path.rename(path.parent.parent / path.name)
        make(path)

    return replace


DAMAGES: dict[str, Callable[[Path], object]] = {
    "empty": rewrite(lambda data: b""),
    "truncated": rewrite(lambda data: data[: len(data) // 2]),
    "a byte short": rewrite(lambda data: data[:-1]),
    "a byte more": rewrite(lambda data: data + b"\0"),
    "a checksum alone": rewrite(lambda data: data[:32]),
    "zeros": rewrite(lambda data: bytes(len(data))),
    "garbage": rewrite(lambda data: os.urandom(len(data))),
    "the first bit flipped": rewrite(lambda data: flipped(data, 0)),
    "a bit of the pickle flipped": rewrite(lambda data: flipped(data, 8 * 40)),
    "a bit of the code flipped": rewrite(lambda data: flipped(data, 4 * len(data))),
    "the last bit flipped": rewrite(lambda data: flipped(data, 8 * len(data) - 1)),
    "a pipe": instead(os.mkfifo),
    "a link to the file": instead(lambda path: path.symlink_to(path.parent.parent / path.name)),
    "a link to nothing": instead(lambda path: path.symlink_to("nothing")),
    "a link to itself": instead(lambda path: path.symlink_to(path.name)),
    "unreadable": lambda path: path.chmod(0) if os.geteuid() else path.unlink(),  # root would read it
    "a folder": instead(Path.mkdir),
}
TRIPLES = [tuple(DAMAGES)[i : i + FUNCTIONS] for i in range(0, len(DAMAGES), FUNCTIONS)]
"""One for each file: a process takes seconds."""


@pytest.mark.parametrize("damages", TRIPLES, ids=", ".join)
def test_damaged_files_are_written_anew(damages: tuple[str, ...], filled: Path) -> None:
    paths = sorted(filled.iterdir())[: len(damages)]
    for name, path in zip(damages, paths, strict=True):
        DAMAGES[name](path)
    for expected in (len(damages), "a folder" in damages):  # which cannot be replaced
        run = steps(filled)
        assert (run.compiled, run.errors) == (expected, "")
        assert run.status.startswith(str(filled))
    assert not drafts(filled)
    assert len(list(filled.iterdir())) == FUNCTIONS


def test_a_file_under_another_s_name_is_not_loaded(filled: Path) -> None:
    """Machine code of the same version and processor, sound, of another function."""
    files = sorted(filled.iterdir())
    contents = [path.read_bytes() for path in files]
    for path, content in zip(files, [*contents[1:], contents[0]], strict=True):
        path.write_bytes(content)
    assert [steps(filled).compiled for _ in range(2)] == [FUNCTIONS, 0]


def test_a_process_that_dies_while_it_writes_leaves_nothing_that_is_read(tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    prelude = (
        "import os\nfrom adamod_array._engines.numba_cache import _Folder\n_Folder.rename = lambda *_: os._exit(9)\n"
    )
    with pytest.raises(AssertionError):
        steps(cache, prelude=prelude)
    assert len(drafts(cache)) == 1
    assert [steps(cache).compiled for _ in range(2)] == [FUNCTIONS, 0]


# machines without a place for files


def no_home(tmp_path: Path) -> Run:
    return steps(None, user=54321, HOME=None)


def relative_home(tmp_path: Path) -> Run:
    return steps(None, user=54321, HOME="home", cwd=tmp_path)


def read_only_home(tmp_path: Path) -> Run:
    return steps(None, user=NOBODY, HOME=str(tmp_path))


def missing_home(tmp_path: Path) -> Run:
    return steps(None, HOME="/proc/nowhere/home")


def home_is_a_file(tmp_path: Path) -> Run:
    (tmp_path / "home").touch()
    return steps(None, HOME=str(tmp_path / "home"))


def folder_is_a_file(tmp_path: Path) -> Run:
    (tmp_path / "cache").touch()
    return steps(tmp_path / "cache")


def long_name(tmp_path: Path) -> Run:
    return steps(tmp_path / ("x" * 300))


def long_path(tmp_path: Path) -> Run:
    return steps(tmp_path.joinpath(*["x" * 200] * 30))


def unset_variable(tmp_path: Path) -> Run:
    run = steps("$NOWHERE/cache", cwd=tmp_path)
    assert not list(tmp_path.iterdir())
    return run


def unknown_user(tmp_path: Path) -> Run:
    return steps("~nobody_of_that_name/cache", cwd=tmp_path)


def no_platformdirs(tmp_path: Path) -> Run:
    return steps(None, prelude="import sys\nsys.modules['platformdirs'] = None\n")


def no_working_directory(tmp_path: Path) -> Run:
    gone = tmp_path / "gone"
    gone.mkdir()
    leave = f"os.chdir({str(gone)!r}); os.rmdir({str(gone)!r})\n"
    return steps("cache", prelude=f"import os, numba; {leave}")  # whose import may need one: coverage's does


def full_disk(tmp_path: Path) -> Run:
    """A file system of 16 KiB: each file is begun, and none fits."""
    mount = ["unshare", "--mount", "sh", "-c", f'mount -t tmpfs -o size=16k none "{tmp_path}" && exec "$0" "$@"']
    if subprocess.run([*mount, "true"], capture_output=True, check=False).returncode:
        pytest.skip("to mount a file system takes root")
    return steps(tmp_path / "cache", launcher=mount)


def limited_files(tmp_path: Path, size: int = 20_000) -> Run:
    limit = f"import resource\nresource.setrlimit(resource.RLIMIT_FSIZE, ({size}, {size}))\n"
    run = steps(tmp_path / "cache", prelude=limit)
    assert not list((tmp_path / "cache").iterdir())
    return run


def no_files_at_all(tmp_path: Path) -> Run:
    return limited_files(tmp_path, 0)


def no_source(tmp_path: Path) -> Run:
    """The package as bytecode alone."""
    package = tmp_path / "adamod_array"
    command = "import compileall, sys; sys.exit(not compileall.compile_dir(sys.argv[1], quiet=1, legacy=True))"
    shutil.copytree(PACKAGE, package, ignore=shutil.ignore_patterns("__pycache__"))
    subprocess.run([sys.executable, "-c", command, str(package)], check=True)
    for path in package.rglob("*.py"):
        path.unlink()
    run = steps(tmp_path / "cache", PYTHONPATH=str(tmp_path), cwd=tmp_path)
    assert not (tmp_path / "cache").exists()
    return run


MACHINES: dict[Callable[[Path], Run], str] = {
    no_home: "home",
    relative_home: "home",
    read_only_home: "PermissionError",
    missing_home: "FileNotFoundError",
    home_is_a_file: "NotADirectoryError",
    folder_is_a_file: "NotADirectoryError",
    long_name: "File name too long",
    long_path: "File name too long",
    unset_variable: "$NOWHERE/cache names a variable that is not set",
    unknown_user: "home",
    no_platformdirs: "platformdirs is not installed",
    no_working_directory: "FileNotFoundError",
    full_disk: "No space left on device",
    limited_files: "File too large",
    no_files_at_all: "File too large",
    no_source: "source cannot be read",
}
"""And what the status says of them."""


@pytest.mark.parametrize("machine", MACHINES, ids=lambda machine: machine.__name__)
def test_a_machine_without_a_place_for_files_steps(machine: Callable[[Path], Run], tmp_path: Path) -> None:
    run = machine(tmp_path)
    assert (run.compiled, run.errors) == (FUNCTIONS, "")
    assert MACHINES[machine] in run.status


def test_a_package_in_an_archive_keeps_its_kernels(tmp_path: Path) -> None:
    archive = tmp_path / "package.zip"
    with zipfile.ZipFile(archive, "w") as file:
        for path in PACKAGE.rglob("*.py"):
            file.write(path, path.relative_to(PACKAGE.parent))
    prelude = f"import adamod_array\nassert adamod_array.__file__.startswith({str(archive)!r})\n"
    for expected in (FUNCTIONS, 0):
        run = steps(tmp_path / "cache", prelude=prelude, PYTHONPATH=str(archive), cwd=tmp_path)
        assert (run.compiled, run.errors) == (expected, "")


def test_a_read_only_folder_is_read(filled: Path) -> None:
    """Filled by root for everybody, or by a user who then locks it; what is new is compiled each time."""
    new = "import numpy as np, adamod_array as a\na.adam_step(a.adam_init(np.zeros(3, 'f4')), np.ones(3, 'f4'))\n"
    for owner in (0, NOBODY):
        give(filled, owner)
        filled.chmod(0o555)
        for path in filled.iterdir():
            path.chmod(0o444)
        run = steps(filled, user=NOBODY)
        assert (run.compiled, run.status, run.errors) == (0, str(filled), "")
        run = steps(filled, prelude=new, user=NOBODY)
        assert run.errors == ""
        assert run.status.startswith(f"{filled} (PermissionError: ")
        assert len(list(filled.iterdir())) == FUNCTIONS


def test_every_private_name_of_numba_may_be_missing(filled: Path) -> None:
    """Or Numba ask for more than it is given: the cache is lost, and no step."""
    new = filled.with_name("new")
    for cache, module, name in (
        (new, "numba.core.compiler", "CompileResult._reduce"),
        (filled, "numba.core.compiler", "CompileResult._rebuild"),
        (filled, "numba.core.codegen", "CPUCodegen.magic_tuple"),
        (new, "numba.core.codegen", "CodeLibrary.has_dynamic_globals"),
        (filled, "adamod_array._engines.numba_cache", "_Cache.load_overload"),
        (new, "adamod_array._engines.numba_cache", "_Cache.save_overload"),
    ):
        run = steps(cache, prelude=f"import {module}\ndel {module}.{name}\n")
        assert run.errors == "" and run.compiled >= FUNCTIONS, name
        assert name.rpartition(".")[2] in run.status, name
        assert not new.exists()


# what another user could have written


PLANT = """
import os
from numba.core.compiler import CompileResult
class Plant:
    def __reduce__(self):
        return os.makedirs, ("marker", 0o777, True)
CompileResult._reduce = lambda _: Plant()
"""
"""Keep, as sound files with their checksums, pickles that make a folder where they are loaded."""


@pytest.fixture(scope="module")
def planted_once(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("planted") / "cache"
    assert steps(folder, prelude=PLANT).compiled == FUNCTIONS
    return folder


@pytest.fixture
def planted(planted_once: Path, tmp_path: Path) -> Path:
    """A folder with such a pickle for all that the program compiles, where everybody may rename it."""
    tmp_path.chmod(0o777)
    return Path(shutil.copytree(planted_once, tmp_path / "cache"))


def test_a_plant_would_run(planted: Path, tmp_path: Path) -> None:
    """The tests below can fail: in the user's own folder it does, and costs no step."""
    assert steps(planted, cwd=tmp_path).compiled == FUNCTIONS
    assert (tmp_path / "marker").exists()


def foreign_folder(cache: Path) -> None:
    give(cache, NOBODY)


def foreign_files(cache: Path) -> None:
    give(cache, NOBODY)
    os.chown(cache, os.geteuid(), -1)


def swapped_folder(cache: Path) -> None:
    """Another user moves the folder away, as a parent that all may write allows, and puts another there."""
    foreign = Path(shutil.copytree(cache, cache.with_name("foreign")))
    give(foreign, NOBODY)
    shutil.rmtree(cache)
    foreign.rename(cache)


def linked_folder(cache: Path) -> None:
    give(cache, NOBODY)
    cache.symlink_to(cache.rename(cache.with_name("elsewhere")))


def folder_of_a_group(cache: Path) -> None:
    cache.chmod(0o770)


def folder_of_others(cache: Path) -> None:
    cache.chmod(0o702)


def folder_of_all(cache: Path) -> None:
    cache.chmod(0o777)


def sticky_folder(cache: Path) -> None:
    cache.chmod(0o1777)


def files_of_all(cache: Path) -> None:
    for path in cache.iterdir():
        path.chmod(0o666)


FOLDERS = [
    foreign_folder,
    swapped_folder,
    linked_folder,
    folder_of_a_group,
    folder_of_others,
    folder_of_all,
    sticky_folder,
]


@pytest.mark.parametrize("way", FOLDERS, ids=lambda way: way.__name__)
def test_a_folder_that_another_user_could_write_is_not_used(
    way: Callable[[Path], None], planted: Path, tmp_path: Path
) -> None:
    way(planted)
    files = {path: path.read_bytes() for path in planted.iterdir()}
    run = steps(planted, options=(), cwd=tmp_path)
    assert run.compiled == FUNCTIONS
    assert run.errors.count("RuntimeWarning: compiled kernels are not kept on disk") == 1
    assert run.status.startswith("not kept on disk: ")
    assert "another user" in run.status or "others can write" in run.status
    assert {path: path.read_bytes() for path in planted.iterdir()} == files
    assert not (tmp_path / "marker").exists()


@pytest.mark.parametrize("way", [foreign_files, files_of_all], ids=lambda way: way.__name__)
def test_files_that_another_user_could_write_are_replaced(
    way: Callable[[Path], None], planted: Path, tmp_path: Path
) -> None:
    way(planted)
    run = steps(planted, options=(), cwd=tmp_path)
    assert run.compiled == FUNCTIONS
    assert run.status.startswith(str(planted))
    assert "RuntimeWarning: compiled kernels are not kept on disk" in run.errors
    assert steps(planted, cwd=tmp_path).compiled == 0
    assert {path.stat().st_uid for path in planted.iterdir()} == {os.geteuid()}
    assert not (tmp_path / "marker").exists()


def test_where_warnings_are_errors_the_step_is_taken(planted: Path, tmp_path: Path) -> None:
    planted.chmod(0o777)
    run = steps(planted, options=("-W", "error"), cwd=tmp_path)
    assert (run.compiled, run.errors) == (FUNCTIONS, "")
    assert "others can write" in run.status


def test_root_reads_no_user_s_folder_and_a_user_no_other_s(filled: Path) -> None:
    give(filled, NOBODY)
    assert "another user" in steps(filled, options=()).status
    assert steps(filled, user=NOBODY).compiled == 0
    assert "another user" in steps(filled, user=54321, options=()).status
