import io
import os
import tempfile
import unicodedata
import warnings
from pathlib import Path
from unittest import mock

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal
from PIL import Image
from unprivileged import unprivileged_folder

from skdistill.folders import find_images, read_image, survey_image

FORMATS = {
    "png": "PNG",
    "jpg": "JPEG",
    "bmp": "BMP",
    "gif": "GIF",
    "tif": "TIFF",
    "webp": "WEBP",
}


def encode(format, mode="RGB", size=(20, 24), **options):
    noise = np.random.default_rng(0).integers(0, 256, (size[1], size[0], 3)).astype(np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(noise).convert(mode).save(buffer, format, **options)
    return buffer.getvalue()


def touch(folder, *names):
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()


def found(folder):
    return {
        label: [path.relative_to(folder / label).as_posix() for path in paths]
        for label, paths in find_images(folder).items()
    }


def test_images_are_found_by_class_in_the_order_of_their_names(tmp_path):
    touch(tmp_path, "dog/b.png", "dog/a/z.jpeg", "dog/a.png", "cat/2.webp", "cat/10.gif", "3.png")
    assert found(tmp_path) == {
        "cat": ["10.gif", "2.webp"],
        "dog": ["a/z.jpeg", "a.png", "b.png"],
    }


def test_hidden_files_and_those_of_other_kinds_are_passed_over(tmp_path):
    touch(tmp_path, "cat/1.png", "cat/.DS_Store", "cat/Thumbs.db", "cat/._1.png", "cat/.png")
    touch(tmp_path, "cat/.thumbnails/1.png", ".git/1.png", ".DS_Store", "cat/notes.txt", "cat/png")
    assert found(tmp_path) == {"cat": ["1.png"]}


@pytest.mark.parametrize("name", ["1.PNG", "1.Jpg", "1.JPEG", "1.TIF", "1.WebP"])
def test_endings_may_be_in_capitals(tmp_path, name):
    touch(tmp_path, f"cat/{name}")
    assert found(tmp_path) == {"cat": [name]}


@pytest.mark.parametrize(
    "label", ["new\nline", "a\u2215b", "a\\b", "<b onclick='x'>&amp;", '"', "猫 😀", "é" * 127]
)
def test_class_folders_may_have_any_name(tmp_path, label):
    touch(tmp_path, f"{label}/{'x' * 251}.png")
    (read,) = find_images(tmp_path)
    # Some file systems decompose letters.
    assert unicodedata.normalize("NFC", read) == label


def test_links_to_folders_and_files_are_followed(tmp_path):
    touch(tmp_path, "elsewhere/1.png", "elsewhere/deep/2.png", "data/dog/3.png")
    (tmp_path / "data" / "cat").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "data" / "dog" / "more").symlink_to(tmp_path / "elsewhere" / "deep")
    (tmp_path / "data" / "dog" / "4.png").symlink_to(tmp_path / "elsewhere" / "1.png")
    assert found(tmp_path / "data") == {
        "cat": ["1.png", "deep/2.png"],
        "dog": ["3.png", "4.png", "more/2.png"],
    }


@pytest.mark.parametrize(("link", "target"), [("up", "."), ("cat/up", ".."), ("cat/up", ".")])
def test_links_to_a_folder_that_they_lie_in_are_refused(tmp_path, link, target):
    touch(tmp_path, "cat/1.png")
    (tmp_path / link).symlink_to(target)
    with pytest.raises(ValueError, match=f"{link}' is a link to a folder that it lies in"):
        find_images(tmp_path)


@pytest.mark.parametrize(("link", "target"), [("dog", "gone"), ("cat/old", "../gone"), ("a", "a")])
def test_links_that_lead_nowhere_are_refused(tmp_path, link, target):
    touch(tmp_path, "cat/1.png")
    (tmp_path / link).symlink_to(target)
    with pytest.raises(ValueError, match=f"{link}' is a link to '{target}', where nothing is"):
        find_images(tmp_path)


@pytest.mark.parametrize("target", ["gone.png", "1.png"])
def test_a_link_in_place_of_an_image_that_leads_nowhere_is_an_image_that_cannot_be_read(
    tmp_path, target
):
    touch(tmp_path, "cat/0.png")
    (tmp_path / "cat" / "1.png").symlink_to(target)
    assert found(tmp_path) == {"cat": ["0.png", "1.png"]}
    with pytest.raises(ValueError, match=r"image '.*1\.png' cannot be read"):
        read_image(tmp_path / "cat" / "1.png")


