"""Interrupts, signal handlers, threads and forks at any time: no state that lies, and nothing that hangs."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from adamod_array import adam_init, adam_step
from tests.backend import Backend
from tests.trees import assert_same, values

ROOT = Path(__file__).parent.parent
TIMES = int(os.environ.get("ADAMOD_ARRAY_INTERRUPTS", "10"))
"""How often each kind of step is interrupted."""

pytestmark = pytest.mark.slow

START = f"""
import faulthandler, os, random, signal, sys, threading, time, traceback, warnings
import numpy as np
from adamod_array import adam_init, adam_step, engine
from tests.backend import Backend
from tests.faults import modes
from tests.trees import bits

faulthandler.dump_traceback_later(100, exit=True)  # it hangs
name, chosen, times = sys.argv[1], sys.argv[2], {TIMES}
if name == "jax":
    import jax
    jax.config.update("jax_enable_x64", True)
backend = Backend(name, "cpu", chosen)
random.seed(0)

def arrays(n, seed):
    x = np.random.default_rng(seed).standard_normal(n)
    return {{"d": backend.array(x, "float64"), "f": backend.array(x, "float32"), "h": backend.array(x[:5], "float16")}}

def interrupted(do, delay):
    '''Return what do() returns, or None where it was interrupted.'''
    try:
        signal.setitimer(signal.ITIMER_REAL, delay)
        new = do()
        signal.setitimer(signal.ITIMER_REAL, 0)
        return new
    except KeyboardInterrupt:
        return None
"""

INTERRUPTS = """
swallowed = []

def hook(found):
    # of an interrupt that a finalizer of the library's would lose
    frames = traceback.extract_tb(found.exc_traceback)
    swallowed.extend(f"{x.filename}:{x.lineno}" for x in frames if "adamod_array" in x.filename)

sys.unraisablehook = hook
signal.signal(signal.SIGALRM, signal.default_int_handler)
found = {}
with engine(chosen):
    for n in (7, 150_000):  # large ones are stepped in threads
        for donate in (False, True):
            grads = arrays(n, 1)
            def start():
                state = adam_init(arrays(n, 0), lr=0.1)
                return adam_step(adam_step(state, grads, donate=donate), grads, donate=donate)
            start()
            state = start()
            before = bits(backend, state)
            begun = time.perf_counter()
            after = bits(backend, adam_step(state, grads, donate=donate))
            duration = time.perf_counter() - begun
            for i in range(times):
                state = start()
                if name == "jax":
                    jax.config.update("jax_enable_x64", bool(i % 2))
                were = modes()
                new = interrupted(lambda: adam_step(state, grads, donate=donate), random.uniform(1e-6, duration))
                signal.setitimer(signal.ITIMER_REAL, 0)
                assert modes() == were
                if name == "jax":
                    jax.config.update("jax_enable_x64", True)
                if new is not None:
                    assert bits(backend, new) == after
                    found["finished"] = found.get("finished", 0) + 1
                    continue
                try:
                    state.resolved()
                except ValueError as error:
                    assert donate and "spent: " in str(error), error
                    assert "step 3 wrote into it and did not finish" in str(error) or "donated to step 3" in str(error)
                    found["spent"] = found.get("spent", 0) + 1
                    continue
                assert bits(backend, state) == before
                assert bits(backend, adam_step(state, grads, donate=donate)) == after
                found["stands"] = found.get("stands", 0) + 1
assert not swallowed, swallowed
print(found)
"""

HANDLERS = """
results = []
state = other = None
def handler(*_):
    # another state, and the very state whose step was interrupted
    for each in (other, state):
        try:
            results.append(bits(backend, adam_step(each, grads, donate=True)))
        except ValueError as error:
            assert "spent" in str(error), error
            results.append(None)
signal.signal(signal.SIGALRM, handler)
with engine(chosen):
    for n in (7, 150_000):
        for donate in (False, True):
            grads = arrays(n, 1)
            def start():
                return adam_step(adam_init(arrays(n, 0), lr=0.1), grads, donate=donate)
            start()
            begun = time.perf_counter()
            after = bits(backend, adam_step(start(), grads, donate=donate))
            duration = time.perf_counter() - begun
            for i in range(times):
                state, other = start(), start()
                results.clear()
                new = None
                signal.setitimer(signal.ITIMER_REAL, random.uniform(1e-6, duration))
                try:
                    new = bits(backend, adam_step(state, grads, donate=donate))
                except ValueError as error:
                    assert "spent" in str(error), error
                signal.setitimer(signal.ITIMER_REAL, 0)
                if results:
                    assert len(results) == 2 and results[0] == after
                    if donate:
                        assert [new, results[1]].count(None) == 1
                    elif new is None:
                        assert results[1] is not None
                for x in (new, *results):
                    assert x is None or x == after
