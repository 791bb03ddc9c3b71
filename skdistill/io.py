"""Run directories: a distilled set on disk, written batch by batch.

::

    RUN_DIR/images/CLASS/NNNN.png     only class folders lie under images/
    RUN_DIR/images/metadata.jsonl     a line a sample: where it comes from, and its sha256
    RUN_DIR/manifest.json             settings, seed, versions, backbone, data fingerprint
    RUN_DIR/trees.json                the tree of each class, a line each, where trees were grown
    RUN_DIR/distilled.npz             X, y as sample() returned them
    RUN_DIR/grid.png                  a row a class
    RUN_DIR/scores.json               accuracies, where the command line measured them
    RUN_DIR/evaluation.json           what the command line measured when it judged the set
    RUN_DIR/report.html               what the command line wrote of all this
    RUN_DIR/batches/                  finished batches, until the set is complete

Tables have neither images nor a grid. Every file is written under a temporary name and renamed, so
that a full disk leaves no half of one. Images that are lost or altered, as their sha256 tells, are
written again when the run is opened again.
"""

import hashlib
import io
import json
import os
import shutil
import warnings
from contextlib import contextmanager, suppress
from pathlib import Path

import joblib
import numpy as np

from skdistill.atomic import error_naming, is_partial, write_atomically
from skdistill.names import class_folders
from skdistill.pictures import draw_grid, encode_png
from skdistill.rows import hash_rows

__all__ = ["RunDirectory", "fingerprint", "load_distilled", "read_manifest", "settings_in"]


def fingerprint(rows, classes, labels):
    """Return what tells the data of a run from other data.

    Parameters
    ----------
    rows : ndarray, MappedRows or ImageFiles of shape (n_samples, n_features)
        Flattened rows.

    classes : ndarray of shape (n_classes,)
        The labels, sorted.

    labels : ndarray of shape (n_samples,)
        The place in `classes` of each row's label.

    Returns
    -------
    fingerprint : str
        A digest of values, dtypes and shapes.
    """
    return joblib.hash((hash_rows(rows), classes, labels))


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
        If the folder holds no complete run, or its distilled.npz is damaged.

    OSError
        If the file cannot be read.

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
    try:
        X, y = _read_npz(path, "X", "y")
    except ValueError as error:
        raise ValueError(
            f"{error}. The call that wrote run_dir={str(run_dir)!r} makes it again."
        ) from error
    return X, y


def read_manifest(run_dir):
    """Read what a run directory says of its run.

    Parameters
    ----------
    run_dir : str or path-like
        A run directory, complete or not.

    Returns
    -------
    manifest : dict
        "settings" is what decides the set; "random_state" is what the caller gave, from which the
        "seed" of the settings was drawn.

    Raises
    ------
    ValueError
        If the folder holds no run.

    OSError
        If the manifest cannot be read.

    Examples
    --------
    >>> import tempfile
    >>> from sklearn.datasets import load_iris
    >>> from skdistill import ManifoldGDDistiller
    >>> from skdistill.io import read_manifest
    >>> distiller = ManifoldGDDistiller(ipc=2, random_state=0).fit(*load_iris(return_X_y=True))
    >>> with tempfile.TemporaryDirectory() as run_dir:
    ...     X_syn, y_syn = distiller.sample(out_dir=run_dir)
    ...     manifest = read_manifest(run_dir)
    >>> manifest["settings"]["strength"], manifest["random_state"]
    (1.0, 0)
    """
    try:
        return _read_manifest(Path(run_dir))
    except ValueError as error:
        raise ValueError(f"run_dir={str(run_dir)!r} is no run: {error}.") from error


def settings_in(out_dir):
    """Return the settings of the run that a folder holds, to see whether one may write there.

    Parameters
    ----------
    out_dir : str or path-like
        The folder.

    Returns
    -------
    settings : dict or None
        None if the folder is empty or not there.

    Raises
    ------
    ValueError
        If something else is there.

    OSError
        If it cannot be read, or is empty or not there and may not be written.

    Examples
    --------
    >>> from skdistill.io import settings_in
    >>> settings_in("not/there/yet") is None
    True
    """
    path = Path(out_dir)
    if path.exists() and not path.is_dir():
        raise ValueError(f"out_dir={str(path)!r} is no folder; give a new one.")
    if not path.exists() or all(map(is_partial, path.iterdir())):
        there = next(folder for folder in (path, *path.absolute().parents) if folder.exists())
        if not os.access(there, os.W_OK, effective_ids=os.access in os.supports_effective_ids):
            raise PermissionError(
                f"out_dir={str(path)!r} cannot be written: permission denied in {str(there)!r}."
            )
        return None
    try:
        return _read_manifest(path)["settings"]
    except ValueError as error:
        raise ValueError(
            f"out_dir={str(path)!r} is not empty and holds no run ({error}); give a new folder."
        ) from error


