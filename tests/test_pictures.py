import numpy as np
import pytest
from PIL import Image

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
