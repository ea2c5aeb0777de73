"""What the papers say, a file a source: every claim once, with the published value, or why it was not attempted.

An experiment's :class:`~reproduction.frame.Finding` names the claim that it is about, as ``SOURCE/ID``. A claim whose
halves can come out differently is two.
"""

from __future__ import annotations

import functools
import tomllib
from dataclasses import dataclass
from pathlib import Path

SOURCES = ("adamod", "article", "radam", "untuned", "library")
"""The files, in the order of the page."""

FOLDER = Path(__file__).parent


@dataclass(frozen=True)
class Claim:
    """One statement that can be checked. All texts are Markdown of one line."""

    id: str
    source: str
    where: str
    """Section, figure or table."""
    claim: str
    published: str
    """The numbers as they are printed; empty where there are none."""
    not_attempted: str = ""
    """The reason, where no experiment is about it."""


@functools.cache
def all_claims() -> dict[str, Claim]:
    """Return every claim by its name, in the order of the sources."""
    found: dict[str, Claim] = {}
    for name in SOURCES:
        table = tomllib.loads((FOLDER / f"{name}.toml").read_text(encoding="utf-8"))
        for row in table["claims"]:
            claim = Claim(**{**row, "id": f"{name}/{row['id']}", "source": table["source"]})
            if claim.id in found:
                raise ValueError(f"{claim.id} is listed twice")
            found[claim.id] = claim
    return found
