"""A folder in which permissions bind, also where tests run as root."""

import contextlib

# zipfile looks it up when it is first needed, where others may not read Python's own files.
import encodings.cp437  # noqa: F401
import os
import tempfile
from pathlib import Path

NOBODY = 65534


@contextlib.contextmanager
def unprivileged_folder():
    """Make a folder; within the context, the process is one that modes of files bind."""
    root = hasattr(os, "geteuid") and os.geteuid() == 0
    # Not tmp_path, whose parents are closed to others.
    with tempfile.TemporaryDirectory() as folder:
        if root:
            os.chown(folder, NOBODY, -1)
            os.seteuid(NOBODY)
        try:
            yield Path(folder)
        finally:
            if root:
                os.seteuid(0)
            for path in Path(folder).rglob("*"):
                path.chmod(0o700)
