import json
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.datasets import load_iris

from skdistill import load_distilled
from skdistill.cli import main
from skdistill.datasets import load_digits_split


def test_digits_are_distilled_and_judged(tmp_path, capsys, short_training):
    run = tmp_path / "run"
    few_steps = ["--steps", "10", "--refiner-steps", "5"]
    assert main(["distill", "digits", "--ipc", "2", *few_steps, "--out", str(run)]) == 0
    X, y = load_distilled(run)
    assert X.shape == (20, 8, 8)
    assert y.tolist() == sorted(list(range(10)) * 2)
    table = capsys.readouterr().out
    for name in ("ManifoldGD", "random real", "herding", "cluster means", "all training data"):
        assert name in table
    scores = json.loads((run / "scores.json").read_text())
    assert scores["n_test"] == 540
    sets = ("ManifoldGD", "random real", "herding", "cluster means")
    assert scores["n_training"] == dict.fromkeys(sets, 20) | {"all training data": 1257}
    accuracies = scores["scores"]["all training data"]
    assert len(accuracies["ConvNet-2"]) == len(accuracies["linear"]) == 3
    assert min(accuracies["ConvNet-2"]) > 0.97
    line = next(line for line in table.splitlines() if line.startswith("all training data"))
    mean, deviation = np.mean(accuracies["ConvNet-2"]), np.std(accuracies["ConvNet-2"], ddof=1)
    assert f"{100 * mean:.1f} ± {100 * deviation:.1f}" in line


class Recorder(ClassifierMixin, BaseEstimator):
    """A student that learns nothing and keeps what it was given, its clones' too."""

    fitted, scored = [], []

    def fit(self, X, y):
        self.fitted.append((X.reshape(len(X), -1), y))
        return self

    def score(self, X, y):
        self.scored.append((X.reshape(len(X), -1), y))
        return 0.5


def test_each_line_of_the_table_is_trained_on_what_it_names(tmp_path, monkeypatch):
    monkeypatch.setattr(Recorder, "fitted", [])
    monkeypatch.setattr(Recorder, "scored", [])
    monkeypatch.setattr(
        "skdistill.cli.judging.pick_students", lambda *_, **__: {"recorder": Recorder()}
    )
    run = tmp_path / "run"
    arguments = ["--ipc", "2", "--steps", "2", "--refiner-steps", "5", "--seed", "1", "--quiet"]
    assert main(["distill", "digits", *arguments, "--out", str(run)]) == 0
    sets = json.loads((run / "scores.json").read_text())["n_training"]
    assert len(Recorder.fitted) == len(Recorder.scored) == 3 * len(sets)
    fitted = {name: Recorder.fitted[3 * i : 3 * i + 3] for i, name in enumerate(sets)}

    X, X_test, y, y_test = load_digits_split()
    X, X_test = X.reshape(len(X), 64), X_test.reshape(len(X_test), 64)
    for rows, labels in Recorder.scored:
        np.testing.assert_array_equal(rows, X_test)
        np.testing.assert_array_equal(labels, y_test)
    for name, size in sets.items():
        assert [rows.shape for rows, _ in fitted[name]] == [(size, 64)] * 3
    for rows, labels in fitted["all training data"]:
        np.testing.assert_array_equal(rows, X)
        np.testing.assert_array_equal(labels, y)
    X_syn, y_syn = load_distilled(run)
    for rows, labels in fitted["ManifoldGD"]:
        np.testing.assert_array_equal(rows, X_syn.reshape(20, 64))
        np.testing.assert_array_equal(labels, y_syn)
    real = {(label, *row) for row, label in zip(X.tolist(), y.tolist(), strict=True)}
    for name in ("random real", "herding"):
        for rows, labels in fitted[name]:
            assert np.bincount(labels).tolist() == [2] * 10
            drawn = {(label, *row) for row, label in zip(rows.tolist(), labels, strict=True)}
            assert len(drawn) == 20
            assert drawn <= real
    draws = [rows for rows, _ in fitted["random real"]]
    assert not np.array_equal(draws[0], draws[1])
    assert not np.array_equal(draws[1], draws[2])
    for rows, labels in fitted["cluster means"]:
        assert np.bincount(labels).tolist() == [2] * 10
        assert not np.array_equal(rows, X_syn.reshape(20, 64))
        # A mean of a class's clusters lies among its rows, nearer to their mean than most of them.
        for label in range(10):
            centre = X[y == label].mean(0)
            spread = np.linalg.norm(X[y == label] - centre, axis=1)
            distances = np.linalg.norm(rows[labels == label] - centre, axis=1)
            assert distances.min() < np.median(spread)


def test_a_folder_of_class_folders(tmp_path, image_folder, capsys, short_training):
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


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nowhere"], "'cifar10', nor a folder, nor an .npz file"),
        (["digits", "--test", "0.2"], "--test cannot be given with 'digits'"),
        (["digits", "--ipc", "0"], "'ipc' parameter"),
        (["digits", "--backbone", "unheard-of"], "backbone='unheard-of' is neither"),
        (["digits", "--revision", "v2"], "revision='v2' is for a hub id 'owner/name'"),
        (["digits", "--scheduler", "Nothing"], "scheduler='Nothing' is not "),
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


def test_ctrl_c_keeps_what_is_finished_and_says_how_to_go_on(tmp_path):
    run = tmp_path / "run"
    arguments = ["distill", "digits", "--ipc", "6", "--refiner-steps", "20", "--no-scores"]
    command = [sys.executable, "-m", "skdistill", *arguments, "--out", str(run)]
    process = subprocess.Popen(
        command,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        # Tests that run in the background may have been told to ignore it, and hand that on.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
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
    assert 0 < finished < 10
    assert len(list(run.glob("images/*/*.png"))) >= 6 * finished
    assert main([*arguments, "--out", str(run)]) == 0
    assert load_distilled(run)[0].shape == (60, 8, 8)


def test_images_may_stay_on_disk(tmp_path, image_folder, capsys):
    run, latents = tmp_path / "run", tmp_path / "latents"
    arguments = ["distill", str(image_folder), "--ipc", "2", "--steps", "2", "--out", str(run)]
    assert main([*arguments, "--latents", str(latents)]) == 0
    assert load_distilled(run)[0].shape == (6, 8, 8)
    assert len(list(latents.rglob("*.npy"))) == 3
    assert "6 samples of 3 classes from 40" in capsys.readouterr().out


@pytest.mark.parametrize(
    "option", [["--test", "0.2"], ["--image-size", "8"], ["--skip-bad-images"], ["--memory", "m"]]
)
def test_options_that_need_the_images_in_memory_are_refused(tmp_path, image_folder, option, capsys):
    out = ["--out", str(tmp_path / "run"), "--latents", str(tmp_path / "latents")]
    assert main(["distill", str(image_folder), *option, *out]) != 0
    assert f"{option[0]} cannot be given with --latents" in capsys.readouterr().err


def test_latents_are_kept_of_folders_only(tmp_path, capsys):
    out = ["--out", str(tmp_path / "run"), "--latents", str(tmp_path / "latents")]
    assert main(["distill", "digits", *out]) != 0
    assert "needs a folder of class folders, but DATA='digits'" in capsys.readouterr().err
