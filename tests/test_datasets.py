import gzip
import io
import os
import pickle
import re
import tempfile
import zipfile
from pathlib import Path
from urllib.error import URLError

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_array_equal
from PIL import Image
from sklearn.datasets import load_digits

import skdistill.datasets
from skdistill.datasets import (
    CIFAR10_CLASSES,
    load_cifar10,
    load_digits_split,
    load_fashion_mnist,
    load_image_folder,
    load_npz,
)


def test_the_digits_split_is_fixed_stratified_and_disjoint():
    X_train, X_test, y_train, y_test = load_digits_split()
    again = load_digits_split()
    np.testing.assert_array_equal(X_train, again[0])
    digits = load_digits()
    rows = {image.tobytes() for image in X_train}
    assert len(X_train) + len(X_test) == len(digits.images)
    assert len(rows & {image.tobytes() for image in X_test}) == 0
    shares = np.bincount(y_train) / np.bincount(digits.target)
    np.testing.assert_allclose(shares, 0.7, atol=0.01)
    assert len(y_test) == 540


def save(folder, name, mode="L", size=(8, 6), color=100):
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new(mode, size, color).save(path)


def test_grey_folders_are_grey(tmp_path):
    save(tmp_path, "cat/1.png")
    save(tmp_path, "cat/deep/2.bmp", color=7)
    save(tmp_path, "dog/1.png", mode="1", color=1)
    (tmp_path / "notes.txt").write_text("not an image")
    (tmp_path / "dog" / "notes.txt").write_text("not an image")
    X, y = load_image_folder(tmp_path)
    assert X.shape == (3, 6, 8)
    assert X.dtype == np.uint8
    assert y.tolist() == ["cat", "cat", "dog"]
    assert X[:, 0, 0].tolist() == [100, 7, 255]


def test_one_colour_image_makes_colour(tmp_path):
    save(tmp_path, "cat/1.png")
    save(tmp_path, "dog/1.png", mode="RGB", color=(1, 2, 3))
    X, _ = load_image_folder(tmp_path)
    assert X.shape == (2, 6, 8, 3)
    assert X[:, 0, 0].tolist() == [[100, 100, 100], [1, 2, 3]]


def test_one_class_is_enough(tmp_path):
    save(tmp_path, "cat/1.png")
    X, y = load_image_folder(tmp_path)
    assert (X.shape, y.tolist()) == ((1, 6, 8), ["cat"])


def test_sizes_that_differ_are_refused_or_cut(tmp_path):
    save(tmp_path, "cat/1.png")
    save(tmp_path, "dog/old/1.png", size=(10, 10))
    message = "'cat/1.png' has 6 x 8 pixels, 'dog/old/1.png' has 10 x 10 pixels; give image_size"
    # An image of another size can be read, so that it is not left out.
    for on_error in ("raise", "skip"):
        with pytest.raises(ValueError, match=message):
            load_image_folder(tmp_path, on_error=on_error)
    X, _ = load_image_folder(tmp_path, image_size=4)
    assert X.shape == (2, 4, 4)


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (None, "is not there"),
        ([], "holds no images in class folders; it must look like FOLDER/CLASS/IMAGE.png"),
        (["cat/", "dog/"], "holds no images in class folders"),
        (["1.png"], "holds no images in class folders"),
        (["cat/1.heic"], r"holds no images .* must end in \.png, \.jpg, "),
    ],
)
def test_folders_without_images_are_named(tmp_path, names, message):
    folder = tmp_path / "data"
    for name in names or ():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).mkdir() if name.endswith("/") else (folder / name).touch()
    if names == []:
        folder.mkdir()
    with pytest.raises(ValueError, match=f"folder='{folder}' {message}"):
        load_image_folder(folder)


def test_a_file_is_no_folder(tmp_path):
    save(tmp_path, "1.png")
    with pytest.raises(ValueError, match="1.png' is no folder"):
        load_image_folder(tmp_path / "1.png")


def test_class_folders_without_images_are_named_and_left_out(tmp_path):
    save(tmp_path, "cat/1.png")
    (tmp_path / "new\nline").mkdir()
    (tmp_path / "__MACOSX" / "cat").mkdir(parents=True)
    message = r"without images, which are left out: '__MACOSX', 'new\\nline'"
    with pytest.warns(UserWarning, match=message) as caught:
        _, y = load_image_folder(tmp_path)
    assert y.tolist() == ["cat"]
    assert caught[0].filename == __file__


def break_image(path):
    path.write_bytes(path.read_bytes()[:40])


def test_a_broken_image_is_named_with_what_leaves_it_out(tmp_path):
    save(tmp_path, "cat/1.png")
    break_image(tmp_path / "cat" / "1.png")
    with pytest.raises(ValueError, match=r"image '.*1\.png' cannot be read: .* on_error='skip'"):
        load_image_folder(tmp_path)


