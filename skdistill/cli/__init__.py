"""The command line: ``skdistill distill``, ``pretrain``, ``evaluate`` and so on.

A command is a file of its own with ``add_parser(subparsers)``, which sets `run` and, where an
interrupted run leaves something to go on from, `kept`.
"""

import argparse
import shlex
import sys
import warnings

from skdistill import __version__
from skdistill.cli import backbones, distill, evaluate, pretrain, report

__all__ = ["main"]

COMMANDS = (distill, pretrain, evaluate, report, backbones)
EPILOG = """\
examples:
  skdistill distill digits --ipc 10 --out distilled
  skdistill evaluate distilled digits
  skdistill report distilled digits
  skdistill backbones
  skdistill pretrain my_images --test 0.2 --out my_backbone
  skdistill distill my_images --test 0.2 --backbone my_backbone --ipc 20 --out distilled
"""


def main(arguments=None):
    """Run the command line.

    Parameters
    ----------
    arguments : list of str, default=None
        The arguments after the program's name; None takes those of the process.

    Returns
    -------
    code : int
        0 if all went well, 2 if the input cannot be used, 130 if it was interrupted.
    """
    parser = _build_parser()
    options = parser.parse_args(arguments)
    options.command_line = shlex.join(
        ["skdistill", *(sys.argv[1:] if arguments is None else arguments)]
    )
    with warnings.catch_warnings():
        warnings.showwarning = lambda message, *_: print(f"warning: {message}", file=sys.stderr)
        try:
            return options.run(options)
        except (ValueError, OSError, FloatingPointError, ImportError) as error:
            print(f"skdistill {options.subcommand}: error: {error}", file=sys.stderr)
            return 2
        except KeyboardInterrupt:
            print(f"\nInterrupted. {_how_to_go_on(options)}", file=sys.stderr)
            return 130


def _how_to_go_on(options):
    """Say what an interrupted command leaves behind."""
    kept = options.kept(options)
    if kept is None:
        return f"Nothing is finished yet; start again with:\n  {options.command_line}"
    return f"{kept}; the same command goes on from there:\n  {options.command_line}"


def _build_parser():
    parser = argparse.ArgumentParser(
        prog="skdistill",
        description="Shrink a labelled data set to a few synthetic samples a class.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"skdistill {__version__}")
    parser.set_defaults(kept=lambda options: None)
    subparsers = parser.add_subparsers(dest="subcommand", required=True, metavar="COMMAND")
    for command in COMMANDS:
        command.add_parser(subparsers)
    return parser
