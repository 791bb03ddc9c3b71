import contextlib
import copy
import errno
import hashlib
import itertools
import json
import os
import shutil
import unicodedata
from pathlib import Path
from unittest import mock

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from scipy.spatial.distance import cdist
from sklearn.base import clone
from sklearn.cluster import KMeans
from sklearn.datasets import load_iris
from torch.utils.data import DataLoader, TensorDataset
from unprivileged import unprivileged_folder

from skdistill import ManifoldGDDistiller, load_distilled
from skdistill.io import RunDirectory, read_manifest
from skdistill.names import class_folder
from skdistill.sampling import Sampler


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
        refiner="passthrough",
        random_state=0,
        class_map={"one": 0, "t/wo": 1, "zero": 2},
    )
    with pytest.warns(UserWarning, match="loses"):
        return distiller.fit(*named_images)


@pytest.fixture(scope="module")
def quick_distiller(small_images):
    """One that makes a set of six images in no time, two at once."""
    X, y = small_images
    distiller = ManifoldGDDistiller(
        ipc=2, num_inference_steps=2, batch_size=2, projector="passthrough", random_state=0
    )
    with pytest.warns(UserWarning, match="blurred"):
        return distiller.fit(X, y)


def files(folder):
    return sorted(str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file())


def contents(folder):
    return {name: (folder / name).read_bytes() for name in files(folder)}


def relabelled(distiller, labels):
    """The distiller with other names of its classes."""
    distiller = copy.copy(distiller)
    distiller.classes_ = np.array(labels)
    return distiller


def test_a_run_directory_holds_what_it_should(distiller, tmp_path):
    run = tmp_path / "run"
    X, y = distiller.sample(out_dir=run)
    images = [f"images/{c}/{i:04d}.png" for c in ("one", "t%2Fwo", "zero") for i in range(3)]
    others = ["distilled.npz", "grid.png", "images/metadata.jsonl", "manifest.json", "trees.json"]
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
    assert manifest["random_state"] == 0
    assert manifest["image_shape"] == [8, 8]
    assert manifest["value_range"] == [0.0, 255.0]


def test_trees_are_kept_as_they_were_for_this_set(distiller, tmp_path):
    distiller.sample(ipc=4, out_dir=tmp_path / "run")
    trees = json.loads((tmp_path / "run" / "trees.json").read_text())
    assert [tree["label"] for tree in trees] == ["one", "t/wo", "zero"]
    clusterer = distiller.clusterers_[1]
    grown = clone(clusterer).set_params(ipc=4).fit(distiller._latents[1])
    (expected,) = grown.trees_
    for name in ("children", "size", "sse"):
        np.testing.assert_allclose(trees[1][name], getattr(expected, name))
    assert trees[1]["centroids"] == grown.prototype_nodes_.tolist()
    distances = cdist(expected.centers, distiller._latents[1])
    assert trees[1]["nearest"] == distiller._rows[1][distances.argmin(axis=1)].tolist()
    (tmp_path / "run" / "trees.json").unlink()
    distiller.sample(ipc=4, out_dir=tmp_path / "run")
    assert json.loads((tmp_path / "run" / "trees.json").read_text()) == trees


def test_a_clusterer_without_trees_leaves_none(tmp_path):
    distiller = ManifoldGDDistiller(ipc=2, clusterer=KMeans(), random_state=0)
    distiller.fit(*load_iris(return_X_y=True)).sample(out_dir=tmp_path / "run")
    assert files(tmp_path / "run") == ["distilled.npz", "manifest.json"]


def test_part_of_a_larger_coreset_is_another_set(tmp_path):
    X, y = load_iris(return_X_y=True)
    larger = ManifoldGDDistiller(ipc=4, random_state=0).fit(X, y)
    larger.sample(ipc=2, out_dir=tmp_path / "run")
    with pytest.raises(ValueError, match=r"centroids\['0'\]=4, .* centroids\['0'\]=2"):
        larger.set_params(ipc=2).fit(X, y).sample(out_dir=tmp_path / "run")


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
    with pytest.raises(ValueError, match=r"run with strength=1\.0, this one has strength=0\.7"):
        distiller.sample(out_dir=tmp_path / "run")
    distiller.set_params(strength=1.0, init_noise=0.7)
    with pytest.raises(ValueError, match=r"run with init_noise=1\.0, this one has init_noise=0\.7"):
        distiller.sample(out_dir=tmp_path / "run")


