import re
import tempfile
import unicodedata
from pathlib import Path, PurePosixPath, PureWindowsPath

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from skdistill.datasets import load_image_folder
from skdistill.names import class_folder, class_folders

# Of what names are encoded with, so that one is often the encoding of another.
TRICKY = st.text("%25aAeEé\u0301.:/\\ \n\0\ud800~$Cc", max_size=8)
DEVICES = st.sampled_from(["CON", "con", "nul.txt", "AUX .x", "Com1", "lpt¹", "conin$", "CONE"])
LONG = st.builds(lambda text, n: text * n, st.text(min_size=1, max_size=3), st.integers(60, 300))
LABELS = TRICKY | DEVICES | LONG | st.text(st.characters(codec=None), max_size=30)
DEVICE = r"(?i)(con|prn|aux|nul|conin\$|conout\$|(com|lpt)[0-9¹²³])\s*(\.|$)"


@pytest.mark.parametrize(
    "label",
    [
        *("../x", "..", ".", "a/b", "a\\b", "new\nline", "<b>", "", "c:", "metadata.jsonl"),
        *("é" * 300, "/etc/passwd", "a\0b", " ", "a.", "Metadata.JSONL", "CON", "\udcff", "~"),
    ],
)
def test_class_folders_stay_within(label, tmp_path):
    name = class_folder(label)
    (tmp_path / name).mkdir()
    assert (tmp_path / name).resolve().parent == tmp_path.resolve()
    assert name.lower() not in ("metadata.jsonl", "")
    assert not set(name) & set('/\\\n<>:"|?*')


@given(label=LABELS)
def test_a_class_folder_is_one_plain_component_of_a_path_on_each_system(label):
    name = class_folder(label)
    assert 0 < len(name.encode()) <= 200
    assert not re.search(r'[\x00-\x1f/\\<>:"|?*\x7f]', name)
    assert not name.startswith(".")
    assert not name.endswith((".", " "))
    assert PurePosixPath(name).parts == PureWindowsPath(name).parts == (name,)
    assert not re.match(DEVICE, name)


@given(labels=st.lists(LABELS, unique=True, min_size=2))
def test_class_folders_differ_where_labels_do(labels):
    assert len({class_folder(label) for label in labels}) == len(labels)


@given(labels=st.lists(LABELS | st.text("aAbBéÉßẞsS", max_size=3), unique=True))
def test_class_folders_of_a_set_differ_where_case_and_normalization_are_ignored(labels):
    names = class_folders(labels)
    for form in ("NFC", "NFD"):
        for fold in (str.lower, str.upper, str.casefold):
            seen = {unicodedata.normalize(form, fold(name)) for name in names}
            assert len(seen) == len(labels)


@given(labels=st.lists(LABELS, unique=True))
def test_class_folders_of_a_set_are_safe_and_do_not_depend_on_the_order(labels):
    names = dict(zip(labels, class_folders(labels), strict=True))
    assert names == dict(zip(labels[::-1], class_folders(labels[::-1]), strict=True))
    for label, name in names.items():
        assert name == class_folder(label) or re.search("%%[0-9a-f]{16}$", name)
        assert len(name.encode()) <= 200
        assert PurePosixPath(name).parts == (name,)


def test_class_folders_are_the_labels_where_they_can_be():
    labels = ["tabby cat", "café", "猫", "a.b", "Ünïcode (1)", 7, True, -1.5, "CONE", "&amp;"]
    for label in labels:
        assert class_folder(label) == str(label)
    assert class_folders(labels) == list(map(str, labels))


def test_only_names_that_are_alike_are_marked():
    names = class_folders(["Cat", "cat", "dog", "caf\u00e9", "cafe\u0301"])
    marked = [re.sub("%%[0-9a-f]{16}$", "%%", name) for name in names]
    assert marked == ["Cat%%", "cat%%", "dog", "caf\u00e9%%", "cafe\u0301%%"]


@settings(deadline=None, max_examples=30)
@given(labels=st.lists(LABELS, unique=True, min_size=1, max_size=8))
def test_each_class_is_found_again_under_the_name_of_its_folder(labels):
    names = class_folders(labels)
    with tempfile.TemporaryDirectory() as folder:
        for name in names:
            (Path(folder) / name).mkdir()
            Image.new("L", (1, 1)).save(Path(folder) / name / "0000.png")
        X, y = load_image_folder(folder)
    assert X.shape == (len(labels), 1, 1)
    assert {unicodedata.normalize("NFC", name) for name in y} == {
        unicodedata.normalize("NFC", name) for name in names
    }
