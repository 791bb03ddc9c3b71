"""Balls about the real rows, as large as their neighbourhoods, and the synthetic rows in them."""

import math
from numbers import Integral

import numpy as np
from sklearn.metrics import pairwise_distances_chunked
from sklearn.utils._param_validation import Interval, validate_params

from skdistill.metrics.neighbors import distances_to, nearest_others
from skdistill.metrics.sets import SAMPLING_CONSTRAINTS, check_sets, mean_of, pick

__all__ = ["coverage", "coverage_and_density", "density"]

# Rows on the surface of a ball are outside; rounding must not let them in.
SURFACE_SLACK = 1e-9

BALL_CONSTRAINTS = {
    "n_neighbors": [Interval(Integral, 1, None, closed="left")],
    **SAMPLING_CONSTRAINTS,
}


@validate_params(BALL_CONSTRAINTS, prefer_skip_nested_validation=True)
def coverage(real, synthetic, *, n_neighbors=5, max_samples=1000, random_state=None):
    r"""Share of the real rows in whose neighbourhood there is a synthetic row.

    .. math::
        \frac{1}{n_r} \sum_i 1[\exists j: |x_i - y_j| < r_i]

    with the real rows :math:`x`, the synthetic rows :math:`y`, and :math:`r_i` the distance of
    :math:`x_i` to its `n_neighbors`-th nearest other real row.

    Parameters
    ----------
    real : array-like of shape (n_real, ...)
        The real set.

    synthetic : array-like of shape (n_synthetic, ...)
        The synthetic set.

    n_neighbors : int, default=5
        Sets the size of the neighbourhoods.

    max_samples : int, default=1000
        Where there are more real rows, the share is that among this many of them, drawn at random.
        Their neighbourhoods are measured against all real rows, so that it is unbiased.

    random_state : int, RandomState instance or None, default=None
        Seeds the draw.

    Returns
    -------
    coverage : float
        From 0 to 1, which it is for identical sets without duplicates; nan where `real` has no more
        than `n_neighbors` rows.

    Raises
    ------
    ValueError
        If a set is empty, holds what is not finite, differs from the other in features, or if a
        parameter is out of its range.

    See Also
    --------
    density : How many of the neighbourhoods a synthetic row is in.

    Notes
    -----
    A few synthetic rows cannot be in the neighbourhoods of many: compare sets of one size.

    References
    ----------
    M. F. Naeem et al., "Reliable Fidelity and Diversity Metrics for Generative Models", ICML 2020.

    Examples
    --------
    >>> from skdistill.metrics import coverage
    >>> coverage([[0], [1], [2], [10]], [[0.5]], n_neighbors=1)
    0.5
    """
    return coverage_and_density(real, synthetic, n_neighbors, max_samples, random_state)[0]


@validate_params(BALL_CONSTRAINTS, prefer_skip_nested_validation=True)
def density(real, synthetic, *, n_neighbors=5, max_samples=1000, random_state=None):
    r"""How many real neighbourhoods a synthetic row is in, as a multiple of what is expected.

    .. math::
        \frac{1}{k n_s} \sum_{i, j} 1[|x_i - y_j| < r_i]

    with the real rows :math:`x`, the synthetic rows :math:`y`, and :math:`r_i` the distance of
    :math:`x_i` to its k-th nearest other real row, k being `n_neighbors`.

    Parameters
    ----------
    real : array-like of shape (n_real, ...)
        The real set.

    synthetic : array-like of shape (n_synthetic, ...)
        The synthetic set.

    n_neighbors : int, default=5
        Sets the size of the neighbourhoods.

    max_samples : int, default=1000
        Where there are more real rows, the neighbourhoods of this many of them, drawn at random,
        stand for all. They are measured against all real rows, so that it is unbiased.

    random_state : int, RandomState instance or None, default=None
        Seeds the draw.

    Returns
    -------
    density : float
        0 where all synthetic rows are far from the real ones, 1 for identical sets without equal
        distances, on average about 1 for independent draws, more where synthetic rows are amid many
        real ones; nan where `real` has no more than `n_neighbors` rows.

    Raises
    ------
    ValueError
        If a set is empty, holds what is not finite, differs from the other in features, or if a
        parameter is out of its range.

    See Also
    --------
    coverage : How many of the neighbourhoods have a synthetic row.

    References
    ----------
    M. F. Naeem et al., "Reliable Fidelity and Diversity Metrics for Generative Models", ICML 2020.

    Examples
    --------
    >>> from skdistill.metrics import density
    >>> density([[0], [1], [2], [10]], [[0.5]], n_neighbors=1)
    2.0
    """
    return coverage_and_density(real, synthetic, n_neighbors, max_samples, random_state)[1]


def coverage_and_density(real, synthetic, n_neighbors, max_samples, random_state):
    """Return both figures, which look at the same balls.

    Parameters
    ----------
    real : array-like of shape (n_real, ...)
        The real set.

    synthetic : array-like of shape (n_synthetic, ...)
        The synthetic set.

    n_neighbors, max_samples, random_state
        As in :func:`coverage`.

    Returns
    -------
    coverage : float
        As :func:`coverage` gives it.

    density : float
        As :func:`density` gives it.

    Raises
    ------
    ValueError
        If a set is empty, holds what is not finite, or differs from the other in features.
    """
    real, synthetic = check_sets(real, synthetic)
    if len(real) <= n_neighbors:
        return math.nan, math.nan
    origin = mean_of(real)
    chosen = pick(len(real), max_samples, random_state)
    farthest = nearest_others(real, origin, chosen, n_neighbors)[:, -1]
    centers = real[chosen] - origin
    squared_radii = (distances_to(centers, real, origin, farthest) * (1.0 - SURFACE_SLACK)) ** 2

    def count(squared_distances, start):
        inside = squared_distances < squared_radii[start : start + len(squared_distances), None]
        return inside.sum(axis=1)

    # SciPy's "sqeuclidean" subtracts rows, so that it keeps the digits that the slack presumes.
    chunks = pairwise_distances_chunked(
        centers, synthetic - origin, metric="sqeuclidean", reduce_func=count
    )
    counts = np.concatenate(list(chunks))
    multiple = counts.mean() * len(real) / n_neighbors / len(synthetic)
    return float(np.mean(counts > 0)), float(multiple)