def test_broken_images_are_left_out_counted_and_named(tmp_path):
    for name in ("cat/1.png", "cat/2.png", "cat/3.png", "dog/1.png", "dog/2.png"):
        save(tmp_path, name, color=20 * len(name))
    broken = [tmp_path / "cat" / "1.png", tmp_path / "dog" / "2.png"]
    for path in broken:
        break_image(path)
    with pytest.warns(UserWarning, match=r"^2 of the 5 images of folder=") as caught:
        X, y = load_image_folder(tmp_path, on_error="skip")
    (warning,) = caught
    lines = str(warning.message).splitlines()
    assert len(lines) == 3
    for path, line in zip(broken, lines[1:], strict=True):
        assert line.startswith(f"The image {str(path)!r} cannot be read: ")
    assert warning.filename == __file__
    assert (len(X), y.tolist()) == (3, ["cat", "cat", "dog"])


def test_images_that_can_be_read_are_the_same_with_and_without_skipping(tmp_path, recwarn):
    for name in ("cat/1.png", "cat/2.png", "dog/1.png"):
        save(tmp_path, name, color=20 * len(name))
    for ours, theirs in zip(
        load_image_folder(tmp_path), load_image_folder(tmp_path, on_error="skip"), strict=True
    ):
        assert_array_equal(ours, theirs)
    assert not recwarn


@pytest.mark.parametrize("labels", [["dog"], ["cat", "dog"]])
def test_a_class_whose_images_are_all_broken_is_named(tmp_path, labels):
    for label in ("cat", "dog"):
        save(tmp_path, f"{label}/1.png")
    for label in labels:
        break_image(tmp_path / label / "1.png")
    named = ", ".join(map(repr, labels))
    with pytest.raises(ValueError, match=rf"no image that can be read in {named}:\nThe image"):
        load_image_folder(tmp_path, on_error="skip")


@pytest.mark.parametrize(
    ("parameter", "value"),
    [("image_size", 0), ("image_size", 8.0), ("image_size", "8"), ("on_error", "ignore")],
)
def test_parameters_that_cannot_be_used_are_named_with_their_value(tmp_path, parameter, value):
    save(tmp_path, "cat/1.png")
    with pytest.raises(ValueError, match=rf"'{parameter}' parameter.* must be .*Got {value!r}"):
        load_image_folder(tmp_path, **{parameter: value})


def test_a_folder_must_be_a_path():
    with pytest.raises(ValueError, match="'folder' parameter of load_image_folder must be .*Got 5"):
        load_image_folder(5)


def test_npz_files(tmp_path):
    np.savez(tmp_path / "data.npz", X=np.eye(3), y=["a", "b", "c"])
    X, y = load_npz(tmp_path / "data.npz")
    np.testing.assert_array_equal(X, np.eye(3))
    assert y.tolist() == ["a", "b", "c"]
    np.savez(tmp_path / "column.npz", X=np.eye(3), y=[[3], [1], [2]])
    assert load_npz(tmp_path / "column.npz")[1].tolist() == [3, 1, 2]


@pytest.mark.parametrize("levels", [15, 4095])
def test_images_that_are_nearly_black_are_told_of(tmp_path, levels):
    """Such as 12 bits in files of 16."""
    values = np.linspace(0, levels, 64).reshape(8, 8)
    for label in ("one", "two"):
        (tmp_path / label).mkdir()
        dtype = np.uint8 if levels < 256 else np.uint16
        Image.fromarray(values.astype(dtype)).save(tmp_path / label / "1.png")
    with pytest.warns(UserWarning, match="brightest value of folder=.* is 15 of 255"):
        load_image_folder(tmp_path)


