"""Rows that stay on disk: memory-mapped arrays and image files, read a batch at a time.

Both have ``shape`` (n_samples, n_values) and ``dtype``, give flattened rows by ``rows[index]`` and
a smaller object of their kind by ``rows.part(places)``. What other processes get of them is where
the rows are, not what is in them.
"""

import hashlib
import math
import os
from itertools import chain

import joblib
import numpy as np
from joblib import Parallel, delayed
from sklearn.utils import assert_all_finite, gen_batches

from skdistill.folders import read_image, survey_image

__all__ = ["BackboneRows", "ImageFiles", "MappedRows", "are_paths", "check_finite", "hash_rows"]

BYTES_AT_ONCE = 2**25
FILES_AT_ONCE = 256


def are_paths(X):
    """Return whether `X` is a one-dimensional array of paths.

    Parameters
    ----------
    X : object
        What `fit` was given.

    Returns
    -------
    are_paths : bool
        True for strings and path-like objects, one at least.

    Examples
    --------
    >>> import numpy as np
    >>> from skdistill.rows import are_paths
    >>> are_paths(np.array(["cat/1.png", "dog/1.png"])), are_paths(np.array([1.0, 2.0]))
    (True, False)
    """
    if getattr(X, "ndim", None) != 1 or len(X) == 0:
        return False
    return all(isinstance(path, (str, os.PathLike)) for path in np.asarray(X, dtype=object))


