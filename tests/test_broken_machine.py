"""A compiler that does not work, a private name that is gone: the next engine takes the step, and ``show`` says why."""

from __future__ import annotations

import functools
import os
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import pytest

from tests.backend import NAMES, describe, is_here

ROOT = Path(__file__).parent.parent
FRAMEWORKS = [name for name in ("numpy", "torch", "jax") if name in NAMES]
HERE = pytest.mark.only(*FRAMEWORKS)

pytestmark = pytest.mark.slow  # each test is a process that compiles

STEPS = """
import faulthandler, importlib, sys, warnings
faulthandler.dump_traceback_later(200, exit=True)  # what hangs says where
warnings.simplefilter("always")
name, engines = sys.argv[1], sys.argv[2].split(",")
if name == "jax":
    import jax
    jax.config.update("jax_enable_x64", True)
import numpy as np
import adamod_array as a
from tests.backend import Backend
from tests.trees import bits, values
for engine in engines:
    backend = Backend(name, "cpu", engine)
    def tree(seed):
        large = [backend.array(np.tile(values(100, seed=seed), 2000), "float64")]  # in threads
        return large + [backend.array(values(5, seed=seed), dtype) for dtype in ("float16", "float32", "complex64")]
    with a.engine(engine):
        for donate in (False, True):
            state = a.adamod_init(tree(0), lr=0.1, weight_decay=0.1)
            for seed in (1, 2, 3):
                state = a.adamod_step(state, tree(seed), donate=donate)
            print(engine, donate, __import__("hashlib").sha256(repr(bits(backend, state)).encode()).hexdigest())
"""


def steps(name: str, engines: tuple[str, ...], prelude: str = "", path: Path | None = None, **env: str) -> Any:
    """Take steps in a process of its own, after a prelude; return it."""
    places = [*([str(path)] if path else []), str(ROOT), os.environ.get("PYTHONPATH", "")]
    command = [sys.executable, "-c", prelude + STEPS, name, ",".join(engines)]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, places))} | env
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, env=environment, timeout=240, check=False)
    assert done.returncode == 0, done.stderr
    return done


@functools.cache
def numbers(name: str, engines: tuple[str, ...]) -> str:
    """What the steps give where all is well."""
    text: str = steps(name, engines).stdout
    assert len(text.splitlines()) == 2 * len(engines)
    return text


@pytest.fixture
def name(request: pytest.FixtureRequest) -> str:
    """The framework under test."""
    chosen: str = request.config.getoption("--backend")
    assert is_here(chosen)
    return chosen


def same_bits(name: str) -> tuple[str, ...]:
    """Return the engines whose bits do not depend on which of them serve; PyTorch's own root is off by the last."""
    return ("auto", "eager") if name == "numpy" else ("eager",)


# a Numba that is there, and does not work

IMPORTS = {
    "ImportError": 'raise ImportError("Numba needs NumPy 2.2 or less. Got NumPy 2.4.")',
    "OSError": 'raise OSError("libllvmlite.so: cannot open shared object file")',
    "RuntimeError": 'raise RuntimeError("no LLVM")',
    "nothing in it": "",
    "SyntaxError": "this is no Python",
    "an njit that fails": """
        __version__ = "0.1"
        class config: DISABLE_JIT = 0
        def njit(*args, **kwargs): raise TypeError("no njit")
        """,
}


@pytest.mark.only("numpy", "torch", "jax")
@pytest.mark.parametrize("how", IMPORTS)
def test_a_numba_that_cannot_be_imported(how: str, name: str, tmp_path: Path) -> None:
    (tmp_path / "numba").mkdir()
    (tmp_path / "numba" / "__init__.py").write_text(textwrap.dedent(IMPORTS[how]))
    done = steps(name, ("auto", *same_bits(name)), path=tmp_path)
    lines = done.stdout.splitlines()
    assert lines[-2:] == numbers(name, same_bits(name)).splitlines()[-2:]
    if name == "numpy":
        assert lines[0].split()[2] == lines[-2].split()[2]  # auto's and eager's
    assert done.stderr.count("adamod_array steps without numba, which does not work here") == 1


