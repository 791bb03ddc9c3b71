"""Between the caller's images and what networks see: floats in [-1, 1], channels first."""

import numbers
from dataclasses import dataclass

import numpy as np
import torch
from sklearn.utils import gen_batches

__all__ = [
    "DataFormat",
    "check_image_shape",
    "check_value_range",
    "from_networks",
    "infer_format",
    "infer_value_range",
    "to_networks",
]

ROWS_AT_ONCE = 1024


def infer_value_range(X):
    """Guess which values stand for black and white.

    Parameters
    ----------
    X : ndarray of shape (n_samples, ...)
        Images of any integer or floating dtype.

    Returns
    -------
    value_range : tuple of float
        The range of the dtype for bytes and unsigned integers of 16 bits, in which images are
        stored; (0, 1) for floats and booleans that lie within it; otherwise the smallest and the
        largest value of `X`.

    Raises
    ------
    ValueError
        If these are so far apart that their difference is infinite.

    Examples
    --------
    >>> import numpy as np
    >>> from skdistill.pixels import infer_value_range
    >>> infer_value_range(np.zeros((2, 8, 8), dtype=np.uint8))
    (0.0, 255.0)
    >>> infer_value_range(np.array([[[0.0, 16.0]]]))
    (0.0, 16.0)
    """
    if X.dtype in (np.uint8, np.uint16):
        return 0.0, float(np.iinfo(X.dtype).max)
    low, high = float(X.min()), float(X.max())
    if X.dtype.kind in "iu":
        low, high = min(low, _highest(X.dtype)), min(high, _highest(X.dtype))
    if low >= 0.0 and high <= 1.0 and X.dtype.kind in "fb":
        return 0.0, 1.0
    if low == high:
        # One is nothing beside a very large value.
        return low, low + max(1.0, abs(low) / 1024)
    if not np.isfinite(high - low):
        raise ValueError(
            f"X has values from {low} to {high}, too far apart for arithmetic; divide it by a "
            "constant."
        )
    return low, high


def check_value_range(value_range):
    """Return a value range as two floats.

    Parameters
    ----------
    value_range : tuple of float
        (low, high).

    Returns
    -------
    value_range : tuple of float
        The same.

    Raises
    ------
    ValueError
        If it is not two finite numbers, the first below the second.
    """
    try:
        low, high = value_range
        valid = all(isinstance(v, numbers.Real) and np.isfinite(v) for v in (low, high))
    except (TypeError, ValueError):
        valid = False
    if not valid or low >= high:
        raise ValueError(f"value_range must be (low, high) with low < high, got {value_range!r}.")
    return float(low), float(high)


def to_networks(X, value_range, dtype=np.float32):
    """Scale images to [-1, 1] and put the channels first.

    Parameters
    ----------
    X : ndarray of shape (n_samples, height, width) or (n_samples, height, width, channels)
        Images.

    value_range : tuple of float
        The values of `X` that stand for black and white.

    dtype : floating dtype, default=float32
        Of the result.

    Returns
    -------
    x : ndarray of shape (n_samples, channels, height, width) and dtype `dtype`
        Values outside `value_range` are clipped to it.
    """
    low, high = value_range
    # Beside a large `low`, less precision would make all values one.
    x = np.asarray(X, dtype=np.result_type(X, dtype))
    # Of a very small range, the reciprocal would be infinite.
    x = (x - low) / ((high - low) / 2.0) - 1.0
    x = x[:, None] if x.ndim == 3 else np.moveaxis(x, -1, 1)
    return np.ascontiguousarray(np.clip(x, -1.0, 1.0), dtype=dtype)


def from_networks(x, value_range, *, shape, dtype):
    """Undo :func:`to_networks`: the inverse scaling, clipped, rounded where `dtype` is an integer.

    Parameters
    ----------
    x : ndarray of shape (n_samples, channels, height, width)
        Images in [-1, 1].

    value_range : tuple of float
        The values that stand for black and white in the result.

    shape : tuple of int
        Shape of one image: (height, width) or (height, width, channels).

    dtype : dtype
        The dtype of the result.

    Returns
    -------
    X : ndarray of shape (n_samples, *shape) and dtype `dtype`
        Images in the caller's own terms.
    """
    low, high = value_range
    x = (np.clip(x, -1.0, 1.0).astype(np.float64) + 1.0) * ((high - low) / 2.0) + low
    # Rounding may lead out of the range, by units where values are large.
    x = np.moveaxis(np.clip(x, low, high), 1, -1).reshape(len(x), *shape)
    return _rounded(x, dtype)


def _rounded(x, dtype):
    """Cast to `dtype`, to the nearest value where it holds no fractions."""
    dtype = np.dtype(dtype)
    if dtype.kind in "iu":
        x = np.clip(np.rint(x), np.iinfo(dtype).min, _highest(dtype))
    return (np.rint(x) if dtype.kind == "b" else x).astype(dtype)


