"""Angles between rows: to the real ones, and among the synthetic ones."""

import math

import numpy as np
from sklearn.metrics import pairwise_distances_chunked
from sklearn.metrics.pairwise import cosine_similarity

from skdistill.metrics.sets import batches, check_rows, check_sets

__all__ = ["diversity", "representativeness"]


def representativeness(real, synthetic):
    r"""Best cosine similarity to a real row, of the synthetic row where it is worst.

    :math:`\min_j \max_i \cos(x_i, y_j)` for real rows x and synthetic rows y, of the values as they
    are. A row of zeros has similarity 0 to any other.

    Parameters
    ----------
    real : array-like of shape (n_real, ...)
        The real set.

    synthetic : array-like of shape (n_synthetic, ...)
        The synthetic set.

    Returns
    -------
    similarity : float
        From -1 to 1, which it is where each synthetic row is a multiple of a real one.

    Raises
    ------
    ValueError
        If a set is empty, holds what is not finite, or differs from the other in features.

    References
    ----------
    J. Gu et al., "Efficient Dataset Distillation via Minimax Diffusion", CVPR 2024.

    Examples
    --------
    >>> from skdistill.metrics import representativeness
    >>> representativeness([[1, 0], [0, 1]], [[0, 2], [4, 3]])
    0.8
    """
    real, synthetic = check_sets(real, synthetic)
    n_columns = real.shape[1] + len(synthetic)
    best = np.full(len(synthetic), -1.0)
    for _, batch in batches(real, 0.0, n_columns):
        best = np.maximum(best, cosine_similarity(batch, synthetic).max(axis=0))
    return float(min(best.min(), 1.0))


def diversity(synthetic):
    r"""One minus the largest cosine similarity between two rows of a set.

    :math:`1 - \max_{i \ne j} \cos(y_i, y_j)`, of the values as they are. A row of zeros has
    similarity 0 to any other.

    Parameters
    ----------
    synthetic : array-like of shape (n_synthetic, ...)
        The synthetic set.

    Returns
    -------
    diversity : float
        From 0, where a row is a multiple of another, to 2; nan for a single row.

    Raises
    ------
    ValueError
        If the set is empty or holds what is not finite.

    References
    ----------
    J. Gu et al., "Efficient Dataset Distillation via Minimax Diffusion", CVPR 2024.

    Examples
    --------
    >>> from skdistill.metrics import diversity
    >>> round(diversity([[1, 0], [0, 1], [4, 3]]), 12)
    0.2
    """
    synthetic = check_rows(synthetic, "synthetic")
    if len(synthetic) < 2:
        return math.nan

    def to_nearest_other(distances, start):
        own = np.arange(len(distances))
        distances[own, start + own] = np.inf
        return distances.min(axis=1)

    nearest = pairwise_distances_chunked(
        synthetic.astype(np.float64), metric="cosine", reduce_func=to_nearest_other
    )
    return float(min(chunk.min() for chunk in nearest))
