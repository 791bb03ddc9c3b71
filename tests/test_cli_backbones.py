import json
import re
import shutil

import pytest

from skdistill.backbones import describe_backbone, shipped_backbones
from skdistill.backbones.folder import WEIGHTS
from skdistill.cli import main


@pytest.fixture
def terminal(monkeypatch):
    return lambda columns: monkeypatch.setenv("COLUMNS", str(columns))


def test_what_is_shipped_is_listed_with_what_it_was_trained_on(terminal, capsys):
    terminal(100)
    assert main(["backbones"]) == 0
    head, *lines = capsys.readouterr().out.splitlines()
    assert head.split() == ["name", "images", "classes", "size"]
    assert [line.split()[0] for line in lines if line[0] != " "] == shipped_backbones()
    place = next(i for i, line in enumerate(lines) if line.startswith("digits"))
    for fact in ("8 x 8 grey", "10", "3.2 MB"):
        assert fact in lines[place]
    below = " ".join(" ".join(lines[place + 1 : place + 3]).split())
    assert "load_digits_split" in below
    assert "FID 1.77" in below
    assert "BSD-3-Clause" in below


@pytest.mark.parametrize("columns", [40, 60, 80, 100])
def test_no_line_is_longer_than_the_terminal(columns, terminal, capsys):
    terminal(columns)
    main(["backbones"])
    assert max(map(len, capsys.readouterr().out.splitlines())) <= columns
    main(["backbones", "digits"])
    facts = capsys.readouterr().out.splitlines()
    assert max(len(fact) for fact in facts if not fact.startswith("folder")) <= columns
    assert facts[-1].split() == ["folder", str(WEIGHTS / "digits")]


def test_a_folder_is_described(tmp_path, terminal, capsys):
    terminal(80)
    folder = shutil.copytree(WEIGHTS / "digits", tmp_path / "mine")
    for record in ("training.json", "evaluation.json"):
        (folder / record).unlink()
    assert main(["backbones", str(folder)]) == 0
    name, *facts = capsys.readouterr().out.splitlines()
    assert name == str(folder)
    facts = dict(fact.split(maxsplit=1) for fact in facts)
    assert facts["images"] == "8 x 8 grey"
    assert facts["latents"] == "4 x 4 x 4"
    assert facts["classes"] == "10 (0, 1, 2, 3, 4, 5, 6, 7, 8, 9)"
    assert facts["licence"] == facts["FID"] == "-"


def test_json_holds_the_same(capsys):
    assert main(["backbones", "digits", "--json"]) == 0
    described = json.loads(capsys.readouterr().out)
    assert described == json.loads(json.dumps(describe_backbone("digits")))
    assert main(["backbones", "--json"]) == 0
    assert described in json.loads(capsys.readouterr().out)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nowhere"], "backbone='nowhere' is neither .* shipped .* nor an existing folder"),
        (["--revision", "main"], "--revision='main' needs a BACKBONE"),
        (["digits", "--revision", "main"], "revision='main' is for a hub id .* is shipped"),
    ],
)
def test_errors_name_what_was_given(arguments, message, capsys):
    assert main(["backbones", *arguments]) == 2
    error = capsys.readouterr().err
    assert error.startswith("skdistill backbones: error: ")
    assert re.search(message, error)