def batches(rows):
    """Yield slices of as many rows as are read at once, one after the other."""
    row_bytes = max(1, math.prod(rows.shape[1:]) * rows.dtype.itemsize)
    yield from gen_batches(len(rows), max(1, BYTES_AT_ONCE // row_bytes))


def check_finite(rows, estimator):
    """Raise ValueError if rows hold NaN or infinity.

    Parameters
    ----------
    rows : ndarray or MappedRows of shape (n_samples, n_values)
        Rows of any numeric dtype. No mask of all of them is made.

    estimator : estimator
        What the error says that they were given to.
    """
    name = type(estimator).__name__
    for batch in batches(rows):
        assert_all_finite(rows[batch], estimator_name=name, input_name="X")


def hash_rows(rows):
    """Return a hash of rows, without holding a copy of them.

    Parameters
    ----------
    rows : ndarray, MappedRows or ImageFiles of shape (n_samples, n_values)
        Rows. Of image files, the files are hashed.

    Returns
    -------
    digest : str
        The same for the same numbers of the same dtype and shape.
    """
    if isinstance(rows, ImageFiles):
        return rows.digest
    digest = hashlib.sha256(repr((rows.shape, rows.dtype.str)).encode())
    for batch in batches(rows):
        digest.update(np.ascontiguousarray(rows[batch]).data)
    return digest.hexdigest()


class MappedRows:
    """Rows of an array file. The map is opened for each reading and closed after it.

    Pages of a map that stays open count as resident memory once they have been read.

    Parameters
    ----------
    filename : str
        The file.

    dtype : dtype
        Of the numbers in it.

    offset : int
        Where in the file the first row begins, in bytes.

    shape : tuple of int
        (n_samples, n_values) of what is there from `offset` on, in C order.

    places : ndarray of int, default=None
        The rows that are meant, all of them by default.
    """

    def __init__(self, filename, dtype, offset, shape, places=None):
        self.filename, self.dtype, self.offset = filename, dtype, offset
        self.mapped_shape, self.places = shape, places

    @classmethod
    def of(cls, X):
        """Return the rows of a memory map.

        Parameters
        ----------
        X : memmap of shape (n_samples, ...)
            A memory map or a part of one.

        Returns
        -------
        rows : MappedRows or ndarray
            `X` itself, flattened, where the file does not hold the same: if `X` is a copy-on-write
            map, not contiguous or of no named file.
        """
        shape = (len(X), math.prod(X.shape[1:]))
        whole = X
        while isinstance(whole.base, np.memmap):
            whole = whole.base
        if X.mode == "c" or X.filename is None or not X.flags.c_contiguous:
            return np.asarray(X).reshape(shape)
        # The offset of a part is noted as that of the whole.
        start = X.__array_interface__["data"][0] - whole.__array_interface__["data"][0]
        return cls(os.fspath(X.filename), X.dtype, whole.offset + start, shape)

    @property
    def shape(self):
        """Number of rows and of values in each."""
        n_rows = self.mapped_shape[0] if self.places is None else len(self.places)
        return n_rows, self.mapped_shape[1]

    def __len__(self):
        return self.shape[0]

    def __getitem__(self, index):
        rows = np.memmap(self.filename, self.dtype, "r", self.offset, self.mapped_shape)
        return np.array(rows[index if self.places is None else self.places[index]])

    def part(self, places):
        """Return some of the rows, still on disk; `places` is an ndarray of int."""
        places = places if self.places is None else self.places[places]
        return MappedRows(self.filename, self.dtype, self.offset, self.mapped_shape, places)

    def min(self, axis=None):
        """Return the smallest value, of each column with ``axis=0``."""
        return np.min([self[batch].min(axis=axis) for batch in batches(self)], axis=0)

    def max(self, axis=None):
        """Return the largest value, of each column with ``axis=0``."""
        return np.max([self[batch].max(axis=axis) for batch in batches(self)], axis=0)


class ImageFiles:
    """Images by their paths, decoded when they are asked for.

    Parameters
    ----------
    paths : ndarray of shape (n_samples,), dtype object
        Paths as str.

    image_shape : tuple of int
        (height, width) or (height, width, 3) of the images as they are given out.

    cut : bool
        Whether images of another size are cut in the middle to that aspect ratio and resized.

    digest : str
        Hash of the files.
    """

    dtype = np.dtype(np.uint8)

    def __init__(self, paths, image_shape, cut, digest):
        self.paths, self.image_shape, self.cut, self.digest = paths, image_shape, cut, digest

    @classmethod
    def survey(cls, paths, *, resize=None, image_shape=None, n_jobs=None):
        """Find out what is in files, without decoding them.

        Parameters
        ----------
        paths : array-like of shape (n_samples,)
            PNG, JPEG, BMP, GIF, TIFF or WebP files.

        resize : str, default=None
            None refuses files of different sizes.

        image_shape : tuple of int, default=None
            Shape that they must come to. None takes the size of the first file, and grey where all
            files are grey.

        n_jobs : int, default=None
            Number of processes, as in joblib.

        Returns
        -------
        files : ImageFiles
            With the shape of the first file, if sizes differ.

        Raises
        ------
        ValueError
            If a file is no such image, or sizes differ and `resize` is None.
        """
        paths = np.array([os.fspath(path) for path in paths], dtype=object)
        found = Parallel(n_jobs=n_jobs)(
            delayed(_survey)(paths[some].tolist())
            for some in gen_batches(len(paths), FILES_AT_ONCE)
        )
        sizes, greys, digests = zip(*chain.from_iterable(found), strict=True)
        digest = joblib.hash(digests)
        grey = all(greys)
        if image_shape is None:
            image_shape = sizes[0] if grey else (*sizes[0], 3)
        elif image_shape[2:] not in ((), (1,), (3,)):
            raise ValueError(
                f"X holds paths of images, which are read as grey or RGB, but fit saw images of "
                f"shape {image_shape}."
            )
        elif not grey and image_shape[2:] != (3,):
            colour = paths[greys.index(False)]
            raise ValueError(f"{colour!r} is in colour, but the images that fit saw are grey.")
        others = [i for i, size in enumerate(sizes) if size != tuple(image_shape[:2])]
        if others and resize is None:
            i = others[0]
            raise ValueError(
                f"The image files of X differ in size: {paths[i]!r} has {sizes[i][0]} x "
                f"{sizes[i][1]} pixels, not {image_shape[0]} x {image_shape[1]} as "
                f"{'the first one' if i else 'those that fit saw'}; give resize='bilinear' to have "
                "them cut to one aspect ratio and resized."
            )
        return cls(paths, tuple(image_shape), bool(others), digest)

    @property
    def shape(self):
        """Number of images and of values in each."""
        return len(self.paths), math.prod(self.image_shape)

    def __len__(self):
        return len(self.paths)

    def __getitem__(self, index):
        height, width = self.image_shape[:2]
        mode = "RGB" if self.image_shape[2:] == (3,) else "L"
        rows = np.empty((len(self.paths[index]), self.shape[1]), dtype=np.uint8)
        for row, path in zip(rows, self.paths[index], strict=True):
            image = read_image(path, (height, width) if self.cut else None)
            if (image.height, image.width) != (height, width):
                raise ValueError(
                    f"The image {path!r} has {image.height} x {image.width} pixels, but its header "
                    f"said {height} x {width}."
                )
            row[:] = np.asarray(image.convert(mode)).reshape(-1)
        return rows

    def part(self, places):
        """Return some of the images; `places` is an ndarray of int."""
        return ImageFiles(self.paths[places], self.image_shape, self.cut, None)

    def brought_to(self, size):
        """Return the images cut and resized to `size` where files differ in it, else as they are.

        `size` is (height, width), or None for that of the first file.
        """
        if not self.cut or size is None:
            return self
        return ImageFiles(self.paths, (*size, *self.image_shape[2:]), True, self.digest)


def _survey(paths):
    return [survey_image(path) for path in paths]


class BackboneRows:
    """Rows on disk as a backbone takes them, converted when they are asked for.

    Parameters
    ----------
    rows : MappedRows or ImageFiles
        The caller's rows.

    data_format : DataFormat
        How they go to the backbone.
    """

    def __init__(self, rows, data_format):
        self.rows, self.data_format = rows, data_format
        one = self[:1]
        self.shape, self.dtype = (len(rows), *one.shape[1:]), one.dtype

    def __len__(self):
        return len(self.rows)

    def __getitem__(self, index):
        return self.data_format.to_backbone(self.rows[index])

    def part(self, places):
        """Return some of the rows; `places` is an ndarray of int."""
        return BackboneRows(self.rows.part(places), self.data_format)
