"""What all figures do with the rows of two sets."""

from numbers import Integral

import numpy as np
from sklearn.utils import check_array, gen_batches
from sklearn.utils._chunking import get_chunk_n_rows
from sklearn.utils._param_validation import Interval
from sklearn.utils.random import sample_without_replacement

__all__ = ["SAMPLING_CONSTRAINTS", "batches", "check_rows", "check_sets", "mean_of", "pick"]

SAMPLING_CONSTRAINTS = {
    "max_samples": [Interval(Integral, 2, None, closed="left")],
    "random_state": ["random_state"],
}


def check_rows(rows, name, min_rows=1):
    """Check the rows of one set.

    Parameters
    ----------
    rows : array-like of shape (n_rows, ...)
        Finite numbers.

    name : str
        What errors call them.

    min_rows : int, default=1
        How many there have to be.

    Returns
    -------
    rows : ndarray of shape (n_rows, n_features)
        Flattened, in their own dtype.

    Raises
    ------
    ValueError
        If they are too few or not finite.
    """
    rows = check_array(rows, allow_nd=True, input_name=name, ensure_min_samples=min_rows)
    return rows.reshape(len(rows), -1)


def check_sets(real, synthetic, min_real=1):
    """Check two sets that are to be compared.

    Parameters
    ----------
    real : array-like of shape (n_real, ...)
        The real set.

    synthetic : array-like of shape (n_synthetic, ...)
        The synthetic set.

    min_real : int, default=1
        How many real rows there have to be.

    Returns
    -------
    real : ndarray of shape (n_real, n_features)
        Flattened.

    synthetic : ndarray of shape (n_synthetic, n_features)
        Flattened.

    Raises
    ------
    ValueError
        If a set is too small, holds what is not finite, or differs from the other in features.
    """
    real = check_rows(real, "real", min_real)
    synthetic = check_rows(synthetic, "synthetic")
    if real.shape[1] != synthetic.shape[1]:
        raise ValueError(
            f"synthetic has {synthetic.shape[1]} features a row and real has {real.shape[1]}; they "
            "must have the same number."
        )
    return real, synthetic


def mean_of(rows):
    """Return the mean of rows of any dtype.

    Parameters
    ----------
    rows : ndarray of shape (n_rows, n_features)
        At least one.

    Returns
    -------
    mean : ndarray of shape (n_features,)
        In float64.
    """
    return rows.mean(axis=0, dtype=np.float64)


def batches(rows, origin, n_columns):
    """Go through a set in float64, as many rows at a time as fit scikit-learn's working memory.

    Parameters
    ----------
    rows : ndarray of shape (n_rows, n_features)
        The set.

    origin : ndarray of shape (n_features,) or float
        What to subtract, so that rows far from zero keep their digits.

    n_columns : int
        Numbers that a row takes in memory.

    Yields
    ------
    start : int
        The place of the batch's first row.

    batch : ndarray of shape (n, n_features)
        Rows less `origin`.
    """
    n_rows = get_chunk_n_rows(8 * n_columns, max_n_rows=len(rows))
    for batch in gen_batches(len(rows), n_rows):
        yield batch.start, np.subtract(rows[batch], origin, dtype=np.float64)


def pick(n_rows, max_samples, random_state):
    """Draw rows, or take all where there are few.

    Parameters
    ----------
    n_rows : int
        How many there are.

    max_samples : int
        How many to draw at most.

    random_state : int, RandomState instance or None
        Seeds the draw.

    Returns
    -------
    indices : ndarray of shape (min(n_rows, max_samples),)
        Which they are, none of them twice.
    """
    if n_rows <= max_samples:
        return np.arange(n_rows)
    return sample_without_replacement(n_rows, max_samples, random_state=random_state)
