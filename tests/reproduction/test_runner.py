"""reproduction/__main__.py: what is stored, what is run again, what is written, and when it fails."""

from __future__ import annotations

import importlib
import json
import linecache
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from adamod_array import AdaMod, RAdam, radam
from adamod_array._program.trace import _trace
from reproduction import PAGES, ROOT, claims, digest, experiments, page, store
from reproduction.__main__ import reproduce
from reproduction.claims import all_claims
from reproduction.frame import Check, Experiment, Finding, Picture, Report, Results, Run, wherever
from reproduction.style import panels
from tests.compare import assert_close

SAMPLE = """
import time
from collections.abc import Iterator
from pathlib import Path
import numpy as np

def double(x, folder):
    with (Path(folder) / "calls").open("a") as calls:
        calls.write(f"{x} ")
    if (Path(folder) / f"stop at {x}").exists():
        raise RuntimeError("stopped")
    while (Path(folder) / f"wait at {x}").exists():
        time.sleep(0.01)
    return {"twice": np.asarray(2.0 * x)}
"""


CLAIMS = {
    "papers": """
source = "a paper"
title = "A paper"
[[claims]]
id = "seven"
where = "page 1"
claim = "twice 3 | is 7"
published = "7"
[[claims]]
id = "eight"
where = "page 2"
claim = "twice 4 is 8"
published = "8"
not_attempted = "4 is too large"
""",
    "library": """
source = "this library"
title = "Its own"
[[claims]]
id = "nine"
where = "README"
claim = "9"
published = ""
""",
}


@pytest.fixture
def sample(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """A module of unit runs, found in the runner's processes too."""
    (tmp_path / "sample_runs.py").write_text(SAMPLE)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "sample_runs", raising=False)
    monkeypatch.setattr(digest, "FOLDERS", (*digest.FOLDERS, tmp_path))
    module: ModuleType = __import__("sample_runs")
    return module


@pytest.fixture
def one(sample: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Experiment]:
    """An experiment of four runs; it claims that twice 3 is 7, and checks what a file says."""

    def report(results: Results, quick: bool) -> Report:
        seen = results.one(x=3)["twice"]
        figure, axes = panels()
        axes.plot([float(r.values["twice"]) for r in results])
        finding = Finding(
            "papers/seven", f"{float(seen):g}", "is | equal", *wherever({"3": bool(seen == 7)}, "numbers")
        )
        check = Check("no file says otherwise", not (tmp_path / "fail").exists(), "looked")
        return Report([finding], [check], [Picture("line", figure, "a line")], "Text.\n" if quick else "More text.\n")

    def runs(quick: bool) -> list[Run]:
        return [Run(sample.double, x=x, folder=str(tmp_path)) for x in ((1, 3) if quick else (1, 2, 3, 4))]

    experiment = Experiment("one", "The first one", "About it.", runs, report)
    monkeypatch.setattr(experiments, "NAMES", ("one", "two"))
    monkeypatch.setattr(experiments, "load", {"one": experiment}.__getitem__)
    for name, text in CLAIMS.items():
        (tmp_path / f"{name}.toml").write_text(text)
    monkeypatch.setattr(claims, "FOLDER", tmp_path)
    monkeypatch.setattr(claims, "SOURCES", tuple(CLAIMS))
    all_claims.cache_clear()
    yield experiment
    all_claims.cache_clear()


def run(root: Path, **options: Any) -> list[str]:
    return reproduce(["one"], root=root, **{"quick": False, "fresh": False, "jobs": 1, **options})


def calls(root: Path) -> list[int]:
    """The runs begun since this was last asked."""
    path = root / "calls"
    text = path.read_text() if path.exists() else ""
    path.unlink(missing_ok=True)
    return sorted(int(x) for x in text.split())


@pytest.mark.usefixtures("one")
def test_a_stopped_run_continues_where_it_was(tmp_path: Path) -> None:
    (tmp_path / "stop at 3").touch()
    with pytest.raises(RuntimeError, match="stopped"):
        run(tmp_path)
    assert calls(tmp_path)[:3] == [1, 2, 3]
    assert not (tmp_path / "results.md").exists()
    (tmp_path / "stop at 3").unlink()
    assert run(tmp_path) == []
    assert set(calls(tmp_path)) <= {3, 4}  # 4 was in the queue, and may have run
    assert run(tmp_path) == []
    assert calls(tmp_path) == []
    run(tmp_path, fresh=True)
    assert calls(tmp_path) == [1, 2, 3, 4]


