"""What the examples in the pages find where they run: an empty folder with ``my_images`` in it."""

import pytest
from PIL import Image
from sklearn.datasets import load_digits

from skdistill.refining import MatchingRefiner

# No pages, and not to be imported.
collect_ignore = ["_build", "_extensions", "api", "auto_examples", "conf.py", "figures"]
NAMES = ("zero", "one", "nine")


@pytest.fixture(autouse=True)
def work_folder(tmp_path, monkeypatch):
    """Make a folder with a few digits by their names, and work in it; refine in few steps."""
    monkeypatch.chdir(tmp_path)
    # In all of its steps, refining a hundred digits takes a minute.
    monkeypatch.setattr(MatchingRefiner.__init__, "__defaults__", (20,))
    digits = load_digits()
    for name, label in zip(NAMES, (0, 1, 9), strict=True):
        folder = tmp_path / "my_images" / name
        folder.mkdir(parents=True)
        for i, image in enumerate(digits.images[digits.target == label][:40]):
            Image.fromarray((image * 15.9).astype("uint8")).save(folder / f"{i}.png")
