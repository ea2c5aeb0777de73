"""All cases: their names, found without the framework that their files import, and what they come to."""

from __future__ import annotations

import importlib
import json
import re
import sys
import traceback
from pathlib import Path
from typing import Any


def cases_in(folder: Path) -> list[tuple[str, str]]:
    """Return the file and name of every case in a folder."""
    return [
        (path.stem, name)
        for path in sorted(folder.glob("*.py"))
        for name in re.findall(r"^def (case_\w+)\(", path.read_text(encoding="utf-8"), re.MULTILINE)
    ]


def print_outcomes(package: str, cases: list[tuple[str, str]], argument: Any) -> None:
    """Take every case, and print what each came to, nothing or its error, for ``launch.outcomes`` to read."""
    found: dict[str, str] = {}
    for file, name in cases:
        try:
            getattr(importlib.import_module(f"{package}.{file}"), name)(argument)
            found[name] = ""
        except BaseException:
            found[name] = traceback.format_exc()
            break  # the others would wait for this process
    sys.stdout.write("\n" + json.dumps(found))
    sys.stdout.flush()


CASES = cases_in(Path(__file__).parent)
