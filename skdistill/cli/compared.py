"""The sets that evaluate compares, in the terms of the real data, and the space it does that in."""

import math
import warnings
from pathlib import Path

import numpy as np

from skdistill import load_distilled
from skdistill.backbones import LatentEncoder
from skdistill.cli.arguments import backbone_name
from skdistill.cli.data import enumerate_labels, load, load_split
from skdistill.datasets import list_image_folder
from skdistill.evaluation import train_student
from skdistill.io import fingerprint, read_manifest
from skdistill.names import class_folders
from skdistill.pixels import check_value_range, from_networks, infer_value_range, to_networks
from skdistill.protocols import PROTOCOLS
from skdistill.rows import ImageFiles


def load_compared(options):
    """Return real and test data and SET, each with its labels, and the range of the values."""
    X, X_test, y, y_test = load_split(options)
    if X_test is None:
        raise ValueError(
            "Nothing is held out to test on: give --test DATA or --test SHARE. A set that was "
            "distilled with --test has to be judged with the same."
        )
    value_range = _value_range(options, X)
    X_syn, y_syn = _load_set(options, X, y, value_range)
    strangers = sorted(set(y_syn.tolist()) - set(y.tolist()), key=str)
    if strangers:
        raise ValueError(
            f"SET={options.set!r} has labels that DATA lacks: {enumerate_labels(strangers)}."
        )
    if is_run(options.set) and not _is_source(options, X, y):
        warnings.warn(
            f"SET={options.set!r} was distilled from other rows than the training part of DATA, "
            "and may have seen those that it is tested on; --test and --image-size have to be "
            "those that distill had.",
            stacklevel=1,
        )
    if len(set(y_syn.tolist())) == 1:
        raise ValueError(
            f"SET={options.set!r} has one class only, among which no student can tell any apart."
        )
    lacking = sorted(set(y.tolist()) - set(y_syn.tolist()), key=str)
    if lacking:
        warnings.warn(
            f"SET={options.set!r} lacks classes of DATA, which are left out of everything: "
            f"{enumerate_labels(lacking)}.",
            stacklevel=1,
        )
    of_set, of_set_test = np.isin(y, y_syn), np.isin(y_test, y_syn)
    real, test = (X[of_set], y[of_set]), (X_test[of_set_test], y_test[of_set_test])
    return real, test, (X_syn, y_syn), value_range


def pick_space(options, students, X, value_range):
    """Return what the space is called, and what makes its embedding of real data and a seed."""
    network = next((name for name in students if name != "linear"), None)
    features = options.features or ("values" if network is None else "student")
    if features == "student":
        if network is None:
            raise ValueError("--features student needs a network among --students.")
        return (
            f"features of {network} trained on them",
            lambda real, seed: train_student(students[network], *real, seed).transform,
        )
    if features == "latents":
        # What cannot be encoded so should be known before students are trained.
        encoder = _encoder(options, X, value_range)
        return "latents", lambda real, seed: encoder.transform
    return "values", lambda real, seed: None


def is_run(path):
    """Return whether a path is a run directory."""
    return (Path(path) / "manifest.json").exists()


def _is_source(options, X, y):
    """Return whether a run was distilled from the training part of DATA."""
    source = read_manifest(options.set)["settings"].get("data")
    rows = X.reshape(len(X), math.prod(X.shape[1:]))
    if source == fingerprint(rows, *np.unique(y, return_inverse=True)):
        return True
    if options.skip_bad_images or len(X) == 0 or not _is_all_of_a_folder(options):
        return False
    # Of a run with --latents the manifest has the digest of the files.
    paths, labels = list_image_folder(options.data)
    files = ImageFiles.survey(paths, resize="bilinear")
    return source == fingerprint(files, *np.unique(labels, return_inverse=True))


def _is_all_of_a_folder(options):
    """Return whether the training part of DATA is a whole folder of images."""
    named = options.test is not None and Path(options.test).exists()
    return named and Path(options.data).is_dir()


def _value_range(options, X):
    """Return the values that stand for black and white, None for tables."""
    if options.value_range is not None:
        return check_value_range(options.value_range)
    value_range = PROTOCOLS.get(options.data, {}).get("value_range")
    return infer_value_range(X) if value_range is None and X.ndim > 2 else value_range


def _load_set(options, X, y, value_range):
    """Load the set to judge, in the terms of the real data."""
    path = options.set
    if is_run(path):
        X_syn, y_syn = load_distilled(path)
    elif not Path(path).exists():
        raise ValueError(f"SET={path!r} is neither a run directory, a folder nor an .npz file.")
    else:
        X_syn, y_syn = load(
            path, None, skip_bad_images=options.skip_bad_images, verbose=not options.quiet
        )
        # Folders have the names of labels, not the labels.
        known = np.unique(y).tolist()
        labels = dict(zip(class_folders(known), known, strict=True))
        if y_syn.dtype.kind == "U" and set(y_syn.tolist()) <= set(labels):
            y_syn = np.array([labels[name] for name in y_syn.tolist()], dtype=y.dtype)
    if X_syn.shape[1:] != X.shape[1:]:
        raise ValueError(
            f"SET={path!r} has samples of shape {X_syn.shape[1:]}, DATA has {X.shape[1:]}."
        )
    if not np.isfinite(X_syn).all():
        raise ValueError(f"SET={path!r} holds NaN or infinity.")
    if X.ndim == 2:
        return X_syn, y_syn
    if X_syn.dtype == np.uint8 and X.dtype != np.uint8:
        x = to_networks(X_syn, (0.0, 255.0))
        X_syn = from_networks(x, value_range, shape=X.shape[1:], dtype=X.dtype)
    low, high = value_range
    span = high - low
    darkest, brightest = float(X_syn.min()), float(X_syn.max())
    if brightest - darkest < span / 10 or darkest < low - span or brightest > high + span:
        warnings.warn(
            f"SET={path!r} has values from {darkest:g} to {brightest:g}, but black and white are "
            f"{low:g} and {high:g} in DATA: SET is judged as it is, which is wrong unless both "
            "are of one scale.",
            stacklevel=1,
        )
    return X_syn, y_syn


def _encoder(options, X, value_range):
    """Return the fitted encoder of the backbone of the options."""
    name = backbone_name(options)
    if name == "closed-form" or X.ndim == 2:
        raise ValueError(
            "--features latents needs images, and --backbone with an encoder for them."
        )
    return LatentEncoder(
        name, value_range=value_range, resize=options.resize, device=options.device
    ).fit(X)
