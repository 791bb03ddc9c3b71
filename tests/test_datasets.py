import gzip
import io
import zipfile

import numpy as np
import pytest
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


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "P", "CMYK"])
def test_one_colour_image_makes_colour(tmp_path, mode):
    save(tmp_path, "cat/1.png")
    save(tmp_path, f"dog/1.{'tif' if mode == 'CMYK' else 'png'}", mode=mode, color=0)
    X, _ = load_image_folder(tmp_path)
    assert X.shape == (2, 6, 8, 3)


def test_sixteen_bits_keep_their_upper_byte(tmp_path):
    (tmp_path / "cat").mkdir()
    values = np.array([[0, 256], [32768, 65535]], dtype=np.uint16)
    Image.fromarray(values).save(tmp_path / "cat" / "1.png")
    X, _ = load_image_folder(tmp_path)
    assert X[0].tolist() == [[0, 1], [128, 255]]


def test_sizes_that_differ_are_refused_or_cut(tmp_path):
    save(tmp_path, "cat/1.png")
    save(tmp_path, "dog/2.png", size=(10, 10))
    with pytest.raises(ValueError, match="1.png has 6 x 8 pixels, 2.png has 10 x 10.*image_size"):
        load_image_folder(tmp_path)
    X, _ = load_image_folder(tmp_path, image_size=4)
    assert X.shape == (2, 4, 4)


def test_bad_folders_are_named(tmp_path):
    with pytest.raises(ValueError, match="is not there"):
        load_image_folder(tmp_path / "nowhere")
    with pytest.raises(ValueError, match="holds no images in class folders"):
        load_image_folder(tmp_path)


def test_a_broken_image_is_named(tmp_path):
    save(tmp_path, "cat/1.png")
    path = tmp_path / "cat" / "1.png"
    path.write_bytes(path.read_bytes()[:40])
    with pytest.raises(ValueError, match=r"image '.*1\.png' cannot be read"):
        load_image_folder(tmp_path)


def test_npz_files(tmp_path):
    np.savez(tmp_path / "data.npz", X=np.eye(3), y=["a", "b", "c"])
    X, y = load_npz(tmp_path / "data.npz")
    np.testing.assert_array_equal(X, np.eye(3))
    assert y.tolist() == ["a", "b", "c"]


def test_npz_files_are_not_unpickled(tmp_path):
    np.savez(tmp_path / "data.npz", X=np.array([{}], dtype=object), y=[0])
    with pytest.raises(ValueError, match="cannot be read as an .npz file"):
        load_npz(tmp_path / "data.npz")


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