"""

FORKS = """
with engine(chosen):
    def steps(n, count):
        for _ in range(count):
            state = adam_init(arrays(n, 0), lr=0.1, weight_decay=random.choice((0.0, 0.1)))
            for donate in (False, True, True):
                state = adam_step(state, arrays(n, 1), donate=donate)
        return state
    arrays(7, 0)  # imports what NumPy imports late: a fork does not wait for that
    stop = False
    def busy():
        with engine(chosen):
            while not stop:
                steps(150_000, 1)  # in threads; the first time it compiles
    thread = threading.Thread(target=busy, daemon=True)
    thread.start()
    warnings.simplefilter("ignore", DeprecationWarning)  # of Python, about what is tested here
    for delay in (0, 0, 0.1, 0.2, 0.3, 0.3):
        time.sleep(delay)
        child = os.fork()
        if child == 0:
            faulthandler.register(signal.SIGALRM, chain=True)
            signal.alarm(60)  # it hangs
            new = steps(7, 2)
            new = steps(150_000, 1)
            os._exit(0 if new.step == 3 else 1)
        assert os.waitpid(child, 0)[1] == 0
    stop = True
    thread.join()
"""

IMPORTS = """
assert chosen == "auto" and not any(each.startswith("numba.") for each in sys.modules)
signal.signal(signal.SIGALRM, signal.default_int_handler)
state, grads = adam_init(arrays(7, 0), lr=0.1), arrays(7, 1)
with engine("eager"):
    after = bits(backend, adam_step(state, grads))
delay = float(sys.argv[3])
warnings.simplefilter("ignore")  # an import that was interrupted may never work again: it is passed over
interrupted(lambda: adam_step(state, grads), delay)
signal.setitimer(signal.ITIMER_REAL, 0)
for donate in (False, True):
    assert bits(backend, adam_step(state, grads, donate=donate)) == after
"""


def run(program: str, *arguments: Any) -> str:
    """Run a program in a process of its own, which ends when it hangs; return what it printed."""
    command = [sys.executable, "-c", START + program, *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, timeout=240, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.only("numpy", "torch", "jax")
def test_interrupts(backend: Backend) -> None:
    found = run(INTERRUPTS, backend.name, backend.engine)
    assert "stands" in found or "spent" in found


@pytest.mark.only("numpy", "torch", "jax")
def test_a_signal_handler_that_steps(backend: Backend) -> None:
    run(HANDLERS, backend.name, backend.engine)


@pytest.mark.only("numpy", "torch")
@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork")
def test_forks(backend: Backend) -> None:
    if backend.name == "torch" and backend.engine != "numba":
        pytest.skip("PyTorch's own threads do not outlive a fork")
    run(FORKS, backend.name, "auto" if backend.engine == "numba" else backend.engine)


@pytest.mark.only("numpy")
def test_interrupts_while_the_compiler_is_imported(backend: Backend) -> None:
    if backend.engine != "numba":
        pytest.skip("there is no compiler")
    for delay in np.geomspace(0.002, 0.6, 6):
        run(IMPORTS, backend.name, "auto", delay)


@pytest.mark.only("numpy", "torch", "cupy", "jax")
def test_two_threads_that_donate_one_state(backend: Backend) -> None:
    """One of them succeeds, and the other is told."""
    grads = {"w": backend.array(values(3, seed=1)), "b": backend.array(values(3, seed=1), "float16")}
    for n in range(50):
        state = adam_init({"w": backend.array(values(3)), "b": backend.array(values(3), "float16")}, lr=0.1)
        for _ in range(n % 3):
            state = adam_step(state, grads, donate=True)
        expected = adam_step(state, grads)
        barrier, results = threading.Barrier(3), list[Any]()

        def donate(state: Any = state, barrier: Any = barrier, results: list[Any] = results) -> None:
            barrier.wait()
            try:
                results.append(adam_step(state, grads, donate=True))
            except ValueError as error:
                results.append(str(error))

        threads = [threading.Thread(target=donate) for _ in range(3)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        new = [x for x in results if not isinstance(x, str)]
        assert len(new) == 1
        assert_same(backend, new[0], expected, ulp=1)  # PyTorch's own root is no better
        assert all("this state is spent: " in x for x in results if isinstance(x, str))
