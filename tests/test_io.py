import hashlib
import json

import numpy as np
import pytest
from PIL import Image
from safetensors.torch import load_file, save_file
from sklearn.datasets import load_iris

from skdistill import ManifoldGDDistiller, load_distilled
from skdistill.io import RunDirectory, class_folder, draw_grid, write_atomically


@pytest.fixture
def named_images(small_images):
    X, y = small_images
    return X, np.array(["one", "t/wo", "zero"])[y]


@pytest.fixture
def distiller(dit_folder, named_images):
    distiller = ManifoldGDDistiller(
        ipc=3,
        backbone=dit_folder,
        num_inference_steps=4,
        batch_size=2,
        random_state=0,
        class_map={"one": 0, "t/wo": 1, "zero": 2},
    )
    with pytest.warns(UserWarning, match="loses"):
        return distiller.fit(*named_images)


def files(folder):
    return sorted(str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file())


def test_a_run_directory_holds_what_it_should(distiller, tmp_path):
    run = tmp_path / "run"
    X, y = distiller.sample(out_dir=run)
    images = [f"images/{c}/{i:04d}.png" for c in ("one", "t%2Fwo", "zero") for i in range(3)]
    others = ["distilled.npz", "grid.png", "images/metadata.jsonl", "manifest.json"]
    assert files(run) == sorted(images + others)
    X_read, y_read = load_distilled(run)
    np.testing.assert_array_equal(X_read, X)
    np.testing.assert_array_equal(y_read, y)


def test_metadata_describes_each_image(distiller, small_images, tmp_path):
    X, _ = distiller.sample(out_dir=tmp_path / "run")
    images = tmp_path / "run" / "images"
    lines = [json.loads(line) for line in (images / "metadata.jsonl").read_text().splitlines()]
    assert len(lines) == 9
    for i, line in enumerate(lines):
        data = (images / line["file_name"]).read_bytes()
        assert hashlib.sha256(data).hexdigest() == line["sha256"]
        np.testing.assert_array_equal(np.asarray(Image.open(images / line["file_name"])), X[i])
        k = i // 3
        assert line["label"] == distiller.classes_[k]
        assert line["centroid"] == i % 3
        clusterer = distiller.clusterers_[k]
        assert line["level"] == clusterer.prototype_levels_[i % 3]
        assert line["nearest"] == distiller._rows[k][clusterer.prototype_indices_[i % 3]]
        assert small_images[1][line["nearest"]] == k


def test_the_manifest_names_settings_and_versions(distiller, small_images, tmp_path):
    distiller.sample(out_dir=tmp_path / "run")
    manifest = json.loads((tmp_path / "run" / "manifest.json").read_text())
    assert manifest["settings"]["seed"] == distiller.seed_
    assert manifest["settings"]["ipc"] == {"one": 3, "t/wo": 3, "zero": 3}
    assert manifest["settings"]["strength"] == distiller.strength
    assert manifest["settings"]["init_noise"] == 1.0
    assert manifest["real_rows"] == np.bincount(small_images[1]).tolist()
    assert set(manifest["versions"]) == {"skdistill", "sklearn", "torch", "diffusers"}


@pytest.mark.parametrize(("batch_size", "init_noise"), [(2, 1.0), (5, 1.0), (5, 0.6)])
def test_an_interrupted_run_goes_on_where_it_was(
    distiller, tmp_path, monkeypatch, batch_size, init_noise
):
    distiller.set_params(init_noise=init_noise)
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    expected, _ = distiller.sample(out_dir=whole)
    write, written = RunDirectory.write, []

    def interrupted(run, places, X):
        if len(written) == 4:
            raise KeyboardInterrupt
        written.extend(places)
        write(run, places, X)

    monkeypatch.setattr(RunDirectory, "write", interrupted)
    with pytest.raises(KeyboardInterrupt):
        distiller.sample(out_dir=broken)
    monkeypatch.undo()
    assert not (broken / "distilled.npz").exists()
    with pytest.raises(ValueError, match="is not complete"):
        load_distilled(broken)
    kept = {p: p.stat().st_mtime_ns for p in broken.rglob("*.png")}
    assert len(kept) == 4

    made = []
    monkeypatch.setattr(
        RunDirectory,
        "write",
        lambda run, places, X: (made.extend(places), write(run, places, X)),
    )
    X, _ = distiller.set_params(batch_size=batch_size).sample(out_dir=broken)
    assert made == [4, 5, 6, 7, 8]
    np.testing.assert_allclose(X.astype(int), expected, atol=1)
    assert all(path.stat().st_mtime_ns == time for path, time in kept.items())
    assert files(broken) == files(whole)


def test_other_weights_in_the_same_folder_are_another_run(
    distiller, dit_folder, named_images, tmp_path
):
    distiller.sample(out_dir=tmp_path / "run")
    path = dit_folder / "vae" / "diffusion_pytorch_model.safetensors"
    tensors = load_file(path)
    save_file({name: 1.01 * tensor for name, tensor in tensors.items()}, path)
    with pytest.warns(UserWarning, match="loses"):
        distiller.fit(*named_images)
    with pytest.raises(ValueError, match="run with backbone_weights="):
        distiller.sample(out_dir=tmp_path / "run")


def test_a_manifest_of_something_else_is_no_run(distiller, tmp_path):
    (tmp_path / "manifest.json").write_text("[]")
    with pytest.raises(ValueError, match="is not empty and holds no run"):
        distiller.sample(out_dir=tmp_path)


