"""Run directories: a distilled set on disk, written batch by batch.

::

    RUN_DIR/images/CLASS/NNNN.png     only class folders lie under images/
    RUN_DIR/images/metadata.jsonl     a line a sample: where it comes from, and its sha256
    RUN_DIR/manifest.json             settings, seed, versions, backbone, data fingerprint
    RUN_DIR/distilled.npz             X, y as sample() returned them
    RUN_DIR/grid.png                  a row a class
    RUN_DIR/batches/                  finished batches, until the set is complete

Tables have neither images nor a grid. Every file is written under a temporary name and renamed.
"""

import hashlib
import io
import json
import os
import shutil
from pathlib import Path
from urllib.parse import quote

import diffusers
import numpy as np
import sklearn
import torch
from PIL import Image, ImageDraw, ImageFont
from sklearn.metrics import pairwise_distances_argmin

import skdistill

__all__ = ["RunDirectory", "draw_grid", "load_distilled", "write_atomically"]

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
        The label with slashes, control characters and the like percent-encoded; never empty, "."
        or "..".

    Examples
    --------
    >>> from skdistill.io import class_folder
    >>> class_folder("tabby cat"), class_folder("../x")
    ('tabby cat', '..%2Fx')
    """
    name = quote(str(label), safe=" !#$&'()+,;=@[]^_`{}~")
    return (name.replace(".", "%2E") or "%") if set(name) <= {"."} else name


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
            picture = Image.fromarray(image.squeeze()).resize(cell, Image.Resampling.BICUBIC)
            sheet.paste(picture.convert("RGB"), (margin + column * (cell[0] + gap), top))
    write_atomically(path, _png(sheet))


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
        self.data_format = data_format
        self.classes = classes
        self.records = records
        manifest = self.path / "manifest.json"
        # Through JSON and back, so that tuples compare equal to what was read.
        settings = json.loads(json.dumps(settings))
        if manifest.is_file():
            self._check_same(json.loads(manifest.read_text())["settings"], settings)
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

    def _batch_path(self, number):
        return self.path / "batches" / f"{number:06d}.npz"

    def has(self, number):
        """Return whether a batch is there.

        Parameters
        ----------
        number : int
            Of the batch.

        Returns
        -------
        there : bool
            And its images with it.
        """
        return self._batch_path(number).is_file()

    def read(self, number):
        """Return the samples of a batch that is there.

        Parameters
        ----------
        number : int
            Of the batch.

        Returns
        -------
        X : ndarray of shape (n_samples, ...)
            The samples.
        """
        with np.load(self._batch_path(number), allow_pickle=False) as arrays:
            return arrays["X"]

    def write(self, number, batch, X):
        """Write a finished batch and its images.

        Parameters
        ----------
        number : int
            Of the batch.

        batch : slice
            Its place in the set.

        X : ndarray of shape (n_samples, ...)
            The samples.
        """
        if self.data_format.image_shape is not None:
            pixels = self.data_format.to_uint8(X)
            for record, image in zip(self.records[batch], pixels, strict=True):
                picture = _png(Image.fromarray(image.squeeze()))
                write_atomically(self.path / "images" / record["file_name"], picture)
        # Last, so that a batch that is there has its images.
        write_atomically(self._batch_path(number), _npz(X=X))

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


def describe_run(distiller, plan):
    """Return what a run directory says of a set beside its samples.

    Parameters
    ----------
    distiller : ManifoldGDDistiller
        Fitted.

    plan : object
        The distiller's assignment of samples to centroids.

    Returns
    -------
    settings : dict
        What decides the set.

    facts : dict
        Versions and counts.

    records : list of dict
        A line of metadata for each sample.
    """
    ignored = {"device", "n_jobs", "verbose", "student", "random_state", "ipc", "local_files_only"}
    parameters = {
        name: value if isinstance(value, (str, int, float, bool, type(None))) else repr(value)
        for name, value in distiller.get_params(deep=False).items()
        if name not in ignored
    }
    classes = distiller.classes_.tolist()
    counts = np.bincount(plan.labels, minlength=len(classes)).tolist()
    settings = {
        **parameters,
        "ipc": {str(label): n for label, n in zip(classes, counts, strict=True)},
        "seed": distiller.seed_,
        "data": distiller._fingerprint,
    }
    facts = {
        "classes": [str(label) for label in classes],
        "real_rows": [len(rows) for rows in distiller._rows],
        "versions": {
            module.__name__: module.__version__ for module in (skdistill, sklearn, torch, diffusers)
        },
    }

    nearest = np.empty(len(plan.centers), dtype=np.int64)
    for k, Z in enumerate(distiller._latents):
        of_class = np.flatnonzero(plan.center_classes == k)
        rows = pairwise_distances_argmin(plan.centers[of_class], Z)
        nearest[of_class] = distiller._rows[k][rows]
    first = np.searchsorted(plan.center_classes, np.arange(len(classes)))
    records = []
    for k, i, center in zip(plan.labels, plan.indices, plan.assigned, strict=True):
        records.append(
            {
                "file_name": f"{class_folder(classes[k])}/{i:04d}.png",
                "label": str(classes[k]),
                "centroid": int(center - first[k]),
                "level": plan.levels[center],
                "nearest": int(nearest[center]),
            }
        )
    return settings, facts, records


def _png(picture):
    buffer = io.BytesIO()
    picture.save(buffer, "PNG")
    return buffer.getvalue()


def _npz(**arrays):
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **arrays)
    return buffer.getvalue()
