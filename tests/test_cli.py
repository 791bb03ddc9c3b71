import argparse
import json
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from PIL import Image
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.datasets import load_iris

import skdistill
from skdistill import load_distilled
from skdistill.backbones import DiTBackbone, find_backbone
from skdistill.cli import _build_parser, main
from skdistill.datasets import load_digits_split
from skdistill.generate import BatchedCalls
from skdistill.matching import DistributionMatching
from skdistill.metrics import compare_sets, mean_distance
from skdistill.protocols import PROTOCOLS, linear_student
from skdistill.students import ConvNetClassifier
from skdistill.subsets import RandomSubset
from skdistill.training import checkpoint_folder


@pytest.fixture(scope="module")
def image_folder(tmp_path_factory, small_images):
    folder = tmp_path_factory.mktemp("images")
    for i, (image, label) in enumerate(zip(*small_images, strict=True)):
        path = folder / f"class {label}" / f"{i}.png"
        path.parent.mkdir(exist_ok=True)
        Image.fromarray(image).save(path)
    return folder


@pytest.fixture
def short_training(monkeypatch):
    """Students that are trained no longer than a test can wait."""
    monkeypatch.setitem(ConvNetClassifier.__init__.__kwdefaults__, "steps", 20)
    monkeypatch.setitem(PROTOCOLS["digits"], "steps", 20)


def test_digits_are_distilled_and_judged(tmp_path, capsys, short_training):
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
    monkeypatch.setattr("skdistill.cli._students", lambda *_, **__: {"recorder": Recorder()})
    run = tmp_path / "run"
    arguments = ["--ipc", "2", "--steps", "2", "--seed", "1", "--quiet", "--out", str(run)]
    assert main(["distill", "digits", *arguments]) == 0
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


@pytest.fixture(scope="module")
def digits_run(tmp_path_factory):
    run = tmp_path_factory.mktemp("runs") / "run"
    arguments = ["--ipc", "2", "--steps", "5", "--no-scores", "--quiet", "--out", str(run)]
    assert main(["distill", "digits", *arguments]) == 0
    return run