COMPILERS = {
    "every compilation fails": """
        import numba.core.compiler
        def fail(*_, **__): raise RuntimeError("no compiler")
        numba.core.compiler.compile_extra = numba.core.compiler.Compiler.compile_extra = fail
        """,
    "kernels fail": """
        import numba.core.compiler
        whole = numba.core.compiler.Compiler.compile_extra
        def fail(self, function):
            if ".kernel_" in function.__module__: raise RuntimeError("no such kernel")
            return whole(self, function)
        numba.core.compiler.Compiler.compile_extra = fail
        """,
    "NumPy's struct is another": """
        import numpy as np
        from adamod_array._engines import numba_cache
        whole = numba_cache.compiled
        def compiled(signature, text="", **options):
            def decorate(function):
                if function.__name__ == "_found":
                    return lambda objects, headers: np.zeros(1, np.int64)
                return whole(signature, text, **options)(function)
            return decorate
        numba_cache.compiled = compiled
        """,
}
SETTINGS = {
    "no jit": {"NUMBA_DISABLE_JIT": "1"},
    "no such threads": {"NUMBA_THREADING_LAYER": "nonsense"},
    "threads that are not installed": {"NUMBA_THREADING_LAYER": "tbb"},
    "one thread": {"NUMBA_NUM_THREADS": "1"},
    "another processor": {"NUMBA_CPU_NAME": "generic"},
    "not a number": {"NUMBA_NUM_THREADS": "many"},
}


@pytest.mark.only("numpy", "torch", "jax")
@pytest.mark.parametrize("how", [*COMPILERS, *SETTINGS])
def test_a_numba_that_cannot_compile(how: str, name: str, tmp_path: Path) -> None:
    pytest.importorskip("numba")
    prelude, env = textwrap.dedent(COMPILERS.get(how, "")), SETTINGS.get(how, {})
    engines = ("auto", "numba", "eager")
    done = steps(name, engines, prelude, None, ADAMOD_ARRAY_CACHE=str(tmp_path), **env)
    if name == "numpy":
        assert done.stdout == numbers(name, engines)
    assert done.stdout.splitlines()[-2:] == numbers(name, engines).splitlines()[-2:]


# names that are not public, each gone

NUMBA_NAMES = (
    "numba.core.cgutils",
    "numba.core.typing.signature",
    "numba.core.compiler.CompileResult._rebuild",
    "numba.core.serialize.dumps",
    "numba.extending.intrinsic",
    "numba.np.ufunc.parallel._launch_threads",
    "numba.get_num_threads",
    "numba.threading_layer",
    "numba.config.DISABLE_JIT",
    "numba.prange",
)
TORCH_NAMES = (
    "torch._C._functorch",
    "torch._C._functorch.peek_interpreter_stack",
    "torch._C._dynamo.guards",
    "torch._C._dynamo.guards.TensorGuards",
    "torch._C._dispatch_keys",
    "torch._C._len_torch_dispatch_stack",
    "torch._dynamo.exc",
    "torch._lazy_clone",
    "torch._dynamo.utils.allow_lru_cache_wrapper_trace_without_warning",
    "torch._inductor",
    "torch._inductor.list_options",
    "torch._inductor.cpp_builder",
    "torch.utils._pytree",
    "torch.autograd.graph.increment_version",
    "torch.serialization.add_safe_globals",
    *(f"torch._foreach_{each}" for each in ("add", "mul", "div", "sqrt", "minimum", "maximum", "neg", "copy_")),
)
REMOVE = """
import importlib, sys
owner, _, attribute = {name!r}.rpartition(".")
try:
    found = importlib.import_module(owner)
except ImportError:
    module, _, cls = owner.rpartition(".")
    found = getattr(importlib.import_module(module), cls)
assert hasattr(found, attribute) or importlib.import_module({name!r})
if hasattr(found, attribute):
    delattr(found, attribute)
if {name!r} in sys.modules:
    sys.modules[{name!r}] = None
"""


@pytest.mark.only("numpy", "jax")
@pytest.mark.parametrize("gone", NUMBA_NAMES)
def test_a_name_of_numba_that_is_gone(gone: str, name: str, tmp_path: Path) -> None:
    pytest.importorskip("numba")
    engines = ("auto", *same_bits(name))
    done = steps(name, engines, REMOVE.format(name=gone), ADAMOD_ARRAY_CACHE=str(tmp_path))
    if name == "numpy":
        assert done.stdout == numbers(name, engines)
    assert done.stdout.splitlines()[-2:] == numbers(name, engines).splitlines()[-2:]


@pytest.mark.only("torch")
@pytest.mark.parametrize("gone", TORCH_NAMES)
def test_a_name_of_pytorch_that_is_gone(gone: str, name: str) -> None:
    engines = ("auto", "foreach", "eager")
    done = steps(name, engines, "import torch\n" + REMOVE.format(name=gone))
    assert done.stdout == numbers(name, engines)


