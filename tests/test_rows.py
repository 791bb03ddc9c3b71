"""Data that stays on disk: memory maps and image files give the set that arrays in memory give."""

import copy
import gc
import multiprocessing
import pickle
import shutil
import warnings

import numpy as np
import pytest
from conftest import write_dit_folder
from PIL import ExifTags, Image
from sklearn.datasets import load_iris

from skdistill import ManifoldGDDistiller
from skdistill.backbones import ClosedFormBackbone, DiTBackbone
from skdistill.datasets import list_image_folder, load_image_folder
from skdistill.folders import read_image, survey_image
from skdistill.latents import LatentsOnDisk
from skdistill.refining import MatchingRefiner
from skdistill.rows import ImageFiles, MappedRows, check_finite, hash_rows

pytestmark = pytest.mark.filterwarnings("ignore:The VAE of backbone", "ignore:Images through")


def distil(X, y, **params):
    params = {"ipc": 2, "random_state": 0, "num_inference_steps": 3, **params}
    if params.get("backbone", "closed-form") != "closed-form":
        params = {"refiner": MatchingRefiner(5, width=16), **params}
    return ManifoldGDDistiller(**params).fit(X, y)


def mapped(path, X, **options):
    np.save(path, X)
    return np.load(path, mmap_mode="r", **options)


@pytest.fixture
def paths_and_labels(image_folder):
    return list_image_folder(image_folder)


@pytest.fixture
def named_backbone(tmp_path):
    return write_dit_folder(tmp_path / "named", names=["class 0", "class 1", "class 2"])


@pytest.mark.parametrize("dtype", [np.float64, np.float32, np.int16])
def test_a_mapped_table_gives_the_set_of_a_table(tmp_path, dtype):
    X, y = load_iris(return_X_y=True)
    X = (10 * X).astype(dtype)
    expected, labels = distil(X, y).sample()
    distiller = distil(mapped(tmp_path / "X.npy", X), y)
    assert isinstance(distiller._latents, LatentsOnDisk)
    made, made_labels = distiller.sample()
    assert made.dtype == dtype
    np.testing.assert_allclose(made, expected, rtol=1e-6)
    np.testing.assert_array_equal(made_labels, labels)


@pytest.mark.parametrize("dtype", [np.uint8, np.float16])
def test_mapped_images_give_the_set_of_images(tmp_path, dit_folder, small_images, dtype):
    X, y = small_images
    X = X if dtype == np.uint8 else (X / 255).astype(dtype)
    settings = {"backbone": dit_folder, "refiner": MatchingRefiner(20)}
    expected = distil(X, y, **settings).sample()[0]
    made = distil(mapped(tmp_path / "X.npy", X), y, **settings).sample()[0]
    assert made.dtype == dtype
    np.testing.assert_allclose(made.astype(float), expected, atol=1 if dtype == np.uint8 else 1e-3)


def test_image_files_give_the_set_of_images(tmp_path, image_folder, named_backbone):
    X, y = load_image_folder(image_folder)
    paths, labels = list_image_folder(image_folder)
    np.testing.assert_array_equal(labels, y)
    expected, expected_labels = distil(X, y, backbone=named_backbone).sample()
    for given in (paths, list(paths), paths.astype(str)):
        distiller = distil(given, labels, backbone=named_backbone)
        made, made_labels = distiller.sample()
        assert made.dtype == np.uint8
        assert made.shape == (6, 8, 8)
        np.testing.assert_allclose(made.astype(int), expected, atol=1)
        np.testing.assert_array_equal(made_labels, expected_labels)
    assert distiller.n_features_in_ == 64
    np.testing.assert_allclose(
        distiller.transform(paths[:3]).astype(int), distiller.transform(X[:3]), atol=1
    )
    assert distiller.score(paths, labels) == distiller.score(X, y)


