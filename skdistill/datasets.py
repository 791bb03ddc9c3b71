"""Data as the studies and the command line use it."""

import gzip
import os
import warnings
import zlib
from numbers import Integral
from pathlib import Path
from zipfile import BadZipFile, ZipFile, is_zipfile

import numpy as np
from PIL import Image
from sklearn.datasets import fetch_openml, load_digits
from sklearn.model_selection import train_test_split
from sklearn.utils._param_validation import Interval, StrOptions, validate_params

from skdistill.folders import IMAGE_SUFFIXES, find_images, read_image
from skdistill.progress import progress_bar

__all__ = [
    "SPLITS",
    "list_image_folder",
    "load_cifar10",
    "load_digits_split",
    "load_fashion_mnist",
    "load_image_folder",
    "load_npz",
]

# Of 255. The brightest value of images that are hardly meant to be as dark as this.
NEARLY_BLACK = 32
CIFAR10_CLASSES = (
    "airplane",
    "automobile",
    "bird",
    "cat",
    "deer",
    "dog",
    "frog",
    "horse",
    "ship",
    "truck",
)


def load_digits_split():
    """Load the handwritten digits of scikit-learn in the split that the shipped backbone knows.

    The split is fixed: stratified, 70% for training, ``random_state=0``. The shipped backbone
    "digits" has seen the training part only, so the test part may judge what it generates.

    Returns
    -------
    X_train : ndarray of shape (1257, 8, 8), dtype float64
        Training images with values from 0 (background) to 16 (ink).

    X_test : ndarray of shape (540, 8, 8), dtype float64
        Held-out images.

    y_train : ndarray of shape (1257,), dtype int64
        Training labels, 0 to 9.

    y_test : ndarray of shape (540,), dtype int64
        Held-out labels.

    Examples
    --------
    >>> from skdistill.datasets import load_digits_split
    >>> X_train, X_test, y_train, y_test = load_digits_split()
    >>> X_train.shape, X_test.shape
    ((1257, 8, 8), (540, 8, 8))
    """
    digits = load_digits()
    return train_test_split(
        digits.images, digits.target, test_size=0.3, stratify=digits.target, random_state=0
    )


def load_fashion_mnist():
    """Load Fashion-MNIST: 28 x 28 grey images of ten kinds of clothes.

    From the four files of the original distribution (``train-images-idx3-ubyte.gz`` and so on) in
    the folder that the environment variable SKDISTILL_DATA names; where it is not set, by
    :func:`sklearn.datasets.fetch_openml`, which downloads them once.

    Returns
    -------
    X_train : ndarray of shape (60000, 28, 28), dtype uint8
        Training images, 0 is black.

    X_test : ndarray of shape (10000, 28, 28), dtype uint8
        Test images.

    y_train : ndarray of shape (60000,), dtype int64
        Training labels, 0 to 9.

    y_test : ndarray of shape (10000,), dtype int64
        Test labels.

    Raises
    ------
    ValueError
        If a file is not there or is no such file.

    References
    ----------
    H. Xiao, K. Rasul, R. Vollgraf, "Fashion-MNIST: a Novel Image Dataset for Benchmarking Machine
    Learning Algorithms", arXiv:1708.07747.

    Examples
    --------
    >>> from skdistill.datasets import load_fashion_mnist
    >>> X_train, X_test, y_train, y_test = load_fashion_mnist()  # doctest: +SKIP
    >>> X_train.shape, X_test.shape  # doctest: +SKIP
    ((60000, 28, 28), (10000, 28, 28))
    """
    folder = _data_folder()
    if folder is None:
        X, y = _fetch("Fashion-MNIST")
        X, y = X.reshape(-1, 28, 28).astype(np.uint8), y.astype(np.int64)
        return X[:60000], X[60000:], y[:60000], y[60000:]
    X_train, X_test = (_read_idx(folder / f"{p}-images-idx3-ubyte.gz") for p in ("train", "t10k"))
    y_train, y_test = (_read_idx(folder / f"{p}-labels-idx1-ubyte.gz") for p in ("train", "t10k"))
    return X_train, X_test, y_train.astype(np.int64), y_test.astype(np.int64)