def evaluate(capsys, *arguments):
    """Run the command with --json; return what it prints."""
    assert main(["evaluate", *map(str, arguments), "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def test_a_run_is_judged_beside_its_rivals(digits_run, capsys, short_training):
    chosen = ["--rivals", "herding", "random real", "--seeds", "2"]
    assert main(["evaluate", str(digits_run), "digits", *chosen]) == 0
    captured = capsys.readouterr()
    assert captured.err == ""
    for line in ("SET", "herding", "random real", "all training data"):
        assert f"\n{line} " in captured.out
    assert "mean and deviation over 2 seeds" in captured.out
    for figure in ("fid", "mmd", "coverage", "nearest_real_ratio", "embedded_copied_share"):
        assert captured.out.count(f"\n{figure} ") == 2
    assert "by features of ConvNet-2 trained on them" in captured.out


def test_figures_and_scores_of_a_run(digits_run, capsys):
    result = evaluate(
        capsys, digits_run, "digits", "--rivals", "random real", "--students", "linear",
        "--features", "values", "--seeds", "2", "--seed", "1",
    )  # fmt: skip
    X, X_test, y, y_test = load_digits_split()
    X_syn, y_syn = load_distilled(digits_run)
    assert result["n_test"] == 540
    assert result["n_training"] == {"SET": 20, "all training data": 1257}
    rows = linear_student().fit(X_syn, y_syn)
    assert result["scores"]["SET"] == {"linear": [rows.score(X_test, y_test)] * 2}
    expected = compare_sets(X, y, X_syn, y_syn, random_state=1)
    assert result["figures"]["SET"]["overall"] == pytest.approx(expected["overall"])
    assert list(result["figures"]["SET"]["by_class"]) == [str(k) for k in range(10)]
    drawn = RandomSubset(2, random_state=2).fit(X, y).sample()
    expected = compare_sets(X, y, *drawn, random_state=1)
    assert result["figures"]["random real"]["overall"] == pytest.approx(expected["overall"])


def test_the_images_of_a_run_are_judged_like_the_run(digits_run, capsys):
    options = ["digits", "--rivals", "--students", "linear", "--seeds", "1", "--features", "values"]
    run = evaluate(capsys, digits_run, *options)
    images = evaluate(capsys, digits_run / "images", *options)
    assert images["scores"]["SET"]["linear"] == pytest.approx(
        run["scores"]["SET"]["linear"], abs=0.02
    )
    # Bytes round the values; FID adds the squares of what rounding moves.
    figures = (result["figures"]["SET"]["overall"] for result in (images, run))
    assert next(figures) == pytest.approx(next(figures), rel=0.1, abs=0.02)


def test_sets_are_compared_by_latents(digits_run, capsys):
    options = ["digits", "--rivals", "--students", "linear", "--seeds", "1"]
    by_latents = evaluate(capsys, digits_run, *options, "--features", "latents")
    overall = by_latents["figures"]["SET"]["overall"]
    backbone = DiTBackbone(find_backbone("digits"), "float32", name="digits")
    X, *_ = load_digits_split()
    X_syn, _ = load_distilled(digits_run)

    def encode(images):
        x = (images[:, None] / 8 - 1).astype(np.float32)
        return backbone.encode(x, BatchedCalls(64)).reshape(len(x), -1)

    assert overall["mean_distance"] == pytest.approx(
        mean_distance(encode(X), encode(X_syn)), rel=1e-3
    )


def test_a_table_is_judged_by_a_linear_student(tmp_path, capsys):
    X, y = load_iris(return_X_y=True)
    np.savez(tmp_path / "train.npz", X=X[::2], y=y[::2])
    np.savez(tmp_path / "test.npz", X=X[1::2], y=y[1::2])
    np.savez(tmp_path / "set.npz", X=X[[0, 2, 60, 62, 120, 122]], y=[0, 0, 1, 1, 2, 2])
    paths = [tmp_path / "set.npz", tmp_path / "train.npz", "--test", tmp_path / "test.npz"]
    result = evaluate(capsys, *paths, "--rivals", "ManifoldGD", "k-means medoids")
    assert list(result["scores"]) == ["SET", "ManifoldGD", "k-means medoids", "all training data"]
    assert list(result["scores"]["SET"]) == ["linear"]
    assert result["figures"]["SET"]["overall"]["copied_share"] == 1.0


def test_distribution_matching_is_a_rival(image_folder, capsys, monkeypatch, short_training):
    monkeypatch.setitem(DistributionMatching.__init__.__kwdefaults__, "steps", 2)
    options = ["--test", "0.3", "--rivals", "DM", "--seeds", "1", "--augmentation", "crop"]
    result = evaluate(capsys, image_folder, image_folder, *options)
    assert list(result["scores"]["DM"]) == ["ConvNet", "linear"]


def test_classes_that_a_set_lacks_are_left_out_with_a_warning(tmp_path, capsys):
    X, y = load_iris(return_X_y=True)
    np.savez(tmp_path / "train.npz", X=X, y=y)
    np.savez(tmp_path / "set.npz", X=X[40:60], y=y[40:60])
    arguments = [tmp_path / "set.npz", tmp_path / "train.npz", "--test", "0.2", "--rivals"]
    assert main(["evaluate", *map(str, arguments), "--json"]) == 0
    captured = capsys.readouterr()
    assert "lacks classes of DATA, which are left out of everything: 2." in captured.err
    assert json.loads(captured.out)["n_training"]["all training data"] == 80


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["no/set", "digits"], "DATA='no/set' is neither"),
        (["SET", "digits", "--test", "0.2"], "--test cannot be given with 'digits'"),
        (["SET", "digits", "--seeds", "0"], "--seeds=0 must be at least 1"),
        (["SET", "digits", "--students", "ResNet-18"], "cannot judge DATA='digits'; ConvNet, lin"),
        (["SET", "digits", "--augmentation", "flip"], "cannot be given with 'digits', whose proto"),
        (["SET", "IRIS"], "give --test DATA or --test SHARE"),
        (["STRANGE", "IRIS", "--test", "0.2"], "has labels that DATA lacks: 5, 6, 7."),
        (["SET", "IRIS", "--test", "0.2"], "has samples of shape (8, 8), DATA has (4,)"),
        (["IRIS", "digits"], "has samples of shape (4,), DATA has (8, 8)"),
        (["IRIS", "IRIS", "--test", "0.2", "--students", "ConvNet"], "linear can"),
        (["IRIS", "IRIS", "--test", "0.2", "--features", "student"], "needs a network among"),
        (["IRIS", "IRIS", "--test", "0.2", "--features", "latents"], "latents needs images"),
        (["SET", "digits", "--features", "latents", "--backbone", "closed-form"], "needs images"),
    ],
)
def test_what_cannot_be_judged_is_one_line_and_code_2(
    tmp_path, digits_run, capsys, arguments, message
):
    X, y = load_iris(return_X_y=True)
    np.savez(tmp_path / "iris.npz", X=X, y=y)
    np.savez(tmp_path / "strange.npz", X=X, y=y + 5)
    names = {"IRIS": "iris.npz", "STRANGE": "strange.npz"}
    places = {name: str(tmp_path / file) for name, file in names.items()} | {"SET": str(digits_run)}
    arguments = [places.get(argument, argument) for argument in arguments]
    assert main(["evaluate", *arguments, "--quiet", "--rivals"]) == 2
    error = capsys.readouterr().err
    assert error.startswith("skdistill evaluate: error: ")
    assert error.count("\n") == 1
    assert message in error


