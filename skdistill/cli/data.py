"""The data that DATA, SET and --test name."""

import math
from pathlib import Path

from sklearn.model_selection import train_test_split

from skdistill.datasets import SPLITS, list_image_folder, load_image_folder, load_npz


def load(data, image_size, *, skip_bad_images=False, verbose=False):
    """Load a folder or an .npz file, whichever `data` is."""
    if not Path(data).is_dir():
        return load_npz(data)
    on_error = "skip" if skip_bad_images else "raise"
    try:
        return load_image_folder(data, image_size=image_size, on_error=on_error, verbose=verbose)
    except ValueError as error:
        message = str(error).replace("on_error='skip'", "--skip-bad-images")
        raise ValueError(message.replace("give image_size", "give --image-size")) from error


def reading_arguments(options):
    """Return what says on a command line which DATA is meant, and how it is read."""
    arguments = [options.data]
    for name in ("test", "image_size"):
        value = getattr(options, name)
        if value is not None:
            arguments += [f"--{name.replace('_', '-')}", str(value)]
    return arguments + ["--skip-bad-images"] * options.skip_bad_images


def load_split(options, *, share_only=False):
    """Return training and test data; no test data where none is asked for.

    Commands that train share it, so that a backbone never sees what its samples are judged on. With
    `share_only`, --test may be a share of DATA and no other data.
    """
    if options.data in SPLITS:
        if options.test is not None:
            raise ValueError(f"--test cannot be given with {options.data!r}, whose split is fixed.")
        _refuse_image_size(options, repr(options.data))
        return SPLITS[options.data]()
    share = _parse_share(options.test, share_only)
    # The test data too: a command reads all of its folders in the same way.
    reading = {
        "image_size": options.image_size,
        "skip_bad_images": options.skip_bad_images,
        "verbose": not options.quiet,
    }
    if not Path(options.data).exists():
        raise ValueError(
            f"DATA={options.data!r} is neither {', '.join(map(repr, SPLITS))}, nor a folder, nor "
            "an .npz file."
        )
    if options.test is not None and share is None and not Path(options.test).exists():
        raise ValueError(
            f"--test={options.test!r} is neither a share between 0 and 1, nor a folder, nor an "
            ".npz file."
        )
    if not any(Path(data).is_dir() for data in (options.data, options.test or options.data)):
        _refuse_image_size(options, "an .npz file")
    X, y = load(options.data, **reading)
    if options.test is None:
        return X, None, y, None
    if share is not None:
        # The seed is no option: runs with several seeds have to be judged on the same images.
        try:
            return train_test_split(X, y, test_size=share, stratify=y, random_state=0)
        except ValueError as error:
            raise ValueError(
                f"--test={options.test!r} cannot be held out of the {len(y)} samples of "
                f"DATA: {error}"
            ) from error
    X_test, y_test = load(options.test, **reading)
    if X_test.shape[1:] != X.shape[1:]:
        raise ValueError(
            f"--test={options.test!r} has rows of shape {X_test.shape[1:]}, DATA has {X.shape[1:]}."
        )
    known = set(y.tolist())
    strangers = sorted(set(y_test.tolist()) - known, key=str)
    if strangers:
        raise ValueError(
            f"--test={options.test!r} has labels that DATA lacks: {enumerate_labels(strangers)}; "
            f"the labels of DATA are {enumerate_labels(sorted(known))}."
        )
    return X, X_test, y, y_test


def _refuse_image_size(options, what):
    if options.image_size is not None:
        raise ValueError(
            f"--image-size={options.image_size} is for folders of images, but DATA is {what}."
        )


def list_folder(options):
    """Return the paths and labels of a folder of images that are to stay on disk."""
    loading = {"--test": "test", "--image-size": "image_size"}
    loading |= {"--skip-bad-images": "skip_bad_images", "--memory": "memory"}
    for flag, name in loading.items():
        if getattr(options, name):
            raise ValueError(f"{flag} cannot be given with --latents.")
    if not Path(options.data).is_dir():
        raise ValueError(f"--latents needs a folder of class folders, but DATA={options.data!r}.")
    return list_image_folder(options.data)


def _parse_share(test, share_only):
    """Return --test as a share, or None where it is not given or names data."""
    if test is None:
        return None
    try:
        share = float(test)
    except ValueError:
        if not share_only:
            return None
        share = math.nan
    if not 0.0 < share < 1.0:
        expected = "a share between 0 and 1" + (" of DATA" if share_only else ", or data")
        raise ValueError(f"--test={test!r} must be {expected}.")
    return share


def enumerate_labels(labels):
    """Write labels as they are in Python, a few of many."""
    return ", ".join(map(repr, labels[:5])) + (", ..." if len(labels) > 5 else "")
