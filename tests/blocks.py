"""The fenced code blocks of README.md and the pages below docs/."""

from __future__ import annotations

import ast
import re
from dataclasses import dataclass
from pathlib import Path

from tests.backend import NAMES, describe

ROOT = Path(__file__).parent.parent
FOLDERS = [ROOT / "docs" / below for below in ("", "demo", "examples", "howto", "reproduction", "scale", "start")]
PAGES = [*sorted(ROOT.glob("[A-Z]*.md")), *(page for folder in FOLDERS for page in sorted(folder.glob("*.md")))]

PEERS = {"adamod", "equinox", "flax", "joblib", "optax", "orbax", "pytorch_optimizer", "scipy", "sklearn"}
"""What only the session ``peers`` has; its tests run the blocks that import them."""

WORKERS = {"dask", "distributed"}
"""The parts of a name that only the session ``scale`` has; its tests run the blocks that import it."""

_FENCE = re.compile(r"^(?P<ticks>```+)(?P<language>\S*)[^\n]*\n(?P<text>.*?)^(?P=ticks)$", re.MULTILINE | re.DOTALL)


@dataclass(frozen=True)
class Block:
    """One fenced block, and the ``text`` block right below it: what it prints."""

    page: Path
    line: int
    language: str
    text: str
    output: str

    @property
    def name(self) -> str:
        """Where it is: ``docs/methods.md:12``."""
        return f"{self.page.relative_to(ROOT)}:{self.line}"

    @property
    def imports(self) -> set[str]:
        """The parts of the names of all modules that it imports: of ``adamod_array.optax``, both."""
        imports = [node for node in ast.walk(ast.parse(self.text)) if isinstance(node, (ast.Import, ast.ImportFrom))]
        modules = {node.module or "" for node in imports if isinstance(node, ast.ImportFrom)}
        modules |= {alias.name for node in imports if isinstance(node, ast.Import) for alias in node.names}
        return {part for module in modules for part in module.split(".")}

    @property
    def backend(self) -> str:
        """The backend whose framework it imports; NumPy's where it imports no other."""
        roots = self.imports
        found = [name for name in NAMES if name != "numpy" and describe(name)["module"].partition(".")[0] in roots]
        assert len(found) <= 1, f"{self.name} imports more than one framework: {found}"
        return found[0] if found else "numpy"


def blocks(page: Path) -> list[Block]:
    """All fenced blocks of a page, in order."""
    source = page.read_text(encoding="utf-8")
    found: list[Block] = []
    end = 0
    for match in _FENCE.finditer(source):
        line = source.count("\n", 0, match.start()) + 1
        below = bool(found) and found[-1].language == "python" and not source[end : match.start()].strip()
        if match["language"] == "text" and below:
            last = found.pop()
            found.append(Block(page, last.line, last.language, last.text, match["text"]))
        else:
            found.append(Block(page, line, match["language"], match["text"], ""))
        end = match.end()
    return found
