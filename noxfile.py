"""What a contributor must pass: ``nox``. One session: ``nox -s lint``; its list: ``nox --list``.

The matrix of ``tests`` is backends/*.toml; pyproject.toml holds every other requirement.
"""

from __future__ import annotations

import sys

if sys.version_info < (3, 11):  # noqa: UP036 - nox may run on an older one
    sys.exit(
        f"adamod_array needs Python 3.11 or later, and this nox runs on {sys.version.split()[0]}: make .venv anew by"
        " a later one, as in `python3.13 -m venv --without-pip .venv && python3.13 -m pip --python .venv install nox`."
    )

import functools
import os
import platform
import shutil
import subprocess
import tomllib
import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import nox
from nox.project import dependency_groups, load_toml
from packaging.requirements import Requirement

nox.needs_version = ">=2025.10.14"
nox.options.default_venv_backend = "virtualenv"
nox.options.reuse_venv = "yes"
nox.options.download_python = "never"

ROOT = Path(__file__).parent
PROJECT = load_toml("pyproject.toml")
BACKENDS = {path.stem: tomllib.loads(path.read_text()) for path in sorted(ROOT.glob("backends/*.toml"))}
HERE = f"{sys.version_info.major}.{sys.version_info.minor}"
PYTHON = "3.11" if shutil.which("python3.11") else HERE
"""The Python of every session that names no other: 3.11, where CPU builds of every pin exist."""


def group(name: str) -> list[str]:
    """One of pyproject.toml's dependency groups."""
    return list(dependency_groups(PROJECT, name))


def requirements(*backends: str) -> list[str]:
    """What these backends are tested with."""
    return sorted({requirement for name in backends for requirement in BACKENDS[name]["requirements"]})


def install(session: nox.Session, *packages: str, into: Path | None = None) -> None:
    """Install the checkout, editable, and these packages: PyTorch before anything that depends on it.

    Its pin, alone, takes the CPU build where one is offered; asked for again, it keeps the others
    from taking another.
    """
    pip: Callable[..., Any] = session.install
    if into is not None:
        pip = functools.partial(session.run_install, str(into / "python"), "-m", "pip", "install", external=True)
    torch = [package for package in packages if Requirement(package).name == "torch"]
    if torch:
        pip(*torch)
    pip("--editable", ".", *packages)


def frameworks(session: nox.Session, *packages: str) -> Callable[..., None]:
    """Install into the one environment of all sessions that need several frameworks; returns what runs a command there.

    One for each of them would take gigabytes, and a minute of every run.
    """
    folder = ROOT / ".nox" / "frameworks"
    programs = folder / ("Scripts" if sys.platform == "win32" else "bin")
    if not programs.exists():
        session.run_install(sys.executable, "-m", "virtualenv", "--python", PYTHON, str(folder), external=True)
    install(session, *packages, into=programs)

    def run(program: str, *arguments: str, **options: Any) -> None:
        session.run(str(programs / program), *arguments, external=True, **options)

    return run


FAST, SLOW, ALL = ("--slow", "no"), ("--slow", "only"), ("--slow", "also")
"""Which tests pytest takes: of plain nox, those that it leaves out, or both."""


PARALLEL = ("-n", "2", "--dist", "worksteal")
"""Two tests at a time: most of their time is compilers', and machines have two cores or more."""


COVER = ("--cov", "--cov-report=", "--cov-fail-under=0")
"""Leave coverage for the session ``coverage`` to judge."""


def coverage_file(name: str) -> Path:
    """Where one session of ``tests`` leaves its coverage."""
    return ROOT / f".coverage.{name}"


def has_gpu() -> bool:
    """Whether an NVIDIA device is here."""
    if Path("/dev/nvidia0").exists():
        return True
    tool = shutil.which("nvidia-smi")
    return tool is not None and b"GPU" in subprocess.run([tool, "-L"], capture_output=True, check=False).stdout


def needs_gpu(session: nox.Session) -> None:
    """Skip the session, in one line, where there is none."""
    if not has_gpu():
        session.skip("it needs an NVIDIA GPU, and there is none here")


def stand_ins(*backends: str) -> tuple[str, ...]:
    """The plugins, in backends/, that run these backends' tests where their devices are missing."""
    names = tuple(name for each in backends if (name := BACKENDS[each]["stand_in"]))
    return () if has_gpu() else names