def load_cifar10():
    """Load CIFAR-10: 32 x 32 colour images of ten kinds of animals and vehicles.

    From ``cifar10-jpeg.zip``, with images at ``train/CLASS/NNNN.jpg`` and ``test/CLASS/NNNN.jpg``,
    in the folder that the environment variable SKDISTILL_DATA names; where it is not set, by
    :func:`sklearn.datasets.fetch_openml`, which downloads the original once. JPEG alters images
    slightly: say which of the two a result is from.

    Returns
    -------
    X_train : ndarray of shape (50000, 32, 32, 3), dtype uint8
        Training images, 0 is black.

    X_test : ndarray of shape (10000, 32, 32, 3), dtype uint8
        Test images.

    y_train : ndarray of shape (50000,), dtype str
        Training labels: "airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse",
        "ship" or "truck".

    y_test : ndarray of shape (10000,), dtype str
        Test labels.

    Raises
    ------
    ValueError
        If the file is not there or holds no such images.

    References
    ----------
    A. Krizhevsky, "Learning Multiple Layers of Features from Tiny Images", 2009.

    Examples
    --------
    >>> from skdistill.datasets import load_cifar10
    >>> X_train, X_test, y_train, y_test = load_cifar10()  # doctest: +SKIP
    >>> X_train.shape, X_test.shape  # doctest: +SKIP
    ((50000, 32, 32, 3), (10000, 32, 32, 3))
    """
    folder = _data_folder()
    if folder is None:
        X, y = _fetch("CIFAR_10")
        X = np.moveaxis(X.reshape(-1, 3, 32, 32), 1, -1).astype(np.uint8)
        y = np.array(CIFAR10_CLASSES)[y.astype(np.int64)]
        return X[:50000], X[50000:], y[:50000], y[50000:]
    path = folder / "cifar10-jpeg.zip"
    images, labels = {"train": [], "test": []}, {"train": [], "test": []}
    try:
        with ZipFile(path) as archive:
            for name in sorted(archive.namelist()):
                part, label, *_ = [*Path(name).parts, "", ""]
                if part in images and name.endswith(".jpg"):
                    with archive.open(name) as file, Image.open(file) as image:
                        images[part].append(np.asarray(image.convert("RGB")))
                    labels[part].append(label)
        X_train, X_test = (np.stack(images[part]) for part in ("train", "test"))
    except (OSError, BadZipFile, ValueError, zlib.error) as error:
        raise ValueError(
            f"{str(path)!r} cannot be read as images train/CLASS/NNNN.jpg and test/CLASS/NNNN.jpg: "
            f"{error}"
        ) from error
    return X_train, X_test, np.array(labels["train"]), np.array(labels["test"])


