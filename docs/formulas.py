"""Sphinx extension: formulas become MathML when the pages are built, which browsers draw without a script or a network."""

from __future__ import annotations

from typing import Any

from docutils import nodes
from math_core import LatexError, LatexToMathML
from sphinx.application import Sphinx
from sphinx.util import logging
from sphinx.writers.html5 import HTML5Translator

CONVERTER = LatexToMathML(fancy_error=False)


def mathml(node: nodes.math | nodes.math_block) -> str:
    """Return the formula as MathML; warn, as of a broken link, where its TeX is not understood."""
    text, block = node.astext().strip(), isinstance(node, nodes.math_block)
    if r"\\" in text and not text.startswith(r"\begin{"):
        text = rf"\begin{{aligned}}{text}\end{{aligned}}"  # lines with &, as in reStructuredText
    try:
        return str(CONVERTER.convert_with_local_state(text, displaystyle=block))
    except LatexError as error:
        logging.getLogger(__name__).warning("formula: %s in %s", error, text, location=node)
        return ""


def visit_math(self: HTML5Translator, node: nodes.math) -> None:
    """Write a formula within a line."""
    self.body.append(mathml(node))
    raise nodes.SkipNode


def visit_math_block(self: HTML5Translator, node: nodes.math_block) -> None:
    """Write a formula that stands alone, in a box that scrolls where the page is narrower."""
    self.body.append(f'<div class="formula">{mathml(node)}</div>\n')
    raise nodes.SkipNode


def setup(app: Sphinx) -> dict[str, Any]:
    """Draw with these functions."""
    app.add_html_math_renderer("mathml", (visit_math, None), (visit_math_block, None))
    return {"parallel_read_safe": True, "parallel_write_safe": True}
