"""What holds of every page and can be seen without a browser; ``nox -s docs`` asks it after the build."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.pages.page import BUILT, ELSEWHERE, FILES, RAW_TEX, Page, broken, fetched_by_css

PAGES = {path: Page(path.read_text(encoding="utf-8")) for path in FILES}


@pytest.fixture(autouse=True)
def built() -> None:
    """Of nothing everything holds."""
    assert PAGES, f"no pages in {BUILT}: nox -s docs builds them"


def name(path: Path) -> str:
    """As it stands in a link."""
    return path.relative_to(BUILT).as_posix()


def test_nothing_is_fetched() -> None:
    """Scripts, styles, fonts and pictures lie beside the pages."""
    sheets = {path: fetched_by_css(path.read_text(encoding="utf-8")) for path in BUILT.rglob("*.css")}
    found = {**{path: page.fetched for path, page in PAGES.items()}, **sheets}
    assert sheets
    assert [(name(path), each) for path, urls in found.items() for each in urls if ELSEWHERE.match(each)] == []


def test_formulas_are_drawn() -> None:
    """As MathML: no TeX is left for a script to find."""
    assert [(name(path), match[0]) for path, page in PAGES.items() for match in RAW_TEX.finditer(page.words)] == []
    assert "<math" in (BUILT / "methods.html").read_text(encoding="utf-8")


def test_links_lead_somewhere() -> None:
    """Files and places in them, of all links within the pages."""
    found = [(name(path), link) for path, page in PAGES.items() for link in page.links if broken(link, path, PAGES)]
    assert found == []


def test_pictures_have_a_text() -> None:
    """Of words: Sphinx puts the file's name where none is given."""
    pictures = [(name(path), *each) for path, page in PAGES.items() for each in page.pictures]
    own = [each for each in pictures if "_static/" not in each[1]]  # there lie the theme's
    assert own
    assert [each for each in own if not re.search(r"\w \w", each[2]) or each[2].endswith((".png", ".svg"))] == []


def test_what_is_wide_scrolls_in_a_box() -> None:
    """Tables, code and formulas that stand alone."""
    assert [(name(path), each) for path, page in PAGES.items() for each in page.unboxed] == []


FAULTY = """
<link rel="stylesheet" href="https://cdn.example/style.css"><style>@import "//cdn.example/more.css";</style>
<script src="https://cdn.example/tex.js"></script><div style="background: url('http://cdn.example/a.png')"></div>
<p id="here">A \\(\\beta_3\\) and a $\\alpha_t$, <code>\\frac</code> is code.</p>
<a href="#here"></a><a href="#there"></a><a href="missing.html"></a><a href="https://example.org#x"></a>
<img src="a.png" alt="a.png"><table></table><div class="table-wrapper"><table></table></div>
<math display="block"></math>
"""


def test_faults_are_seen(tmp_path: Path) -> None:
    """One of each kind, in a page that has them all."""
    path = tmp_path / "faulty.html"
    path.write_text(FAULTY, encoding="utf-8")
    page = Page(FAULTY)
    assert sum(ELSEWHERE.match(each) is not None for each in page.fetched) == 4
    assert [match[0] for match in RAW_TEX.finditer(page.words)] == [r"\(", r"\b", r"$\alpha_t$"]
    assert [link for link in page.links if broken(link, path, {path: page})] == ["#there", "missing.html"]
    assert [each.split()[0] for each in page.unboxed] == ["<table>", "<math>"]
    assert page.pictures == [("a.png", "a.png")]
