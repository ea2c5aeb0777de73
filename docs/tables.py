"""Sphinx extension: columns of prose in a table get the class ``prose``, for a width at which they are read."""

from __future__ import annotations

from typing import Any

from docutils import nodes
from sphinx.application import Sphinx

LONG = 50
"""Characters in a cell that make its column one of prose."""


def mark_prose(_: Sphinx, doctree: nodes.document) -> None:
    """Add the class to every cell of such a column."""
    for table in doctree.findall(nodes.table):
        rows = [list(row.findall(nodes.entry)) for row in table.findall(nodes.row)]
        for column in zip(*rows, strict=False):
            if max(len(cell.astext()) for cell in column) > LONG:
                for cell in column:
                    cell["classes"].append("prose")


def setup(app: Sphinx) -> dict[str, Any]:
    """Look at each page once it is read."""
    app.connect("doctree-read", mark_prose)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
