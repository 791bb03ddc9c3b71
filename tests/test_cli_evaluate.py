import json

import numpy as np
import pytest
from PIL import Image
from sklearn.datasets import load_iris

from skdistill import augmentation, load_distilled
from skdistill.backbones import DiTBackbone, find_backbone
from skdistill.baselines import rivals
from skdistill.cli import main
from skdistill.cli.evaluate import AUGMENTATIONS, DIFFUSION_RIVALS, PLAIN_RIVALS
from skdistill.datasets import load_digits_split
from skdistill.generate import BatchedCalls
from skdistill.matching import DistributionMatching
from skdistill.metrics import compare_sets, mean_distance
from skdistill.names import class_folders
from skdistill.protocols import linear_student
from skdistill.subsets import RandomSubset


@pytest.fixture(scope="module")
def digits_run(tmp_path_factory):
    run = tmp_path_factory.mktemp("runs") / "run"
    arguments = ["--ipc", "2", "--steps", "5", "--refiner-steps", "5", "--no-scores", "--quiet"]
    assert main(["distill", "digits", *arguments, "--out", str(run)]) == 0
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
    kept = json.loads((digits_run / "evaluation.json").read_text())
    assert kept["features"] == "features of ConvNet-2 trained on them"
    assert len(kept["scores"]["herding"]["linear"]) == 2


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


def test_what_was_measured_is_kept_with_the_run_or_at_least_printed(digits_run, capsys):
    options = ["digits", "--rivals", "--students", "linear", "--seeds", "1", "--features", "values"]
    kept = digits_run / "evaluation.json"
    kept.unlink(missing_ok=True)
    result = evaluate(capsys, digits_run, *options)
    assert json.loads(kept.read_text()) == result
    kept.unlink()
    kept.mkdir()
    assert main(["evaluate", str(digits_run), *options, "--json"]) == 0
    captured = capsys.readouterr()
    assert json.loads(captured.out)["scores"] == result["scores"]
    assert "warning: What was measured is not kept for a report" in captured.err
    kept.rmdir()


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


def test_what_help_offers_is_what_there_is():
    assert (*PLAIN_RIVALS, *DIFFUSION_RIVALS) == tuple(rivals())
    assert tuple(rivals(diffusion=False)) == PLAIN_RIVALS
    assert tuple(augmentation.AUGMENTATIONS) == AUGMENTATIONS


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


def test_images_of_another_size_and_with_other_names_have_rivals(tmp_path, capsys):
    X, _, y, _ = load_digits_split()
    few = np.concatenate([np.flatnonzero(y == label)[:20] for label in (3, 5)])
    larger = X[few].repeat(2, axis=1).repeat(2, axis=2)
    names = np.where(y[few] == 3, "three", "five")
    np.savez(tmp_path / "all.npz", X=larger, y=names)
    np.savez(tmp_path / "set.npz", X=larger[::5], y=names[::5])
    data = [tmp_path / "set.npz", tmp_path / "all.npz", "--test", "0.5"]
    rivals = ["--rivals", "decoded centroids", "--backbone", "digits", "--students", "linear"]
    converted = ["--resize", "bilinear", "--class-map", "three=3", "--class-map", "five=5"]
    result = evaluate(capsys, *data, *rivals, *converted, "--features", "latents", "--seeds", "1")
    assert result["scores"]["decoded centroids"]["linear"][0] > 0.8
    assert main(["evaluate", *map(str, data), "--class-map", "3=three"]) == 2
    assert "--class-map 3=three is for no class of DATA" in capsys.readouterr().err


def test_distribution_matching_is_a_rival(image_folder, capsys, monkeypatch, short_training):
    monkeypatch.setitem(DistributionMatching.__init__.__kwdefaults__, "steps", 2)
    options = ["--test", "0.3", "--rivals", "DM", "--seeds", "1", "--augmentation", "crop"]
    result = evaluate(capsys, image_folder, image_folder, *options)
    assert list(result["scores"]["DM"]) == ["ConvNet", "linear"]


