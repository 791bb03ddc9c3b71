"""Files that are written whole or not at all, and where what is not whole yet is kept."""

import os
import re
from contextlib import contextmanager, suppress
from pathlib import Path

__all__ = ["atomic_file", "checkpoint_folder", "error_naming", "is_partial", "write_atomically"]

PARTIAL_NAME = re.compile(r"\..+\.\d+\.partial", re.DOTALL)


@contextmanager
def atomic_file(path):
    """Open a file under a temporary name, and rename it once it is written.

    Parameters
    ----------
    path : Path
        The file; its folder is made where it is missing.

    Yields
    ------
    file : binary file
        To write into.

    Raises
    ------
    OSError
        If it cannot be written; it names the file, which then is as it was before.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with temporary.open("wb") as file:
            yield file
            file.flush()
            # Some disks tell only now that they are full, and names may reach them before content.
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError as error:
        raise error_naming(path, error) from error
    finally:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)


def write_atomically(path, data):
    """Write a file under a temporary name, then rename it.

    Parameters
    ----------
    path : Path
        The file; its folder is made where it is missing.

    data : bytes
        What to write.

    Raises
    ------
    OSError
        If it cannot be written; it names the file, which then is as it was before.
    """
    with atomic_file(path) as file:
        file.write(data)


def checkpoint_folder(out):
    """Return where :func:`skdistill.training.pretrain` keeps the checkpoints of an unfinished run.

    Parameters
    ----------
    out : str or path-like
        The folder that the run is to write.

    Returns
    -------
    folder : pathlib.Path
        A folder beside it, absolute.

    Examples
    --------
    >>> from skdistill.training import checkpoint_folder
    >>> checkpoint_folder("backbones/mine").name
    'mine.partial'
    """
    # Of a link, beside what it leads to, which may lie on a larger disk.
    out = Path(out).expanduser().resolve()
    return out.with_name(out.name + ".partial")


def is_partial(path):
    """Return whether a file is one that :func:`atomic_file` had no time to rename or to remove.

    Parameters
    ----------
    path : Path
        The file.

    Returns
    -------
    partial : bool
        By its name alone.

    Examples
    --------
    >>> from pathlib import Path
    >>> from skdistill.atomic import is_partial
    >>> is_partial(Path(".manifest.json.4711.partial")), is_partial(Path("manifest.json"))
    (True, False)
    """
    return PARTIAL_NAME.fullmatch(path.name) is not None


def error_naming(path, error):
    """Return an error of the disk as one that names the file.

    Parameters
    ----------
    path : Path
        The file.

    error : OSError
        What was raised.

    Returns
    -------
    error : OSError
        With the same number and reason.
    """
    return OSError(error.errno, error.strerror or str(error), str(path))