def test_a_sequence_of_any_kind_is_the_same_setting(distiller, tmp_path):
    distiller.guidance_interval = (0.0, 0.5)
    expected, _ = distiller.sample(out_dir=tmp_path / "run")
    for interval in ([0.0, 0.5], np.array([0.0, 0.5])):
        distiller.guidance_interval = interval
        np.testing.assert_array_equal(distiller.sample(out_dir=tmp_path / "run")[0], expected)


def test_a_run_with_another_budget_is_refused_by_its_name(distiller, tmp_path):
    distiller.sample(out_dir=tmp_path / "run")
    with pytest.raises(ValueError, match=r"run with ipc\['one'\]=3, this one has ipc\['one'\]=5"):
        distiller.sample({"zero": 3, "one": 5, "t/wo": 3}, out_dir=tmp_path / "run")


def test_the_manifest_is_read_back(distiller, tmp_path):
    distiller.sample(out_dir=tmp_path / "run")
    manifest = read_manifest(tmp_path / "run")
    assert manifest == json.loads((tmp_path / "run" / "manifest.json").read_text())
    with pytest.raises(ValueError, match="is no run: there is no manifest.json in it"):
        read_manifest(tmp_path)


def test_images_are_what_torchvision_reads_by_its_rule(distiller, tmp_path):
    # DatasetFolder: classes are the sorted names of the folders; samples, those of each class in
    # turn, sorted.
    X, y = distiller.sample(out_dir=tmp_path / "run")
    images = tmp_path / "run" / "images"
    classes = sorted(entry.name for entry in os.scandir(images) if entry.is_dir())
    assert classes == [class_folder(label) for label in distiller.classes_]
    paths = [path for name in classes for path in sorted((images / name).rglob("*"))]
    assert all(path.suffix == ".png" for path in paths)
    pixels = np.stack([np.asarray(Image.open(path)) for path in paths])
    np.testing.assert_array_equal(pixels, X)
    targets = [classes.index(path.parent.name) for path in paths]
    assert distiller.classes_[targets].tolist() == y.tolist()


def test_images_are_what_hugging_face_reads_by_its_rule(distiller, tmp_path):
    # imagefolder: metadata.jsonl names every image once, relative to itself, with equal columns,
    # of which one type each.
    _, y = distiller.sample(out_dir=tmp_path / "run")
    images = tmp_path / "run" / "images"
    lines = [json.loads(line) for line in (images / "metadata.jsonl").read_text().splitlines()]
    names = [line["file_name"] for line in lines]
    assert sorted(names) == sorted(
        path.relative_to(images).as_posix() for path in images.rglob("*.png")
    )
    assert len({tuple(line) for line in lines}) == 1
    for column in lines[0]:
        assert len({type(line[column]) for line in lines}) == 1
    assert [line["label"] for line in lines] == y.tolist()


def test_a_distilled_set_is_a_data_set_of_pytorch(distiller, tmp_path):
    distiller.sample(out_dir=tmp_path / "run")
    X, y = load_distilled(tmp_path / "run")
    classes, targets = np.unique(y, return_inverse=True)
    data = TensorDataset(torch.from_numpy(X), torch.from_numpy(targets))
    batches = list(DataLoader(data, batch_size=4))
    assert sum(len(images) for images, _ in batches) == len(data) == len(X)
    images, labels = data[len(X) - 1]
    np.testing.assert_array_equal(images.numpy(), X[-1])
    assert classes[labels] == y[-1]


def test_a_file_is_refused_as_a_run_directory(quick_distiller, tmp_path):
    (tmp_path / "thesis.tex").write_text("precious")
    with pytest.raises(ValueError, match=r"out_dir='.*thesis\.tex' is no folder"):
        quick_distiller.sample(out_dir=tmp_path / "thesis.tex")
    with pytest.raises(NotADirectoryError, match=r"thesis\.tex/run/manifest\.json'$"):
        quick_distiller.sample(out_dir=tmp_path / "thesis.tex" / "run")
    assert (tmp_path / "thesis.tex").read_text() == "precious"


@pytest.mark.parametrize("manifest", ["", '{"settings": {', "{}", "\udcff"])
def test_a_run_directory_with_a_broken_manifest_is_left_alone(quick_distiller, tmp_path, manifest):
    quick_distiller.sample(out_dir=tmp_path)
    (tmp_path / "manifest.json").write_text(manifest, errors="surrogateescape")
    before = contents(tmp_path)
    with pytest.raises(ValueError, match="holds no run .its manifest.json names no settings"):
        quick_distiller.sample(out_dir=tmp_path)
    assert contents(tmp_path) == before


