import argparse

import pytest

import skdistill
from skdistill.cli import _build_parser, main


def test_version(capsys):
    with pytest.raises(SystemExit, match="0"):
        main(["--version"])
    assert capsys.readouterr().out == f"skdistill {skdistill.__version__}\n"


@pytest.mark.parametrize("command", [[], ["distill"], ["pretrain"], ["evaluate"]])
def test_help_explains_each_option(command, capsys):
    with pytest.raises(SystemExit, match="0"):
        main([*command, "--help"])
    out = capsys.readouterr().out
    assert "usage: skdistill" in out
    if command:
        assert "--seed" in out
        assert "None" not in out


@pytest.mark.parametrize("command", ["distill", "pretrain", "evaluate", "report", "backbones"])
def test_no_option_lacks_a_help_text(command):
    (subparsers,) = (
        action
        for action in _build_parser()._actions
        if isinstance(action, argparse._SubParsersAction)
    )
    for action in subparsers.choices[command]._actions:
        assert action.help, action.dest


def interrupt(*_, **__):
    raise KeyboardInterrupt


def test_ctrl_c_before_anything_is_finished_says_so(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("skdistill.cli.distill.ManifoldGDDistiller.fit", interrupt)
    monkeypatch.setattr("skdistill.cli.pretrain.pretrain", interrupt)
    for command in ("distill", "pretrain"):
        arguments = [command, "digits", "--out", str(tmp_path / "out")]
        assert main(arguments) == 130
        error = capsys.readouterr().err
        assert "Nothing is finished yet" in error
        assert f"skdistill {command} digits" in error


def test_ctrl_c_in_a_command_that_keeps_nothing_says_how_to_start_again(monkeypatch, capsys):
    monkeypatch.setattr("skdistill.cli.evaluate.load_split", interrupt)
    assert main(["evaluate", "set", "digits"]) == 130
    error = capsys.readouterr().err
    assert error.endswith("start again with:\n  skdistill evaluate set digits\n")
