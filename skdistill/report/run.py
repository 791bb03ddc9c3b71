"""What a run directory holds, read and checked."""

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from skdistill.io import load_distilled

__all__ = ["Run", "read_run"]

FACTS = ("settings", "classes", "real_rows", "versions", "random_state", "image_shape")
FACTS += ("value_range", "feature_names")
SETTINGS = ("ipc", "centroids", "backbone", "data")
# What distill measures, and what evaluate does.
SCORES = ("command", "n_test", "n_training", "scores")
EVALUATION = (*SCORES, "features", "figures")


@dataclass(frozen=True, eq=False)
class Run:
    """A complete run.

    Attributes
    ----------
    path : Path
        Its folder.

    manifest : dict
        As :mod:`skdistill.io` describes it.

    X : ndarray of shape (n_samples, ...)
        The samples.

    y : ndarray of shape (n_samples,)
        Their labels.

    files : list of Path or None
        The image of each sample, None for tables.

    trees : list of dict or None
        The tree of each class, None where none was grown.

    scores : dict or None
        What ``skdistill distill`` measured.

    evaluation : dict or None
        What ``skdistill evaluate`` measured.
    """

    path: Path
    manifest: dict
    X: np.ndarray
    y: np.ndarray
    files: list | None
    trees: list | None
    scores: dict | None
    evaluation: dict | None

    @property
    def classes(self):
        """The labels, sorted; ndarray of shape (n_classes,)."""
        return np.unique(self.y)

    @property
    def names(self):
        """The labels as text; list of str."""
        return self.manifest["classes"]

    def rows_of(self, k):
        """Return where the samples of a class are.

        Parameters
        ----------
        k : int
            Place of the class in `classes`.

        Returns
        -------
        rows : ndarray of shape (n_samples_of_class,)
            Places in `X`; the i-th is that of sample i of the class.
        """
        return np.flatnonzero(self.y == self.classes[k])


def read_run(run_dir):
    """Read a run directory.

    Parameters
    ----------
    run_dir : str or path-like
        A complete run.

    Returns
    -------
    run : Run
        What is in it.

    Raises
    ------
    ValueError
        If it is no complete run, or a file of it is damaged; the message names the file.

    OSError
        If a file cannot be read.
    """
    path = Path(run_dir).resolve()
    X, y = load_distilled(run_dir)
    manifest = _read_json(path / "manifest.json", dict) or {}
    _check_says(path / "manifest.json", manifest, FACTS)
    _check_says(path / "manifest.json", manifest["settings"], SETTINGS)
    trees = _read_json(path / "trees.json", list)
    if trees is not None and len(trees) != len(manifest["classes"]):
        raise ValueError(
            f"{str(path / 'trees.json')!r} has {len(trees)} trees, not one for each of "
            f"{len(manifest['classes'])} classes."
        )
    return Run(
        path,
        manifest,
        X,
        y,
        _read_files(path / "images", len(X)) if manifest["image_shape"] is not None else None,
        trees,
        _read_json(path / "scores.json", dict, SCORES),
        _read_json(path / "evaluation.json", dict, EVALUATION),
    )


def _read_json(path, kind, facts=()):
    """Return what a file holds, None where there is none."""
    try:
        content = json.loads(path.read_bytes())
    except FileNotFoundError:
        return None
    except ValueError as error:
        raise ValueError(f"{str(path)!r} cannot be read as JSON: {error}") from error
    if not isinstance(content, kind):
        raise ValueError(f"{str(path)!r} must hold a {kind.__name__}, not {content!r:.60}.")
    _check_says(path, content, facts)
    return content


def _check_says(path, content, facts):
    """Raise ValueError if a fact is not among the content of a file."""
    if facts and not isinstance(content, dict):
        raise ValueError(f"{str(path)!r} holds {content!r:.60} in place of {', '.join(facts)}.")
    lacking = [name for name in facts if name not in content]
    if lacking:
        raise ValueError(
            f"{str(path)!r} does not say {lacking[0]!r}; it is of no run of this version of "
            "skdistill."
        )


def _read_files(folder, n_samples):
    """Return the image of each sample."""
    path = folder / "metadata.jsonl"
    try:
        names = [json.loads(line)["file_name"] for line in path.read_bytes().splitlines()]
        files = [folder / name for name in names]
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{str(path)!r} cannot be read: {error!r}") from error
    if len(files) != n_samples:
        raise ValueError(f"{str(path)!r} has {len(files)} lines, not one for each of {n_samples}.")
    for file in files:
        # What somebody else wrote must not take pictures from elsewhere into the report.
        if not file.resolve().is_relative_to(folder.resolve()):
            raise ValueError(f"{str(path)!r} names {str(file)!r}, which is outside of the run.")
    return files
