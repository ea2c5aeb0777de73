"""Every page as Chromium draws it, as wide as a desk's and a telephone's screen; the session docs_look."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import sync_playwright

from tests.pages.page import BUILT, FILES, RAW_TEX

PICTURES = BUILT.parent / "look"
WIDTHS = (1400, 400)
HEIGHT = 2000
FLAGS = ("--disable-gpu", "--disable-quic", "--disable-sync", "--host-resolver-rules=MAP * ~NOTFOUND")

LOOK = """() => {
    const boxes = ".table-wrapper, .highlight pre, .formula", edge = document.documentElement.clientWidth + 1;
    const shown = element => (element.textContent.trim() || element.tagName).slice(0, 60);
    const all = selector => [...document.querySelectorAll(selector)];
    const outside = all("article *").filter(
        element => element.getBoundingClientRect().right > edge && !element.parentElement.closest(boxes));
    const wider = [document.documentElement, ...all(".content")].filter(box => box.scrollWidth > box.clientWidth);
    const undrawn = [
        ...all("article math").filter(element => element.getBoundingClientRect().height < 4),
        ...all("article img").filter(element => !element.complete || element.naturalWidth === 0)];
    all("pre, code").forEach(element => { element.style.display = "none"; });
    return {
        overflow: [...wider, ...outside].map(shown), undrawn: undrawn.map(shown),
        text: document.querySelector("article").innerText};
}"""
"""What the page says of itself. Furo hides what is wider than its column: the window's width says too little."""


@pytest.fixture(scope="module")
def chromium() -> Iterator[Any]:
    """The browser of the machine, with an empty profile and no network."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=os.environ["CHROMIUM"], args=FLAGS)
        yield browser
        browser.close()


@pytest.fixture(scope="module", params=WIDTHS)
def window(request: pytest.FixtureRequest, chromium: Any) -> Iterator[Any]:
    """A window of one width, offline."""
    context = chromium.new_context(viewport={"width": request.param, "height": HEIGHT}, offline=True)
    context.set_default_timeout(120_000)  # milliseconds: the longest page is 100,000 pixels high
    yield context.new_page()
    context.close()


def photograph(window: Any, name: str) -> None:
    """Keep what is seen, screen by screen: one picture of a long page takes minutes, and no viewer opens it."""
    bottom, size = window.evaluate("document.documentElement.scrollHeight"), window.viewport_size
    for number, top in enumerate(range(0, bottom, size["height"])):
        window.evaluate(f"scrollTo({{top: {top}, behavior: 'instant'}})")
        window.screenshot(path=PICTURES / f"{name}-{size['width']}-{number:02}.png")


@pytest.mark.parametrize("path", [pytest.param(path, id=path.relative_to(BUILT).as_posix()) for path in FILES])
def test_page(window: Any, path: Path) -> None:
    """No request leaves, nothing sticks out, every formula and picture is drawn."""
    requests: list[str] = []
    window.on("request", lambda request: requests.append(request.url))
    window.goto(path.as_uri())
    photograph(window, "-".join(path.relative_to(BUILT).with_suffix("").parts))
    seen = window.evaluate(LOOK)
    assert [url for url in requests if not url.startswith(("file:", "data:"))] == []
    assert seen["overflow"] == []
    assert seen["undrawn"] == []
    assert [match[0] for match in RAW_TEX.finditer(seen["text"])] == []