def test_an_interrupt_stores_what_has_ended(one: Experiment, tmp_path: Path) -> None:
    """Ctrl-C of the whole program, its processes included."""
    (tmp_path / "wait at 2").touch()
    program = f"""
import sys
sys.path[:0] = [{str(tmp_path)!r}, {str(ROOT)!r}]
import sample_runs
from reproduction import digest, store
from reproduction.frame import Experiment, Run
digest.FOLDERS = (*digest.FOLDERS, store.Path({str(tmp_path)!r}))
if __name__ == "__main__":
    runs = [Run(sample_runs.double, x=x, folder={str(tmp_path)!r}) for x in (1, 2, 3, 4)]
    experiment = Experiment("one", "", "", None, None)
    list(store.Store(store.Path({str(tmp_path / "_runs" / "full")!r})).complete([(experiment, runs)], 1))
"""
    (tmp_path / "program.py").write_text(program)
    running = subprocess.Popen(
        [sys.executable, str(tmp_path / "program.py")], start_new_session=True, stderr=subprocess.DEVNULL
    )
    deadline = time.monotonic() + 120
    while "2" not in ((tmp_path / "calls").read_text() if (tmp_path / "calls").exists() else ""):
        assert running.poll() is None and time.monotonic() < deadline
        time.sleep(0.02)
    os.killpg(running.pid, signal.SIGINT)
    assert running.wait(60) != 0
    (tmp_path / "wait at 2").unlink()
    calls(tmp_path)
    run(tmp_path)
    assert calls(tmp_path) == [2, 3, 4]


