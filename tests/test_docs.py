"""That the pages say what is there: their commands, and every public name."""

import doctest
import importlib
import pkgutil
import re
import runpy
import shlex
from pathlib import Path

import pytest

import skdistill
from skdistill.cli import COMMANDS, _build_parser

ROOT = Path(__file__).parents[1]
PAGES = [*(ROOT / "docs").glob("*.rst"), *(ROOT / "docs").glob("[dg]*/*.rst")]
# What others of the package's modules share, and the command line.
PLUMBING = re.compile(
    r"skdistill\.(__main__|array_api|classwise|description|latents|progress|rows|sampling|tasks"
    r"|validation|(backbones|cli|metrics|plotting|report|training)\..*|cli)"
)


def commands():
    """Return the program's commands in the README and in the pages."""
    found = []
    for page in [ROOT / "README.md", *PAGES]:
        prompt = "    " if page.suffix == ".md" else r" +\$ "
        text = page.read_text(encoding="utf-8")
        found += re.findall(rf"^{prompt}(skdistill .*)$", text, flags=re.MULTILINE)
    return sorted(set(found))


@pytest.mark.parametrize("command", commands())
def test_commands_in_the_pages_are_ones_that_the_program_takes(command):
    _build_parser().parse_args(shlex.split(command)[1:])


def test_the_page_of_the_command_line_has_every_command():
    page = (ROOT / "docs" / "guide" / "command_line.rst").read_text(encoding="utf-8")
    shown = re.findall(r"^\.\. command-options:: (\w+)$", page, flags=re.MULTILINE)
    assert shown == [command.__name__.rpartition(".")[2] for command in COMMANDS]


def public_names():
    """Return all that the public modules export, by where it is defined."""
    for module in pkgutil.walk_packages(skdistill.__path__, "skdistill."):
        if PLUMBING.fullmatch(module.name) is None:
            for name in importlib.import_module(module.name).__all__:
                yield module.name, name


def test_every_public_name_is_in_the_reference():
    listed = set()
    for page in (ROOT / "docs" / "api").glob("*.rst"):
        listed |= set(re.findall(r"^(?:   |\.\. data:: )(\w+)$", page.read_text(), flags=re.M))
    missing = [f"{module}.{name}" for module, name in public_names() if name not in listed]
    assert missing == []


def test_every_listed_name_is_there():
    for page in (ROOT / "docs" / "api").glob("*.rst"):
        text = page.read_text(encoding="utf-8")
        found = re.search(r"^\.\. currentmodule:: (\S+)$", text, flags=re.M)
        if found:
            module = importlib.import_module(found[1])
            names = re.findall(r"^(?:   |\.\. data:: )(\w+)$", text, flags=re.M)
            assert names
            assert [name for name in names if not hasattr(module, name)] == []


@pytest.mark.parametrize("script", ["benchmarks/study.py", "run_imagenette_dit_xl.py"])
def test_the_papers_settings_in_the_guide_are_those_that_are_measured(script, monkeypatch):
    guide = (ROOT / "docs" / "guide" / "tuning.rst").read_text(encoding="utf-8")
    _, section = guide.split("The paper's settings\n")
    names = {name: getattr(skdistill, name) for name in skdistill.__all__}
    for example in doctest.DocTestParser().get_examples(section):
        exec(example.source, names)
    guided = names["published"].get_params(deep=False)
    path = ROOT / "examples" / script
    monkeypatch.syspath_prepend(str(path.parent))
    measured = runpy.run_path(str(path))["PUBLISHED"]
    assert {name: repr(guided[name]) for name in measured} == {
        name: repr(value) for name, value in measured.items()
    }
