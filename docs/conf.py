"""Sphinx configuration: `sphinx-build -W -b html docs docs/_build/html`. Nothing is fetched."""

from __future__ import annotations

import sys
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import adamod_array

ROOT = Path(__file__).parent.parent

project = "adamod_array"
release = version = adamod_array.__version__
copyright = "the adamod_array authors. Apache-2.0"

sys.path.insert(0, str(Path(__file__).parent))
extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "formulas", "tables"]
html_math_renderer = "mathml"
exclude_patterns = ["_build", "reproduction/_*", "performance_table.md"]  # the last is part of performance.md

myst_enable_extensions = ["dollarmath", "amsmath", "substitution"]
myst_heading_anchors = 3

autodoc_typehints = "none"  # arrays and trees are Any: the docstrings say more
autodoc_member_order = "bysource"
add_module_names = False
napoleon_google_docstring = False
napoleon_use_param = False  # types are prose ("float, schedule, or a tree prefix of them"), not cross-references
napoleon_use_rtype = False
napoleon_use_ivar = True

nitpicky = True
nitpick_ignore_regex = [
    ("py:exc", r"[A-Z]\w+Error"),  # Python's own, which only a network could resolve
    ("py:class", r"[a-z ]+"),  # types in prose
]

html_theme = "furo"
html_title = f"adamod_array {version}"
html_theme_options: dict[str, Any] = {"top_of_page_buttons": []}
html_show_sourcelink = False
html_domain_indices = False  # of modules: the API is one page
html_static_path = ["_static"]
html_css_files = ["pages.css"]


TABLES = [tomllib.loads(path.read_text(encoding="utf-8")) for path in sorted((ROOT / "backends").glob("*.toml"))]


def table_of(columns: dict[str, Callable[[dict[str, Any]], str]]) -> str:
    """A line a backend, of backends/*.toml."""
    rows = [list(columns), ["---"] * len(columns), *([cell(table) for cell in columns.values()] for table in TABLES)]
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def support_table() -> str:
    """What is served, and how."""
    return table_of(
        {
            "backend": lambda table: str(table["title"]),
            "devices": lambda table: ", ".join(table["devices"]),
            "dtypes": lambda table: ", ".join(table["dtypes"]),
            "engines": lambda table: ", ".join(table["engines"]),
            "donates": lambda table: "yes" if table["donates"] else "no",
            "ulp bounds": lambda table: ", ".join(f"{dtype}: {ulp}" for dtype, ulp in table["ulp"].items()),
        }
    )


def version_table() -> str:
    """What it is tested with."""
    return table_of(
        {
            "backend": lambda table: str(table["title"]),
            "tested with": lambda table: ", ".join(f"`{each}`" for each in table["requirements"]),
            "Python": lambda table: ", ".join(table["pythons"]),
        }
    )


def known_deviations() -> str:
    """The list of them in backends/*.toml, or that there are none."""
    found = [f"* **{table['title']}**: {each}" for table in TABLES for each in table["deviations"]]
    return "\n".join(found) or "None is known."


myst_substitutions = {
    "support_table": support_table(),
    "version_table": version_table(),
    "known_deviations": known_deviations(),
}