HOST = sys.platform == "linux" and platform.machine() == "x86_64" and shutil.which("g++") is not None
"""What cupy_on_cpu needs."""


def runs_here(backend: str) -> bool:
    """Whether its device, or what takes to stand in for it, is here."""
    return HOST or not stand_ins(backend)


CPU = [name for name, table in BACKENDS.items() if "cpu" in table["tags"] and runs_here(name)]


def options(plugins: Sequence[str]) -> list[str]:
    """Have pytest load the plugins."""
    return [option for name in plugins for option in ("-p", name)]


def environment(plugins: Sequence[str]) -> dict[str, str]:
    """Where the plugins are; of CuPy's devices, two."""
    return {"PYTHONPATH": str(ROOT / "backends"), "CUPY_ON_CPU_DEVICES": "2"} if plugins else {}


@nox.session(python=PYTHON, tags=["static"])
def lint(session: nox.Session) -> None:
    """Check style and formatting with ruff (``nox -s lint -- --fix`` mends what it can)."""
    session.install(*group("lint"))
    session.run("ruff", "check", *session.posargs)
    session.run("ruff", "format", *([] if "--fix" in session.posargs else ["--check"]))


@nox.session(python=PYTHON, tags=["static"])
def types(session: nox.Session) -> None:
    """Check the types of package, tests and noxfile with mypy, strictly."""
    install(session, *group("types"))
    session.run("mypy", *session.posargs)


MATRIX = [
    nox.param(python, name, False, id=name if python == PYTHON else f"{name}-{python}", tags=table["tags"])
    for name, table in BACKENDS.items()
    for python in dict.fromkeys([PYTHON, *table["pythons"]])
] + [nox.param(PYTHON, name, True, id=f"{name}-cuda", tags=["cuda"]) for name in BACKENDS if BACKENDS[name]["cuda"]]


@nox.session
@nox.parametrize("python,backend,gpu", MATRIX)
def tests(session: nox.Session, backend: str, gpu: bool) -> None:
    """Test one backend in an environment that holds no other: ``nox -s 'tests(torch)' -- -k warmup``."""
    if gpu:
        needs_gpu(session)
        install(session, *BACKENDS[backend]["cuda"]["requirements"], *group("test"))
        session.run("pytest", "tests", "--backend", backend, "--gpu", *session.posargs)
        return
    if not runs_here(backend):
        session.skip(f"{BACKENDS[backend]['title']} needs an NVIDIA GPU, or Linux on x86-64 and g++ to do without")
    install(session, *requirements(backend), *group("test"))
    plugins = stand_ins(backend)
    suffix = backend if session.python == PYTHON else f"{backend}-{session.python}"
    chosen = tuple(session.posargs) or FAST
    if chosen not in (FAST, ALL):
        suffix += "-some"  # no coverage to judge
    env = {"COVERAGE_FILE": str(coverage_file(suffix)), **environment(plugins)}
    folders = ["tests", *(f"backends/{name}/tests" for name in plugins)]
    codes = [0, 5] if chosen == SLOW else [0]  # 5: nothing is slow here
    command = ("pytest", *options(plugins), *folders, *PARALLEL, *COVER, "--backend", backend, *chosen)
    session.run(*command, env=env, success_codes=codes)


@nox.session(python=PYTHON)
def coverage(session: nox.Session) -> None:
    """Report the lines that the tests of all backends and those beside peers reached; below 95 % it fails."""
    found = [path for name in (*BACKENDS, "exact", "peers") if (path := coverage_file(name)).exists()]
    if not found:
        session.error("no coverage to report: run nox -s tests first")
    session.install(*(package for package in group("test") if Requirement(package).name == "coverage"))
    env = {"COVERAGE_FILE": str(ROOT / ".coverage")}
    session.run("coverage", "combine", "--keep", *map(str, found), env=env)
    session.run("coverage", "report", *session.posargs, env=env)


@nox.session(venv_backend="none", tags=["cpu"])
def agree(session: nox.Session) -> None:
    """Hold every method, dtype and CPU backend to a 50-digit oracle and to each other; print the table of ulps."""
    run = frameworks(session, *requirements(*CPU), *group("test"))
    plugins = stand_ins(*CPU)
    run("pytest", *options(plugins), "tests/agree", *PARALLEL, *session.posargs, env=environment(plugins))


