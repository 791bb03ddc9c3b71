"""What the scripts beside this file share: raw results, a line of JSON each, and tables of them."""

import functools
import json
import tempfile
from pathlib import Path

import numpy as np

from skdistill.protocols import PROTOCOLS
from skdistill.validation import has_bfloat16, pick_device

README = Path(__file__).parents[2] / "README.md"
# What draws the images of each data set.
BACKBONES = {"digits": "digits", "fashion-mnist": "fashion", "cifar10": "cifar10"}
TITLES = {"digits": "digits", "fashion-mnist": "Fashion-MNIST", "cifar10": "CIFAR-10"}
# Of distribution matching: fewer steps than the default, which would take hours.
MATCHING = {
    "digits": {"steps": 300, "augmentation": ("scale", "rotate")},
    "fashion-mnist": {"steps": 300, "dtype": "bfloat16"},
    "cifar10": {"steps": 300, "dtype": "bfloat16"},
}


def read_lines(path):
    """Return the results of a file, by name."""
    lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
    return {result["name"]: result for result in map(json.loads, lines)}


def add_line(path, result):
    """Add a result. One write to the end of a file: other processes do the same."""
    with path.open("a", encoding="utf-8") as file:
        file.write(json.dumps(result) + "\n")


def make_missing(path, names, measure):
    """Make the results that a file lacks, one after the other."""
    for name in names:
        # Read anew each time: other processes may have made it.
        if name not in read_lines(path):
            result = {"name": name} | measure(name)
            add_line(path, result)
            print(json.dumps(result), flush=True)


@functools.cache
def memory():
    """Return a folder for what is encoded."""
    return tempfile.mkdtemp(prefix="skdistill-benchmark-")


def fast_dtype():
    """Return bfloat16, or float32 where that would be emulated."""
    return "bfloat16" if has_bfloat16(pick_device("auto")) else "float32"


def distiller_settings(data):
    """Return what all distillers of a data set share."""
    return {
        "value_range": PROTOCOLS[data]["value_range"],
        "memory": memory(),
        "dtype": "float32" if data == "digits" else fast_dtype(),
    }


def mean_and_error(values, decimals=1):
    """Write a mean and its standard error."""
    mean = f"{np.mean(values):.{decimals}f}"
    if len(values) > 1:
        mean += f" ± {np.std(values, ddof=1) / np.sqrt(len(values)):.{decimals}f}"
    return mean


def with_number(values, wanted, decimals=1):
    """Write a mean and its error, with the number of values where it is not the wanted one."""
    if len(values) == 0:
        return "-"
    text = mean_and_error(values, decimals)
    return text if len(values) == wanted else f"{text} ({len(values)})"


def table(header, rows):
    """Lay rows of strings out as a table in Markdown."""
    lines = [f"| {' | '.join(header)} |", "|---|" + "---:|" * (len(header) - 1)]
    return "\n".join([*lines, *(f"| {' | '.join(row)} |" for row in rows)])


def split_readme(mark):
    """Return the README before a marked table, that table, and what is after it."""
    begin, end = (f"<!-- {mark} table: {place} -->\n" for place in ("begin", "end"))
    before, rest = README.read_text(encoding="utf-8").split(begin)
    between, after = rest.split(end)
    return before + begin, between, end + after


def write_readme(mark, text):
    """Replace a marked table of the README."""
    before, _, after = split_readme(mark)
    README.write_text(before + text + after, encoding="utf-8")
