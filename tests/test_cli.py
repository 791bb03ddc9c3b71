import argparse
import io
import json
import os
import re
import subprocess
import sys
import warnings
from pathlib import Path

import pytest
import torch

import skdistill
from skdistill import progress
from skdistill.cli import COMMANDS, _build_parser, main

PAGE = Path(__file__).parents[1] / "docs" / "guide" / "command_line.rst"
NAMES = [command.__name__.rpartition(".")[2] for command in COMMANDS]


def parser_of(command):
    (subparsers,) = (
        action
        for action in _build_parser()._actions
        if isinstance(action, argparse._SubParsersAction)
    )
    return subparsers.choices[command]


def test_version(capsys):
    with pytest.raises(SystemExit, match="0"):
        main(["--version"])
    assert capsys.readouterr().out == f"skdistill {skdistill.__version__}\n"


ANSWERED_AT_ONCE = [
    *(["--help"], ["--version"], [], ["unheard-of"]),
    *([name, "--help"] for name in NAMES),
    *(["distill"], ["distill", "--ipc", "a"], ["evaluate", "set", "digits", "--rivals", "none"]),
]


def test_help_version_and_wrong_usage_do_not_wait_for_what_computes():
    program = f"""
import sys
from skdistill.cli import main
for arguments in {ANSWERED_AT_ONCE}:
    try:
        main(arguments)
    except SystemExit as answered:
        print(answered.code, file=sys.stderr)
    else:
        sys.exit("not answered at once")
print(*sorted({{"diffusers", "numpy", "scipy", "sklearn", "torch"}} & sys.modules.keys()))
"""
    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert ran.returncode == 0, ran.stderr
    assert ran.stdout.splitlines()[-1] == ""
    codes = [int(line) for line in ran.stderr.splitlines() if line.isdecimal()]
    assert codes == [0, 0, 2, 2, *([0] * len(NAMES)), 2, 2, 2]


def test_each_command_has_a_line_of_its_own(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    with pytest.raises(SystemExit, match="0"):
        main(["--help"])
    listed = capsys.readouterr().out.split("COMMAND\n")[1].split("\n\n")[0].splitlines()
    assert [line.split()[0] for line in listed] == list(NAMES)
    starts = {len(line) - len(line.split(maxsplit=1)[1]) for line in listed}
    assert len(starts) == 1


@pytest.mark.parametrize("columns", [50, 100])
@pytest.mark.parametrize("command", [[], *([name] for name in NAMES)])
def test_help_explains_each_option_and_fits_the_terminal(command, columns, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", str(columns))
    with pytest.raises(SystemExit, match="0"):
        main([*command, "--help"])
    out = capsys.readouterr().out
    assert "None" not in out
    usage, text = out.split("\n", maxsplit=1)
    text, examples = text.split("\nexamples:\n")
    examples, codes = examples.split("\nexit codes:\n")
    assert usage.startswith(" ".join(["usage: skdistill", *command]))
    assert max(map(len, (text + codes).splitlines())) <= columns
    # In one piece, so that they can be copied.
    for example in examples.strip().splitlines():
        assert example.strip().startswith(" ".join(["skdistill", *command]))
    assert [line.split()[0] for line in codes.splitlines()] == ["0", "1", "2", "130"]


@pytest.mark.parametrize("command", NAMES)
def test_no_option_lacks_a_help_text(command):
    for action in parser_of(command)._actions:
        assert action.help, action.dest


@pytest.mark.parametrize("command", NAMES)
def test_examples_of_help_are_command_lines(command):
    lines = parser_of(command).epilog.splitlines()
    examples = [line.split() for line in lines if line.startswith("  skdistill")]
    assert examples
    for _, *arguments in examples:
        if ">" in arguments:
            arguments = arguments[: arguments.index(">")]
        assert _build_parser().parse_args(arguments).subcommand == command


@pytest.mark.parametrize("command", NAMES)
def test_every_command_speaks_to_machines(command):
    assert "--json" in parser_of(command)._option_string_actions


@pytest.mark.parametrize("command", ["distill", "pretrain", "evaluate"])
def test_every_command_that_computes_takes_seed_device_and_quiet(command):
    assert {"--seed", "--device", "--quiet"} <= parser_of(command)._option_string_actions.keys()


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (OSError(28, "No space left on device", "run/grid.png"), 1),
        (FloatingPointError("The dit diverged."), 1),
        (ImportError("torchmetrics is not installed"), 1),
        (MemoryError(), 1),
        (torch.OutOfMemoryError("CUDA out of memory."), 1),
        (ValueError("ipc=0 must be larger."), 2),
    ],
)
def test_exit_codes_tell_failures_from_unusable_input(error, code, monkeypatch, capsys):
    def fail(*_):
        raise error

    monkeypatch.setattr("skdistill.cli.compared.load_split", fail)
    assert main(["evaluate", "set", "digits", "--json"]) == code
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err == f"skdistill evaluate: error: {str(error) or repr(error)}\n"


@pytest.mark.parametrize("arguments", [[], ["unheard-of"], ["distill"], ["distill", "--ipc", "a"]])
def test_wrong_usage_is_code_2(arguments, capsys):
    with pytest.raises(SystemExit, match="2"):
        main(arguments)
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("usage: skdistill")


