"""README.md and the pages below docs/ keep their word: every block runs, alone, and prints what stands below it."""

from __future__ import annotations

import ast
import contextlib
import io
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import adamod_array
from tests.backend import describe
from tests.blocks import PAGES, PEERS, ROOT, WORKERS, Block, blocks

BLOCKS = [block for page in PAGES for block in blocks(page)]
PYTHON = [
    block
    for block in BLOCKS
    if block.language == "python" and not block.imports & PEERS and not block.imports >= WORKERS
]


def run(block: Block, text: str) -> None:
    """Execute the text as the block, with the line numbers of its page, and compare what it prints."""
    printed = io.StringIO()
    code = compile("\n" * block.line + text, str(block.page), "exec")
    with contextlib.redirect_stdout(printed):
        exec(code, {"__name__": "__main__"})
    assert printed.getvalue() == block.output


@pytest.fixture(autouse=True)
def default_precision() -> Iterator[None]:
    """JAX with 32 bits, as a reader has it; conftest.py turns on 64 for the other tests."""
    jax = sys.modules.get("jax")
    with jax.enable_x64(False) if jax else contextlib.nullcontext():
        yield


@pytest.mark.parametrize(
    "block", [pytest.param(block, marks=pytest.mark.only(block.backend), id=block.name) for block in PYTHON]
)
def test_block_runs(block: Block, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """On the framework that the block imports, in an empty folder; what needs more packages, in ``nox -s peers``."""
    monkeypatch.chdir(tmp_path)
    run(block, block.text)


@pytest.mark.only("numpy")
@pytest.mark.parametrize(
    "block",
    [pytest.param(x, id=x.name) for x in PYTHON if x.backend == "cupy" and "begin_capture" not in x.text],
)
def test_cupy_block_runs_on_numpy_arrays(block: Block, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With NumPy's name in place of CuPy's: shows the program right, and nothing about a GPU."""
    monkeypatch.chdir(tmp_path)
    run(block, re.sub(r"\bcupy\b", "numpy", block.text))


START = ROOT / "docs" / "start"
LOOPS = [block for block in PYTHON if block.page.parent == START]


@pytest.mark.only("numpy")
def test_a_start_page_has_a_whole_training_loop() -> None:
    """With all that a run needs, in lines that are read without scrolling."""
    parts = ("linear_warmup(", "cosine_decay(", "weight_decay", "beta3=", "load(", "save(", "train(stop=", "print(")
    pages = {block.page.name for block in LOOPS}
    assert pages == {page.name for page in START.glob("*.md")} and len(pages) == 5
    for block in LOOPS:
        text = block.text.replace("fit(x, y, path, stop=", "train(stop=")  # a function of the library's
        assert not [part for part in parts if part not in text], block.name
        assert re.search(r"max_norm=|clip_grad_norm_", text), block.name
        assert block.output, block.name
        assert max(map(len, block.text.splitlines())) <= 88, block.name


@pytest.mark.only("numpy", "torch", "jax", "strict")
def test_the_program_for_any_array_runs_on_all(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And prints the same figure; CuPy's products of matrices are cuBLAS's, and Dask's graphs would grow."""
    monkeypatch.chdir(tmp_path)
    module = {"jax": "jax.numpy"}.get(name := describe(request.config.getoption("--backend"))["module"], name)
    (block,) = (block for block in LOOPS if block.page.name == "any_array.md")
    assert block.text.count("import numpy as xp") == 1
    run(block, block.text.replace("import numpy as xp", f"import {module} as xp"))


@pytest.mark.only("numpy")
def test_the_first_page_leads_to_what_is_sought() -> None:
    """In one click, by a table: to a loop of every framework, which method and beta3, checkpoints, what differs."""
    rows = [line for line in (ROOT / "docs" / "index.md").read_text(encoding="utf-8").splitlines() if line[:1] == "|"]
    linked = set(re.findall(r"\]\(([^)#]+)", "\n".join(rows)))
    wanted = {f"start/{page.name}" for page in START.glob("*.md")}
    assert linked >= wanted | {"howto/method_and_beta3.md", "checkpoints.md", "differences.md"}


@pytest.mark.only("numpy")
def test_a_recipe_has_ten_lines_at_most() -> None:
    recipes = [block for block in PYTHON if block.page.name == "recipes.md"]
    assert len(recipes) >= 8
    for block in recipes:
        lines = [line for line in block.text.splitlines() if line and not line.startswith(("import ", "from "))]
        assert len(lines) <= 10, block.name


@pytest.mark.only("numpy")
def test_programs_that_stand_beside_each_other_fit() -> None:
    """Two columns, of lines that are not cut off (docs/_static/pages.css)."""
    text = "".join(page.read_text(encoding="utf-8") for page in PAGES)
    pairs = re.findall(r'^<div class="beside">\n(.*?)^</div>\n</div>$', text, re.MULTILINE | re.DOTALL)
    assert len(pairs) == text.count('<div class="beside">') >= 6
    for pair in pairs:
        assert (pair.count("<div>"), pair.count("```python\n"), pair.count("```text\n")) == (2, 2, 2)
        assert max(map(len, pair.splitlines())) <= 46, max(pair.splitlines(), key=len)


@pytest.mark.only("numpy")
@pytest.mark.parametrize("page", PAGES, ids=[str(page.relative_to(ROOT)) for page in PAGES])
def test_no_block_escapes(page: Path) -> None:
    """Languages are few; an output stands below what printed it; directives are MyST's."""
    for block in blocks(page):
        assert block.language in ("python", "sh", "console") or re.fullmatch(r"\{[\w:-]+\}", block.language), block.name


@pytest.mark.only("numpy")
@pytest.mark.parametrize("block", [pytest.param(x, id=x.name) for x in BLOCKS if x.language == "console"])
def test_console_command_runs(block: Block) -> None:
    """And prints the first line that the page shows: the others are of one machine."""
    command, header, *_ = block.text.splitlines()
    prompt, program, *arguments = shlex.split(command)
    assert (prompt, program) == ("$", "python")
    done = subprocess.run([sys.executable, *arguments], capture_output=True, text=True, check=False, cwd=ROOT)
    assert (done.returncode, done.stdout.partition("\n")[0].split()) == (0, header.split()), done.stderr


@pytest.mark.only("numpy")
def test_commands_name_sessions_that_exist() -> None:
    """Every ``nox -s NAME`` in a shell block is a session of noxfile.py."""
    functions = [
        node for node in ast.parse((ROOT / "noxfile.py").read_text()).body if isinstance(node, ast.FunctionDef)
    ]
    sessions = {node.name for node in functions if node.decorator_list}
    shell = "\n".join(block.text for block in BLOCKS if block.language == "sh")
    assert re.search(r"\bnox$", shell, re.MULTILINE), "the command that runs everything is missing"
    for name in re.findall(r"nox -s '?(\w+)", shell):
        assert name in sessions


@pytest.mark.only("numpy")
@pytest.mark.parametrize("page", PAGES, ids=[str(page.relative_to(ROOT)) for page in PAGES])
def test_links_lead_somewhere(page: Path) -> None:
    """Relative links and pictures exist in the checkout."""
    for target in re.findall(r"\]\(([^)#\s]+)[^)]*\)", page.read_text(encoding="utf-8")):
        if not re.match(r"https?:", target):
            assert (page.parent / target).exists(), f"{page.name} links to {target}"


@pytest.mark.only("numpy")
def test_anchors_are_those_of_github() -> None:
    """Which MyST makes of a heading too; targets and ids that Sphinx knows besides end at the top of a page there."""
    for page in PAGES:
        for target, anchor in re.findall(r"\]\(([^)#\s:]*)#([^)\s]+)\)", page.read_text(encoding="utf-8")):
            text = (page.parent / target if target else page).read_text(encoding="utf-8")
            prose = re.sub(r"^(```+).*?^\1$", "", text, flags=re.MULTILINE | re.DOTALL)
            titles = re.findall(r"^#+ (.*)$", prose, re.MULTILINE)
            anchors = {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}
            assert anchor in anchors, f"{page.name} links to {target}#{anchor}"


@pytest.mark.only("numpy")
def test_the_citation_is_of_this_version() -> None:
    text = (ROOT / "CITATION.cff").read_text(encoding="utf-8")
    assert f'version: "{adamod_array.__version__}"' in text.splitlines()
    assert re.search(r"^date-released: \d{4}-\d\d-\d\d$", text, re.MULTILINE)
