"""The command line: ``skdistill distill``, ``pretrain``, ``evaluate`` and so on.

A command is a file of its own with ``add_parser(subparsers)``, which sets `run` and, where an
interrupted run leaves something to go on from, `kept`, and where options decide the defaults of
others, `defaults`. Modules that bring scikit-learn, PyTorch or diffusers are imported within those
functions: help, the version and what is wrong with the arguments come at once.
"""

import argparse
import os
import shlex
import sys
import warnings

from tqdm.auto import tqdm

from skdistill import __version__
from skdistill.cli import backbones, distill, evaluate, pretrain, report
from skdistill.cli.arguments import EXIT_CODES, HelpFormatter

__all__ = ["main"]

COMMANDS = (distill, pretrain, evaluate, report, backbones)
EPILOG = f"""\
examples:
  skdistill distill digits --ipc 10 --out distilled
  skdistill evaluate distilled digits
  skdistill report distilled digits
  skdistill backbones
  skdistill pretrain my_images --test 0.2 --out my_backbone
  skdistill distill my_images --test 0.2 --backbone my_backbone --ipc 20 --out distilled

{EXIT_CODES}
"""
# Whatever the code, these say that the work could not be done, not that its input is at fault.
FAILURES = (
    OSError,
    FloatingPointError,
    ImportError,
    MemoryError,
)


def main(arguments=None):
    """Run the command line.

    Parameters
    ----------
    arguments : list of str, default=None
        The arguments after the program's name; None takes those of the process.

    Returns
    -------
    code : int
        0 if all went well, 1 if it failed, 2 if the input cannot be used, 130 if it was
        interrupted.

    Raises
    ------
    SystemExit
        Of code 2 if the arguments cannot be read, of code 0 after --help and --version.
    """
    arguments = sys.argv[1:] if arguments is None else arguments
    parser = _build_parser()
    options = parser.parse_args(arguments)
    command_line = shlex.join(["skdistill", *arguments])
    with warnings.catch_warnings():
        warnings.showwarning = _show_warning
        try:
            options.defaults(options)
            options = parser.parse_args(arguments)
            options.command_line = command_line
            if getattr(options, "quiet", False):
                from huggingface_hub.utils import disable_progress_bars

                # Those of downloads.
                disable_progress_bars()
            code = options.run(options)
            # Here, where a reader that is gone can be told from other failures.
            sys.stdout.flush()
            return code
        except BrokenPipeError:
            # Python flushes once more when it ends.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return 1
        except FAILURES as error:
            return _fail(options, error, 1)
        except ValueError as error:
            return _fail(options, error, 2)
        except RuntimeError as error:
            import torch

            if not isinstance(error, torch.OutOfMemoryError):
                raise
            return _fail(options, error, 1)
        except KeyboardInterrupt:
            _tell(f"\nInterrupted. {_how_to_go_on(options, command_line)}")
            return 130


def _show_warning(message, *_, **__):
    _tell(f"warning: {message}")


def _fail(options, error, code):
    """Say what is wrong in one line; return the exit code."""
    _tell(f"skdistill {options.subcommand}: error: {str(error) or repr(error)}")
    return code


def _tell(message):
    """Print to standard error, above any progress bar."""
    tqdm.write(message, file=sys.stderr)


def _how_to_go_on(options, command_line):
    """Say what an interrupted command leaves behind."""
    kept = options.kept(options)
    if kept is None:
        return f"Nothing is finished yet; start again with:\n  {command_line}"
    return f"{kept}; the same command goes on from there:\n  {command_line}"


def _build_parser():
    parser = argparse.ArgumentParser(
        prog="skdistill",
        description="Shrink a labelled data set to a few synthetic samples a class.",
        epilog=EPILOG,
        formatter_class=HelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"skdistill {__version__}")
    parser.set_defaults(kept=lambda options: None, defaults=lambda options: None)
    subparsers = parser.add_subparsers(dest="subcommand", required=True, metavar="COMMAND")
    for command in COMMANDS:
        command.add_parser(subparsers)
    return parser