def test_evaluate_asks_for_torchmetrics_before_it_starts(digits_run, capsys, monkeypatch):
    monkeypatch.setattr("skdistill.cli.find_spec", lambda name: None)
    assert main(["evaluate", str(digits_run), "digits"]) == 2
    assert "pip install skdistill[evaluation]" in capsys.readouterr().err


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


def test_a_backbone_is_trained_on_what_is_distilled_and_not_on_the_held_out_share(
    tmp_path, image_folder, monkeypatch, capsys
):
    seen = {}

    def record_pretrain(X, y, out, **settings):
        seen["pretrain"] = X, y
        seen["data"] = settings["data"]
        return out

    def record_fit(self, X, y):
        seen["distill"] = X, y
        raise ValueError("that is all")

    monkeypatch.setattr("skdistill.cli.pretrain", record_pretrain)
    monkeypatch.setattr("skdistill.cli.ManifoldGDDistiller.fit", record_fit)
    arguments = [str(image_folder), "--test", "0.2", "--out", str(tmp_path / "out")]
    # Other seeds hold out the same images.
    assert main(["pretrain", *arguments, "--seed", "1"]) == 0
    assert "skdistill distill DATA --test 0.2 --backbone" in capsys.readouterr().out
    assert main(["distill", *arguments, "--seed", "2"]) == 2
    assert seen["data"] == f"{image_folder.name} without a held-out share of 0.2"
    for ours, theirs in zip(seen["pretrain"], seen["distill"], strict=True):
        np.testing.assert_array_equal(ours, theirs)
    assert len(seen["pretrain"][0]) == 32

    assert main(["pretrain", *arguments[:1], *arguments[3:]]) == 0
    assert seen["data"] == image_folder.name
    assert len(seen["pretrain"][0]) == 40


@pytest.mark.parametrize("test", ["0", "1.5", "nan", "other_images"])
def test_pretrain_holds_out_a_share_and_nothing_else(tmp_path, image_folder, capsys, test):
    arguments = [str(image_folder), "--test", test, "--out", str(tmp_path / "out")]
    assert main(["pretrain", *arguments]) == 2
    message = f"error: --test={test!r} must be a share between 0 and 1 of DATA."
    assert message in capsys.readouterr().err


def test_a_diverged_training_is_one_line_and_code_2(tmp_path, monkeypatch, capsys):
    def diverge(*_, **__):
        raise FloatingPointError("The dit diverged before step 5.")

    monkeypatch.setattr("skdistill.cli.pretrain", diverge)
    assert main(["pretrain", "digits", "--out", str(tmp_path / "out")]) == 2
    error = capsys.readouterr().err
    assert error == "skdistill pretrain: error: The dit diverged before step 5.\n"


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        ([0, 1, 3, 4], "labels that DATA lacks: 3, 4; the labels of DATA are 0, 1, 2."),
        (["0", "1", "2", "2"], "lacks: '0', '1', '2'; the labels of DATA are 0, 1, 2."),
    ],
)
def test_labels_to_test_on_must_be_among_those_to_train_on(tmp_path, capsys, labels, message):
    np.savez(tmp_path / "train.npz", X=np.eye(6), y=[0, 1, 2, 0, 1, 2])
    np.savez(tmp_path / "test.npz", X=np.eye(6)[:4], y=labels)
    arguments = ["distill", str(tmp_path / "train.npz"), "--test", str(tmp_path / "test.npz")]
    assert main([*arguments, "--out", str(tmp_path / "run")]) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nowhere"], "'cifar10', nor a folder, nor an .npz file"),
        (["digits", "--test", "0.2"], "--test cannot be given with 'digits'"),
        (["digits", "--ipc", "0"], "'ipc' parameter"),
        (["digits", "--backbone", "unheard-of"], "backbone='unheard-of' is neither"),
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


@pytest.mark.parametrize("command", ["distill", "pretrain"])
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
    monkeypatch.setattr("skdistill.cli.ManifoldGDDistiller.fit", interrupt)
    monkeypatch.setattr("skdistill.cli.pretrain", interrupt)
    for command in ("distill", "pretrain"):
        arguments = [command, "digits", "--out", str(tmp_path / "out")]
        assert main(arguments) == 130
        error = capsys.readouterr().err
        assert "Nothing is finished yet" in error
        assert f"skdistill {command} digits" in error


def test_ctrl_c_in_training_names_the_folder_of_checkpoints(tmp_path, monkeypatch, capsys):
    out = tmp_path / "backbone"
    sizes = ["--vae-steps", "3", "--width", "32", "--depth", "1", "--checkpoint-every", "1"]
    monkeypatch.setattr("skdistill.training._dit_loss", lambda *_: interrupt)
    assert main(["pretrain", "digits", "--quiet", "--out", str(out), *sizes]) == 130
    folder = checkpoint_folder(out)
    assert (folder / "vae.safetensors").exists()
    error = capsys.readouterr().err
    assert f"The last checkpoint is kept in {folder}; the same command goes on" in error
    assert "skdistill pretrain digits" in error


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