def test_float16_latents_take_half_the_disk_and_give_nearly_the_same_set(
    paths_and_labels, named_backbone
):
    whole, half = (
        distil(*paths_and_labels, backbone=named_backbone, latents_dtype=dtype)
        for dtype in (None, "float16")
    )
    assert [whole._latents[0].dtype, half._latents[0].dtype] == [np.float32, np.float16]
    assert half.cluster_centers_.dtype == np.float32
    assert half.clusterers_[0].cluster_centers_.dtype == np.float32
    np.testing.assert_allclose(half.sample()[0].astype(int), whole.sample()[0], atol=3)


def test_no_more_than_a_class_of_a_map_is_read_at_once(tmp_path, monkeypatch):
    rng = np.random.default_rng(0)
    X, y = rng.normal(size=(400, 5)), np.arange(400) % 4
    X_mapped = mapped(tmp_path / "X.npy", X)
    monkeypatch.setattr("skdistill.rows.BYTES_AT_ONCE", 50 * X[0].nbytes)
    monkeypatch.setattr("skdistill.backbones.closed_form.NUMBERS_AT_ONCE", 250)
    read = []
    get = MappedRows.__getitem__

    def recording_get(self, index):
        rows = get(self, index)
        read.append(len(rows))
        return rows

    monkeypatch.setattr(MappedRows, "__getitem__", recording_get)
    made = distil(X_mapped, y).sample()[0]
    assert max(read) == 100
    np.testing.assert_allclose(made, distil(X, y).sample()[0], rtol=1e-6)


@pytest.mark.parametrize("index", [slice(3, 9), np.s_[::1], np.s_[5:]])
def test_parts_of_a_map_are_found_in_its_file(tmp_path, index):
    X = np.arange(80, dtype=np.int32).reshape(20, 2, 2)
    rows = MappedRows.of(mapped(tmp_path / "X.npy", X)[index])
    expected = X[index].reshape(-1, 4)
    assert isinstance(rows, MappedRows)
    assert rows.shape == expected.shape
    np.testing.assert_array_equal(rows[:], expected)
    places = np.array([2, 0])
    np.testing.assert_array_equal(rows.part(places)[:], expected[places])
    np.testing.assert_array_equal(rows.part(places).part(np.array([1]))[:], expected[:1])
    np.testing.assert_array_equal(rows.min(axis=0), expected.min(axis=0))
    assert rows.max() == expected.max()
    assert hash_rows(rows) == hash_rows(expected)


@pytest.mark.parametrize("kind", ["copy-on-write", "every second row"])
def test_maps_that_a_file_does_not_hold_as_they_are_are_taken_as_arrays(tmp_path, kind):
    X = np.arange(20.0).reshape(10, 2)
    np.save(tmp_path / "X.npy", X)
    X_mapped = np.load(tmp_path / "X.npy", mmap_mode="c")
    if kind == "copy-on-write":
        X_mapped[0] = expected = 7.0
        assert MappedRows.of(X_mapped)[0, 0] == expected
    else:
        np.testing.assert_array_equal(MappedRows.of(X_mapped[::2]), X[::2])


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_map_with_what_is_no_number_is_refused(tmp_path, value, monkeypatch):
    monkeypatch.setattr("skdistill.rows.BYTES_AT_ONCE", 64)
    X, y = load_iris(return_X_y=True)
    X[77, 2] = value
    with pytest.raises(ValueError, match="Input X contains"):
        distil(mapped(tmp_path / "X.npy", X.astype(np.float16)), y)


def test_large_halves_are_finite_though_their_sum_is_not():
    check_finite(np.full((100, 10), 60000, dtype=np.float16), ClosedFormBackbone())