def test_a_folder_with_something_else_is_refused(distiller, tmp_path):
    (tmp_path / "thesis.tex").write_text("precious")
    with pytest.raises(ValueError, match="is not empty and holds no run"):
        distiller.sample(out_dir=tmp_path)
    assert files(tmp_path)[-1] == "thesis.tex"


def test_tables_have_no_images(tmp_path):
    distiller = ManifoldGDDistiller(ipc=2, random_state=0).fit(*load_iris(return_X_y=True))
    X, _ = distiller.sample(out_dir=tmp_path / "run")
    assert files(tmp_path / "run") == ["distilled.npz", "manifest.json", "trees.json"]
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


def failing_after(n_calls, function):
    """The function as it is on a disk that is full after some calls."""
    left = iter(range(n_calls))

    def limited(*arguments, **options):
        if next(left, None) is None:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return function(*arguments, **options)

    return limited


@contextlib.contextmanager
def limited_files(size):
    """Let no file grow beyond a size."""
    resource = pytest.importorskip("resource")
    old = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, old[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, old)


def faults(kind, whole):
    """Disks that fail sooner or later while a run is written, the last one never."""
    if kind == "limit":
        return [limited_files(size) for size in sorted({len(data) - 1 for data in whole.values()})]
    owner, step = kind
    function = getattr(owner, step)
    return (mock.patch.object(owner, step, failing_after(n, function)) for n in itertools.count())


@pytest.fixture(
    params=[(os, "fsync"), (Path, "replace"), (Path, "mkdir"), "limit"],
    ids=["fsync", "replace", "mkdir", "limit"],
)
def broken_runs(request, quick_distiller, tmp_path):
    """Runs that broke off for want of space wherever they can, their errors and the whole run."""
    quick_distiller.sample(out_dir=tmp_path / "whole")
    whole = contents(tmp_path / "whole")
    errors = {}
    for i, fault in enumerate(faults(request.param, whole)):
        run = tmp_path / str(i)
        try:
            with fault:
                quick_distiller.sample(out_dir=run)
        except OSError as error:
            errors[run] = error
        else:
            break
    return errors, whole


def n_batches(run):
    return len(list((run / "batches").glob("*.npz")))


def test_a_full_disk_is_named_and_leaves_nothing_half_written(broken_runs):
    errors, whole = broken_runs
    assert len(errors) >= 4
    assert {0, 3} <= set(map(n_batches, errors))
    for run, error in errors.items():
        assert error.errno in (errno.ENOSPC, errno.EFBIG)
        assert os.strerror(error.errno) in str(error)
        assert error.filename.startswith(f"{run}{os.sep}")
        for name, data in contents(run).items():
            assert name.startswith("batches/") or data == whole[name]
        assert not list(run.rglob("*.partial"))
        with pytest.raises(ValueError, match="is not complete|is no run"):
            load_distilled(run)


def test_a_run_that_broke_off_between_batches_goes_on_to_the_same_files(
    quick_distiller, broken_runs
):
    errors, whole = broken_runs
    for run in errors:
        if n_batches(run) < 3:
            quick_distiller.sample(out_dir=run)
            assert contents(run) == whole


def test_a_run_that_broke_off_after_its_last_batch_goes_on_to_the_same_files(
    quick_distiller, broken_runs
):
    errors, whole = broken_runs
    for run in errors:
        if n_batches(run) == 3:
            quick_distiller.sample(out_dir=run)
            assert contents(run) == whole


def test_a_failure_to_write_says_that_the_same_call_goes_on(quick_distiller, tmp_path, monkeypatch):
    monkeypatch.setattr(os, "fsync", failing_after(4, os.fsync))
    message = (
        r"No space left on device \(what was finished in out_dir='.*' stays, and the same call"
    )
    with pytest.raises(OSError, match=message):
        quick_distiller.sample(out_dir=tmp_path / "run")


@pytest.mark.parametrize("out_dir", ["closed", "closed/run"])
def test_an_output_folder_that_may_not_be_written_is_named_before_sampling(
    quick_distiller, monkeypatch, out_dir
):
    monkeypatch.setattr(Sampler, "sample", None)
    with unprivileged_folder() as folder:
        (folder / "closed").mkdir(mode=0o500)
        with pytest.raises(PermissionError, match=f"denied in '{folder}/closed'"):
            quick_distiller.sample(out_dir=folder / out_dir)
        assert files(folder) == []


