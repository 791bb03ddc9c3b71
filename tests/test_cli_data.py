import numpy as np
import pytest

from skdistill.cli import main


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

    monkeypatch.setattr("skdistill.cli.pretrain.pretrain", record_pretrain)
    monkeypatch.setattr("skdistill.cli.distill.ManifoldGDDistiller.fit", record_fit)
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
