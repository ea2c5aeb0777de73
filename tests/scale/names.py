"""The names of all cases, found without PyTorch, which their files import."""

from __future__ import annotations

import re
from pathlib import Path

CASES = [
    (path.stem, name)
    for path in sorted(Path(__file__).parent.glob("*.py"))
    for name in re.findall(r"^def (case_\w+)\(", path.read_text(encoding="utf-8"), re.MULTILINE)
]
