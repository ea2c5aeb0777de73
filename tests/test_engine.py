"""Choosing an engine, and the table of what serves what."""

from __future__ import annotations

import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

from adamod_array import Momentum, State, engine, init, momentum_init, momentum_step, show, step
from adamod_array._engines import ENGINES, _choice
from tests.backend import Backend
from tests.compare import assert_close
from tests.trees import assert_same, tree


@pytest.mark.parametrize("name", ENGINES)
def test_every_engine_takes_the_same_step(backend: Backend, name: str) -> None:
    """An engine that a framework lacks is no error: the rule runs eagerly."""
    state, grads = momentum_init(tree(backend)), tree(backend, seed=1)
    expected = momentum_step(state, grads)
    with engine(name):
        # one product and one sum: contracted or not, half a unit each
        assert_same(backend, momentum_step(state, grads), expected, ulp=1)


@pytest.mark.parametrize("name", ["fastest", "Eager", "", None, 1])
def test_an_engine_that_nobody_has(backend: Backend, name: Any) -> None:
    before = _choice.get()
    with pytest.raises(ValueError, match="engine must be one of .*auto.*got " + repr(name)), engine(name):
        pytest.fail("the block must not run")
    assert _choice.get() == before


def test_the_choice_ends_with_the_block() -> None:
    before = _choice.get()
    with engine("eager"):
        assert _choice.get() == "eager"
        with engine("jit"):
            assert _choice.get() == "jit"
        assert _choice.get() == "eager"
    assert _choice.get() == before


def test_the_choice_ends_with_an_exception(backend: Backend) -> None:
    state = momentum_init(tree(backend))
    before = _choice.get()
    with pytest.raises(TypeError, match="must be an array"), engine("eager"):
        momentum_step(state, {**tree(backend), "b": 1.0})
    assert _choice.get() == before
    assert momentum_step(state, tree(backend)).step == 1


def test_the_choice_is_of_one_thread() -> None:
    seen: list[str] = []
    entered, left = threading.Event(), threading.Event()

    def work() -> None:
        seen.append(_choice.get())
        with engine("jit"):
            entered.set()
            left.wait(10)
            seen.append(_choice.get())

    with engine("eager"):
        thread = threading.Thread(target=work)
        thread.start()
        assert entered.wait(10)
        assert _choice.get() == "eager"
        left.set()
        thread.join(10)
    assert seen == ["auto", "jit"]


def test_threads_step_at_the_same_time(backend: Backend) -> None:
    """Nothing that a step needs is shared between threads."""
    expected = momentum_init(tree(backend))
    for _ in range(5):
        expected = momentum_step(expected, tree(backend, seed=1))
    results: list[State] = []

    def work() -> None:
        with engine(backend.engine):
            state = momentum_init(tree(backend))
            for _ in range(5):
                state = momentum_step(state, tree(backend, seed=1))
        results.append(state)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert len(results) == 4
    for state in results:
        assert_same(backend, state, expected)


@pytest.mark.only("jax")
def test_the_choice_is_obeyed(backend: Backend) -> None:
    """Eagerly a rule sees arrays of numbers, otherwise it is only traced."""
    import jax

    seen: list[bool] = []

    class Watched(Momentum):
        def rule(self, xp: Any, lr: Any, c: Any, g: Any, p: Any, *slots: Any) -> tuple[Any, ...]:
            seen.append(isinstance(p, jax.Array) and not isinstance(p, jax.core.Tracer))
            return super().rule(xp, lr, c, g, p, *slots)

    x = backend.array([1.0])
    for beta, name, with_numbers in ((0.5, "eager", True), (0.5, "jit", False), (0.25, "auto", False)):
        seen.clear()
        with engine(name):
            new = step(init(Watched(beta), x, lr=1.0), x)
        assert any(seen) == with_numbers
        assert_close(backend.numpy(new.params), backend.numpy(x * 0))


# show

FRAMEWORKS = ["numpy", "cupy", "torch", "jax", "dask", "others"]


def test_show_has_a_row_for_every_framework(backend: Backend, capsys: pytest.CaptureFixture[str]) -> None:
    show()
    head, *rows = capsys.readouterr().out.splitlines()
    assert head.split()[:2] == ["framework", "version"]
    assert head.split()[-2:] == ["engine", "why"]
    assert [row.split()[0] for row in rows] == FRAMEWORKS
    framework = backend.table["module"].partition(".")[0]
    row = next((row for row in rows if row.startswith(framework)), rows[-1])
    assert "not found" not in row
    assert set(row.split()) & set(ENGINES)
    if framework in FRAMEWORKS:
        assert sys.modules[framework].__version__ in row


def test_show_never_fails_on_a_broken_framework(tmp_path: Path) -> None:
    """An installation that raises on import is a row of the table."""
    (tmp_path / "cupy.py").write_text("raise OSError('libcuda.so.1 is not here')\n")
    code = f"import sys; sys.path.insert(0, {str(tmp_path)!r}); import adamod_array; adamod_array.show()"
    root = Path(__file__).parent.parent
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=root, check=False)
    assert run.returncode == 0, run.stderr
    rows = run.stdout.splitlines()[1:]
    assert [row.split()[0] for row in rows] == FRAMEWORKS
    assert "broken" in rows[1]
    assert "libcuda.so.1 is not here" in rows[1]