@validate_params(
    {
        "folder": [str, os.PathLike],
        "image_size": [Interval(Integral, 1, None, closed="left"), None],
        "on_error": [StrOptions({"raise", "skip"})],
        "verbose": ["verbose"],
    },
    prefer_skip_nested_validation=True,
)
def load_image_folder(folder, *, image_size=None, on_error="raise", verbose=0):
    """Load a folder of class folders.

    Parameters
    ----------
    folder : str or path-like
        With a folder for each class, which holds its images: PNG, JPEG, BMP, GIF, TIFF or WebP.
        Links are followed; hidden files and folders and other files are passed over.

    image_size : int, default=None
        Cut the middle square out of each image and resize it to this many pixels a side. None
        takes images as they are; they must have one size.

    on_error : {"raise", "skip"}, default="raise"
        What an image that cannot be read leads to: an error, or that it is left out, with a warning
        that counts and names such files. A class must keep one image at least.

    verbose : int, default=0
        Whether a progress bar is shown, where the output is a terminal.

    Returns
    -------
    X : ndarray of shape (n_samples, height, width) or (n_samples, height, width, 3), dtype uint8
        Grey if all images are, otherwise colour. Orientations that cameras noted are applied,
        transparency is dropped, 16 bits keep the upper 8, and of several frames or pages it is the
        first.

    y : ndarray of shape (n_samples,), dtype str
        Names of the class folders.

    Raises
    ------
    ValueError
        If the folder is not there, holds no class folders or no images, if an image cannot be
        read, or if sizes differ; if a link leads nowhere, or to a folder that it lies in.

    OSError
        If a folder may not be listed.

    Warns
    -----
    UserWarning
        If images are left out, or all are nearly black.

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> from PIL import Image
    >>> from skdistill.datasets import load_image_folder
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     for label in ("cat", "dog"):
    ...         (Path(folder) / label).mkdir()
    ...         Image.new("L", (8, 8), "white").save(Path(folder) / label / "1.png")
    ...     X, y = load_image_folder(folder)
    >>> X.shape, y.tolist()
    ((2, 8, 8), ['cat', 'dog'])
    """
    found, empty = _find_classes(folder)
    name, folder = f"folder={str(folder)!r}", Path(folder)
    paths = [path for paths in found.values() for path in paths]
    images, errors = _read_images(folder, paths, image_size, on_error, verbose)
    labels = [path.relative_to(folder).parts[0] for path in images]
    if errors:
        listed = "\n".join(errors)
        lost = sorted(found.keys() - {*empty, *labels})
        if lost:
            raise ValueError(
                f"{name} has no image that can be read in {', '.join(map(repr, lost))}:\n{listed}"
            )
        warnings.warn(
            f"{len(errors)} of the {len(paths)} images of {name} are left out:\n{listed}",
            UserWarning,
            stacklevel=3,
        )
    mode = "L" if all(image.mode == "L" for image in images.values()) else "RGB"
    X = np.stack([np.asarray(image.convert(mode)) for image in images.values()])
    if X.max() < NEARLY_BLACK:
        warnings.warn(
            f"The brightest value of {name} is {X.max()} of 255, nearly black. If that is the "
            "images' white, give value_range; of 16 bits a channel the upper 8 are kept, and "
            "transparency is dropped, so scale or flatten such images beforehand.",
            UserWarning,
            stacklevel=3,
        )
    return X, np.array(labels)


@validate_params({"folder": [str, os.PathLike]}, prefer_skip_nested_validation=True)
def list_image_folder(folder):
    """List a folder of class folders, for `fit` to read the images from as it goes.

    Parameters
    ----------
    folder : str or path-like
        With a folder for each class, as for :func:`load_image_folder`.

    Returns
    -------
    paths : ndarray of shape (n_samples,), dtype object
        Paths of the images, as str. No image has been opened.

    y : ndarray of shape (n_samples,), dtype str
        Names of the class folders.

    Raises
    ------
    ValueError
        If the folder is not there, holds no class folders or no images, or if a link leads
        nowhere, or to a folder that it lies in.

    OSError
        If a folder may not be listed.

    See Also
    --------
    load_image_folder : The images themselves, in memory.

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> from PIL import Image
    >>> from skdistill.datasets import list_image_folder
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     for label in ("cat", "dog"):
    ...         (Path(folder) / label).mkdir()
    ...         Image.new("L", (8, 8)).save(Path(folder) / label / "1.png")
    ...     paths, y = list_image_folder(folder)
    >>> [Path(path).name for path in paths], y.tolist()
    (['1.png', '1.png'], ['cat', 'dog'])
    """
    found, _ = _find_classes(folder)
    paths = [str(path) for paths in found.values() for path in paths]
    return np.array(paths, dtype=object), np.repeat(list(found), [len(p) for p in found.values()])


# What comes with a test part, by the names that commands, protocols and benchmarks know it by.
SPLITS = {
    "digits": load_digits_split,
    "fashion-mnist": load_fashion_mnist,
    "cifar10": load_cifar10,
}


def _find_classes(folder):
    """Return paths by class, and the names of class folders without any, of which it warns."""
    name, folder = f"folder={str(folder)!r}", Path(folder)
    if not folder.is_dir():
        raise ValueError(f"{name} is {'no folder' if folder.exists() else 'not there'}.")
    found = find_images(folder)
    if not any(found.values()):
        raise ValueError(
            f"{name} holds no images in class folders; it must look like FOLDER/CLASS/IMAGE.png, "
            f"and images must end in {', '.join(IMAGE_SUFFIXES)}."
        )
    empty = [label for label, paths in found.items() if not paths]
    if empty:
        warnings.warn(
            f"{name} has class folders without images, which are left out: "
            f"{', '.join(map(repr, empty))}.",
            UserWarning,
            stacklevel=4,
        )
    return found, empty