@nox.session(venv_backend="none", tags=["cpu"])
def agree_exact(session: nox.Session) -> None:
    """Take a thousand steps of every method on every CPU backend and engine: not one bit may differ."""
    run = frameworks(session, *requirements(*CPU), *group("test"))
    plugins = stand_ins(*CPU)
    chosen, suffix = (session.posargs, "exact-some") if session.posargs else (FAST, "exact")
    env = {"COVERAGE_FILE": str(coverage_file(suffix)), **environment(plugins)}
    run("pytest", *options(plugins), "tests/exact", *PARALLEL, *COVER, *chosen, env=env)


@nox.session(venv_backend="none", default=False, tags=["cpu"])
def kernels(session: nox.Session) -> None:
    """Take JAX's tests of steps where Numba is installed too, so that XLA calls its kernels."""
    run = frameworks(session, *requirements("numpy", "jax"), *group("test"))
    names = (
        "broken_machine",
        "changed",
        "donate",
        "hold",
        "jax_bits",
        "jax_faults",
        "jax_kernel",
        "jax_plan",
        "jax_read",
        "step",
        "where",
    )
    run("pytest", *(f"tests/test_{name}.py" for name in names), *PARALLEL, "--backend", "jax", *session.posargs)


@nox.session(venv_backend="none", default=False, tags=["cpu"])
def mutants(session: nox.Session) -> None:
    """Plant mistakes in the core, one in each copy of the checkout, and see the tests that concern them fail."""
    run = frameworks(session, *requirements(*CPU), *group("test"), *group("peers"))
    run("pytest", "tests/mutants", *PARALLEL, *session.posargs)


@nox.session(python=PYTHON, default=False, tags=["cpu"])
def cuda_compile(session: nox.Session) -> None:
    """Compile CuPy's kernels for GPUs, without one, and look at what they do; plant mistakes and see them found."""
    if not HOST:
        session.skip("what CuPy compiles is captured by CuPy on the CPU, which needs Linux on x86-64 and g++")
    install(session, *requirements("cupy"), *group("test"), *group("cuda"))
    if session.posargs:
        session.run("pytest", "tests/cuda", *session.posargs)
    else:
        session.run("pytest", "tests/cuda", "--ignore=tests/cuda/test_mutants.py")
        session.run("pytest", "tests/cuda/test_mutants.py", *PARALLEL)


@nox.session(venv_backend="none", tags=["cpu"])
def peers(session: nox.Session) -> None:
    """Compare with the optimizers of PyTorch, optax, the authors and others, in float64; save states by their hosts."""
    run = frameworks(session, *requirements("torch", "jax"), *group("test"), *group("peers"))
    env = {"COVERAGE_FILE": str(coverage_file("peers"))}
    run("pytest", "tests/peers", *PARALLEL, *COVER, *session.posargs, env=env)
    for backend in ("numpy", "jax"):  # the blocks that need these packages
        run("pytest", "tests/test_docs.py", "-k", "block_runs and checkpoints", "--backend", backend)


@nox.session(venv_backend="none", tags=["cpu"])
def torch_suite(session: nox.Session) -> None:
    """Take what PyTorch's wheel ships to test its optimizers with over this package's."""
    run = frameworks(session, *requirements("torch"), *group("test"), *group("torch_suite"))
    run("pytest", "tests/torch_suite", *PARALLEL, *session.posargs)


@nox.session(venv_backend="none", tags=["cpu"])
@nox.parametrize("backend", [nox.param(name, id=name) for name in ("torch", "jax", "dask")])
def scale(session: nox.Session, backend: str) -> None:
    """Step arrays that devices and processes on this machine share: DTensors, JAX's on meshes, Dask's chunks."""
    run = frameworks(session, *requirements("numpy", backend), *group("test"), *group("scale"))
    own = sorted(map(str, ROOT.glob(f"tests/scale/test_{backend}*.py")))
    bounded = (
        "-o",
        "faulthandler_timeout=600",
        "-o",
        "faulthandler_exit_on_timeout=true",
    )  # processes may wait for ever
    run("pytest", *own, *bounded, "--backend", backend, *session.posargs)


@nox.session(python=PYTHON, default=False, tags=["cpu"])
def hosts(session: nox.Session) -> None:
    """Train by Lightning, transformers and accelerate with this package's optimizers; kill them, and resume."""
    install(session, *requirements("torch"), *group("test"), *group("hosts"))
    session.run("pytest", "tests/hosts", *PARALLEL, *session.posargs)


