"""A built page, read: its links, what it fetches, its pictures, its words."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

BUILT = Path(__file__).resolve().parent.parent.parent / "docs" / "_build" / "html"
FILES = sorted(path for path in BUILT.rglob("*.html") if "_static" not in path.parts)

RAW_TEX = re.compile(r"\\[a-zA-Z(\[{]|\$\$|\$[^$\s][^$\n]*[\\^_][^$\n]*\$")
"""What is left of a formula that nothing drew; a browser shows it as it stands."""

ELSEWHERE = re.compile(r"^(https?:)?//")
IN_CSS = re.compile(r"""@import\s+["']?([^"';\s]+)|url\(\s*["']?([^"')]+)""")
FETCHES = {
    ("script", "src"),
    ("link", "href"),
    ("img", "src"),
    ("img", "srcset"),
    ("source", "src"),
    ("source", "srcset"),
    ("iframe", "src"),
    ("object", "data"),
    ("embed", "src"),
    ("video", "src"),
    ("audio", "src"),
    ("image", "href"),
    ("use", "href"),
}
"""Attributes whose address a browser loads without being asked."""

SCROLLS = {"table": "table-wrapper", "math": "formula", "pre": "highlight"}
"""The class of the box in which what may be wider than the page scrolls."""

VOID = {"area", "base", "br", "col", "embed", "hr", "img", "input", "link", "meta", "source", "track", "wbr"}


def fetched_by_css(text: str) -> list[str]:
    """Return the addresses that a style sheet loads: other sheets, fonts, pictures."""
    return [first or second for first, second in IN_CSS.findall(text)]


class Page(HTMLParser):
    """What there is to say of one page without drawing it."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.anchors: set[str] = set()
        self.links: list[str] = []
        self.fetched: list[str] = []
        self.pictures: list[tuple[str, str]] = []
        self.unboxed: list[str] = []
        self._words: list[str] = []
        self._open: list[tuple[str, set[str]]] = []
        self.feed(text)
        self.close()

    @property
    def words(self) -> str:
        """The text outside code, scripts and styles."""
        return "".join(self._words)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = {name: value or "" for name, value in attrs}
        classes = set(values.get("class", "").split())
        self.anchors.update(values[name] for name in ("id", "name") if name in values and tag != "meta")
        self.fetched += [value for name, value in values.items() if (tag, name) in FETCHES]
        self.fetched += fetched_by_css(values.get("style", ""))
        if tag == "a" and "href" in values:
            self.links.append(values["href"])
        if tag == "img":
            self.pictures.append((values.get("src", ""), values.get("alt", "")))
        wide = tag != "math" or values.get("display") == "block"
        if wide and tag in SCROLLS and not classes & {"indextable"} and not self._inside(SCROLLS[tag]):
            self.unboxed.append(f"<{tag}> after {self.words[-40:]!r}")
        if tag not in VOID:
            self._open.append((tag, classes))

    def handle_endtag(self, tag: str) -> None:
        while self._open and tag not in VOID:
            if self._open.pop()[0] == tag:
                break

    def handle_data(self, data: str) -> None:
        tags = {tag for tag, _ in self._open}
        if "style" in tags:
            self.fetched += fetched_by_css(data)
        if not tags & {"code", "pre", "script", "style"}:
            self._words.append(data)

    def _inside(self, name: str) -> bool:
        return any(name in classes for _, classes in self._open)


def broken(link: str, path: Path, pages: dict[Path, Page]) -> bool:
    """Whether a link within the pages leads to no file, or to a place that its page does not have."""
    parts = urlsplit(link)
    if parts.scheme or parts.netloc:
        return False
    target = (path.parent / unquote(parts.path)).resolve() if parts.path else path
    if not target.is_file():
        return True
    return bool(parts.fragment) and target in pages and unquote(parts.fragment) not in pages[target].anchors