def _highest(dtype):
    """Return the largest number of an integer dtype that a float64 can be."""
    largest = np.iinfo(dtype).max
    # The largest integers of 64 bits are rounded up beyond themselves.
    return float(largest) if int(float(largest)) <= largest else float(np.nextafter(largest, 0))


def infer_format(
    rows,
    row_shape,
    *,
    image_shape=None,
    value_range=None,
    network_shape=None,
    network_range=None,
    resize=None,
):
    """Find out how rows go to a backbone and samples come back.

    Parameters
    ----------
    rows : ndarray of shape (n_samples, n_values)
        Flattened rows.

    row_shape : tuple of int
        Shape of one row as the caller gave it.

    image_shape : tuple of int, default=None
        Shape of an image where it comes as a flat row.

    value_range : tuple of float, default=None
        Values for black and white; None to infer them.

    network_shape : tuple of int, default=None
        (channels, height, width) that the backbone demands.

    network_range : tuple of float, default=None
        Values for black and white in the images that the backbone was trained on. Taken for those
        of `rows` where these lie within it and their own range is neither (0, 1) nor a byte's.

    resize : str, default=None
        How to get there, where sizes differ.

    Returns
    -------
    data_format : DataFormat
        The caller's own terms.

    Raises
    ------
    ValueError
        If `image_shape` does not fit the rows, or the images do not fit the backbone.
    """
    if image_shape is not None:
        image_shape = check_image_shape(image_shape)
        fits = len(row_shape) == 1 and np.prod(image_shape) == rows.shape[1]
        if len(image_shape) not in (2, 3) or not (fits or image_shape == row_shape):
            raise ValueError(
                f"image_shape={image_shape} must be (height, width) or (height, width, channels) "
                f"of a row of X, which has the shape {row_shape}."
            )
    elif len(row_shape) > 1:
        image_shape = row_shape
    if value_range is not None:
        value_range = check_value_range(value_range)
    elif image_shape is None:
        value_range = rows.min(axis=0), rows.max(axis=0)
    else:
        value_range = infer_value_range(rows)
        if network_range is not None and value_range not in ((0.0, 1.0), (0.0, 255.0)):
            low, high = network_range
            # A few rows need not hold the darkest and the brightest value that there are.
            if low <= value_range[0] and value_range[1] <= high:
                value_range = float(low), float(high)
    whole = image_shape is not None and _are_whole(rows, value_range)
    data_format = DataFormat(
        row_shape, image_shape, rows.dtype, value_range, network_shape, resize, whole
    )
    if network_shape is not None:
        _check_fits(data_format)
    return data_format


def check_image_shape(image_shape):
    """Return the shape of an image as a tuple of int.

    Parameters
    ----------
    image_shape : sequence of int
        (height, width) or (height, width, channels).

    Returns
    -------
    image_shape : tuple of int
        The same.

    Raises
    ------
    ValueError
        If it is not positive integers.
    """
    shape = np.asarray(image_shape)
    if shape.ndim != 1 or shape.dtype.kind not in "iu" or (shape < 1).any():
        raise ValueError(
            f"image_shape={image_shape!r} must be (height, width) or (height, width, channels), "
            "positive integers."
        )
    return tuple(shape.tolist())


def _are_whole(rows, value_range):
    """Whether images of a floating dtype hold whole numbers only."""
    if rows.dtype.kind != "f" or not all(float(bound).is_integer() for bound in value_range):
        return False
    batches = (rows[batch] for batch in gen_batches(len(rows), ROWS_AT_ONCE))
    return all(np.array_equal(batch, np.rint(batch)) for batch in batches)


def _check_fits(data_format):
    """Raise ValueError if the images cannot be brought to the backbone's shape."""
    channels, height, width = data_format.network_shape
    wanted = f"{height} x {width} pixels and {channels} channel(s)"
    if data_format.image_shape is None:
        raise ValueError(
            f"The backbone takes images of {wanted}, but X is a table of "
            f"{data_format.row_shape[0]} features; give image_shape=(height, width) if its rows "
            "are flattened images, or backbone='closed-form'."
        )
    own_channels, own_height, own_width = data_format.channels_first
    found = f"{own_height} x {own_width} pixels and {own_channels} channel(s)"
    if own_channels not in (1, channels):
        remedy = "make them grey beforehand" if channels == 1 else "bring them to that beforehand"
        if own_height <= 4 < own_channels:
            remedy = "if their channels come first, np.moveaxis(X, 1, -1) puts them last"
        raise ValueError(
            f"The backbone takes images of {wanted}, but those of X have {found}; {remedy}."
        )
    if data_format.resize is None and data_format.channels_first != data_format.network_shape:
        raise ValueError(
            f"The backbone takes images of {wanted}, but those of X have {found}; give "
            "resize='bilinear' to have them converted on the way in and back on the way out."
        )


