"""The names of all cases, found without the framework, which their files import."""

from __future__ import annotations

import re
from pathlib import Path


def cases_in(folder: Path) -> list[tuple[str, str]]:
    """Return the file and name of every case in a folder."""
    return [
        (path.stem, name)
        for path in sorted(folder.glob("*.py"))
        for name in re.findall(r"^def (case_\w+)\(", path.read_text(encoding="utf-8"), re.MULTILINE)
    ]


CASES = cases_in(Path(__file__).parent)
