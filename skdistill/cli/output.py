"""What commands print, for people and for machines."""

import json
import shutil
import sys

# What the whole of DATA is called beside the sets that are compared.
ALL = "all training data"


def say(options, text):
    """Print a message, unless --quiet; beside JSON it goes to standard error."""
    if not options.quiet:
        print(text, file=sys.stderr if options.json else sys.stdout)


def line_width():
    """Return how many characters fit in a line, None where no terminal limits it."""
    return shutil.get_terminal_size().columns if sys.stdout.isatty() else None


def print_json(content):
    """Print a result for machines."""
    print(to_json(content))


def to_json(content):
    """Return a result as it is printed and kept for machines."""
    return json.dumps(content, indent=2, default=str)