def test_a_complete_run_that_may_not_be_written_is_read(quick_distiller):
    with unprivileged_folder() as folder:
        X, _ = quick_distiller.sample(out_dir=folder / "run")
        for path in (folder / "run", *(folder / "run").rglob("*")):
            path.chmod(0o500)
        np.testing.assert_array_equal(quick_distiller.sample(out_dir=folder / "run")[0], X)


def test_a_manifest_that_may_not_be_read_is_named(quick_distiller):
    with unprivileged_folder() as folder:
        quick_distiller.sample(out_dir=folder)
        (folder / "manifest.json").chmod(0)
        with pytest.raises(PermissionError, match=f"denied: '{folder}/manifest.json'"):
            quick_distiller.sample(out_dir=folder)


def truncate(path):
    path.write_bytes(path.read_bytes()[:-10])


def alter(path):
    data = bytearray(path.read_bytes())
    # Beyond the headers, which no checksum covers.
    place = len(data) // 3
    data[place : 2 * place] = data[place : 2 * place][::-1]
    path.write_bytes(data)


def put_a_picture_of_something_else(path):
    Image.new("L", (8, 8)).save(path, "png")


DAMAGES = [truncate, alter, put_a_picture_of_something_else, Path.unlink]


@pytest.mark.parametrize("damage", DAMAGES)
def test_damaged_images_of_a_complete_run_are_found_and_written_again(
    quick_distiller, tmp_path, damage
):
    X, _ = quick_distiller.sample(out_dir=tmp_path)
    whole = contents(tmp_path)
    times = {name: (tmp_path / name).stat().st_mtime_ns for name in whole}
    names = ["images/0/0001.png", "images/2/0000.png"]
    for name in names:
        damage(tmp_path / name)
    with pytest.warns(UserWarning, match=r"again .2.: '0/0001.png', '2/0000.png'"):
        X_again, _ = quick_distiller.sample(out_dir=tmp_path)
    np.testing.assert_array_equal(X_again, X)
    assert contents(tmp_path) == whole
    for name in set(whole) - {*names, "images/metadata.jsonl"}:
        assert (tmp_path / name).stat().st_mtime_ns == times[name]


@pytest.mark.parametrize("damage", [truncate, alter, Path.unlink])
def test_damaged_metadata_of_a_complete_run_are_written_again(quick_distiller, tmp_path, damage):
    quick_distiller.sample(out_dir=tmp_path)
    whole = contents(tmp_path)
    damage(tmp_path / "images" / "metadata.jsonl")
    with pytest.warns(UserWarning, match="that were lost or altered are written again"):
        quick_distiller.sample(out_dir=tmp_path)
    assert contents(tmp_path) == whole


def write_a_smaller_set(path):
    np.savez(path, X=np.zeros((1, 8, 8), np.uint8), y=[0])


def pickle_objects(path):
    np.savez(path.with_suffix(""), X=np.array([{}]), y=[0])


@pytest.mark.parametrize("damage", [truncate, alter, write_a_smaller_set, pickle_objects])
def test_a_damaged_set_is_named_and_made_again(quick_distiller, tmp_path, damage):
    X, _ = quick_distiller.sample(out_dir=tmp_path)
    whole = contents(tmp_path)
    damage(tmp_path / "distilled.npz")
    if damage is not write_a_smaller_set:
        with pytest.raises(ValueError, match=r"distilled\.npz' cannot be read.*makes it again"):
            load_distilled(tmp_path)
    with pytest.warns(UserWarning, match=r"distilled\.npz' .*\. The set is made again"):
        X_again, _ = quick_distiller.sample(out_dir=tmp_path)
    np.testing.assert_array_equal(X_again, X)
    assert contents(tmp_path) == whole


@pytest.fixture
def broken_off(quick_distiller, tmp_path, monkeypatch):
    """A run directory with two of three batches, and what it is to become."""
    quick_distiller.sample(out_dir=tmp_path / "whole")
    with monkeypatch.context() as patch:
        patch.setattr(RunDirectory, "write", failing_after(2, RunDirectory.write))
        with pytest.raises(OSError, match="No space left"):
            quick_distiller.sample(out_dir=tmp_path / "run")
    return tmp_path / "run", contents(tmp_path / "whole")


@pytest.mark.parametrize("damage", DAMAGES)
def test_damaged_images_of_a_run_that_broke_off_are_found_when_it_goes_on(
    quick_distiller, broken_off, damage
):
    run, whole = broken_off
    damage(run / "images" / "1" / "0000.png")
    with pytest.warns(UserWarning, match=r"Images of out_dir=.*again .1.: '1/0000.png'"):
        quick_distiller.sample(out_dir=run)
    assert contents(run) == whole


