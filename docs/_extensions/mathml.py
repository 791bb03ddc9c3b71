"""Formulas as MathML, which browsers draw by themselves.

MathJax, Sphinx's own way, is fetched from a network at every reading, and pictures made by LaTeX
need LaTeX, blur on paper and stay black in the dark. docutils turns the LaTeX of the sources into
MathML while the pages are built: nothing is fetched, and formulas are text that takes the colour
of the page, can be copied and is read aloud.
"""

import html
import re
from xml.etree import ElementTree

from docutils import nodes
from docutils.utils.math import MathError
from docutils.utils.math.latex2mathml import tex2mathml
from sphinx.util import logging

MATHML = "{http://www.w3.org/1998/Math/MathML}"
# HTML knows the elements by their plain names.
ElementTree.register_namespace("", MATHML[1:-1])
logger = logging.getLogger(__name__)


def _convert(node, as_block):
    try:
        formula = tex2mathml(node.astext(), as_block=as_block)
    except MathError as error:
        logger.warning("formula %r: %s", node.astext(), error, location=node)
        return node.astext()
    # XML knows three names of characters, HTML all of them.
    named = re.sub(r"&(?!lt;|gt;|amp;)\w+;", lambda name: html.unescape(name[0]), formula)
    root = ElementTree.fromstring(named)
    for under in root.iter(f"{MATHML}munderover"):
        base, script, over = under
        # docutils sets the index of an accented letter below it: right for sums, not for x_0.
        if over.get("stretchy") == "false":
            under.tag = f"{MATHML}msub"
            under[:] = [ElementTree.Element(f"{MATHML}mover", accent="true"), script]
            under[0].extend([base, over])
    return ElementTree.tostring(root, encoding="unicode")


def visit_inline(translator, node):
    """Write a formula within a line."""
    translator.body.append(_convert(node, as_block=False))
    raise nodes.SkipNode


def visit_block(translator, node):
    """Write a formula on a line of its own."""
    translator.body.append(f'<div class="formula">{_convert(node, as_block=True)}</div>')
    raise nodes.SkipNode


def setup(app):
    """Tell Sphinx of the renderer."""
    app.add_html_math_renderer("mathml", (visit_inline, None), (visit_block, None))
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