class TestImageFiles:
    def test_sizes_that_differ_are_refused_and_named(self, tmp_path):
        paths = [tmp_path / "a.png", tmp_path / "b.png"]
        for path, size in zip(paths, [(8, 6), (5, 6)], strict=True):
            Image.new("L", size).save(path)
        with pytest.raises(ValueError, match=r"b\.png' has 6 x 5 pixels, not 6 x 8 .* resize="):
            distil(paths, [0, 1])

    @pytest.mark.parametrize("network", [True, False])
    def test_sizes_that_differ_come_to_those_of_the_backbone_or_the_first(
        self, tmp_path, dit_folder, network
    ):
        rng = np.random.default_rng(0)
        paths = [tmp_path / f"{i}.png" for i in range(8)]
        for i, path in enumerate(paths):
            size = (10 + i, 20, *([3] if i == 5 else []))
            Image.fromarray(rng.integers(256, size=size, dtype=np.uint8)).save(path)
        folder = write_dit_folder(tmp_path / "rgb", channels=3)
        backbone = folder if network else "closed-form"
        distiller = distil(paths, np.arange(8) % 2, backbone=backbone, resize="bilinear")
        X_syn, _ = distiller.sample()
        assert X_syn.shape == ((4, 8, 8, 3) if network else (4, 10, 20, 3))
        assert distiller.transform(paths[:1]).shape == (1, *X_syn.shape[1:])

    def test_files_are_not_decoded_to_find_out_what_is_in_them(self, image_folder, monkeypatch):
        paths, _ = list_image_folder(image_folder)
        monkeypatch.setattr(Image.Image, "load", None)
        monkeypatch.setattr("PIL.ImageFile.ImageFile.load", None)
        files = ImageFiles.survey(paths)
        assert files.shape == (40, 64)

    @pytest.mark.parametrize("orientation", [None, 1, 3, 6, 8])
    @pytest.mark.parametrize("mode", ["L", "RGB", "P", "LA", "I;16", "1", "CMYK"])
    @pytest.mark.parametrize("kind", ["png", "jpeg", "tiff", "webp", "gif"])
    def test_a_survey_says_what_reading_gives(self, tmp_path, kind, mode, orientation):
        exif = Image.Exif()
        if orientation is not None:
            exif[ExifTags.Base.Orientation] = orientation
        path = tmp_path / f"image.{kind}"
        try:
            # Pillow decodes turned TIFFs without compression in the wrong order.
            Image.new(mode, (5, 3)).save(path, kind, exif=exif, compression="tiff_lzw")
        except (OSError, ValueError, KeyError):
            pytest.skip(f"no {mode} in {kind}")
        size, grey, _ = survey_image(path)
        image = read_image(path)
        assert (size, grey) == ((image.height, image.width), image.mode == "L")

    def test_what_cannot_be_read_is_named_at_once(self, tmp_path):
        (tmp_path / "bad.png").write_bytes(b"no image")
        with pytest.raises(ValueError, match=r"bad\.png' cannot be read"):
            distil([tmp_path / "bad.png"], [0])
        with pytest.raises(ValueError, match=r"gone\.png' cannot be read"):
            distil([tmp_path / "gone.png"], [0])

    def test_damage_that_only_decoding_shows_is_named(self, tmp_path, image_folder, named_backbone):
        shutil.copytree(image_folder, tmp_path / "images")
        paths, y = list_image_folder(tmp_path / "images")
        with open(paths[7], "r+b") as file:
            file.truncate(80)
        with pytest.raises(ValueError, match="cannot be read"):
            distil(paths, y, backbone=named_backbone)

    def test_other_contents_of_the_same_files_are_other_data(self, tmp_path):
        path = tmp_path / "1.png"
        Image.new("L", (4, 4), 1).save(path)
        first = hash_rows(ImageFiles.survey([path]))
        assert first == hash_rows(ImageFiles.survey([path]))
        Image.new("L", (4, 4), 2).save(path)
        assert first != hash_rows(ImageFiles.survey([path]))

    def test_labels_must_be_as_many(self, paths_and_labels):
        paths, y = paths_and_labels
        with pytest.raises(ValueError, match="inconsistent numbers of samples"):
            distil(paths, y[1:])

    def test_files_for_what_was_no_bytes_are_refused(self, small_images, paths_and_labels):
        X, y = small_images
        for rows in (X / 255, X.reshape(len(X), -1)):
            with pytest.raises(ValueError, match="paths of images, which have values of dtype"):
                distil(rows, y).transform(paths_and_labels[0])

    def test_colour_files_for_what_was_grey_are_refused(self, tmp_path, small_images):
        Image.new("RGB", (8, 8)).save(tmp_path / "1.png")
        with pytest.raises(ValueError, match="is in colour, but the images that fit saw are grey"):
            distil(*small_images).transform([tmp_path / "1.png"])


