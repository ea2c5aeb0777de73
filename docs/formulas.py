"""Sphinx extension: formulas become MathML in the build, which browsers draw without script and network."""

from __future__ import annotations

import re
from typing import Any

from docutils import nodes
from math_core import LatexError, LatexToMathML
from sphinx.application import Sphinx
from sphinx.transforms.post_transforms import SphinxPostTransform
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


class KeepPunctuation(SphinxPostTransform):
    """Put a formula and the brackets, quotes and commas that touch it in one unbreakable span.

    Browsers may break a line on either side of inline MathML, whatever stands there.
    """

    default_priority = 900  # after the quotes became typographic
    OPENING = re.compile(r"[(\[\u2018\u201c]+$")
    CLOSING = re.compile(r"^[)\].,;:!?\u2019\u201d]+s?")

    def run(self, **_: Any) -> None:
        """Look at each formula of a page."""
        for formula in list(self.document.findall(nodes.math)):
            line, place = formula.parent, formula.parent.index(formula)
            before, after = (line[i] if 0 <= i < len(line) else None for i in (place - 1, place + 1))
            group: list[nodes.Node] = [formula]
            if isinstance(after, nodes.Text) and (found := self.CLOSING.search(after)):
                group.append(nodes.Text(found[0]))
                line[place + 1] = nodes.Text(after[found.end() :])
            if isinstance(before, nodes.Text) and (found := self.OPENING.search(before)):
                group.insert(0, nodes.Text(found[0]))
                line[place - 1] = nodes.Text(before[: found.start()])
            if len(group) > 1:
                line[place] = nodes.inline("", "", *group, classes=["together"])


def setup(app: Sphinx) -> dict[str, Any]:
    """Draw with these functions."""
    app.add_post_transform(KeepPunctuation)
    app.add_html_math_renderer("mathml", (visit_math, None), (visit_math_block, None))
    return {"parallel_read_safe": True, "parallel_write_safe": True}