def load_npz(path):
    """Load samples and labels from an .npz file.

    Parameters
    ----------
    path : str or path-like
        A file with the arrays "X" and "y", as ``numpy.savez(path, X=X, y=y)`` writes it.

    Returns
    -------
    X : ndarray of shape (n_samples, ...)
        Samples.

    y : ndarray of shape (n_samples,)
        Labels; a column of them is flattened.

    Raises
    ------
    ValueError
        If the file is not there, cannot be read without unpickling, lacks an array, has not as
        many labels as samples, no sample at all, or samples that are not of real numbers.

    Examples
    --------
    >>> import tempfile
    >>> import numpy as np
    >>> from skdistill.datasets import load_npz
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     np.savez(folder + "/data.npz", X=np.eye(2), y=[0, 1])
    ...     X, y = load_npz(folder + "/data.npz")
    >>> y
    array([0, 1])
    """
    if Path(path).is_file() and not is_zipfile(path):
        raise ValueError(f"path={str(path)!r} cannot be read as an .npz file: it is no archive.")
    try:
        with np.load(path, allow_pickle=False) as arrays:
            X, y = arrays["X"], arrays["y"]
    # A broken archive raises whatever its bytes lead to.
    except Exception as error:
        raise ValueError(
            f"path={str(path)!r} cannot be read as an .npz file with arrays 'X' and 'y' of plain "
            f"numbers or strings: {str(error) or repr(error)}"
        ) from error
    if y.shape[1:] == (1,):
        # As Keras' data sets have it.
        y = y[:, 0]
    if X.ndim < 2 or len(X) == 0 or X.shape[:1] != y.shape:
        raise ValueError(
            f"path={str(path)!r} has X of shape {X.shape} and y of shape {y.shape}; they must have "
            "a row for each sample, of which there must be one at least, and X values in each row."
        )
    if X.dtype.kind not in "biuf":
        raise ValueError(
            f"path={str(path)!r} has X of dtype {X.dtype}; it must be of real numbers."
        )
    return X, y


def _data_folder():
    """Return the folder of data sets that are on disk, or None where none is named."""
    folder = os.environ.get("SKDISTILL_DATA")
    # Empty is what shells leave of a variable that is not set.
    return Path(folder) if folder else None


def _fetch(name):
    """Return images as rows, and labels, from OpenML or from where they were kept before."""
    try:
        return fetch_openml(name, version=1, return_X_y=True, as_frame=False)
    except OSError as error:
        raise OSError(
            f"{name} could not be downloaded from OpenML: {error}. Where there is no network, set "
            "the environment variable SKDISTILL_DATA to a folder that has its files."
        ) from error


def _read_idx(path):
    """Read an array of bytes in the idx format of MNIST."""
    try:
        with gzip.open(path) as file:
            content = file.read()
        n_axes = content[3]
        shape = np.frombuffer(content, ">u4", n_axes, offset=4)
        pixels = np.frombuffer(content, np.uint8, offset=4 + 4 * n_axes)
        return pixels.reshape(shape).copy()
    except (OSError, EOFError, IndexError, ValueError, zlib.error) as error:
        raise ValueError(f"{str(path)!r} cannot be read as a gzipped idx file: {error}") from error


def _read_images(folder, paths, image_size, on_error, verbose):
    """Return images of one size by their paths, and the errors of those that are left out."""
    images, errors = {}, []
    for path in progress_bar(paths, description="loading", verbose=verbose):
        try:
            image = read_image(path, image_size)
        except ValueError as error:
            if on_error == "raise":
                raise ValueError(f"{error} on_error='skip' leaves such images out.") from error
            errors.append(str(error))
            continue
        first = next(iter(images), path)
        images[path] = image
        if image.size != images[first].size:
            shown = [
                f"{str(p.relative_to(folder))!r} has {images[p].height} x {images[p].width} pixels"
                for p in (first, path)
            ]
            raise ValueError(
                f"The images of folder={str(folder)!r} differ in size: {', '.join(shown)}; give "
                "image_size to have all of them cut and resized."
            )
    return images, errors