@pytest.mark.only("numpy")
@pytest.mark.parametrize("gone", ["optree.registry.__GLOBAL_NAMESPACE", "platformdirs"])
def test_a_name_of_another_package_that_is_gone(gone: str, name: str, tmp_path: Path) -> None:
    prelude = REMOVE.format(name=gone) if "." in gone else f"import sys; sys.modules[{gone!r}] = None\n"
    engines = ("auto", "eager")
    done = steps(name, engines, prelude, ADAMOD_ARRAY_CACHE=str(tmp_path))
    # what is printed are the numbers of a tree of optree's, which a state is not without that name
    assert "optree" in gone or done.stdout == numbers(name, engines)


# a framework that another thread imports; a package that is imported again

SLOW = """
import importlib, importlib.abc, sys, threading, time
class Slow(importlib.abc.MetaPathFinder):
    '''Lets the others find a module, but takes its time while the framework's own is half done.'''
    def find_spec(self, name, path=None, target=None):
        if name.startswith({module!r} + ".") and threading.current_thread() is not threading.main_thread():
            time.sleep(0.002)
        return None
sys.meta_path.insert(0, Slow())
import numpy as np
import adamod_array as a
expected = a.adam_step(a.adam_init(np.ones(3), lr=0.1), np.ones(3)).params.tobytes()
thread = threading.Thread(target=lambda: importlib.import_module({module!r}))
thread.start()
count = 0
while thread.is_alive():
    for donate in (False, True):
        assert a.adam_step(a.adam_init(np.ones(3), lr=0.1), np.ones(3), donate=donate).params.tobytes() == expected
        try:  # which looks for the frameworks that it may be of
            a.adam_init(object())
        except TypeError:
            pass
    count += 1
thread.join()
assert count > 10
array = {array}
state = a.adam_step(a.adam_init(array, lr=0.1), array)
assert type(state.params) is type(array), type(state.params)
assert np.asarray(state.params).tobytes() == expected
"""
ARRAYS = {
    "torch": "__import__('torch').ones(3, dtype=__import__('torch').float64)",
    "jax": "(__import__('jax').config.update('jax_enable_x64', True), __import__('jax').numpy.ones(3))[1]",
    "dask": "__import__('dask.array').array.ones(3)",
}

AGAIN = """
import importlib, sys
import numpy as np
for each in ("torch", "jax", "flax.serialization", "optree"):
    try:
        importlib.import_module(each)
    except ImportError:
        pass
def steps():
    import adamod_array as a
    arrays = [np.ones(3)]
    if "torch" in sys.modules: arrays.append(sys.modules["torch"].ones(3))
    if "jax" in sys.modules: arrays.append(sys.modules["jax"].numpy.ones(3))
    for x in arrays:
        state = a.adam_init(x, lr=0.1)
        for donate in (False, True, True):
            state = a.adam_step(state, x + 0, donate=donate)
        assert np.allclose(np.asarray(state.params), 0.7), state.params
    if "jax" in sys.modules:
        jax = sys.modules["jax"]
        state = jax.jit(a.adam_step)(a.adam_init(jax.numpy.ones(3), lr=0.1), jax.numpy.ones(3))
        assert len(jax.tree.leaves(state)) == 5
    if "torch" in sys.modules:
        state = a.adam_init(sys.modules["torch"].ones(3))
        assert len(sys.modules["torch"].utils._pytree.tree_leaves(state)) == 5
    import optree
    assert len(optree.tree_leaves(a.adam_init(np.ones(3)))) == 5
    return a
a = steps()
for _ in range(2):
    importlib.reload(a)
    steps()
    names = [name for name in sys.modules if name.partition(".")[0] == "adamod_array"]
    for name in names:
        if not name.startswith("adamod_array._engines."):  # what registers, above all
            importlib.reload(sys.modules[name])
    steps()
    for name in names:
        del sys.modules[name]
    a = steps()
"""


def python(program: str, name: str) -> None:
    """Run a program in a process of its own."""
    command = [sys.executable, "-W", "error::RuntimeWarning", "-c", program]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, timeout=240, check=False)
    assert done.returncode == 0, f"{describe(name)['module']}: {done.stderr}"


@pytest.mark.only(*ARRAYS)
def test_steps_while_another_thread_imports_a_framework(name: str) -> None:
    module = "dask.array" if name == "dask" else name
    python(SLOW.format(module=module, array=ARRAYS[name]), name)


@pytest.mark.only("numpy", "torch", "jax")
def test_the_package_is_imported_again(name: str) -> None:
    python(AGAIN, name)