@dataclass(frozen=True)
class DataFormat:
    """The caller's own terms: how rows go to a backbone and samples come back.

    Parameters
    ----------
    row_shape : tuple of int
        Shape of one row as the caller gives it.

    image_shape : tuple of int or None
        (height, width) or (height, width, channels) of an image, None for a row of a table.

    dtype : dtype
        Of the caller's array.

    value_range : tuple
        Lowest and highest value of results: floats for images, whose range it maps to [-1, 1];
        floats or ndarrays of shape (n_features,) for tables.

    network_shape : tuple of int or None
        (channels, height, width) that the backbone wants, None where it takes what comes.

    resize : {"bilinear", "bicubic", "nearest"} or None
        How images get to `network_shape` and back.

    whole : bool
        Whether images of a floating dtype are rounded to whole numbers, as those of an integer
        dtype are.
    """

    row_shape: tuple
    image_shape: tuple | None
    dtype: np.dtype
    value_range: tuple
    network_shape: tuple | None = None
    resize: str | None = None
    whole: bool = False

    @property
    def channels_first(self):
        """Shape of an image with its channels first."""
        height, width = self.image_shape[:2]
        return (*(self.image_shape[2:] or (1,)), height, width)

    def to_backbone(self, X):
        """Turn the caller's rows into what a backbone encodes.

        Parameters
        ----------
        X : ndarray of shape (n_samples, n_values)
            Flattened rows.

        Returns
        -------
        x : ndarray of shape (n_samples, n_features) or (n_samples, channels, height, width)
            A table as it is, or images in [-1, 1]. Floats of 64 bits or more and tables of integers
            in float64, unless a network sets the shape; float32 otherwise.
        """
        exact = self.dtype.kind == "f" and self.dtype.itemsize >= 8
        exact |= self.image_shape is None and self.dtype.kind in "iub"
        dtype = np.float64 if exact and self.network_shape is None else np.float32
        if self.image_shape is None:
            return X.astype(dtype)
        x = to_networks(X.reshape(-1, *self.image_shape), self.value_range, dtype)
        if self.network_shape is None or self.network_shape == self.channels_first:
            return x
        if x.shape[1] < self.network_shape[0]:
            x = np.repeat(x, self.network_shape[0], axis=1)
        return _resized(x, self.network_shape[1:], self.resize)

    def from_backbone(self, x):
        """Undo :meth:`to_backbone`, clipped to the value range, in the caller's shape and dtype.

        Parameters
        ----------
        x : ndarray of shape (n_samples, n_features) or (n_samples, channels, height, width)
            What a backbone decoded.

        Returns
        -------
        X : ndarray of shape (n_samples, *row_shape)
            Rows in the caller's own terms.
        """
        if self.image_shape is None:
            X = _rounded(np.clip(x, *self.value_range), self.dtype)
            # float64 rounds large integers, the ends of their range among them.
            exact = X.dtype.kind in "iu" and np.result_type(*self.value_range) == X.dtype
            return np.clip(X, *self.value_range) if exact else X
        if x.shape[1:] != self.channels_first:
            x = _resized(x, self.channels_first[1:], self.resize)
            if x.shape[1] > self.channels_first[0]:
                x = x.mean(axis=1, keepdims=True)
        X = from_networks(x, self.value_range, shape=self.image_shape, dtype=self.dtype)
        if self.whole:
            # What a decoder leaves of a pixel that is 0 in all real images is many standard
            # deviations to whoever scales pixels by theirs.
            X = np.rint(X)
        return X.reshape(len(X), *self.row_shape)

    def to_uint8(self, X):
        """Scale images to bytes for files and pictures.

        Parameters
        ----------
        X : ndarray of shape (n_samples, *row_shape)
            Images in the caller's own terms.

        Returns
        -------
        pixels : ndarray of shape (n_samples, *image_shape), dtype uint8
            0 is the low end of the value range, 255 the high end.
        """
        x = to_networks(X.reshape(-1, *self.image_shape), self.value_range)
        return from_networks(x, (0.0, 255.0), shape=self.image_shape, dtype=np.uint8)


def _resized(x, size, mode):
    """Resize images of shape (n_samples, channels, height, width), antialiased on the way down."""
    smooth = mode in ("bilinear", "bicubic")
    options = {"antialias": True, "align_corners": False} if smooth else {}
    resized = torch.nn.functional.interpolate(torch.from_numpy(x), size, mode=mode, **options)
    return resized.clamp(-1.0, 1.0).numpy()
