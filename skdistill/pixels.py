"""Between the caller's images and what networks see: floats in [-1, 1], channels first."""

import numbers

import numpy as np

__all__ = ["from_networks", "infer_value_range", "to_networks"]


def infer_value_range(X):
    """Guess which values stand for black and white.

    Parameters
    ----------
    X : ndarray of shape (n_samples, ...)
        Images of any integer or floating dtype.

    Returns
    -------
    value_range : tuple of float
        The range of the dtype for integers, (0, 1) for floats that lie within it, otherwise the
        smallest and the largest value of `X`.

    Examples
    --------
    >>> import numpy as np
    >>> from skdistill.pixels import infer_value_range
    >>> infer_value_range(np.zeros((2, 8, 8), dtype=np.uint8))
    (0.0, 255.0)
    >>> infer_value_range(np.array([[[0.0, 16.0]]]))
    (0.0, 16.0)
    """
    if np.issubdtype(X.dtype, np.integer):
        info = np.iinfo(X.dtype)
        return float(info.min), float(info.max)
    low, high = float(X.min()), float(X.max())
    if low >= 0.0 and high <= 1.0:
        return 0.0, 1.0
    if low == high:
        return low, low + 1.0
    return low, high


def check_value_range(value_range):
    """Return `value_range` as two floats, or raise ValueError if it is not (low, high)."""
    try:
        low, high = value_range
        valid = all(isinstance(v, numbers.Real) and np.isfinite(v) for v in (low, high))
    except (TypeError, ValueError):
        valid = False
    if not valid or low >= high:
        raise ValueError(f"value_range must be (low, high) with low < high, got {value_range!r}.")
    return float(low), float(high)


def to_networks(X, value_range):
    """Scale images to [-1, 1] and put the channels first.

    Parameters
    ----------
    X : ndarray of shape (n_samples, height, width) or (n_samples, height, width, channels)
        Images.

    value_range : tuple of float
        The values of `X` that stand for black and white.

    Returns
    -------
    x : ndarray of shape (n_samples, channels, height, width), dtype float32
        Values outside `value_range` are clipped to it.
    """
    low, high = value_range
    x = (np.asarray(X, dtype=np.float32) - low) * (2.0 / (high - low)) - 1.0
    x = x[:, None] if x.ndim == 3 else np.moveaxis(x, -1, 1)
    return np.ascontiguousarray(np.clip(x, -1.0, 1.0))


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
    x = np.moveaxis(x, 1, -1).reshape(len(x), *shape)
    if np.issubdtype(dtype, np.integer):
        x = np.rint(x)
    return x.astype(dtype)