@pytest.mark.parametrize("damage", [truncate, alter, pickle_objects])
def test_damaged_batches_are_made_again(quick_distiller, broken_off, damage):
    run, whole = broken_off
    damage(run / "batches" / "00000000.npz")
    with pytest.warns(UserWarning, match=r"00000000\.npz' cannot be .* Its samples are made again"):
        quick_distiller.sample(out_dir=run)
    assert contents(run) == whole


def test_what_a_killed_run_left_behind_is_removed_and_nothing_else(quick_distiller, broken_off):
    run, whole = broken_off
    for name in (".manifest.json.17.partial", "images/2/.0001.png.17.partial"):
        (run / name).parent.mkdir(exist_ok=True)
        (run / name).write_bytes(b"half")
    (run / "mine.partial").write_bytes(b"precious")
    (run / ".mine.partial").write_bytes(b"precious")
    quick_distiller.sample(out_dir=run)
    assert contents(run) == whole | {".mine.partial": b"precious", "mine.partial": b"precious"}


def test_a_run_that_was_killed_while_its_first_file_was_written_starts_again(
    quick_distiller, tmp_path
):
    (tmp_path / ".manifest.json.17.partial").write_bytes(b"half")
    quick_distiller.sample(out_dir=tmp_path)
    assert ".manifest.json.17.partial" not in files(tmp_path)
    assert "distilled.npz" in files(tmp_path)


@pytest.mark.filterwarnings("ignore:.*that were lost or altered")
@pytest.mark.parametrize("link", ["images", "images/2", "batches"])
def test_nothing_is_written_through_a_link_that_leads_out(quick_distiller, broken_off, link):
    run, _ = broken_off
    shutil.rmtree(run / link, ignore_errors=True)
    (run.parent / "outside").mkdir()
    (run / link).symlink_to(run.parent / "outside")
    with pytest.raises(ValueError, match=f"link in it that leads out: '{run}/{link}.*Remove it"):
        quick_distiller.sample(out_dir=run)
    assert files(run.parent / "outside") == []


def test_a_run_directory_may_be_a_link_itself(quick_distiller, tmp_path):
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "run").symlink_to("elsewhere")
    quick_distiller.sample(out_dir=tmp_path / "run")
    load_distilled(tmp_path / "elsewhere")


@pytest.mark.parametrize(
    "labels",
    [
        ["../../x", "/etc", "a/b"],
        ["", ".", ".."],
        ["<b>&", "CON", "a\nb"],
        ["Cat", "a\0b", "cat"],
        ["caf\u00e9", "cafe\u0301", "é" * 300],
        ["\udcff", "metadata.jsonl", "猫"],
        [-1, 0, 10**12],
        [0.0, 1.0, 2.0],
    ],
)
def test_labels_of_any_kind_have_folders_of_their_own_within_the_run(
    quick_distiller, tmp_path, labels
):
    run = tmp_path / "deep" / "run"
    X, y = relabelled(quick_distiller, labels).sample(out_dir=run)
    assert all(name.startswith("deep/run/") for name in files(tmp_path))
    folders = [path.name for path in (run / "images").iterdir() if path.is_dir()]
    assert len({unicodedata.normalize("NFC", name).lower() for name in folders}) == 3
    lines = (run / "images" / "metadata.jsonl").read_text().splitlines()
    for line, image, label in zip(map(json.loads, lines), X, y, strict=True):
        assert line["label"] == str(label)
        path = run / "images" / line["file_name"]
        assert path.parent.parent == run / "images"
        np.testing.assert_array_equal(np.asarray(Image.open(path)), image)
    X_read, y_read = load_distilled(run)
    np.testing.assert_array_equal(X_read, X)
    assert y_read.tolist() == y.tolist() == np.repeat(labels, 2).tolist()


def test_labels_may_be_bools(small_images, tmp_path):
    X, y = small_images
    distiller = ManifoldGDDistiller(ipc=1, num_inference_steps=2, random_state=0)
    with pytest.warns(UserWarning, match="blurred"):
        distiller.fit(X[y < 2], y[y < 2] == 1)
    distiller.sample(out_dir=tmp_path)
    assert (tmp_path / "images" / "True" / "0000.png").is_file()
    assert load_distilled(tmp_path)[1].tolist() == [False, True]