@pytest.mark.parametrize("closed", ["", "cat", "cat/deep"])
def test_folders_that_may_not_be_listed_are_named(closed):
    with unprivileged_folder() as folder:
        touch(folder, "data/cat/deep/1.png", "data/dog/1.png")
        (folder / "data" / closed).chmod(0)
        with pytest.raises(PermissionError, match=str(folder / "data" / closed)):
            find_images(folder / "data")


def test_images_that_may_not_be_read_are_named():
    with unprivileged_folder() as folder:
        path = folder / "1.png"
        path.write_bytes(encode("PNG"))
        path.chmod(0)
        with pytest.raises(ValueError, match=f"'{path}' cannot be read: .*Permission denied"):
            read_image(path)


@pytest.mark.parametrize("suffix", FORMATS)
def test_a_truncated_image_is_named(tmp_path, suffix):
    path = tmp_path / f"1.{suffix}"
    data = encode(FORMATS[suffix])
    path.write_bytes(data)
    assert read_image(path).size == (20, 24)
    for length in (0, 5, len(data) // 2):
        path.write_bytes(data[:length])
        with pytest.raises(ValueError, match=rf"image '.*1\.{suffix}' cannot be read: \w+"):
            read_image(path)


POSTSCRIPT = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\nshowpage\n%%EOF\n"


@pytest.mark.parametrize("content", [b"", b"hello", b"PK\x03\x04", POSTSCRIPT])
def test_what_is_no_image_is_named_and_not_run(tmp_path, content):
    path = tmp_path / "1.png"
    path.write_bytes(content)
    with pytest.raises(ValueError, match="1.png' cannot be read: cannot identify image file"):
        read_image(path)


@settings(deadline=None)
@given(
    format=st.sampled_from(sorted(FORMATS.values())),
    length=st.floats(0, 1),
    altered=st.lists(st.tuples(st.floats(0, 1, exclude_max=True), st.integers(0, 255))),
    header=st.booleans(),
)
def test_broken_bytes_are_read_or_refused_and_nothing_else(format, length, altered, header):
    exif = Image.Exif()
    exif[274] = 6
    data = bytearray(encode(format, exif=exif))
    reach = 64 if header else len(data)
    for place, byte in altered:
        data[int(place * reach)] = byte
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "1.png"
        path.write_bytes(data[: int(length * len(data))] if length < 0.5 else data)
        # So that a header that claims many pixels costs no memory.
        with mock.patch.object(Image, "MAX_IMAGE_PIXELS", 10_000), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            image, message = None, ""
            try:
                image = read_image(path)
            except ValueError as error:
                message = str(error)
    assert image.mode in ("L", "RGB") if image is not None else repr(str(path)) in message


def test_a_file_may_have_the_ending_of_another_kind(tmp_path):
    path = tmp_path / "1.png"
    path.write_bytes(encode("BMP", mode="L"))
    assert_array_equal(read_image(path), Image.open(io.BytesIO(encode("PNG", mode="L"))))


def test_a_folder_or_a_pipe_named_like_an_image_is_none(tmp_path):
    (tmp_path / "folder.png").mkdir()
    os.mkfifo(tmp_path / "pipe.png")
    for name in ("folder.png", "pipe.png"):
        with pytest.raises(ValueError, match=f"{name}' cannot be read: it is no file"):
            read_image(tmp_path / name)


@pytest.mark.parametrize("side", [11, 15])
def test_more_pixels_than_the_limit_are_an_error_even_where_pillow_warns(
    tmp_path, monkeypatch, side
):
    path = tmp_path / "1.png"
    path.write_bytes(encode("PNG", size=(side, side)))
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    with pytest.raises(ValueError, match=r"1\.png' is refused: .*exceeds limit of .* raise PIL"):
        read_image(path)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", side**2)
    assert read_image(path).size == (side, side)


TRANSPARENT_PALETTE = Image.new("P", (2, 1))
TRANSPARENT_PALETTE.putpalette([200, 100, 50, 1, 2, 3])
TRANSPARENT_PALETTE.putdata([0, 1])
TRANSPARENT_PALETTE.info["transparency"] = b"\x00\x80"
DEEP = np.array([[0, 256], [32768, 65535]], dtype=np.uint16)


@pytest.mark.parametrize(
    ("image", "suffix", "expected"),
    [
        (Image.new("1", (1, 1), 1), "png", 255),
        (Image.new("L", (1, 1), 7), "png", 7),
        (Image.new("LA", (1, 1), (7, 0)), "png", 7),
        (TRANSPARENT_PALETTE, "png", [[[200, 100, 50], [1, 2, 3]]]),
        (Image.new("RGBA", (1, 1), (1, 2, 3, 0)), "png", [1, 2, 3]),
        (Image.new("CMYK", (1, 1), (255, 0, 0, 0)), "tif", [0, 255, 255]),
        (Image.fromarray(DEEP), "png", DEEP >> 8),
        (Image.fromarray(DEEP.astype(">u2")), "tif", DEEP >> 8),
    ],
    ids=["1", "L", "LA", "P", "RGBA", "CMYK", "I;16", "I;16B"],
)
def test_any_mode_becomes_grey_or_colour(tmp_path, recwarn, image, suffix, expected):
    path = tmp_path / f"1.{suffix}"
    image.save(path)
    with Image.open(path) as saved:
        assert saved.mode == image.mode
    read = np.asarray(read_image(path))
    assert read.dtype == np.uint8
    assert_array_equal(read, np.broadcast_to(expected, read.shape))
    assert (read.ndim == 2) == (image.mode in ("1", "L", "LA", "I;16", "I;16B"))
    assert not recwarn


@pytest.mark.parametrize("mode", ["I", "F"])
def test_modes_without_black_and_white_are_refused(tmp_path, mode):
    path = tmp_path / "1.tif"
    Image.new(mode, (2, 2), 1).save(path)
    with pytest.raises(ValueError, match=f"1.tif' cannot be read: .*mode '{mode}'.* 8 or 16 bits"):
        read_image(path)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_images_stand_as_the_camera_was_held(tmp_path, orientation):
    stored = np.arange(6, dtype=np.uint8).reshape(2, 3)
    exif = Image.Exif()
    exif[274] = orientation
    Image.fromarray(stored).save(tmp_path / "1.png", exif=exif)
    # What the standard says of the place of the first row and the first column.
    seen = {
        1: stored,
        2: stored[:, ::-1],
        3: stored[::-1, ::-1],
        4: stored[::-1],
        5: stored.T,
        6: stored[::-1].T,
        7: stored[::-1, ::-1].T,
        8: stored[:, ::-1].T,
    }[orientation]
    assert_array_equal(read_image(tmp_path / "1.png"), seen)


XMP = b"""<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF
xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#"><rdf:Description tiff:Orientation="6"
xmlns:tiff="http://ns.adobe.com/tiff/1.0/"/></rdf:RDF></x:xmpmeta>"""


@pytest.mark.parametrize("suffix", ["jpg", "webp"])
def test_an_orientation_noted_elsewhere_is_known_before_decoding(tmp_path, suffix):
    path = tmp_path / f"1.{suffix}"
    Image.fromarray(np.zeros((8, 12), dtype=np.uint8)).save(path, xmp=XMP)
    assert read_image(path).size == (8, 12)
    assert survey_image(path)[0] == (12, 8)


@pytest.mark.parametrize("suffix", ["gif", "png", "tif", "webp"])
def test_of_several_frames_it_is_the_first(tmp_path, suffix):
    path = tmp_path / f"1.{suffix}"
    frames = [Image.new("L", (4, 4), value) for value in (10, 90, 200)]
    options = {"lossless": True} if suffix == "webp" else {}
    frames[0].save(path, save_all=True, append_images=frames[1:], **options)
    with Image.open(path) as saved:
        assert saved.n_frames == 3
    assert np.unique(read_image(path)).tolist() == [10]


def test_the_middle_square_is_cut_out_and_resized(tmp_path):
    pixels = np.zeros((4, 12), dtype=np.uint8)
    pixels[:, 4:8] = 200
    Image.fromarray(pixels).save(tmp_path / "1.png")
    # The resampling filter reaches a little beyond the square.
    assert_allclose(read_image(tmp_path / "1.png", 2), np.full((2, 2), 200), atol=10)