@nox.session(python=PYTHON, default=False, tags=["cpu"])
def minimums(session: nox.Session) -> None:
    """Run NumPy's tests, and JAX's own, on the lowest releases that pyproject.toml allows, and without Numba."""
    project = PROJECT["project"]
    lowest = {}
    for text in [*project["dependencies"], *project["optional-dependencies"]["jax"]]:
        requirement = Requirement(text)
        (bound,) = requirement.specifier
        if bound.operator != ">=":
            session.error(f"{text} has no lower bound")
        lowest[requirement.name] = f"{requirement.name}=={bound.version}"
    others = [text for text in requirements("numpy", "jax") if Requirement(text).name not in {*lowest, "numba"}]
    install(session, *lowest.values(), *others, *group("test"))
    session.run("pytest", "tests", *PARALLEL, "--backend", "numpy", *session.posargs)
    session.run("pytest", "tests/test_jax.py", "tests/test_step.py", *PARALLEL, "--backend", "jax", *session.posargs)


BUILT = ROOT / "docs" / "_build" / "html"


def build_pages(session: nox.Session, *packages: str) -> Callable[..., None]:
    """Build the pages anew, with warnings as errors, where the frameworks are whose front doors they document."""
    groups = [*group("test"), *group("docs"), *group("peers")]
    run = frameworks(session, *requirements("numpy", "torch", "jax", "dask"), *groups, *packages)
    shutil.rmtree(BUILT, ignore_errors=True)  # a page built before hides the warnings of today
    run("sphinx-build", "-W", "--keep-going", "-b", "html", "docs", str(BUILT))
    return run


@nox.session(venv_backend="none")
def docs(session: nox.Session) -> None:
    """Build docs/_build/html, with warnings as errors, look at the pages, and run the examples of the docstrings.

    The examples of README.md and docs/*.md run in ``tests``, each on the backend that it imports.
    """
    run = build_pages(session)
    run("pytest", "tests/pages/test_built.py")
    # a kernel's file needs its compiler, which may not be here
    run("pytest", "--doctest-modules", "--doctest-ignore-import-errors", *PARALLEL, "adamod_array")


CHROMIUM = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
"""What it is called by those who pack it."""


@nox.session(venv_backend="none", default=False)
def docs_look(session: nox.Session) -> None:
    """See every page in Chromium, wide and narrow: nothing is fetched or sticks out; pictures in docs/_build/look."""
    chromium = os.environ.get("CHROMIUM") or next(filter(None, map(shutil.which, CHROMIUM)), None)
    if chromium is None:
        session.skip("it needs Chromium (apt-get install chromium), or in CHROMIUM the path of a Chrome or Edge")
    run = build_pages(session, *group("look"))
    run("pytest", "-v", "tests/pages/test_look.py", *session.posargs, env={"CHROMIUM": chromium})


@nox.session(venv_backend="none", default=False)
def demo(session: nox.Session) -> None:
    """Train a classifier of handwritten digits on three frameworks, draw demo.png; then run the example, small."""
    run = frameworks(session, *requirements("numpy", "torch", "jax"), *group("demo"))
    run("python", "docs/demo/demo.py", *session.posargs, env={"MPLBACKEND": "agg"})
    small = ("--size", "32", "--steps", "50", "--output", str(Path(session.create_tmp()) / "recovered.png"))
    run("python", "docs/examples/recover.py", *small, env={"MPLBACKEND": "agg"})


@nox.session(venv_backend="none", default=False)
def examples(session: nox.Session) -> None:
    """Recover an image and a complex field by gradient steps on NumPy's arrays (``-- --backend cupy``: on a GPU's)."""
    run = frameworks(session, *requirements("numpy", *(["cupy"] if "cupy" in session.posargs else [])), *group("demo"))
    run("python", "docs/examples/recover.py", *session.posargs, env={"MPLBACKEND": "agg"})


REPRODUCED = ("numpy", "torch", "jax", *(["cupy"] if HOST else []))
"""What the papers' experiments run on; CuPy on the CPU."""


@nox.session(venv_backend="none", default=False)
def reproduce(session: nox.Session) -> None:
    """Run the papers' experiments; writes docs/reproduction/results* (``-- NAME``: one; ``-- --quick``: in small)."""
    run = frameworks(session, *requirements(*REPRODUCED), *group("demo"))
    run("python", "-m", "reproduction", *session.posargs, env={"MPLBACKEND": "agg"})


