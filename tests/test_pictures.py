import numpy as np
import pytest
from PIL import Image, ImageDraw

from skdistill.pictures import draw_grid


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


@pytest.mark.parametrize("label", ["x" * 5000, "a\nb", "\udcff", ""])
def test_the_grid_has_one_short_line_a_class_whatever_its_label(label, tmp_path):
    pixels = np.zeros((2, 8, 8), np.uint8)
    for name, classes in (("plain", ["w" * 30, "b"]), ("odd", [label, "b"])):
        draw_grid(pixels, np.array([0, 1]), classes, tmp_path / name)
    plain, odd = (Image.open(tmp_path / name).size for name in ("plain", "odd"))
    assert odd[1] == plain[1]
    assert odd[0] <= plain[0]


@pytest.mark.parametrize("alone", [True, False])
@pytest.mark.parametrize("label", ["cheese 2", "Käse", "кошка", "犬"])
def test_labels_are_drawn_in_letters_or_as_numbers(label, alone, tmp_path, monkeypatch):
    if alone:
        monkeypatch.setattr("skdistill.pictures.SYSTEM_FONTS", ())
    drawn = []
    text = ImageDraw.ImageDraw.text

    def text_and_record(self, place, string, **settings):
        drawn.append((string, settings["font"]))
        text(self, place, string, **settings)

    monkeypatch.setattr(ImageDraw.ImageDraw, "text", text_and_record)
    pixels = np.zeros((2, 8, 8), dtype=np.uint8)
    draw_grid(pixels, np.arange(2), [label, "b"], tmp_path / "grid.png")
    strings = [string for string, _ in drawn]
    numbers = ["class 1", "class 2"]
    if label == "cheese 2":
        assert strings == [label, "b"]
    elif alone:
        assert strings == numbers
    else:
        # Which of them depends on the fonts of this machine.
        assert strings in ([label, "b"], numbers)
    for string, font in drawn:
        box = bytes(font.getmask("\uffff"))
        assert all(
            bytes(font.getmask(character)) != box for character in string if character != " "
        )