def test_images_that_png_cannot_hold_are_refused_before_sampling(tmp_path):
    X = np.random.default_rng(0).uniform(size=(8, 2, 2, 5))
    with pytest.warns(UserWarning, match="blurred"):
        distiller = ManifoldGDDistiller(ipc=1, random_state=0).fit(X, np.arange(8) % 2)
    with pytest.raises(ValueError, match="5 channels cannot be written as PNG"):
        distiller.sample(out_dir=tmp_path / "run")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("shape", [(1, 8), (8, 1), (1, 8, 3), (4, 4, 1), (4, 4, 4)])
def test_pictures_keep_their_shape(shape, tmp_path):
    X = np.random.default_rng(0).integers(0, 256, size=(8, *shape)).astype(np.uint8)
    with pytest.warns(UserWarning, match="blurred"):
        distiller = ManifoldGDDistiller(ipc=1, random_state=0).fit(X, np.arange(8) % 2)
    X_syn, _ = distiller.sample(out_dir=tmp_path / "run")
    picture = np.asarray(Image.open(tmp_path / "run" / "images" / "0" / "0000.png"))
    np.testing.assert_array_equal(picture.reshape(shape), X_syn[0])
    assert picture.shape == (shape[:2] if shape[2:] == (1,) else shape)


def test_a_complete_run_is_read_instead_of_made(distiller, tmp_path):
    X, y = distiller.sample(out_dir=tmp_path / "run")
    before = {p: p.stat().st_mtime_ns for p in (tmp_path / "run").rglob("*")}
    X_again, y_again = distiller.sample(out_dir=tmp_path / "run")
    np.testing.assert_array_equal(X_again, X)
    np.testing.assert_array_equal(y_again, y)
    assert {p: p.stat().st_mtime_ns for p in (tmp_path / "run").rglob("*")} == before


def test_a_run_with_other_settings_is_refused(distiller, tmp_path):
    distiller.sample(out_dir=tmp_path / "run")
    distiller.strength = 0.7
    with pytest.raises(ValueError, match=r"run with strength=0\.\d+, this one has strength=0\.7"):
        distiller.sample(out_dir=tmp_path / "run")
    distiller.set_params(strength=0.5, init_noise=0.7)
    with pytest.raises(ValueError, match=r"run with init_noise=1\.0, this one has init_noise=0\.7"):
        distiller.sample(out_dir=tmp_path / "run")


def test_a_folder_with_something_else_is_refused(distiller, tmp_path):
    (tmp_path / "thesis.tex").write_text("precious")
    with pytest.raises(ValueError, match="is not empty and holds no run"):
        distiller.sample(out_dir=tmp_path)
    assert files(tmp_path)[-1] == "thesis.tex"


def test_tables_have_no_images(tmp_path):
    distiller = ManifoldGDDistiller(ipc=2, random_state=0).fit(*load_iris(return_X_y=True))
    X, _ = distiller.sample(out_dir=tmp_path / "run")
    assert files(tmp_path / "run") == ["distilled.npz", "manifest.json"]
    np.testing.assert_array_equal(load_distilled(tmp_path / "run")[0], X)


def test_labels_that_are_objects_are_kept_as_strings(tmp_path):
    X, y = load_iris(return_X_y=True)
    names = np.array(["a", "b", "c"], dtype=object)[y]
    distiller = ManifoldGDDistiller(ipc=1, random_state=0).fit(X, names)
    distiller.sample(out_dir=tmp_path / "run")
    assert load_distilled(tmp_path / "run")[1].tolist() == ["a", "b", "c"]


def test_no_run_is_refused(tmp_path):
    with pytest.raises(ValueError, match="is no run"):
        load_distilled(tmp_path)


@pytest.mark.parametrize(
    "label",
    ["../x", "..", ".", "a/b", "a\\b", "new\nline", "<b>", "", "c:", "metadata.jsonl", "é" * 300],
)
def test_class_folders_stay_within(label, tmp_path):
    name = class_folder(label)
    (tmp_path / name).mkdir()
    assert (tmp_path / name).resolve().parent == tmp_path.resolve()
    assert name not in ("metadata.jsonl", "")
    assert not set(name) & set('/\\\n<>:"|?*')


def test_class_folders_are_the_labels_where_they_can_be():
    for label in ("tabby cat", "café", "猫", "a.b", "Ünïcode (1)", 7):
        assert class_folder(label) == str(label)


def test_class_folders_differ_where_labels_do():
    labels = ["a/b", "a%2Fb", "a b", "ab", ".", "%.", "..", "é", "e", "", "%"]
    labels += ["x" * 300, "x" * 301]
    assert len({class_folder(label) for label in labels}) == len(labels)


def test_a_failed_write_leaves_nothing(tmp_path):
    target = tmp_path / "file"
    target.write_bytes(b"old")
    with pytest.raises(TypeError):
        write_atomically(target, "text where bytes belong")
    assert target.read_bytes() == b"old"
    assert files(tmp_path) == ["file"]


@pytest.mark.parametrize("shape", [(8, 8), (8, 8, 3), (100, 60)])
def test_the_grid_shows_each_class_in_its_row(shape, tmp_path):
    # Class k has the brightness 50 * k throughout.
    labels = np.array([0, 0, 1, 2, 2, 2])
    pixels = np.stack([np.full(shape, 50 * k, np.uint8) for k in labels])
    draw_grid(pixels, labels, ["zero", "one", "two"], tmp_path / "grid.png")
    sheet = np.asarray(Image.open(tmp_path / "grid.png").convert("L"))
    scale = max(1, 48 // max(shape[:2]))
    height, width = shape[0] * scale, shape[1] * scale
    for k in range(3):
        band = sheet[4 + k * (height + 4) : 4 + k * (height + 4) + height]
        columns = [band[:, -(width + 4) * (3 - c) :][:, :width] for c in range(3)]
        drawn = [bool((column == 50 * k).all()) for column in columns]
        assert drawn == [c < [2, 1, 3][k] for c in range(3)]