class RunDirectory:
    """A run directory that a distiller writes into.

    Parameters
    ----------
    path : str or path-like
        The folder. One that is not there is made; an empty one and one that holds a run with the
        same settings are gone on with. Nothing is written outside of it, links or not.

    data_format : DataFormat
        The caller's own terms.

    classes : ndarray of shape (n_classes,)
        Labels.

    settings : dict
        What decides the set, as JSON can hold it.

    facts : dict
        What else the manifest says.

    records : list of dict
        A line of metadata for each sample, in their order. The folder in each `file_name` is
        replaced where classes need others to be told apart.

    trees : list of dict, default=None
        For each class its label; of each node of its tree the children, the size, the SSE and the
        nearest real row; and the nodes that are its centroids. None where there are no trees.

    Raises
    ------
    ValueError
        If the folder holds a run with other settings, or something else.

    OSError
        If it cannot be read or written.

    Warns
    -----
    UserWarning
        If something of the run was damaged; it says what is made again.
    """

    def __init__(self, path, data_format, classes, settings, facts, records, trees=None):
        self.path = Path(path)
        shape = data_format.image_shape
        if shape is not None and len(shape) == 3 and shape[2] not in (1, 3, 4):
            raise ValueError(
                f"Images with {shape[2]} channels cannot be written as PNG; out_dir takes 1, 3 or "
                "4. sample() without out_dir returns them."
            )
        self.data_format = data_format
        self.classes = classes
        labels = classes.tolist()
        folders = dict(zip(map(str, labels), class_folders(labels), strict=True))
        self.records = [
            record | {"file_name": f"{folders[record['label']]}/{Path(record['file_name']).name}"}
            for record in records
        ]
        self._hashes = {}
        # Through JSON and back, so that tuples compare equal to what was read.
        settings = json.loads(json.dumps(settings))
        old = settings_in(path)
        if old is None:
            content = {"settings": settings, **facts}
            data = (json.dumps(content, indent=2) + "\n").encode()
            self._write(self.path / "manifest.json", data)
        else:
            self._check_same(old, settings)
        if trees is not None and not (self.path / "trees.json").is_file():
            lines = ",\n".join(json.dumps(tree, separators=(",", ":")) for tree in trees)
            self._write(self.path / "trees.json", f"[\n{lines}\n]\n".encode())
        self._complete = self._restore()

    def _check_same(self, old, new):
        # Centroids follow from others, which say more.
        for name in sorted(old.keys() | new.keys(), key=lambda name: (name == "centroids", name)):
            theirs, ours = old.get(name), new.get(name)
            if theirs == ours:
                continue
            if isinstance(theirs, dict) and isinstance(ours, dict):
                keys = theirs.keys() | ours.keys()
                key = min(key for key in keys if theirs.get(key) != ours.get(key))
                name, theirs, ours = f"{name}[{key!r}]", theirs.get(key), ours.get(key)
            raise ValueError(
                f"out_dir={str(self.path)!r} holds a run with {name}={theirs!r}, this one has "
                f"{name}={ours!r}; give another folder."
            )

    def is_complete(self):
        """Return whether the whole set is there.

        Returns
        -------
        complete : bool
            Then :func:`~skdistill.load_distilled` reads it.
        """
        return self._complete

    def read(self):
        """Return the samples that are there.

        Returns
        -------
        samples : dict of int to ndarray
            By their places in the set.

        Warns
        -----
        UserWarning
            If a batch cannot be read, whose samples are then missing, or if images were lost or
            altered, which are written again.
        """
        samples = {}
        names = ["places", "X"]
        if self.data_format.image_shape is not None:
            names.append("sha256")
        for path in sorted((self.path / "batches").glob("[!.]*.npz")):
            try:
                places, X, *hashes = _read_npz(path, *names)
            except (OSError, ValueError) as error:
                warnings.warn(f"{error}. Its samples are made again.", UserWarning, stacklevel=3)
                continue
            places = places.tolist()
            if hashes:
                self._hashes.update(zip(places, hashes[0].tolist(), strict=True))
                self._mend(places, X)
            samples.update(zip(places, X, strict=True))
        return samples

    def write(self, places, X):
        """Write finished samples and their images.

        Parameters
        ----------
        places : ndarray of shape (n_samples,)
            Their places in the set.

        X : ndarray of shape (n_samples, ...)
            The samples.

        Raises
        ------
        OSError
            If they cannot be written; what was finished before stays.
        """
        batch = {"places": places, "X": X}
        with self._going_on():
            if self.data_format.image_shape is not None:
                self._write_images(places.tolist(), X)
                batch["sha256"] = np.array([self._hashes[place] for place in places.tolist()])
            # Last, so that a batch that is there has its images.
            self._write(self.path / "batches" / f"{places[0]:08d}.npz", _npz(**batch))

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

        Raises
        ------
        OSError
            If it cannot be written; the batches stay.
        """
        if y.dtype == object:
            y = y.astype(str)
        with self._going_on():
            if self.data_format.image_shape is not None:
                self._write_metadata()
                pixels = self.data_format.to_uint8(X)
                draw_grid(pixels, labels, self.classes, self.path / "grid.png")
            # Last, so that a run that has it is complete.
            self._write(self.path / "distilled.npz", _npz(X=X, y=y))
        self._complete = True
        self._tidy()

    def _restore(self):
        """Return whether the whole set is there, its images as they were or written again."""
        path = self.path / "distilled.npz"
        if not path.is_file():
            return False
        try:
            X, _ = _read_npz(path, "X", "y")
            if len(X) != len(self.records):
                raise ValueError(f"{str(path)!r} has {len(X)} samples, not {len(self.records)}")
        except ValueError as error:
            warnings.warn(f"{error}. The set is made again.", UserWarning, stacklevel=4)
            return False
        if self.data_format.image_shape is not None:
            self._hashes = self._read_hashes()
            if self._mend(range(len(X)), X):
                self._write_metadata()
        self._tidy()
        return True

    def _mend(self, places, X):
        """Write images again whose hashes are not as noted; return whether there were any."""
        damaged = [
            i
            for i, place in enumerate(places)
            if _hash_of(self._image(place)) != self._hashes[place]
        ]
        if not damaged:
            return False
        names = [self.records[places[i]]["file_name"] for i in damaged]
        shown = ", ".join(map(repr, names[:5])) + (", ..." if len(names) > 5 else "")
        warnings.warn(
            f"Images of out_dir={str(self.path)!r} that were lost or altered are written again "
            f"({len(names)}): {shown}.",
            UserWarning,
            stacklevel=4,
        )
        self._write_images([places[i] for i in damaged], X[damaged])
        return True

    def _image(self, place):
        return self.path / "images" / self.records[place]["file_name"]

    def _write_images(self, places, X):
        for place, image in zip(places, self.data_format.to_uint8(X), strict=True):
            data = encode_png(image)
            self._hashes[place] = hashlib.sha256(data).hexdigest()
            # Those that a run had written before it was killed stay as they are.
            if _hash_of(self._image(place)) != self._hashes[place]:
                self._write(self._image(place), data)

    def _write_metadata(self):
        lines = [
            json.dumps({**record, "sha256": self._hashes[place]}) + "\n"
            for place, record in enumerate(self.records)
        ]
        self._write(self.path / "images" / "metadata.jsonl", "".join(lines).encode())

    def _read_hashes(self):
        """Return the hash that the metadata give for each place, None where they give none."""
        noted = {}
        with suppress(OSError):
            for line in (self.path / "images" / "metadata.jsonl").read_bytes().splitlines():
                # A line that is damaged notes nothing.
                with suppress(ValueError, KeyError, TypeError):
                    record = json.loads(line)
                    noted[record["file_name"]] = record["sha256"]
        return {i: noted.get(record["file_name"]) for i, record in enumerate(self.records)}

    def _write(self, path, data):
        """Write a file, unless a link would lead it out of the run directory."""
        place = os.path.realpath(path.parent)
        if not Path(place).is_relative_to(os.path.realpath(self.path)):
            raise ValueError(
                f"out_dir={str(self.path)!r} has a link in it that leads out: {str(path.parent)!r} "
                f"is {place!r}. Remove it; nothing is written there."
            )
        write_atomically(path, data)

    @contextmanager
    def _going_on(self):
        """Say of a failure to write that nothing is lost by it."""
        try:
            yield
        except OSError as error:
            reason = (
                f"{error.strerror} (what was finished in out_dir={str(self.path)!r} stays, and the "
                "same call goes on from there)"
            )
            raise OSError(error.errno, reason, error.filename) from error

    def _tidy(self):
        """Remove what a complete run needs no more, and what one that was killed left behind."""
        shutil.rmtree(self.path / "batches", ignore_errors=True)
        for path in filter(is_partial, self.path.rglob(".*.partial")):
            with suppress(OSError):
                path.unlink()


def _read_manifest(path):
    """Return the manifest in a folder, or raise ValueError saying what is wrong with it."""
    try:
        manifest = json.loads((path / "manifest.json").read_bytes())
        return {**manifest, "settings": dict(manifest["settings"])}
    except (FileNotFoundError, NotADirectoryError) as error:
        raise ValueError("there is no manifest.json in it") from error
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError("its manifest.json names no settings") from error


def _hash_of(path):
    """Return the sha256 of a file, None if it cannot be read."""
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError:
        return None


def _read_npz(path, *names):
    """Read arrays; raise ValueError if the file is damaged, OSError if the disk refuses."""
    try:
        data = path.read_bytes()
    except OSError as error:
        raise error_naming(path, error) from error
    try:
        with np.load(io.BytesIO(data), allow_pickle=False) as arrays:
            return [arrays[name] for name in names]
    # A broken archive raises whatever its bytes lead to.
    except Exception as error:
        raise ValueError(
            f"{str(path)!r} cannot be read as an .npz file with {', '.join(names)}: "
            f"{str(error) or repr(error)}"
        ) from error


def _npz(**arrays):
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **arrays)
    return buffer.getvalue()