class MakesFolder:
    """What a hostile pickle is: it does something where it is loaded."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (self.path,)


@pytest.mark.parametrize("array", ["X", "y", "none, a bare pickle"])
def test_npz_files_are_not_unpickled(tmp_path, array):
    hostile = MakesFolder(str(tmp_path / "made"))
    if array in ("X", "y"):
        arrays = {"X": np.eye(1), "y": [0]} | {array: np.array([hostile])}
        np.savez(tmp_path / "data.npz", **arrays)
    else:
        (tmp_path / "data.npz").write_bytes(pickle.dumps(hostile))
    with pytest.raises(ValueError, match="cannot be read as an .npz file"):
        load_npz(tmp_path / "data.npz")
    assert not (tmp_path / "made").exists()


@pytest.mark.parametrize(
    ("X", "y"),
    [
        (np.eye(3), [0, 1]),
        (np.eye(2), 0),
        (np.eye(2), np.eye(2)),
        (5, [0]),
        (5, 0),
        (np.ones(3), [0, 1, 2]),
        (np.ones((0, 4)), []),
    ],
    ids=str,
)
def test_npz_files_must_have_a_row_of_values_and_a_label_for_each_sample(tmp_path, X, y):
    np.savez(tmp_path / "data.npz", X=X, y=y)
    message = re.escape(f"data.npz' has X of shape {np.shape(X)} and y of shape {np.shape(y)}")
    with pytest.raises(ValueError, match=message):
        load_npz(tmp_path / "data.npz")


@pytest.mark.parametrize("dtype", [complex, str])
def test_npz_files_must_have_real_numbers(tmp_path, dtype):
    np.savez(tmp_path / "data.npz", X=np.eye(2).astype(dtype), y=[0, 1])
    with pytest.raises(ValueError, match=r"data.npz' has X of dtype .*; it must be of real"):
        load_npz(tmp_path / "data.npz")


@settings(deadline=None)
@given(
    compressed=st.booleans(),
    length=st.none() | st.floats(0, 1, exclude_max=True),
    altered=st.lists(st.tuples(st.floats(0, 1, exclude_max=True), st.integers(0, 255))),
)
def test_broken_npz_files_are_read_or_refused_and_nothing_else(compressed, length, altered):
    buffer = io.BytesIO()
    save_arrays = np.savez_compressed if compressed else np.savez
    save_arrays(buffer, X=np.arange(12.0).reshape(4, 3), y=["a", "b", "b", "c"])
    data = bytearray(buffer.getvalue())
    for place, byte in altered:
        data[int(place * len(data))] = byte
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "data.npz"
        path.write_bytes(data if length is None else data[: int(length * len(data))])
        arrays, message = None, ""
        try:
            arrays = load_npz(path)
        except ValueError as error:
            message = str(error)
    assert len(arrays[0]) == len(arrays[1]) if arrays is not None else repr(str(path)) in message
    if length is not None:
        assert arrays is None


@pytest.mark.parametrize("content", ["text", "wrong names", "missing", "one array"])
def test_bad_npz_files_are_named(tmp_path, content):
    path = tmp_path / "data.npz"
    if content == "text":
        path.write_text("hello")
    elif content == "wrong names":
        np.savez(path, images=np.eye(2), labels=[0, 1])
    elif content == "one array":
        path = tmp_path / "data.npy"
        np.save(path, np.eye(2))
    with pytest.raises(ValueError, match=r"data\.np.' cannot be read as an \.npz file"):
        load_npz(path)


def test_fashion_mnist_from_disk(studied_data):
    X_train, X_test, y_train, y_test = load_fashion_mnist()
    assert X_train.shape == (60000, 28, 28)
    assert X_test.shape == (10000, 28, 28)
    assert X_train.dtype == X_test.dtype == np.uint8
    assert_array_equal(np.bincount(y_train), [6000] * 10)
    assert_array_equal(np.bincount(y_test), [1000] * 10)


def test_cifar10_from_disk(studied_data):
    X_train, X_test, y_train, y_test = load_cifar10()
    assert X_train.shape == (50000, 32, 32, 3)
    assert X_test.shape == (10000, 32, 32, 3)
    for labels, n in ((y_train, 5000), (y_test, 1000)):
        classes, counts = np.unique(labels, return_counts=True)
        assert_array_equal(classes, CIFAR10_CLASSES)
        assert_array_equal(counts, [n] * 10)
    # Blue above, as skies are.
    assert X_train[y_train == "airplane", :8, :, 2].mean() > X_train[..., :8, :, 0].mean()


def write_idx(path, array):
    header = bytes([0, 0, 8, array.ndim]) + b"".join(n.to_bytes(4, "big") for n in array.shape)
    path.write_bytes(gzip.compress(header + array.astype(np.uint8).tobytes()))


def test_idx_files_are_read_in_the_order_of_their_rows(tmp_path, monkeypatch):
    monkeypatch.setenv("SKDISTILL_DATA", str(tmp_path))
    arrays = {
        "train-images-idx3": np.arange(24).reshape(2, 3, 4),
        "t10k-images-idx3": np.arange(12).reshape(1, 3, 4),
        "train-labels-idx1": np.array([7, 3]),
        "t10k-labels-idx1": np.array([5]),
    }
    for name, array in arrays.items():
        write_idx(tmp_path / f"{name}-ubyte.gz", array)
    for loaded, expected in zip(load_fashion_mnist(), arrays.values(), strict=True):
        assert_array_equal(loaded, expected)
    (tmp_path / "train-images-idx3-ubyte.gz").write_bytes(b"no gzip")
    with pytest.raises(ValueError, match="cannot be read as a gzipped idx file"):
        load_fashion_mnist()
    write_idx(tmp_path / "train-images-idx3-ubyte.gz", np.zeros((2, 3)))
    content = gzip.decompress((tmp_path / "train-images-idx3-ubyte.gz").read_bytes())
    for cut in (2, 7, len(content) - 1):
        (tmp_path / "train-images-idx3-ubyte.gz").write_bytes(gzip.compress(content[:cut]))
        with pytest.raises(ValueError, match="cannot be read as a gzipped idx file"):
            load_fashion_mnist()
    # A header as it should be, and what cannot be unpacked behind it.
    broken = gzip.compress(content)[:10] + b"\xff" * 50
    (tmp_path / "train-images-idx3-ubyte.gz").write_bytes(broken)
    with pytest.raises(ValueError, match="train-images.* cannot be read as a gzipped idx file"):
        load_fashion_mnist()


def test_images_of_cifar10_are_read_by_class_and_broken_archives_named(tmp_path, monkeypatch):
    monkeypatch.setenv("SKDISTILL_DATA", str(tmp_path))
    path = tmp_path / "cifar10-jpeg.zip"
    digits = load_digits().images.astype(np.uint8) * 15
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for k, name in enumerate(("train/cat/0.jpg", "train/ant/1.jpg", "test/cat/0.jpg")):
            buffer = io.BytesIO()
            Image.fromarray(digits[k]).resize((32, 32)).convert("RGB").save(buffer, "jpeg")
            archive.writestr(name, buffer.getvalue())
        archive.writestr("README", "none of the images")
    X_train, X_test, y_train, y_test = load_cifar10()
    assert X_train.shape == (2, 32, 32, 3)
    assert X_test.shape == (1, 32, 32, 3)
    assert (y_train.tolist(), y_test.tolist()) == (["ant", "cat"], ["cat"])
    expected = np.asarray(Image.fromarray(digits[1]).resize((32, 32)), dtype=float)
    assert np.abs(X_train[0] - expected[..., None]).mean() < 10
    content = bytearray(path.read_bytes())
    content[60:90] = b"\xff" * 30
    path.write_bytes(content)
    with pytest.raises(ValueError, match="cifar10-jpeg.zip' cannot be read as images"):
        load_cifar10()


def test_missing_files_are_named(tmp_path, monkeypatch):
    monkeypatch.setenv("SKDISTILL_DATA", str(tmp_path))
    with pytest.raises(ValueError, match="train-images-idx3-ubyte.gz' cannot be read"):
        load_fashion_mnist()
    with pytest.raises(ValueError, match="cifar10-jpeg.zip' cannot be read as images train/CLASS"):
        load_cifar10()
    with zipfile.ZipFile(tmp_path / "cifar10-jpeg.zip", "w") as archive:
        archive.writestr("other/file.txt", "nothing")
    with pytest.raises(ValueError, match="cifar10-jpeg.zip' cannot be read as images train/CLASS"):
        load_cifar10()


@pytest.mark.parametrize("variable", [None, ""])
def test_data_that_are_not_on_disk_are_fetched(monkeypatch, variable):
    monkeypatch.delenv("SKDISTILL_DATA", raising=False)
    if variable is not None:
        monkeypatch.setenv("SKDISTILL_DATA", variable)
    rng = np.random.default_rng(0)

    def fetched(name, *, version, return_X_y, as_frame):
        assert (version, return_X_y, as_frame) == (1, True, False)
        n, d = {"Fashion-MNIST": (60002, 784), "CIFAR_10": (50002, 3072)}[name]
        X = np.zeros((n, d), dtype=np.uint8)
        X[-2:] = rng.integers(0, 256, (2, d))
        return X, np.array(["3"] * n)

    monkeypatch.setattr(skdistill.datasets, "fetch_openml", fetched)
    X_train, X_test, y_train, y_test = load_fashion_mnist()
    assert X_test.shape == (2, 28, 28)
    assert (len(X_train), len(y_train), y_test.tolist()) == (60000, 60000, [3, 3])
    assert y_test.dtype == np.int64
    rng = np.random.default_rng(0)
    X_train, X_test, y_train, y_test = load_cifar10()
    assert (len(X_train), len(y_train), y_test.tolist()) == (50000, 50000, ["cat", "cat"])
    # The original has all red values of an image, then all green, then all blue ones.
    expected = np.random.default_rng(0).integers(0, 256, (2, 3072))
    assert_array_equal(X_test[0, ..., 1].ravel(), expected[0, 1024:2048])


@pytest.mark.parametrize("load", [load_fashion_mnist, load_cifar10])
def test_without_a_network_the_error_says_how_to_do_without(load, monkeypatch):
    def unreachable(*_, **__):
        raise URLError("Name or service not known")

    monkeypatch.delenv("SKDISTILL_DATA", raising=False)
    monkeypatch.setattr(skdistill.datasets, "fetch_openml", unreachable)
    with pytest.raises(
        OSError, match=r"downloaded from OpenML: .*not known.*set .* SKDISTILL_DATA"
    ):
        load()