def test_what_makes_a_stored_result_another_one(sample: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    def key(**config: Any) -> str:
        digest._of_function.cache_clear()
        return store.key(Run(sample.double, **config))

    def write(text: str) -> None:
        Path(str(sample.__file__)).write_text(text)
        linecache.checkcache()

    first = key(x=1, folder="a")
    assert key(folder="a", x=1) == first
    others = [key(x=2, folder="a"), key(x=1, folder="b"), key(x=1.0, folder="a")]
    with monkeypatch.context() as context:
        context.setattr(store, "versions", lambda: {"numpy": "1.0"})
        others.append(key(x=1, folder="a"))
    write(SAMPLE.replace("2.0 * x", "2.1 * x"))
    others.append(key(x=1, folder="a"))
    write(SAMPLE + "# a comment\n\ndef other():\n    return 1\n")  # which the function does not use
    assert key(x=1, folder="a") == first
    assert len({first, *others}) == 6


def test_what_a_function_uses_counts_and_nothing_else(sample: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    """Functions, classes and numbers that it names, wherever they stand, and the data of their modules."""
    helper = Path(str(sample.__file__)).with_name("sample_helper.py")
    text = "FACTOR = 2.0\nclass Twice:\n    def of(self, x):\n        return FACTOR * x\ndef unused():\n    return 1\n"
    helper.write_text(text)
    Path(str(sample.__file__)).write_text(
        "import sample_helper\ndef double(x):\n    return {'twice': sample_helper.Twice().of(x)}\n"
    )
    importlib.reload(sample)

    def key() -> str:
        digest._of_function.cache_clear()
        linecache.checkcache()
        return store.key(Run(sample.double, x=1))

    first = key()
    other = sys.modules["sample_helper"]
    with monkeypatch.context() as context:
        context.setattr(other, "FACTOR", 3.0)
        changed = [key()]
    with monkeypatch.context() as context:
        context.setattr(other, "data_digest", lambda: "other data", raising=False)
        changed.append(key())
    helper.write_text(text.replace("FACTOR * x", "x * FACTOR"))
    changed.append(key())
    helper.write_text(text.replace("return 1", "return 2"))
    assert key() == first and len({first, *changed}) == 4
    del sys.modules["sample_helper"]


def test_a_rule_that_changes_makes_what_is_stored_stale(monkeypatch: pytest.MonkeyPatch) -> None:
    """A rule's text, a coefficient, a default: of the methods that are given, and of those that a function may use."""

    def key(method: Any) -> str:
        digest._of_method.cache_clear()
        digest._of_rules.cache_clear()
        return digest.digest_of(page._anchor, {"method": method})

    first = key(AdaMod())
    assert key(AdaMod(beta3=0.9)) != first
    rule = radam.RAdam.rule

    def half(self: Any, xp: Any, lr: Any, c: Any, g: Any, *others: Any) -> Any:
        return rule(self, xp, lr, c, g * 0.5, *others)

    with monkeypatch.context() as context:
        context.setattr(radam.RAdam, "rule", half)
        _trace.cache_clear()
        assert key(AdaMod()) != first
    _trace.cache_clear()
    coefficients = radam.RAdam.coefficients
    with monkeypatch.context() as context:
        context.setattr(radam.RAdam, "coefficients", lambda *args: tuple([2 * c for c in coefficients(*args)]))
        assert key(AdaMod()) != first
    assert key(AdaMod()) == first != key(RAdam())


def test_a_program_is_known_without_its_texts() -> None:
    assert digest.code("def f():\n    'Return.'\n    return 1  # one") == digest.code("def f():\n    return 1")
    assert digest.code("def f():\n    return 1") != digest.code("def f():\n    return 2")


def test_a_result_comes_back_as_it_was(sample: ModuleType, tmp_path: Path) -> None:
    run = Run(sample.double, x=0.1, folder=str(tmp_path))
    store.execute(run, tmp_path / "deep" / "result.npz")
    result = store.read(run, tmp_path / "deep" / "result.npz")
    assert_close(result.values["twice"], np.asarray(0.2))
    assert result.config == run.config and result.seconds > 0
    assert result.versions["numpy"] == np.__version__
    assert [path.name for path in (tmp_path / "deep").iterdir()] == ["result.npz"]


def test_what_two_experiments_list_is_run_once(one: Experiment, tmp_path: Path) -> None:
    other = Experiment("two", "", "", one.runs, one.report)
    results = [*store.Store(tmp_path / "_runs").complete([(one, one.runs(False)), (other, one.runs(True))], 1)]
    assert calls(tmp_path) == [1, 2, 3, 4]
    assert [[each.config["x"] for each in found] for found in results] == [[1, 2, 3, 4], [1, 3]]


@pytest.mark.usefixtures("one")
def test_quick_starts_anew_and_leaves_the_full_results(tmp_path: Path) -> None:
    run(tmp_path)
    full = {path: path.read_bytes() for path in tmp_path.rglob("results*/**/*") if path.is_file()}
    assert len(full) == 2
    calls(tmp_path)
    for _ in range(2):
        run(tmp_path, quick=True)
        assert calls(tmp_path) == [1, 3]
    assert all(path.read_bytes() == content for path, content in full.items())
    assert "More text." in (tmp_path / "results.md").read_text()
    assert "More text." not in (tmp_path / "_quick" / "results.md").read_text()


@pytest.mark.usefixtures("one")
def test_the_page(tmp_path: Path) -> None:
    (tmp_path / "results").mkdir()
    other: dict[str, Any] = {key: [] for key in ("findings", "checks", "pictures", "tests")}
    numbers = {"title": "Two", "about": "", "text": "", "runs": 1, "sizes": {}, "seconds": 7300, "versions": {}}
    (tmp_path / "results" / "two.json").write_text(json.dumps({**other, **numbers}))
    run(tmp_path)
    text = (tmp_path / "results.md").read_text()
    assert "| a paper, page 1 | twice 3 \\| is 7 | 7 | 6 | is \\| equal | **does not hold** |" in text
    assert "| a paper | 2 | 0 | 0 | 1 | 0 | 1 |" in text and "| all papers | 2 | 0 | 0 | 1 | 0 | 1 |" in text
    assert "| this library | 1 | 0 | 0 | 0 | 0 | 0 |" in text
    assert "| [The first one](#the-first-one) | 1 | 4 | 0.0 s |" in text
    assert "| [Two](#two) | 0 | 1 | 2.0 h |" in text  # what was not run keeps its place
    assert text.index("## The first one") < text.index("![a line](results/one-line.png)") < text.index("## Two")
    assert "4 runs, 0.0 s of one core; `x` 1, 2, 3, 4." in text
    assert "| a paper, page 2 | twice 4 is 8 | 8 | 4 is too large |" in text
    assert (tmp_path / "results" / "one-line.png").stat().st_size > 1000


def test_a_claim_holds_where_it_was_tried() -> None:
    assert wherever({"a": True, "b": True}, "rates") == ("holds", "")
    assert wherever({"a": False, "b": False}, "rates") == ("does not hold", "")
    assert wherever({"a": False, "b": True}, "rates") == ("holds in part", "at 1 of 2 rates: b")


@pytest.mark.usefixtures("one")
def test_a_check_that_fails_is_returned_and_a_claim_that_fails_is_not(tmp_path: Path) -> None:
    (tmp_path / "fail").touch()
    assert run(tmp_path) == ["one: no file says otherwise: looked"]


# the experiments that are there


@pytest.mark.parametrize("name", experiments.NAMES)
def test_runs_differ_and_are_written_as_they_are_stored(name: str) -> None:
    experiment = experiments.load(name)
    assert experiment.name == name
    for quick in (False, True):
        runs = experiment.runs(quick)
        assert len({store.key(each) for each in runs}) == len(runs) > 0
        assert all(" at 0x" not in repr(each) for each in runs), "an argument without a faithful repr"


def test_the_committed_page_is_the_committed_results(tmp_path: Path) -> None:
    page.assemble(tmp_path / "results.md", PAGES / "results", experiments.NAMES)
    assert (tmp_path / "results.md").read_text() == (PAGES / "results.md").read_text()


def test_every_claim_has_a_finding_or_a_reason() -> None:
    found = [finding["claim"] for each in committed() for finding in each["findings"]]
    claims = all_claims()
    assert sorted(found) == sorted(name for name, claim in claims.items() if not claim.not_attempted)
    for each in committed():
        for finding in each["findings"]:
            assert finding["verdict"] in page.VERDICTS and finding["measured"] and finding["criterion"]
            assert bool(finding["extent"]) == (finding["verdict"] == "holds in part"), finding["claim"]
    for claim in claims.values():
        assert all("\n" not in text for text in (claim.where, claim.claim, claim.published, claim.not_attempted))


def committed() -> list[dict[str, Any]]:
    """What each experiment left."""
    return [json.loads((PAGES / "results" / f"{name}.json").read_text()) for name in experiments.NAMES]
