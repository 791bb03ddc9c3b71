import json
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from PIL import Image
from sklearn.datasets import load_iris

import skdistill
from skdistill import load_distilled
from skdistill.cli import main


@pytest.fixture(scope="module")
def image_folder(tmp_path_factory, small_images):
    folder = tmp_path_factory.mktemp("images")
    for i, (image, label) in enumerate(zip(*small_images, strict=True)):
        path = folder / f"class {label}" / f"{i}.png"
        path.parent.mkdir(exist_ok=True)
        Image.fromarray(image).save(path)
    return folder


def test_digits_are_distilled_and_judged(tmp_path, capsys):
    run = tmp_path / "run"
    assert main(["distill", "digits", "--ipc", "2", "--steps", "10", "--out", str(run)]) == 0
    X, y = load_distilled(run)
    assert X.shape == (20, 8, 8)
    assert y.tolist() == sorted(list(range(10)) * 2)
    table = capsys.readouterr().out
    for name in ("ManifoldGD", "random real", "herding", "cluster means", "all training data"):
        assert name in table
    scores = json.loads((run / "scores.json").read_text())
    assert scores["n_test"] == 540
    accuracies = scores["scores"]["all training data"]
    assert len(accuracies["ConvNet"]) == len(accuracies["linear"]) == 3
    assert min(accuracies["ConvNet"]) > 0.97
    line = next(line for line in table.splitlines() if line.startswith("all training data"))
    assert f"{100 * np.mean(accuracies['ConvNet']):.1f} ±" in line


def test_a_folder_of_class_folders(tmp_path, image_folder, capsys):
    run = tmp_path / "run"
    arguments = [str(image_folder), "--ipc", "3", "--steps", "5", "--out", str(run)]
    assert main(["distill", *arguments, "--test", "0.3"]) == 0
    captured = capsys.readouterr()
    assert "warning: Images through the closed-form backbone" in captured.err
    assert "ConvNet" in captured.out
    assert sorted(path.name for path in (run / "images").iterdir() if path.is_dir()) == [
        "class 0",
        "class 1",
        "class 2",
    ]
    assert load_distilled(run)[0].dtype == np.uint8


def test_tables_in_npz_files_with_a_second_one_to_test_on(tmp_path, capsys):
    X, y = load_iris(return_X_y=True)
    np.savez(tmp_path / "train.npz", X=X[::2], y=y[::2])
    np.savez(tmp_path / "test.npz", X=X[1::2], y=y[1::2])
    arguments = ["distill", str(tmp_path / "train.npz"), "--test", str(tmp_path / "test.npz")]
    assert main([*arguments, "--ipc", "5", "--out", str(tmp_path / "run")]) == 0
    out = capsys.readouterr().out
    assert "75 held-out" in out
    assert "ConvNet" not in out


def test_without_held_out_data_there_are_no_accuracies(tmp_path, image_folder, capsys):
    run = str(tmp_path / "run")
    assert main(["distill", str(image_folder), "--ipc", "1", "--steps", "2", "--out", run]) == 0
    assert "give --test" in capsys.readouterr().out


def test_quiet_says_nothing(tmp_path, capsys):
    np.savez(tmp_path / "iris.npz", X=load_iris().data, y=load_iris().target)
    arguments = ["distill", str(tmp_path / "iris.npz"), "--ipc", "1", "--quiet"]
    assert main([*arguments, "--out", str(tmp_path / "run")]) == 0
    captured = capsys.readouterr()
    assert captured.out == captured.err == ""


def test_a_backbone_is_trained_and_used(tmp_path, image_folder, capsys):
    backbone, run = str(tmp_path / "backbone"), str(tmp_path / "run")
    sizes = ["--steps", "2", "--vae-steps", "2", "--width", "32", "--depth", "1"]
    assert main(["pretrain", str(image_folder), "--out", backbone, *sizes]) == 0
    assert "The backbone is in" in capsys.readouterr().out
    card = (tmp_path / "backbone" / "README.md").read_text()
    assert "skdistill pretrain" in card
    arguments = ["distill", str(image_folder), "--backbone", backbone, "--steps", "3"]
    assert main([*arguments, "--ipc", "2", "--no-scores", "--out", run]) == 0
    assert load_distilled(run)[0].shape == (6, 8, 8)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nowhere"], "DATA='nowhere' is neither 'digits', nor a folder, nor an .npz file"),
        (["digits", "--test", "0.2"], "--test cannot be given with 'digits'"),
        (["digits", "--ipc", "0"], "'ipc' parameter"),
        (["digits", "--backbone", "unheard-of"], "backbone='unheard-of' is neither"),
        (["digits", "--scheduler", "Nothing"], "scheduler='Nothing' is not a scheduler"),
        (["digits", "--strength", "2"], "strength=2.0 must be in [0, 1]"),
        (["digits", "--device", "tpu9"], "device='tpu9' is not there"),
    ],
)
def test_bad_input_is_one_line_and_code_2(tmp_path, capsys, arguments, message):
    assert main(["distill", *arguments, "--out", str(tmp_path / "run")]) == 2
    error = capsys.readouterr().err.strip()
    assert error.startswith("skdistill distill: error: ")
    assert message in error
    assert "Traceback" not in error
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("share", ["0", "1.5", "-1"])
def test_a_share_outside_the_unit_interval_is_refused(image_folder, tmp_path, capsys, share):
    arguments = ["distill", str(image_folder), f"--test={share}", "--out", str(tmp_path / "run")]
    assert main(arguments) == 2
    assert "must be a share between 0 and 1" in capsys.readouterr().err


def test_version(capsys):
    with pytest.raises(SystemExit, match="0"):
        main(["--version"])
    assert capsys.readouterr().out == f"skdistill {skdistill.__version__}\n"


@pytest.mark.parametrize("command", [[], ["distill"], ["pretrain"]])
def test_help_explains_each_option(command, capsys):
    with pytest.raises(SystemExit, match="0"):
        main([*command, "--help"])
    out = capsys.readouterr().out
    assert "usage: skdistill" in out
    if command:
        assert "--seed" in out
        assert "None" not in out


def test_ctrl_c_keeps_what_is_finished_and_says_how_to_go_on(tmp_path):
    run = tmp_path / "run"
    arguments = ["distill", "digits", "--ipc", "6", "--batch-size", "5", "--no-scores"]
    command = [sys.executable, "-m", "skdistill", *arguments, "--out", str(run)]
    process = subprocess.Popen(
        command, stderr=subprocess.PIPE, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"}
    )
    deadline = time.monotonic() + 120
    while not list(run.glob("batches/*.npz")) and time.monotonic() < deadline:
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    _, error = process.communicate(timeout=120)
    assert process.returncode == 130
    assert f"What is finished is kept in {run}" in error
    assert "skdistill distill digits --ipc 6" in error
    assert "Traceback" not in error
    finished = len(list(run.glob("batches/*.npz")))
    assert 0 < finished < 12
    assert len(list(run.glob("images/*/*.png"))) >= 5 * finished
    assert main([*arguments, "--out", str(run)]) == 0
    assert load_distilled(run)[0].shape == (60, 8, 8)