def test_what_is_no_fault_of_the_input_keeps_its_traceback(monkeypatch):
    def fail(*_):
        raise KeyError("a defect")

    monkeypatch.setattr("skdistill.cli.compared.load_split", fail)
    with pytest.raises(KeyError):
        main(["evaluate", "set", "digits"])


def test_a_reader_that_is_gone_is_not_complained_about(monkeypatch, capfd):
    reader, writer = os.pipe()
    os.close(reader)
    with os.fdopen(writer, "w") as stdout:
        monkeypatch.setattr(sys, "stdout", stdout)
        assert main(["backbones"]) == 1
    assert capfd.readouterr().err == ""


def test_warnings_are_one_line_on_standard_error(monkeypatch, capsys):
    def warn(*_):
        warnings.warn("The set is small.", stacklevel=2)
        raise ValueError("enough")

    monkeypatch.setattr("skdistill.cli.compared.load_split", warn)
    assert main(["evaluate", "set", "digits"]) == 2
    captured = capsys.readouterr()
    assert captured.err.splitlines()[0] == "warning: The set is small."
    assert captured.out == ""


class Terminal(io.StringIO):
    def isatty(self):
        return True


def test_a_terminal_shows_how_far_each_step_is(tmp_path, image_folder, monkeypatch):
    monkeypatch.setattr(progress, "DELAY", 0)
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    run = str(tmp_path / "run")
    options = ["--backbone", "digits", "--ipc", "1", "--steps", "2", "--no-scores"]
    # The folders are no names of the backbone's classes.
    classes = [f"--class-map=class {k}={k}" for k in range(3)]
    assert main(["distill", str(image_folder), *options, *classes, "--out", run]) == 0
    shown = terminal.getvalue()
    for step in ("loading", "encoding", "clustering", "denoising"):
        assert f"{step}: 100%" in shown
    judged = ["--students", "linear", "--rivals", "--seeds", "1", "--features", "values"]
    assert main(["evaluate", run, str(image_folder), "--test", "0.3", *judged]) == 0
    shown = terminal.getvalue()
    for step in ("training students", "comparing sets"):
        assert f"{step}: 100%" in shown
    quiet = Terminal()
    monkeypatch.setattr(sys, "stderr", quiet)
    options = [*options, *classes, "--quiet"]
    assert main(["distill", str(image_folder), *options, "--out", f"{run}-quiet"]) == 0
    assert "%" not in quiet.getvalue()


def described_keys(command):
    """Return the keys of the JSON that the page of the command line describes."""
    text = PAGE.read_text(encoding="utf-8")
    section = text.split(f".. _command-{command}:")[1].split(".. _command-")[0]
    return re.findall(r"^:(\w+): ", section, flags=re.MULTILINE)


def test_json_stands_alone_and_is_what_the_page_says(
    tmp_path, image_folder, capsys, short_training
):
    backbone, run = str(tmp_path / "backbone"), str(tmp_path / "run")
    sizes = ["--steps", "2", "--vae-steps", "2", "--width", "32", "--depth", "1"]
    commands = {
        "pretrain": [str(image_folder), "--out", backbone, *sizes],
        "backbones": [backbone],
        "distill": [
            *(str(image_folder), "--backbone", backbone, "--ipc", "1", "--steps", "2"),
            *("--test", "0.3", "--out", run),
        ],
        "evaluate": [
            *(run, str(image_folder), "--test", "0.3", "--rivals", "--students", "linear"),
            *("--seeds", "1", "--features", "values"),
        ],
        "report": [run],
    }
    results = {}
    for command, arguments in commands.items():
        assert main([command, *arguments, "--json"]) == 0
        results[command] = json.loads(capsys.readouterr().out)
    assert results["pretrain"] == results["backbones"]
    for command in ("distill", "evaluate", "report"):
        assert sorted(results[command]) == sorted(described_keys(command))
    assert results["distill"]["n_training"]["ManifoldGD"] == 3
    assert results["evaluate"]["n_training"]["SET"] == 3


def interrupt(*_, **__):
    raise KeyboardInterrupt


def test_ctrl_c_before_anything_is_finished_says_so(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("skdistill.cli.distiller.ManifoldGDDistiller.fit", interrupt)
    monkeypatch.setattr("skdistill.training.pretrain", interrupt)
    for command in ("distill", "pretrain"):
        arguments = [command, "digits", "--out", str(tmp_path / "out")]
        assert main(arguments) == 130
        error = capsys.readouterr().err
        assert "Nothing is finished yet" in error
        assert f"skdistill {command} digits" in error


def test_ctrl_c_in_a_command_that_keeps_nothing_says_how_to_start_again(monkeypatch, capsys):
    monkeypatch.setattr("skdistill.cli.compared.load_split", interrupt)
    assert main(["evaluate", "set", "digits"]) == 130
    error = capsys.readouterr().err
    assert error.endswith("start again with:\n  skdistill evaluate set digits\n")


@pytest.mark.parametrize(
    ("option", "value", "message"),
    [
        ("--seed", str(2**32), "no seed below 2**32"),
        ("--jobs", "0", "no number of processes; -1 takes all cores"),
        ("--jobs", "two", "no number of processes"),
    ],
)
def test_numbers_that_nothing_can_be_done_with_are_named(option, value, message, capsys):
    with pytest.raises(SystemExit, match="2"):
        main(["distill", "digits", "--out", "run", option, value])
    assert f"argument {option}: '{value}' is {message}" in capsys.readouterr().err