class TestLatentsOnDisk:
    def folder_of(self, distiller):
        return distiller._latents.folder

    def test_a_temporary_folder_goes_with_the_last_copy(self, paths_and_labels):
        distiller = distil(*paths_and_labels)
        folder = self.folder_of(distiller)
        expected = distiller.sample()[0]
        copies = [copy.copy(distiller), copy.deepcopy(distiller)]
        del distiller
        gc.collect()
        for copied in copies:
            np.testing.assert_array_equal(copied.sample()[0], expected)
        del copied
        copies.clear()
        gc.collect()
        assert not folder.exists()

    def test_a_pickle_holds_what_a_temporary_folder_does(self, paths_and_labels):
        distiller = distil(*paths_and_labels)
        expected, folder = distiller.sample()[0], self.folder_of(distiller)
        pickled = pickle.dumps(distiller)
        del distiller
        gc.collect()
        restored = pickle.loads(pickled)
        assert self.folder_of(restored) != folder
        np.testing.assert_array_equal(restored.sample()[0], expected)

    def test_a_forked_process_leaves_the_folder_of_its_parent(self, paths_and_labels):
        if "fork" not in multiprocessing.get_all_start_methods():
            pytest.skip("no fork here")
        distiller = distil(*paths_and_labels)
        held = [distiller]
        process = multiprocessing.get_context("fork").Process(target=held.clear)
        process.start()
        process.join(60)
        assert process.exitcode == 0
        assert distiller._latents[0].shape[0] > 0

    def test_a_named_folder_is_gone_on_with(
        self, tmp_path, paths_and_labels, named_backbone, monkeypatch
    ):
        params = {"backbone": named_backbone, "memory": str(tmp_path / "memory"), "batch_size": 50}
        encode, sizes = DiTBackbone.encode, []

        def broken_encode(self, x, calls):
            sizes.append(len(x))
            if len(sizes) == 4:
                raise KeyboardInterrupt
            return encode(self, x, calls)

        monkeypatch.setattr(DiTBackbone, "encode", broken_encode)
        with pytest.raises(KeyboardInterrupt):
            distil(*paths_and_labels, **params)
        # All, for the warning, and two classes; then all, and the last class.
        assert sizes == [40, 14, 14, 12]
        distiller = distil(*paths_and_labels, **params)
        assert sizes[4:] == [40, 12]
        distil(*paths_and_labels, **params, strength=0.1)
        assert sizes[6:] == [40]
        expected = distiller.sample()[0]
        pickled = pickle.dumps(distiller)
        del distiller
        np.testing.assert_array_equal(pickle.loads(pickled).sample()[0], expected)
        shutil.rmtree(tmp_path / "memory")
        with pytest.raises(ValueError, match=r"latents that fit kept in .* fit again"):
            pickle.loads(pickled).sample()

    def test_a_full_disk_is_named(self, paths_and_labels, monkeypatch):
        def full(*args, **kwargs):
            raise OSError(28, "No space left on device")

        monkeypatch.setattr(np, "save", full)
        with pytest.raises(OSError, match=r"No space left on device: .*000000\.npy"):
            distil(*paths_and_labels)


def test_a_run_of_files_is_that_of_their_pixels_in_processes_too(
    tmp_path, paths_and_labels, named_backbone
):
    distiller = distil(*paths_and_labels, backbone=named_backbone, n_jobs=2, batch_size=4)
    distiller.sample(out_dir=tmp_path / "run")
    one = distil(*paths_and_labels, backbone=named_backbone, batch_size=4)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        one.sample(out_dir=tmp_path / "run")
    np.testing.assert_allclose(one.sample()[0].astype(int), distiller.sample()[0], atol=1)