@nox.session(venv_backend="none")
def reproduce_quick(session: nox.Session) -> None:
    """Run the papers' experiments in small, for their checks, and the tests of what runs them."""
    run = frameworks(session, *requirements(*REPRODUCED), *group("demo"), *group("test"))
    run("pytest", "tests/reproduction")
    run("python", "-m", "reproduction", "--quick", *session.posargs, env={"MPLBACKEND": "agg"})


@nox.session(venv_backend="none", default=False)
def bench(session: nox.Session) -> None:
    """Time steps against the machine's memory and against peers; writes docs/performance* (``-- --quick``: 2 min).

    ``nox -s bench -- pytest -k RAdam``: one contender at a time, by pytest-benchmark.
    """
    run = frameworks(session, *requirements("numpy", "torch", "jax"), *group("bench"))
    command, *rest = [*session.posargs, ""]
    if command == "pytest":
        run("pytest", "benchmarks", *rest[:-1])
    else:
        run("python", "-m", "benchmarks", *session.posargs, env={"MPLBACKEND": "agg"})


@nox.session(python=PYTHON, default=False, tags=["cuda"])
def bench_cuda(session: nox.Session) -> None:
    """Time steps on a GPU against the bandwidth of its own copies and against peers (``-- --quick``: small sizes)."""
    needs_gpu(session)
    frameworks = {
        name: BACKENDS[name]["cuda"].get("requirements", requirements(name)) for name in ("torch", "jax", "cupy")
    }
    install(session, *(each for pins in frameworks.values() for each in pins), *group("bench"))
    env = {"XLA_PYTHON_CLIENT_PREALLOCATE": "false"}  # JAX would take most of the memory for itself
    session.run("python", "-m", "benchmarks.gpu", *session.posargs, env=env)


@nox.session(python=PYTHON)
def build(session: nox.Session) -> None:
    """Build wheel and sdist, check what is in them, and use the wheel from elsewhere."""
    session.install(*group("build"))
    out = Path(session.create_tmp()).resolve()
    dist = out / "dist"
    shutil.rmtree(dist, ignore_errors=True)
    session.run_install("python", "-m", "build", "--outdir", str(dist), *session.posargs)
    (wheel,), (sdist,) = dist.glob("*.whl"), dist.glob("*.tar.gz")
    session.run("twine", "check", "--strict", str(wheel), str(sdist))
    files = [path.relative_to(ROOT) for path in ROOT.glob("adamod_array/**/*") if path.is_file()]
    package = {path.as_posix() for path in files if "__pycache__" not in path.parts}  # Python's caches and Numba's
    packed = {name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name}
    if packed != package:
        session.error(f"the wheel differs from the package: {sorted(packed ^ package)}")
    session.install("--force-reinstall", str(wheel))
    with session.chdir(out):
        session.run("python", "-c", STEP_FROM_WHEEL)


STEP_FROM_WHEEL = """\
import adamod_array, numpy as np
assert "site-packages" in adamod_array.__file__, adamod_array.__file__
state = adamod_array.adamod_step(adamod_array.adamod_init(np.zeros(3), lr=0.5), np.ones(3))
print(adamod_array.__version__, state.params)
"""

# Plain nox: the tests on one Python. Others by name, nox -s 'tests(numpy-3.12)'; so are hosts, bench and mutants.
nox.options.sessions = [
    "lint",
    "types",
    *(f"tests({name})" for name in BACKENDS if name != "dask"),
    "agree_exact",
    "agree",
    "docs",
    "build",
]

THOROUGH = [
    "peers",
    "coverage",
    "torch_suite",
    "scale(torch)",
    "scale(jax)",
    "scale(dask)",
    "reproduce_quick",
    "minimums",
    "kernels",
    "demo",
    "cuda_compile",
]


@nox.session(venv_backend="none", default=False)
def thorough(session: nox.Session) -> None:
    """Take what plain nox leaves out for its time; in a run of its own, after plain nox, whose coverage counts."""
    for name in BACKENDS:
        session.notify(f"tests({name})", ALL if name == "dask" else SLOW)
    session.notify("agree_exact", SLOW)
    for name in THOROUGH:
        session.notify(name)
