import shutil
from argparse import Namespace

import numpy as np
import pytest
from PIL import Image

from skdistill.cli import main
from skdistill.cli.data import load_split


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

    monkeypatch.setattr("skdistill.training.pretrain", record_pretrain)
    monkeypatch.setattr("skdistill.cli.distiller.ManifoldGDDistiller.fit", record_fit)
    arguments = [str(image_folder), "--test", "0.2", "--out", str(tmp_path / "out")]
    # Other seeds hold out the same images.
    assert main(["pretrain", *arguments, "--seed", "1"]) == 0
    assert f"distill {image_folder} --test 0.2 --backbone" in capsys.readouterr().out
    assert main(["distill", *arguments, "--seed", "2"]) == 2
    assert seen["data"] == f"{image_folder.name} without a held-out share of 0.2"
    for ours, theirs in zip(seen["pretrain"], seen["distill"], strict=True):
        np.testing.assert_array_equal(ours, theirs)
    assert len(seen["pretrain"][0]) == 32

    assert main(["pretrain", *arguments[:1], *arguments[3:]]) == 0
    assert seen["data"] == image_folder.name
    assert len(seen["pretrain"][0]) == 40


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


@pytest.mark.parametrize("share", ["0", "1.5", "-1"])
def test_a_share_outside_the_unit_interval_is_refused(image_folder, tmp_path, capsys, share):
    arguments = ["distill", str(image_folder), f"--test={share}", "--out", str(tmp_path / "run")]
    assert main(arguments) == 2
    assert "must be a share between 0 and 1" in capsys.readouterr().err


def test_a_share_that_is_too_small_for_the_classes_is_named(image_folder, tmp_path, capsys):
    arguments = ["distill", str(image_folder), "--test=0.01", "--out", str(tmp_path / "run")]
    assert main(arguments) == 2
    assert "--test='0.01' cannot be held out of the 40 samples" in capsys.readouterr().err


@pytest.fixture
def damaged_folders(tmp_path, image_folder):
    """Two copies of the small images, of which one file of each is truncated."""
    for name in ("train", "test"):
        shutil.copytree(image_folder, tmp_path / name)
        (tmp_path / name / "class 0" / "0.png").write_bytes(b"\x89PNG\r\n")
    return str(tmp_path / "train"), str(tmp_path / "test")


def test_a_bad_image_ends_a_command_that_names_it(damaged_folders, tmp_path, capsys):
    assert main(["distill", damaged_folders[0], "--out", str(tmp_path / "run")]) == 2
    assert "0.png' cannot be read: " in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


def test_bad_images_are_left_out_of_training_and_test_data_where_asked(damaged_folders):
    data, test = damaged_folders
    options = Namespace(data=data, test=test, image_size=None, skip_bad_images=True, quiet=True)
    with pytest.warns(UserWarning, match="left out") as caught:
        X, X_test, y, y_test = load_split(options)
    assert len(X) == len(X_test) == len(y) == len(y_test) == 39
    for folder, warning in zip(damaged_folders, caught, strict=True):
        assert f"1 of the 40 images of folder={folder!r} are left out" in str(warning.message)


def test_the_option_for_images_of_several_sizes_is_named(image_folder, tmp_path, capsys):
    folder = shutil.copytree(image_folder, tmp_path / "images")
    path = sorted(folder.rglob("*.png"))[-1]
    with Image.open(path) as image:
        image.resize((9, 8)).save(path)
    assert main(["distill", str(folder), "--out", str(tmp_path / "run")]) == 2
    assert "8 x 9 pixels; give --image-size to have all of them cut" in capsys.readouterr().err


def test_a_size_of_images_is_for_folders(tmp_path, capsys):
    np.savez(tmp_path / "wine.npz", X=np.eye(4), y=[0, 0, 1, 1])
    out = ["--out", str(tmp_path / "run")]
    for data, what in (("digits", "'digits'"), (str(tmp_path / "wine.npz"), "an .npz file")):
        assert main(["distill", data, "--image-size", "8", *out]) == 2
        message = f"--image-size=8 is for folders of images, but DATA is {what}."
        assert message in capsys.readouterr().err
    assert main(["report", str(tmp_path), "--test", "0.2"]) == 2
    assert "say how DATA is read, which is not given" in capsys.readouterr().err


def test_a_file_of_another_kind_is_not_taken_for_pickled(tmp_path, capsys):
    path = tmp_path / "data.csv"
    path.write_text("1,2,a\n")
    assert main(["distill", str(path), "--out", str(tmp_path / "run")]) == 2
    message = capsys.readouterr().err
    assert "data.csv' cannot be read as an .npz file: it is no archive" in message
    assert "pickle" not in message
