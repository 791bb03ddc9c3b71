"""Run directories: a distilled set on disk, written batch by batch.

::

    RUN_DIR/images/CLASS/NNNN.png     only class folders lie under images/
    RUN_DIR/images/metadata.jsonl     a line a sample: where it comes from, and its sha256
    RUN_DIR/manifest.json             settings, seed, versions, backbone, data fingerprint
    RUN_DIR/distilled.npz             X, y as sample() returned them
    RUN_DIR/grid.png                  a row a class
    RUN_DIR/scores.json               accuracies, where the command line measured them
    RUN_DIR/batches/                  finished batches, until the set is complete

Tables have neither images nor a grid. Every file is written under a temporary name and renamed.
"""

import hashlib
import io
import json
import os
import shutil
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

__all__ = ["RunDirectory", "draw_grid", "load_distilled", "write_atomically"]

FORBIDDEN = set('/\\<>:"|?*%\x7f')
LONGEST_NAME = 200
GRID_COLUMNS = 20
GRID_CELL = 48


def write_atomically(path, data):
    """Write a file under a temporary name, then rename it.

    Parameters
    ----------
    path : Path
        The file; its folder is made where it is missing.

    data : bytes
        What to write.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        temporary.write_bytes(data)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def load_distilled(run_dir):
    """Read a distilled set back.

    Parameters
    ----------
    run_dir : str or path-like
        A run directory, complete.

    Returns
    -------
    X : ndarray of shape (n_samples, ...)
        The synthetic samples.

    y : ndarray of shape (n_samples,)
        Their labels.

    Raises
    ------
    ValueError
        If the folder holds no complete run.

    Examples
    --------
    >>> import tempfile
    >>> from sklearn.datasets import load_iris
    >>> from skdistill import ManifoldGDDistiller, load_distilled
    >>> distiller = ManifoldGDDistiller(ipc=2, random_state=0).fit(*load_iris(return_X_y=True))
    >>> with tempfile.TemporaryDirectory() as run_dir:
    ...     X_syn, y_syn = distiller.sample(out_dir=run_dir)
    ...     X, y = load_distilled(run_dir)
    >>> (X == X_syn).all() and (y == y_syn).all()
    np.True_
    """
    path = Path(run_dir) / "distilled.npz"
    if not path.is_file():
        state = "is not complete" if (Path(run_dir) / "manifest.json").is_file() else "is no run"
        raise ValueError(f"run_dir={str(run_dir)!r} {state}: there is no distilled.npz in it.")
    with np.load(path, allow_pickle=False) as arrays:
        return arrays["X"], arrays["y"]


def class_folder(label):
    """Return the name of a class's folder, whatever its label holds.

    Parameters
    ----------
    label : object
        A label.

    Returns
    -------
    name : str
        The label, with what no file system takes percent-encoded and what is very long cut; never
        empty, hidden, "." or "..".

    Examples
    --------
    >>> from skdistill.io import class_folder
    >>> class_folder("tabby cat"), class_folder("../x")
    ('tabby cat', '%..%2Fx')
    """
    text = str(label)
    name = "".join(f"%{ord(c):02X}" if c in FORBIDDEN or ord(c) < 32 else c for c in text)
    if not name or name.startswith(".") or name == "metadata.jsonl":
        name = f"%{name}"
    if len(name.encode()) > LONGEST_NAME:
        digest = hashlib.sha256(text.encode()).hexdigest()[:16]
        name = name.encode()[: LONGEST_NAME - 17].decode(errors="ignore") + "%" + digest
    return name


def draw_grid(pixels, labels, classes, path):
    """Draw the samples of each class in a row, small ones enlarged.

    Parameters
    ----------
    pixels : ndarray of shape (n_samples, height, width) or (n_samples, height, width, channels)
        Images of dtype uint8.

    labels : ndarray of shape (n_samples,)
        Class of each image, as a place in `classes`.

    classes : sequence
        Labels, a row each.

    path : Path
        The PNG file to write. At most the first 20 images of a class are drawn.
    """
    height, width = pixels.shape[1:3]
    scale = max(1, GRID_CELL // max(height, width))
    cell = (width * scale, height * scale)
    font = ImageFont.load_default(size=max(12, cell[1] // 3))
    names = [str(label) for label in classes]
    margin = 16 + max(int(font.getlength(name)) for name in names)
    gap = 4
    columns = min(GRID_COLUMNS, int(np.bincount(labels).max()))
    size = (margin + columns * (cell[0] + gap), gap + len(names) * (cell[1] + gap))
    sheet = Image.new("RGB", size, "white")
    draw = ImageDraw.Draw(sheet)
    for k, name in enumerate(names):
        top = gap + k * (cell[1] + gap)
        draw.text((8, top + cell[1] / 2), name, fill="black", font=font, anchor="lm")
        for column, image in enumerate(pixels[labels == k][:columns]):
            picture = _picture(image).resize(cell, Image.Resampling.BICUBIC)
            sheet.paste(picture.convert("RGB"), (margin + column * (cell[0] + gap), top))
    write_atomically(path, _png(sheet))


def _read_settings(manifest):
    """Return the settings that a manifest names, None if it is none of ours."""
    try:
        return dict(json.loads(manifest.read_text(encoding="utf-8"))["settings"])
    except (OSError, ValueError, KeyError, TypeError):
        return None


class RunDirectory:
    """A run directory that a distiller writes into.

    Parameters
    ----------
    path : str or path-like
        The folder. One that is not there is made; an empty one and one that holds a run with the
        same settings are gone on with.

    data_format : DataFormat
        The caller's own terms.

    classes : ndarray of shape (n_classes,)
        Labels.

    settings : dict
        What decides the set, as JSON can hold it.

    facts : dict
        What else the manifest says.

    records : list of dict
        A line of metadata for each sample, in their order.

    Raises
    ------
    ValueError
        If the folder holds a run with other settings, or something else.
    """

    def __init__(self, path, data_format, classes, settings, facts, records):
        self.path = Path(path)
        shape = data_format.image_shape
        if shape is not None and len(shape) == 3 and shape[2] not in (1, 3, 4):
            raise ValueError(
                f"Images with {shape[2]} channels cannot be written as PNG; out_dir takes 1, 3 or "
                "4. sample() without out_dir returns them."
            )
        self.data_format = data_format
        self.classes = classes
        self.records = records
        manifest = self.path / "manifest.json"
        # Through JSON and back, so that tuples compare equal to what was read.
        settings = json.loads(json.dumps(settings))
        old = _read_settings(manifest)
        if old is not None:
            self._check_same(old, settings)
        elif self.path.is_file() or (self.path.is_dir() and any(self.path.iterdir())):
            raise ValueError(
                f"out_dir={str(path)!r} is not empty and holds no run; give a new folder."
            )
        else:
            content = {"settings": settings, **facts}
            write_atomically(manifest, (json.dumps(content, indent=2) + "\n").encode())

    def _check_same(self, old, new):
        for name in sorted(old.keys() | new.keys()):
            if old.get(name) != new.get(name):
                raise ValueError(
                    f"out_dir={str(self.path)!r} holds a run with {name}={old.get(name)!r}, this "
                    f"one has {name}={new.get(name)!r}; give another folder."
                )

    def is_complete(self):
        """Return whether the whole set is there.

        Returns
        -------
        complete : bool
            Then :func:`load_distilled` reads it.
        """
        return (self.path / "distilled.npz").is_file()

    def read(self):
        """Return the samples that are there.

        Returns
        -------
        samples : dict of int to ndarray
            By their places in the set.
        """
        samples = {}
        for path in sorted((self.path / "batches").glob("[!.]*.npz")):
            with np.load(path, allow_pickle=False) as arrays:
                samples.update(zip(arrays["places"].tolist(), arrays["X"], strict=True))
        return samples

    def write(self, places, X):
        """Write finished samples and their images.

        Parameters
        ----------
        places : ndarray of shape (n_samples,)
            Their places in the set.

        X : ndarray of shape (n_samples, ...)
            The samples.
        """
        if self.data_format.image_shape is not None:
            pixels = self.data_format.to_uint8(X)
            for place, image in zip(places, pixels, strict=True):
                path = self.path / "images" / self.records[place]["file_name"]
                write_atomically(path, _png(_picture(image)))
        # Last, so that a batch that is there has its images.
        path = self.path / "batches" / f"{places[0]:08d}.npz"
        write_atomically(path, _npz(places=places, X=X))

    def finish(self, X, y, labels):
        """Write what belongs to the whole set.

        Parameters
        ----------
        X : ndarray of shape (n_samples, ...)
            All samples.

        y : ndarray of shape (n_samples,)
            Their labels.

        labels : ndarray of shape (n_samples,)
            Their classes, as places in the sorted labels.
        """
        images = self.path / "images"
        if self.data_format.image_shape is not None:
            lines = []
            for record in self.records:
                data = (images / record["file_name"]).read_bytes()
                lines.append(json.dumps({**record, "sha256": hashlib.sha256(data).hexdigest()}))
            write_atomically(images / "metadata.jsonl", ("\n".join(lines) + "\n").encode())
            pixels = self.data_format.to_uint8(X)
            draw_grid(pixels, labels, self.classes, self.path / "grid.png")
        if y.dtype == object:
            y = y.astype(str)
        write_atomically(self.path / "distilled.npz", _npz(X=X, y=y))
        shutil.rmtree(self.path / "batches", ignore_errors=True)


def _picture(image):
    """Return bytes of shape (height, width) or (height, width, channels) as a picture."""
    return Image.fromarray(image[..., 0] if image.ndim == 3 and image.shape[2] == 1 else image)


def _png(picture):
    buffer = io.BytesIO()
    picture.save(buffer, "PNG")
    return buffer.getvalue()


def _npz(**arrays):
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **arrays)
    return buffer.getvalue()