def test_folders_stand_for_the_labels_that_they_were_named_after(small_images, tmp_path, capsys):
    X, y = small_images
    names = np.array(["a/b", "A/b", "two"])[y]
    np.savez(tmp_path / "data.npz", X=X, y=names)
    folders = dict(zip(np.unique(names), class_folders(np.unique(names)), strict=True))
    for i, (image, name) in enumerate(zip(X, names, strict=True)):
        path = tmp_path / "set" / folders[name] / f"{i}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(path)
    (tmp_path / "set" / "two" / "bad.png").write_bytes(b"none")
    options = ["--test", "0.3", "--rivals", "--students", "linear", "--seeds", "1"]
    sets = tmp_path / "set", tmp_path / "data.npz"
    result = evaluate(capsys, *sets, *options, "--features", "values", "--skip-bad-images")
    assert result["n_training"]["SET"] == len(X)
    assert sorted(result["figures"]["SET"]["by_class"]) == ["A/b", "a/b", "two"]


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
    ("distilled", "judged", "leaky"),
    [
        (["--no-scores"], "0.3", True),
        (["--no-scores", "--test", "0.3"], "0.3", False),
        (["--latents", "LATENTS"], "DATA", False),
    ],
)
def test_a_run_that_may_have_seen_the_test_samples_is_named(
    image_folder, tmp_path, capsys, distilled, judged, leaky
):
    data, run = str(image_folder), str(tmp_path / "run")
    places = {"LATENTS": str(tmp_path / "latents"), "DATA": data}
    distilled = [places.get(argument, argument) for argument in distilled]
    # The closed form reads no files.
    drawing = ["--ipc", "1", "--steps", "2", "--backbone", "digits", "--refiner-steps", "1"]
    drawing += [f"--class-map=class {label}={label}" for label in range(3)]
    assert main(["distill", data, *distilled, *drawing, "--quiet", "--out", run]) == 0
    capsys.readouterr()
    options = ["--rivals", "--students", "linear", "--seeds", "1", "--features", "values"]
    assert main(["evaluate", run, data, "--test", places.get(judged, judged), *options]) == 0
    warned = "was distilled from other rows than the training part" in capsys.readouterr().err
    assert warned is leaky


@pytest.mark.parametrize(("factor", "warned"), [(1.0, False), (1 / 16, True), (255 / 16, True)])
def test_a_set_of_another_scale_is_named(tmp_path, capsys, factor, warned):
    X, X_test, y, y_test = load_digits_split()
    np.savez(tmp_path / "data.npz", X=X, y=y)
    np.savez(tmp_path / "test.npz", X=X_test, y=y_test)
    np.savez(tmp_path / "set.npz", X=X[:100] * factor, y=y[:100])
    files = [str(tmp_path / name) for name in ("set.npz", "data.npz", "test.npz")]
    options = ["--rivals", "--students", "linear", "--seeds", "1", "--features", "values"]
    assert main(["evaluate", *files[:2], "--test", files[2], *options]) == 0
    assert ("unless both are of one scale" in capsys.readouterr().err) is warned


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["NAN", "IRIS", "--test", "0.2"], "holds NaN or infinity"),
        (["IRIS", "IRIS", "--test", "none"], "--test='none' is neither a share between 0 and 1"),
        (["no/set", "digits"], "SET='no/set' is neither"),
        (["SET", "digits", "--test", "0.2"], "--test cannot be given with 'digits'"),
        (["SET", "digits", "--students", "ResNet-18"], "cannot judge DATA='digits'; ConvNet, lin"),
        (["SET", "digits", "--augmentation", "flip"], "cannot be given with 'digits', whose proto"),
        (["SET", "IRIS"], "give --test DATA or --test SHARE"),
        (["STRANGE", "IRIS", "--test", "0.2"], "has labels that DATA lacks: 5, 6, 7."),
        (["SET", "IRIS", "--test", "0.2"], "has samples of shape (8, 8), DATA has (4,)"),
        (["IRIS", "digits"], "has samples of shape (4,), DATA has (8, 8)"),
        (["IRIS", "IRIS", "--test", "0.2", "--students", "ConvNet"], "linear can"),
        (["IRIS", "IRIS", "--test", "0.2", "--rivals", "DM"], "--rivals DM is for images"),
        (["ONE", "IRIS", "--test", "0.2"], "has one class only, among which no student"),
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
    np.savez(tmp_path / "nan.npz", X=np.full_like(X, np.nan), y=y)
    np.savez(tmp_path / "one.npz", X=X[:9], y=y[:9])
    names = {name: f"{name.lower()}.npz" for name in ("IRIS", "STRANGE", "NAN", "ONE")}
    places = {name: str(tmp_path / file) for name, file in names.items()} | {"SET": str(digits_run)}
    arguments = [places.get(argument, argument) for argument in arguments]
    arguments += ["--rivals"] * ("--rivals" not in arguments)
    assert main(["evaluate", *arguments, "--quiet"]) == 2
    error = capsys.readouterr().err
    assert error.startswith("skdistill evaluate: error: ")
    assert error.count("\n") == 1
    assert message in error


def test_evaluate_asks_for_torchmetrics_before_it_starts(digits_run, capsys, monkeypatch):
    monkeypatch.setattr("skdistill.cli.evaluate.find_spec", lambda name: None)
    assert main(["evaluate", str(digits_run), "digits"]) == 1
    assert "pip install 'skdistill[evaluation]'" in capsys.readouterr().err
