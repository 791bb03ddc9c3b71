"""The options of a command, from the parser that reads them.

``.. command-options:: distill`` says what the command is for and lists what it takes, each
option as Sphinx's ``option``, so that it has a link of its own and is in the index.
"""

import argparse
import re

from docutils import nodes
from docutils.statemachine import StringList
from sphinx.util.docutils import SphinxDirective

from skdistill.cli import _build_parser


def _subparsers(parser):
    (action,) = (a for a in parser._actions if isinstance(a, argparse._SubParsersAction))
    return action.choices


def _as_rst(text):
    """Mark options and quoted words as code, which keeps dashes and quotes what they are."""
    return re.sub(r"'([\w-]+)'|(--[a-z][\w-]*)", r"``\1\2``", text)


def _groups(parser):
    """Yield lines for each group of arguments; --help is not listed."""
    formatter = parser._get_formatter()
    for group in parser._action_groups:
        actions = [a for a in group._group_actions if not isinstance(a, argparse._HelpAction)]
        if not actions:
            continue
        yield f".. rubric:: {group.title.capitalize()}"
        yield from ("", _as_rst(group.description or ""), "")
        for action in actions:
            yield f".. option:: {formatter._format_action_invocation(action)}"
            yield from ("", f"   {_as_rst(formatter._expand_help(action))}", "")


class CommandOptions(SphinxDirective):
    """The directive."""

    required_arguments = 1

    def run(self):
        """Return the nodes of one command."""
        name = self.arguments[0]
        parser = _subparsers(_build_parser())[name]
        lines = [_as_rst(parser.description), "", f".. program:: skdistill {name}", ""]
        found = nodes.Element()
        content = StringList([*lines, *_groups(parser)], source=f"skdistill {name} --help")
        self.state.nested_parse(content, self.content_offset, found)
        return found.children


def setup(app):
    """Tell Sphinx of the directive."""
    app.add_directive("command-options", CommandOptions)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
