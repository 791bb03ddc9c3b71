import numpy as np
import pytest
from PIL import Image
from sklearn.datasets import load_digits

from skdistill.datasets import load_digits_split, load_image_folder, load_npz


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
