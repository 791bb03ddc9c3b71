import os

import pytest

from skdistill.atomic import write_atomically


def test_a_failed_write_leaves_nothing(tmp_path):
    target = tmp_path / "file"
    target.write_bytes(b"old")
    with pytest.raises(TypeError):
        write_atomically(target, "text where bytes belong")
    assert target.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["file"]
