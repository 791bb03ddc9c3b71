import shlex

import pytest

from skdistill import load_distilled
from skdistill.cli import main
from skdistill.training import checkpoint_folder


def test_a_backbone_is_trained_and_used(tmp_path, image_folder, capsys):
    backbone, run = str(tmp_path / "backbone"), str(tmp_path / "run")
    sizes = ["--steps", "2", "--vae-steps", "2", "--width", "32", "--depth", "1"]
    reading = ["--image-size", "4", "--test", "0.3"]
    assert main(["pretrain", str(image_folder), "--out", backbone, *reading, *sizes]) == 0
    *_, message, command = capsys.readouterr().out.splitlines()
    assert message.startswith("The backbone is in")
    assert shlex.split(command)[:7] == [
        "skdistill",
        "distill",
        str(image_folder),
        *reading[2:],
        *reading[:2],
    ]
    card = (tmp_path / "backbone" / "README.md").read_text()
    assert "skdistill pretrain" in card
    drawing = ["--steps", "3", "--ipc", "2", "--no-scores", "--out", run]
    assert main([*shlex.split(command)[1:], *drawing]) == 0
    assert load_distilled(run)[0].shape == (6, 4, 4)


@pytest.mark.parametrize("test", ["0", "1.5", "nan", "other_images"])
def test_pretrain_holds_out_a_share_and_nothing_else(tmp_path, image_folder, capsys, test):
    arguments = [str(image_folder), "--test", test, "--out", str(tmp_path / "out")]
    assert main(["pretrain", *arguments]) == 2
    message = f"error: --test={test!r} must be a share between 0 and 1 of DATA."
    assert message in capsys.readouterr().err


def test_a_diverged_training_is_one_line_and_code_1(tmp_path, monkeypatch, capsys):
    def diverge(*_, **__):
        raise FloatingPointError("The dit diverged before step 5.")

    monkeypatch.setattr("skdistill.training.pretrain", diverge)
    assert main(["pretrain", "digits", "--out", str(tmp_path / "out")]) == 1
    error = capsys.readouterr().err
    assert error == "skdistill pretrain: error: The dit diverged before step 5.\n"


def test_ctrl_c_in_training_names_the_folder_of_checkpoints(tmp_path, monkeypatch, capsys):
    def interrupt(*_):
        raise KeyboardInterrupt

    out = tmp_path / "backbone"
    sizes = ["--vae-steps", "3", "--width", "32", "--depth", "1", "--checkpoint-every", "1"]
    monkeypatch.setattr("skdistill.training.run.dit_loss", lambda *_: interrupt)
    assert main(["pretrain", "digits", "--quiet", "--out", str(out), *sizes]) == 130
    folder = checkpoint_folder(out)
    assert (folder / "vae.safetensors").exists()
    error = capsys.readouterr().err
    assert f"The last checkpoint is kept in {folder}; the same command goes on" in error
    assert "skdistill pretrain digits" in error
